"`hpa pack`, `train` and `predict` on real pictures: a test of formats and of the way through the house, not of biology."
import pandas as pd
import pytest
from commands import hpa

from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.decide.blend import Blend
from hpa_lib.decide.decision import Decision
from hpa_lib.nets.models import Precision, rgby_model, save_model
from hpa_lib.run.bundle import Bundle, Member, save_members

CLASSES = ['Nucleoplasm', 'Nucleoli', 'Plasma membrane', 'Mitochondria', 'Cytosol']


@pytest.fixture(scope='module')
def bundle(real, tmp_path_factory):
    "One quickly trained fold on real single cells; groups of one mosaic stay together."
    root = tmp_path_factory.mktemp('real')
    hpa('pack', real/'cells256', '--out', root/'cells.zarr', '--size', 64, '--quiet')
    small = ['--set', 'train.epochs=1', 'model.hidden=32', 'views.names=none']
    hpa('train', root/'cells.zarr', '--run', root/'run', '--fold', 0, '--classes', '0 2 21 23 25', '--quiet', *small)
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
    text = hpa('predict', bundle, real/'formats/one_channel', '--out', tmp_path/'p.csv', '--quiet', status=2)
    assert '00822d20-bbc1-11e8-b2bb-ac1f6b6435d0' in text and 'yellow' in text and not (tmp_path/'p.csv').exists()
    with pytest.warns(UserWarning, match="with missing='allow', those of the training were read with missing='error'"):
        hpa('predict', bundle, real/'formats/one_channel', '--out', tmp_path/'p.csv', '--quiet', '--allow-missing')
    assert len(pd.read_csv(tmp_path/'p.csv')) == 12


@pytest.mark.slow
def test_two_members_of_different_size_on_real_fields(bundle, real, tmp_path):
    "The trained fold, and a fresh network on red, green and blue at another size; each as it answers alone"
    trained, samples = Bundle(bundle, precision=Precision()), read_samples(real/'fields512')[:4]
    vocab, rgb = trained.vocab, ['red', 'green', 'blue']
    net = save_model(rgby_model('test_resnet', len(vocab), rgb, weights=None, hidden=8), tmp_path/'n.safetensors')
    store = pack(samples, tmp_path/'s.zarr', 48, rgb, progress=False)
    small = Member.of([net], store, 'flips*crops2', crop=32, name='small', vocab=vocab)
    half = Decision(thresholds=dict.fromkeys(vocab.names, .5))
    blended = half.model_copy(update=dict(blend=Blend(how='mean', weights=dict(model=.5, small=.5), classes=vocab.names)))
    def answer(name, members, decision):
        path = save_members(tmp_path/name, members, vocab, decision)
        return Bundle(path, precision=Precision()).predict(samples, progress=False)[CLASSES]
    alone = answer('a', trained.members, half) + answer('b', [small], half)
    pd.testing.assert_frame_equal(answer('both', [*trained.members, small], blended), alone/2, rtol=0, atol=1e-5)
