"Every recipe at full size against facts written out by hand: rates, groups, optimiser, views, losses, heads, samplers, augmentation, decisions. Nothing is trained but a toy."
import re
from math import cos, log, pi
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from fastai.callback.training import GradientClip
from fastai.metrics import Metric
from fastai.torch_core import TensorImage
from PIL import Image
from torch import nn

import hpa_lib.run.folder
import hpa_lib.learn.learner
import hpa_lib.run.pipeline
from hpa_lib.core import LearnError, RunError
from hpa_lib.data.labels import HPA28
from hpa_lib.data.probs import reduce_views
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.decide.decision import Decision
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, calibrated_thresholds, threshold_rule
from hpa_lib.learn.augment import NEED_SIZE, BatchWarps, augmentation_names
from hpa_lib.learn.callbacks import (
    Accumulate, Averaging, EarlyStop, FreezeBody, History, KeepBest, Plateau, SampleLog, TrainingCallback,
)
from hpa_lib.learn.predict import predict_rows
from hpa_lib.learn.resume import SteerByHand
from hpa_lib.learn.sampling import sampling_weights
from hpa_lib.learn.schedules import Schedule
from hpa_lib.learn.views import _windows, check_views, drawn, get_views, seeded_crop, seen, shown_side, whole
from hpa_lib.nets.models import RGBYNet
from hpa_lib.run.folder import fit_fold, recipe_callbacks, recipe_learner, seen_side
from hpa_lib.run.pipeline import training_estimate
from hpa_lib.run.recipes import Recipe, check_recipe, load_recipe, recipe_names, save_recipe

SIX = ['bestfitting', 'resnet50_rgb', 'densenet_pipeline', 'fastai_silver', 'z2g', 'default']
TEN = ['Mitochondria', 'Nuclear bodies', 'Nucleoli', 'Golgi apparatus', 'Nucleoplasm', 'Nucleoli fibrillar center', 'Cytosol', 'Plasma membrane', 'Centrosome', 'Nuclear speckles']
KAGGLE = [12885, 1254, 3621, 1561, 1858, 2513, 1008, 2822, 53, 45, 28, 1093, 688, 537, 1066, 21, 530, 210, 902, 1482, 172, 3777, 802, 2965, 322, 8228, 328, 11]


def full(name, *changes):
    "A recipe at full size that downloads nothing; z2g with the ten classes of its contest"
    return load_recipe(name, ['model.weights=none', *([f'data.classes={TEN}'] if name == 'z2g' else []), *changes])


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    "48 pictures of noise at 16 px, packed with four channels and with three, and folds by the row number"
    root, rng, colours = tmp_path_factory.mktemp('recipes'), np.random.default_rng(0), ('red', 'green', 'blue', 'yellow')
    (root/'atlas/train').mkdir(parents=True)
    for i in range(48):
        for c in colours: Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(root/f'atlas/train/s{i:02}_{c}.png')
    pd.DataFrame(dict(Id=[f's{i:02}' for i in range(48)], Target=[f'{i % 28} 25' if i % 28 != 25 else '25' for i in range(48)])).to_csv(root/'atlas/train.csv', index=False)
    made = {n: pack(read_samples(root/'atlas', channels=colours[:n]), root/f'{n}.zarr', 16, colours[:n], progress=False) for n in (3, 4)}
    return SimpleNamespace(of=lambda r: made[len(r.data.channels)], folds=lambda r: pd.DataFrame(dict(id=made[4].samples.id, fold=np.arange(48) % r.split.folds)))


@pytest.fixture(scope='module')
def learners(stores, tmp_path_factory):
    "The Learner of each recipe at full size, made once"
    made = {}
    def learner(name):
        if name not in made:
            r = full(name)
            made[name] = recipe_learner(stores.of(r), stores.folds(r), 0, r, tmp_path_factory.mktemp(name))
            made[name].create_opt()
        return made[name]
    return learner


# --- the rate at every batch, seen by a toy that is trained by each recipe's settings ---

class Toy(RGBYNet):
    "Steep enough that gradients are long"
    def __init__(self, arch, n_out, channels, **kwargs):
        body = nn.Sequential(nn.Conv2d(len(channels), 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU())
        super().__init__(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_out)), dict(channels=list(channels)))
    def forward(self, x): return 100*super().forward(x)


class Scripted(Metric):
    "Better in epochs 0 to 2, never again"
    name = 'single_f1'
    def __init__(self): self.epoch = -1
    def reset(self): self.epoch += 1
    def accumulate(self, learn): pass
    @property
    def value(self): return .1*min(self.epoch, 2)


class Spy(TrainingCallback):
    "What every step did, after all else has had its say"
    order = 99
    def before_fit(self): self.rates, self.speeds, self.norms, self.free = [], [], [], []
    def before_batch(self):
        if self.training: self.rates.append([h['lr'] for h in self.opt.hypers]); self.speeds.append(self.opt.hypers[-1]['mom']); self.free.append([p.requires_grad for p in self.learn.model.parameters()])
    def before_step(self): self.norms.append(torch.cat([p.grad.flatten() for p in self.learn.model.parameters() if p.grad is not None]).norm().item())


@pytest.fixture(scope='module')
def toys(stores, tmp_path_factory):
    "A toy trained by `fit_fold`, two batches an epoch, for all epochs of the recipe; and what was seen"
    made = {}
    def toy(name):
        if name in made: return made[name]
        crop = ['data.crop=8'] if load_recipe(name).data.crop else []
        r = full(name, 'data.size=16', 'train.bs=16', 'train.keep=0', 'train.log=false', 'views.epochs=1', *crop)
        with pytest.MonkeyPatch.context() as m:
            m.setattr(hpa_lib.learn.learner, 'rgby_model', Toy)
            if name == 'resnet50_rgb': m.setattr(hpa_lib.run.folder, 'SingleF1', Scripted)
            else: r.train.stop_after = None
            m.setattr(hpa_lib.run.folder, 'recipe_callbacks', lambda t, start=None: [*recipe_callbacks(t, start), Spy()])
            learn = fit_fold(stores.of(r), stores.folds(r), 0, r, tmp_path_factory.mktemp(f'toy_{name}'), progress=False)
        made[name] = learn
        return learn
    return toy


def one_cycle(top, x): # part of the training that is over -> rate: cosine from a 25th in the first quarter, then cosine to a 100,000th
    a, b, x = (1/25, 1, x/.25) if x < .25 else (1, 1e-5, (x - .25)/.75)
    return top*(b + (a - b)*(1 + cos(pi*x))/2)


