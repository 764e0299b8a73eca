"Code of one's own in all five places, by recipe and in Python, from data to decision on 48 drawn samples; and what is refused."
import json
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from commands import hpa
from torch import nn

from hpa_lib.core import DecisionError, LearnError, NetError, RunError, file_digest
from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.probs import reduce_views
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.decide.decision import fit_decision
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import store_dls
from hpa_lib.learn.predict import predict_rows
from hpa_lib.nets.models import load_model, rgby_model, save_model
from hpa_lib.run.bundle import Bundle
from hpa_lib.run.folder import Run, fold_weights, recipe_learner, training_key
from hpa_lib.run.pieces import PIECE_PLACES, OwnLoss, piece_source, read_piece
from hpa_lib.run.pipeline import recipe_steps, run_recipe
from hpa_lib.run.recipes import check_recipe, load_recipe
from hpa_lib.run.steps import plan
from hpa_lib.synth.atlas import make_atlas

PARTS = '''
import torch
from torch import nn
from pathlib import Path

here = Path(__file__).with_name('ran.txt')
here.write_text(here.read_text() + 'x' if here.exists() else 'x')
calls = []


class Tversky(nn.Module):
    def __init__(self, alpha=.5):
        super().__init__()
        self.alpha = alpha
    def forward(self, z, y):
        calls.append(('loss', self.alpha))
        p = z.sigmoid()
        hits, missed, false = (p*y).sum(), ((1 - p)*y).sum(), (p*(1 - y)).sum()
        return 1 - hits/(hits + self.alpha*missed + (1 - self.alpha)*false + 1e-6)


class Places(nn.Module):
    def __init__(self, features, classes, width=16):
        super().__init__()
        self.narrow = nn.Conv2d(features, width, 1)
        self.last = nn.Linear(width, classes)
        calls.append(('head', width))
    def forward(self, x): return self.last(self.narrow(x).relu().amax((2, 3)))


def dim(least=.5):
    def change(x):
        calls.append(('augmentation', x.channels, least))
        return x*(least + (1 - least)*torch.rand(len(x), 1, 1, 1))
    return change


def rare_first(samples, vocab, power=1.):
    calls.append(('sampler', power))
    hot = vocab.multi_hot(samples.labels)
    share = (hot.sum(0) + 1)/len(hot)
    return {k: float((row/share).max() + .01)**power for k,row in zip(samples.id, hot)}


def often(samples, vocab, every=3):
    return {k: 9. if i % every == 0 else 1. for i,k in enumerate(samples.id)}


def middle(probs, targs, share=.5):
    calls.append(('rule', share))
    return share*probs.max(0) + (1 - share)*probs.min(0)
'''
NAMES = dict(loss='Tversky(alpha=.7)', head='Places(width=8)', augment='dim(least=.8)', sampler='rare_first', rule='middle(share=.25)')
TINY = {
    'data.size': 32, 'split.folds': 2, 'split.twins': 'none', 'model.arch': 'test_resnet', 'model.weights': 'none', 'train.epochs': 1, 'train.bs': 8,
    'views.names': 'flips', 'model.prior': True,
}


def settings(module, **more):
    "A recipe of tiny size with all five pieces; more: section_key=value"
    said = TINY | {k: f'{module}:{NAMES[k.partition(".")[2]]}' for k in PIECE_PLACES} | {k.replace('_', '.', 1): o for k, o in more.items()}
    out = dict(name='mine')
    for k, o in said.items():
        section, key = k.split('.')
        out.setdefault(section, {})[key] = o
    return out


def written(o, path):
    import tomli_w
    path.write_text(tomli_w.dumps(o))
    return path


def ran(module): return len((module/'ran.txt').read_text()) if (module/'ran.txt').exists() else 0


def lab(folder, name):
    "A package of somebody's own on Python's path, not yet imported"
    (folder/name).mkdir(parents=True)
    (folder/name/'__init__.py').write_text('')
    (folder/name/'parts.py').write_text(PARTS)
    sys.path.insert(0, str(folder))
    return folder/name


