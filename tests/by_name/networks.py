"Rooms of networks: weights, loaders, learners, predictions."
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from walk import *

ROOMS = [
    'learn.tensors', 'learn.sampling', 'learn.augment', 'learn.loaders', 'learn.losses', 'learn.metrics', 'learn.schedules', 'learn.learner',
    'learn.callbacks', 'learn.views', 'learn.resume', 'learn.predict', 'nets.stems', 'nets.heads', 'nets.weights', 'nets.models',
]
TAKES = {
    'x', 'channels', 'there', 'wanted', 'picture', 'pictures', 'mean', 'std', 'samples', 'store', 'rows', 'idxs', 'samps', 'dataset', 'ds',
    'folds', 'vocab', 'classes', 'theirs', 'ours', 'names', 'weights', 'weight', 'counts', 'ratios', 'values', 'alpha', 'terms', 'targs',
    'probs', 'ids', 'groups', 'parts', 'model', 'arch', 'dls', 'dl', 'learn', 'state', 'facts', 'about', 'path', 'file', 'start', 'loss',
}

# --- what the functions are asked about: twelve pictures of 32 pixels with names, four channels, three classes; made when a walk needs them ---

RGBY = ('red', 'green', 'blue', 'yellow')
NAMES = ('Nucleoplasm', 'Nucleoli', 'Cytosol')
N = 12
IDS = pd.Index([f's{i:02}' for i in range(N)], name='id')
HOT = pd.DataFrame([[i % 3 != 1, i % 3 == 1, i % 3 == 2] for i in range(N)], IDS, NAMES)
SAMPLES = pd.DataFrame(dict(id=IDS, labels=[[c for c in NAMES if HOT.loc[i, c]] for i in IDS], group=[f'g{i//2}' for i in range(N)]))
FOLDS = pd.DataFrame(dict(id=IDS, fold=np.arange(N) % 3))
ROWS7 = pd.Series([7, 2, 11])
WEIGHTS = pd.Series([0., 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 3], IDS)
BY_CHANNEL = pd.Series([.1, .2, .3, .4], RGBY)
RATIOS = pd.Series([.7, .4, .3], NAMES)


room = cache(load)


@cache
def scratch(): return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def folder(): return Path(scratch().name)


@dataclass(frozen=True)
class Packed:
    "Which store: the order of its samples and of its channels"
    rows: tuple = tuple(range(N))
    channels: tuple = RGBY

    @property
    def name(self): return f'{"".join(o[0] for o in self.channels)}{"-".join(map(str, self.rows))}.zarr'


@cache
def samples():
    "Pictures in files, of which each channel is brighter than the one before, and each sample has its own light"
    from PIL import Image
    rng = np.random.default_rng(0)
    (folder()/'train').mkdir()
    for i, name in enumerate(IDS):
        for k, c in enumerate(RGBY):
            Image.fromarray((rng.random((32, 32))*(40 + 15*i)*(k + 1)/4).astype(np.uint8)).save(folder()/f'train/{name}_{c}.png')
    codes = dict(zip(NAMES, (0, 2, 25)))
    targets = [' '.join(str(codes[c]) for c in o) for o in SAMPLES.labels]
    pd.DataFrame(dict(Id=IDS, Target=targets)).to_csv(folder()/'train.csv', index=False)
    return room('data.samples').read_samples(folder()).assign(group=SAMPLES.group)


@cache
def store(packed):
    table = samples().iloc[list(packed.rows)].reset_index(drop=True)
    return room('data.store').pack(table, folder()/packed.name, 32, packed.channels, progress=False)


@dataclass(frozen=True)
class Net:
    "Which network: the order of its channels and of its classes; all of them compute the same by name"
    channels: tuple = RGBY
    classes: tuple = NAMES


def place(name, names): return names.index(name) if name in names else {'white': 3, 'Actin filaments': 0}[name]


@cache
def net(wanted):
    "A network whose weights were brought into another order by hand"
    torch.manual_seed(0)
    made = room('nets.models').rgby_model('test_resnet', weights=None, hidden=8, ps=0, channels=RGBY, classes=NAMES)
    with torch.no_grad():
        made.head[-1].weight.mul_(20)
        last = {k: o[[place(c, NAMES) for c in wanted.classes]] for k, o in made.head[-1].state_dict().items()}
        stem, = room('nets.stems').first_convs(made.body)
        conv = made.body.get_submodule(stem)
        conv.weight.copy_(conv.weight[:, [place(c, RGBY) for c in wanted.channels]].clone())
        made.head[-1].load_state_dict(last)
    made.config['channels'] = list(wanted.channels)
    made.about['classes'] = list(wanted.classes)
    return made.eval()


def fresh(wanted=Net()):
    "A copy that a call may change"
    import copy
    return copy.deepcopy(net(wanted))


@cache
def file(wanted):
    "A file of the weights of a network"
    return room('nets.models').save_model(net(wanted), folder()/f'{len(list(folder().iterdir()))}.safetensors')


def vocab(names=NAMES): return room('data.labels').Vocab(list(names), [room('data.labels').HPA28.index(o) for o in names])


def dls(packed=Packed(), names=NAMES, **kwargs):
    here = store(packed)
    return room('learn.loaders').store_dls(here, FOLDS, 0, vocab(names), bs=4, device='cpu', **dict(tfms='none', path=folder()) | kwargs)


