#!/usr/bin/env python3
"""What every named augmentation costs beside a training step: resnet18, 4 channels (3 for the set that wants RGB), forward, backward and optimiser, in
float32 and by the library's own plan. All contestants take turns, so that a busy machine is busy for all of them; medians.

    python benchmarks/augment.py [--size 128] [--bs 32] [--rounds 7] [--arch resnet18] [--out results.csv]
"""
import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from hpa_lib.learn.augment import augmentation, augmentation_names
from hpa_lib.learn.learner import use_precision
from hpa_lib.learn.tensors import TensorRGBY
from hpa_lib.nets.models import Precision, rgby_model


def step(arch: str, plan: Precision | None, x: torch.Tensor):
    "A training step on one batch, ready to be called, and its plan"
    net = use_precision(rgby_model(arch, weights=None), plan).train()
    opt = torch.optim.Adam(net.parameters(), 1e-4)
    y = (torch.rand(len(x), 28) < .1).float()

    def run():
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        opt.step()
        opt.zero_grad()
    return run, net.precision


def augmenting(name: str, x: TensorRGBY):
    "The set on one batch, ready to be called"
    tfms = sorted(augmentation(name, x.shape[-1] * 2 // 3), key=lambda o: o.order)

    def run():
        o = x
        for t in tfms:
            o = t(o, split_idx=0)
    return run


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--size', type=int, default=128, help='side of the pictures; sets that crop go to two thirds of it')
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--arch', default='resnet18')
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    torch.manual_seed(0)
    x = TensorRGBY(torch.rand(a.bs, 4, a.size, a.size))
    fp32, _ = step(a.arch, Precision(), x)
    planned, plan = step(a.arch, None, x)
    runs = dict(fp32=fp32, plan=planned) | {o: augmenting(o, x[:, :3] if o == 'z2g' else x) for o in augmentation_names()}
    times = {k: [] for k in runs}
    for i in range(a.rounds + 1):
        for k, f in runs.items():
            t = time.perf_counter()
            f()
            if i:                                                             # the first round warms up
                times[k].append(time.perf_counter() - t)
    ms = {k: statistics.median(v) * 1e3 for k, v in times.items()}
    rows = [dict(set=k, ms=v, of_fp32_step=v / ms['fp32'], of_plan_step=v / ms['plan']) for k, v in ms.items() if k not in ('fp32', 'plan')]
    print(f"{a.arch}, {a.bs} x 4 x {a.size} x {a.size}, {torch.get_num_threads()} threads, medians of {a.rounds} rounds: "
          f"step in fp32 {ms['fp32']:.0f} ms, by {plan} {ms['plan']:.0f} ms")
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    if a.out:
        pd.DataFrame(rows).to_csv(a.out, index=False)


if __name__ == '__main__':
    main()
