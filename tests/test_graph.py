"The whole way of a recipe as one graph, on a synthetic atlas: nothing is done twice, nothing that a change concerns is left."
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from hpa_lib.bundle import Bundle
from hpa_lib.graph import GraphError, recipe_steps, run_recipe
from hpa_lib.recipes import load_recipe
from hpa_lib.runs import Run, finish_run
from hpa_lib.samples import load_samples, read_samples, save_samples
from hpa_lib.steps import StepError, plan
from hpa_lib.store import Store
from hpa_lib.submit import read_submission
from hpa_lib.synth import make_atlas

pytestmark = pytest.mark.slow

QUICK = ['data.size=32', 'split.folds=2', 'model.weights=none', 'model.hidden=16', 'train.epochs=1', 'train.bs=8', 'views.names=flips']


def recipe(*changes): return load_recipe('default', [*QUICK, *changes])


def stale(r, root):
    "Steps that a recipe would redo in the run folder, without number"
    table = plan(recipe_steps(r, root/'samples.parquet', root/'run'), root/'run')
    return list(dict.fromkeys(o.rstrip('01') for o in table.index[table.status != 'done']))


def times(root): return {str(o.relative_to(root)): o.stat().st_mtime_ns for o in sorted((root/'run').rglob('*')) if o.is_file() and o.name not in ('recipe.toml', 'manifest.json', '.steps.lock')}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    "A table of 60 samples with 4 twins, a sixth of the antibodies as test set; and its finished run"
    root = tmp_path_factory.mktemp('graph')
    samples = read_samples(make_atlas(root/'atlas', n=60, size=32, twins=4, cover=0, workers=1))
    test = samples.group.isin(sorted(samples.group.unique())[::6])
    save_samples(samples.assign(is_test=test, labels=samples.labels.where(~test, None)), root/'samples.parquet')
    run_recipe(recipe(), root/'samples.parquet', root/'run', progress=False)
    return root


def test_whole_graph(root):
    run = Run(root/'run')
    assert run.done == [0, 1] and run.recipe == recipe() and stale(recipe(), root) == []
    assert not [o.name for o in run.path.rglob('*partial*')]
    test = load_samples(root/'samples.parquet').query('is_test').id
    assert sorted(read_submission(run.path/'submission.csv').index) == sorted(test)
    assert set(run.oof.id) == set(run.folds.id) and not set(run.oof.id) & set(test)
    twins, fold = pd.read_csv(run.path/'twins.csv'), run.folds.set_index('id').fold
    both = twins[twins.id_a.isin(fold.index) & twins.id_b.isin(fold.index)]
    assert len(twins) == 4 and (fold[both.id_a].to_numpy() == fold[both.id_b].to_numpy()).all()
    assert json.loads((run.path/'leaks.json').read_text())['twin']['leaked'] == 0
    assert {'finished', 'begun', 'store_hash', 'versions', 'commit'} <= set(run.manifest) and set(run.manifest['folds']) == {'0', '1'}
    assert list(Bundle(run.path).decision.thresholds) == Store(run.path/'pictures.zarr').vocab.names


def test_the_report_is_the_one_of_hpa_train(root, tmp_path):
    "The report made from files alone says what `finish_run` says, which has everything in memory"
    shutil.copytree(root/'run', tmp_path/'run')
    store = Store(root/'run/pictures.zarr')
    store.samples = load_samples(root/'run/tied.parquet')
    theirs, ours = finish_run(Run(tmp_path/'run'), store), Run(root/'run')
    assert theirs.report == ours.report
    assert (theirs.path/'submission.csv').read_bytes() == (ours.path/'submission.csv').read_bytes()
    assert theirs.decision == ours.decision


def test_a_second_run_does_nothing(root, capsys):
    was = times(root)
    run_recipe(recipe(), root/'samples.parquet', root/'run')
    assert times(root) == was and capsys.readouterr().out == ''


def test_another_rule_trains_nothing(root):
    was = times(root)
    assert stale(recipe('decide.rule=single'), root) == ['decide', 'submit', 'report', 'bundle']
    run = run_recipe(recipe('decide.rule=single'), root/'samples.parquet', root/'run', progress=False)
    changed = {o for o,t in times(root).items() if was.get(o) != t}
    assert run.recipe.decide.rule == run.decision.rule == 'single' and Bundle(run.path).decision.rule == 'single'
    assert {'run/decision.json', 'run/submission.csv', 'run/report.html', 'run/bundle/bundle.json'} <= changed
    assert not [o for o in changed if o.startswith(('run/fold', 'run/pictures.zarr', 'run/tied', 'run/twins'))]


def test_other_views_ask_again_and_train_nothing(root):
    "and one step alone does its own work only"
    weights = {o: t for o,t in times(root).items() if o.endswith('model.safetensors') and '/fold' in o}
    one = recipe('views.names=none')
    assert stale(one, root)[0] == 'predict'
    with pytest.raises(StepError, match='decide builds on predict0, which is not up to date .settings changed: views.names flips -> none.: run step predict0 first'):
        run_recipe(one, root/'samples.parquet', root/'run', only='decide')
    for o in ('predict0', 'predict1', 'decide'): run = run_recipe(one, root/'samples.parquet', root/'run', only=o, progress=False)
    assert set(run.oof.view) == {0} and stale(one, root) == ['submit', 'report', 'bundle']
    assert {o: times(root)[o] for o in weights} == weights
    run_recipe(one, root/'samples.parquet', root/'run', progress=False)
    assert stale(one, root) == []