def data(rows, packed=Packed(), names=NAMES):
    "A data set of a store"
    return room('learn.loaders').StoreData(store(packed), rows, vocab(names))


def learner(packed=Packed(), names=NAMES, wanted=Net(), **kwargs):
    arch = wanted if isinstance(wanted, str) else fresh(wanted)
    made = room('learn.learner').rgby_learner(dls(packed, names), arch, path=folder(), **kwargs)
    made.remove_cbs([o for o in made.cbs if o.name == 'progress'])
    made.logger = lambda o: None
    return made


# --- changes ---

def other_channels(x):
    "The same picture, network or store with its channels in another order"
    order = ('blue', 'red', 'yellow', 'green')
    if isinstance(x, Packed | Net): return replace(x, channels=order)
    if isinstance(x, pd.Series): return x.loc[list(order)]
    if isinstance(x, list | tuple): return type(x)(order)
    axis = x.ndim - 3
    return picture(x.index_select(axis, torch.tensor([x.channels.index(c) for c in order if c in x.channels])), [c for c in order if c in x.channels])


def strange_channels(x):
    "As many, and one of them is called otherwise"
    def named(o): return tuple('white' if c == 'yellow' else c for c in o)
    if isinstance(x, Packed | Net): return replace(x, channels=named(x.channels))
    if isinstance(x, pd.Series): return x.set_axis(named(x.index))
    if isinstance(x, list | tuple): return type(x)(named(x))
    return picture(x, named(x.channels))


def fewer_channels(x):
    if isinstance(x, pd.Series): return x.iloc[1:]
    if isinstance(x, list | tuple): return x[1:]
    return picture(x.as_subclass(torch.Tensor)[..., 1:, :, :], x.channels[1:])


def channel_twice(x): return type(x)([x[0], *x[:-1]])
def one_text(x): return x[0]
def numbers(x): return list(range(len(x)))
def other_classes(x): return replace(x, classes=x.classes[::-1]) if isinstance(x, Net) else x[::-1]
def strange_class(x): return replace(x, classes=('Actin filaments', *x.classes[1:])) if isinstance(x, Net) else ('Actin filaments', *x[1:])
def other_rows(x): return replace(x, rows=x.rows[::-1]) if isinstance(x, Packed) else x[::-1]
def class_codes(x): return [0, 2, 25]
def fewer(x): return x[1:]
def twice(x): return [*x, x[0]]


def mask_of(x): return np.isin(np.arange(N), x)
def as_list(x): return list(x)
def as_mask(x): return mask_of(x)
def as_tensor_mask(x): return torch.from_numpy(mask_of(x))
def as_list_mask(x): return mask_of(x).tolist()
def as_column_mask(x): return pd.Series(mask_of(x))
def as_nullable_mask(x): return pd.Series(mask_of(x)).astype('boolean')
def as_objects(x): return mask_of(x).astype(object)
def as_mask_by_id(x): return pd.Series(mask_of(x), IDS)
def as_mask_elsewhere(x): return pd.Series(mask_of(x)[::-1], range(N)[::-1])
def as_zeros_and_ones(x): return mask_of(x).astype(int)
def as_short_mask(x): return mask_of(x)[:-1]
def as_holes(x): return pd.Series([None, *mask_of(x)[1:]], dtype='boolean')
def as_ids(x): return IDS[list(x)]
def as_floats(x): return np.asarray(x, dtype=float)
def as_strings(x): return [str(o) for o in x]
def row_less(x): return [-1, *x[1:]]
def row_beyond(x): return [*x[1:], N]


def nan_value(x): return x.astype(float).where(np.arange(len(x)) != 1)
def negative(x): return x - 1


WHICH = [
    other_rows, as_list, as_mask, as_tensor_mask, as_list_mask, as_column_mask, as_nullable_mask, as_objects, as_mask_by_id, as_mask_elsewhere,
    as_zeros_and_ones, as_short_mask, as_holes, as_ids, as_floats, as_strings, row_less, row_beyond, twice,
]
WEIGHED = [*ROWS, nan_value, negative, as_text]
CHANNELS = [other_channels, strange_channels]
NAMED = [*CHANNELS, channel_twice, one_text, numbers]
LISTED = [*NAMED, fewer_channels]
PACKED = [other_channels, other_rows]
WRONG_NAMES = [fewer, twice, channel_twice, class_codes, one_text]


# --- pictures ---

def picture(x, channels): return room('learn.tensors').TensorRGBY(torch.as_tensor(x).as_subclass(torch.Tensor).clone(), channels=tuple(channels))


@cache
def asker(): return learner()


def batch(n=3, channels=RGBY, dtype=float):
    "n x C x 32 x 32"
    x = torch.rand(n, len(channels), 32, 32, generator=torch.Generator().manual_seed(1))
    return picture(x if dtype is float else (255*x).byte(), channels)


def by_channel(x, channels):
    "A picture, or some, as channel -> pixels"
    planes = torch.as_tensor(x).as_subclass(torch.Tensor).unbind(-3)
    return dict(sorted(zip(channels, planes, strict=True)))


class Later:
    "An entry whose parts are made when its walk begins"
    def __init__(self, call, parts, exact=True): self.call, self.make, self.exact = call, parts, exact
    @property
    def parts(self): return self.make()


