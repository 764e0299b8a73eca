"Augmentation beyond the page: draws from torch alone, resuming to the bit in a fit, and mixing with our losses."
import random

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import TensorImage, TensorMultiCategory
from torch import nn

from hpa_lib.core import LearnError
from hpa_lib.learn import augment as A
from hpa_lib.learn.losses import get_loss
from hpa_lib.learn.tensors import TensorRGBY

PIECES = dict(
    dihedral=A.BatchDihedral,
    affine=lambda: A.BatchAffine(shear=15, shift=.1),
    optical=A.BatchOptical,
    elastic=A.BatchElastic,
    gain=A.BatchGain,
    light=A.BatchLight,
    colour=A.BatchColour,
    blur=A.BatchBlur,
    tiles=lambda: A.BatchTiles(p=1.),
    crop=lambda: A.BatchCrop(24),
    fixed=lambda: A.BatchCrop(24, jitter=False),
    warps=lambda: A.BatchWarps([A.BatchCrop(24, least=.5), A.BatchAffine(p=.5), A.BatchOptical(p=.5)]),
)
WITH_P = dict(
    affine=A.BatchAffine, optical=A.BatchOptical, elastic=A.BatchElastic, gain=A.BatchGain,
    light=A.BatchLight, colour=A.BatchColour, blur=A.BatchBlur, tiles=A.BatchTiles,
)


def pictures(n=6, c=3, size=32, seed=0):
    x = torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(seed))
    return TensorRGBY(x, channels=('red', 'green', 'blue', 'yellow')[:c])


def through(name, x, size=24):
    for t in sorted(A.augmentation(name, size), key=lambda o: o.order):
        x = t(x, split_idx=0)
    return x


@pytest.mark.parametrize('name', PIECES)
def test_every_piece_draws_from_torch_alone(name):
    tfm, x = PIECES[name](), pictures()
    python, numpy, state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = tfm(x, split_idx=0)
    assert random.getstate() == python and (np.random.get_state()[1] == numpy).all()
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    assert torch.equal(tfm(x, split_idx=0), first)
    assert isinstance(first, TensorRGBY) and first.channels == x.channels
    assert torch.equal(x, pictures())                                      # the input is left alone


@pytest.mark.parametrize('name', WITH_P)
def test_p_is_per_sample_and_the_others_are_left_alone(name):
    x = pictures(n=200, size=16)
    torch.manual_seed(0)
    out = WITH_P[name](p=.3)(x, split_idx=0)
    changed = (out != x).flatten(1).any(1).as_subclass(torch.Tensor)
    assert 35 <= int(changed.sum()) <= 85                                  # 60 are expected
    assert torch.equal(WITH_P[name](p=0.)(x, split_idx=0), x)


@pytest.mark.parametrize('name', A.augmentation_names())
def test_sets_keep_values_in_range_and_channels_apart(name):
    c = 3 if name == 'z2g' else 4
    x = pictures(c=c, size=48)
    if c == 4:
        x[:, 3] = 0                                                        # dark stays dark: no channel leaks into another
    out = through(name, x)
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= (1.25001 if name == 'default' else 1.00001)
    assert c == 3 or out[:, 3].abs().max() == 0


def test_sets_take_any_number_of_channels_but_z2g_three():
    for name in A.augmentation_names():
        if name != 'z2g':
            assert through(name, pictures(c=1, size=48)).shape[1] == 1
    with pytest.raises(LearnError, match='three channels'):
        through('z2g', pictures(c=4))


@pytest.mark.parametrize('angle, zoom, shift', [(0, 1, (0, 0)), (25, 1.3, (.1, -.2)), (-110, .7, (0, .25))])
def test_affine_is_torchvisions(angle, zoom, shift):
    x = torch.rand(1, 2, 20, 20)
    one = lambda o: torch.tensor([o], dtype=torch.float32)
    ours = A.affine(x, A.affine_matrices(one(angle), one(zoom), shift=one(shift)), pad='zeros')
    theirs = tv.affine(x, -angle, [20*o for o in shift], zoom, [0., 0.], interpolation=tv.InterpolationMode.BILINEAR)
    # ours turns about the middle and then shifts, as theirs does; the picture agrees wherever both look inside
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_warps_in_one_step_equal_warps_one_by_one_on_a_smooth_picture():
    i = torch.linspace(-1, 1, 96)
    x = TensorImage(torch.exp(-3*(i[:, None]**2 + (i - .2)**2)).expand(4, 2, -1, -1))
    still = [A.BatchAffine(rotate=0, zoom=(1.2, 1.2)), A.BatchAffine(rotate=0, zoom=(1.1, 1.1)), A.BatchOptical(0)]
    one = A.BatchWarps(still)(x, split_idx=0)
    for t in still:
        x = t(x, split_idx=0)
    assert (one - x).abs().max() < 2e-3


