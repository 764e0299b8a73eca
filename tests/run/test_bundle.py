"Bundles beyond the page: members that differ in everything, bundles of before, what is refused, and what survives."
import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.losses import CrossEntropyLossFlat
from fastai.torch_core import TensorImage
from fasttransform import Transform
from PIL import Image
from torch import nn

from hpa_lib.core import RunError
from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.labels import HPA28, Vocab
from hpa_lib.data.probs import reduce_views
from hpa_lib.data.reading import Reading
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.decide.blend import Blend
from hpa_lib.decide.decision import Decision
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import batch_transforms, store_dls
from hpa_lib.learn.predict import predict_rows
from hpa_lib.nets.models import Precision, load_model, rgby_model, save_model
from hpa_lib.run.bundle import Bundle, Member, save_bundle, save_members
from hpa_lib.synth.atlas import make_atlas

THREE = HPA28.subset('0 2 25')
HALF = Decision(thresholds=dict.fromkeys(THREE.names, .5))
RGB = ['red', 'green', 'blue']


def network(path, channels=('red', 'green', 'blue', 'yellow'), n_out=3, seed=0):
    torch.manual_seed(seed)
    net = rgby_model('test_resnet', n_out, channels, weights=None, hidden=8)
    torch.manual_seed(seed)
    nn.init.normal_(net.head[-1].weight, std=3)                       # answers that differ from picture to picture
    return save_model(net, path)


@pytest.fixture(scope='module')
def samples(tmp_path_factory): return read_samples(make_atlas(tmp_path_factory.mktemp('bundle')/'atlas', n=10, size=64, seed=2, progress=False))


@pytest.fixture(scope='module')
def store(samples, tmp_path_factory): return pack(samples, tmp_path_factory.mktemp('store')/'s.zarr', 64, progress=False)


@pytest.fixture(scope='module')
def rgb(samples, tmp_path_factory):
    "Red, green and blue of some samples only, at half the size: other statistics"
    return pack(samples[:6], tmp_path_factory.mktemp('store')/'rgb.zarr', 32, RGB, progress=False)


@pytest.fixture(scope='module')
def members(store, rgb, tmp_path_factory):
    "Two members with nothing in common but their classes"
    root = tmp_path_factory.mktemp('weights')
    nets = [network(root/f'{i}.safetensors', seed=i) for i in range(3)]
    wide = Member.of(nets, store, 'flips*crops2', THREE, reduce='max', crop=48, folds=[0, 0, 1], name='wide')
    other = network(root/'n.safetensors', RGB, seed=5)
    narrow = Member.of([other], rgb, 'dihedral4', THREE, reduce_folds='max', name='narrow')
    assert not np.allclose(wide.mean[:3], narrow.mean, atol=1e-4)
    return wide, narrow


def opened(path):
    "A bundle whose networks compute in float32, on every machine"
    return Bundle(path, 'cpu', Precision())


def blending(how='mean', **weights):
    return HALF.model_copy(update=dict(blend=Blend(how=how, weights=weights or dict(wide=.6, narrow=.4), classes=THREE.names)))


@pytest.fixture(scope='module')
def both(members, tmp_path_factory): return opened(save_members(tmp_path_factory.mktemp('both')/'both', members, THREE, blending()))


def by_hand(m, store):
    "A member's probabilities without any bundle"
    how = dict(vocab=THREE, views=m.views, mean=np.array(m.mean), std=np.array(m.std), crop=m.crop, progress=False)
    tables = [predict_rows(load_model(o), store, fold=k, **how) for o,k in zip(m.weights, m.folds)]
    return reduce_views(pd.concat(tables), m.reduce, m.reduce_folds)


def spoken(f, *args, **kwargs):
    "What a call answers, and what it warns of"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        out = f(*args, **kwargs)
    return out, [str(o.message) for o in heard if o.category is UserWarning]


# --- several members ---

