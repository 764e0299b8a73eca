"""The commands of `hpa`, walked through changes of the files that they are given.

An entry is a command line with a folder of files it starts from; each file is changed in turn, and the answer stays or is refused by a message that
names the file or what is wrong in it. Every parameter that takes files, of every command, has its changes here or a reason in `EXEMPT`.
"""
import inspect
import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
from commands import hpa
from PIL import Image

from hpa_lib.cli import commands

# Parameters that take a file or a folder
FILES = {
    'pictures', 'table', 'groups', 'folds', 'duplicates', 'sample', 'ids', 'labels', 'known', 'twins', 'compare', 'decision', 'probs',
    'store', 'samples', 'run', 'bundle', 'recipe',
}
IDS = [f'{90 + i:03}' for i in range(24)]                     # some begin with a zero, all are numbers to a spreadsheet
CLASSES = ['Nucleoplasm', 'Golgi apparatus', 'Cytosol']
CODES = ['0', '7', '25']
rng = np.random.default_rng(0)
HOT = rng.random((24, 3)) < [.6, .5, .4]
HOT[~HOT.any(1), 0] = True
PROBS = np.clip(.25 + .5*HOT + rng.normal(0, .15, HOT.shape), .01, .99)
OTHER = np.clip(.3 + .4*HOT + rng.normal(0, .2, HOT.shape), .01, .99)


# --- changes of a file; a change gives the words of which a refusal says one ---

def text(path): return path.read_text(encoding='utf-8')


def of_table(change):
    "A change of a table, in a CSV as text and in Parquet as it is"
    def changed(path):
        if path.suffix == '.parquet':
            table = change(pd.read_parquet(path))
            table.to_parquet(path, index=table.index.name is not None)
        else: change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    changed.__name__ = change.__name__
    return changed


def key(t): return next(o for o in t if str(o).lower() in ('id', 'id_a'))
def lists(t): return [o for o in t if t[o].map(lambda v: isinstance(v, np.ndarray)).any()]


@of_table
def rows_permuted(t): return t.sample(frac=1, random_state=1)
@of_table
def columns_permuted(t): return t[t.columns[::-1]]
@of_table
def classes_permuted(t): return t[[o for o in t if o not in CLASSES] + [o for o in t if o in CLASSES][::-1]]
@of_table
def id_twice(t): return pd.concat([t, t.iloc[-1:]])
@of_table
def row_dropped(t): return t.drop(index=t.index[3])
@of_table
def zeros_lost(t): return t.assign(**{key(t): t[key(t)].str.lstrip('0')})
@of_table
def id_as_number(t): return t.assign(**{key(t): t[key(t)].astype(int)})
@of_table
def id_as_float(t): return t.assign(**{key(t): t[key(t)].astype(float)})
@of_table
def id_missing(t): return t.assign(**{key(t): [*t[key(t)][:-1], '' if isinstance(t[key(t)].iloc[0], str) else None]})
@of_table
def value_missing(t):
    last = [o for o in t if o != key(t) and not lists(t[[o]])][-1]
    return t.assign(**{last: [*t[last][:-1], None]})
@of_table
def index_named(t): return t.set_axis(pd.RangeIndex(5, 5 + len(t), name='index'))
@of_table
def id_unknown(t): return t.assign(**{key(t): ['somebody', *t[key(t)][1:]]})


def index_column(path):
    pd.read_csv(path, dtype=str, keep_default_na=False).to_csv(path)


def bom(path): path.write_text(text(path), encoding='utf-8-sig')
def semicolons(path): path.write_text(text(path).replace(',', ';'), encoding='utf-8')


def numbers_twice(path): np.save(path, np.concatenate([np.load(path), np.load(path)[:1]]))
def number_missing(path):
    x = np.load(path)
    x[3, 1] = np.nan
    np.save(path, x)


def keys_permuted(path):
    "Whatever is by name in a JSON, in another order"
    def turned(o): return {k: turned(o[k]) for k in reversed(o)} if isinstance(o, dict) else o
    path.write_text(json.dumps(turned(json.loads(text(path)))), encoding='utf-8')


def class_lost(path):
    facts = json.loads(text(path))
    facts['thresholds'].popitem()
    path.write_text(json.dumps(facts), encoding='utf-8')