def halves(n): return [o/2 for o in range(2*n)] # the moments of a toy's batches, in epochs


RATES = dict(
    bestfitting=[30e-5]*50 + [15e-5]*10 + [7.5e-5]*10 + [3e-5]*10 + [1e-5]*10,           # steps after epochs 25, 30, 35, 40
    resnet50_rgb=[1e-3]*14 + [1e-4]*6,                                                   # best in epoch 2; four worse: a tenth; seven worse: the end
    densenet_pipeline=[one_cycle(8e-4, e/80) for e in halves(80)],
    fastai_silver=[one_cycle(1e-3, e/1) for e in halves(1)] + 5*[one_cycle(1e-3, e/8) for e in halves(8)] + [one_cycle(5e-4, e/8) for e in halves(8)],
    z2g=[one_cycle(.01, e/26) for e in halves(26)],
    default=[one_cycle(2e-3, e/18) for e in halves(18)])


@pytest.mark.parametrize('name', SIX)
def test_rate_of_every_batch_for_body_and_head(toys, name):
    seen = toys(name).spy.rates
    np.testing.assert_allclose(seen, [[o, o] for o in RATES[name]], rtol=2e-5)


@pytest.mark.parametrize('name,moments', [
    ('densenet_pipeline', {0: 3.2e-5, 10: 4.16e-4, 20: 8e-4, 50: 4.00004e-4, 80: 8e-9}),
    ('z2g', {0: 4e-4, 3.25: 5.2e-3, 6.5: .01, 16.25: 5.00005e-3, 26: 1e-7}),              # the code's max_lr .01, so it starts at 4e-4
    ('default', {0: 8e-5, 2.25: 1.04e-3, 4.5: 2e-3, 11.25: 1.00001e-3, 18: 2e-8}),
    ('fastai_silver', {0: 4e-5, .25: 1e-3, 1: 4e-5, 3: 1e-3, 11: 1e-3, 33: 4e-5, 35: 1e-3, 41: 2e-5, 43: 5e-4, 49: 5e-9})])
def test_one_cycle_in_figures(name, moments):
    t = load_recipe(name).train
    s = Schedule(t.schedule, t.lr, t.epochs, t.at)
    for epoch,rate in moments.items(): assert s(epoch/t.epochs) == pytest.approx(rate, rel=1e-5), epoch


@pytest.mark.parametrize('name', ['densenet_pipeline', 'z2g', 'default'])
def test_one_cycle_is_torchs(name):
    t, n = load_recipe(name).train, 100                                                  # batches an epoch: torch counts them a little differently
    opt = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
    theirs, s = torch.optim.lr_scheduler.OneCycleLR(opt, t.lr, total_steps=t.epochs*n, pct_start=.25, div_factor=25, final_div_factor=4000), Schedule(t.schedule, t.lr, t.epochs, t.at)
    for i in range(t.epochs*n - 1):
        assert abs(s(i/(t.epochs*n)) - opt.param_groups[0]['lr']) < 5e-3*t.lr
        opt.step(); theirs.step()


