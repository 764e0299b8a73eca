#!/usr/bin/env python3
"""Images a second of a training step, ours against a plain fastai Learner: the same network, weights, batches and optimiser, on a synthetic
atlas packed at 128 px. Steps of the two alternate in blocks, and medians are compared. Also: the loss of both after 20 steps, and
what part of an epoch waits for data (augmentation counted apart).

    python benchmarks/train_step.py [--archs resnet34 densenet121] [--size 128] [--bs 32] [--blocks 3] [--steps 5] [--out results.csv]
"""
import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import set_seed
from torch import nn

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import store_dls
from hpa_lib.learn.losses import get_loss
from hpa_lib.nets.models import has_bf16, rgby_model
from hpa_lib.synth.atlas import make_atlas

TOLERANCE = .05  # of the loss after 20 steps, relative: 16-bit rounding moves it, another computation would move it far more


class Steps(Callback):
    "Seconds of each step and the losses; stops after `n` steps."
    def __init__(self, n): self.n, self.seconds, self.losses = n, [], []
    def before_batch(self): self.begun = time.perf_counter()
    def after_batch(self):
        if not self.training: return
        self.seconds.append(time.perf_counter() - self.begun)
        self.losses.append(float(self.loss.detach()))
        if len(self.seconds) == self.n: raise self.stop()
    @staticmethod
    def stop():
        from fastai.callback.core import CancelFitException
        return CancelFitException()


def steps(make, n: int) -> Steps:
    "Train `n` steps of a fresh Learner on the same batches."
    set_seed(0, reproducible=False)
    learn, watch = make(), Steps(n)
    learn.dls.train.rng.seed(0)
    with learn.no_bar(), learn.no_logging():
        learn.fit(9, 1e-4, cbs=[watch])
    return watch


def waiting(dls, step_seconds: float) -> dict:
    "Shares of an epoch spent on fetching bytes and on the transforms of the batch."
    ds, fetch = dls.train.dataset, []
    idxs = list(range(len(ds)))
    for i in range(0, len(idxs) - dls.train.bs + 1, dls.train.bs):
        t = time.perf_counter(); b = ds.batch(idxs[i:i+dls.train.bs]); fetch.append(time.perf_counter() - t)
    dls.train.after_batch.split_idx, tfms = 0, []
    for _ in range(5):
        t = time.perf_counter(); dls.train.after_batch(b); tfms.append(time.perf_counter() - t)
    f, a = statistics.median(fetch), statistics.median(tfms)
    return dict(fetch_share=f/(f + a + step_seconds), augment_share=a/(f + a + step_seconds))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--archs', nargs='+', default=['resnet34', 'densenet121'])
    p.add_argument('--size', type=int, default=128)
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--blocks', type=int, default=3)
    p.add_argument('--steps', type=int, default=5)
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        samples = read_samples(make_atlas(Path(tmp)/'atlas', n=240, size=a.size, seed=0))
        store = pack(samples, Path(tmp)/'a.zarr', a.size, progress=False)
        dls = store_dls(store, grouped_folds(samples, n=3), 0, bs=a.bs, tfms='none')
        augmented = store_dls(store, grouped_folds(samples, n=3), 0, bs=a.bs)
        for arch in a.archs:
            set_seed(0)
            net = rgby_model(arch, weights=None)
            for m in net.modules():  # without dropout both take the same path
                if isinstance(m, nn.Dropout): m.p = 0.
            def ours(): return rgby_learner(dls, copy.deepcopy(net), metrics=[], path=tmp)
            def plain(): return Learner(dls, nn.Sequential(*(copy.deepcopy(o) for o in (net.body, net.head))), loss_func=get_loss('focal'), path=tmp, wd=.01)
            blocks = [(steps(plain, a.steps + 1), steps(ours, a.steps + 1)) for _ in range(a.blocks)]
            slow, fast = (statistics.median(s for pair in blocks for s in pair[i].seconds[1:]) for i in (0, 1))
            l0, l1 = (steps(o, 20).losses[-1] for o in (plain, ours))
            rows.append(dict(arch=arch, plan=str(ours().model.precision), plain=a.bs/slow, ours=a.bs/fast, ratio=slow/fast, loss_plain=l0, loss_ours=l1,
                             loss_gap=abs(l0 - l1)/l0) | waiting(augmented, fast))
            print(pd.DataFrame(rows[-1:]).round(4).T.to_string(header=False), flush=True)
            assert rows[-1]['loss_gap'] < TOLERANCE, 'the two did not train the same'
    if a.out:
        pd.DataFrame(rows).to_csv(a.out, index=False)
    print(f"native bf16: {has_bf16()}; threads {torch.get_num_threads()}; images a second, medians of {a.blocks} alternating blocks of {a.steps} steps")


if __name__ == '__main__':
    main()