def of_picture(call, exact=True, **how):
    "A function of pictures: an answer for each channel, times 1000 as `exact=False` compares two digits"
    def asked(x):
        torch.manual_seed(0)
        return by_channel(torch.as_tensor(call(x))*(1 if exact else 1000), x.channels)
    return Later(asked, lambda: dict(x=(batch(**how), [other_channels])), exact)


def A(): return room('learn.augment')
def LO(): return room('learn.loaders')
def calm(tfm): return lambda x: tfm().calm(x)
def change(tfm): return lambda x: tfm()(x, split_idx=0)
def MATS(): return A().affine_matrices(torch.tensor([10., 20, 30]), torch.ones(3))


def ones(n): return torch.full((n,), 1.5)


# --- tables ---

def by_id(table): return 1000*table.set_index(table.id.astype(str))[list(NAMES)]
def targets(data): return pd.DataFrame(data.targs.numpy(), data.store.samples.id.to_numpy()[data.rows], data.vocab)[list(NAMES)]
def sides(dls): return [sorted(o.dataset.store.samples.id.iloc[o.dataset.rows]) for o in (dls.train, dls.valid)]
def shown(dl):
    "Pictures and targets of a DataLoader by id, channel and class"
    found = {}
    for x, *y in dl:
        for i, name in enumerate(dl.ids):
            found[name] = by_channel(x[i], x.channels) | ({} if not y else dict(sorted(zip(dl.dataset.vocab, y[0][i].tolist()))))
    return found


def asked(wanted=Net(), packed=Packed(), names=NAMES, **kwargs):
    return by_id(room('learn.predict').predict_rows(fresh(wanted), store(packed), vocab=vocab(names), views='none', progress=False, **kwargs))


def drawn_ids(weights):
    "Which samples are drawn by these weights"
    made = LO().StoreDL(data(range(N)), bs=4, weights=weights, draws=200)
    return sorted(set(IDS[made.get_idxs()]))


def V(): return room('learn.views')


CROPS = dict(BatchCrop=lambda: A().BatchCrop(16), BatchWarps=lambda: A().BatchWarps([A().BatchCrop(16, jitter=False), A().BatchAffine()]))
LOGITS = torch.tensor(np.random.default_rng(2).normal(0, 2, (N, 3)))
YES = torch.tensor(HOT.to_numpy(float))
STEM = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def larger(x): return picture(x.as_subclass(torch.Tensor).repeat(1, 2, 2), x.channels)
def as_light(x): return picture(x.float()/255, x.channels)
def to_dict(x): return x.to_dict()
def negative_targets(x): return -1*x
def nobody(x): return x.iloc[:0]
def capitals(x): return tuple(o.title() for o in x)
def without_ids(x): return x.where(x != 's05')


def picture_of(x, channels): return room('learn.tensors').TensorRGBY.create(x, channels)


def pixels(ax):
    image = np.asarray(ax.images[0].get_array(), dtype=float)
    return torch.tensor(image)


def rows_of(table):
    "The same rows of the table of pictures"
    known = samples().set_index('id')
    return [known.loc[o] for o in table.id]


def sum_loss(terms, weights):
    L = room('learn.losses')
    return L.SumLoss({k: L.get_loss(k) for k in terms}, weights)


def loss_of(loss, names):
    at = [NAMES.index(o) for o in names]
    return room('learn.losses').get_loss(loss)(LOGITS[:, at], YES[:, at])


def score(metric, names):
    at = [NAMES.index(o) for o in names]
    metric.reset()
    metric.accumulate(SimpleNamespace(loss_func=room('learn.losses').BCELoss(), pred=LOGITS[:, at], y=YES[:, at], dls=SimpleNamespace(vocab=list(names))))
    return metric.value


def blank(wanted):
    model = fresh(wanted)
    model.filled_outputs = set()
    return model


def bias(model): return dict(sorted(zip(model.about['classes'], model.head[-1].bias.tolist())))


def restarted(loaders):
    "Draws after the state of some loaders was put back"
    made = dls()
    state = room('learn.learner').rng_state(made)
    state['dls'] = [state['dls'][i] for i in loaders]
    for o in made.loaders: o.rng.random()
    room('learn.learner').set_rng_state(made, state)
    return [o.rng.random() for o in made.loaders]


def noted(packed, names): return room('learn.learner').note_training(fresh(Net()), dls(packed, names)).about


def said(learn, dl=None):
    "What a learner says of each sample and class"
    dl = learn.dls.valid if dl is None else dl
    with learn.no_bar(), learn.no_logging(): probs, targs = learn.get_preds(dl=dl)
    ids = dl.dataset.store.samples.id.to_numpy()[dl.dataset.rows]
    both = [pd.DataFrame(o.numpy(), ids, dl.dataset.vocab)[list(NAMES)] for o in (probs, targs)]
    return 1000*pd.concat(both, axis=1, keys=['said', 'true']).pipe(lambda x: x.set_axis([' '.join(o) for o in x.columns], axis=1))


def asked_net(model): return by_id(room('learn.predict').predict_rows(model.eval(), store(Packed()), vocab=vocab(), views='none', progress=False))