def test_members_predict_as_alone(both, members, samples, store, tmp_path):
    answer, heard = spoken(both.predict, samples, progress=False)
    rgb = pack(samples, tmp_path/'rgb.zarr', 32, RGB, progress=False)
    wide, narrow = by_hand(members[0], store)[THREE.names], by_hand(members[1], rgb)[THREE.names]
    assert heard == [] and np.abs(wide - narrow).to_numpy().max() > .05
    assert np.allclose(answer[THREE.names], .6*wide + .4*narrow, atol=1e-5)
    for m,hand in zip(members, (wide, narrow)):
        alone = opened(save_members(tmp_path/m.name, [m], THREE, HALF)).predict(samples, progress=False)
        assert np.allclose(alone[THREE.names], hand, atol=1e-5)
    likeliest = (.6*wide + .4*narrow).loc[answer.id]
    for names,(_,p) in zip(answer.labels, likeliest.iterrows()):
        assert names == ([o for o in THREE if p[o] > .5] or [p.idxmax()])


def test_a_picture_is_decoded_once_for_all_members(both, samples, monkeypatch):
    from hpa_lib.data import store as packing
    opened = []
    real = packing.open_sample
    monkeypatch.setattr(packing, 'open_sample', lambda row, *a: opened.append(row['green']) or real(row, *a))
    both.predict(samples, progress=False)
    assert sorted(opened) == sorted(samples.green)


def test_a_store_serves_all_members_or_is_refused_by_name(members, store, samples, both, tmp_path):
    with pytest.raises(RunError, match='member narrow wants 32 px, the store s.zarr has 64: give the pictures themselves'):
        both.predict(store, progress=False)
    torch.manual_seed(0)
    same = Member.of(members[1].weights, pack(samples, tmp_path/'rgb64.zarr', 64, RGB, progress=False), name='narrow', vocab=THREE)
    two = opened(save_members(tmp_path/'two', [members[0], same], THREE, blending()))
    assert np.allclose(two.predict(store, progress=False)[THREE.names], two.predict(samples, progress=False)[THREE.names], atol=1e-6)
    with pytest.raises(RunError, match='member wide reads red, green, blue, yellow, rgb64.zarr lacks yellow'):
        two.predict(pack(samples, tmp_path/'rgb64.zarr', 64, RGB, progress=False, overwrite=True), progress=False)


def test_channels_are_chosen_by_name(members, samples, tmp_path):
    turned = pack(samples, tmp_path/'t.zarr', 32, ['yellow', 'blue', 'red', 'green'], progress=False)
    plain = pack(samples, tmp_path/'p.zarr', 32, RGB, progress=False)
    one = opened(save_members(tmp_path/'b', [members[1]], THREE, HALF))
    assert np.allclose(one.predict(turned, progress=False)[THREE.names], one.predict(plain, progress=False)[THREE.names], atol=1e-6)


def test_unreadable_picture_costs_one_row(both, samples, tmp_path):
    (tmp_path/'bad.png').write_bytes(b'no picture')
    broken = samples.copy()
    broken.loc[3, 'yellow'] = str(tmp_path/'bad.png')                  # which only one member reads
    answer, heard = spoken(both.predict, broken, progress=False)
    assert heard == [] and (both.predict(broken, progress=False, rescale=True).status == answer.status).all()
    assert answer.status.tolist() == ['ok']*3 + ['error'] + ['ok']*6 and answer.id.tolist() == samples.id.tolist()
    assert answer.labels[3] is None and answer[THREE.names].isna().all(axis=1).tolist() == [i == 3 for i in range(10)]


def test_rescale_of_every_member(members, samples, store, rgb, tmp_path, both):
    far = samples.assign(pixel_size=samples.pixel_size*2)              # things look half as large: twice the pixels
    _, heard = spoken(both.predict, far, progress=False)
    assert [o.split(':')[0] for o in heard] == ['member wide', 'member narrow'] and all('2 times as large' in o for o in heard)
    near = both.predict(far, rescale=True, progress=False)
    wide, narrow = pack(far, tmp_path/'w.zarr', 128, progress=False), pack(far, tmp_path/'n.zarr', 64, RGB, progress=False)
    hand = .6*by_hand(replace(members[0], size=128, crop=96), wide) + .4*by_hand(replace(members[1], size=64), narrow)
    assert np.allclose(near[THREE.names], hand[THREE.names], atol=1e-5)


