"What a run is made from, and who is held out: folds and weights of one's own, and rows that thresholds are fitted on. Nothing is trained."
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hpa_lib.core import RunError, write_json
from hpa_lib.data.folds import grouped_folds, holdout, save_folds
from hpa_lib.data.labels import Vocab
from hpa_lib.data.samples import save_samples, tidy_samples
from hpa_lib.data.scores import macro_f1
from hpa_lib.data.store import Store, pack
from hpa_lib.decide.blend import target_table
from hpa_lib.decide.decision import fit_decision
from hpa_lib.nets.models import rgby_model, save_model
from hpa_lib.run.folder import Run, decide_run, predict_fold, report_run, training_key
from hpa_lib.run.pipeline import recipe_steps, run_recipe, start_run
from hpa_lib.run.recipes import check_recipe, load_recipe
from hpa_lib.run.steps import plan

THREE = Vocab(['Nucleoplasm', 'Cytosol', 'Golgi apparatus'])
RECIPE = ['data.size=32', 'split.folds=2', 'split.twins=none', 'model.arch=test_resnet', 'model.weights=none', 'model.hidden=8', 'views.names=flips']


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "60 pictures of noise, two a group"
    d, rng = tmp_path_factory.mktemp('held'), np.random.default_rng(0)
    hot = rng.random((60, 3)) < .5
    hot[~hot.any(1), 0] = True
    table = pd.DataFrame(dict(id=[f's{i:02}' for i in range(60)], labels=pd.Series(THREE.decode(hot), dtype=object), group=[f'g{i//2}' for i in range(60)]))
    for c in ('red', 'green', 'blue', 'yellow'):
        table[c] = [str(d/f'{o}_{c}.png') for o in table.id]
        for o in table[c]: Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(o)
    return pack(tidy_samples(table), d/'s.zarr', 32, vocab=THREE, progress=False)


def opened(store): return Store(store.path)
def recipe(*changes): return load_recipe('default', [*RECIPE, *changes])


def network(path, seed=0):
    torch.manual_seed(seed)
    model = rgby_model('test_resnet', 3, weights=None, hidden=8)
    torch.nn.init.normal_(model.head[-1].weight, std=3)
    return save_model(model, path)


@pytest.fixture(scope='module')
def aside(store): return holdout(store.samples, THREE, share=.4, thresh=.3)


@pytest.fixture(scope='module')
def run(store, aside, tmp_path_factory):
    "A run whose folds hold rows out to be scored, and others for thresholds; its one network is random, and was asked"
    run = start_run(store, recipe(), aside, tmp_path_factory.mktemp('run')/'run')
    run.fold(0).mkdir()
    network(run.fold(0)/'model.safetensors')
    predict_fold(run, run.store, 0, progress=False)
    write_json(run.fold(0)/'fold.json', {})
    pd.DataFrame(dict(epoch=[0], train_loss=[.5], valid_loss=[.6], macro_f1=[.3], mean_ap=[.3])).to_csv(run.fold(0)/'history.csv', index=False)
    return Run(run.path)


def relabelled(run, ids):
    "The run with other labels of some samples"
    samples = run.samples
    labels = [list(THREE)[::-1][:len(o) % 3 + 1] if i in set(ids) else o for i, o in zip(samples.id, samples.labels)]
    save_samples(samples.assign(labels=pd.Series(labels, dtype=object)), run.path/'tied.parquet')
    return Run(run.path)


# --- rows for thresholds ---

def test_who_is_asked_for_what(run, aside):
    "The rows that are scored, those for thresholds, and nobody that trained"
    decide_run(run)
    for name, column in dict(oof='valid', thresh='thresh').items():
        assert set(run.probs(name).id) == set(aside.id[aside[column]]) and len(aside.id[aside[column]]) > 10
    assert not set(run.probs('oof').id) & set(run.probs('thresh').id)


def test_thresholds_are_fitted_on_their_rows_and_scored_on_the_others(run, aside):
    decision, score = decide_run(run)
    fitted, scored = run.probs('thresh'), run.probs('oof')
    alone, _ = fit_decision(fitted.assign(fold=np.arange(len(fitted)) % 2), run.samples, draws=2)
    assert decision.thresholds == alone.thresholds
    truth = target_table(run.samples.set_index('id').labels.loc[scored.id], list(THREE))
    assert np.isclose(score.nested, macro_f1(truth, decision.hard(scored)[list(THREE)]))
    assert decision.fitted_on['samples'] == aside.thresh.sum() and decision.fitted_on['scored'] == aside.valid.sum()
    report = report_run(run, run.store, n=2)
    assert f'fitted on {aside.thresh.sum()} samples held out for it' in report.read_text()


def test_labels_of_scored_rows_move_no_threshold(run, aside):
    before, first = decide_run(run)
    was = (run.path/'tied.parquet').read_bytes()
    try:
        after, second = decide_run(relabelled(run, aside.id[aside.valid]))
        assert after.thresholds == before.thresholds and second.nested != first.nested
        (run.path/'tied.parquet').write_bytes(was)
        moved, _ = decide_run(relabelled(run, aside.id[aside.thresh]))
        assert moved.thresholds != before.thresholds
    finally: (run.path/'tied.parquet').write_bytes(was)


