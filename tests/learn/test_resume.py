"A training killed at any moment and started again by the same command ends as if nothing had happened, to the bit."
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.torch_core import set_seed
from PIL import Image
from safetensors.torch import load_file

from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.learn.callbacks import Averaging, History, KeepBest
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import store_dls
from hpa_lib.learn.resume import Checkpoint, ResumeError, SteerByHand, from_best, steer
from hpa_lib.nets.models import save_model
from hpa_lib.nets.weights import read_about, read_state
from hpa_lib.run.folder import predict_fold, train_fold
from hpa_lib.run.pipeline import start_run
from hpa_lib.run.recipes import load_recipe

pytestmark = pytest.mark.slow

# One fold of a run, as `hpa train` would do it. The third argument says where the process kills itself, the fourth in
# which epoch: "half" while the checkpoint is written, "unnamed" when it is written but not yet in its place, "named"
# when it just has got its name; "log", "best": when those files of the epoch are written; "after": anywhere, so many
# milliseconds after it began.
CHILD = '''
import os, signal, sys, threading
from pathlib import Path
import torch
torch.set_num_threads(1)
from hpa_lib.run.recipes import load_recipe
from hpa_lib.run.folder import Run, predict_fold, train_fold
from hpa_lib.data.store import Store
import hpa_lib.learn.callbacks, hpa_lib.learn.resume
store, run, where, when = Store(sys.argv[1]), Run(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def die(): os.kill(os.getpid(), signal.SIGKILL)
save, replace, model, seen = torch.save, os.replace, hpa_lib.learn.callbacks.save_model, dict(epoch=-1)
def cut_save(state, f, *args, **kwargs):
    seen['epoch'] = state['epoch']
    if (where, when) != ('half', seen['epoch']): return save(state, f, *args, **kwargs)
    import io
    whole = io.BytesIO()
    save(state, whole)
    f.write(whole.getvalue()[:len(whole.getvalue())//2])
    f.flush()
    die()
def cut_replace(a, b):
    checkpoint = Path(b).name == 'checkpoint.pt'
    if (where, when) == ('unnamed', seen['epoch']) and checkpoint: die()
    if where == 'log' and Path(b).name == f'epoch_{when:03d}_valid.parquet': die()
    replace(a, b)
    if (where, when) == ('named', seen['epoch']) and checkpoint: die()
def cut_model(net, path):
    model(net, path)
    if where == 'best' and Path(path).name == f'epoch_{when:03d}.safetensors': die()
torch.save, os.replace, hpa_lib.learn.callbacks.save_model = cut_save, cut_replace, cut_model
if where == 'after': threading.Timer(when/1000, die).start()
if not (run.fold(0)/'fold.json').is_file(): train_fold(run, store, 0, progress=False)
predict_fold(run, store, 0, progress=False)
'''

VARIANTS = dict(ema=['train.average=ema', 'train.sampler=max_log', 'train.schedule=one_cycle', 'train.monitor=macro_f1', 'train.keep=2'],
                mixup=['train.mix=mixup', 'train.opt=amsgrad', 'train.plateau=1', 'train.schedule=constant', 'train.clip=1',
                       'train.freeze=1', 'train.accumulate=2'])
KILLS = dict(ema=[('best', 1), ('half', 1), ('named', 2)], mixup=[('unnamed', 0), ('log', 2)])      # then once more each at a random moment


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "64 pictures at 48 px: blurs of noise, brighter where a label is there"
    root, rng = tmp_path_factory.mktemp('resume'), np.random.default_rng(0)
    (root/'atlas/train').mkdir(parents=True)
    for i in range(64):
        for c,light in zip(('red', 'green', 'blue', 'yellow'), (60, 40 + 50*(i % 4), 60, 60)):
            Image.fromarray(rng.integers(0, light, (48, 48), np.uint8)).save(root/f'atlas/train/s{i:02}_{c}.png')
    targets = [['0', '25', '2 0', '21'][i % 4] for i in range(64)]
    table = pd.DataFrame(dict(Id=[f's{i:02}' for i in range(64)], Target=targets))
    table.to_csv(root/'atlas/train.csv', index=False)
    return pack(read_samples(root/'atlas'), root/'s.zarr', 48, progress=False)


def recipe(variant):
    return load_recipe('default', [
        'data.size=48', 'data.classes=0 2 21 25', 'split.folds=2', 'views.names=flips',
        'model.arch=resnet18', 'model.weights=none', 'model.hidden=32',
        'train.bs=8', 'train.epochs=4', 'train.lr=0.002', 'train.loss=0.5*focal + 0.5*soft_f1',
        *VARIANTS[variant],
    ])


def start(store, run, where='never', when=0):
    "The command, whatever was before"
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')])
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=paths)
    words = [sys.executable, '-W', 'ignore', '-c', CHILD, str(store.path), str(run), where, str(int(when))]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)


def finished(child):
    out, err = child.communicate(timeout=300)
    return child.returncode, err