def test_one_of_several_has_no_size(both, members):
    assert both.channels == ['red', 'green', 'blue', 'yellow'] and len(both.models) == 4 and not hasattr(both, 'size')
    with pytest.raises(AttributeError, match='2 members, each with its own mean'):
        both.mean
    assert both.member('narrow').size == 32 and both.member('wide').folds == (0, 0, 1) and both.member('wide').reduce == 'max'
    with pytest.raises(RunError, match="did you mean 'narrow'"):
        both.member('narow')
    assert 'wide (3 networks, 4 channels at 64 px)' in repr(both)


# --- what is refused when a bundle is written ---

@pytest.mark.parametrize('names, decision, words', [
    (['wide', 'narrow'], HALF, '2 members, and a decision for one table'),
    (['wide'], blending(), "blends 'wide', 'narrow', the members are 'wide'"),
    (['wide', 'narrow'], blending(wide=.5, slim=.5), "blends 'wide', 'slim', the members are 'wide', 'narrow'"),
    (['wide', 'wide'], blending(), "two members are called 'wide'"),
    (['wide', 'WIDE'], blending(), "two members are called 'wide'"),
    ([], HALF, 'at least one member'),
    (['wide'], Decision(thresholds=dict.fromkeys(THREE.names[:2], .5)), "differ in the classes 'Cytosol'"),
])
def test_members_and_decision_that_do_not_fit(members, names, decision, words, tmp_path):
    known = {m.name: m for m in members} | dict(WIDE=replace(members[0], name='WIDE'))
    with pytest.raises(RunError, match=words):
        save_members(tmp_path/'b', [known[o] for o in names], THREE, decision)
    assert os.listdir(tmp_path) == []


def test_members_with_other_classes(members, store, tmp_path):
    turned = Member.of([network(tmp_path/'t.safetensors')], store, name='narrow', vocab=Vocab(THREE.names[::-1]))
    assert set(turned.names) == set(THREE.names)                       # the same classes in another order are other outputs
    with pytest.raises(RunError, match='member narrow has the classes'):
        save_members(tmp_path/'b', [members[0], turned], THREE, blending())
    with pytest.raises(RunError, match='member model has the classes'):
        save_members(tmp_path/'b', [Member.of(members[0].weights, store)], THREE, HALF)


@pytest.mark.parametrize('name, how, words', [
    ('four', dict(n_out=4), 'four.safetensors has 4 outputs, its vocabulary 3 classes'),
    ('rgb', dict(channels=RGB), 'rgb.safetensors reads red, green, blue, its store has red, green, blue, yellow'),
    ('turned', dict(channels=['green', 'red', 'blue', 'yellow']), 'turned.safetensors reads green, red'),
])
def test_weights_of_another_network(name, how, words, store, tmp_path):
    file = network(tmp_path/f'{name}.safetensors', **how)
    with pytest.raises(RunError, match=words):
        save_bundle(tmp_path/'b', [file], store, THREE, HALF)


def test_weights_that_are_no_network(store, tmp_path):
    torch.save({}, tmp_path/'mine.pth')
    words = r"mine.pth: a bundle holds .safetensors files: write the network with save_model\(learn.model, 'mine.safetensors'\)"
    with pytest.raises(RunError, match=words):
        save_bundle(tmp_path/'b', [tmp_path/'mine.pth'], store, THREE, HALF)
    cut = network(tmp_path/'cut.safetensors')
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ValueError, match='cut.safetensors'):
        save_bundle(tmp_path/'b', [cut], store, THREE, HALF)
    with pytest.raises(FileNotFoundError, match='gone.safetensors'):
        save_bundle(tmp_path/'b', [tmp_path/'gone.safetensors'], store, THREE, HALF)
    assert not (tmp_path/'b').exists()


# --- bundles of before ---

def older(path, bundle):
    "The same bundle as format 1 wrote it"
    shutil.copytree(bundle.path, path)
    m = bundle.member()
    for i,o in enumerate(m.weights): (path/o.name).rename(path/f'fold{i}.safetensors')
    facts = dict(format=1, weights=[f'fold{i}.safetensors' for i in range(len(m.weights))], channels=list(m.channels), size=m.size, pixel_size=m.pixel_size,
                 mean=list(m.mean), std=list(m.std), names=bundle.vocab.names, codes=bundle.vocab.codes, vocab=bundle.vocab.name,
                 views=m.views, reduce=m.reduce, folds=list(m.folds), reduce_folds=m.reduce_folds, about=dict(run='old'), crop=m.crop)
    (path/'bundle.json').write_text(json.dumps(facts))
    return facts


