#!/usr/bin/env python3
"""What the log of every sample costs: its part of an epoch, for a single loss and for bestfitting's sum of three. Measured in two ways in one run: seconds spent
inside the events of `SampleLog`, and medians of epochs that alternate with and without it.

    python benchmarks/sample_log.py [--arch resnet18] [--size 128] [--n 400] [--bs 32] [--pairs 3] [--losses focal ...] [--out results.csv]
"""
import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from fastai.torch_core import set_seed

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.samples import read_samples
from hpa_lib.data.store import pack
from hpa_lib.learn.callbacks import SampleLog, TrainingCallback
from hpa_lib.learn.learner import rgby_learner
from hpa_lib.learn.loaders import store_dls
from hpa_lib.synth.atlas import make_atlas

SUM = '0.5*focal + 0.5*lovasz + 0.5*hardlog'  # bestfitting's


class Timed(SampleLog):
    "`SampleLog` that is on in odd epochs only, and notes the seconds of its events"
    def before_fit(self): self.seconds = {}; super().before_fit()
    def __call__(self, event_name):
        training = getattr(self, 'epoch', 0) % 2 == 1 and hasattr(self, 'seconds')
        if event_name != 'before_fit' and not training: return
        begun = time.process_time()
        super().__call__(event_name)
        if event_name != 'before_fit': self.seconds[self.epoch] = self.seconds.get(self.epoch, 0) + time.process_time() - begun


class Clock(TrainingCallback):
    "Processor seconds of each epoch: what others do on the machine does not count"
    order = 99
    def before_fit(self): self.seconds = []
    def before_epoch(self): self.begun = time.process_time()
    def after_epoch(self): self.seconds.append(time.process_time() - self.begun)


def measure(dls, arch: str, loss: str, pairs: int, path: str) -> dict:
    "One training of 1 + 2*pairs epochs; the first, which warms up, is not counted, nor has it a log."
    set_seed(0, reproducible=False)
    log, clock = Timed(), Clock()
    learn = rgby_learner(dls, arch, loss, weights=None, path=path, cbs=[log, clock])
    with learn.no_bar(), learn.no_logging():
        learn.fit_schedule(1 + 2*pairs, 1e-3, 'constant')
    on, off = clock.seconds[1::2], clock.seconds[2::2]
    inside = [log.seconds[e]/clock.seconds[e] for e in range(1, 2*pairs, 2)]
    return dict(loss=loss, epoch_with=statistics.median(on), epoch_without=statistics.median(off), inside_events=statistics.median(inside),
                alternating=statistics.median(on)/statistics.median(off) - 1)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--arch', default='resnet18')
    p.add_argument('--size', type=int, default=128)
    p.add_argument('--n', type=int, default=400)
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--pairs', type=int, default=3)
    p.add_argument('--losses', nargs='+', default=['focal', SUM])
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        samples = read_samples(make_atlas(Path(tmp)/'atlas', n=a.n, size=a.size, seed=0, workers=1))
        store = pack(samples, Path(tmp)/'a.zarr', a.size, progress=False)
        dls = store_dls(store, grouped_folds(samples, n=5), 0, bs=a.bs)
        for loss in a.losses:
            rows.append(measure(dls, a.arch, loss, a.pairs, tmp))
            print(pd.DataFrame(rows[-1:]).T.to_string(header=False, float_format='{:.4f}'.format), flush=True)
    if a.out:
        pd.DataFrame(rows).to_csv(a.out, index=False)
    print(f"processor seconds; threads {torch.get_num_threads()}; {a.arch}, {a.n} pictures of 4 x {a.size} px, four fifths train, batches of {a.bs}; medians of {a.pairs} epochs each")


if __name__ == '__main__':
    main()