@pytest.fixture(scope='module')
def undisturbed(store, tmp_path_factory):
    "Fold and seconds of training of each variant, never killed, in this process"
    made, threads = {}, torch.get_num_threads()
    def fold(variant):
        if variant not in made:
            run, began = start_run(store, recipe(variant), path=tmp_path_factory.mktemp('undisturbed')/variant), time.monotonic()
            train_fold(run, store, 0, progress=False)
            made[variant] = predict_fold(run, store, 0, progress=False), time.monotonic() - began
        return made[variant]
    torch.set_num_threads(1)
    yield fold
    torch.set_num_threads(threads)


def only_partial(folder, name):
    "The one piece that a killed process left of a file"
    found = list(folder.glob(f'.{name}.*.partial'))
    assert len(found) == 1
    return found


def digest(file): return hashlib.sha256(file.read_bytes()).hexdigest()


def same_files(a, b):
    "Every file of a fold, tensors and tables compared to the bit"
    files = [sorted(str(o.relative_to(p)) for o in p.rglob('*') if o.is_file()) for p in (a, b)]
    assert files[0] == files[1], 'other files'
    for o in files[0]:
        if o.endswith('.safetensors'):
            x, y = load_file(a/o), load_file(b/o)
            assert list(x) == list(y) and all(x[k].numpy().tobytes() == y[k].numpy().tobytes() for k in x), o
        elif o.endswith('.parquet'): pd.testing.assert_frame_equal(pd.read_parquet(a/o), pd.read_parquet(b/o), check_exact=True)
        elif o == 'history.csv':
            x, y = (pd.read_csv(p/o, dtype=str).drop(columns='time') for p in (a, b))
            pd.testing.assert_frame_equal(x, y)
        elif o != 'fold.json': assert digest(a/o) == digest(b/o), o
    return files[0]


@pytest.mark.parametrize('variant', VARIANTS)
def test_killed_and_started_again_until_done(store, undisturbed, tmp_path, variant):
    whole, seconds = undisturbed(variant)
    run = start_run(store, recipe(variant), path=tmp_path/variant).path
    share = np.random.default_rng(len(variant)).uniform(.1, .5)
    for where,when in [*KILLS[variant], ('after', 1000*share*seconds)]:
        code, err = finished(start(store, run, where, when))
        assert code == -signal.SIGKILL or where == 'after' and code == 0, f'{where} {when}: {err or "ended before it was killed"}'
        if where != 'after': assert not (run/'fold0/fold.json').is_file()
        if where == 'half':                                              # half a checkpoint, never taken for one
            assert all(o.stat().st_size > 1000 for o in only_partial(run/'fold0', 'checkpoint.pt'))
    code, err = finished(start(store, run))
    assert code == 0, err
    files = same_files(whole, run/'fold0')
    logs = [f'logs/epoch_{e:03d}_{o}.parquet' for e in range(4) for o in ('train', 'valid')]
    assert {'model.safetensors', 'history.csv', 'oof.parquet', 'fold.json', *logs} <= set(files) and len(pd.read_csv(run/'fold0/history.csv')) == 4
    assert not [o for o in files if 'partial' in o or 'checkpoint' in o]


def test_the_variants_are_worth_comparing(undisturbed):
    "Two trainings that differ are told apart, and the pictures were drawn by weight"
    a, b = (undisturbed(o)[0] for o in VARIANTS)
    with pytest.raises(AssertionError): same_files(a, b)
    drawn = pd.read_parquet(a/'logs/epoch_000_train.parquet').id
    assert drawn.duplicated().any() and not pd.read_parquet(b/'logs/epoch_000_train.parquet').id.duplicated().any()


# --- on from the best epoch, in this process ---

class Played(Callback):
    "The column valid_focal is played: epoch 1 is the best of the first four"
    order, values = 52, [3., 1., 2., 4., 1.5, .5]
    def after_epoch(self): self.recorder.values[-1][2] = self.values[self.epoch]


class Cut(Callback):
    "The process is gone in this batch"
    def __init__(self, epoch, batch): self.at = (epoch, batch)
    def before_step(self):
        if (self.epoch, self.iter) == self.at: raise InterruptedError('gone')


class Begun(Callback):
    "Weights and rate with which an epoch's first step is made"
    def __init__(self): self.seen = {}
    def before_step(self):
        if not self.iter: self.seen[self.epoch] = self.learn.model.head[-1].bias.detach().clone(), self.opt.hypers[-1]['lr']


def fit(store, path, *cbs, keep=KeepBest, epochs=6, weights=None):
    "Six epochs, from the last checkpoint on if there is one"
    folds = pd.DataFrame(dict(id=store.samples.id, fold=np.arange(len(store)) % 2))
    set_seed(0)
    dls = store_dls(store, folds, 0, bs=8, path=path)
    cbs = [Played(), History(), keep(k=2), Averaging(), SteerByHand(), Checkpoint(), *cbs]
    learn = rgby_learner(dls, 'test_resnet', weights=weights, hidden=16, cbs=cbs)
    with learn.no_bar(), learn.no_logging(): learn.fit_schedule(epochs, 1e-3, 'constant')
    return learn


