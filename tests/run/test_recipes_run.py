"Each of the six recipes at its small size, from a folder of pictures to a submission, on one synthetic atlas; then another decision rule, which trains nothing."
import hashlib
import json
import os

import numpy as np
import pandas as pd
import pytest

from hpa_lib.data.labels import HPA28
from hpa_lib.decide.decision import load_decision, refit_decision
from hpa_lib.decide.submit import read_submission
from hpa_lib.data.samples import read_samples
from hpa_lib.run.bundle import Bundle
from hpa_lib.run.folder import fold_weights, recipe_vocab
from hpa_lib.run.pipeline import run_recipe
from hpa_lib.run.recipes import load_recipe
from hpa_lib.synth.atlas import make_atlas

pytestmark = pytest.mark.slow

ONE = ['train.epochs=1', 'train.at=[]', 'model.weights=none', 'model.hidden=32', 'split.folds=2']
# what makes seconds of each; asked: rows a sample in the table of probabilities; then another rule
RECIPES = dict(
    bestfitting=dict(changes=[*ONE, 'train.lr=2e-3', 'data.size=48', 'data.crop=32'], asked=32, rule='single'),
    resnet50_rgb=dict(changes=[*ONE, 'data.size=32'], asked=10, rule='exact'),
    densenet_pipeline=dict(changes=[*ONE, 'data.size=48', 'data.crop=32'], asked=5, rule='ratio'),
    fastai_silver=dict(changes=[*ONE, 'train.lr=2e-3', 'data.size=32'], asked=4, rule='single'),
    z2g=dict(changes=[*ONE, 'train.epochs=2', 'data.size=32'], asked=2, rule='exact'),
    default=dict(changes=[*ONE, 'data.size=32'], asked=8, rule='soft_f1'))


@pytest.fixture(scope='module')
def atlas(tmp_path_factory):
    "60 samples in Kaggle's layout; ten of them, whole antibodies, moved to the test set"
    folder = make_atlas(tmp_path_factory.mktemp('recipes')/'atlas', n=60, size=48, cover=0, workers=1)
    (folder/'test').mkdir()
    table = pd.read_csv(folder/'train.csv')
    gone = table.Id[:10]
    for o in list((folder/'train').iterdir()):
        if o.name.rsplit('_', 1)[0] in set(gone): os.rename(o, folder/'test'/o.name)
    table[~table.Id.isin(gone)].to_csv(folder/'train.csv', index=False)
    pd.DataFrame(dict(Id=gone[::-1], Predicted='0')).to_csv(folder/'sample_submission.csv', index=False)
    return folder


def weights(run): return {str(o.relative_to(run.path)): (o.stat().st_mtime_ns, hashlib.sha256(o.read_bytes()).hexdigest()) for k in run.done for o in fold_weights(run.fold(k))}


@pytest.mark.parametrize('name', RECIPES)
def test_from_pictures_to_submission(atlas, tmp_path, name):
    case, sample = RECIPES[name], atlas/'sample_submission.csv'
    recipe = load_recipe(name, case['changes'], scale='small')
    run = run_recipe(recipe, atlas, tmp_path/'run', sample=sample, progress=False)
    names = run.vocab.names
    said = run.recipe.model_copy(update=dict(source=[], submit=recipe.submit))
    ids, asked = pd.read_csv(sample).Id.tolist(), pd.read_csv(atlas/'train.csv').Id

    assert run.done == [0, 1] and said == recipe and recipe_vocab(recipe, run.store).names == names and set(names) == set(recipe.data.classes or HPA28) and len(names) == (10 if name == 'z2g' else 28)
    assert run.recipe.submit.sample == str(sample) and [o.path for o in run.recipe.source] == [str(atlas)]
    assert run.store.channels == tuple(recipe.data.channels) and run.store.size == recipe.data.size and len(recipe.data.channels) == (3 if name in ('resnet50_rgb', 'z2g') else 4)
    for k in run.done:
        assert len(fold_weights(run.fold(k))) == (2 if name == 'z2g' else 1) and len(run.history(k)) == recipe.train.epochs
        logs = [pd.read_parquet(run.fold(k)/f'logs/epoch_000_{o}.parquet') for o in ('train', 'valid')]
        assert set(logs[1].id) == set(run.folds.id[run.folds.fold == k]) and np.isfinite(logs[0].loss if 'loss' in logs[0] else logs[0].iloc[:, 2]).all()

    assert (run.oof.groupby('id').size() == case['asked']).all() and set(run.oof.id) == set(asked) and (run.oof.groupby('id').view.nunique() == case['asked']).all()
    assert run.oof[names].to_numpy().min() >= 0 and run.oof[names].to_numpy().max() <= 1 and run.oof[names].notna().all(axis=None)
    scores, report = run.decision.scores, run.report
    assert all(np.isfinite(scores[o]) and 0 <= scores[o] <= 1 for o in ('nested', 'low', 'high', 'in_sample', 'at_half')) and np.isfinite(report['mean_ap']) and report['samples'] == 50
    assert list(run.decision.thresholds) == list(names) and run.decision.rule == recipe.decide.rule and run.decision.fallbacks == recipe.decide.fallbacks

    for o in ('submission.csv', 'submission_0.5.csv'):
        said = pd.read_csv(run.path/o, dtype=str)
        assert said.Id.tolist() == ids and said.Predicted.notna().all()                              # the sample's order; argmax leaves no row empty
    assert {o for row in read_submission(run.path/'submission.csv') for o in row} <= set(names)
    assert json.loads((run.path/'leaks.json').read_text())['group']['leaked'] == 0 and (run.path/'report.html').stat().st_size > 10_000

    was, decision = weights(run), (run.path/'decision.json').read_bytes()
    other = load_recipe(name, [*case['changes'], f'decide.rule={case["rule"]}'], scale='small')
    run = run_recipe(other, atlas, tmp_path/'run', sample=sample, progress=False)
    assert weights(run) == was and len(was) == (4 if name == 'z2g' else 2)
    assert (run.path/'decision.json').read_bytes() != decision and run.decision.rule == case['rule'] == Bundle(run.path).decision.rule


