"One engine, by its commands: every layout goes all the way, whatever one step writes the next one reads, and only what changed is done again."
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import tifffile
from commands import alone, hpa
from PIL import Image

from hpa_lib.data.images import read_sample
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import RGBY, load_samples, read_samples
from hpa_lib.data.store import Store
from hpa_lib.decide.submit import check_submission, read_submission
from hpa_lib.run.bundle import Bundle
from hpa_lib.run.folder import Run
from hpa_lib.synth.atlas import make_atlas

pytestmark = pytest.mark.slow

TINY = ['data.size=32', 'split.folds=2', 'model.arch=test_resnet', 'model.weights=none', 'model.hidden=16', 'train.epochs=1', 'train.bs=8', 'train.log=false', 'views.names=flips']


def words(*changes): return ['--set', *TINY, *changes, '--quiet']


def kaggle(folder, n=48, seed=3, test=8):
    "An atlas in Kaggle's layout; the last antibodies are its test set, in another order than by name"
    make_atlas(folder, n=n, size=32, seed=seed, cover=0, workers=1)
    table, groups = pd.read_csv(folder/'train.csv', dtype=str), pd.read_csv(folder/'groups.csv', dtype=str).set_index('Id').group
    gone = table.Id[groups.loc[table.Id].isin(groups.loc[table.Id[-test:]]).to_numpy()]
    (folder/'test').mkdir()
    for o in list((folder/'train').iterdir()):
        if o.name.rsplit('_', 1)[0] in set(gone): os.rename(o, folder/'test'/o.name)
    table[~table.Id.isin(gone)].to_csv(folder/'train.csv', index=False)
    groups[~groups.index.isin(gone)].reset_index().to_csv(folder/'groups.csv', index=False)
    pd.DataFrame(dict(Id=gone[::-1], Predicted='0')).to_csv(folder/'sample_submission.csv', index=False)
    return folder