def test_momentum_falls_where_the_rate_rises(toys):
    for name in ('densenet_pipeline', 'z2g', 'default'):
        moms = toys(name).spy.speeds
        assert moms[0] == pytest.approx(.95) and moms[len(moms)//4] == pytest.approx(.85) and moms[-1] > .94
    for name in ('bestfitting', 'resnet50_rgb'): assert set(toys(name).spy.speeds) == {.9}


def test_epochs_and_frozen_first_one(toys):
    assert [len(toys(o).spy.rates)//2 for o in SIX] == [45, 10, 80, 49, 26, 18]
    for name in SIX:
        free, names = toys(name).spy.free, [k for k,_ in toys(name).model.named_parameters()]
        first, later = ({n for n,o in zip(names, row) if not o} for row in (free[0], free[2]))
        assert first == later == set(), name                                             # the toy's body is a stem, which learns, and a batch norm, which always does
    assert [o for o in toys('fastai_silver').cbs if isinstance(o, FreezeBody)][0].epochs == 1


@pytest.mark.parametrize('name', SIX)
def test_long_gradients_are_cut_only_where_it_says_so(toys, name):
    longest = max(toys(name).spy.norms)
    assert longest == pytest.approx(1, rel=1e-3) if name in ('bestfitting', 'densenet_pipeline') else longest > 1.5


# --- optimiser ---

OPTIMISERS = dict(bestfitting=(torch.optim.Adam, 0., False), resnet50_rgb=(torch.optim.Adam, 0., False), densenet_pipeline=(torch.optim.Adam, 0., False), z2g=(torch.optim.AdamW, .01, True))


@pytest.mark.parametrize('name', OPTIMISERS)
def test_optimiser_of_torch(toys, name):
    kind, wd, amsgrad = OPTIMISERS[name]
    opt = toys(name).opt.opt
    assert type(opt) is kind and len(opt.param_groups) == 2
    for g in opt.param_groups: assert (g['weight_decay'], g['amsgrad'], g['betas'][1], g['eps'], g['maximize']) == (wd, amsgrad, .999, 1e-8, False)
    assert amsgrad == all('max_exp_avg_sq' in s for s in opt.state.values())


@pytest.mark.parametrize('name', ['fastai_silver', 'default'])
def test_optimiser_of_fastai(toys, name):
    opt = toys(name).opt
    assert [(h['wd'], h['sqr_mom'], h['eps']) for h in opt.hypers] == [(.01, .99, 1e-5)]*2
    names = [getattr(o, '__name__', 'average_grad') for o in opt.cbs]
    assert names.index('weight_decay') < names.index('adam_step') and 'l2_reg' not in names      # decoupled, as in AdamW


@pytest.mark.parametrize('name', SIX)
def test_batches_and_steps(learners, name):
    learn = learners(name)
    assert learn.dls.train.bs == 32 or name == 'default' and learn.dls.train.bs == 16
    assert learn.dls.train.drop_last and learn.dls.train.shuffle and not learn.dls.valid.shuffle
    assert not [o for o in learn.cbs if isinstance(o, (Accumulate, Averaging))]


# --- network: groups and head ---

STEM = dict(bestfitting=64*4*7*7, densenet_pipeline=64*4*7*7, fastai_silver=64*4*7*7, default=32*4*3*3, resnet50_rgb=0, z2g=0)      # of new channels: learns with the head
HEAD = dict(bestfitting=2*2048 + 2048*1024 + 1024 + 2*1024 + 1024*28 + 28, resnet50_rgb=2048*512 + 512 + 2*512 + 512*28 + 28, fastai_silver=2*2048 + 2048*512 + 2*512 + 512*28 + 28,
            z2g=1280*10 + 10, default=2*2560 + 2560*512 + 512 + 2*512 + 512*28 + 28)
HEAD['densenet_pipeline'] = HEAD['bestfitting']
BODY = dict(bestfitting=6_953_856 - 64*3*7*7, densenet_pipeline=6_953_856 - 64*3*7*7, fastai_silver=6_953_856 - 64*3*7*7, resnet50_rgb=23_508_032, z2g=6_513_184, default=3_371_008 - 32*3*3*3)


@pytest.mark.parametrize('name', SIX)
def test_parameter_groups(learners, name):
    model, names = learners(name).model, {id(p): k for k,p in learners(name).model.named_parameters()}
    body, head = ([names[id(p)] for p in g] for g in learners(name).opt.param_lists)
    assert sorted(body + head) == sorted(names.values())
    firsts = {k for k in names.values() if k in ('body.features.conv0.weight', 'body.conv_stem.weight')} if STEM[name] else set()
    assert {k for k in head if not k.startswith('head.')} == firsts and all(k.startswith('body.') for k in body)
    size = {k: p.numel() for k,p in model.named_parameters()}
    assert sum(size[o] for o in body) == BODY[name] and sum(size[o] for o in head) == HEAD[name] + STEM[name]


def test_bodies_are_torchvisions_in_size():
    count = lambda m: sum(p.numel() for p in m.parameters())
    assert count(torchvision.models.densenet121(weights=None).features) == 6_953_856
    assert count(nn.Sequential(*list(torchvision.models.resnet50(weights=None).children())[:-1])) == 23_508_032
    assert count(torchvision.models.efficientnet_b1(weights=None).features) == 6_513_184


def test_frozen_epoch_of_fastai_silver(learners):
    "Head, stem and batch norms learn in the first epoch, as in fastai; then everything"
    learn = learners('fastai_silver')
    freeze, = [o for o in learn.cbs if isinstance(o, FreezeBody)]
    norms = {f'{k}.{n}' for k,m in learn.model.body.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for n,_ in m.named_parameters()}
    learn.epoch = 0; freeze.before_epoch()
    free = {k for k,p in learn.model.named_parameters() if p.requires_grad}
    assert free == {k for k,_ in learn.model.named_parameters() if k.startswith('head.')} | {'body.features.conv0.weight'} | {f'body.{o}' for o in norms}
    assert sum(p.numel() for k,p in learn.model.named_parameters() if k.removeprefix('body.') in norms) == sum(
        p.numel() for m in torchvision.models.densenet121(weights=None).features.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()) == 83_648
    learn.epoch = 1; freeze.before_epoch()
    assert all(p.requires_grad for p in learn.model.parameters())


CONCAT = ['AdaptiveConcatPool', 'BatchNorm1d 2048', 'Dropout 0.5', 'Linear 2048 1024 bias', 'ReLU', 'BatchNorm1d 1024', 'Dropout 0.5', 'Linear 1024 28 bias']
HEADS = dict(
    bestfitting=CONCAT, densenet_pipeline=CONCAT,
    resnet50_rgb=['AdaptiveAvgPool2d', 'Flatten', 'Linear 2048 512 bias', 'BatchNorm1d 512', 'Linear 512 28 bias'],
    fastai_silver=['AdaptiveConcatPool', 'BatchNorm1d 2048', 'Dropout 0.25', 'Linear 2048 512', 'ReLU', 'BatchNorm1d 512', 'Dropout 0.5', 'Linear 512 28 bias'],
    z2g=['AdaptiveAvgPool2d', 'Flatten', 'Dropout 0.2', 'Linear 1280 10 bias'],
    default=['AdaptiveConcatPool', 'BatchNorm1d 2560', 'Dropout 0.5', 'Linear 2560 512 bias', 'ReLU', 'BatchNorm1d 512', 'Dropout 0.5', 'Linear 512 28 bias'])


def said(m): # type of a layer and what matters of it
    facts = [m.num_features] if isinstance(m, nn.BatchNorm1d) else [m.p] if isinstance(m, nn.Dropout) else [m.in_features, m.out_features, *['bias']*(m.bias is not None)] if isinstance(m, nn.Linear) else []
    return ' '.join(map(str, [type(m).__name__, *facts]))


@pytest.mark.parametrize('name', SIX)
def test_head_layer_by_layer(learners, name):
    assert [said(o) for o in learners(name).model.head] == HEADS[name]


# --- loss, by numpy ---

def _p(z): return 1/(1 + np.exp(-z))
def _bce(z, y): return -y*np.log(_p(z)) - (1 - y)*np.log(1 - _p(z))
def bce(z, y): return _bce(z, y).mean()
def focal(z, y): return (_bce(z, y) * np.exp(2*np.log(_p(-z*(2*y - 1))))).sum(1).mean()
def soft_f1(z, y): return 1 - np.mean([2*(p*t).sum()/(p.sum() + t.sum()) for p,t in zip(_p(z), y)])


def lovasz_hinge(z, y): # of one class
    errors = 1 - z*(2*y - 1)
    order = np.argsort(-errors)
    e, t = errors[order], y[order]
    jaccard = 1 - (t.sum() - t.cumsum())/(t.sum() + (1 - t).cumsum())
    return (np.maximum(e, 0)*np.diff(jaccard, prepend=0)).sum()


def lovasz(z, y): return np.mean([(lovasz_hinge(a, t) + lovasz_hinge(-a, 1 - t))/2 for a,t in zip(z.T, y.T)])


def hardlog(z, y):
    out = []
    for a,t in zip(z.T, y.T):
        pos, neg = a[t == 1], np.sort(a[t == 0])[::-1]
        k = min(len(neg), len(pos) + max(2, len(neg)//2), int(.7*len(neg)) + 2)
        out.append(np.concatenate([-np.log(_p(pos)), -np.log(1 - _p(neg[:k]))]).mean())
    return np.mean(out)


LOSSES = dict(bestfitting=lambda *b: .5*focal(*b) + .5*lovasz(*b) + .5*hardlog(*b), resnet50_rgb=bce, densenet_pipeline=lambda *b: soft_f1(*b) + focal(*b),
              fastai_silver=lambda *b: .5*focal(*b) + .5*soft_f1(*b), z2g=bce, default=focal)


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('name', SIX)
def test_loss_is_that_of_the_formulas(learners, name, seed):
    rng, c = np.random.default_rng(seed), 10 if name == 'z2g' else 28
    z, y = 2*rng.standard_normal((32, c)), (rng.random((32, c)) < rng.uniform(0, .5, c)).astype(float)
    y[:, 3], y[:, 0] = 0, np.maximum(y[:, 0], ~y.any(1))                                  # a class without a positive, no sample without a label
    ours = learners(name).loss_func(torch.tensor(z), torch.tensor(y))
    assert float(ours) == pytest.approx(LOSSES[name](z, y), rel=1e-9)


def test_losses_on_two_answers():
    "One sample, two classes, logits of 0: every probability is a half"
    z, y = np.zeros((1, 2)), np.array([[1., 0.]])
    assert bce(z, y) == pytest.approx(log(2)) and focal(z, y) == pytest.approx(2*.25*log(2)) and soft_f1(z, y) == .5
    assert lovasz(z, y) == 1 and hardlog(z, y) == pytest.approx(log(2))


# --- sampler ---

def kaggle_table(): # one row a label, with Kaggle's counts
    return pd.DataFrame(dict(id=[f'{c}-{i}' for c,n in enumerate(KAGGLE) for i in range(n)], labels=[[HPA28.names[c]] for c,n in enumerate(KAGGLE) for _ in range(n)]))


def test_sampler_of_resnet50_on_kaggles_counts():
    t = load_recipe('resnet50_rgb').train
    w = sampling_weights(table := kaggle_table(), HPA28, t.sampler, t.power)
    by = w.groupby(table.id.str.split('-').str[0].astype(int).to_numpy()).agg(['min', 'max'])
    assert len(table) == sum(KAGGLE) == 50_782 and (by['min'] == by['max']).all()
    np.testing.assert_allclose(by['min'], [min(max(log(.5*50_782/n), 1), 10) for n in KAGGLE])
    assert by['min'][0] == 1 and by['min'][25] == pytest.approx(1.127, abs=1e-3) and by['min'][27] == pytest.approx(7.744, abs=1e-3) and by['min'][16] == pytest.approx(3.869, abs=1e-3)


def test_sampler_takes_the_rarest_label():
    rows = pd.DataFrame(dict(id=list('abcdefgh'), labels=[['Nucleoli'], *[['Nucleoplasm']]*5, ['Nucleoplasm', 'Nucleoli'], ['Nucleoplasm', 'Rods & rings']]))
    w = sampling_weights(rows, HPA28, 'max_log')                                          # 10 labels: 7, 2, 1
    assert w['b'] == 1 and w['a'] == w['g'] == 1 and w['h'] == pytest.approx(log(5))      # ln(5/7) and ln(5/2) are below 1


def test_samplers_in_the_training_batches(learners):
    assert all(learners(o).dls.train.weights is None for o in ('bestfitting', 'densenet_pipeline', 'z2g', 'default'))
    assert len(set(learners('fastai_silver').dls.train.weights)) == 1                     # power 0: uniform
    weights = learners('resnet50_rgb').dls.train.weights
    assert len(weights) == 38 and len(set(weights)) > 1 and all(1 <= o <= 10 for o in weights)


def test_sampler_of_the_silver_solutions_parent_on_kaggles_counts():
    "shares moved by .4 towards 1/28; the rarest of a sample's labels; 101 to 1"
    w = sampling_weights(table := kaggle_table(), HPA28, 'balance', .4)
    by = w.groupby(table.id.str.split('-').str[0].astype(int).to_numpy()).first()
    share = np.array(KAGGLE)/50_782
    np.testing.assert_allclose(by, (share + .4*(1/28 - share))/share)
    assert round(by[27]/by[0]) == 101 and by.idxmax() == 27 and by.idxmin() == 0
    both = pd.concat([table, pd.DataFrame(dict(id=['both'], labels=[[HPA28.names[0], HPA28.names[27]]]))], ignore_index=True)
    w = sampling_weights(both, HPA28, 'balance', .4)
    assert w['both'] == w['27-0'] > w['0-0']


@pytest.mark.parametrize('name', SIX)
def test_the_last_bias_begins_at_the_shares_only_where_the_recipe_says_so(learners, name):
    bias = learners(name).model.head[-1].bias.detach()
    share = learners(name).dls.train_ds.targs.mean(0)
    at_shares = torch.allclose(bias, torch.logit(share.clamp(.5/len(learners(name).dls.train_ds), .5)))
    assert load_recipe(name).model.prior == at_shares == (name == 'default')


# --- augmentation ---

def described(t): # type and settings of a transform
    kind = type(t).__name__
    if isinstance(t, BatchWarps): return kind, [described(o) for o in t.pieces]
    keys = dict(BatchDihedral=[], BatchCrop=['size', 'jitter', 'least'], BatchAffine=['rotate', 'zoom', 'shear', 'shift'], BatchOptical=['k'], BatchBlur=['sigma'], BatchElastic=['strength', 'knots'],
                BatchLight=['brightness', 'contrast'], BatchGain=['gain'], BatchTiles=['tiles'], BatchColour=['limits'])[kind]
    return kind, {k: getattr(t, k) for k in keys}, t.p


AUGMENTED = dict(
    bestfitting=[('BatchDihedral', {}, 1.), ('BatchCrop', dict(size=512, jitter=True, least=None), 1.)],
    resnet50_rgb=[('BatchDihedral', {}, 1.), ('BatchWarps', [('BatchCrop', dict(size=None, jitter=True, least=.5), 1.), ('BatchAffine', dict(rotate=0, zoom=(1, 1), shear=15, shift=0.), .5),
                  ('BatchAffine', dict(rotate=45, zoom=(1/1.1, 1.1), shear=0., shift=1/16), .5), ('BatchOptical', dict(k=.1), .5)]), ('BatchBlur', dict(sigma=1.), .5),
                  ('BatchLight', dict(brightness=.2, contrast=.2), .5)],
    densenet_pipeline=[('BatchDihedral', {}, 1.), ('BatchCrop', dict(size=512, jitter=False, least=None), 1.), ('BatchElastic', dict(strength=.03, knots=6), .5), ('BatchLight', dict(brightness=.2, contrast=0), .5)],
    fastai_silver=[('BatchDihedral', {}, 1.), ('BatchAffine', dict(rotate=20, zoom=(1, 1.2), shear=0., shift=0.), 1.), ('BatchTiles', dict(tiles=3), .5)],
    z2g=[('BatchDihedral', {}, 1.), ('BatchAffine', dict(rotate=45, zoom=(1, 1), shear=0., shift=0.), 1.), ('BatchColour', dict(limits=(.2, .2, .2)), 1.)],
    default=[('BatchDihedral', {}, 1.), ('BatchAffine', dict(rotate=45, zoom=(.8, 1.25), shear=0., shift=0.), 1.), ('BatchGain', dict(gain=1.25), 1.)])


@pytest.mark.parametrize('name', SIX)
def test_augmentation_piece_by_piece(learners, name):
    first, *augs, last = learners(name).dls.train.after_batch.fs
    assert (type(first).__name__, type(last).__name__) == ('IntToFloatTensor', 'Normalize')
    assert [described(o) for o in augs] == AUGMENTED[name]


@pytest.mark.parametrize('name', SIX)
def test_validation_sees_pictures_as_they_are(learners, stores, name):
    "but for the crop: of 512 from 768 the whole picture made smaller, or the middle"
    learn, r = learners(name), full(name)
    augs = learn.dls.train.after_batch.fs[1:-1]
    side = 768 if r.data.crop else 64
    x = torch.rand(2, len(r.data.channels), side, side)
    out = TensorImage(x)
    for t in augs: out = t(out, split_idx=1)
    if name == 'bestfitting': want = nn.functional.interpolate(x, (512, 512), mode='bilinear', antialias=True)
    else: want = x[..., 128:640, 128:640] if name == 'densenet_pipeline' else x
    torch.testing.assert_close(out.as_subclass(torch.Tensor), want)


# --- one scale: what is learned from is validated and asked ---

def looks(stores, path, augment, crop, views, name='default'):
    "What the network is shown: in training, in validation, in prediction (samples x views)"
    changes = ['data.size=16', f'train.augment={augment}', f'views.names={views}', 'train.bs=8', 'views.epochs=1', *([f'data.crop={crop}'] if crop else [])]
    r, shown = full(name, *changes), []
    with pytest.MonkeyPatch.context() as m:
        m.setattr(hpa_lib.learn.learner, 'rgby_model', Toy)
        learn = recipe_learner(stores.of(r), stores.folds(r), 0, r, path)
    train = learn.dls.one_batch()[0]
    learn.model.register_forward_pre_hook(lambda _, x: shown.append(x[0].detach().as_subclass(torch.Tensor)))
    with learn.no_bar(), learn.no_logging(): learn.validate()
    valid, data = torch.cat(shown), learn.dls.valid.dataset
    shown.clear()
    predict_rows(learn.model, data.store, data.rows, data.classes, views, progress=False, crop=seen_side(r))
    return train, valid, torch.stack(shown, 1)


AT_CROP = ('dihedral_crop', 'bestfitting', 'densenet_pipeline', 'resnet50_rgb', 'sized_crop')


@pytest.mark.parametrize('crop', [None, 8, 16])
@pytest.mark.parametrize('augment', augmentation_names())
def test_every_augmentation_is_asked_as_it_is_validated(stores, tmp_path, augment, crop):
    "the same pixels, whichever side the crop has; a window of one size is asked by windows, of which the last is the middle"
    name = 'z2g' if augment == 'z2g' else 'default'
    if augment in NEED_SIZE and not crop:
        with pytest.raises(RunError, match='set data.crop'): looks(stores, tmp_path, augment, crop, 'none', name)
        return
    windows = augment == 'densenet_pipeline'
    if windows and crop < 16:
        with pytest.raises(RunError, match='learns parts of 8 to 8 px of 16'): looks(stores, tmp_path, augment, crop, 'none', name)
    train, valid, asked = looks(stores, tmp_path, augment, crop, 'five_crops' if windows else 'none', name)
    side = crop if crop and augment in AT_CROP else 16
    assert {o.shape[-1] for o in (train, valid, asked)} == {side}
    torch.testing.assert_close(asked[:, -1], valid, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('name', recipe_names())
def test_every_recipe_looks_at_one_side(stores, tmp_path, name):
    "in training, validation and in each of its own views; and its views are of the scale that it learns"
    r = load_recipe(name)
    crop = 8 if r.data.crop else None
    train, valid, asked = looks(stores, tmp_path, r.train.augment, crop, r.views.names, name)
    assert {o.shape[-1] for o in (train, valid, asked)} == {crop or 16} and asked.shape[1] == len(get_views(r.views.names))
    if r.views.names == 'five_crops': torch.testing.assert_close(asked[:, 4], valid, atol=1e-5, rtol=1e-4)
    elif not r.views.names.startswith('draws'): torch.testing.assert_close(asked[:, 0], valid, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('augment', ['default', *AT_CROP])
def test_the_estimate_is_timed_at_the_side_that_is_trained(augment, monkeypatch):
    "what does not crop is trained at the side of the store, whatever data.crop says"
    shown = []
    monkeypatch.setattr(hpa_lib.run.pipeline, 'rgby_model', Toy)
    monkeypatch.setattr(hpa_lib.run.pipeline, '_time_step', lambda model, x: shown.append(x.shape[-1]) or 1.)
    for size, crop in ((24, 16), (24, 24)): training_estimate(full('default', f'data.size={size}', f'data.crop={crop}', f'train.augment={augment}', 'views.names=none' if augment != 'densenet_pipeline' else 'views.names=five_crops'), 28, 100)
    assert shown == [16 if augment in AT_CROP else 24, 24]


@pytest.mark.parametrize('augment', augmentation_names())
@pytest.mark.parametrize('views', ['none', 'dihedral8', 'crops3', 'five_crops', 'draws2(default)', 'draws2(bestfitting)', 'draws2(resnet50_rgb)', 'draws2(densenet_pipeline)'])
@pytest.mark.parametrize('crop', [None, 24, 40])
def test_views_are_of_a_scale_that_is_learned(augment, views, crop):
    "a ramp becomes steeper where it shrinks: no view of an accepted pair is steeper, or flatter, than what is learned"
    if augment in NEED_SIZE and not crop: return
    try: check_views(views, augment, 64, crop)
    except LearnError: return
    ramp = (torch.arange(64.)/128).expand(1, 3, 64, 64)
    out = shown_side(augment, crop) or 64
    low, high = _windows(augment, 64, crop)
    plain = [o for o in get_views(views) if o.cut is not drawn]
    for i,o in seen(ramp, plain, shown_side(augment, crop)):
        inner = o[0, 0, 4:-4, 4:-4]
        slope = max(inner.diff(dim=d).abs().median().item() for d in (0, 1))*128
        assert o.shape[-1] == out and low/out - .02 <= slope <= high/out + .02, (plain[i].name, slope)


# --- callbacks ---

WATCHED = dict(bestfitting=('valid_focal', 1, None, None), resnet50_rgb=('single_f1', 1, 7, (4, .1, 1, 1e-6)), densenet_pipeline=('valid_focal', 1, None, None), fastai_silver=('macro_f1', 1, 16, None),
               z2g=('valid_loss', 6, 5, None), default=('valid_focal', 1, None, None))


@pytest.mark.parametrize('name', SIX)
def test_callbacks(learners, name):
    monitor, keep, stop, plateau = WATCHED[name]
    small = monitor not in ('macro_f1', 'single_f1')
    cbs = {type(o): o for o in learners(name).cbs}
    assert {History, SteerByHand, SampleLog, KeepBest} <= set(cbs)
    assert (cbs[KeepBest].monitor, cbs[KeepBest].k, cbs[KeepBest].small) == (monitor, keep, small)
    assert (EarlyStop in cbs) == bool(stop) and (not stop or (cbs[EarlyStop].monitor, cbs[EarlyStop].patience, cbs[EarlyStop].small) == (monitor, stop, small))
    assert (Plateau in cbs) == bool(plateau) and (not plateau or (cbs[Plateau].monitor, cbs[Plateau].patience, cbs[Plateau].factor, cbs[Plateau].cooldown, cbs[Plateau].min_lr, cbs[Plateau].small, cbs[Plateau].restart) == (monitor, *plateau, small, False))
    assert EarlyStop not in cbs or cbs[EarlyStop].gain == (.001 if name == 'resnet50_rgb' else 0)
    assert (GradientClip in cbs) == (name in ('bestfitting', 'densenet_pipeline')) and (GradientClip not in cbs or (cbs[GradientClip].max_norm, cbs[GradientClip].norm_type) == (1., 2.))
    assert (FreezeBody in cbs) == (name == 'fastai_silver')


def test_learning_goes_down_and_ends_by_patience(toys):
    learn = toys('resnet50_rgb')
    assert len(learn.history.rows) == 10 and learn.lr_scale == .1
    assert [o['single_f1'] for o in learn.history.rows] == pytest.approx([0, .1, *[.2]*8])


# --- views and what is made of them ---

VIEWS = dict(bestfitting=32, resnet50_rgb=10, densenet_pipeline=5, fastai_silver=4, z2g=1, default=8)


@pytest.mark.parametrize('name', SIX)
def test_number_of_views(name):
    r = load_recipe(name)
    views = get_views(r.views.names)
    assert len(views) == VIEWS[name] == len({(v.turn, v.cut, v.args) for v in views}) and r.views.epochs == (6 if name == 'z2g' else 1)


def test_views_of_bestfitting_are_eight_turns_of_four_crops():
    views = get_views(load_recipe('bestfitting').views.names)
    assert sorted((v.turn, v.args) for v in views) == [(k, (i,)) for k in range(8) for i in range(4)] and {v.cut for v in views} == {seeded_crop}
    x = torch.rand(2, 4, 24, 24)
    torch.testing.assert_close(views[0](x, 16), nn.functional.interpolate(x, (16, 16), mode='bilinear', antialias=True))      # turn 0 of crop 0: the whole picture
    turned = {(v.turn, v.args[0]): v(x, 16) for v in views}
    for (k,i),o in turned.items(): torch.testing.assert_close(o, torch.rot90(turned[0,i], k % 4, (2, 3)).flip(-1) if k > 3 else torch.rot90(turned[0,i], k, (2, 3)))
    assert not any(torch.allclose(turned[0,i], turned[0,j]) for i in range(4) for j in range(i))


def test_views_of_the_others():
    x = torch.rand(2, 3, 24, 24)
    five = [v(x, 16) for v in get_views(load_recipe('densenet_pipeline').views.names)]
    for o,(t,l) in zip(five, [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)], strict=True): torch.testing.assert_close(o, x[..., t:t+16, l:l+16])
    for name,n in (('resnet50_rgb', 10), ('fastai_silver', 4)):
        assert [(v.cut, v.args, v.turn) for v in get_views(load_recipe(name).views.names)] == [(drawn, (name, i), 0) for i in range(n)]
    assert [(v.cut, v.args, v.turn) for v in get_views(load_recipe('resnet50_rgb').views.test)] == [(drawn, ('sized_crop', i), 0) for i in range(10)]
    assert all(load_recipe(o).views.test is None for o in SIX if o != 'resnet50_rgb')
    z2g, = get_views(load_recipe('z2g').views.names)
    assert z2g.cut is whole and torch.equal(z2g(x), x)
    assert [(v.cut, v.turn) for v in get_views(load_recipe('default').views.names)] == [(whole, k) for k in range(8)]


@pytest.mark.parametrize('name,want', [('bestfitting', .65), ('densenet_pipeline', .65), ('resnet50_rgb', .4), ('fastai_silver', .4), ('z2g', .4), ('default', .4)])
def test_views_are_reduced_then_folds(name, want):
    "fold 0 says .1 and .9 of a sample, fold 1 says .2 and .4: the largest are .9 and .4, the means .5 and .3"
    v = load_recipe(name).views
    table = pd.DataFrame(dict(id='a', fold=[0, 0, 1, 1], view=[0, 1, 0, 1], Nucleoli=[.1, .9, .2, .4]))
    assert reduce_views(table, v.reduce, v.folds).loc['a', 'Nucleoli'] == pytest.approx(want)


# --- decisions ---

def decided(name, probs, thresholds): # names of the labels of each row
    d = load_recipe(name).decide
    return Decision(thresholds=dict(zip(probs, thresholds)), fallbacks=d.fallbacks, cap=d.cap, rule=d.rule).decide(probs.rename_axis('id')).tolist()


def test_cascade_of_z2g():
    "the published .5, .46, .445 of a sum of weights 7 divided by 6, on the mean: the same labels"
    d = load_recipe('z2g').decide
    assert (d.rule, d.fallbacks, d.cap) == ('fixed(0.429)', [.394, .381, 'argmax'], None)
    assert [.429, .394, .381] == [round(o*6/7, 3) for o in (.5, .46, .445)]
    probs = pd.DataFrame([[.6, .40, .1], [.42, .40, .395], [.39, .385, .38], [.38, .3, .2], [.45, .46, .47]], columns=list('abc'), index=list('vwxyz'))
    thresh = threshold_rule(d.rule)(probs.to_numpy(), np.zeros((5, 3), int))
    assert list(thresh) == [.429]*3
    labels = decided('z2g', probs, thresh)
    assert labels == [['a'], ['a', 'b', 'c'], ['a', 'b'], ['a'], ['a', 'b', 'c']]          # .429; .394; .381; argmax; .429
    as_it_ran = Decision(thresholds=dict.fromkeys(probs, .5), fallbacks=[.46, .445, 'argmax'])
    assert as_it_ran.decide((probs*7/6).rename_axis('id')).tolist() == labels


def fixed_case(n=400, c=6):
    rng = np.random.default_rng(0)
    y = (rng.random((n, c)) < np.linspace(.05, .5, c)).astype(int)
    return _p(2*rng.standard_normal((n, c)) + 3*y - 2), y


def test_rules():
    p, y = fixed_case()
    assert [load_recipe(o).decide.rule for o in SIX] == ['ratio', 'single', 'soft_f1', 'exact', 'fixed(0.429)', DEFAULT_RULE]
    fitted = {o: np.asarray(threshold_rule(load_recipe(o).decide.rule)(p, y)) for o in SIX}
    np.testing.assert_array_equal((p > fitted['bestfitting']).sum(0), y.sum(0))                         # as many as in training
    f1 = lambda t: np.array([2*((q > t_) & (b == 1)).sum()/((q > t_).sum() + b.sum()) for q,b,t_ in zip(p.T, y.T, np.broadcast_to(t, 6))])
    assert len(set(fitted['resnet50_rgb'])) == 1 and f1(fitted['resnet50_rgb'][0]).mean() >= max(f1(t).mean() for t in np.linspace(0, 1, 101)) - 1e-9
    every = [max(2*((q > t) & (b == 1)).sum()/((q > t).sum() + b.sum()) for t in [-1, *q[q < q.max()]]) for q,b in zip(p.T, y.T)]
    np.testing.assert_allclose(f1(fitted['fastai_silver']), every)
    np.testing.assert_array_equal(fitted['default'], calibrated_thresholds(p, y)); assert (f1(fitted['default']) > .75*np.array(every)).all()
    assert len(set(fitted['densenet_pipeline'].round(6))) == 6 and (f1(fitted['densenet_pipeline']) > .7*np.array(every)).all()


@pytest.mark.parametrize('name', SIX)
def test_an_empty_row_gets_the_likeliest_class(name):
    d, probs = load_recipe(name).decide, pd.DataFrame([[.1, .3, .2], [.9, .1, .8]], columns=list('abc'), index=['none', 'two'])
    assert d.fallbacks[-1] == 'argmax' and d.cap == (5 if name == 'fastai_silver' else None)
    assert decided(name, probs, [.5]*3) == [['b'], ['a', 'c']]


def test_never_more_than_five_labels():
    probs = pd.DataFrame([np.linspace(.9, .6, 7)], columns=list('abcdefg'), index=['x'])
    for name,n in (('bestfitting', 7), ('fastai_silver', 5), ('default', 7)): assert decided(name, probs, [.5]*7) == [list('abcdefg')[:n]]


# --- what is read and how it is split ---

def test_data_and_split():
    facts = {o: ((r := load_recipe(o)).data.channels, r.data.size, r.data.crop, r.split.folds, r.split.by, r.model.arch, r.model.weights) for o in SIX}
    rgb = ['red', 'green', 'blue']
    rgby = [*rgb, 'yellow']
    assert facts == dict(bestfitting=(rgby, 768, 512, 5, 'group', 'densenet121', 'imagenet'), resnet50_rgb=(rgb, 512, None, 5, 'group', 'resnet50', 'imagenet'),
                         densenet_pipeline=(rgby, 768, 512, 5, 'group', 'densenet121', 'imagenet'), fastai_silver=(rgby, 512, None, 5, 'group', 'densenet121', 'imagenet'),
                         z2g=(rgb, 512, None, 10, 'group', 'tf_efficientnet_b1', 'imagenet'), default=(rgby, 160, None, 5, 'group', 'tf_efficientnet_lite0', 'imagenet'))
    assert load_recipe('z2g', scale='small').data.classes == TEN


# --- files ---

@pytest.mark.parametrize('scale', [None, 'small'])
@pytest.mark.parametrize('name', SIX)
def test_recipes_load_and_come_back(tmp_path, name, scale):
    r = load_recipe(name, scale=scale)
    again = load_recipe(save_recipe(r, tmp_path/'r.toml'))
    assert again == r and r.name == name and [o.name for o in tmp_path.iterdir()] == ['r.toml']
    changed = load_recipe(tmp_path/'r.toml', ['train.seed=7'])
    assert changed != r and changed.train.seed == 7


def test_all_recipes_are_known(tmp_path):
    assert set(recipe_names()) == {*SIX, 'demo'}
    r = load_recipe('demo')
    assert load_recipe(save_recipe(r, tmp_path/'r.toml')) == r
    with pytest.raises(RunError, match="demo has no scale 'small'"): load_recipe('demo', scale='small')


TYPOS = [('data.chanels', '["red"]', 'data.chanels', 'channels'), ('split.fold', '3', 'split.fold', 'folds'), ('model.archi', '"resnet18"', 'model.archi', 'arch'), ('train.epoch', '3', 'train.epoch', 'epochs'),
         ('views.name', '"none"', 'views.name', 'names'), ('decide.rules', '"exact"', 'decide.rules', 'rule'), ('trian.epochs', '3', 'trian', 'train'),
         ('model.arch', '"densenet12"', 'model.arch', 'densenet121'), ('model.stem', '"red_coppy"', 'model.stem', 'red_copy'), ('model.head', '"concatpool"', 'model.head', 'concat_pool'),
         ('split.twins', '"verifid"', 'split.twins', 'verified'), ('train.loss', '"focall"', 'train.loss', 'focal'), ('train.loss', '"0.5*focal + 0.5*lovas"', 'train.loss', 'lovasz'),
         ('train.opt', '"adamm"', 'train.opt', 'adam'), ('train.schedule', '"one_cycl"', '', 'one_cycle'), ('train.augment', '"bestfiting"', 'train.augment', 'bestfitting'),
         ('train.mix', '"mixupp"', 'train.mix', 'mixup'), ('train.sampler', '"maxlog"', 'train.sampler', 'max_log'), ('train.monitor', '"valid_fokal"', 'train.monitor', 'valid_focal'),
         ('train.average', '"emma"', 'train.average', 'ema'), ('views.names', '"dihedral9"', 'views.names', 'dihedral8'), ('views.names', '"draws4(fastai_silvr)"', 'views.names', 'fastai_silver'),
         ('views.reduce', '"maxx"', 'views.reduce', 'max'), ('views.folds', '"meen"', 'views.folds', 'mean'), ('decide.rule', '"exactt"', 'decide.rule', 'exact'),
         ('decide.fallbacks', '["argmx"]', 'decide.fallbacks', 'argmax'), ('model.weights', '"imagnet"', 'model.weights', 'imagenet')]


@pytest.mark.parametrize('where', ['change', 'file', 'small'])
@pytest.mark.parametrize('key,value,named,near', TYPOS, ids=[f'{k}={v}' for k,v,*_ in TYPOS])
def test_typos_are_named_with_what_was_meant(tmp_path, key, value, named, near, where):
    if where == 'change': call = lambda: load_recipe('default', [f'{key}={value}'])
    else:
        section, name = key.split('.')
        (tmp_path/'r.toml').write_text(f'[{section}]\n{name} = {value}\n' if where == 'file' else f'name = "r"\n[small]\n{key} = {value}\n', encoding='utf-8')
        call = lambda: load_recipe(tmp_path/'r.toml')
    with pytest.raises(RunError) as e: call()
    assert named in str(e.value) and re.search(rf"(did you mean|Input should be|give a threshold|known are) .*\b{near}\b", str(e.value)), str(e.value)
    if where == 'small': assert '[small]' in str(e.value)


def test_a_name_like_none_gets_the_nearest_of_a_thousand():
    with pytest.raises(RunError, match="timm knows no 'banana'; did you mean '[^', ]+'\\?$"):
        load_recipe('default', ['model.arch=banana'])


@pytest.mark.parametrize('change,says', [
    ('train.at=[30, 25, 35, 40]', 'ascend'), ('train.lr=[1e-3, 1e-4]', '2 learning rates'), ('data.crop=900', 'larger than data.size'), ('data.crop=0', 'data.crop'), ('train.epochs=0', 'train.epochs'),
    ('train.wd=-1', 'train.wd'), ('model.ps=1.0', 'model.ps'), ('split.folds=1', 'split.folds'), ('train.restart=true', 'plateau'), ('views.epochs=2', 'train.keep'), ('train.clip=0', 'train.clip'),
    ('train.bs="many"', 'train.bs'), ('train=3', 'cannot read the change'), ('train.epochs', 'cannot read the change')])
def test_impossible_values_are_refused(change, says):
    with pytest.raises(RunError, match=says): load_recipe('bestfitting', [change])


def test_all_faults_are_told_at_once():
    with pytest.raises(RunError) as e: load_recipe('default', ['train.epoch=3', 'views.reduce=maxx', 'model.ps=2'])
    assert all(o in str(e.value) for o in ('train.epoch', 'views.reduce', 'model.ps'))


def test_small_keeps_what_makes_the_recipe():
    "A small recipe changes size, network and length, never loss, views, augmentation, sampler or decision"
    for name in SIX:
        big, small = (load_recipe(name, scale=o).model_dump() for o in (None, 'small'))
        changed = {f'{s}.{k}' for s,v in big.items() if isinstance(v, dict) for k in v if v[k] != small[s][k]}
        assert changed <= {'data.size', 'data.crop', 'data.classes', 'split.folds', 'model.arch', 'model.hidden', 'train.epochs', 'train.lr', 'train.at', 'train.bs', 'train.plateau', 'train.stop_after', 'train.keep', 'views.epochs'}, name


SECTIONS = [o for o in Recipe.model_fields if o != 'name']
NO_TABLES = ['3', '0.5', 'true', '"text"', '[]', '["a"]', '[1]', '2026-01-02', '[[1]]']


@pytest.mark.parametrize('value', NO_TABLES)
@pytest.mark.parametrize('section', SECTIONS)
def test_a_section_that_is_no_table_is_named(section, value, tmp_path):
    "In a file, in its overlay and in a change: the file, the section and how a section is written"
    if section == 'source' and value == '[]': return                                   # no source is no fault
    mine = tmp_path/'mine.toml'
    table = '[[source]]' if section == 'source' else f'[{section}]'
    for text in (f'{section} = {value}', f'[small]\n{section} = {value}'):
        mine.write_text(text)
        with pytest.raises(RunError) as e: load_recipe(mine)
        assert 'mine.toml' in str(e.value) and f'{section} = ' in str(e.value) and table in str(e.value)
    with pytest.raises(RunError, match=re.escape(table)): check_recipe({section: 3})
    mine.write_text(f'small = {value}')
    with pytest.raises(RunError, match='mine.toml: small = '): load_recipe(mine)


@pytest.mark.parametrize('section', [o for o in SECTIONS if o != 'source'])
def test_a_list_of_tables_is_no_section(section, tmp_path):
    (tmp_path/'mine.toml').write_text(f'[[{section}]]\n')
    with pytest.raises(RunError, match=re.escape(f'write [{section}]')): load_recipe(tmp_path/'mine.toml')
    (tmp_path/'mine.toml').write_text('[[source]]\npath = "here"\n')
    with pytest.raises(RunError, match="change 'source.path=there'"): load_recipe(tmp_path/'mine.toml', ['source.path=there'])


@pytest.mark.parametrize('value', ['3', '"one"', '[3]', 'true'])
def test_runs_of_a_blend_are_a_list_of_folders(value, tmp_path):
    (tmp_path/'mine.toml').write_text(f'[blend]\nruns = {value}\n')
    with pytest.raises(RunError, match='blend.runs'): load_recipe(tmp_path/'mine.toml')


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path/'mine.toml').write_bytes('name = "Zürich"'.encode('latin-1'))
    with pytest.raises(RunError, match='mine.toml is no TOML'): load_recipe(tmp_path/'mine.toml')