def test_format_1_predicts_the_same(members, samples, store, tmp_path):
    new = opened(save_members(tmp_path/'new', [members[0]], THREE, HALF))
    older(tmp_path/'old', new)
    old = opened(tmp_path/'old')
    assert (old.facts['format'], new.facts['format']) == (1, 2) and old.about == dict(run='old')
    assert replace(old.member(), weights=new.member().weights, reading=new.reading, name='wide') == new.member()
    assert (old.reading.depth, old.reading.fit, old.reading.missing, old.unsettled) == ('16', 'error', 'error', [])
    a, b = (o.predict(samples, progress=False) for o in (old, new))
    assert a.equals(b)


def test_the_oldest_bundles_know_neither_folds_nor_crop(store, samples, tmp_path):
    net = network(tmp_path/'0.safetensors')
    new = opened(save_bundle(tmp_path/'new', [net], store, THREE, HALF, views='flips'))
    facts = older(tmp_path/'old', new)
    for o in ('folds', 'reduce_folds', 'crop', 'pixel_size', 'about'): del facts[o]
    (tmp_path/'old/bundle.json').write_text(json.dumps(facts))
    old = opened(tmp_path/'old')
    assert (old.crop, old.pixel_size, old.member().folds, old.about) == (None, None, (0,), {})
    assert np.allclose(old.predict(samples, progress=False)[THREE.names], new.predict(samples, progress=False)[THREE.names])


@pytest.mark.parametrize('change, words', [
    (dict(format=3), 'is of format 3, this hpa_lib reads formats 1 and 2: update'),
    (dict(members=None), 'does not tell members'),
    (dict(members=[dict(weights=[], tilt=3)]), 'a member that is not understood'),
    (dict(reading=dict(gamma=2)), 'newer'),
    ('{"format": 2', 'not readable as JSON'),
])
def test_damaged_or_newer_bundles(change, words, store, tmp_path):
    path = save_bundle(tmp_path/'b', [network(tmp_path/'0.safetensors')], store, THREE, HALF)
    facts = json.loads((path/'bundle.json').read_text())
    text = change if isinstance(change, str) else json.dumps({k: v for k,v in (facts | change).items() if v is not None})
    (path/'bundle.json').write_text(text)
    with pytest.raises(ValueError, match=words):
        opened(path)


# --- what survives ---

def test_an_old_bundle_survives_a_failing_overwrite(store, tmp_path, monkeypatch):
    a, b = (network(tmp_path/f'{o}.safetensors', seed=o) for o in (1, 2))
    path = save_bundle(tmp_path/'b', [a], store, THREE, HALF, about=dict(n=1))
    before = {o: (path/o).read_bytes() for o in os.listdir(path)}
    def full(*args): raise OSError(28, 'No space left on device')
    for part in ('write_json', 'shutil.copyfile'):
        with monkeypatch.context() as m:
            m.setattr(f'hpa_lib.run.bundle.{part}', full)
            with pytest.raises(OSError, match='No space'):
                save_bundle(path, [b], store, THREE, HALF, overwrite=True)
        assert {o: (path/o).read_bytes() for o in os.listdir(path)} == before
        assert sorted(os.listdir(tmp_path)) == ['1.safetensors', '2.safetensors', 'b']
    with pytest.raises(RunError, match='has 4 outputs'):
        save_bundle(path, [network(tmp_path/'4.safetensors', n_out=4)], store, THREE, HALF, overwrite=True)
    assert opened(path).about == dict(n=1)
    save_bundle(path, [b], store, THREE, HALF, about=dict(n=2), overwrite=True)
    assert opened(path).about == dict(n=2) and (path/'model.0.safetensors').read_bytes() == b.read_bytes()


