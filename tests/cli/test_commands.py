"The commands as a person uses them: on folders, one after the other, with mistakes."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import alone, hpa

from hpa_lib.cli import commands
from hpa_lib.synth.atlas import make_atlas

QUICK = ['--set', 'train.epochs=1', 'train.bs=16', 'model.hidden=32', 'views.names=none', 'split.folds=2']


@pytest.fixture(scope='module')
def atlas(tmp_path_factory):
    return make_atlas(tmp_path_factory.mktemp('cli')/'atlas', n=64, size=64, seed=9)


@pytest.fixture(scope='module')
def trained(atlas):
    "A store and a run, made by the commands."
    root = atlas.parent
    alone('pack', atlas, '--out', root/'a.zarr', '--size', 64, '--quiet')
    alone('train', root/'a.zarr', '--run', root/'run', '--quiet', '--classes', '0 21 25', *QUICK)
    return root


@pytest.mark.parametrize('command', commands)
def test_every_parameter_has_help(command):
    text = hpa(command, '--help')
    lines = [o for o in text.splitlines() if o.startswith('  --') or o.startswith('  -h')]
    assert lines and all(len(o.split()) > 2 or text.split(o)[1].startswith('\n      ') for o in lines)


@pytest.mark.slow
def test_demo_leaves_a_whole_run(tmp_path):
    text = alone('demo', '--path', tmp_path/'d', '--n', 80, '--quiet', '--set', 'data.size=64', *QUICK[1:])
    assert 'macro F1' in text and 'report.html' in text and 'test set' in text
    run, = (o for o in (tmp_path/'d/runs').iterdir() if o.name != 'stores')
    need = 'recipe.toml manifest.json steps.json samples.parquet tied.parquet folds.parquet leaks.json oof.parquet test.parquet decision.json nested.parquet classes.csv report.json report.html submission_0.5.csv submission.csv bundle'
    assert set(need.split()) <= {o.name for o in run.iterdir()}
    manifest = json.loads((run/'manifest.json').read_text())
    assert {'store_hash', 'folds_hash', 'versions', 'folds', 'finished'} <= set(manifest)


@pytest.mark.slow
def test_pack_train_predict(trained, atlas):
    out = trained/'p.csv'
    alone('predict', trained/'run', atlas/'train', '--out', out, '--quiet')
    table = pd.read_csv(out)
    assert len(table) == 64 and {'Id', 'labels', 'Predicted', 'Nucleoplasm', 'Plasma membrane', 'Cytosol'} <= set(table)
    assert table[['Nucleoplasm', 'Cytosol']].apply(lambda o: o.between(0, 1).all()).all()
    assert set(table.Predicted.astype(str).str.split().explode()) <= {'0', '21', '25'}


@pytest.mark.slow
def test_single_fold_then_the_rest(trained):
    run = trained/'one'
    text = hpa('train', trained/'a.zarr', '--run', run, '--quiet', '--fold', 0, *QUICK)
    assert 'folds [0]' in text
    weights = (run/'fold0/model.safetensors').stat().st_mtime_ns
    text = hpa('train', trained/'a.zarr', '--run', run, '--quiet', *QUICK)
    assert 'folds [0, 1]' in text and (run/'fold0/model.safetensors').stat().st_mtime_ns == weights


@pytest.mark.slow
def test_folds_from_a_file(trained):
    ids = pd.read_csv(trained/'atlas/groups.csv', dtype=str)
    codes = pd.factorize(ids.group)[0] % 2
    pd.DataFrame(dict(Id=ids.Id, fold=codes)).to_csv(trained/'f.csv', index=False)
    hpa('train', trained/'a.zarr', '--run', trained/'filed', '--quiet', '--folds', trained/'f.csv', *QUICK)
    assert (pd.read_parquet(trained/'filed/folds.parquet').set_index('id').fold.loc[ids.Id].to_numpy() == codes).all()
    pd.DataFrame(dict(Id=ids.Id, fold=np.arange(len(ids)) % 2)).to_csv(trained/'cut.csv', index=False)
    assert 'groups are cut' in hpa('train', trained/'a.zarr', '--run', trained/'never', '--folds', trained/'cut.csv', *QUICK, status=2)


@pytest.mark.slow
def test_mistakes_are_named(trained, atlas):
    assert 'did you mean epochs' in hpa('train', trained/'a.zarr', '--set', 'train.epoch=3', status=2)
    assert "unknown label '99'" in hpa('train', trained/'a.zarr', '--classes', '0 99', status=2)
    poor = trained/'poor'
    shutil.copytree(atlas/'train', poor)
    gone = sorted(poor.glob('*_yellow.png'))[0]
    gone.unlink()
    text = hpa('predict', trained/'run', poor, '--out', trained/'q.csv', '--quiet', status=2)
    assert gone.name.removesuffix('_yellow.png') in text and 'yellow' in text and not (trained/'q.csv').exists()
    hpa('predict', trained/'run', poor, '--out', trained/'q.csv', '--quiet', '--allow-missing')
    assert len(pd.read_csv(trained/'q.csv')) == 64
    file = trained/'a_file'
    file.write_text('in the way')
    assert 'a_file' in hpa('pack', atlas, '--out', file/'a.zarr', '--size', 64, status=2)
    (trained/'empty').mkdir()
    assert 'empty' in hpa('predict', trained/'run', trained/'empty', status=2)
    hpa('pack', atlas, '--out', trained/'rgb.zarr', '--size', 64, '--channels', 'red,green,blue', '--quiet')
    assert 'channels' in hpa('predict', trained/'run', trained/'rgb.zarr', status=2)
