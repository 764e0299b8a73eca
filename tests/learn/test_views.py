"Views beyond the page: every word, products, bundles with crops, and a run of the network on real pictures."
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from hpa_lib.core import LearnError
from hpa_lib.data.probs import reduce_views
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.learn.augment import dihedral
from hpa_lib.learn.predict import batch_probs, predict_rows
from hpa_lib.learn.views import get_views, seen
from hpa_lib.nets.models import RGBYNet
from hpa_lib.synth.atlas import make_atlas

WORDS = [
    'none', 'flips', 'dihedral4', 'dihedral8', 'crops1', 'crops4', 'five_crops',
    'draws3(default)', 'draws2(bestfitting)', 'draws2(resnet50_rgb)', 'draws2(densenet_pipeline)',
    'dihedral8*crops4', 'crops2*flips', 'flips*draws2(fastai_silver)',
]


def toy(n_out=3):
    torch.manual_seed(0)
    return RGBYNet(nn.Conv2d(4, 8, 3, stride=2), nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, n_out)),
                   dict(channels=['red', 'green', 'blue', 'yellow'])).eval()


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp('views')
    return pack(read_samples(make_atlas(root/'atlas', n=6, size=64, seed=3)), root/'a.zarr', size=64, progress=False)


@pytest.mark.parametrize('text', WORDS)
def test_every_word_is_reproducible_and_blind_to_the_batch(store, text):
    views, x = get_views(text), torch.from_numpy(store.batch([0, 1, 2])).float()/255
    assert len({v.name for v in views}) == len(views)
    state = torch.get_rng_state()
    shown, alone = dict(seen(x, views, 40)), dict(seen(x[1:2], views, 40))
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(shown) == list(range(len(views)))
    for i, v in enumerate(views):
        assert shown[i].shape == (3, 4, 40, 40) and torch.allclose(shown[i], v(x, 40))
        assert torch.allclose(shown[i][1:2], alone[i], atol=1e-6)


def test_table_is_a_loop_by_hand(store):
    net, views = toy(), get_views('dihedral8*crops4')
    x = torch.from_numpy(store.batch([0, 3])).float()/255
    m, s = (torch.tensor(o, dtype=torch.float32)[:, None, None] for o in (store.mean, store.std))
    with torch.no_grad():
        by_hand = torch.stack([net((v(x, 32) - m)/s).sigmoid() for v in views], 1)
    ours = batch_probs(net, store.batch([0, 3]), store.mean, store.std, views, 32)
    assert torch.allclose(ours, by_hand, atol=1e-5)
    table = predict_rows(net, store, [0, 3], store.vocab.subset('0 1 2'), 'dihedral8*crops4', progress=False, crop=32)
    assert np.allclose(table.iloc[:, 3:].to_numpy().reshape(2, 32, 3), by_hand, atol=1e-5)
    assert table.view.tolist() == [*range(32)]*2 and table.id.tolist() == np.repeat(store.samples.id[[0, 3]], 32).tolist()


def test_mean_of_eight_turns_does_not_know_how_the_slide_lay(store):
    net, x = toy(), store.batch([1])
    for k in range(8):
        turned = dihedral(torch.from_numpy(x), k).contiguous().numpy()
        p, q = (batch_probs(net, o, store.mean, store.std, get_views('dihedral8'), 32).mean(1) for o in (x, turned))
        assert torch.allclose(p, q, atol=1e-5)


def test_without_a_cut_the_whole_picture_is_shown_at_the_crops_side(store):
    net, vocab = toy(), store.vocab.subset('0 1 2')
    plain, first = (predict_rows(net, store, vocab=vocab, views=o, crop=32, progress=False).iloc[:, 3:] for o in ('none', 'crops1'))
    assert np.array_equal(plain, first)


