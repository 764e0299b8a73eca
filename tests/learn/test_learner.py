"What a fastai user types at a Learner on red, green, blue and yellow: it works, from a store and from a DataBlock."
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.block import DataBlock, MultiCategoryBlock
from fastai.data.transforms import IndexSplitter
from fastai.learner import Learner, load_learner
from fastai.vision.all import Interpretation  # from there, for it brings `plot_top_losses` for pictures
from PIL import Image
from safetensors import safe_open
from torch import nn

from hpa_lib.core import NetError
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.learn.callbacks import KeepBest
from hpa_lib.learn.learner import NonFiniteLoss, rgby_learner, start_at_prior
from hpa_lib.learn.loaders import RGBYBlock, store_dls
from hpa_lib.nets.models import RGBYNet, load_model, rgby_model, save_model
from hpa_lib.nets.weights import read_about, seen_ids

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

pytestmark = pytest.mark.slow
NAMES = [HPA28.names[i] for i in (0, 2, 25)]


class Tiny(RGBYNet):
    "A network of one convolution"
    def __init__(self, n_out=3):
        body = nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU())
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, n_out))
        super().__init__(body, head, dict(channels=['red', 'green', 'blue', 'yellow']))


@pytest.fixture(scope='module')
def atlas(tmp_path_factory):
    "30 pictures at 16 px of three classes: one class lights up green, one red, one both"
    folder, rng = tmp_path_factory.mktemp('training')/'atlas', np.random.default_rng(0)
    (folder/'train').mkdir(parents=True)
    for i in range(30):
        for c,on in dict(red=i % 3 != 0, green=i % 3 != 1, blue=False, yellow=False).items():
            Image.fromarray(rng.integers(0, 250 if on else 60, (16, 16), np.uint8)).save(folder/f'train/s{i:02}_{c}.png')
    targets = [['0', '2', '0 25'][i % 3] for i in range(30)]
    pd.DataFrame(dict(Id=[f's{i:02}' for i in range(30)], Target=targets)).to_csv(folder/'train.csv', index=False)
    return folder


@pytest.fixture(scope='module')
def store(atlas): return pack(read_samples(atlas), atlas.parent/'s.zarr', 16, progress=False)


@pytest.fixture
def from_store(store, tmp_path):
    torch.manual_seed(0)
    folds = pd.DataFrame(dict(id=store.samples.id, fold=[int(i >= 20) for i in range(30)]))
    return rgby_learner(store_dls(store, folds, 1, HPA28.subset('0 2 25'), bs=4, tfms='dihedral'), Tiny(), path=tmp_path)


@pytest.fixture
def from_block(atlas, tmp_path):
    torch.manual_seed(0)
    block = DataBlock((RGBYBlock(), MultiCategoryBlock(vocab=NAMES)), get_y=label_names, splitter=IndexSplitter(list(range(20, 30))))
    return rgby_learner(block.dataloaders(read_samples(atlas), bs=4, num_workers=0), Tiny(), path=tmp_path)


def label_names(row): return row.labels # of a row of the samples table; by name, so that `export` can pickle it


@pytest.fixture(params=['from_store', 'from_block'])
def learn(request):
    learn = request.getfixturevalue(request.param)
    with learn.no_bar(), learn.no_logging(): yield learn
    plt.close('all')


def weights(learn): return {k: v.clone() for k,v in learn.model.state_dict().items()}


def losses(learn): return [float(o) for o in learn.recorder.losses]


# --- training ---

def test_lr_find_proposes_and_leaves_no_trace(learn):
    was = weights(learn)
    found = learn.lr_find(num_it=30)
    assert 1e-7 < found.valley < 10 and plt.get_fignums()
    assert all(torch.equal(v, was[k]) for k,v in learn.model.state_dict().items()) and not (learn.path/'nan_batch.safetensors').exists()
    assert [o.name for o in learn.path.rglob('*') if o.is_file()] == []


def test_fit_one_cycle_learns(learn):
    learn.fit_one_cycle(6, .05)
    assert len(learn.recorder.values) == 6 and len(learn.recorder.lrs) == 30                 # five batches of four per epoch
    assert max(learn.recorder.lrs) <= .05 and np.argmax(learn.recorder.lrs) in (6, 7, 8)                                 # the first quarter goes up
    assert np.mean(losses(learn)[-5:]) < np.mean(losses(learn)[:5])
    assert learn.recorder.metric_names == ['epoch', 'train_loss', 'valid_loss', 'valid_focal', 'macro_f1', 'matched_f1', 'mean_ap', 'time']


class Free(Callback):
    "Names of what learns in each epoch"
    def before_fit(self): self.seen = getattr(self, 'seen', [])
    def before_train(self): self.seen.append({k for k,p in self.learn.model.named_parameters() if p.requires_grad})