def test_pieces_of_warps_have_their_own_p():
    torch.manual_seed(1)
    x = pictures(n=200, size=16)
    warps = A.BatchWarps([A.BatchAffine(rotate=0, zoom=(2, 2), p=.5), A.BatchOptical(0)])
    out = warps(x, split_idx=0).as_subclass(torch.Tensor)
    twice = A.affine_matrices(torch.zeros(200), torch.full((200,), 2.))
    zoomed = A.affine(x.as_subclass(torch.Tensor), twice)
    near = lambda a: (out - a.as_subclass(torch.Tensor)).abs().flatten(1).amax(1) < 1e-4
    assert 70 <= int(near(x).sum()) <= 130 and (near(x) | near(zoomed)).all()


class Chain(Callback):
    "Keeps a digest of every training batch after augmentation and mixing"
    order, run_valid = 99, False
    def __init__(self): self.seen = []
    def before_batch(self): self.seen.append((self.xb[0].double().sum().item(), self.yb[0].double().sum().item()))


def learner(mix='none', loss='bce', n=32):
    g = torch.Generator().manual_seed(0)
    items = []
    for _ in range(n):
        x = TensorRGBY(torch.rand(4, 16, 16, generator=g))
        y = TensorMultiCategory((torch.rand(5, generator=g) < .3).float())
        items.append((x, y))
    torch.manual_seed(0)
    tfms = A.augmentation('fastai_silver') + [A.BatchLight(p=.5)]
    dls = DataLoaders.from_dsets(items, items, bs=8, device='cpu', after_batch=tfms)
    dls.train.rng.seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4*16*16, 5))
    chain = Chain()
    return Learner(dls, net, loss_func=get_loss(loss), cbs=[*A.mixing(mix), chain]), chain


@pytest.mark.parametrize('mix', ['none', 'mixup', 'cutmix'])
def test_a_fit_is_the_same_again_from_torchs_state(mix):
    runs = []
    for other in (1, 2):
        learn, chain = learner(mix)
        random.seed(other)
        np.random.seed(other)
        torch.manual_seed(7)
        learn.dls.train.rng.seed(0)
        with learn.no_logging():
            learn.fit(1)
        runs.append((chain.seen, learn.model[1].weight.detach().clone()))
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])


@pytest.mark.parametrize('mix', ['mixup', 'cutmix'])
@pytest.mark.parametrize('loss', ['bce', 'focal'])
def test_mixing_with_multi_hot_targets_and_our_losses(mix, loss):
    learn, chain = learner(mix, loss)
    before = learn.model[1].weight.detach().clone()
    with learn.no_logging():
        learn.fit(2, 1e-2)
    assert not torch.equal(learn.model[1].weight, before) and np.isfinite(learn.recorder.values).all()
    assert all(0 < y < 40 for _, y in chain.seen)
    assert type(learn.loss_func).__name__ == dict(bce='BCELoss', focal='FocalLoss')[loss]


def test_mixed_targets_are_weighted_means():
    torch.manual_seed(0)
    learn, _ = learner('cutmix')
    keep = []

    class Keep(Callback):
        order, run_valid = 98, False
        def before_batch(self): keep.append(self.yb[0].as_subclass(torch.Tensor))
    learn.add_cb(Keep())
    with learn.no_logging():
        learn.fit(1)
    ys = torch.cat(keep)
    assert ys.min() >= 0 and ys.max() <= 1 and ((ys > 0) & (ys < 1)).any()


@pytest.mark.parametrize('call, words', [
    (lambda: A.augmentation('bestfiting'), "did you mean 'bestfitting'"),
    (lambda: A.augmentation('densenet_pipeline'), 'size of the crop'),
    (lambda: A.mixing('mixupp'), "did you mean 'mixup'"),
    (lambda: through('resnet50_rgb', pictures(), 40), 'pack a larger store, or crop less'),
    (lambda: A.BatchBlur(p=2), 'between 0 and 1'),
])
def test_errors_name_the_cure(call, words):
    with pytest.raises(LearnError, match=words):
        call()