@pytest.fixture(autouse=True)
def own_path():
    "What a test puts on the path is gone after it, but for the package of the run that all share"
    before = list(sys.path)
    yield
    sys.path[:] = [*before, *[o for o in sys.path if 'kept' in o and o not in before]]


@pytest.fixture(scope='module')
def atlas(tmp_path_factory): return make_atlas(tmp_path_factory.mktemp('own')/'atlas', n=48, size=32, seed=3, cover=0, workers=1, progress=False)


@pytest.fixture(scope='module')
def undrawn():
    "Reports without their figures, which take most of the time of a run as small as these"
    with pytest.MonkeyPatch.context() as m:
        for o in ('plot_history', 'plot_classes', 'plot_curves', 'plot_samples'): m.setattr(f'hpa_lib.run.folder.{o}', lambda *a, **k: 'not drawn')
        yield


@pytest.fixture(scope='module')
def made(atlas, tmp_path_factory, undrawn):
    "A run by recipe with all five, its package, and its recipe"
    root = tmp_path_factory.mktemp('kept')
    home = lab(root, 'keptlab')
    file = written(settings('keptlab.parts'), root/'mine.toml')
    recipe = load_recipe(file, own_code=True)
    return run_recipe(recipe, atlas, root/'run', progress=False), home, file


# --- from data to decision ---

def test_by_recipe_all_five_are_called_with_their_settings(made):
    run, home, _ = made
    calls = sys.modules['keptlab.parts'].calls
    said = {o[0]: o[-1] for o in calls}
    assert said == dict(loss=.7, head=8, augmentation=.8, sampler=1., rule=.25)
    assert {o[1] for o in calls if o[0] == 'augmentation'} == {('red', 'green', 'blue', 'yellow')}
    assert run.done == [0, 1] and ran(home) == 1

    # The decision is that of the rule on the run's own answers, and its name is kept
    names = run.vocab.names
    probs = reduce_views(run.oof, 'mean', 'mean')[names]
    assert run.decision.rule == 'keptlab.parts:middle(share=0.25)'
    assert [run.decision.thresholds[o] for o in names] == pytest.approx((.25*probs.max() + .75*probs.min()).tolist(), abs=1e-6)
    assert np.isfinite(run.decision.scores['nested']) and (run.path/'submission.csv').exists() == (run.path/'test.parquet').exists()

    # The log of samples has the loss of each alone
    log = pd.read_parquet(run.fold(0)/'logs/epoch_000_valid.parquet')
    column = 'keptlab.parts:Tversky(alpha=0.7)'
    z, y = torch.logit(torch.tensor(log[names].to_numpy())), torch.tensor(run.vocab.multi_hot(run.vocab.parse(o) for o in log.labels)).float()
    each = [sys.modules['keptlab.parts'].Tversky(.7)(a[None], b[None]).item() for a, b in zip(z, y)]
    assert np.allclose(log[column], each, atol=1e-4)


def test_what_was_run_is_in_the_manifest(made):
    run, home, _ = made
    source = file_digest(home/'parts.py')
    facts = json.loads((run.path/'manifest.json').read_text())['pieces']
    assert set(facts) == set(PIECE_PLACES) and {o['source'] for o in facts.values()} == {source} and {o['file'] for o in facts.values()} == {str(home/'parts.py')}
    assert facts['model.head']['piece'] == 'keptlab.parts:Places(width=8)'
    assert json.loads((run.path/'bundle/bundle.json').read_text())['pieces'] == {'keptlab.parts:Places(width=8)': source}