def threshold_missing(path): path.write_text(re.sub(r'0\.\d+', 'NaN', text(path), count=1), encoding='utf-8')


CSV = [rows_permuted, id_twice, zeros_lost, id_as_float, id_missing, index_column, bom, semicolons]
PARQUET = [rows_permuted, id_twice, id_as_number, id_as_float, id_missing, index_named]


# --- files to start from ---

@cache
def base():
    "A folder with all that the commands are given"
    d = Path(mkdtemp(prefix='walk'))
    (d/'pics').mkdir()
    for i, o in enumerate(IDS):
        for c in ('red', 'green', 'blue', 'yellow'):
            Image.fromarray(rng.integers(0, 40 + 8*i, (32, 32)).astype(np.uint8)).save(d/'pics'/f'{o}_{c}.png')
    codes = [' '.join(c for c, v in zip(CODES, r) if v) for r in HOT]
    pd.DataFrame(dict(Id=IDS, Target=codes)).to_csv(d/'labels.csv', index=False)
    names = ['|'.join(c for c, v in zip(CLASSES, r) if v) for r in HOT]
    pd.DataFrame(dict(Id=IDS, Target=names)).to_csv(d/'named.csv', index=False)
    pd.DataFrame(dict(Id=IDS, group=[f'g{i//2}' for i in range(24)])).to_csv(d/'groups.csv', index=False)
    pd.DataFrame(dict(id=IDS, fold=np.arange(24)//2 % 3)).to_csv(d/'folds.csv', index=False)
    pd.DataFrame(dict(id=IDS, fold=np.arange(24)//2 % 3)).to_parquet(d/'folds.parquet', index=False)
    pd.DataFrame(dict(id_a=['090', '100'], id_b=['091', '101'])).to_csv(d/'twins.csv', index=False)
    # References to the pictures, and a table of samples
    refs = {c: [f'pics/{o}_{c}.png' for o in IDS] for c in ('red', 'green', 'blue', 'yellow')}
    table = pd.DataFrame(dict(id=IDS, labels=codes, group=[f'g{i//2}' for i in range(24)]) | refs)
    table.to_csv(d/'refs.csv', index=False)
    table.assign(is_test=[i > 19 for i in range(24)]).assign(labels=[*codes[:20], *['unknown']*4]).to_csv(d/'all.csv', index=False)
    # Probabilities
    table = pd.DataFrame(PROBS, columns=CLASSES)
    table.insert(0, 'id', IDS)
    table.to_csv(d/'p.csv', index=False)
    table.assign(fold=np.arange(24)//2 % 3).to_parquet(d/'p.parquet', index=False)
    table.assign(**dict(zip(CLASSES, OTHER.T))).to_csv(d/'q.csv', index=False)
    for name, x in dict(r=PROBS, q=OTHER).items(): np.save(d/f'{name}.npy', x)
    pd.DataFrame(dict(Id=IDS)).to_csv(d/'ids.csv', index=False)
    # Submissions
    pd.DataFrame(dict(Id=IDS[::-1], Predicted='0')).to_csv(d/'sample.csv', index=False)
    pd.DataFrame(dict(Id=IDS, Predicted='7')).to_csv(d/'old.csv', index=False)
    pd.DataFrame(dict(Id=['095', '105'], Target=['25', '0 7'])).to_csv(d/'known.csv', index=False)
    thresholds = dict(zip(CLASSES, [.45, .5, .55]))
    (d/'d.json').write_text(json.dumps(dict(thresholds=thresholds)))
    (d/'t.json').write_text(json.dumps(dict(thresholds=thresholds, average_twins=True)))
    blend = dict(how='mean', weights=dict(p=1., q=2.), classes=CLASSES)
    (d/'b.json').write_text(json.dumps(dict(thresholds=thresholds, blend=blend)))
    (d/'atlas.csv').write_text('\n'.join(['Id', *(f'{10580 + i}_1610_C1_{i + 1}' for i in range(4))]))
    return d


def made(*names):
    "Files of `base` by name, and what is made of them once by a command"
    makers = dict(store=_store, tied=_tied, bundle=_bundle, run=_run, begun=_begun)
    for o in names:
        if o in makers: makers[o]()


def inside(d, call):
    old = os.getcwd()
    os.chdir(d)
    try: return call()
    finally: os.chdir(old)


@cache
def _store(): inside(base(), lambda: hpa('pack', 'refs.csv', '--out', 's.zarr', '--size', 32, '--quiet'))


@cache
def _tied():
    from hpa_lib.data.samples import load_samples, save_samples
    _store()
    samples = load_samples(base()/'s.zarr/samples.parquet')
    save_samples(samples.assign(twin=[f't{i//2}' for i in range(24)]), base()/'tied.parquet')


@cache
def _bundle():
    import torch
    from hpa_lib.data.labels import HPA28
    from hpa_lib.data.store import Store
    from hpa_lib.decide.decision import Decision
    from hpa_lib.nets.models import rgby_model, save_model
    from hpa_lib.run.bundle import save_bundle
    _store()
    three = HPA28.subset(' '.join(CODES))
    torch.manual_seed(0)
    file = save_model(rgby_model('test_resnet', 3, weights=None, hidden=8), base()/'net.safetensors')
    decision = Decision(thresholds=dict.fromkeys(three.names, .5))
    save_bundle(base()/'bundle', [file], Store(base()/'s.zarr'), three, decision, views='none')


TINY = [
    'data.size=32', 'split.folds=2', 'model.arch=test_resnet', 'model.weights=none', 'model.hidden=8', 'train.epochs=1', 'train.bs=8',
    'train.log=false', 'views.names=none', 'split.twins=none', 'data.classes="0 7 25"',
]


@cache
def _run():
    inside(base(), lambda: hpa('pack', 'all.csv', '--out', 'all.zarr', '--size', 32, '--quiet'))
    hpa('train', base()/'all.zarr', '--run', base()/'run', '--quiet', '--set', *TINY[1:])


@cache
def _begun():
    _store()
    inside(base(), lambda: hpa('train', base()/'s.zarr', '--run', 'begun', '--quiet', '--only', 'duplicates', '--set', *TINY[2:]))


# --- what came out, by name ---

def table_of(path):
    table = pd.read_parquet(path) if path.suffix == '.parquet' else pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table.set_index(table[key(table)].astype(str)).drop(columns=[key(table)]).sort_index().sort_index(axis=1)
    return {i: {c: as_number(v) for c, v in row.items()} for i, row in table.iterrows()}


def as_number(v):
    if isinstance(v, list | np.ndarray): return list(v)
    try: return round(float(v), 9)
    except (TypeError, ValueError): return str(v)


def written(name, *columns):
    def answer(d, said):
        table = table_of(d/name)
        return {i: {c: v for c, v in row.items() if not columns or c in columns} for i, row in table.items()}
    return answer


def decided(name):
    def answer(d, said):
        facts = json.loads(text(d/name))
        return {k: {o: round(v, 9) if isinstance(v, float) else v for o, v in facts[k].items()} for k in ('thresholds', 'known', 'fitted_on')} | {
            'scores': {o: round(facts['scores'][o], 9) for o in ('nested', 'in_sample', 'at_half')},
        }
    return answer


def labelled(*path):
    def answer(d, said):
        from hpa_lib.data.samples import load_samples
        table = load_samples(d.joinpath(*path))
        return {r.id: (None if r.labels is None else sorted(r.labels), str(r.group)) for r in table.itertuples()}
    return answer


def grouped(*path):
    "Which samples share a fold"
    def answer(d, said):
        table = pd.DataFrame.from_dict(table_of(d.joinpath(*path)), orient='index')
        return {i: row.fold for i, row in table.iterrows()}
    return answer


def pairs(name):
    def answer(d, said):
        table = pd.read_csv(d/name, dtype=str)
        return sorted(tuple(sorted(o)) for o in table[['id_a', 'id_b']].to_numpy())
    return answer


def printed(d, said): return sorted(said.splitlines())


# --- entries ---

@dataclass
class Line:
    "A command line; `files`: parameter -> (file, its changes)"
    words: list
    answer: object
    files: dict
    needs: tuple = () # what is made once by other commands
    status: int = 0 # of the line as it is


PROB_CSV = [*CSV, classes_permuted, value_missing]
PROB_PARQUET = [*PARQUET, classes_permuted, value_missing]
PAIRED = [row_dropped, id_unknown] # where another table holds the same samples
# Ids of a table that stands alone are what it says they are
REFS = [rows_permuted, id_twice, id_missing, index_column, bom, semicolons, columns_permuted]
THREE = ','.join(CLASSES)
OF_ARRAY = [*[o for o in CSV if o is not rows_permuted], row_dropped, id_unknown] # the ids of an array are those of its rows, in their order
# What `pack` reads with all changes, other commands read by the same functions
SIDE = [rows_permuted, zeros_lost, row_dropped]
SAME_REFS = [rows_permuted, id_twice, bom]

ENTRIES = {
    'pack': [
        Line(['pack', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--out', 'x.zarr', '--size', 32, '--quiet'],
             labelled('x.zarr', 'samples.parquet'),
             dict(table=('labels.csv', [*CSV, columns_permuted, *PAIRED]), groups=('groups.csv', [*CSV, columns_permuted, *PAIRED]))),
        Line(['pack', 'refs.csv', '--out', 'x.zarr', '--size', 32, '--quiet'], labelled('x.zarr', 'samples.parquet'), dict(pictures=('refs.csv', REFS))),
    ],
    'duplicates': [
        Line(['duplicates', 'refs.csv', '--out', 'x.csv', '--tied', 'x.parquet', '--quiet'], pairs('x.csv'), dict(pictures=('refs.csv', SAME_REFS))),
        Line(['duplicates', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--tied', 'x.parquet', '--quiet'], labelled('x.parquet'),
             dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE))),
    ],
    'folds': [
        Line(['folds', 'refs.csv', '--n', 3, '--out', 'x.csv'], grouped('x.csv'), dict(samples=('refs.csv', SAME_REFS))),
        Line(['folds', 'tied.parquet', '--n', 3, '--out', 'x.csv'], grouped('x.csv'), dict(samples=('tied.parquet', [rows_permuted, id_twice, id_missing, index_named])), ('tied',)),
        Line(['folds', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--n', 3, '--out', 'x.csv'], grouped('x.csv'),
             dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE))),
    ],
    'leaks': [
        Line(['leaks', 'refs.csv', 'folds.csv'], printed, dict(samples=('refs.csv', [*REFS, zeros_lost, id_as_float, *PAIRED]), folds=('folds.csv', [*CSV, *PAIRED, value_missing]))),
        Line(['leaks', 'refs.csv', 'folds.parquet'], printed, dict(folds=('folds.parquet', [*PARQUET, *PAIRED, value_missing]))),
        Line(['leaks', 'pics', 'folds.csv', '--table', 'labels.csv', '--groups', 'groups.csv'], printed,
             dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE))),
    ],
    'run': [
        Line(['run', 'default', '--pictures', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--run', 'x', '--only', 'samples', '--quiet', '--set', *TINY],
             labelled('x', 'samples.parquet'), dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE))),
        Line(['run', 'default', '--pictures', 'refs.csv', '--run', 'x', '--only', 'samples', '--quiet', '--set', *TINY],
             labelled('x', 'samples.parquet'), dict(pictures=('refs.csv', SAME_REFS))),
    ],
    'train': [
        Line(['train', 's.zarr', '--run', 'x', '--folds', 'folds.csv', '--duplicates', 'twins.csv', '--quiet', '--only', 'duplicates', '--set', *TINY[2:]],
             written('x/tied.parquet', 'group'), dict(duplicates=('twins.csv', [*CSV, id_unknown])), ('store',)),
        Line(['train', '@s.zarr', '--run', 'begun', '--folds', 'folds.csv', '--quiet', '--only', 'folds', '--set', *TINY[2:]],
             written('begun/folds.parquet', 'fold'), dict(folds=('folds.csv', [*CSV, *PAIRED, value_missing])), ('begun',)),
    ],
    'predict': [
        Line(['predict', 'bundle', 'refs.csv', '--out', 'x.csv', '--quiet'], written('x.csv', 'Predicted', *CLASSES),
             dict(pictures=('refs.csv', SAME_REFS)), ('bundle',)),
        Line(['predict', 'bundle', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--out', 'x.csv', '--quiet'], written('x.csv', 'Predicted', *CLASSES),
             dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE)), ('bundle',)),
    ],
    'decide': [
        Line(['decide', 'p.csv', '--labels', 'labels.csv', '--folds', 'folds.csv', '--known', 'known.csv', '--out', 'x.json'], decided('x.json'),
             dict(probs=('p.csv', PROB_CSV), labels=('labels.csv', [*CSV, columns_permuted]), folds=('folds.csv', [*CSV, *PAIRED, value_missing]),
                  known=('known.csv', [o for o in CSV if o is not id_as_float]))), # whose samples need not be among these
        Line(['decide', 'p.parquet', '--labels', 'labels.csv', '--out', 'x.json'], decided('x.json'), dict(probs=('p.parquet', PROB_PARQUET))),
        Line(['decide', 'p.csv', 'q.csv', '--labels', 'labels.csv', '--folds', 'folds.parquet', '--blend', 'mean', '--out', 'x.json'], decided('x.json'),
             dict(probs=('q.csv', [*PROB_CSV, *PAIRED]), folds=('folds.parquet', [*PARQUET, *PAIRED, value_missing]))),
        Line(['decide', 'q.npy', '--ids', 'ids.csv', '--vocab', THREE, '--labels', 'named.csv', '--folds', 'folds.csv', '--out', 'x.json'], decided('x.json'),
             dict(probs=('q.npy', [numbers_twice, number_missing]), ids=('ids.csv', OF_ARRAY))),
        Line(['decide', 'p.csv', '--labels', 'pics', '--table', 'labels.csv', '--groups', 'groups.csv', '--folds', 'folds.csv', '--out', 'x.json'], decided('x.json'),
             dict(table=('labels.csv', SIDE), groups=('groups.csv', SIDE))),
    ],
    'blend': [
        Line(['blend', 'p.csv', 'q.csv', '--weights', 'p=1,q=2', '--out', 'x.csv'], written('x.csv'), dict(probs=('q.csv', [*PROB_CSV, *PAIRED]))),
        Line(['blend', 'p.parquet', 'q.csv', '--out', 'x.csv'], written('x.csv'), dict(probs=('p.parquet', [*PROB_PARQUET, *PAIRED]))),
        Line(['blend', 'q.npy', 'r.npy', '--ids', 'ids.csv', '--vocab', THREE, '--out', 'x.csv'], written('x.csv'),
             dict(probs=('q.npy', [numbers_twice, number_missing]), ids=('ids.csv', [id_twice, id_missing, index_column, bom, semicolons, row_dropped]))),
    ],
    'submit': [
        Line(['submit', 'p.csv', '--decision', 'd.json', '--sample', 'sample.csv', '--known', 'known.csv', '--compare', 'old.csv', '--out', 'x.csv'], written('x.csv'),
             dict(probs=('p.csv', [*PROB_CSV, *PAIRED]), sample=('sample.csv', [*CSV, *PAIRED]), known=('known.csv', CSV), compare=('old.csv', [*CSV, *PAIRED]),
                  decision=('d.json', [keys_permuted, class_lost, threshold_missing]))),
        Line(['submit', 'p.parquet', '--decision', 't.json', '--twins', 'tied.parquet', '--out', 'x.csv'], written('x.csv'),
             dict(probs=('p.parquet', PROB_PARQUET), twins=('tied.parquet', [*PARQUET, row_dropped])), ('tied',)),
        Line(['submit', 'p.csv', 'q.csv', '--decision', 'b.json', '--out', 'x.csv'], written('x.csv'),
             dict(probs=('q.csv', [*PROB_CSV, *PAIRED]), decision=('b.json', [keys_permuted, class_lost]))),
        Line(['submit', 'q.npy', '--ids', 'ids.csv', '--vocab', THREE, '--decision', 'd.json', '--sample', 'sample.csv', '--out', 'x.csv'], written('x.csv'),
             dict(probs=('q.npy', [numbers_twice, number_missing]), ids=('ids.csv', OF_ARRAY))),
    ],
    'download': [
        Line(['download', 'hpa', 'atlas.csv', '--dry-run', '--out', 'x'], printed, dict(ids=('atlas.csv', [rows_permuted, id_twice, id_missing, index_column, bom]))),
    ],
}