def test_bestfitting_meets_its_rates_on_the_test_rows(atlas, tmp_path):
    "his way, then the other, which trains nothing; a bundle decides by the out-of-fold thresholds and says so"
    changes = [*RECIPES['bestfitting']['changes'], 'views.names=crops2']
    run = run_recipe(load_recipe('bestfitting', changes, scale='small'), atlas, tmp_path/'run', progress=False)
    assert run.decision.rates and run.decision.average_twins and len(run.decision.rates) == 28
    there = load_decision(tmp_path/'run/submission.decision.json')
    again = refit_decision(run.decision, run.probs('test'), run.samples)
    assert there == again and there.rates == run.decision.rates and there.thresholds != run.decision.thresholds
    sent = read_submission(tmp_path/'run/submission.csv')
    assert {k: sorted(v) for k, v in sent.items()} == {k: sorted(v) for k, v in there.decide(run.probs('test'), run.samples).items()}
    probs = run.probs('test').set_index('id')[run.vocab.names]
    assert all(top in sent[k] for k, top in probs.idxmax(axis=1).items())

    bundle = Bundle(tmp_path/'run')
    assert bundle.decision.thresholds == run.decision.thresholds
    pictures = read_samples(atlas)[:10]
    with pytest.warns(UserWarning, match='thresholds of the out-of-fold answers decide these 10'): answer = bundle.predict(pictures, progress=False)
    with pytest.warns(UserWarning, match='decide these 1;'): one = bundle.predict(pictures[:1], progress=False)
    assert one.labels.iloc[0] == answer.labels.iloc[0]

    was = weights(run)
    other = load_recipe('bestfitting', [*changes, 'decide.ratio_on=oof'], scale='small')
    run = run_recipe(other, atlas, tmp_path/'run', progress=False)
    assert weights(run) == was and not run.decision.rates and not (tmp_path/'run/submission.decision.json').exists()


def test_resnet50_asks_test_pictures_otherwise_and_may_draw_its_validation(atlas, tmp_path):
    changes = [*RECIPES['resnet50_rgb']['changes'], 'views.names=draws3(resnet50_rgb)', 'views.test=draws2(sized_crop)', 'train.weighted_validation=true', 'train.keep=1']
    run = run_recipe(load_recipe('resnet50_rgb', changes, scale='small'), atlas, tmp_path/'run', progress=False)
    test = pd.read_parquet(tmp_path/'run/test.parquet')
    assert (run.oof.groupby('id').size() == 3).all() and (test.groupby('id').size() == 2*2).all() and set(test['view']) == {0, 1}
    assert Bundle(tmp_path/'run').members[0].views == 'draws2(sized_crop)'
    columns = list(run.history(0))
    assert 'weighted_single_f1' in columns and 'single_f1' not in columns and 'macro_f1' not in columns
    log = pd.read_parquet(run.fold(0)/'logs/epoch_000_valid.parquet')
    assert set(log.id) < set(run.folds.id[run.folds.fold == 0]) and len(log) == (run.folds.fold == 0).sum()
    best = run.history(0).weighted_single_f1.max()
    again = run_recipe(run.recipe, None, tmp_path/'run', progress=False, fold=[0], from_best=.1)
    assert json.loads((again.fold(0)/'start.json').read_text())['value'] == pytest.approx(best)