@pytest.mark.parametrize('how', ['mean', 'max', 'logit_mean', 'quantile(0)', 'quantile(.5)', 'quantile(1)'])
def test_reducing_is_numpys(how):
    rng = np.random.default_rng(0)
    p = rng.random((4, 3, 5, 2))                                             # id, fold, view, class
    keys = np.stack(np.meshgrid(range(4), range(3), range(5), indexing='ij'), -1).reshape(-1, 3)
    table = pd.DataFrame(keys, columns=['id', 'fold', 'view']).join(pd.DataFrame(p.reshape(-1, 2), columns=['a', 'b'])).sample(frac=1, random_state=0)
    f = dict(mean=lambda o: o.mean(2), max=lambda o: o.max(2), logit_mean=lambda o: 1/(1 + np.exp(-np.log(o/(1 - o)).mean(2))))
    one = f[how](p) if how in f else np.quantile(p, float(how[9:-1]), 2)
    for folds, expected in dict(mean=one.mean(1), max=one.max(1), logit_mean=1/(1 + np.exp(-np.log(one/(1 - one)).mean(1)))).items():
        out = reduce_views(table, how, folds)
        assert out.index.tolist() == table.id.drop_duplicates().tolist()
        assert np.allclose(out.sort_index(), expected)


def test_maximum_over_views_is_averaged_over_folds():
    table = pd.DataFrame(dict(id='a', fold=[0, 0, 1, 1], view=[0, 1, 0, 1], c=[.1, .9, .2, .4]))
    assert reduce_views(table, 'max').c['a'] == pytest.approx(.65)           # (.9 + .4)/2; the maximum of all is .9
    assert reduce_views(table, 'max', 'max').c['a'] == .9


def test_sure_views_do_not_make_infinities():
    table = pd.DataFrame(dict(id='a', fold=0, view=[0, 1], c=np.array([0, 1], np.float32)))
    assert reduce_views(table, 'logit_mean').c['a'] == pytest.approx(.5, abs=.05)


@pytest.mark.parametrize('text, words', [
    ('dihedral', 'did you mean'),
    ('crops', "did you mean 'crops4'"),
    ('five_crop', "did you mean 'five_crops'"),
    ('draws3(resnet)', 'no augmentation called'),
    ('draws0(default)', 'no views called'),
    ('dihedral8*flips', 'two turns'),
    ('crops2*draws2(default)', 'two cuts'),
    ('', 'no views called'),
])
def test_unknown_views_are_refused(text, words):
    with pytest.raises(LearnError, match=words):
        get_views(text)


def test_bundle_keeps_its_crop_at_every_scale(store, tmp_path):
    from hpa_lib.decide.decision import Decision
    from hpa_lib.nets.models import rgby_model, save_model
    from hpa_lib.run.bundle import Bundle, save_bundle
    three = store.vocab.subset('0 2 25')
    net = save_model(rgby_model('resnet18', n_out=3, weights=None, hidden=16), tmp_path/'0.safetensors')
    half = Decision(thresholds={o: .5 for o in three})
    def made(name, **k): return Bundle(save_bundle(tmp_path/name, [net], store, three, half, views='flips', **k))
    whole, cropping = made('whole'), made('crop', crop=32)
    assert whole.crop is None and cropping.crop == 32 and cropping.facts['members'][0]['crop'] == 32 and cropping.facts['format'] == 2
    far = store.samples.drop(columns=['status', 'error', 'height', 'width']).assign(pixel_size=2*store.pixel_size)
    near = cropping.predict(far, rescale=True, progress=False)
    big = pack(far, tmp_path/'big.zarr', 128, progress=False)                # twice the pixels, shown at 64
    how = dict(vocab=three, views='flips', mean=store.mean, std=store.std, progress=False, crop=64)
    by_hand = reduce_views(predict_rows(cropping.models[0], big, **how))
    assert np.allclose(near[three.names], by_hand[three.names], atol=1e-5)


def test_real_fields(real, tmp_path):
    store = pack(read_samples(real/'fields512')[:3], tmp_path/'f.zarr', size=256, progress=False)
    table = predict_rows(toy(28), store, views='dihedral8*crops4', crop=128, progress=False)
    assert len(table) == 3*32 and table.iloc[:, 3:].apply(lambda o: o.between(0, 1).all()).all()
    assert table.groupby('view').mean(numeric_only=True).iloc[:, 1:].std().max() > 0      # views differ