# Files of a run are its own: one that somebody changed is refused until it is accepted
def of_run(*names): return {o: (f'run/{o}', [rows_permuted]) for o in names}


ENTRIES['decide'].append(Line(
    ['decide', 'run', '--rule', 'exact'], decided('run/decision.json'), of_run('fold0/oof.parquet', 'tied.parquet', 'folds.parquet'), ('run',),
))
ENTRIES['submit'].append(Line(['submit', 'run'], written('run/submission.csv'), of_run('fold1/test.parquet', 'tied.parquet'), ('run',)))
ENTRIES['bundle'] = [Line(['bundle', 'run'], printed, of_run('tied.parquet', 'nested.parquet'), ('run',))]
ENTRIES['run'].append(Line(['run', 'run', '--quiet'], written('run/submission.csv'), of_run('tied.parquet', 'fold0/oof.parquet', 'nested.parquet'), ('run',)))

# Why a parameter that takes a file has no changes here
EXEMPT = {
    'demo': dict(recipe='a recipe, which is no table'),
    'steer': dict(run='a word to a training that is running; no table is read'),
    'bundle': dict(run='its files, by name'),
    'run': dict(recipe='a recipe, which is no table', run='its files, by name', folds='asked by train', duplicates='asked by train', sample='asked by submit, by the same function'),
    'train': dict(store='a store, which has its own walk', recipe='a recipe, which is no table', run='its files, by name', sample='asked by submit'),
    'duplicates': dict(run='the folder to write to'),
    'folds': dict(run='the folder to write to'),
    'leaks': dict(run='the folder to write to'),
    'predict': dict(bundle='a bundle, which has its own walk'),
}