def test_in_python_the_objects_themselves(atlas, tmp_path):
    lab(tmp_path, 'pylab_')
    from pylab_ import parts
    samples = read_samples(atlas)
    store = pack(samples, tmp_path/'s.zarr', 32, progress=False)
    folds = grouped_folds(samples, n=2)
    dls = store_dls(store, folds, 0, bs=8, tfms=parts.dim(.9), sampler=partial(parts.rare_first, power=2.))
    learn = rgby_learner(
        dls, 'test_resnet', OwnLoss(parts.Tversky(.6)), head=partial(parts.Places, width=4), weights=None, metrics=[], path=tmp_path/'learn')
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert {(o[0], o[-1]) for o in parts.calls} == {('loss', .6), ('head', 4), ('augmentation', .9), ('sampler', 2.)}

    table = predict_rows(learn.model, store, dls.valid_ds.rows, progress=False, views='none')
    fold = grouped_folds(samples[samples.id.isin(table.id)].reset_index(drop=True), n=2).set_index('id').fold
    decision, score = fit_decision(table.assign(fold=fold.loc[table.id].to_numpy()), samples, draws=9, rule=partial(parts.middle, share=.3))
    assert decision.rule == 'pylab_.parts:middle(share=0.3)' and np.isfinite(score.nested)
    p = table[store.vocab.names]
    assert list(decision.thresholds.values()) == pytest.approx((.3*p.max() + .7*p.min())[list(decision.thresholds)].tolist(), abs=1e-6)

    # To a bundle, which names the head and not the rest, and back
    bundle = Bundle(learn.export(decision=decision), 'cpu', own_code=True)
    assert list(bundle.pieces) == ['pylab_.parts:Places(width=4)']
    answer = bundle.predict(store, progress=False).set_index('id')
    assert np.allclose(answer.loc[table.id, store.vocab.names], p, atol=2e-2)


def test_sampler_and_augmentation_change_what_is_learnt_from(made, atlas, tmp_path):
    "Rows are drawn by the sampler's weights, and only training pictures are dimmed"
    run, _, file = made
    recipe = load_recipe(file, ['train.batches=60', 'train.sampler=keptlab.parts:often', 'train.augment="keptlab.parts:dim(least=.0)"'], own_code=True)
    learn = recipe_learner(run.store, run.folds, 0, recipe, tmp_path)
    data = learn.dls.train.dataset
    weights = sys.modules['keptlab.parts'].often(run.store.samples.iloc[data.rows].reset_index(drop=True), run.vocab)
    drawn = pd.Series([i for _ in learn.dls.train for i in learn.dls.train.ids]).value_counts(normalize=True)
    want = pd.Series(weights)/sum(weights.values())
    assert np.corrcoef(drawn.reindex(want.index).fillna(0), want)[0, 1] > .9

    plain = recipe_learner(run.store, run.folds, 0, load_recipe(file, ['train.augment=none'], own_code=True), tmp_path/'plain')
    assert torch.equal(learn.dls.valid.one_batch()[0], plain.dls.valid.one_batch()[0])
    norm = [o for o in learn.dls.train.after_batch.fs if type(o).__name__ == 'Normalize'][0]
    def light(dls): return (dls.train.one_batch()[0].as_subclass(torch.Tensor)*norm.std + norm.mean).mean().item()
    assert light(learn.dls) < .75*light(plain.dls)


# --- not unasked ---

def test_a_recipe_that_names_code_is_refused_and_nothing_of_it_runs(tmp_path, atlas):
    home = lab(tmp_path, 'quietlab')
    source = file_digest(home/'parts.py')
    file = written(settings('quietlab.parts'), tmp_path/'theirs.toml')
    with pytest.raises(RunError) as e: load_recipe(file)
    for o in PIECE_PLACES: assert f'{o} = quietlab.parts:' in str(e.value)
    assert str(file) in str(e.value) and str(home/'parts.py') in str(e.value) and source in str(e.value) and '--own-code' in str(e.value)

    # Read for looking at, it is still not run, whoever uses it
    looked = load_recipe(file, own_code=None)
    for use in (lambda: run_recipe(looked, atlas, tmp_path/'run', progress=False), lambda: recipe_steps(looked, atlas, tmp_path/'run')):
        with pytest.raises(RunError, match='not run unasked'): use()
    with pytest.raises(RunError, match='unknown key own_code'): check_recipe(settings('quietlab.parts') | dict(own_code=True), own_code=None)
    with pytest.raises(RunError, match='_own_code'): check_recipe(settings('quietlab.parts') | dict(_own_code=True), own_code=None)
    with pytest.raises(RunError, match='not run unasked'): load_recipe('default', ['train.loss=quietlab.parts:Tversky'])
    assert ran(home) == 0 and 'quietlab' not in sys.modules and 'quietlab.parts' not in sys.modules