def test_fine_tune_freezes_then_frees(learn):
    learn.add_cb(Free())
    learn.model.body.append(nn.Conv2d(6, 6, 1))                                                                         # a layer behind the stem
    learn.fine_tune(2, 1e-2)
    first, *later = learn.free.seen
    everything = {k for k,_ in learn.model.named_parameters()}
    assert everything - first == {'body.3.weight', 'body.3.bias'}                            # stem and batch norm learn with the head
    assert later == [everything]*2
    assert learn.opt.hypers[0]['lr'] < learn.opt.hypers[1]['lr']


# --- looking ---

def test_show_results_and_show_batch(learn):
    learn.show_results(max_n=4)
    pictures = [o for o in plt.gcf().axes if o.images]
    assert len(pictures) == 4
    assert all(o.images[0].get_array().shape[-1] == 3 for o in pictures)                     # yellow is mixed in, never transparency
    titles = [o.get_title() for o in pictures]
    assert any(n in t for t in titles for n in NAMES)
    plt.close('all')
    learn.dls.show_batch(max_n=2)
    assert len([o for o in plt.gcf().axes if o.images]) == 2


def test_interpretation(learn):
    interp = Interpretation.from_learner(learn)
    each, order = interp.top_losses()
    assert len(each) == 10 and sorted(order.tolist()) == list(range(10)) and each.tolist() == sorted(each.tolist(), reverse=True)
    preds, targs, again = learn.get_preds(with_loss=True)
    torch.testing.assert_close(again[order].as_subclass(torch.Tensor), each.as_subclass(torch.Tensor))
    few, _ = interp.top_losses(3, largest=False)
    torch.testing.assert_close(few, each.flip(0)[:3])
    interp.plot_top_losses(3)
    assert len([o for o in plt.gcf().axes if o.images]) == 3


def test_interpretation_shows_the_samples_it_names(learn):
    interp = Interpretation.from_learner(learn)
    _, order = interp.top_losses(3)
    inps, preds, targs, decoded, each = interp[order]
    all_preds, all_targs = learn.get_preds()
    torch.testing.assert_close(preds, all_preds[order])
    torch.testing.assert_close(targs, all_targs[order])


# --- answers ---

def test_get_preds(learn):
    probs, targs, hard, each = learn.get_preds(with_loss=True, with_decoded=True)
    assert probs.shape == targs.shape == (10, 3) and each.shape == (10,) and 0 < probs.min() and probs.max() < 1        # probabilities, not logits
    assert torch.equal(hard, probs > .5)
    p = probs.double().numpy()
    y = targs.numpy()
    q = np.where(y == 1, p, 1 - p)
    np.testing.assert_allclose(each, (-(1 - q)**2*np.log(q)).sum(1), rtol=1e-4)                                          # focal loss of each sample
    assert [set(np.array(NAMES)[o == 1]) for o in y] == [[{NAMES[0]}, {NAMES[1]}, {NAMES[0], NAMES[2]}][i % 3] for i in range(20, 30)]


def test_predict(learn, request, store, atlas):
    items = store if 'store' in request.node.callspec.id else [row for _,row in read_samples(atlas).iterrows()]
    probs, _ = learn.get_preds()
    for i in (20, 23, 29):
        names, hard, p = learn.predict(items[i])
        torch.testing.assert_close(p.as_subclass(torch.Tensor), probs[i - 20].as_subclass(torch.Tensor), rtol=1e-4, atol=1e-5)
        assert list(names) == [n for n,o in zip(NAMES, p) if o > .5] and hard.tolist() == (p > .5).tolist()


def test_export_and_load(learn, request, store, atlas):
    i = store[21] if 'store' in request.node.callspec.id else read_samples(atlas).iloc[21]
    names, _, probs = learn.predict(i)
    Learner.export(learn, 'all.pkl')                  # fastai's pickle; `learn.export` writes a bundle
    again = load_learner(learn.path/'all.pkl')
    with again.no_bar(), again.no_logging(): there, _, p = again.predict(i)
    torch.testing.assert_close(p, probs)
    assert list(there) == list(names) and list(again.dls.vocab) == NAMES


# --- a loss that is no number ---

class Spoil(Callback):
    "Picture 2 of the second batch is broken"
    order = -50
    def before_batch(self):
        if not self.training or self.iter != 1: return
        x = self.xb[0].clone()
        x[2, 1, 3, 3] = float('nan')
        self.learn.xb = (x,)


