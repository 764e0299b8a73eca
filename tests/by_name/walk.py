"""The walk: changes of what a function is given, and whether its answer stays, is refused by name, or becomes another one.

A registry is a module beside this one with `ROOMS`, `TAKES` (a function with a parameter of one of these names needs an entry), `ENTRIES` (room -> name of a function -> `Entry`) and `EXEMPT` (room -> name -> why not).
"""
import importlib
import inspect
from dataclasses import dataclass

import matplotlib.pyplot
import numpy as np
import pandas as pd

matplotlib.use('agg')


def load(room): return importlib.import_module(f'hpa_lib.{room}')


# --- changes ---

def permuted_rows(x): return x.sample(frac=1, random_state=1)
def counted(x): return x.reset_index(drop=True)
def counted_and_permuted(x): return counted(permuted_rows(x))
def shorter(x): return x.iloc[1:]
def doubled(x): return pd.concat([x, x.iloc[:1]])
def replaced_id(x): return x.rename(index={x.index[3]: 'somebody else'})
def categorical_ids(x): return x.set_axis(pd.CategoricalIndex(x.index, name='id'))
def permuted_classes(x): return x[x.columns[::-1]]
def unnamed_permuted_classes(x): return permuted_classes(x).set_axis(range(x.shape[1]), axis=1)
def class_less(x): return x.iloc[:, 1:]
def class_more(x): return x.assign(Actin=x.iloc[:, 0])
def nan_in(x): return x.astype(float).where(np.arange(x.size).reshape(x.shape) != 4)
def as_float(x): return x.astype(float)
def as_text(x): return x.astype(str)


ROWS = [permuted_rows, counted, counted_and_permuted, shorter, doubled, replaced_id, categorical_ids]
CLASSES = [permuted_classes, unnamed_permuted_classes, class_less, class_more]
TABLE = [*ROWS, *CLASSES, nan_in, as_float, as_text]
# A table that comes alone may hold any rows and any classes; it is still not to hold a NaN or text
ALONE = [permuted_rows, categorical_ids, permuted_classes, nan_in, as_text]
# Tables of samples, folds and pairs carry their ids in columns; their index never means anything
def other_index(x): return x.set_axis(range(500, 500 + len(x)))
def same_index(x): return x.set_axis([7]*len(x))
def doubled_row(x): return pd.concat([x, x.iloc[:1]], ignore_index=True)
def renamed_id(x): return x.assign(id=['somebody else', *x.id[1:]])
def without_id(x): return x.assign(id=[None, *x.id[1:]])
def objects(x): return x.astype({o: object for o in ('id', 'fold', 'group', 'antibody') if o in x})
def categories(x): return x.astype({o: 'category' for o in ('id', 'group', 'antibody') if o in x})
def numbers_as_text(x): return x.assign(fold=x.fold.astype(str))


IN_COLUMNS = [permuted_rows, counted_and_permuted, other_index, same_index, doubled_row, without_id, objects, categories]
OF_FOLDS = [*IN_COLUMNS, shorter, renamed_id, numbers_as_text]
BY_CLASS = [lambda x: x[::-1], lambda x: x.iloc[1:], nan_in]


# --- entries ---

@dataclass
class Entry:
    "A call of named parts; `parts`: name -> the part and its changes"
    call: object
    parts: dict
    exact: bool = True # False: draws or an optimiser see the rows in another order, so the answer is equal to two digits


def public(room):
    "Name -> function or method of a room"
    module = load(room)
    for name in module.__all__:
        o = getattr(module, name)
        if inspect.isfunction(o): yield name, o
        elif inspect.isclass(o):
            yield name, o.__init__
            own = {k: v for k, v in vars(o).items() if inspect.isfunction(v) and not k.startswith('_')}
            yield from ((f'{name}.{k}', v) for k, v in own.items())


def comparable(answer, lead):
    "An answer with the names of its first part, in one order"
    if isinstance(answer, np.ndarray) and answer.ndim == 2 and answer.shape == lead.shape: answer = pd.DataFrame(answer, lead.index, lead.columns)
    if isinstance(answer, np.ndarray) and answer.ndim == 2 and lead.ndim == 2 and answer.shape[1] == lead.shape[1]:
        answer = pd.DataFrame(answer, columns=lead.columns)
    if isinstance(answer, np.ndarray) and answer.ndim == 1 and lead.ndim == 2 and len(answer) == lead.shape[1]: answer = pd.Series(answer, lead.columns)
    if isinstance(answer, np.ndarray) and answer.ndim == 1 and len(answer) == len(lead): answer = pd.Series(answer, lead.index)
    if isinstance(answer, pd.DataFrame): answer = answer.set_axis(answer.index.astype(str)).sort_index().sort_index(axis=1)
    if isinstance(answer, pd.Series): answer = answer.set_axis(answer.index.astype(str)).sort_index()
    return answer


def same(a, b, exact):
    "Whether two answers are one"
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k], exact) for k in a)
    if isinstance(a, pd.DataFrame | pd.Series):
        if a.shape != b.shape or not a.index.equals(b.index): return False
        if a.ndim == 2 and not a.columns.equals(b.columns): return False
        if a.ndim == 1 and a.dtype == object: return a.tolist() == b.tolist()
    if isinstance(a, list | str | tuple): return a == b
    a, b = (np.asarray(o, dtype=float) for o in (a, b))
    return a.shape == b.shape and np.allclose(a, b, atol=1e-9 if exact else .02, rtol=0, equal_nan=True)


def walk(entry):
    "(part, change, what came of it): `same`, `refused: why`, or what is wrong"
    base = {k: x for k, (x, _) in entry.parts.items()}
    first = next(iter(base))
    right, found = comparable(entry.call(**base), base[first]), []
    for part, (x, changes) in entry.parts.items():
        for change in changes:
            told = base | {part: change(x)}
            found.append((part, getattr(change, '__name__', 'change'), outcome(entry, told, right, first)))
    matplotlib.pyplot.close('all')
    return found


def outcome(entry, told, right, first):
    "What `entry` does when it is told something else"
    try: answer = entry.call(**told)
    except ValueError as e: return f'refused: {e}' if str(e).strip() else 'WRONG: refused without a word'
    except Exception as e: return f'WRONG: {type(e).__name__}: {str(e)[:80]}'
    return 'same' if same(right, comparable(answer, told[first]), entry.exact) else 'WRONG: another answer'