KILLED = """
import os, sys
from hpa_lib import core
from hpa_lib.run import bundle
from hpa_lib.run.bundle import Bundle, save_members
path, where = sys.argv[1:]
def die(*args): os._exit(9)
if where == 'before': bundle.write_json = die
else:
    real = os.rename
    core.os.rename = lambda a, b: real(a, b) if str(b).endswith('.old') else die()
b = Bundle(path, 'cpu')
save_members(path, b.members, b.vocab, b.decision, about=dict(n=2), overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize('where', ['before', 'between'])
def test_an_old_bundle_survives_a_kill(where, store, tmp_path):
    path = save_bundle(tmp_path/'run/bundle', [network(tmp_path/'1.safetensors')], store, THREE, HALF, about=dict(n=1))
    done = subprocess.run([sys.executable, '-c', KILLED, path, where], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert path.exists() == (where == 'before')
    assert opened(tmp_path/'run').about == dict(n=1)                     # found in the run folder, and mended
    b = opened(path)
    save_members(path, b.members, b.vocab, b.decision, about=dict(n=3), overwrite=True)      # its own weights, written anew
    assert opened(path).about == dict(n=3) and os.listdir(tmp_path/'run') == ['bundle']


def test_only_a_bundle_is_replaced(store, tmp_path):
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine/thesis.txt').write_text('x')
    with pytest.raises(RunError, match='is no bundle, so it will not be replaced'):
        save_bundle(tmp_path/'mine', [network(tmp_path/'1.safetensors')], store, THREE, HALF, overwrite=True)
    assert os.listdir(tmp_path/'mine') == ['thesis.txt']


# --- reading ---

def test_reading_of_the_store_travels(samples, tmp_path):
    wide = samples[:4].copy()
    for o in ('red', 'green', 'blue', 'yellow'):
        wide[o] = [str(tmp_path/f'{i}_{o}.png') for i in range(4)]
        for old,new in zip(samples[o], wide[o]): Image.fromarray(np.pad(np.array(Image.open(old)), ((0, 0), (8, 8)))).save(new)
    store = pack(wide, tmp_path/'s.zarr', 64, fit='crop', missing='allow', progress=False)
    path = save_bundle(tmp_path/'b', [network(tmp_path/'1.safetensors')], store, THREE, HALF, views='flips')
    b = opened(path)
    assert (b.reading.fit, b.reading.missing, b.reading.depth) == ('crop', 'allow', '16')
    answer, heard = spoken(b.predict, wide, progress=False)
    assert heard == [] and (answer.status == 'ok').all()
    square, _ = spoken(b.predict, samples[:4], progress=False)           # the middles are the pictures themselves
    assert np.allclose(answer[THREE.names], square[THREE.names], atol=1e-6)
    _, heard = spoken(b.predict, wide, fit='squash', progress=False)
    assert len(heard) == 1 and "with fit='squash', those of the training were read with fit='crop'" in heard[0]
    lacking = wide.assign(yellow=None)
    assert (b.predict(lacking, progress=False).status == 'ok').all()     # as in training, a channel may be lacking


def test_paths_of_the_training_stay_at_home(store, tmp_path):
    reading = Reading(depth='12', table='/home/me/labels.csv', groups='/home/me/groups.csv', pattern='{id}_{channel}.png')
    path = save_bundle(tmp_path/'b', [network(tmp_path/'1.safetensors')], store, THREE, HALF, reading=reading)
    assert '/home/me' not in (path/'bundle.json').read_text()
    assert opened(path).reading == Reading(depth='12', pattern='{id}_{channel}.png', channels=store.channels)


def test_members_read_in_two_ways_are_not_settled(members, samples, tmp_path):
    wide, narrow = members
    twelve = replace(narrow, reading=narrow.reading.said(depth='12'))
    b = opened(save_members(tmp_path/'b', [wide, twelve], THREE, blending()))
    assert b.unsettled == ['depth'] and b.reading.channels == ('red', 'green', 'blue', 'yellow')
    with pytest.raises(RunError, match="the training's sources differed in depth: say depth="):
        b.predict(samples, progress=False)
    answer, heard = spoken(b.predict, samples, depth='16', progress=False)
    assert heard == [] and (answer.status == 'ok').all()
    told = opened(save_members(tmp_path/'t', [wide, narrow], THREE, blending(), unsettled=['fit', 'missing', 'fit']))
    assert told.unsettled == ['fit', 'missing']
    with pytest.raises(RunError, match='differed in fit, missing: say fit=, missing='):
        told.predict(samples)


def test_a_store_says_how_it_was_packed(store, tmp_path):
    path = save_bundle(tmp_path/'b', [network(tmp_path/'1.safetensors')], store, THREE, HALF, views='flips', reading=Reading(depth='12'))
    b = opened(path)
    _, heard = spoken(b.predict, store, progress=False)
    assert len(heard) == 1 and "depth='16', those of the training were read with depth='12'" in heard[0]
    with pytest.raises(RunError, match="s.zarr is packed already, with depth='16': give the samples table to have pictures read with depth=12"):
        b.predict(store, depth=12)
    assert len(spoken(b.predict, store, depth=16, missing='error', progress=False)[1]) == 1
    open_ = opened(save_bundle(tmp_path/'open', [network(tmp_path/'2.safetensors')], store, THREE, HALF, views='flips', unsettled=['depth']))
    assert spoken(open_.predict, store, progress=False)[1] == []         # nothing to ask: the pictures are read already


def test_rows_that_say_it_themselves(samples, tmp_path):
    "As where sources with other cameras were joined: a column of the samples table"
    deep = samples[:6].assign(depth=['12']*3 + [None]*3)
    for c in ('red', 'green', 'blue', 'yellow'):
        deep.loc[:2, c] = [str(tmp_path/f'{i}_{c}.png') for i in range(3)]
        for old,new in zip(samples[c][:3], deep[c]): Image.fromarray(np.array(Image.open(old)).astype(np.uint16)*16).save(new)
    mixed, twelve = (pack(o, tmp_path/f'{n}.zarr', 64, progress=False) for n,o in (('m', deep), ('t', deep[:3])))
    net = network(tmp_path/'1.safetensors')
    open_ = opened(save_bundle(tmp_path/'open', [net], mixed, THREE, HALF, views='flips'))
    settled = opened(save_bundle(tmp_path/'settled', [net], twelve, THREE, HALF, views='flips'))
    assert (open_.unsettled, open_.reading.depth, settled.unsettled, settled.reading.depth) == (['depth'], '16', [], '12')
    with pytest.raises(RunError, match='differed in depth: say depth='):
        open_.predict(deep)                                              # three rows leave it open
    answer, heard = spoken(open_.predict, deep, depth='16', progress=False)
    assert heard == [] and (answer.status == 'ok').all()
    assert spoken(open_.predict, deep[:3], progress=False)[1] == []      # every row says it
    _, heard = spoken(settled.predict, deep, depth='16', progress=False)
    assert len(heard) == 1 and "with depth='12', '16', those of the training were read with depth='12'" in heard[0]
    with pytest.raises(RunError, match="m.zarr is packed already, with depth='12', '16'"):
        open_.predict(mixed, depth='12')


def test_unknown_option_is_refused(store, tmp_path):
    b = opened(save_bundle(tmp_path/'b', [network(tmp_path/'1.safetensors')], store, THREE, HALF, views='flips'))
    with pytest.raises(ValueError, match="fit 'cut': known are error, crop, squash"):
        b.predict(store.samples, fit='cut')


# --- learn.export ---

class Brighter(Transform):
    "A transform that nobody knows"
    def encodes(self, x:TensorImage): return x*1.2


@pytest.fixture
def learner(samples, store, tmp_path):
    def make(tfms='dihedral', crop=None, net='test_resnet', **kwargs):
        torch.manual_seed(0)
        dls = store_dls(store, grouped_folds(samples, HPA28, n=2), vocab=THREE, bs=2, tfms=tfms, crop=crop, path=tmp_path)
        how = dict(weights=None, hidden=8) if isinstance(net, str) else {}
        return rgby_learner(dls, net, path=tmp_path/'learn', precision=Precision(), **how, **kwargs)
    return make


@pytest.mark.parametrize('tfms, crop', [('dihedral', None), ('dihedral_crop', 40), ('bestfitting', 64), ('resnet50_rgb', None)])
def test_export_predicts_what_the_learner_predicts(learner, store, tfms, crop):
    learn = learner(tfms, crop)
    for m in learn.model.modules():
        if isinstance(m, nn.BatchNorm2d): m.running_mean.uniform_(-.1, .1)     # as after a training
    state = torch.get_rng_state()
    path = learn.export()
    assert path == learn.path/'export' and torch.equal(state, torch.get_rng_state())
    assert not [o for o in path.rglob('*') if o.suffix in ('.pkl', '.pth')]
    b = opened(path)
    with learn.no_bar(): preds, targs = learn.get_preds()
    data = learn.dls.valid.dataset
    table = b.predict_store(store, data.rows, progress=False)
    assert np.allclose(table[THREE.names], preds, atol=1e-5) and preds.std(0).max() > 1e-4
    assert table.id.tolist() == store.samples.id[data.rows].tolist()
    assert b.crop == (crop if crop != 64 else None) and b.member().views == 'none' and b.vocab == THREE
    answer = b.predict(store, progress=False)
    assert answer.labels.map(len).min() >= 1                                  # the likeliest class, where none is above .5


def test_export_with_own_statistics_and_decision(learner, store):
    class Grey:
        mean, std = np.array([.1, .2, .3, .4]), np.array([.5, .6, .7, .8])
    learn = learner(batch_transforms(Grey, 'dihedral')[1:])
    with pytest.raises(RunError, match='2 Normalize among the batch transforms'):       # theirs, and the store's behind it
        learn.export()
    after = batch_transforms(Grey, 'dihedral')
    for dl in learn.dls.loaders: dl.after_batch = type(dl.after_batch)(after)
    sure = Decision(thresholds=dict.fromkeys(THREE.names, .9), fallbacks=[])
    b = opened(learn.export('own', sure))
    assert np.allclose(b.mean, Grey.mean) and np.allclose(b.std, Grey.std) and b.decision == sure
    with learn.no_bar(): preds, _ = learn.get_preds()
    assert np.allclose(b.predict_store(store, learn.dls.valid.dataset.rows, progress=False)[THREE.names], preds, atol=1e-5)


def test_export_replaces_its_own(learner):
    learn = learner()
    learn.export()
    with torch.no_grad(): learn.model.head[-1].bias += 1
    assert torch.equal(opened(learn.export()).models[0].head[-1].bias.cpu(), learn.model.head[-1].bias.cpu())


def test_export_refuses_what_it_cannot_tell(learner, samples, store, tmp_path):
    with pytest.raises(RunError, match=r"mine.pkl: learn.export writes a bundle, which is a folder: say 'mine'.*Learner.export\(learn"):
        learner().export('mine.pkl')
    with pytest.raises(RunError, match='not just resized to 48 px and normalised'):     # the middle, as it is
        learner('densenet_pipeline', 48).export()
    with pytest.raises(RunError, match='not just resized to 64 px.*Brighter'):          # which acts in validation too
        learner([Brighter()]).export()
    with pytest.raises(RunError, match='probabilities in another way than by a sigmoid'):
        learn = learner()
        learn.loss_func = CrossEntropyLossFlat()
        learn.export()
    other = learner()
    other.model.head[-1] = nn.Linear(8, 4)
    with pytest.raises(RunError, match='not the one its recipe builds'):
        other.export()
    plain = learner()
    plain.model = nn.Flatten()
    with pytest.raises(RunError, match='the network is a Flatten: a bundle holds networks of rgby_model'):
        plain.export()
    assert not (tmp_path/'learn/export').exists()


def test_export_of_a_datablock_is_refused(samples, tmp_path):
    from fastai.data.block import DataBlock, MultiCategoryBlock
    from fastai.data.transforms import IndexSplitter
    from hpa_lib.learn.loaders import RGBYBlock
    blocks = (RGBYBlock(size=32), MultiCategoryBlock(vocab=THREE.names))
    def get_y(o): return THREE.only([o.labels])[0]
    block = DataBlock(blocks, get_x=lambda o: o, get_y=get_y, splitter=IndexSplitter([0, 1]))
    items = [o for _,o in samples.iterrows()]
    learn = rgby_learner(block.dataloaders(items, bs=2, path=tmp_path), 'test_resnet', weights=None, hidden=8, path=tmp_path)
    with pytest.raises(RunError, match='DataLoaders are not of a store.*train with store_dls'):
        learn.export()
