"Rooms of pictures: labels, samples, files, stores, the synthetic atlas."
import atexit
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from walk import *

ROOMS = [
    'data.labels', 'data.samples', 'data.download', 'data.reading', 'data.images', 'data.store', 'data.sources',
    'synth.label_sets', 'synth.cells', 'synth.patterns', 'synth.atlas',
]

TAKES = {
    'names', 'codes', 'label', 'labels', 'x', 'hot', 'items', 'vocab', 'samples', 'df', 'tables', 'table', 'ids', 'files', 'row', 'channels',
    'planes', 'groups', 'idxs', 'readings', 'reading', 'other', 'text', 'sources', 'sets', 'antibodies', 'cell_lines', 'values', 'image', 'rgb',
    'ref', 'path', 'folder',
}

L, S, D, G = load('data.labels'), load('data.samples'), load('data.download'), load('data.reading')
I, T, O = load('data.images'), load('data.store'), load('data.sources')
A, C, P, Q = load('synth.atlas'), load('synth.cells'), load('synth.patterns'), load('synth.label_sets')

# What the functions are asked about: twelve pictures of six antibodies, three classes
IDS = [f'{10580 + k//2}_1610_C{1 + k//2}_{1 + k%2}' for k in range(12)]
NAMES = ['Cytosol', 'Golgi apparatus', 'Nucleoli']
SETS = [[NAMES[k//2 % 3]] + ([NAMES[(k//2 + 1) % 3]] if k//2 % 2 else []) for k in range(12)]
LABELS = pd.Series([sorted(o) for o in SETS], pd.Index(IDS, name='id'), dtype=object)
V = L.Vocab(NAMES, codes=[2, 5, 25]) # a code is neither a place nor a digit
HOT = pd.DataFrame(V.multi_hot(LABELS), LABELS.index, NAMES)
TRAIN = pd.DataFrame(dict(Id=IDS, Target=['|'.join(o) for o in LABELS]))
GROUPS = pd.DataFrame(dict(Id=IDS, group=[f'g{k//4}' for k in range(12)]))
ATLAS = pd.DataFrame(dict(Id=IDS, cell_line=['HeLa', 'U-2 OS']*6, twin=[None]*10 + ['t', 't']))
RGBY = list(S.RGBY)
PLANES = dict(red='R', green='G', blue='B')


@cache
def place():
    "A folder for this walk, gone at its end"
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def plane(k, c): return np.full((16, 16), 10*k + 3*c + 1, np.uint8)


@cache
def pictures():
    "`<Id>_<channel>.png`, each of one grey that tells sample and channel"
    folder = place()/'pictures'
    folder.mkdir()
    for k, id in enumerate(IDS):
        for c, name in enumerate(RGBY): Image.fromarray(plane(k, c)).save(folder/f'{id}_{name}.png')
    return folder


@cache
def rgb_pictures():
    "`<Id>.png` in colour"
    folder = place()/'rgb'
    folder.mkdir()
    for k, id in enumerate(IDS): Image.fromarray(np.stack([plane(k, c) for c in range(3)], -1)).save(folder/f'{id}.png')
    return folder


@cache
def jpegs():
    "`<Id>_<channel>.jpg`, as the atlas gives them"
    folder = place()/'jpegs'
    folder.mkdir()
    for k, id in enumerate(IDS):
        for c, name in enumerate(RGBY): Image.fromarray(plane(k, c)).save(folder/f'{id}_{name}.jpg')
    return folder


@cache
def samples():
    "Their table; antibodies are numbers, written as text"
    table = S.folder_samples(pictures())
    return S.tidy_samples(table.assign(labels=list(LABELS.loc[table.id]), pixel_size=np.arange(1, 13)/10, is_test=[False]*11 + [True]))


@cache
def packed(): return T.pack(samples(), place()/'packed.zarr', 16, vocab=NAMES, progress=False)


def csv(table, name):
    "A table as a file in the folder of the walk's step"
    table.to_csv(name, index=False)
    return name


def linked(folder, at):
    "A folder under another name"
    if not Path(at).exists(): Path(at).symlink_to(folder, target_is_directory=True)
    return at


# --- answers by name ---

def told(table, channels=()):
    "Who the samples of a table are, what they show and where it is: by id"
    found = {}
    for row in table.to_dict('records'):
        labels = None if row['labels'] is None else sorted(row['labels'])
        who = [str(row[o]) for o in ('antibody', 'plate', 'well', 'cell_line', 'twin', 'is_test')]
        found[str(row['id'])] = [labels, who, {c: Path(str(row[c])).name for c in sorted(channels)}]
    return found | dict(groups=parts(table.id, table.group), n=len(table))


def texts(table, by):
    "A table of words as it stands, by a column"
    return table.astype(str).set_index(by).T.to_dict()


def parts(ids, groups):
    "Who is in one group with whom, whatever it is called"
    ids, groups = pd.Series(list(ids)).astype(str), pd.Series(list(groups)).astype(str)
    return sorted(sorted(set(o)) for o in ids.groupby(groups).agg(list))


def seen(store):
    "What a store holds: by id, by channel"
    x = store.batch(np.arange(len(store))).mean((2, 3)).round().astype(int).tolist()
    labels = store.samples.labels.map(lambda o: None if o is None else sorted(o))
    return {i: [sorted(zip(store.channels, o)), y] for i, o, y in zip(store.samples.id, x, labels)}


def of_vocab(vocab):
    "What classes a vocabulary has, whatever their order"
    return L.get_vocab(vocab).counts(LABELS)


# --- changes of lists, labels and files ---

def turned(x): return x[::-1]
def turned_dict(x): return dict(reversed(x.items()))
def as_tuple(x): return tuple(x)
def as_array(x): return np.array(x)
def as_series(x): return pd.Series(x, index=range(50, 50 + len(x)))
def as_set(x): return set(x)
def as_dict(x): return {o: k for k, o in enumerate(x)}
def as_line(x): return ' '.join(x)
def with_bars(x): return '|'.join(x)
def as_vocab(x): return L.Vocab(x)
def twice(x): return [*x, x[0]]
def codes(x): return [V.codes[V.index(o)] for o in x]
def text_codes(x): return ' '.join(map(str, codes(x)))
def array_of_codes(x): return np.array(codes(x))
def yes_and_no(x): return V.multi_hot([x])[0]
def named_yes_and_no(x): return dict(zip(NAMES, yes_and_no(x).tolist()))
def one_code(x): return codes([x])[0]
def one_code_as_text(x): return str(one_code(x))
def one_code_of_numpy(x): return np.int64(one_code(x))
def one_code_with_a_point(x): return float(one_code(x))
def truth(x): return True
def mistyped(x): return x.lower()
def codes_each(x): return x.map(codes)
def text_codes_each(x): return x.map(text_codes)
def text_each(x): return x.map(with_bars)
def unlabelled(x): return x.where(x.index != x.index[2], None)
def keyed(x): return {k: o for k, o in enumerate(x)}
def matrix(x): return V.multi_hot(x)


SET = [turned, as_tuple, as_array, codes, text_codes, with_bars, array_of_codes, yes_and_no, named_yes_and_no, twice]
LISTS = [permuted_rows, codes_each, text_codes_each, text_each, unlabelled, keyed, matrix]
CLASSES = [turned, as_tuple, as_array, as_series, as_vocab, as_set, as_dict, as_line, twice, codes]


# Tables that are files
def columns_turned(x): return x[x.columns[::-1]]
def row_twice(x): return pd.concat([x, x.iloc[:1]], ignore_index=True)
def no_id(x): return x.assign(Id=[None, *x.Id[1:]])
def other_name(x): return x.assign(Id=['somebody else', *x.Id[1:]])
def with_codes(x): return x.assign(Target=[' '.join(str(NAMES.index(n)) for n in o.split('|')) for o in x.Target])
def identity_said(x): return x.assign(**dict(zip(('antibody', 'plate', 'well', 'field'), zip(*(o.split('_') for o in x.iloc[:, 0])))))
def with_a_stranger(x): return x.assign(Target=['Actin', *x.Target[1:]])
def id_and_labels(x): return x.rename(columns=dict(Id='id', Target='labels'))
def categorical(x): return x.astype('category')


FILE = [permuted_rows, columns_turned, row_twice, no_id, other_name, shorter, categorical]
LABELLED = [*FILE, with_codes, with_a_stranger, identity_said]
ANY_ROWS = [o for o in LABELLED if o not in (other_name, shorter)]


# Tables of samples
def antibodies_as_numbers(x): return x.assign(antibody=x.antibody.astype(float), group=None)
def channels_turned(x): return x[[*x.columns[:list(x).index('red')], *RGBY[::-1], *x.columns[list(x).index('yellow') + 1:]]]
def longer(x): return pd.concat([x, x.iloc[:1].assign(id='somebody else')], ignore_index=True)
def labels_as_codes(x): return x.assign(labels=x.labels.map(codes))
def labels_as_text(x): return x.assign(labels=x.labels.map(with_bars))
def in_place_of_it(x): return x.id.tolist()


ROWS_OF = [permuted_rows, counted_and_permuted, other_index, same_index, objects, categories, antibodies_as_numbers]
WHOLE = [*ROWS_OF, doubled_row, without_id]


def rows_in_place(x): return x.reset_index(drop=True)


# Rows of a store
def as_floats(x): return np.array(x, float)
def as_mask(x): return np.isin(np.arange(12), x)
def as_ids(x): return [IDS[k] for k in x]
def masked(x): return pd.Series(x, IDS)
def short_mask(x): return x.iloc[1:]
def array_mask(x): return x.to_numpy()
def short_array_mask(x): return x.to_numpy()[1:]
def mask_by_id(x): return permuted_rows(x.set_axis(packed().samples.id))
def mask_of_others(x): return x.set_axis([*packed().samples.id[1:], 'somebody else'])
def holey_mask(x): return x.astype('boolean').mask(x.index == 2)
def mask_as_text(x): return x.astype(str)


NUMBERED = [as_array, as_series, as_tuple, as_floats, as_mask, as_ids]
CHANNELS = [turned, as_tuple, as_array]


def turned_pages(x): return dict(reversed(x.items()))
def other_channel(x): return {('purple' if k == 'red' else k): o for k, o in x.items()}
def whole_row(x): return pd.DataFrame([x])
def only_the_first(x): return x.iloc[0]
def as_mapping(x): return x.to_dict()
def by_place(x): return x[RGBY].tolist()


# One each
def as_bool(x): return x.astype(bool)
def as_objects(x): return x.astype(object)
def less_planes(x): return dict(red='R', green='G')
def small_id(x): return x.rename(columns=dict(Id='id'))
def two_ids(x): return x.assign(id='a')
def id_lost(x): return x.where(x.index != 3)
def without_url(x): return x.drop(columns='url')
def pairs_turned(x): return 'green=GFP, red=MT'
def as_pairs(x): return dict(green='GFP', red='MT')
def pair_twice(x): return x + ',red=DAPI'
def no_pairs(x): return 'MT,GFP'
def other_codes(x): return '0,7,2'
def said_otherwise(x): return x.said(channels=tuple(RGBY), vocab=with_bars(NAMES))
def channels_first(x): return x.transpose(2, 0, 1)
def channel_less(x): return x[..., :2]
def one_channel(x): return x[..., 0]
def other_image(x): return x.assign(Image=['else', *x.Image[1:]])
def without_red(x): return x.drop(columns='red')
def red_unnamed(x): return {k: o for k, o in x.items() if o != 'red'}
def weight_lost(x): return x.astype(float).where(x.index != x.index[1])
def below_zero(x): return -x
def names_for_sets(x): return x.set_axis([o[0] for o in x.index])
def small_letters(x): return [o.lower() for o in x]
def float_antibody(x): return x.astype({'antibody': float})
def object_antibody(x): return x.astype({'antibody': object})
def one_less(x): return x[1:]
def one_more(x): return [*x, 9]
def line_itself(x): return C.CELL_LINES[x]
def line_mistyped(x): return 'U2OS'
def stranger(x): return ('Actin', *x)
def antibody_lost(x): return x.assign(antibody=[None, *x.antibody[1:]])
def lines_mistyped(x): return ['HeLo']


ENTRIES = {
    'data.labels': {
        'Vocab': Entry(lambda names: of_vocab(L.Vocab(names)), dict(names=(NAMES, CLASSES))),
        'get_vocab': Entry(of_vocab, dict(vocab=(NAMES, CLASSES))),
        'Vocab.index': Entry(
            lambda label: [V.index(label)],
            dict(label=('Golgi apparatus', [one_code, one_code_as_text, one_code_of_numpy, one_code_with_a_point, truth, mistyped])),
        ),
        'Vocab.parse': Entry(lambda x: V.parse(x), dict(x=(NAMES[:2], SET))),
        'Vocab.text': Entry(lambda labels, one: [V.text(labels), V.text(one)], dict(labels=(NAMES[:2], SET), one=(NAMES[2:], SET))),
        'Vocab.subset': Entry(lambda items: V.subset(items).names + V.subset(items).codes, dict(items=(NAMES[:2], SET))),
        'Vocab.multi_hot': Entry(
            lambda labels: pd.DataFrame(V.multi_hot(labels), getattr(labels, 'index', LABELS.index), NAMES), dict(labels=(LABELS, LISTS)),
        ),
        'Vocab.decode': Entry(
            lambda hot: pd.Series(V.decode(hot), hot.index).map(sorted),
            dict(hot=(HOT, [permuted_rows, permuted_classes, class_less, class_more, nan_in, as_float, as_text, as_bool])),
        ),
        'Vocab.only': Entry(
            lambda labels: pd.Series(V.subset(NAMES[:2]).only(labels), getattr(labels, 'index', LABELS.index)).map(sorted),
            dict(labels=(LABELS, LISTS)),
        ),
        'Vocab.counts': Entry(lambda labels: V.counts(labels), dict(labels=(LABELS, LISTS))),
        'Vocab.cooccurrence': Entry(lambda labels: V.cooccurrence(labels), dict(labels=(LABELS, LISTS))),
    },
}


# --- samples ---

def of_samples(call, changes=WHOLE, base=None): return Lazy(call, lambda: dict(samples=(base() if base else samples(), changes)))


class Lazy:
    "An entry whose parts are drawn when it is walked, so that collecting is instant"
    def __init__(self, call, parts, exact=True): self.call, self.made, self.exact = call, parts, exact
    @property
    def parts(self):
        if callable(self.made): self.made = self.made()
        return self.made


def tied(): return samples().assign(twin=['t1', None, 't1'] + [None]*8 + [IDS[4]], group=None)
def untidy(): return samples().drop(columns=['group', 'plate', 'well', 'field'])


def kaggle(table=TRAIN, groups=GROUPS, atlas=ATLAS, channels=RGBY, vocab=NAMES, **kwargs):
    "A folder in Kaggle layout with its side tables, read"
    linked(pictures(), 'train')
    for name, o in dict(train=table, groups=groups, atlas=atlas).items(): csv(o, f'{name}.csv')
    return told(S.kaggle_samples('.', vocab=vocab, channels=channels, **kwargs), RGBY)


SIDE = [permuted_rows, columns_turned, row_twice, other_name, shorter]
NAMED = [turned, as_tuple, as_vocab]
KAGGLE = dict(
    table=(TRAIN, LABELLED), groups=(GROUPS, SIDE), atlas=(ATLAS, [permuted_rows, columns_turned]), channels=(RGBY, CHANNELS), vocab=(NAMES, NAMED),
)

ENTRIES |= {
    'data.samples': {
        # An id that is missing or occurs twice is refused by `check_samples`, and by whoever takes rows by it
        'derive_groups': of_samples(lambda samples: parts(samples.id, S.derive_groups(samples)), [*ROWS_OF, doubled_row], tied),
        'twin_ties': of_samples(
            lambda samples: {i: str(o) for i, o in zip(samples.id.astype(str), S.twin_ties(samples)) if o is not None}, [*ROWS_OF, doubled_row], tied,
        ),
        'hpa_identity': Entry(
            lambda ids: texts(pd.DataFrame(dict(id=ids)).join(S.hpa_identity(ids)), 'id'),
            dict(ids=(pd.Series(IDS), [permuted_rows, other_index, categorical, as_objects])),
        ),
        'tidy_samples': of_samples(lambda samples: told(S.tidy_samples(samples), RGBY), ROWS_OF, tied),
        'sample_channels': of_samples(lambda samples: sorted(S.sample_channels(samples)), [permuted_rows, channels_turned]),
        'find_planes': Entry(
            lambda channels, planes: S.find_planes(rgb_pictures(), channels, planes)[0].map(lambda o: Path(o).name).T.to_dict(),
            dict(channels=(RGBY[:3], CHANNELS), planes=(PLANES, [turned_dict, less_planes])),
        ),
        'kaggle_samples': Entry(kaggle, KAGGLE),
        'read_samples': Entry(
            lambda **kw: kaggle(**kw) and told(S.read_samples('.', vocab=kw['vocab'], channels=kw['channels']), RGBY), KAGGLE,
        ),
        'folder_samples': Entry(
            lambda atlas, channels: told(S.folder_samples(beside(atlas), channels), RGBY),
            dict(atlas=(ATLAS, [permuted_rows, columns_turned, row_twice]), channels=(RGBY, CHANNELS)),
        ),
        'join_samples': Lazy(
            lambda one, two: told(S.join_samples(one, two), RGBY),
            lambda: dict(one=(samples()[:6], [*ROWS_OF, channels_turned]), two=(samples()[6:], [*WHOLE[:-1], channels_turned])),
        ),
        'check_samples': of_samples(lambda samples: told(S.check_samples(samples, NAMES), RGBY), [*WHOLE, labels_as_codes, labels_as_text]),
        'save_samples': of_samples(lambda samples: told(S.load_samples(S.save_samples(samples, 'walk.parquet')), RGBY), ROWS_OF),
    },
}


def beside(atlas):
    "A folder of pictures with a table of who they are"
    Path('beside').mkdir(exist_ok=True)
    for o in pictures().iterdir():
        if not Path('beside', o.name).exists(): Path('beside', o.name).symlink_to(o)
    csv(atlas, 'beside/atlas.csv')
    return 'beside'


# --- files, readings, pictures ---

def fetched(ids, channels=RGBY):
    "What `download_hpa` says of files that are there already"
    found = D.download_hpa(ids, jpegs(), channels, progress=False)
    return {Path(p).name: s for p, s in zip(found.path, found.status)}


def pages(named, big=False):
    "Planes of an OME-TIFF whose pages carry names, read by these"
    about = dict(axes='CYX', Channel=dict(Name=list(named)))
    tifffile.imwrite('pages.ome.tif', np.stack(list(named.values())), bigtiff=big, photometric='minisblack', metadata=about)
    return {o: int(I.read_plane(f'pages.ome.tif#{o}')[0, 0]) for o in sorted(named)}


def by_channel(named, big=False):
    "The same, each asked for as a channel, which R, G and B alone can answer"
    pages(named, big)
    return {c: int(I.read_plane('pages.ome.tif', c)[0, 0]) for c in RGBY[:3]}


def stacked(named): return np.stack(list(named.values())), list(named)
def first_row(): return samples().iloc[3]


STACK = {o: plane(k, k) for k, o in enumerate(RGBY)}
LETTERS = {o: plane(k, k) for k, o in enumerate('RGB')}
FILES = pd.DataFrame(dict(Id=IDS))

ENTRIES |= {
    'data.download': {
        'read_ids': Entry(
            lambda table: D.hpa_files(D.read_ids(csv(table, 'ids.csv')), 'x').set_index('path').url.to_dict(),
            dict(table=(FILES, [permuted_rows, row_twice, no_id, categorical, small_id, two_ids])),
        ),
        'hpa_files': Entry(
            lambda ids, channels: D.hpa_files(ids, 'x', channels).set_index('path').url.to_dict(),
            dict(
                ids=(pd.Series(IDS), [permuted_rows, other_index, doubled, id_lost, categorical, as_line]),
                channels=(RGBY, CHANNELS),
            ),
        ),
        'fetch_files': Lazy(
            lambda files: {Path(p).name: s for p, s in D.fetch_files(files, progress=False)[['path', 'status']].to_numpy()},
            lambda: dict(files=(D.hpa_files(IDS, jpegs()), [permuted_rows, other_index, same_index, doubled_row, without_url])),
        ),
        'download_hpa': Entry(fetched, dict(ids=(IDS, [turned, as_tuple, as_array, twice, as_line]), channels=(RGBY, CHANNELS))),
    },
    'data.reading': {
        'text_pairs': Entry(lambda text: G.text_pairs(text), dict(text=('red=MT,green=GFP', [
            pairs_turned, as_pairs, pair_twice, no_pairs,
        ]))),
        'text_vocab': Entry(lambda text: of_vocab(G.text_vocab(text)), dict(text=(NAMES, [*CLASSES, with_bars, ','.join, other_codes]))),
        'Reading': Entry(
            lambda channels, vocab, planes: sorted(G.Reading(channels, vocab, planes=planes).planes) + sorted(G.Reading(channels, vocab).vocab),
            dict(channels=(RGBY, [turned, as_tuple, ','.join, as_set, twice]), vocab=(NAMES, CLASSES), planes=(PLANES, [turned_dict])),
        ),
        'Reading.changed': Entry(
            lambda other: sorted(G.Reading(channels=RGBY, vocab=NAMES).changed(other)),
            dict(other=(G.Reading(channels=','.join(RGBY), vocab=L.Vocab(NAMES)), [said_otherwise])),
        ),
        'common_reading': Entry(
            lambda readings: [G.common_reading(readings)[0].to_dict(), sorted(G.common_reading(readings)[1])],
            dict(readings=([G.Reading(RGBY, depth='12', fit='crop'), G.Reading(RGBY[::-1], fit='crop')], [turned, as_tuple])),
        ),
    },
    'data.images': {
        'open_sample': Lazy(
            lambda row, channels: {c: o.getpixel((0, 0)) for c, o in zip(channels, I.open_sample(row, channels))},
            lambda: dict(row=(first_row(), [turned, as_mapping, by_place, whole_row, only_the_first]), channels=(RGBY, [as_tuple])),
        ),
        'read_sample': Lazy(
            lambda row, channels: {c: int(o[0, 0]) for c, o in zip(channels, I.read_sample(row, channels))},
            lambda: dict(row=(first_row(), [turned, as_mapping, by_place, whole_row, only_the_first]), channels=(RGBY, CHANNELS)),
        ),
        'read_plane': Entry(pages, dict(named=(STACK, [turned_pages]), big=(False, [truth]))),
        'open_plane': Entry(by_channel, dict(named=(LETTERS, [turned_pages]), big=(False, [truth]))),
        'rgb_plane': Entry(
            lambda rgb: I.rgb_plane(rgb, 'G').tolist(),
            dict(rgb=(np.stack(list(LETTERS.values()), -1), [channels_first, channel_less, one_channel])),
        ),
        'composite': Entry(
            lambda named: I.composite(*stacked(named)).tolist(),
            dict(named=(STACK, [turned_dict, other_channel])),
        ),
        'show_sample': Entry(
            lambda named: sorted((o.get_title(), o.images[0].get_array().tolist()) for o in I.show_sample(*stacked(named))),
            dict(named=(STACK, [turned_dict, other_channel])),
        ),
    },
}


# --- stores ---

def packing(samples, channels=RGBY, vocab=NAMES, **kwargs):
    return T.pack(samples, 'walk.zarr', 8, channels, vocab=vocab, progress=False, overwrite=True, scheduler='synchronous', **kwargs)


def retabled(samples):
    "A store with another table in the place of its own"
    store = T.Store(packed().path)
    store.samples = samples
    return store


def measured(samples):
    store = retabled(samples)
    return dict(zip(packed().samples.id, store.pixel_sizes().tolist()))


def packs(call):
    return Lazy(call, lambda: dict(samples=(samples(), [*WHOLE, channels_turned, labels_as_codes]), channels=(RGBY, CHANNELS), vocab=(NAMES, NAMED)))


OTHERS = [*WHOLE, shorter, renamed_id, longer, in_place_of_it]
MASK = pd.Series(np.arange(12) % 3 == 0)

ENTRIES |= {
    'data.store': {
        'pack': packs(lambda **kw: seen(packing(**kw))),
        'pack_sizes': packs(lambda samples, channels, vocab: seen(T.pack_sizes(
            samples, 'two.zarr', [8], channels=channels, vocab=vocab, progress=False, overwrite=True, scheduler='synchronous')[8])),
        'pack_estimate': packs(lambda samples, channels, vocab: T.pack_estimate(
            samples, 8, G.Reading(channels, vocab), 'none.zarr')['pictures']),
        'Store.samples': of_samples(lambda samples: seen(retabled(samples)), OTHERS),
        'Store.pixel_sizes': of_samples(measured, OTHERS),
        'Store.batch': Entry(
            lambda idxs: sorted(map(float, packed().batch(idxs).mean((1, 2, 3)))), dict(idxs=([5, 0, 7], [turned, *NUMBERED])),
        ),
        'Store.stats': Entry(lambda idxs: [o.tolist() for o in packed().stats(idxs)], dict(idxs=([5, 0, 7], [turned, *NUMBERED]))),
        'Store.__getitem__': Entry(
            lambda mask: packed()[mask].tolist(),
            dict(mask=(MASK, [permuted_rows, short_mask, array_mask, short_array_mask, mask_by_id, mask_of_others, holey_mask, mask_as_text])),
        ),
        'export_ome': Entry(lambda named: ome(*stacked(named)), dict(named=(STACK, [turned_dict]))),
    },
}


def ome(x, channels):
    "Planes of an OME-Zarr by their labels"
    import zarr
    with tempfile.TemporaryDirectory() as d:
        group = zarr.open_group(T.export_ome(x, Path(d)/'x.ome.zarr', channels), mode='r')
        labels = [o['label'] for o in group.attrs['ome']['omero']['channels']]
        return dict(zip(labels, group['0'][:].mean((1, 2)).tolist()))


# --- sources ---

TABLE_ID = TRAIN.assign(is_test=['no']*11 + ['yes'], well=None)
REFS = ['id', *RGBY]


def references():
    "A table of references"
    table = samples()[REFS].assign(labels=TRAIN.set_index('Id').Target.loc[samples().id].to_numpy())
    return table.assign(is_test=['no']*11 + ['yes'])


def bare(): return samples().assign(labels=None, group=None)
def lost(x): return x.assign(labels=[None, *x.labels[1:]])
def ids_twice(x): return x.assign(Id=x.id)
def with_test(x): return x.assign(Target=[*x.Target[:-1], None], is_test=['no']*11 + ['yes'])
def two_label_columns(x): return x.assign(Image=x.Id, Label=x.Target)
def other_antibody(x): return x.assign(antibody='7')
def references_of(table, channels=RGBY, vocab=NAMES): return told(O.csv_samples(csv(table, 'refs.csv'), vocab, channels), RGBY)


def by_table(table, vocab=NAMES): return told(O.table_samples(csv(table, 'table.csv'), vocab, O.label_columns('table.csv')))


def public_atlas(table, channels=RGBY, vocab=NAMES):
    table = table.assign(CellLine='HeLa')
    return told(O.hpav18_samples(csv(table, 'hpa.csv'), jpegs(), vocab=vocab, channels=channels, columns=O.label_columns('hpa.csv')), RGBY)


def contest(table):
    linked(rgb_pictures(), 'train')
    csv(table, 'train.csv')
    return told(O.z2g_samples('.'), RGBY[:3])


def opened(table, channels=RGBY, vocab=NAMES):
    "A folder of pictures with a table of its labels"
    reading = G.Reading(channels, vocab, table=csv(table, 'labels.csv'))
    return told(O.open_samples(pictures(), reading), RGBY)


def of_source(channels=RGBY, vocab=NAMES, table=TRAIN):
    return told(O.Source(str(pictures()), G.Reading(channels, vocab, table=csv(table, 'labels.csv')), 'mine').read(), RGBY)


def both_sources(one, two, channels=RGBY):
    "Two sources: a table of references each"
    csv(one, 'one.csv')
    csv(two, 'two.csv')
    first, second = (O.Source(f'{o}.csv', G.Reading(c, NAMES)) for o, c in (('one', channels), ('two', RGBY)))
    return told(O.read_sources([first, second]), RGBY)


IMAGES = pd.DataFrame(dict(Image=IDS, Label=['6', '4 6']*6))
IMAGE_FILE = [permuted_rows, columns_turned, row_twice, shorter, other_image]
REFERENCES = [permuted_rows, columns_turned, row_twice, without_id, ids_twice, categorical, without_red, identity_said]
STAINS = dict(MT='red', GFP='green', DAPI='blue', ER='yellow')


@cache
def stained():
    "`<plate>/<Id>-<stain>.png`: other words for the channels"
    folder = place()/'stained'
    (folder/'p').mkdir(parents=True)
    for k, id in enumerate(IDS):
        for c, name in enumerate(STAINS): Image.fromarray(plane(k, c)).save(folder/'p'/f'{id}-{name}.png')
    return folder


ENTRIES |= {
    'data.sources': {
        # A table that comes alone may hold any rows
        'table_samples': Entry(by_table, dict(table=(TRAIN, [*ANY_ROWS, id_and_labels, two_label_columns]), vocab=(NAMES, NAMED))),
        'label_columns': Entry(
            lambda table: list(O.label_columns(csv(table, 'table.csv'))), dict(table=(TRAIN, [permuted_rows, columns_turned, two_label_columns])),
        ),
        'hpav18_samples': Entry(
            public_atlas, dict(table=(TRAIN, [*LABELLED, id_and_labels]), channels=(RGBY, CHANNELS), vocab=(NAMES, NAMED)),
        ),
        'z2g_samples': Entry(contest, dict(table=(IMAGES, IMAGE_FILE))),
        'pattern_samples': Entry(
            lambda channels, names: told(O.pattern_samples(stained(), '{_}/{id}-{channel}.png', channels, names), RGBY),
            dict(channels=(RGBY, CHANNELS), names=(STAINS, [turned_dict, red_unnamed])),
        ),
        'add_pixel_size': of_samples(
            lambda samples: {str(i): float(o) for i, o in zip(samples.id, O.add_pixel_size(samples).pixel_size)}, [*ROWS_OF, channels_turned],
        ),
        'csv_samples': Lazy(
            references_of, lambda: dict(table=(references(), REFERENCES), channels=(RGBY, CHANNELS), vocab=(NAMES, NAMED)),
        ),
        'add_labels': Lazy(
            lambda samples, table, vocab: told(O.add_labels(samples, csv(table, 'labels.csv'), vocab), RGBY),
            lambda: dict(
                samples=(bare(), [*WHOLE, shorter, renamed_id, longer]), table=(TABLE_ID, [*LABELLED, id_and_labels, two_label_columns]),
                vocab=(NAMES, NAMED),
            ),
        ),
        'add_groups': Lazy(
            lambda samples, groups: told(O.add_groups(samples, csv(groups, 'groups.csv')), RGBY),
            lambda: dict(samples=(samples(), [*WHOLE, shorter, renamed_id]), groups=(GROUPS, SIDE)),
        ),
        'open_samples': Entry(opened, dict(table=(TRAIN, [*LABELLED, id_and_labels]), channels=(RGBY, CHANNELS), vocab=(NAMES, CLASSES))),
        'Source.read': Entry(of_source, dict(table=(TRAIN, LABELLED), channels=(RGBY, CHANNELS), vocab=(NAMES, CLASSES))),
        'read_sources': Lazy(both_sources, lambda: dict(
            one=(references()[:6], REFERENCES), two=(references()[6:].reset_index(drop=True), REFERENCES), channels=(RGBY, CHANNELS),
        )),
        'describe_sources': of_samples(O.describe_sources, [permuted_rows, other_index, same_index, objects, categories]),
    },
}


# --- the synthetic atlas ---

def rng(): return np.random.default_rng(0)
def letters(x): return x[0]


@cache
def drawn():
    "A synthetic atlas of four pictures"
    return A.make_atlas(place()/'synthetic', n=4, size=16, cover=0, per_antibody=2, twins=1, masks=True, workers=1)


def truth_of(truth, train, atlas):
    "The truth behind an atlas whose tables are these"
    for name, o in dict(truth=truth, train=train, atlas=atlas).items(): csv(o, f'{name}.csv')
    linked(drawn()/'truth.json', 'truth.json')
    table = A.read_truth('.').table
    return {i: [sorted(o.labels), sorted(o.published), o.antibody, o.well] for i, o in zip(table.Id, table.itertuples())}


def tables_of(name): return pd.read_csv(drawn()/name, dtype=str, keep_default_na=False)


LABEL_SETS = Q.label_sets(NAMES)
COUNTED = [permuted_rows, weight_lost, below_zero, names_for_sets]
DRAWN = [as_tuple, as_array, letters, set, codes, twice, small_letters]
PLAN = A.choose_antibodies(6, NAMES, cover=0)
WELLS = A.choose_samples(PLAN, 12, 2)
PLANNED = [other_index, same_index, doubled_row, float_antibody, object_antibody]
TRUTHS = [permuted_rows, columns_turned, row_twice, shorter, other_name]


@cache
def two_cells(): return C.plant_cells(rng(), C.CELL_LINES['U-2 OS'], 20.)


@cache
def field(): return C.Field(two_cells(), C.CELL_LINES['U-2 OS'], 16, 20., rng())


ENTRIES |= {
    'synth.label_sets': {
        'label_sets': Entry(
            lambda vocab: {'|'.join(sorted(o)): int(n) for o, n in Q.label_sets(vocab).items()},
            dict(vocab=(NAMES, [turned, as_tuple, as_vocab, as_set, as_dict, as_line, codes])),
        ),
        'class_counts': Entry(lambda sets: Q.class_counts(sets), dict(sets=(LABEL_SETS, COUNTED))),
        'temper_sets': Entry(lambda sets: {'|'.join(o): p for o, p in Q.temper_sets(sets).items()}, dict(sets=(LABEL_SETS, COUNTED))),
        # Sets are drawn by their place, so their order is not changed here
        'choose_sets': Entry(lambda sets: [list(o) for o in Q.choose_sets(sets, 6, 1, rng())], dict(sets=(Q.temper_sets(LABEL_SETS), COUNTED[1:]))),
    },
    'synth.cells': {
        'Field.per_cell': Lazy(
            lambda values: field().per_cell(values).tolist(),
            lambda: dict(values=(list(range(len(two_cells()))), [as_tuple, as_array, as_series, one_less, one_more])),
        ),
    },
    'synth.patterns': {
        'make_look': Entry(lambda labels: P.make_look(rng(), labels).mix, dict(labels=(NAMES[:2], DRAWN[:-1]))),
    },
    'synth.atlas': {
        'make_field': Entry(
            lambda labels: len(A.make_field(rng(), labels, C.CELL_LINES['U-2 OS'], 16).cells), dict(labels=(NAMES[:2], [turned, *DRAWN[:-1]])),
        ),
        'draw_sample': Entry(
            lambda labels, line: A.draw_sample(labels, line=line, size=16).image.tolist(),
            dict(labels=(NAMES[:2], DRAWN), line=('U-2 OS', [line_itself, line_mistyped])),
        ),
        'spoil': Entry(
            lambda names, vocab: [sorted(A.spoil(names, L.get_vocab(vocab), rng())[0])],
            dict(names=(tuple(NAMES[:2]), [list, letters, set, stranger, codes]), vocab=(NAMES, [as_tuple, as_vocab, as_set])),
        ),
        # Antibodies, wells and twins are drawn in the order of classes and rows, which is not changed here
        'choose_antibodies': Entry(
            lambda vocab: A.choose_antibodies(6, vocab, cover=0).labels.map(list).tolist(),
            dict(vocab=(NAMES, [as_tuple, as_vocab, as_set, as_dict, as_line, codes])),
        ),
        'choose_samples': Entry(
            lambda antibodies, cell_lines: texts(A.choose_samples(antibodies, 12, 2, cell_lines=cell_lines), 'Id'),
            dict(antibodies=(PLAN, [*PLANNED, antibody_lost]), cell_lines=(['HeLa', 'A-431'], [
                as_tuple, lines_mistyped, ' '.join,
            ])),
        ),
        'choose_twins': Entry(
            lambda samples: texts(A.choose_twins(samples, 2, vocab=NAMES), 'Id'),
            dict(samples=(WELLS, [*PLANNED, no_id])),
        ),
        'read_truth': Lazy(truth_of, lambda: {o: (tables_of(f'{o}.csv'), TRUTHS) for o in ('truth', 'train', 'atlas')}),
    },
}

FILE_ONLY = 'reads or checks one file, which has no rows and no names'
EXEMPT = {
    'data.samples': {'load_samples': 'asked by save_samples'},
    'data.download': {
        'check_picture': FILE_ONLY, 'unpack': FILE_ONLY, 'download_kaggle': 'a contest by its name',
    },
    'data.reading': {},
    'data.images': {'split_ref': 'a text', 'tiff_layout': 'asked by read_plane', 'pixel_size': FILE_ONLY},
    'data.store': {'histogram': 'counts values of one picture', 'Store': 'opens what pack wrote'},
    'data.sources': {
        'source_kind': 'asked by open_samples', 'settle': 'asked by open_samples', 'Source': 'holds a path and a Reading',
    },
    'synth.cells': {'radial': 'numbers', 'Field.window': 'numbers'},
    'synth.atlas': {
        'perturb': 'numbers', 'make_atlas': 'asked by choose_antibodies, choose_samples and choose_twins; what is drawn has no order of its own',
        'read_masks': 'one sample by its id',
    },
}
