"Whose folds `hpa decide` takes, which rows fit thresholds, and who is whose twin in `hpa submit`."
import json

import numpy as np
import pandas as pd
import pytest
from commands import hpa

from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import save_samples, tidy_samples
from hpa_lib.decide.decision import fit_apart, fit_decision, load_decision, shift_decision

CLASSES = ['Nucleoplasm', 'Cytosol']


@pytest.fixture
def files(tmp_path, monkeypatch):
    "Probabilities of 90 samples in three folds, as Parquet and as CSV; their labels; twins of neighbours"
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    hot = rng.random((90, 2)) < .5
    ids = [f's{i:02}' for i in range(90)]
    table = pd.DataFrame(np.clip(.25 + .5*hot + rng.normal(0, .2, hot.shape), .01, .99), columns=CLASSES)
    table.insert(0, 'id', ids)
    table.to_parquet('bare.parquet')
    table.insert(1, 'fold', np.arange(90) % 3)
    table.to_parquet('p.parquet')
    table.to_csv('p.csv', index=False)
    labels = HPA28.subset(' '.join(map(str, (0, 25)))).decode(hot)
    pd.DataFrame(dict(Id=ids, Target=['|'.join(o) or 'none' for o in labels])).to_csv('labels.csv', index=False)
    samples = tidy_samples(pd.DataFrame(dict(id=ids, labels=pd.Series(labels, dtype=object), twin=[f't{i//2}' for i in range(90)])))
    save_samples(samples, tmp_path/'tied.parquet')
    return table, samples


def decided(*words): return json.loads((hpa('decide', *words, '--labels', 'labels.csv', '--out', 'd.json'), open('d.json').read())[1])


def test_the_column_fold_counts_where_nothing_else_is_said(files):
    table, samples = files
    want, score = fit_decision(table, samples, rule='exact')
    for file in ('p.parquet', 'p.csv'):
        found = decided(file, '--rule', 'exact')
        assert found['fitted_on']['folds'] == 3 and np.isclose(found['scores']['nested'], score.nested) and found['thresholds'] == want.thresholds
    said = hpa('decide', 'bare.parquet', '--labels', 'labels.csv', '--out', 'd.json')
    assert 'grouped folds are made' in said and load_decision('d.json').fitted_on['folds'] == 5


def test_a_part_for_thresholds_is_what_they_are_fitted_on(files):
    "Folds as `hpa folds --share --thresh` writes them: a third trains, a third is scored, a third fits thresholds"
    table, samples = files
    part = np.arange(90) % 3
    folds = pd.DataFrame(dict(id=table.id, fold=np.where(part == 0, -1, 0), valid=part == 1, thresh=part == 2))
    folds.sample(frac=1, random_state=0).to_csv('aside.csv', index=False)
    said = hpa('decide', 'bare.parquet', '--labels', 'labels.csv', '--folds', 'aside.csv', '--rule', 'exact', '--out', 'd.json')
    assert '30 samples are scored, 30 fit thresholds; the others do neither' in said
    found = load_decision('d.json')
    apart, scored = (table[part == k].assign(fold=np.arange(30) % 2) for k in (2, 1))
    want, score = fit_apart(apart, scored, samples.drop(columns=['twin', 'group']), rule='exact', draws=2)
    assert found.thresholds == want.thresholds and np.isclose(found.scores['nested'], score.nested) and found.fitted_on['scored'] == 30


def test_options_of_tables_are_refused_for_a_run(tmp_path):
    (tmp_path/'run').mkdir()
    (tmp_path/'run/recipe.toml').write_text('')
    (tmp_path/'run/manifest.json').write_text('{}')
    for words in (['decide', '--folds', 'f.csv'], ['decide', '--reduce', 'max'], ['decide', '--table', 't.csv'], ['submit', '--twins', 't.parquet'], ['submit', '--ids', 'i.csv']):
        said = hpa(words[0], tmp_path/'run', *words[1:], status=2)
        assert f'{words[1]}: ' in said and 'is a run, which knows this itself' in said


def test_a_plan_hands_nothing_in(tmp_path):
    for option, value in (('--folds', 'f.csv'), ('--duplicates', 't.csv'), ('--only', 'decide'), ('--from-best', .1)):
        said = hpa('run', 'default', '--pictures', tmp_path, '--run', tmp_path/'run', '--plan', option, value, status=2)
        assert f'{option}: a plan hands nothing in' in said


def test_a_shifted_decision_averages_twins(files):
    table, samples = files
    folds = pd.DataFrame(dict(Id=table.id, fold=np.arange(90)//2 % 3))
    folds.to_csv('f.csv', index=False)
    how = ['--labels', 'labels.csv', '--folds', 'f.csv', '--calibrate', 'offset']
    decision, _ = fit_decision(table.assign(fold=folds.fold), samples, calibrate='offset', average_twins=True, draws=2)
    decision.save('t.json')
    few = table[table.Cytosol > .5]
    few.to_parquet('few.parquet')
    hpa('submit', 'few.parquet', '--decision', 't.json', '--twins', 'tied.parquet', '--shift', '--out', 'x.csv')
    moved, ratios = shift_decision(decision, few.drop(columns='fold'), twins=samples)
    assert load_decision('x.decision.json').prior == moved.prior and load_decision('x.decision.json').thresholds == moved.thresholds
    plain = decision.model_copy(update=dict(average_twins=False))
    assert shift_decision(plain, few.drop(columns='fold'))[0].prior != moved.prior                 # twins make a difference
    assert 'hpa duplicates --tied' in hpa('submit', 'few.parquet', '--decision', 't.json', '--shift', '--out', 'x.csv', status=2)
    plain.save('n.json')
    assert 'averages no twins' in hpa('submit', 'few.parquet', '--decision', 'n.json', '--twins', 'tied.parquet', '--out', 'x.csv', status=2)