def test_an_overlay_is_no_way_around(tmp_path):
    home = lab(tmp_path, 'overlab')
    (tmp_path/'theirs.toml').write_text('[small.train]\nloss = "overlab.parts:Tversky"\n')
    for scale in (None, 'small'):
        with pytest.raises(RunError, match='not run unasked'): load_recipe(tmp_path/'theirs.toml', scale=scale)
    assert ran(home) == 0


def test_a_run_folder_is_read_without_running_anything(made, tmp_path):
    run, home, _ = made
    before = ran(home)
    sys.modules.pop('keptlab.parts')
    there = Run(run.path)
    assert there.done == [0, 1] and not there.recipe.own_code and there.report['nested'] == run.report['nested']
    with pytest.raises(RunError, match='not run unasked'): recipe_learner(run.store, run.folds, 0, there.recipe, tmp_path)
    assert ran(home) == before
    assert Run(run.path, own_code=True).recipe.own_code and ran(home) == before + 1


def test_at_a_terminal(made, atlas, tmp_path):
    run, _, file = made
    said = hpa('run', file, '--pictures', atlas, '--run', run.path, '--quiet', status=None)
    assert 'names code of its own, which is not run unasked' in said and '--own-code' in said
    hpa('run', file, '--pictures', atlas, '--run', run.path, '--quiet', '--own-code')
    assert 'not run unasked' in hpa('predict', run.path, atlas, '--out', tmp_path/'p.csv', '--quiet', status=None) and not (tmp_path/'p.csv').exists()
    hpa('predict', run.path, atlas, '--out', tmp_path/'p.csv', '--quiet', '--own-code')
    assert len(pd.read_csv(tmp_path/'p.csv')) == 48


# --- what cannot be used ---

@pytest.mark.parametrize('place, text, why', [
    ('train.loss', 'nowhere.parts:Tversky', 'no source of a module nowhere.parts is found: install it, or put the folder'),
    ('train.loss', 'badlab.parts:Tverski', 'has no function or class Tverski: correct the name'),
    ('train.loss', 'badlab.parts:Tversky(beta=1)', "unexpected keyword argument 'beta'"),
    ('train.loss', 'badlab.parts:Places', 'for loss it is called (**settings)'),
    ('model.head', 'badlab.parts:Tversky', 'for head it is called (features, classes, **settings)'),
    ('model.head', 'badlab.parts:Places(classes=3)', "multiple values for argument 'classes'"),
    ('train.augment', 'badlab.parts:dim(most=1)', 'for augmentation it is called (**settings)'),
    ('train.augment', 'badlab.more:number', 'an augmentation makes a function of a batch'),
    ('train.sampler', 'badlab.parts:dim', 'for sampler it is called (samples, vocab, **settings)'),
    ('decide.rule', 'badlab.parts:dim', 'for rule it is called (probs, targs, **settings)'),
    ('decide.rule', 'badlab.broken:rule', 'cannot be imported (ZeroDivisionError'),
    ('decide.rule', 'badlab.more:middle', 'name it as badlab.parts:middle'),
    ('decide.rule', 'badlab.parts:middle(.5)', 'a setting has no name'),
    ('decide.rule', 'badlab.parts:middle(share=open)', 'settings are numbers, quoted texts or lists'),
])
def test_refused_when_the_recipe_is_read(tmp_path, place, text, why):
    home = lab(tmp_path, 'badlab')
    (home/'broken.py').write_text('1/0')
    (home/'more.py').write_text('from badlab.parts import middle\ndef number(): return 3\n')
    for o in [o for o in sys.modules if o.startswith('badlab')]: del sys.modules[o]
    section, key = place.split('.')
    with pytest.raises(RunError) as e: check_recipe({section: {key: text}}, own_code=True)
    assert why in str(e.value) and text.partition(':')[2].partition('(')[0] in str(e.value)