def admitted(wanted):
    "What a network says that went back to the weights it began with"
    keep = room('learn.callbacks').KeepBest()
    keep.learn = SimpleNamespace(model=fresh(Net()), path=folder())
    keep.file(0).parent.mkdir(exist_ok=True)
    keep.admit(1., file(wanted))
    keep.restore()
    return asked_net(keep.learn.model)


@cache
def checkpoint():
    "What a training of one epoch leaves"
    learn = learner()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.epoch = 0
    return room('learn.resume').training_state(learn)


def resumed(packed, names, wanted, fold):
    "The next epoch of a training that goes on with other data"
    import copy
    here = room('learn.loaders').store_dls(store(packed), FOLDS.assign(fold=fold), 0, vocab(names), bs=4, device='cpu', tfms='none', path=folder())
    learn = room('learn.learner').rgby_learner(here, fresh(wanted), path=folder())
    learn.create_opt()
    learn.recorder.smooth_loss.count = 0
    room('learn.resume').set_training_state(learn, copy.deepcopy(checkpoint()))
    return {'next': here.train.dataset.store.samples.id.to_numpy()[here.train.dataset.rows[here.train.get_idxs()]].tolist()} | {'says': asked_net(learn.model)}


def probs_of(x, mean, std, wanted):
    given = x if isinstance(x, torch.Tensor) else x.numpy()
    out = room('learn.predict').batch_probs(fresh(wanted), given, mean, std, room('learn.views').get_views('none'))
    return answers(out[:, 0], wanted)


def answers(x, wanted): return dict(sorted(zip(wanted.classes, 1000*x.detach().T))) if x.ndim == 2 else 1000*x.detach()


def seen(ids, groups):
    model = fresh(Net())
    model.about['trained_on'] = dict(ids=['s01'], groups=['g3', 'g5'])
    found = room('nets.weights').seen_ids(model, ids, groups)
    return [sorted(found.ids), sorted(found.groups), found.known]


def loaded(path, model):
    made = blank(model)
    with torch.no_grad():
        for o in made.parameters(): o.zero_()
    room('nets.models').load_weights(made, file(path))
    return asked_net(made)


def bare(channels, classes):
    "Weights without a recipe"
    torch.save(net(Net()).state_dict(), folder()/'bare.pth')
    made = blank(Net())
    room('nets.models').load_weights(made, folder()/'bare.pth', channels=channels, classes=classes)
    return asked_net(made)


def noted_in(about):
    "What a file says of its weights, beside what the network knew"
    made = fresh(Net())
    made.about['trained_on'] = dict(ids=['s07'])
    room('nets.models').save_model(made, folder()/'noted.safetensors', about)
    found = room('nets.weights').read_about(folder()/'noted.safetensors')
    return dict(classes=found['classes'], ids=found['trained_on']['ids'])


def imagenet(x, channels):
    torch.manual_seed(0)
    model = room('nets.models').rgby_model(channels=channels, n_out=3, hidden=8, ps=0).eval()
    with torch.no_grad(): return 1000*model(x)