def as_public(samples, folder, table):
    "Samples as the public atlas serves them: JPEGs in their display colours, under names of antibody, plate, well and field; and their table"
    folder.mkdir()
    ids = [f'9{k//2:03}_5_A{k//2 % 12 + 1}_{k % 2 + 1}' for k in range(len(samples))]
    for id,row in zip(ids, samples.itertuples()):
        for c,plane in zip(RGBY, read_sample(row)):
            rgb = np.zeros((*plane.shape, 3), np.uint8)
            rgb[..., dict(red=[0], green=[1], blue=[2], yellow=[0, 1])[c]] = plane[..., None]
            Image.fromarray(rgb).save(folder/f'{id}_{c}.jpg', quality=98, subsampling=0)
    labels = [HPA28.text(samples.labels.iloc[k//2*2]) for k in range(len(samples))]
    pd.DataFrame(dict(Id=ids, Target=labels, CellLine='HeLa')).to_csv(table, index=False)
    return ids


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    "A contest's folder with test pictures, and a finished run of it"
    root = tmp_path_factory.mktemp('engine')
    kaggle(root/'kaggle')
    hpa('run', 'default', '--pictures', root/'kaggle', '--run', root/'runs/first', *words())
    return root


@pytest.fixture(autouse=True)
def undrawn(root, monkeypatch):
    "Reports without their figures, which take half of the time of a run as small as these; the first run, and those in processes of their own, draw them"
    for o in ('plot_history', 'plot_classes', 'plot_curves', 'plot_samples'): monkeypatch.setattr(f'hpa_lib.run.folder.{o}', lambda *a, **k: 'not drawn')


def test_two_sources_in_one_command(root, tmp_path):
    "(a) labels of both kept, twins tied, folds proven, the public atlas only trains, a submission in the contest's order"
    ids = as_public(read_samples(root/'kaggle')[:12], tmp_path/'hpa', tmp_path/'hpa.csv')
    hpa('run', 'default', '--pictures', root/'kaggle', '--pictures', tmp_path/'hpa', '--table', tmp_path/'hpa.csv', '--train-only', 'hpav18', '--run', tmp_path/'run', *words('split.twins=bestfitting'))
    run = Run(tmp_path/'run')
    samples, theirs = run.samples.set_index('id'), pd.read_csv(tmp_path/'hpa.csv', dtype=str).set_index('Id').Target
    ours = pd.read_csv(root/'kaggle/train.csv', dtype=str).set_index('Id').Target
    assert {i: HPA28.text(samples.labels[i]) for i in ids} == {i: HPA28.text(HPA28.parse(theirs[i])) for i in ids}
    assert {i: HPA28.text(samples.labels[i]) for i in ours.index} == {i: HPA28.text(HPA28.parse(o)) for i,o in ours.items()}
    pairs = pd.read_csv(run.path/'twins.csv')
    assert len(pairs) >= 12 and samples.twin.notna().sum() >= 24
    assert json.loads((run.path/'leaks.json').read_text())['twin']['leaked'] == 0
    scored = run.folds[run.folds.valid]
    assert not set(scored.id) & set(ids) and set(run.folds.id) == set(ids) | set(ours.index) and set(run.oof.id) == set(scored.id)
    assert read_submission(run.path/'submission.csv').index.tolist() == pd.read_csv(root/'kaggle/sample_submission.csv').Id.tolist()
    # its saved recipe says all of it again
    again = hpa('run', run.path/'recipe.toml', '--run', run.path, '--plan')
    assert again.count('done') == 12 and 'stale' not in again and 'never' not in again


def test_the_contest_of_rgb_pictures(tmp_path):
    "(b) Image,Label from pictures to a submission in the contest's own columns, and predictions for its test pictures"
    rng, folder = np.random.default_rng(0), tmp_path/'z2g'
    for part,n in (('train', 30), ('test', 6)):
        (folder/part).mkdir(parents=True)
        for k in range(n): Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(folder/part/f'{part[0]}{k}.png')
    pd.DataFrame(dict(Image=[f't{k}' for k in range(30)], Label=[f'{k % 10} {(k + 3) % 10}' for k in range(30)])).to_csv(folder/'train.csv', index=False)
    for k in range(6): os.rename(folder/f'test/t{k}.png', folder/f'test/x{k}.png')
    pd.DataFrame(dict(Image=[f'x{k}' for k in (3, 1, 2, 0, 5, 4)], Label='0')).to_csv(folder/'submission.csv', index=False)
    hpa('run', 'z2g', '--pictures', folder, '--run', tmp_path/'run', *words('train.lr=1e-3', 'train.keep=1', 'views.epochs=1'))
    run, sent = Run(tmp_path/'run'), pd.read_csv(tmp_path/'run/submission.csv', dtype=str)
    assert list(sent.columns) == ['Image', 'Label'] and sent.Image.tolist() == ['x3', 'x1', 'x2', 'x0', 'x5', 'x4']
    assert len(check_submission(run.path/'submission.csv', folder/'submission.csv', 'z2g10')) == 6 and run.vocab.name == 'z2g10'
    hpa('predict', run.path, folder, '--part', 'test', '--out', tmp_path/'p.csv', '--quiet')
    said = pd.read_csv(tmp_path/'p.csv', dtype=str).set_index('Id').Predicted
    assert said.loc[sent.Image].tolist() == sent.Label.tolist()


def test_two_runs_become_one(root, tmp_path):
    "(c) blended, decided, submitted, bundled; and the bundle predicts what the submission says, each member in its own size and channels"
    hpa('run', 'default', '--pictures', root/'kaggle', '--run', root/'runs/rgb', *words('data.size=48', 'data.channels=["red", "green", "blue"]', 'train.seed=5', 'views.reduce=max'))
    both = tmp_path/'both'
    text = hpa('blend', root/'runs/first', root/'runs/rgb', '--out', both)
    assert 'hpa decide' in text
    assert 'macro F1' in hpa('decide', both, '--rule', 'exact')
    hpa('submit', both)
    hpa('bundle', both)
    run, bundle = Run(both), Bundle(both)
    assert set(run.decision.blend.weights) == {'first', 'rgb'} and sum(run.decision.blend.weights.values()) == pytest.approx(1)
    sent = pd.read_csv(both/'submission.csv', dtype=str)
    assert sent.Id.tolist() == pd.read_csv(root/'kaggle/sample_submission.csv').Id.tolist()
    assert [len(m.channels) for m in bundle.members] == [4, 3] and [m.size for m in bundle.members] == [32, 48]
    hpa('predict', both, root/'kaggle', '--part', 'test', '--out', tmp_path/'p.csv', '--quiet')
    said = pd.read_csv(tmp_path/'p.csv', dtype=str).set_index('Id').Predicted
    assert said.loc[sent.Id].fillna('').tolist() == sent.Predicted.fillna('').tolist()
    # tables of runs are tables like anybody's
    hpa('blend', root/'runs/first/test.parquet', root/'runs/rgb/test.parquet', '--out', tmp_path/'t.parquet')
    hpa('decide', root/'runs/first/oof.parquet', root/'runs/rgb/oof.parquet', '--blend', 'mean', '--out', tmp_path/'d.json')
    hpa('submit', root/'runs/first/test.parquet', root/'runs/rgb/test.parquet', '--decision', tmp_path/'d.json', '--out', tmp_path/'s.csv')
    assert len(read_submission(tmp_path/'s.csv')) == len(sent)
    copy = tmp_path/'stranger.parquet'
    shutil.copy(root/'runs/first/oof.parquet', copy)
    assert '--reduce' in hpa('decide', copy, '--labels', root/'kaggle', '--out', tmp_path/'e.json', status=2)
    hpa('decide', copy, '--labels', root/'kaggle', '--reduce', 'mean', '--out', tmp_path/'e.json')
    assert json.loads((tmp_path/'e.json').read_text())['thresholds'] == json.loads((root/'runs/first/decision.json').read_text())['thresholds']


def test_a_fold_now_the_others_later(root, tmp_path):
    "(d) by two processes, of which this is one"
    how = ['run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'run', *words('split.folds=3')]
    assert 'folds [1]' in hpa(*how, '--fold', 1)
    first = (tmp_path/'run/fold1/model.safetensors').stat().st_mtime_ns
    assert Run(tmp_path/'run').trained == [1] and set(Run(tmp_path/'run').oof.fold) == {1}
    assert 'folds [0, 1, 2]' in alone(*how, '--fold', 0, 2)
    run = Run(tmp_path/'run')
    assert (run.path/'fold1/model.safetensors').stat().st_mtime_ns == first and set(run.oof.fold) == {0, 1, 2}
    assert run.decision.fitted_on['samples'] == len(run.folds)


def test_train_and_run_go_on_with_one_another(root, tmp_path):
    "(e) begun in this process and ended in another, the other way round too"
    store = tmp_path/'packed.zarr'
    hpa('pack', root/'kaggle', '--size', 32, '--out', store, '--quiet')
    for begin,end in (('run', 'train'), ('train', 'run')):
        path = tmp_path/begin
        how = dict(run=['run', 'default', '--pictures', store, '--run', path, *words()], train=['train', store, '--run', path, *words()])
        assert 'folds [0]' in hpa(*how[begin], '--fold', 0)
        first = (path/'fold0/model.safetensors').stat().st_mtime_ns
        assert 'folds [0, 1]' in alone(*how[end])
        assert (path/'fold0/model.safetensors').stat().st_mtime_ns == first
        assert hpa(*how[begin], '--plan').count('done') == hpa(*how[end], '--plan').count('done') == 10
    a, b = (Run(tmp_path/o) for o in ('run', 'train'))
    assert a.report == b.report and (a.path/'submission.csv').read_bytes() == (b.path/'submission.csv').read_bytes()


def test_back_to_the_best_epoch_at_a_tenth(root, tmp_path):
    "(f) a training is killed, its process is gone, and goes on from its best epoch at a lower rate"
    path = tmp_path/'run'
    how = ['run', 'default', '--pictures', root/'kaggle', '--run', path, *words('train.epochs=60', 'train.schedule=constant', 'train.lr=.05', 'train.bs=4')]
    going = subprocess.Popen([sys.executable, '-m', 'hpa_lib', *map(str, how)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    history = path/'fold0/history.csv'
    for _ in range(1200):
        if history.is_file() and len(pd.read_csv(history)) >= 4: break
        assert going.poll() is None
        time.sleep(.1)
    going.send_signal(signal.SIGKILL)
    going.wait()
    before = pd.read_csv(history)
    assert 4 <= len(before) < 60
    short = ['run', path, '--fold', 0, '--from-best', .1, '--quiet']
    alone(*short)
    after = pd.read_csv(history)
    assert len(after) == 60
    steering = json.loads((path/'fold0/steering.json').read_text())
    at = steering[0]['epoch'] + 1
    assert np.allclose(after.lr[:at], .05) and np.allclose(after.lr[at:], .005) and len(before) - 1 <= at <= len(before) + 1
    # a fold that has ended begins again from its best epoch, and can only become better
    best, weights = after.valid_focal.min(), (path/'fold0/model.safetensors').read_bytes()
    hpa('run', path, '--fold', 0, '--from-best', .1, '--set', 'train.epochs=8', '--quiet')
    start = json.loads((path/'fold0/start.json').read_text())
    assert start['scale'] == pytest.approx(.1) and start['value'] == pytest.approx(best)
    again = pd.read_csv(history)
    assert len(again) == 8 and np.allclose(again.lr, .005)
    assert again.valid_focal.min() < best or (path/'fold0/model.safetensors').read_bytes() == weights
    assert 'fold1 has no training to go on with: train it first' in hpa('run', path, '--fold', 1, '--from-best', .1, '--quiet', status=2)


def test_single_steps_are_the_one_command(root, tmp_path, monkeypatch):
    "(g) pack, duplicates, folds, leaks, train: each takes what the one before wrote, and the end is the same"
    monkeypatch.chdir(tmp_path)
    hpa('pack', root/'kaggle', '--size', 32, '--out', 'mine.zarr', '--quiet')
    hpa('duplicates', 'mine.zarr', '--run', 'mine', '--quiet')
    hpa('folds', 'mine.zarr', '--run', 'mine', '--n', 2)
    assert 'no group is cut' in hpa('leaks', 'mine.zarr', '--run', 'mine')
    hpa('train', 'mine.zarr', '--run', 'mine', '--sample', root/'kaggle/sample_submission.csv', *words())
    one, steps = Run(root/'runs/first'), Run('mine')
    assert sorted(o.name for o in (steps.path/'given').iterdir()) == ['folds.parquet', 'twins.parquet']
    assert one.report == steps.report and one.folds.equals(steps.folds) and one.decision == steps.decision
    assert (one.path/'submission.csv').read_bytes() == (steps.path/'submission.csv').read_bytes()


def test_a_microscope_with_classes_of_its_own(tmp_path):
    "(h) 12-bit TIFFs of own names and own classes, the reading said once, from pictures to predictions"
    rng, classes = np.random.default_rng(1), ['Primary cilium', 'Vesicles', 'Basal body']
    def field(path, k):
        x = rng.integers(0, 1200, (3, 40, 40)).astype(np.uint16)
        x[1] += np.uint16(900*(k % 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        for name,plane in zip(('tub', 'gfp', 'dapi'), x): tifffile.imwrite(path.with_name(f'{path.name}_{name}.tif'), plane)
    rows = []
    for k in range(24):
        field(tmp_path/f'scope/P{k//6}/W{k}', k)
        rows.append((f'P{k//6}_W{k}', classes[k % 3], f'ab{k//2}'))
    pd.DataFrame(rows, columns=['Id', 'Target', 'antibody']).to_csv(tmp_path/'labels.csv', index=False)
    (tmp_path/'classes.txt').write_text('\n'.join(classes))
    how = ['--pattern', '{plate}/{well}_{channel}.tif', '--names', 'tub=red,gfp=green,dapi=blue', '--channels', 'red,green,blue', '--depth', 12, '--vocab', tmp_path/'classes.txt', '--table', tmp_path/'labels.csv']
    hpa('run', 'default', '--pictures', tmp_path/'scope', *how, '--run', tmp_path/'run', *words('data.channels=["red", "green", "blue"]', 'split.twins=none'))
    run = Run(tmp_path/'run')
    assert run.vocab.names == classes and set(run.samples.antibody) == {f'ab{k}' for k in range(12)}
    assert run.store.reading.depth == '12' and int(run.store[0].max()) > 40          # twelve bits were used, not sixteen
    for k in range(3): field(tmp_path/f'new/P9/W{k}', k)
    hpa('predict', run.path, tmp_path/'new', '--out', tmp_path/'p.csv', '--quiet')   # nothing is said again
    said = pd.read_csv(tmp_path/'p.csv')
    assert said.Id.tolist() == ['P9_W0', 'P9_W1', 'P9_W2'] and set(classes) <= set(said) and said.status.eq('ok').all()
    assert said[classes].gt(0).all(axis=None)


def test_what_is_decoded_again(root, tmp_path, monkeypatch):
    "(i) a corrected label decodes nothing, a changed picture one, a new one one; another run of the same pictures none"
    import hpa_lib.data.store as store
    decoded, real = [], store.open_sample
    monkeypatch.setattr(store, 'open_sample', lambda row, *a, **k: decoded.append(row) or real(row, *a, **k))
    folder = shutil.copytree(root/'kaggle', tmp_path/'kaggle')
    def run(name, *more): hpa('run', 'default', '--pictures', folder, '--run', tmp_path/name, '--fold', 0, *words(*more))
    def only_pack(name, *more):
        for step in ('samples', 'pack'): hpa('run', 'default', '--pictures', folder, '--run', tmp_path/name, '--only', step, *words(*more))
    def count():
        n = len(decoded)
        decoded.clear()
        return n
    run('run')
    assert count() == 48
    labels = pd.read_csv(folder/'train.csv', dtype=str)
    labels.loc[0, 'Target'] = '3 4' if labels.Target[0] != '3 4' else '5'
    labels.to_csv(folder/'train.csv', index=False)
    was = (tmp_path/'run/fold0/model.safetensors').stat().st_mtime_ns
    run('run')
    assert count() == 0 and (tmp_path/'run/fold0/model.safetensors').stat().st_mtime_ns != was
    assert HPA28.text(Run(tmp_path/'run').store.samples.set_index('id').labels[labels.Id[0]]) == labels.Target[0]
    one = folder/f'train/{labels.Id[1]}_green.png'
    Image.fromarray(255 - np.asarray(Image.open(one))).save(one)
    only_pack('run')
    assert count() == 1
    for c in RGBY: shutil.copy(folder/f'train/{labels.Id[2]}_{c}.png', folder/f'train/another_{c}.png')
    labels.loc[len(labels)] = ['another', '0']
    labels.to_csv(folder/'train.csv', index=False)
    groups = pd.read_csv(folder/'groups.csv', dtype=str)
    groups.loc[len(groups)] = ['another', 'new']
    groups.to_csv(folder/'groups.csv', index=False)
    was = (tmp_path/'run/fold0/model.safetensors').stat().st_mtime_ns
    run('run')
    assert count() == 1 and (tmp_path/'run/fold0/model.safetensors').stat().st_mtime_ns != was
    only_pack('second', 'train.lr=1e-3')
    stores = [Run(tmp_path/o).manifest['store'] for o in ('run', 'second')]
    assert count() == 0 and stores[0] == stores[1] and len(list((tmp_path/'stores').glob('*.zarr'))) == 1
    hpa('pack', folder, '--size', 32, '--out', tmp_path/'fresh.zarr', '--quiet')
    assert count() == 49 and Store(tmp_path/'fresh.zarr').fingerprint == Run(tmp_path/'run').store.fingerprint


def test_a_run_knows_itself(root):
    "A second call does nothing; a run folder is enough to go on; its manifest holds a digest of every file that is read later"
    run = Run(root/'runs/first')
    was = (run.path/'bundle/bundle.json').stat().st_mtime_ns
    assert 'macro F1' in hpa('run', run.path, '--quiet') and (run.path/'bundle/bundle.json').stat().st_mtime_ns == was
    assert hpa('run', run.path, '--plan', '--quiet').count('never') == 0
    assert {'oof.parquet', 'decision.json', 'folds.parquet', 'fold0/model.safetensors', 'tied.parquet'} <= set(run.manifest['files'])


def test_edits_are_refused_or_accepted(root, tmp_path):
    run = shutil.copytree(root/'runs', tmp_path/'runs')/'first'
    file = run/'decision.json'
    facts = json.loads(file.read_text())
    facts['thresholds']['Nucleoplasm'] = .987
    file.write_text(json.dumps(facts))
    text = hpa('run', run, '--quiet', status=2)
    assert 'decision.json is not what step decide wrote' in text and '--accept decision.json' in text
    hpa('run', run, '--accept', 'decision.json', '--quiet')
    assert Run(run).manifest['accepted'].keys() == {'decision.json'} and Run(run).decision.thresholds['Nucleoplasm'] == .987
    assert Bundle(run).decision.thresholds['Nucleoplasm'] == .987 and 'Edited by hand' in (run/'report.html').read_text()
    hpa('run', run, '--quiet')
    file.unlink()
    hpa('run', run, '--quiet')
    assert Run(run).decision == Run(root/'runs/first').decision and not Run(run).manifest['accepted']


def test_weights_of_an_earlier_run(root, tmp_path):
    "They fill the head by class names; what they have seen is not scored, or the score is called seen"
    weights = root/'runs/first/fold0/model.safetensors'
    how = ['run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'run']
    text = hpa(*how, *words(f'model.weights={weights}', 'split.seed=7'), status=2)
    assert 'was trained on' in text and 'model.seen=mark' in text
    assert 'SEEN' in hpa(*how, *words(f'model.weights={weights}', 'split.seed=7', 'model.seen=mark'))
    run = Run(tmp_path/'run')
    assert run.report['seen'] and Bundle(run.path).about['seen'] and 'not honest' in (run.path/'report.html').read_text()
    other = kaggle(tmp_path/'other', n=30, seed=11, test=4)
    for o in [*(other/'train').iterdir(), *(other/'test').iterdir()]: os.rename(o, o.with_name(f'o{o.name}'))
    for file,col in (('train.csv', 'Target'), ('groups.csv', 'group'), ('sample_submission.csv', 'Predicted')):
        table = pd.read_csv(other/file, dtype=str)
        table.assign(Id='o' + table.Id, **({'group': 'o' + table.group} if col == 'group' else {})).to_csv(other/file, index=False)
    if (other/'atlas.csv').is_file(): (other/'atlas.csv').unlink()
    hpa('run', 'default', '--pictures', other, '--run', tmp_path/'fresh', *words(f'model.weights={weights}'))
    fresh = Run(tmp_path/'fresh')
    assert 'seen' not in fresh.report and 'filled' in json.loads((fresh.path/'fold0/fold.json').read_text())


def test_options_that_are_said_twice_and_cannot_be_used(root, tmp_path):
    how = ['run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'run', '--plan']
    text = hpa(*how, '--set', *TINY, '--set', 'train.lr=.25')
    assert 'samples' in text and not (tmp_path/'run').exists()
    assert '--scale is said twice' in hpa(*how, '--scale', 'small', '--scale', 'small', status=2)
    assert '--yellow: none of' in hpa(*how, '--yellow', 'grey', status=2)
    assert 'there is no fold 9' in hpa(*how, '--set', *TINY, '--fold', 9, status=2)
    assert 'no such folder' in hpa('run', 'default', '--pictures', tmp_path/'nowhere', '--quiet', status=2)
    hpa('run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'two', '--only', 'samples', '--quiet', '--set', *TINY, '--set', 'train.lr=.25', 'train.epochs=3')
    found = Run(tmp_path/'two').recipe
    assert (found.train.lr, found.train.epochs, found.data.size) == (.25, 3, 32)


def test_folds_and_twins_of_ones_own(root, tmp_path):
    "They are taken as they are; twins that the folds would part are refused, and the file of folds is named"
    samples = load_samples(root/'runs/first/tied.parquet').query('~is_test')
    codes = pd.Series(pd.factorize(samples.group)[0] % 3, samples.id)
    codes.rename('fold').rename_axis('Id').reset_index().to_csv(tmp_path/'f.csv', index=False)
    def run(step, *more): hpa('run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'run', '--only', step, *words(), *more)
    for step in ('samples', 'pack', 'duplicates', 'folds'): run(step, *(['--folds', tmp_path/'f.csv'] if step == 'samples' else []))
    found = Run(tmp_path/'run').folds.set_index('id')
    assert found.fold.to_dict() == codes.to_dict() and set(found.fold) == {0, 1, 2}     # three, where the recipe says two
    assert [o.name for o in (tmp_path/'run/given').iterdir()] == ['folds.csv']
    a, b = samples.id.iloc[0], next(o for o in samples.id if codes[o] != codes[samples.id.iloc[0]])
    (tmp_path/'t.txt').write_text(f'{a},{b}\n')
    run('duplicates', '--duplicates', tmp_path/'t.txt')
    tied = load_samples(tmp_path/'run/tied.parquet')
    assert set(tied.id[tied.twin.notna()]) == {a, b}
    assert 'are cut' in hpa('run', 'default', '--pictures', root/'kaggle', '--run', tmp_path/'run', *words(), status=2)
    assert not (tmp_path/'run/fold0').exists()