# --- the walk ---

def copied(line):
    "A folder of its own for one call"
    made(*line.needs)
    d = Path(mkdtemp(prefix='walk'))/'d'
    shutil.copytree(base(), d)
    return d


def called(line, d):
    "Status, what was said, and the answer where there is one"
    try: said, status = inside(d, lambda: spoken(line.words))
    except Exception as e: return None, f'{type(e).__name__}: {e}', None
    return status, said, line.answer(d, said) if status == line.status else None


def spoken(words):
    "What a command says, and its status; @NAME is the one of `base`, which a run knows by its place"
    found = []
    class Told(int):
        def __eq__(self, other):
            found.append(other)
            return True
        __hash__ = int.__hash__
    said = hpa(*[base()/o[1:] if str(o).startswith('@') else o for o in words], status=Told())
    return said, found[0]


def names_it(said, line, file):
    "Does a refusal name the file, the one beside it, or what is wrong in it?"
    return any(o in said for o in [Path(file).name, *[f for f, _ in line.files.values()], *IDS, *[o.lstrip('0') for o in IDS], *CLASSES, 'somebody', 'no id'])


def walk_line(line):
    "(parameter, change, what came of it)"
    d = copied(line)
    status, said, right = called(line, d)
    assert status == line.status, f'{line.words}: {said}'
    shutil.rmtree(d.parent)
    for name, (file, changes) in line.files.items():
        for change in changes:
            d = copied(line)
            change(d/file)
            yield name, change.__name__, outcome(line, d, file, right)
            shutil.rmtree(d.parent)