def stop(store, path, at=(3, 2), **kwargs):
    path.mkdir(parents=True, exist_ok=True)
    with pytest.raises(InterruptedError): fit(store, path, Cut(*at), **kwargs)


@pytest.fixture(scope='module')
def lowered(store, tmp_path_factory):
    "Stopped in epoch 3, then left alone from its best epoch on"
    path = tmp_path_factory.mktemp('lowered')/'a'
    stop(store, path)
    best = read_state(path/'checkpoints/epoch_001.safetensors')[0]
    from_best(path)
    begun = Begun()
    return fit(store, path, begun), begun, best


def test_from_best_begins_with_the_best_epoch(lowered):
    learn, begun, best = lowered
    assert list(begun.seen) == [3, 4, 5] and torch.equal(begun.seen[3][0], best['head.7.bias'])
    assert [o['lr'] for o in learn.history.rows] == pytest.approx([1e-3]*3 + [1e-4]*3)
    row, = learn.steer_by_hand.rows()
    assert (row['epoch'], row['restart'], row['scale'], row['now']) == (2, True, .1, True)
    assert not (learn.path/'steer.toml').exists() and not (learn.path/'checkpoint.pt').exists()


@pytest.mark.parametrize('left', [False, True])
def test_from_best_is_obeyed_once(store, lowered, tmp_path, left):
    "Killed in the epoch after it, in a later one, and between the record and the removal of the wish"
    stop(store, tmp_path)
    text = from_best(tmp_path).read_text()
    stop(store, tmp_path, (3, 0))
    if left: (tmp_path/'steer.toml').write_text(text)
    for at in ((3, 3), (4, 1)): stop(store, tmp_path, at)
    learn = fit(store, tmp_path)
    assert all(torch.equal(v, lowered[0].model.state_dict()[k]) for k,v in learn.model.state_dict().items())
    assert [o['lr'] for o in learn.history.rows] == pytest.approx([1e-3]*3 + [1e-4]*3)
    assert len(learn.steer_by_hand.rows()) == 1 and not (tmp_path/'steer.toml').exists()


def test_from_best_after_a_held_rate_and_again(store, tmp_path):
    "A rate held by hand is lowered too; asked for twice, twice"
    class Hold(Callback):
        def after_train(self):
            if not self.epoch: steer(self.learn.path, lr=2e-3)
    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(InterruptedError): fit(store, tmp_path, Hold(), Cut(2, 0))
    from_best(tmp_path, .5)
    stop(store, tmp_path, (3, 1))
    from_best(tmp_path, .1)
    stop(store, tmp_path, (3, 2))
    learn = fit(store, tmp_path)
    assert [o['lr'] for o in learn.history.rows] == pytest.approx([1e-3, 2e-3, 1e-3, 1e-4, 1e-4, 1e-4])


def test_from_best_says_what_is_missing(store, tmp_path, lowered):
    with pytest.raises(FileNotFoundError, match='no folder'): from_best(tmp_path/'nowhere')
    with pytest.raises(ResumeError, match='no checkpoint is there.*KeepBest.start'): from_best(lowered[0].path)
    stop(store, tmp_path)
    with pytest.raises(ResumeError, match='above 0'): from_best(tmp_path, -1)
    (tmp_path/'checkpoints/epoch_001.safetensors').unlink()
    with pytest.raises(ResumeError, match='epoch_001.safetensors, is gone'): from_best(tmp_path)
    assert not (tmp_path/'steer.toml').exists()


def test_a_better_start_is_never_lost(store, tmp_path, lowered):
    "The start is a candidate, also of a continuation that is killed; what it was trained on travels along"
    good = lowered[0]
    file = save_model(good.model, tmp_path/'good.safetensors')
    def keep(value): return lambda k: KeepBest(k=k, start=(value, file))
    stop(store, tmp_path/'a', weights=file, keep=keep(.7))
    learn = fit(store, tmp_path/'a', weights=file, keep=keep(.7))
    assert learn.keep_best.epochs == [(.5, 5), (.7, -1)]
    learn = fit(store, tmp_path/'b', weights=file, keep=keep(.4))
    assert learn.keep_best.epochs == [(.4, -1), (.5, 5)]
    assert all(torch.equal(v, good.model.state_dict()[k]) for k,v in learn.model.state_dict().items())
    assert read_about(learn.keep_best.file(-1)) == read_about(file)
    rows = store.samples.id[learn.dls.train_ds.rows]
    assert read_about(learn.keep_best.file(5))['trained_on']['ids'] == sorted(rows)
    stop(store, tmp_path/'c', weights=file, keep=keep(.4))
    from_best(tmp_path/'c')
    begun = Begun()
    fit(store, tmp_path/'c', begun, weights=file, keep=keep(.4))
    assert torch.equal(begun.seen[3][0], good.model.head[-1].bias)