def test_the_batch_of_a_nan_is_kept(from_store):
    learn = from_store
    words = 'epoch 0, batch 1; 1 pictures of the batch hold NaN.*look at the data'
    with learn.no_bar(), learn.no_logging(), pytest.raises(NonFiniteLoss, match=words): learn.fit(1, 1e-3, cbs=[Spoil()])
    with safe_open(learn.path/'nan_batch.safetensors', 'pt') as f:
        kept, ids = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()['ids'].split(' ')
    assert kept['pictures'].shape == (4, 4, 16, 16) and torch.isnan(kept['pictures']).nonzero().tolist() == [[2, 1, 3, 3]]
    assert len(ids) == 4 and set(ids) <= {f's{i:02}' for i in range(20)}
    rows = [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert kept['targets'].tolist() == [rows[int(o[1:]) % 3] for o in ids]                   # the ids are those of these pictures
    assert torch.isnan(kept['logits']).any()


def test_a_rate_far_too_high_says_so(from_store):
    learn = from_store
    with torch.no_grad(): learn.model.head[-1].bias.fill_(float('inf'))
    words = 'the pictures are finite: lower the learning rate .now 0.5.'
    with learn.no_bar(), learn.no_logging(), pytest.raises(NonFiniteLoss, match=words): learn.fit(1, .5)
    with safe_open(learn.path/'nan_batch.safetensors', 'pt') as f: assert torch.isfinite(f.get_tensor('pictures')).all()


# --- what a network knows of itself ---

def test_a_learner_names_classes_and_samples(learn):
    assert learn.model.about['classes'] == NAMES
    assert learn.model.about['trained_on']['ids'] == [f's{i:02}' for i in range(20)]


def test_files_of_a_training_carry_them(store, tmp_path):
    folds = pd.DataFrame(dict(id=store.samples.id, fold=[int(i >= 20) for i in range(30)]))
    dls = store_dls(store, folds, 1, HPA28.subset('0 2 25'), bs=4, tfms='none')
    learn = rgby_learner(dls, 'test_resnet', weights=None, hidden=8, path=tmp_path, cbs=[KeepBest()])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    file = learn.keep_best.file(0)
    train, valid = (store.samples.iloc[o.dataset.rows] for o in dls.loaders)
    assert read_about(file) == load_model(file).about == learn.model.about
    assert seen_ids(file, valid.id, valid.group) == ([], [], True)
    assert seen_ids(learn.model, train.id).ids == train.id.tolist()
    assert seen_ids(file, ['other'], [train.group.iloc[3]]).ids == ['other']
    # Other samples are added, by a fit on other DataLoaders too
    learn.dls = store_dls(store, folds.assign(fold=1 - folds.fold), 1, HPA28.subset('0 2 25'), bs=4, tfms='none')
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert seen_ids(learn.model, valid.id).ids == valid.id.tolist() and seen_ids(learn.model, train.id).ids == train.id.tolist()


def test_a_start_keeps_its_classes_from_the_prior(store, tmp_path):
    "By name, in another order, with one that is new: only that one starts at its share"
    folds = pd.DataFrame(dict(id=store.samples.id, fold=[int(i >= 20) for i in range(30)]))
    old = rgby_model('test_resnet', weights=None, hidden=8, classes=[NAMES[2], 'Vesicles', NAMES[0]])
    file = save_model(old, tmp_path/'old.safetensors', dict(trained_on=dict(ids=['theirs'], groups=['g'])))
    dls = store_dls(store, folds, 1, HPA28.subset('0 2 25'), bs=4, tfms='none')
    net = rgby_learner(dls, 'test_resnet', weights=file, hidden=8, path=tmp_path).model
    assert torch.equal(net.head[-1].bias[[2, 0]], old.head[-1].bias[[0, 2]]) and torch.equal(net.head[-1].weight[[2, 0]], old.head[-1].weight[[0, 2]])
    assert net.head[-1].bias[1].sigmoid().item() == pytest.approx(dls.train_ds.targs[:, 1].mean().item(), abs=1e-5)
    assert "classes: 2 filled by name, 1 fresh ('Nucleoli')" in str(net.filled).replace(NAMES[1], 'Nucleoli') and "'Vesicles'" in str(net.filled)
    assert 'theirs' in net.about['trained_on']['ids'] and len(net.about['trained_on']['ids']) == 21
    was = net.head[-1].bias.clone()
    assert torch.equal(start_at_prior(net, dls.train_ds.targs).head[-1].bias, was)
    # A file without names: the body only, and every class at its share
    nameless = rgby_model('test_resnet', n_out=3, weights=None, hidden=8)
    net = rgby_learner(dls, 'test_resnet', weights=save_model(nameless, tmp_path/'nameless.safetensors'), hidden=8, path=tmp_path).model
    assert net.head[-1].bias.sigmoid().tolist() == pytest.approx(dls.train_ds.targs.mean(0).clamp(max=.5).tolist(), abs=1e-5)
    assert net.filled.fresh == tuple(NAMES)


def test_a_network_for_other_data_is_refused(store, atlas, tmp_path):
    folds = pd.DataFrame(dict(id=store.samples.id, fold=[int(i >= 20) for i in range(30)]))
    net = Tiny()
    net.about['classes'] = [NAMES[1], NAMES[0], NAMES[2]]
    dls = store_dls(store, folds, 1, HPA28.subset('0 2 25'), bs=4)
    with pytest.raises(NetError, match='from number 0 on'): rgby_learner(dls, net, path=tmp_path)
    mixed = pack(read_samples(atlas), tmp_path/'mixed.zarr', 16, ['green', 'red', 'blue', 'yellow'], progress=False)
    dls = store_dls(mixed, folds, 1, HPA28.subset('0 2 25'), bs=4)
    with pytest.raises(NetError, match='the store has green, red'): rgby_learner(dls, Tiny(), path=tmp_path)