def test_refused_when_it_is_used(made, tmp_path):
    run, home, file = made
    (home/'odd.py').write_text('''
import torch
from torch import nn
def tall(features, classes): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes + 1))
def deaf(features, classes):
    from hpa_lib.nets.heads import linear_head
    head = linear_head(features, classes)
    head[-1] = nn.Linear(features, classes, bias=False)
    return head
def cut(): return lambda x: x[:, :, 1:]
def some(samples, vocab): return {k: 1. for k in samples.id[1:]}
def many(): return nn.BCEWithLogitsLoss(reduction='none')
def trained(): return nn.Linear(2, 2)
def hard():
    loss = nn.BCEWithLogitsLoss()
    loss.fractions = False
    return loss
''')
    def learner(change): return recipe_learner(run.store, run.folds, 0, load_recipe(file, [change], own_code=True), tmp_path/'x')
    with pytest.raises(NetError, match='head keptlab.odd:tall answers'): learner('model.head=keptlab.odd:tall')
    with pytest.raises(NetError, match='keptlab.odd:deaf has no bias to start'): learner('model.head=keptlab.odd:deaf')
    with pytest.raises(LearnError, match='keep shape and number format'): learner('train.augment=keptlab.odd:cut').dls.one_batch()
    with pytest.raises(LearnError, match='sampler keptlab.odd:some: weights by id do not fit'): learner('train.sampler=keptlab.odd:some')
    with pytest.raises(LearnError, match='keptlab.odd:many gives .* not one number'): learner('train.loss=keptlab.odd:many').loss_func(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(LearnError, match='weights of its own, which nothing would train'): learner('train.loss=keptlab.odd:trained')
    with pytest.raises(RunError, match='which keptlab.odd:hard does not take'): load_recipe(file, ['train.loss=keptlab.odd:hard', 'train.mix=mixup'], own_code=True)
    with pytest.raises(DecisionError, match='2 classes|shape'):
        fit_decision(run.oof[run.oof['view'] == 0].drop(columns='view'), run.samples, draws=9, rule=lambda p, y: [.5, .5])


# --- when the source changes ---

def test_another_source_another_key_and_only_what_uses_it(made, atlas):
    run, home, file = made
    recipe = load_recipe(file, own_code=True)
    def stale(): return set(plan(recipe_steps(load_recipe(file, own_code=True), atlas, run.path), run.path).query('status != "done"').index)
    def key(): return training_key(run.store, run.folds, 0, recipe)
    text, was = (home/'parts.py').read_text(), key()
    assert stale() == set()
    try:
        (home/'parts.py').write_text(text.replace('calls = []', 'calls = ()'))     # as long as before, in the same second
        assert key() != was and {'train0', 'train1', 'predict0', 'decide', 'bundle'} <= stale() and not stale() & {'samples', 'pack', 'duplicates', 'folds'}
        with pytest.raises(RunError, match='its source has changed'): recipe_learner(run.store, run.folds, 0, recipe, home)
    finally: (home/'parts.py').write_text(text)
    assert key() == was and stale() == set()


def test_only_the_rule_changed(made, atlas):
    run, home, file = made
    (home/'rules.py').write_text('def low(probs, targs):\n    return .25\n')
    changes = ['decide.rule=keptlab.rules:low']
    again = run_recipe(load_recipe(file, changes, own_code=True), atlas, run.path, progress=False)
    assert set(again.decision.thresholds.values()) == {.25}
    was = {o: o.stat().st_mtime_ns for k in run.done for o in fold_weights(run.fold(k))}
    (home/'rules.py').write_text('def low(probs, targs):\n    return .35\n')
    again = run_recipe(load_recipe(file, changes, own_code=True), atlas, run.path, progress=False)
    assert set(again.decision.thresholds.values()) == {.35} and was == {o: o.stat().st_mtime_ns for o in was}
    run_recipe(load_recipe(file, own_code=True), atlas, run.path, progress=False)


def test_recipes_without_pieces_keep_their_keys(made, atlas):
    "No word about pieces in what is digested, so that runs of before are up to date"
    run, _, _ = made
    plain = check_recipe(dict(data=dict(size=32), split=dict(folds=2, twins='none')))
    for o in recipe_steps(plain, atlas, run.path.parent/'plain'): assert 'pieces' not in o.settings


# --- bundles ---

def test_a_bundle_needs_its_head_and_says_so(made, atlas, tmp_path):
    run, home, _ = made
    bundle = run.path/'bundle'
    with pytest.raises(RunError, match=r'the head of its networks = keptlab.parts:Places\(width=8\)'): Bundle(bundle)
    good = Bundle(bundle, 'cpu', own_code=True)
    answer = good.predict(run.store, progress=False).set_index('id')
    oof = reduce_views(run.oof, 'mean', 'mean')
    assert np.isfinite(answer[run.vocab.names].to_numpy()).all() and set(oof.index) <= set(answer.index)
    with pytest.raises(NetError, match='not of this library and not in the file'): load_model(fold_weights(run.fold(0))[0])

    # Another source: both fingerprints
    text, was = (home/'parts.py').read_text(), file_digest(home/'parts.py')
    try:
        (home/'parts.py').write_text(text.replace('.relu()', '.sin() '))
        with pytest.raises(RunError) as e: Bundle(bundle, own_code=True)
        assert was in str(e.value) and file_digest(home/'parts.py') in str(e.value) and was != file_digest(home/'parts.py')
        (home/'parts.py').rename(home/'gone.txt')
        with pytest.raises(RunError, match='no source of a module keptlab.parts is found'): Bundle(bundle, own_code=True)
        (home/'gone.txt').rename(home/'parts.py')
    finally: (home/'parts.py').write_text(text)

    # A bundle whose list was taken out is not trusted either
    facts = json.loads((bundle/'bundle.json').read_text())
    kept = facts.pop('pieces')
    try:
        (bundle/'bundle.json').write_text(json.dumps(facts))
        with pytest.raises(RunError, match='not run unasked'): Bundle(bundle)
        with pytest.raises(RunError, match='does not say what source the head'): Bundle(bundle, own_code=True)
    finally: (bundle/'bundle.json').write_text(json.dumps(facts | dict(pieces=kept)))


def test_loss_sampler_and_rule_are_not_needed_to_predict(made, atlas, undrawn):
    "With a head of the library, the bundle of a run opens for anybody, without a module of somebody's own"
    run, home, file = made
    path = run.path.parent/'headless'
    run_recipe(load_recipe(file, ['model.head=linear', 'split.folds=2'], own_code=True), atlas, path, progress=False, fold=[0])
    hidden = home/'parts.py'
    hidden.rename(home/'away.txt')
    try: bundle = Bundle(path, 'cpu')
    finally: (home/'away.txt').rename(hidden)
    assert bundle.pieces == {} and bundle.decision.rule == 'keptlab.parts:middle(share=0.25)'
    assert len(bundle.predict(run.store, progress=False)) == 48


def test_a_head_of_no_module_trains_and_cannot_travel(tmp_path):
    "A head written in a function trains, and says why it cannot travel"
    def local(features, classes): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
    net = rgby_model('test_resnet', 3, weights=None, head=local)
    file = save_model(net, tmp_path/'n.safetensors')
    assert torch.equal(load_model(file, local).eval()(torch.ones(1, 4, 32, 32)), net.eval()(torch.ones(1, 4, 32, 32)))
    with pytest.raises(RunError, match='names no piece'): piece_source(read_piece(net.config['head']))