def test_another_learning_rate_trains_again(root):
    before = {k: (root/f'run/fold{k}/model.safetensors').read_bytes() for k in (0, 1)}
    was, other = times(root), recipe('train.lr=0.02', 'views.names=none')
    assert stale(other, root) == ['train', 'predict', 'decide', 'submit', 'report', 'bundle']
    run_recipe(other, root/'samples.parquet', root/'run', progress=False)
    assert all((root/f'run/fold{k}/model.safetensors').read_bytes() != before[k] for k in (0, 1))
    now = times(root)
    assert {o: t for o,t in was.items() if 'zarr' in o or 'folds.parquet' in o} == {o: t for o,t in now.items() if 'zarr' in o or 'folds.parquet' in o}


def test_moved_pictures_are_packed_again_but_train_nothing(root, capsys):
    r = Run(root/'run').recipe
    (root/'moved').mkdir()
    shutil.copytree(root/'atlas', root/'moved/atlas')
    samples = load_samples(root/'samples.parquet')
    for c in r.data.channels: samples[c] = samples[c].str.replace(str(root/'atlas'), str(root/'moved/atlas'), regex=False)
    save_samples(samples, root/'moved.parquet')
    run_recipe(r, root/'moved.parquet', root/'run')
    said = capsys.readouterr().out
    assert 'pack: done' in said and 'train' not in said and 'decide' not in said and 'folds' not in said


def test_labels_that_change_train_again(root):
    samples, r = load_samples(root/'samples.parquet'), Run(root/'run').recipe
    row = samples.index[~samples.is_test][0]
    samples.at[row, 'labels'] = ['Nucleoli', 'Golgi apparatus']
    save_samples(samples, root/'samples.parquet')
    assert set(stale(r, root)) >= {'samples', 'pack', 'duplicates', 'folds', 'train'}


def test_what_does_not_fit_is_refused(root, tmp_path):
    store = root/'run/pictures.zarr'
    with pytest.raises(GraphError, match='data.size=32'): recipe_steps(recipe('data.size=64'), store, tmp_path)
    with pytest.raises(GraphError, match='data.channels'): recipe_steps(recipe('data.channels=["red", "green", "blue"]'), store, tmp_path)
    with pytest.raises(GraphError, match='split.twins=none'): recipe_steps(recipe('data.channels=["green"]'), root/'atlas', tmp_path)
    with pytest.raises(GraphError, match='give a folder'): recipe_steps(recipe(), root/'atlas/train.csv', tmp_path)
    with pytest.raises(StepError, match='did you mean .decide'): run_recipe(recipe(), store, tmp_path, only='decied')
    assert not list(Path(tmp_path).iterdir())
    shutil.copy(root/'run/recipe.toml', tmp_path); (tmp_path/'manifest.json').write_text('{}')
    with pytest.raises(GraphError, match='training alone'): recipe_steps(recipe(), store, tmp_path)
    os.makedirs(tmp_path/'more/fold3')
    with pytest.raises(GraphError, match='holds fold3 of a run'): recipe_steps(recipe(), store, tmp_path/'more')


def test_a_folder_with_test_pictures_is_read_whole(tmp_path):
    atlas = make_atlas(tmp_path/'atlas', n=8, size=16, cover=0, workers=1)
    ids = pd.read_csv(atlas/'train.csv').Id[:2]
    (atlas/'test').mkdir()
    for o in (atlas/'train').iterdir():
        if o.name.rsplit('_', 1)[0] in set(ids): shutil.copy(o, atlas/'test'/f'x{o.name}')
    run_recipe(recipe(), atlas, tmp_path/'run', only='samples', progress=False)
    found = load_samples(tmp_path/'run/samples.parquet')
    assert found.id[found.is_test].tolist() == sorted(f'x{o}' for o in ids) and len(found) == 10
    (atlas/'test'/f'x{ids[0]}_red.png').touch()
    table = plan(recipe_steps(recipe(), atlas, tmp_path/'run'), tmp_path/'run')
    assert table.why['samples'] == f'input changed: {atlas}' and table.why['pack'] == 'never done'


def test_real_pictures_come_to_folds(real, tmp_path):
    for o in ('samples', 'pack', 'duplicates', 'folds'): run = run_recipe(recipe(), real/'fields512', tmp_path/'run', only=o, progress=False)
    store = Store(tmp_path/'run/pictures.zarr')
    assert store.ok.all() and store.size == 32 and sorted(run.folds.id) == sorted(store.samples.id)
    table = plan(recipe_steps(recipe(), real/'fields512', tmp_path/'run'), tmp_path/'run')
    assert table.index[table.status == 'done'].tolist() == ['samples', 'pack', 'duplicates', 'folds']