def outcome(line, d, file, right):
    status, said, answer = called(line, d)
    if status is None: return f'WRONG: {said[:200]}'
    if status != line.status: return f'refused: {said.strip()[:300]}' if names_it(said, line, file) else f'WRONG: refused without naming it: {said.strip()[:200]}'
    return 'same' if answer == right else f'WRONG: another answer {differing(right, answer)}'


def differing(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        odd = [k for k in {**a, **b} if a.get(k) != b.get(k)]
        return f'{len(odd)} differ: {odd[0]}: {str(a.get(odd[0]))[:60]} -> {str(b.get(odd[0]))[:60]}'
    return f'{str(a)[:80]} -> {str(b)[:80]}'


def file_parameters(name):
    "Parameters of a command that take files"
    return set(inspect.signature(commands[name]).parameters) & FILES


if __name__ == '__main__':
    import sys
    import time
    import warnings
    warnings.simplefilter('ignore')
    for name, lines in ENTRIES.items():
        if sys.argv[1:] and name not in sys.argv[1:]: continue
        for line in lines:
            begun = time.time()
            print(f"\n{' '.join(map(str, line.words))[:120]}")
            for o in walk_line(line): print(f'  {o[0]:10} {o[1]:18} {o[2]}')
            print(f'  ({time.time() - begun:.1f} s)', flush=True)
