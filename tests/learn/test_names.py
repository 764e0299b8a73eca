"Rows, channels and classes are matched by name, or refused: every order of the channels, and every way to give rows."
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.data.block import DataBlock, MultiCategoryBlock
from fastai.data.transforms import IndexSplitter
from PIL import Image

from hpa_lib.core import HPAError, LearnError, NetError, RunError
from hpa_lib.data.labels import HPA28, Vocab
from hpa_lib.data.samples import RGBY, read_samples
from hpa_lib.data.store import pack
from hpa_lib.decide.decision import Decision
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import RGBYBlock, StoreData, channels_of, draw_weights, numbered_rows, row_weights, store_dls, store_rows
from hpa_lib.learn.predict import predict_rows
from hpa_lib.learn.tensors import TensorRGBY
from hpa_lib.nets.models import load_weights, rgby_model, save_model
from hpa_lib.run.bundle import Bundle, save_bundle

NAMES = [HPA28.names[i] for i in (0, 2, 25)]
ORDERS = list(permutations(RGBY))


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    "24 pictures at 16 px; each channel is brighter than the one before"
    folder, rng = tmp_path_factory.mktemp('names')/'atlas', np.random.default_rng(0)
    (folder/'train').mkdir(parents=True)
    for i in range(24):
        for k,c in enumerate(RGBY): Image.fromarray(rng.integers(0, 60*(k + 1), (16, 16), np.uint8)).save(folder/f'train/s{i:02}_{c}.png')
    pd.DataFrame(dict(Id=[f's{i:02}' for i in range(24)], Target=[['0', '2', '0 25'][i % 3] for i in range(24)])).to_csv(folder/'train.csv', index=False)
    return read_samples(folder)


@pytest.fixture(scope='module')
def stores(samples, tmp_path_factory):
    "The same pictures with their channels in any order"
    root, made = tmp_path_factory.mktemp('stores'), {}
    def store(channels=RGBY):
        if channels not in made: made[channels] = pack(samples, root/f'{"".join(o[0] for o in channels)}.zarr', 16, channels, progress=False)
        return made[channels]
    return store


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return rgby_model('test_resnet', weights=None, hidden=8, classes=NAMES).eval()


def folds_of(store): return pd.DataFrame(dict(id=store.samples.id, fold=np.arange(24) % 3))
def dls_of(store, vocab=Vocab(NAMES, [0, 2, 25]), **kwargs): return store_dls(store, folds_of(store), 0, vocab, bs=8, device='cpu', **kwargs)


# --- channels ---