ENTRIES = {
    'learn.tensors': {
        'TensorRGBY.create': Later(
            lambda x, channels: by_channel(picture_of(x, channels), channels),
            lambda: dict(x=(batch()[0], []), channels=(RGBY, LISTED)),
        ),
        'to_bytes': of_picture(lambda x: room('learn.tensors').to_bytes(x)),
        'show_rgby': Later(lambda x: pixels(room('learn.tensors').show_rgby(x)), lambda: dict(x=(batch()[0], CHANNELS))),
        'TensorRGBY.show': Later(lambda x: pixels(x.show()), lambda: dict(x=(batch()[0], CHANNELS))),
        'TensorRGBY.__getitem__': Later(
            lambda x, rows: by_channel(x[:, rows], x[:, rows].channels), lambda: dict(x=(batch(), [other_channels]), rows=([3, 1, 0, 2], [])),
        ),
    },
    'learn.sampling': {
        'class_weights': Entry(
            lambda counts: room('learn.sampling').class_weights(counts, 12), dict(counts=(pd.Series([8, 4, 4], NAMES), [lambda x: x[::-1], nan_value])),
        ),
        'sampling_weights': Entry(
            lambda samples, vocab: room('learn.sampling').sampling_weights(samples, list(vocab), 'max_share'),
            dict(samples=(SAMPLES, IN_COLUMNS), vocab=(NAMES, [other_classes, class_codes])),
        ),
    },
    'learn.augment': {
        'dihedral': of_picture(lambda x: A().dihedral(x, 5)),
        'affine': of_picture(lambda x: A().affine(x, MATS()), exact=False),
        'resized': of_picture(lambda x: A().resized(x, 16), exact=False),
        'adjust_light': of_picture(lambda x: A().adjust_light(x, ones(3)[:, None], ones(3)[:, None]), exact=False),
        'blur': of_picture(lambda x: A().blur(x, ones(3), 4), exact=False),
        'shuffle_tiles': of_picture(lambda x: A().shuffle_tiles(x, torch.arange(4)[None].flip(1).expand(3, 4))),
        'adjust_colour': of_picture(lambda x: A().adjust_colour(x, ones(3), ones(3), ones(3)/3), exact=False, channels=RGBY[:3]),
        **{f'{o}.calm': of_picture(calm(lambda o=o: CROPS[o]())) for o in ('BatchCrop', 'BatchWarps')},
        **{
            f'{o}.change': of_picture(change(lambda o=o: getattr(A(), o)()), exact=False)
            for o in ('BatchDihedral', 'BatchBlur', 'BatchTiles')
        },
        'BatchWarp.change': of_picture(change(lambda: A().BatchAffine(rotate=45)), exact=False),
        'BatchColour.change': of_picture(change(lambda: A().BatchColour()), exact=False, channels=RGBY[:3]),
    },
    'learn.loaders': {
        'ReadRGBY': Entry(
            lambda channels, samples: {i: by_channel(LO().ReadRGBY(channels)(row), channels) for i, row in zip(samples.id, rows_of(samples))},
            dict(channels=(RGBY, NAMED), samples=(SAMPLES, [permuted_rows, other_index])),
        ),
        'RGBYBlock': Entry(
            lambda channels: by_channel(LO().RGBYBlock(channels).type_tfms[0](samples().iloc[3]), channels), dict(channels=(RGBY, NAMED)),
        ),
        'numbered_rows': Entry(lambda rows: sorted(IDS[LO().numbered_rows(store(Packed()), rows)]), dict(rows=(ROWS7.to_numpy(), WHICH))),
        'StoreData': Entry(
            lambda rows, names: targets(LO().StoreData(store(Packed()), rows, vocab(names))),
            dict(rows=(ROWS7.to_numpy(), WHICH), names=(NAMES, [other_classes])),
        ),
        'StoreData.vocab': Entry(
            lambda classes: targets(LO().StoreData(store(Packed()), [7, 2, 11], classes)), dict(classes=(NAMES, [as_list, other_classes, class_codes, one_text])),
        ),
        'StoreData.batch': Entry(
            lambda packed: {i: by_channel(o, packed.channels) for i, o in zip(data(range(N), packed).store.samples.id, data(range(N), packed).batch(range(N))[0])},
            dict(packed=(Packed(), PACKED)),
        ),
        'PictureData': Later(
            lambda picture, packed: by_channel(LO().PictureData([picture], data([0], packed)).batch([0])[0][0], packed.channels),
            lambda: dict(picture=(batch(1, dtype=int)[0], [*CHANNELS, fewer_channels, larger, as_light]), packed=(Packed(), [other_channels])),
        ),
        'StoreDL': Entry(drawn_ids, dict(weights=(WEIGHTS, WEIGHED))),
        'draw_weights': Entry(
            lambda weights, packed: dict(sorted(zip(store(packed).samples.id, LO().draw_weights(weights, data(range(N), packed))))),
            dict(weights=(WEIGHTS, WEIGHED), packed=(Packed(), PACKED)),
        ),
        'StoreDL.rows': Entry(lambda rows: shown(dls().test_dl(rows)), dict(rows=(ROWS7.to_numpy(), WHICH))),
        'StoreDL.new': Entry(lambda packed: shown(dls().valid.new(data(range(N), packed))), dict(packed=(Packed(), PACKED)), exact=False),
        'channels_of': Entry(lambda packed: sorted(LO().channels_of(dls(packed).train)), dict(packed=(Packed(), PACKED))),
        'classes_of': Entry(lambda names: sorted(LO().classes_of(dls(names=names).train)), dict(names=(NAMES, [other_classes]))),
        'samples_of': Entry(lambda packed: sorted(LO().samples_of(dls(packed).train).id), dict(packed=(Packed(), PACKED))),
        'store_rows': Entry(
            lambda folds, packed: [sorted(store(packed).samples.id[o]) for o in LO().store_rows(store(packed), folds, 1)],
            dict(folds=(FOLDS, OF_FOLDS), packed=(Packed(), PACKED)),
        ),
        'batch_transforms': Entry(
            lambda packed: {i: o for i, o in shown(dls(packed, tfms='none').valid).items()}, dict(packed=(Packed(), PACKED)), exact=False,
        ),
        'row_weights': Entry(
            lambda rows, names: dict(sorted(zip(IDS[LO().numbered_rows(store(Packed()), rows)], LO().row_weights(store(Packed()), rows, vocab(names), 'max_share')))),
            dict(rows=(ROWS7.to_numpy(), WHICH), names=(NAMES, [other_classes])),
        ),
        'store_dls': Entry(
            lambda folds, packed: sides(LO().store_dls(store(packed), folds, 1, list(NAMES), bs=4, device='cpu', sampler='max_share')),
            dict(folds=(FOLDS, OF_FOLDS), packed=(Packed(), PACKED)),
        ),
        'store_dls.vocab': Entry(
            lambda names: targets(LO().store_dls(store(Packed()), FOLDS, 1, names, bs=4, device='cpu').valid.dataset),
            dict(names=(NAMES, [as_list, other_classes, class_codes, one_text])),
        ),
    },
    'learn.losses': {
        'FocalLoss': Entry(
            lambda alpha: float(room('learn.losses').FocalLoss(alpha=alpha)(LOGITS, YES)),
            dict(alpha=(RATIOS.tolist(), [as_list, fewer, lambda x: dict(zip(NAMES, x)), lambda x: pd.Series(x, NAMES)[::-1], lambda x: [None, *x[1:]]])),
        ),
        'SumLoss': Entry(
            lambda terms, weights: float(sum_loss(terms, weights)(LOGITS, YES)),
            dict(
                terms=(dict(bce=0, soft_f1=0), [lambda x: dict(reversed(x.items()))]),
                weights=(pd.Series(dict(bce=.7, soft_f1=.3)), [lambda x: x[::-1], to_dict, fewer, nan_value, lambda x: x.rename(dict(bce='focal'))]),
            ),
        ),
        'losses': Entry(
            lambda names: {o: 1000*float(loss_of(o, names)) for o in room('learn.losses').losses}, dict(names=(NAMES, [other_classes])), exact=False,
        ),
        'get_loss': Entry(lambda loss: float(room('learn.losses').get_loss(loss)(LOGITS, YES)), dict(loss=('.7*bce + .3*soft_f1', [lambda x: '.3*soft_f1 + .7*bce']))),
        'loss_terms': Entry(lambda loss: sorted(room('learn.losses').loss_terms(loss)), dict(loss=('.7*bce + .3*soft_f1', [lambda x: '.3*soft_f1 + .7*bce']))),
    },
    'learn.metrics': {
        'FoldMetric.per_class': Entry(
            lambda thresh, names: score(room('learn.metrics').MacroF1(thresh), names),
            dict(thresh=(RATIOS, [*BY_CLASS, as_text, to_dict]), names=(NAMES, [other_classes])),
        ),
        'MacroF1': Entry(lambda names: score(room('learn.metrics').MacroF1(), names), dict(names=(NAMES, [other_classes]))),
        'MeanAP': Entry(lambda names: score(room('learn.metrics').MeanAP(), names), dict(names=(NAMES, [other_classes]))),
        'MatchedF1': Entry(
            lambda ratios, names: score(room('learn.metrics').MatchedF1(ratios), names),
            dict(ratios=(RATIOS, [*BY_CLASS, to_dict]), names=(NAMES, [other_classes])),
        ),
    },
    'learn.learner': {
        'start_at_prior': Entry(
            lambda targs, wanted: bias(room('learn.learner').start_at_prior(blank(wanted), targs)),
            dict(targs=(HOT, [permuted_rows, permuted_classes, class_less, class_more, nan_in, as_float, negative_targets, nobody]), wanted=(Net(), [other_classes])),
            exact=False,
        ),
        'start_at_prior.tensor': Entry(
            lambda targs: bias(room('learn.learner').start_at_prior(blank(Net()), torch.tensor(targs.to_numpy(float)))), dict(targs=(HOT, [permuted_rows, class_less, nan_in, nobody])),
        ),
        'set_rng_state': Entry(
            lambda loaders: restarted(loaders), dict(loaders=((0, 1), [fewer, lambda x: (*x, 1)])),
        ),
        'note_training': Entry(
            lambda packed, names: {k: sorted(v) for k, v in noted(packed, names)['trained_on'].items()}, dict(packed=(Packed(), [other_rows, other_channels]), names=(NAMES, [])),
        ),
        'RGBYLearner': Entry(
            lambda packed, names, wanted: said(room('learn.learner').RGBYLearner(dls(packed, names), fresh(wanted), loss_func=room('learn.losses').BCELoss())),
            dict(packed=(Packed(), PACKED), names=(NAMES, [other_classes, strange_class, fewer]), wanted=(Net(), [*CHANNELS, other_classes, strange_class])),
            exact=False,
        ),
        'RGBYLearner.get_preds': Entry(
            lambda packed, names: said(asker(), dls(packed, names).valid), dict(packed=(Packed(), PACKED), names=(NAMES, [other_classes, strange_class, fewer])), exact=False,
        ),
        'RGBYLearner.test_dl': Entry(
            lambda rows: said(asker(), asker().dls.test_dl(rows)), dict(rows=(ROWS7.to_numpy(), WHICH)), exact=False,
        ),
        'RGBYLearner.predict': Later(
            lambda x, wanted, packed: dict(zip(NAMES, learner(packed, NAMES, wanted).predict(x)[2].tolist())),
            lambda: dict(x=(batch(1, dtype=int)[0], [*CHANNELS, fewer_channels, larger, as_light]), wanted=(Net(), [other_channels]), packed=(Packed(), [])), exact=False,
        ),
        'rgby_learner': Entry(
            lambda packed, names, wanted: said(learner(packed, names, wanted)),
            dict(packed=(Packed(), PACKED), names=(NAMES, [other_classes, strange_class, fewer]), wanted=(Net(), [*CHANNELS, other_classes, strange_class])),
            exact=False,
        ),
        'rgby_learner.channels': Entry(
            lambda channels: said(learner(channels=channels)), dict(channels=(list(RGBY), LISTED)), exact=False,
        ),
        'rgby_learner.weights': Entry(
            lambda wanted, packed, names: said(learner(packed, names, 'test_resnet', weights=file(wanted), hidden=8, ps=0)),
            dict(wanted=(Net(), [other_channels, other_classes]), packed=(Packed(), [other_rows, other_channels]), names=(NAMES, [other_classes])), exact=False,
        ),
    },
    'learn.callbacks': {
        'label_texts': Entry(
            lambda packed, names: {k: sorted(v.split()) for k, v in sorted(room('learn.callbacks').label_texts(data(range(N), packed, names)).items())},
            dict(packed=(Packed(), PACKED), names=(NAMES, [other_classes])),
        ),
        'KeepBest.admit': Entry(lambda wanted: admitted(wanted), dict(wanted=(Net(), [*CHANNELS, other_classes, strange_class]))),
    },
    'learn.views': {
        'whole': of_picture(lambda x: V().whole(x, 16), exact=False),
        'seeded_crop': of_picture(lambda x: V().seeded_crop(x, 16, 3), exact=False),
        'corner_crop': of_picture(lambda x: V().corner_crop(x, 16, 3)),
        'drawn': of_picture(lambda x: V().drawn(x, 16, 'z2g', 3), exact=False, channels=RGBY[:3]),
        'View.cut': of_picture(lambda x: V().View('own').cut(x, 16), exact=False),
        'seen': of_picture(lambda x: dict(V().seen(x, V().get_views('flips*draws2(z2g)')))[3], exact=False, channels=RGBY[:3]),
    },
    'learn.resume': {
        'set_training_state': Entry(
            lambda packed, names, wanted, fold: resumed(packed, names, wanted, fold),
            dict(
                packed=(Packed(), PACKED), names=(NAMES, [other_classes, fewer]), wanted=(Net(), [other_channels, other_classes]),
                fold=(tuple(FOLDS.fold), [lambda x: x[::-1], lambda x: (1 - x[0], *x[1:])]),
            ),
        ),
    },
    'learn.predict': {
        'batch_probs': Later(
            lambda x, mean, std, wanted: probs_of(x, mean, std, wanted),
            lambda: dict(
                x=(batch(dtype=int), [*CHANNELS, fewer_channels, as_light]),
                mean=(BY_CHANNEL, [*CHANNELS, fewer_channels, nan_value]), std=(BY_CHANNEL, [*CHANNELS, fewer_channels, nan_value]),
                wanted=(Net(), [other_channels, other_classes]),
            ),
            exact=False,
        ),
        'predict_rows': Entry(
            lambda rows, wanted, packed, names: asked(wanted, packed, names, rows=rows),
            dict(rows=(ROWS7.to_numpy(), WHICH), wanted=(Net(), [*CHANNELS, other_classes, strange_class]), packed=(Packed(), [other_channels]), names=(NAMES, [other_classes, strange_class, fewer])),
            exact=False,
        ),
        'predict_rows.store': Entry(lambda packed: asked(packed=packed), dict(packed=(Packed(), PACKED)), exact=False),
        'predict_rows.mean': Entry(
            lambda mean, std, packed: asked(packed=packed, mean=mean, std=std),
            dict(
                mean=(BY_CHANNEL, [*CHANNELS, fewer_channels, nan_value, to_dict]),
                std=(BY_CHANNEL, [*CHANNELS, fewer_channels, nan_value, to_dict]), packed=(Packed(), [other_channels]),
            ),
            exact=False,
        ),
        'predict_rows.vocab': Entry(
            lambda classes: by_id(room('learn.predict').predict_rows(fresh(Net()), store(Packed()), vocab=classes, views='none', progress=False)),
            dict(classes=(NAMES, [as_list, other_classes, strange_class, fewer, class_codes, one_text])), exact=False,
        ),
    },
    'nets.stems': {
        'channel_names': Entry(lambda channels: sorted(room('nets.stems').channel_names(channels)), dict(channels=(RGBY, [other_channels, channel_twice, one_text, numbers]))),
        'widen_stem': Entry(
            lambda channels: by_channel(room('nets.stems').widen_stem(STEM, channels), channels), dict(channels=(RGBY, [other_channels, channel_twice, one_text, numbers, capitals])),
        ),
    },
    'nets.weights': {
        'write_state': Entry(
            lambda state: room('nets.weights').read_state(room('nets.weights').write_state(folder()/'w.safetensors', state, {}))[0],
            dict(state=(dict(a=torch.ones(2), b=torch.zeros(3)), [lambda x: dict(reversed(x.items()))])),
        ),
        'join_trained': Entry(
            lambda ids: room('nets.weights').join_trained(dict(ids=ids, groups=['g1'])),
            dict(ids=(['10580', '7', 'x'], [other_rows, lambda x: [10580, 7, 'x'], twice, lambda x: [*x, None]])),
        ),
        'seen_ids': Entry(
            lambda groups, ids: seen(ids, groups),
            dict(
                groups=(SAMPLES.set_index('id').group, [o for o in ROWS if o is not counted_and_permuted]),
                ids=(list(IDS), [other_rows, pd.Index, pd.Series, lambda x: pd.Series(x[::-1], x[::-1])]),
            ),
        ),
        'seen_ids.columns': Entry(
            lambda ids, groups: seen(ids, groups),
            dict(ids=(SAMPLES.id, [permuted_rows, shorter, without_ids]), groups=(SAMPLES.group, [permuted_rows, shorter])),
        ),
        'find_prefix': Entry(
            lambda names: list(room('nets.weights').find_prefix(names, ['body.a', 'body.b', 'head.c'])), dict(names=(['model.a', 'model.b', 'x'], [other_rows])),
        ),
        'match_state': Entry(
            lambda state: room('nets.weights').match_state(state, dict(a=torch.ones(2), b=torch.ones(3)))[0],
            dict(state=(dict(a=torch.ones(2), b=torch.zeros(3)), [lambda x: dict(reversed(x.items()))])),
        ),
        'output_names': Entry(lambda classes: sorted(room('nets.weights').output_names(classes, 3)), dict(classes=(list(NAMES), [other_classes, *WRONG_NAMES]))),
        'match_classes': Entry(
            lambda theirs, ours: dict(sorted(zip(ours, room('nets.weights').match_classes(torch.eye(3), theirs, torch.zeros(len(ours), 3), ours).tolist()))),
            dict(theirs=(list(NAMES), WRONG_NAMES), ours=(list(NAMES), [other_classes, channel_twice, class_codes, one_text])),
        ),
    },
    'nets.models': {
        'channel_order': Entry(
            lambda there, wanted: dict(sorted(zip(wanted, room('nets.models').channel_order(there, wanted) or range(4)))), dict(there=(list(RGBY), []), wanted=(list(RGBY), LISTED)),
        ),
        **{
            f'RGBYNet.{o}': Later(
                lambda x, wanted, o=o: answers(getattr(fresh(wanted), o)(x), wanted), lambda: dict(x=(batch(), [*CHANNELS, fewer_channels]), wanted=(Net(), [*CHANNELS, other_classes])), exact=False,
            )
            for o in ('forward', 'features')
        },
        'load_weights': Entry(
            lambda path, model: loaded(path, model), dict(path=(Net(), [*CHANNELS, other_classes]), model=(Net(), [*CHANNELS, other_classes])), exact=False,
        ),
        'load_weights.bare': Entry(
            lambda channels, classes: bare(channels, classes), dict(channels=(list(RGBY), LISTED), classes=(list(NAMES), [other_classes, *WRONG_NAMES])), exact=False,
        ),
        'rgby_model': Entry(
            lambda channels, classes: asked_net(room('nets.models').rgby_model('test_resnet', channels=channels, classes=classes, weights=file(Net()), hidden=8, ps=0)),
            dict(channels=(list(RGBY), LISTED), classes=(list(NAMES), [other_classes, *WRONG_NAMES])), exact=False,
        ),
        'rgby_model.imagenet': Later(
            lambda x, channels: imagenet(x, channels), lambda: dict(x=(batch(), [other_channels]), channels=(list(RGBY), [other_channels, channel_twice, one_text, numbers])), exact=False,
        ),
        'save_model.about': Entry(
            lambda classes, trained_on: noted_in(dict(classes=classes, trained_on=dict(ids=trained_on))),
            dict(classes=(list(NAMES), [other_classes, *WRONG_NAMES]), trained_on=(['s01', 's02'], [other_rows, twice])),
        ),
        'save_model': Entry(lambda wanted: asked_net(room('nets.models').load_model(file(wanted))), dict(wanted=(Net(), [other_channels, other_classes])), exact=False),
    },
}