def test_the_plan_knows_of_them(store, run):
    "A run that holds rows out for thresholds asks for them; another has no such file"
    steps = {o.name: o for o in recipe_steps(recipe(), store.path, run.path)}
    assert 'fold0/thresh.parquet' in steps['predict0'].maybe and any('thresh' in str(o) for o in steps['decide'].reads)
    plain = {o.name: o for o in recipe_steps(recipe(), store.path, run.path.parent/'other')}
    assert not [o for step in plain.values() for o in (*step.maybe, *step.reads) if 'thresh' in str(o)]


# --- folds of one's own ---

def test_other_folds_are_those_of_the_run(store, tmp_path):
    "Given to a run that has some already: its folds are the new ones, and nothing that was made from the old counts"
    first = grouped_folds(store.samples, THREE, n=2)
    second = first.assign(fold=1 - first.fold)
    run = start_run(store, recipe(), first, tmp_path/'run')
    assert run.folds.fold.tolist() == first.fold.tolist()
    save_folds(second.sample(frac=1, random_state=0), tmp_path/'mine.csv')
    run = start_run(store, recipe(), tmp_path/'mine.csv', tmp_path/'run')
    assert run.folds.fold.tolist() == second.fold.tolist()
    assert start_run(store, recipe(), None, tmp_path/'run').folds.fold.tolist() == second.fold.tolist()
    start_run(store, recipe(), None, tmp_path/'run')
    save_folds(first, tmp_path/'run/given/folds.csv')
    status = plan(recipe_steps(recipe(), store.path, tmp_path/'run'), tmp_path/'run')
    assert status.status['folds'] == 'stale' and 'given/folds.csv' in status.why['folds']


def test_folds_that_name_other_samples_are_refused_by_file(store, tmp_path):
    folds = grouped_folds(store.samples, THREE, n=2)
    save_folds(folds.assign(id=['somebody', *folds.id[1:]]), tmp_path/'mine.csv')
    with pytest.raises(ValueError, match='folds.csv.*s00.* has no fold'): start_run(store, recipe(), tmp_path/'mine.csv', tmp_path/'run')
    (tmp_path/'odd.csv').write_text('id;fold\ns00;1\n')
    with pytest.raises(RunError, match='folds.csv: folds have the columns'): start_run(store, recipe(), tmp_path/'odd.csv', tmp_path/'other')


@pytest.mark.parametrize('what', ['folds', 'duplicates', 'cbs'])
def test_a_blend_takes_nothing_that_is_for_training(what, tmp_path):
    blend = check_recipe(dict(name='both', blend=dict(runs=[str(tmp_path/'a'), str(tmp_path/'b')])))
    given = dict(folds=pd.DataFrame(dict(id=['a'], fold=[0])), duplicates=pd.DataFrame(dict(id_a=['a'], id_b=['b'])), cbs=())
    with pytest.raises(RunError, match=f'{what}=: a run that blends others'): run_recipe(blend, None, tmp_path/'both', **{what: given[what]})
    assert not (tmp_path/'both').exists()


# --- the key of a training ---

def test_the_content_of_a_weights_file_is_in_the_key(store, tmp_path):
    "The same name with other bytes is another training; the same bytes are the same one"
    folds = grouped_folds(store.samples, THREE, n=2)
    begin = recipe(f'model.weights={network(tmp_path/"w.safetensors")}')
    key = training_key(store, folds, 0, begin)
    network(tmp_path/'w.safetensors', seed=1)
    assert training_key(store, folds, 0, begin) != key
    network(tmp_path/'w.safetensors', seed=0)
    assert training_key(store, folds, 0, begin) == key


def test_the_key_knows_folds_by_id(store):
    folds = grouped_folds(store.samples, THREE, n=2)
    key = training_key(store, folds, 0, recipe())
    for same in (folds.sample(frac=1, random_state=0), folds.set_axis(range(7, 7 + len(folds)))):
        assert training_key(store, same, 0, recipe()) == key
    other = folds.assign(fold=[1 - folds.fold[0], *folds.fold[1:]])
    assert training_key(store, other, 0, recipe()) != key != training_key(store, folds, 1, recipe())
    with pytest.raises(RunError, match="'s00' more than once"): training_key(store, pd.concat([folds, folds[:1]]), 0, recipe())


def test_answers_that_stand_twice_or_lack(run):
    "A view taken out of a file, or put in twice, would change the mean without a word"
    whole = pd.read_parquet(run.fold(0)/'oof.parquet')
    for table, word in ((whole[1:], 'less often than the others'), (pd.concat([whole, whole[:1]]), 'is answered twice')):
        table.to_parquet(run.fold(0)/'oof.parquet')
        try:
            with pytest.raises(RunError, match=word): decide_run(run)
        finally: whole.to_parquet(run.fold(0)/'oof.parquet')
