#!/usr/bin/env python3
"""Eight dihedral views of every picture: `predict_rows` from a store against fastai's `learn.tta(n=8)` on PNG files through a DataBlock.

    python benchmarks/views.py                    # a synthetic atlas at 512 px, in a temporary folder
    python benchmarks/views.py --data FOLDER      # a folder in Kaggle layout

The network is a mean over pixels and one linear layer; its own time is measured on a ready batch and taken off both sides. fastai goes over the
files nine times (eight random draws and once plain), the store is read once. Contestants take turns in one process; medians, warm file cache.
"""
import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import RGBY, read_samples
from hpa_lib.data.store import Store, pack
from hpa_lib.learn.predict import predict_rows


class Mean(nn.Module):
    "Mean over pixels, then one linear layer"
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 28)
    def forward(self, x): return self.lin(x.as_subclass(torch.Tensor).mean((2, 3)))


def open_pngs(row: pd.Series):
    "Four pictures by Pillow, stacked as bytes"
    from fastai.vision.core import TensorImage
    return TensorImage(np.stack([np.asarray(Image.open(row[c])) for c in RGBY]))


def fastai_tta(df: pd.DataFrame, store: Store, net: nn.Module, bs: int, workers: int):
    "`learn.tta` over all pictures, ready to be called"
    from fastai.vision.all import BCEWithLogitsLossFlat, DataBlock, Dihedral, IntToFloatTensor, Learner, MultiCategoryBlock, Normalize, TransformBlock
    tfms = [IntToFloatTensor(), Dihedral(p=1.), Normalize.from_stats(list(store.mean), list(store.std), cuda=False)]
    block = DataBlock((TransformBlock(open_pngs), MultiCategoryBlock(vocab=HPA28.names)), get_y=lambda r: r.labels,
                      splitter=lambda o: (list(range(len(o))), list(range(len(o)))), batch_tfms=tfms)
    learn = Learner(block.dataloaders(df, path='.', bs=bs, num_workers=workers), net, loss_func=BCEWithLogitsLossFlat())

    def run():
        with learn.no_bar(), learn.no_logging():
            return learn.tta(n=8)[0]
    return run


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, help='a folder in Kaggle layout; default: a synthetic atlas')
    p.add_argument('--n', type=int, default=48, help='samples')
    p.add_argument('--size', type=int, default=512, help='of a synthetic atlas')
    p.add_argument('--bs', type=int, default=16)
    p.add_argument('--workers', type=int, default=0, help='processes of the DataBlock')
    p.add_argument('--repeats', type=int, default=3)
    a = p.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as tmp:
        if a.data is None:
            from hpa_lib.synth.atlas import make_atlas
            a.data = make_atlas(Path(tmp)/'atlas', n=a.n, size=a.size)
        df = read_samples(a.data)[:a.n].reset_index(drop=True)
        with Image.open(df.red[0]) as im:
            size = im.size[0]
        store, net = pack(df, Path(tmp)/'a.zarr', size, progress=False), Mean().eval()
        ready = torch.rand(a.bs, 4, size, size)

        def forward():
            with torch.inference_mode():
                net(ready)
        runs = dict(store=lambda: predict_rows(net, store, bs=a.bs, progress=False), fastai=fastai_tta(df, store, net, a.bs, a.workers), forward=forward)
        times = {k: [] for k in runs}
        for i in range(a.repeats + 1):
            for k, f in runs.items():
                t = time.perf_counter()
                f()
                if i:                                                         # the first round warms up
                    times[k].append(time.perf_counter() - t)
    med = {k: statistics.median(v) for k, v in times.items()}
    network = med['forward'] * len(df) / a.bs                                 # seconds for one view of all pictures
    ours, theirs = med['store'] - 8*network, med['fastai'] - 9*network
    print(f"{len(df)} samples of 4 x {size} x {size}, batches of {a.bs}, {torch.get_num_threads()} threads, {a.workers} workers, medians of {a.repeats}")
    for k, total, rest in (('learn.tta(n=8), PNG', med['fastai'], theirs), ('predict_rows, store', med['store'], ours)):
        print(f"{k:22} {total:7.2f} s, without the network {rest:7.2f} s: {len(df)/rest:6.1f} samples a second")
    print(f"store is {theirs/ours:.1f} times as fast ({med['fastai']/med['store']:.1f} times with this network)")


if __name__ == '__main__':
    main()
