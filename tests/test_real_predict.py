"`hpa pack`, `train` and `predict` on real pictures: a test of formats and of the way through the house, not of biology."
import pandas as pd
import pytest
from test_cli import hpa

CLASSES = ['Nucleoplasm', 'Nucleoli', 'Plasma membrane', 'Mitochondria', 'Cytosol']


@pytest.fixture(scope='module')
def bundle(real, tmp_path_factory):
    "One quickly trained fold on real single cells; groups of one mosaic stay together."
    root = tmp_path_factory.mktemp('real')
    hpa('pack', real/'cells256', '--out', root/'cells.zarr', '--size', 64, '--quiet')
    hpa('train', root/'cells.zarr', '--run', root/'run', '--fold', 0, '--classes', '0 2 21 23 25', '--quiet', '--set', 'train.epochs=1', 'model.hidden=32', 'views.names=none')
    groups = pd.read_csv(real/'cells256/groups.csv', dtype=str).set_index('Id').group
    folds = pd.read_parquet(root/'run/folds.parquet')
    assert (folds.assign(group=groups[folds.id].to_numpy()).groupby('group').fold.nunique() == 1).all()
    return root/'run/bundle'


@pytest.mark.slow
@pytest.mark.parametrize('folder, ids', [('fields512', 10), ('formats', 2)])
def test_fields_and_full_size_formats(bundle, real, tmp_path, folder, ids):
    hpa('predict', bundle, real/folder, '--out', tmp_path/'p.csv', '--quiet')
    table = pd.read_csv(tmp_path/'p.csv', dtype=dict(Id=str, Predicted=str))
    assert len(table) == ids and (table.status == 'ok').all() and table.Id.is_unique
    assert table.columns[-5:].tolist() == CLASSES and table[CLASSES].apply(lambda o: o.between(0, 1).all()).all()
    if folder == 'formats':
        assert sorted(table.Id) == ['000a6c98-bb9b-11e8-b2b9-ac1f6b6435d0', '800_A6_1']


@pytest.mark.slow
def test_one_channel_is_refused_and_may_be_allowed(bundle, real, tmp_path):
    text = hpa('predict', bundle, real/'formats/one_channel', '--out', tmp_path/'p.csv', '--quiet', ok=False)
    assert '00822d20-bbc1-11e8-b2bb-ac1f6b6435d0' in text and 'yellow' in text and not (tmp_path/'p.csv').exists()
    hpa('predict', bundle, real/'formats/one_channel', '--out', tmp_path/'p.csv', '--quiet', '--allow-missing')
    assert len(pd.read_csv(tmp_path/'p.csv')) == 12