@pytest.mark.parametrize('order', ORDERS, ids=lambda o: ''.join(c[0] for c in o))
def test_a_store_in_any_order_gives_the_same_answer(stores, net, order):
    "by `predict_rows`, and for the batches of its DataLoaders, which know the names of their channels"
    want = predict_rows(net, stores(), vocab=Vocab(NAMES), views='flips', progress=False)
    got = predict_rows(net, stores(order), vocab=Vocab(NAMES), views='flips', progress=False)
    pd.testing.assert_frame_equal(got, want, atol=1e-5)
    pairs = zip(dls_of(stores(order)).valid, dls_of(stores()).valid)
    for (x,_),(same,_) in pairs:
        assert x.channels == order
        with torch.no_grad(): torch.testing.assert_close(net(x), net(same), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('order', ORDERS[1::5], ids=lambda o: ''.join(c[0] for c in o))
def test_a_learner_takes_no_other_order(stores, net, samples, tmp_path, order):
    "neither when it is made, nor to validate, to predict or to train later on; from a store, and from a DataBlock"
    block = DataBlock((RGBYBlock(order), MultiCategoryBlock(vocab=NAMES)), get_y=lambda o: o.labels, splitter=IndexSplitter(list(range(8))))
    learn = rgby_learner(dls_of(stores()), net, path=tmp_path)
    for dls in (dls_of(stores(order)), block.dataloaders(samples, bs=4, num_workers=0)):
        assert channels_of(dls.valid) == list(order)
        with pytest.raises(NetError, match='the network reads red, green, blue, yellow'): rgby_learner(dls, net, path=tmp_path)
        with pytest.raises(NetError, match='the network reads'): learn.validate(dl=dls.valid)
        with pytest.raises(NetError, match='the network reads'): learn.get_preds(dl=dls.valid)
        assert rgby_learner(dls, 'test_resnet', weights=None, hidden=8, path=tmp_path).model.channels == list(order)
    learn.dls = dls_of(stores(order))
    with pytest.raises(NetError, match='the network reads'): learn.fit(1)


@pytest.mark.parametrize('order', ORDERS[1::5], ids=lambda o: ''.join(c[0] for c in o))
def test_weights_that_know_their_channels(stores, net, tmp_path, order):
    "fill no network of another order, be it the Learner's"
    file = save_model(net, tmp_path/'w.safetensors')
    with pytest.raises(NetError, match='weights for red, green, blue, yellow do not fit'): rgby_learner(dls_of(stores(order)), 'test_resnet', weights=file, hidden=8, path=tmp_path)
    learn = rgby_learner(dls_of(stores(order)), 'test_resnet', weights=None, hidden=8, path=tmp_path)
    with pytest.raises(NetError, match='do not fit'): load_weights(learn.model, file)
    with pytest.raises(NetError, match='leave channels= out'): load_weights(learn.model, file, channels=order)


def test_as_many_other_channels_are_refused(stores, net):
    "four of four, and one of them is called otherwise"
    white = rgby_model('test_resnet', weights=None, hidden=8, channels=['red', 'green', 'blue', 'white']).eval()
    with pytest.raises(NetError, match='white'): predict_rows(white, stores(), vocab=Vocab(NAMES), progress=False)
    with pytest.raises(NetError, match='white'): white(dls_of(stores()).one_batch()[0])
    with pytest.raises(NetError, match='white'): dls_of(stores()).test_dl([TensorRGBY(torch.zeros(4, 16, 16, dtype=torch.uint8), channels=tuple(white.channels))])


@pytest.mark.parametrize('order', ORDERS[::5], ids=lambda o: ''.join(c[0] for c in o))
def test_a_bundle_reads_stores_of_any_order(stores, net, tmp_path, order):
    decision = Decision(thresholds=dict.fromkeys(NAMES, .5))
    bundle = Bundle(save_bundle(tmp_path/'b', save_model(net, tmp_path/'w.safetensors'), stores(), Vocab(NAMES), decision, views='none'), device='cpu')
    want, got = bundle.predict(stores(), progress=False), bundle.predict(stores(order), progress=False)
    pd.testing.assert_frame_equal(got[['id', 'labels', *NAMES]], want[['id', 'labels', *NAMES]], atol=1e-5)
    mask = np.arange(24) % 7 == 3
    assert bundle.predict_store(stores(order), mask, progress=False).id.tolist() == stores().samples.id[mask].tolist()
    with pytest.raises(RunError, match='its store has'): save_bundle(tmp_path/'c', tmp_path/'w.safetensors', stores(ORDERS[7]), Vocab(NAMES), decision)


ALL = slice(None)
PARTS = dict(
    one=0, some=slice(1, 3), backwards=[2, 0, 1], numbers=torch.tensor([1, 0]), flags=np.array([False, True, True, False]), new=(None, 0), last=(..., slice(0, 2)), first_last=(0, ..., slice(0, 2)),
    second=(ALL, [1, 0]), second_one=(ALL, 1), every_other=(ALL, slice(None, None, 2)), rows=(..., slice(1, 2), ALL, ALL), pairs=(torch.tensor([1, 0]), torch.tensor([0, 1])), pixels=(..., 0), near=(ALL, ALL, slice(0, 2)),
)


@pytest.mark.parametrize('batch', [False, True])
@pytest.mark.parametrize('how', PARTS)
def test_a_part_names_the_channels_that_are_in_it(batch, how):
    "every plane holds the number of its channel; a part without whole planes is a plain tensor"
    order = RGBY[::-1]
    planes = torch.arange(4.).view(4, 1, 1).expand(4, 3, 3)
    x = TensorRGBY(torch.stack([planes]*4) if batch else planes.clone(), channels=order)
    part = x[PARTS[how]]
    assert torch.equal(part.as_subclass(torch.Tensor), x.as_subclass(torch.Tensor)[PARTS[how]]) and x.channels == order
    if not isinstance(part, TensorRGBY) or part.ndim < 3: return
    want = torch.tensor([float(order.index(c)) for c in part.channels]).view(-1, 1, 1)
    assert (part.as_subclass(torch.Tensor) == want).all(), part.channels


# --- classes ---

@pytest.mark.parametrize('names', permutations(NAMES))
def test_classes_by_name(stores, net, tmp_path, names):
    want = predict_rows(net, stores(), vocab=Vocab(NAMES), views='none', progress=False)
    got = predict_rows(net, stores(), vocab=Vocab(names), views='none', progress=False)
    assert list(got.columns[3:]) == list(names)
    pd.testing.assert_frame_equal(got[want.columns], want)
    if list(names) == NAMES: return
    dls = dls_of(stores(), Vocab(names))
    with pytest.raises(NetError, match='are not the 3 classes of the data'): rgby_learner(dls, net, path=tmp_path)
    with pytest.raises(NetError, match='are not the 3 classes of the data'): rgby_learner(dls_of(stores()), net, path=tmp_path).validate(dl=dls.valid)
    with pytest.raises(RunError, match='where its vocabulary has'):
        save_bundle(tmp_path/'b', save_model(net, tmp_path/'w.safetensors'), stores(), Vocab(names), Decision(thresholds=dict.fromkeys(names, .5)))


def test_classes_that_nobody_knows(stores, net):
    with pytest.raises(LearnError, match='which the vocabulary lacks'): predict_rows(net, stores(), vocab=Vocab([*NAMES[:2], 'Vesicles']), progress=False)
    with pytest.raises(LearnError, match="does not know the classes 'Vesicles'"): dls_of(stores(), Vocab([*NAMES, 'Vesicles']))


# --- rows ---

AS = dict(array=lambda m: m, list=lambda m: m.tolist(), column=pd.Series, nullable=lambda m: pd.Series(m).astype('boolean'), objects=lambda m: m.astype(object), tensor=torch.from_numpy, index=pd.Index)


@pytest.mark.parametrize('how', AS)
@pytest.mark.parametrize('seed', range(3))
def test_a_mask_is_its_rows(stores, net, how, seed):
    "wherever rows are taken"
    store, mask = stores(), np.random.default_rng(seed).random(24) < .3
    rows, given, dls = np.flatnonzero(mask), AS[how](mask), dls_of(stores())
    for data in (StoreData(store, given), dls.test_dl(given).dataset, dls.valid.new(given).dataset):
        assert data.rows.tolist() == rows.tolist()
        assert np.array_equal(data.batch(range(len(rows)))[0], store.batch(rows))
    want = predict_rows(net, store, rows, Vocab(NAMES), 'none', progress=False)
    pd.testing.assert_frame_equal(predict_rows(net, store, given, Vocab(NAMES), 'none', progress=False), want)
    assert row_weights(store, given, store.vocab, 'balance') == row_weights(store, rows, store.vocab, 'balance')


BAD = dict(short=np.ones(3, bool), long=np.ones(25, bool), ids=['s01', 's02'], floats=[0., 1.], negative=[-1], beyond=[24], square=np.ones((24, 1), bool),
           holes=pd.Series([True, None]*12, dtype='boolean'), elsewhere=pd.Series(np.ones(24, bool), [f's{i:02}' for i in range(24)]))


@pytest.mark.parametrize('what', BAD)
def test_what_is_no_row_is_refused(stores, net, what):
    store, rows = stores(), BAD[what]
    with pytest.raises(HPAError): numbered_rows(store, rows)
    with pytest.raises(HPAError): StoreData(store, rows)
    with pytest.raises(HPAError): dls_of(store).test_dl(rows)
    with pytest.raises(HPAError): predict_rows(net, store, rows, Vocab(NAMES), progress=False)


@pytest.mark.parametrize('as_type', [int, float, str, object, 'category'])
def test_folds_of_samples_that_are_called_by_numbers(as_type):
    "10, 10.0 and '10' are one; folds of more samples than the store has, in any order"
    samples = pd.DataFrame(dict(id=['13', '10', '12', '11'], labels=[['Cytosol']]*4, is_test=False))
    folds = pd.DataFrame(dict(id=pd.Series([10, 11, 12, 13, 99]).astype(as_type), fold=[0, 1, 0, 1, 1]))
    train, valid = store_rows(SimpleNamespace(ok=np.array([False, True, True, True]), samples=samples), folds, 0)
    assert (train.tolist(), valid.tolist()) == ([3], [1, 2])


@pytest.mark.parametrize('seed', range(5))
def test_weights_by_id_are_weights_by_place(stores, seed):
    store, rng = stores(), np.random.default_rng(seed)
    rows, weights = rng.permutation(24)[:9], rng.random(9)
    by_id = pd.Series(weights, store.samples.id.to_numpy()[rows]).sample(frac=1, random_state=seed)
    assert draw_weights(by_id, StoreData(store, rows)) == draw_weights(by_id.to_dict(), StoreData(store, rows)) == weights.tolist()
    with pytest.raises(LearnError, match='weights by id'): draw_weights(by_id, StoreData(store, np.setdiff1d(range(24), rows)[:9]))


# --- samples that are seen once ---

def test_a_fold_is_scored_whole(stores, net, tmp_path):
    "the score does not depend on the batch size; a pass that drops or repeats samples has none"
    learn = rgby_learner(dls_of(stores()), net, path=tmp_path)
    valid, n = learn.dls.valid, len(learn.dls.valid.dataset)
    with learn.no_bar(), learn.no_logging():
        scores = [list(learn.validate(dl=valid.new(bs=bs)))[1:] for bs in (1, 3, n)]
        for o in scores[1:]: assert o == pytest.approx(scores[0], abs=1e-6)
        for bad in (dict(bs=3, drop_last=True), dict(draws=n + 1), dict(draws=n - 1), dict(weights=[1.]*(n - 1) + [0.])):
            with pytest.raises(LearnError, match='showed'): learn.validate(dl=valid.new(**bad))
        assert len(learn.get_preds(dl=valid.new(bs=3, drop_last=True))[0]) == n                 # fastai asks about all of them