# What takes such arguments by name alone, or is none of these things
EXEMPT = {
    'learn.augment': {
        'BatchCall.change': 'gives the batch, with the names of its channels, to a function of the caller',
        'BatchTransform.change': 'abstract', 'BatchTransform.calm': 'abstract',
        'BatchGain.change': 'draws a factor for each channel', 'BatchLight.change': 'draws factors for each channel, and does adjust_light',
    },
    'learn.loaders': {
        'PictureData.named': 'asked by PictureData', 'PictureData.check': 'asked by PictureData', 'PictureData.batch': 'asked by PictureData',
        'StoreDL.create_batches': 'asked by StoreDL.rows', 'drawn_rows': 'draws by the weights of row_weights',
    },
    'learn.losses': {'FocalLoss.weights': 'asked by FocalLoss'},
    'learn.metrics': {
        'FoldMetric.accumulate': 'asked by MacroF1', 'FoldMetric.note': 'asked by MacroF1',
        'MacroF1.score': 'arrays that FoldMetric gathered', 'MeanAP.score': 'the same', 'MatchedF1.score': 'the same', 'SingleF1.score': 'the same',
    },
    'learn.learner': {'use_precision': 'number formats', 'rng_state': 'asked by set_rng_state'},
    'learn.callbacks': {
        'KeepBest': 'asked by KeepBest.admit', 'Averaging': 'numbers', 'Averaging.recall': 'what it remembered itself',
        'TrainingCallback.recall': 'the same', 'clear_partial': 'removes files', 'restart_best': 'asked by KeepBest.admit',
    },
    'learn.resume': {
        'training_state': 'asked by set_training_state', 'steer': 'writes a wish', 'from_best': 'writes a wish',
    },
    'nets.heads': {
        'AdaptiveConcatPool.forward': 'maps of features, which have no names', 'GeM.forward': 'the same',
        'AttentionPool.forward': 'the same', 'AttentionPool.weights': 'the same',
    },
    'nets.weights': {
        'read_config': 'the recipe that read_state gives, without its tensors',
        'WeightReport': 'holds what match_state found', 'read_state': 'asked by write_state', 'read_about': 'asked by load_weights',
        'sha256': 'bytes', 'imagenet_state': 'asked by rgby_model.imagenet',
    },
    'nets.models': {
        'last_layer': 'kinds and sizes of layers; whose rows they are is asked by load_weights',
        'body_head_split': 'asked by rgby_learner', 'load_model': 'asked by save_model', 'precision_for': 'number formats',
    },
}
