#!/usr/bin/env python3
"""How fast do batches arrive: PNGs through a plain fastai DataBlock, or a packed store?

    python benchmarks/loader.py                                  # a synthetic atlas at 512 px, in a temporary folder
    python benchmarks/loader.py --data FOLDER --out loader.csv   # a folder in Kaggle layout
    python benchmarks/loader.py --layouts                        # codecs and readers compared

Samples per second, warm file cache, median over repeats. The contestants take turns, so that a busy machine is busy for all of them.
"""
import argparse
import csv
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hpa_lib.data.samples import RGBY, read_samples
from hpa_lib.data.store import Store, pack


def bytes_of(path: Path) -> int:
    "Bytes of a file or of all files in a folder"
    return path.stat().st_size if path.is_file() else sum(o.stat().st_size for o in path.rglob("*") if o.is_file())


def open_pngs(row: pd.Series):
    "What one writes first: four pictures by Pillow, stacked as bytes"
    from fastai.vision.core import TensorImage
    return TensorImage(np.stack([np.asarray(Image.open(row[c])) for c in RGBY]))


def plain_batches(df: pd.DataFrame, bs: int, workers: int, floats: bool, stats):
    "(a) a fastai DataBlock over the PNG files"
    from fastai.vision.all import DataBlock, IntToFloatTensor, MultiCategoryBlock, Normalize, TransformBlock
    from hpa_lib.data.labels import HPA28
    tfms = [IntToFloatTensor(), Normalize.from_stats(*stats, cuda=False)] if floats else []
    block = DataBlock((TransformBlock(open_pngs), MultiCategoryBlock(vocab=HPA28.names)), get_y=lambda r: r.labels,
                      splitter=lambda o: (list(range(len(o))), []), batch_tfms=tfms)
    return block.dataloaders(df, path=".", bs=bs, num_workers=workers).train


def store_batches(store: Store, bs: int, n: int, floats: bool):
    "(b) the store behind hpa_lib's DataLoader, `n` shuffled batches an epoch"
    from fastai.vision.all import IntToFloatTensor, Normalize
    from hpa_lib.learn.loaders import StoreDL, StoreData
    tfms = [IntToFloatTensor(), Normalize.from_stats(store.mean, store.std, cuda=False)] if floats else []
    rows = np.resize(np.flatnonzero(store.ok), n * bs)
    return StoreDL(StoreData(store, rows), bs, shuffle=True, after_batch=tfms)


def rate(batches) -> float:
    "Samples a second over all batches"
    start, n = time.perf_counter(), 0
    for b in batches:
        n += len(b[0])
    return n / (time.perf_counter() - start)


def contest(df: pd.DataFrame, store: Store, bs: int, repeats: int, epoch: int) -> dict:
    "Rates of every contestant, one a repeat, in turns"
    many = pd.concat([df] * -(-epoch * bs // len(df)), ignore_index=True)[:epoch * bs]
    stats = list(store.mean), list(store.std)
    runs = {}
    for floats, kind in ((False, "uint8"), (True, "normalised float")):
        for w in (0, 2):
            runs[f"(a) fastai DataBlock, PNG, {w} workers, {kind}"] = partial(iter, plain_batches(many, bs, w, floats, stats))
        runs[f"(b) hpa_lib store, {kind}"] = partial(iter, store_batches(store, bs, epoch * 5, floats))
    rates = {k: [] for k in runs}
    for f in runs.values():
        next(iter(f()))                                                   # warm up
    for _ in range(repeats):
        for k, f in runs.items():
            rates[k].append(rate(f()))
    return rates


def codecs(df: pd.DataFrame, size: int, repeats: int) -> list[dict]:
    "What each codec makes of a sample, and the processor time it takes, in one thread"
    from hpa_lib.data.images import read_sample
    from numcodecs import blosc, lz4, zstd
    start = time.process_time()
    xs = [read_sample(r, size=size) for _, r in df.iterrows()]
    png = sum(os.path.getsize(r[c]) for _, r in df.iterrows() for c in RGBY) / len(df)
    rows = [{"codec": "PNG, by Pillow", "kB a sample": png / 1e3, "times PNG": 1.0, "ms to unpack": (time.process_time() - start) / len(df) * 1e3}]
    ways = {f"zstd {o}": (partial(zstd.compress, level=o), zstd.decompress) for o in (-7, -1, 1, 3, 9)}
    ways["lz4"] = lz4.compress, lz4.decompress
    ways["bit shuffle + zstd 1"] = partial(blosc.compress, cname=b"zstd", clevel=1, shuffle=blosc.BITSHUFFLE), blosc.decompress
    for name, (pack_, unpack) in ways.items():
        start = time.process_time()
        packed = [pack_(x) for x in xs]
        write = (time.process_time() - start) / len(xs)
        out, times = np.empty_like(xs[0]), []
        for _ in range(repeats):
            start = time.process_time()
            for o in packed:
                unpack(o, out)
            times.append((time.process_time() - start) / len(xs))
        kb = sum(map(len, packed)) / len(xs) / 1e3
        rows.append({"codec": name, "kB a sample": kb, "times PNG": kb * 1e3 / png, "ms to unpack": statistics.median(times) * 1e3, "ms to pack": write * 1e3})
    return rows


def readers(store: Store, bs: int, repeats: int) -> list[dict]:
    "Shuffled batches of one store, read in several ways, in turns"
    import zarr
    ways = {f"store.batch, {t} thread{'s' * (t > 1)}": Store(store.path, threads=t).batch for t in sorted({1, store.threads})}
    engines = {"zarr": {}}
    try:
        import zarrs  # noqa: F401
        engines["zarr + zarrs"] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    except ImportError:
        pass
    for name, config in engines.items():
        with zarr.config.set(config):
            ways[name] = zarr.open_group(store.path, mode="r")["images"].oindex.__getitem__
    rng, rates = np.random.default_rng(0), {k: [] for k in ways}
    for _ in range(repeats * 3):
        rows = rng.permutation(len(store))[:bs]
        for k, f in ways.items():
            start = time.perf_counter()
            f(rows)
            rates[k].append(len(rows) / (time.perf_counter() - start))
    return [{"reader": k, "median samples/s": statistics.median(v), "max": max(v)} for k, v in rates.items()]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, help="a folder in Kaggle layout; default: a synthetic atlas of 96 samples at 512 px")
    p.add_argument("--bs", type=int, default=32, help="samples a batch")
    p.add_argument("--repeats", type=int, default=5, help="how often everything is measured")
    p.add_argument("--epoch", type=int, default=6, help="batches (a) reads a repeat; (b) reads five times as many")
    p.add_argument("--out", type=Path, help="CSV file for the results")
    p.add_argument("--layouts", action="store_true", help="compare codecs and readers instead")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        if a.data is None:
            from hpa_lib.synth.atlas import make_atlas
            a.data = make_atlas(tmp / "atlas", n=96, size=512)
        df = read_samples(a.data)
        with Image.open(df.red[0]) as im:
            size = im.size[0]
        start = time.perf_counter()
        store = pack(df, tmp / "store.zarr", size=size, progress=False)
        took = time.perf_counter() - start
        if a.layouts:
            print(pd.DataFrame(codecs(df, size, a.repeats)).round(2).to_string(index=False, na_rep=""))
            print(pd.DataFrame(readers(store, a.bs, a.repeats)).round(0).to_string(index=False))
            return
        png = sum(os.path.getsize(df[c][i]) for c in RGBY for i in range(len(df)))
        rates = contest(df, store, a.bs, a.repeats, a.epoch)
        ours = bytes_of(store.path)
    rows = [{"what": k, "median samples/s": round(statistics.median(v), 1), "min": round(min(v), 1), "max": round(max(v), 1)} for k, v in rates.items()]
    med = {k: statistics.median(v) for k, v in rates.items()}
    names = list(med)
    print(f"{len(df)} samples of 4 x {size} x {size}, batches of {a.bs}, {a.repeats} repeats, {os.cpu_count()} processors; packed in {took:.1f} s")
    print(pd.DataFrame(rows).to_string(index=False))
    for kind, (w0, w2, b) in {"uint8": names[:3], "normalised float": names[3:]}.items():
        print(f"{kind}: (b) is {med[b] / med[w0]:.1f} times (a) with 0 workers, {med[b] / med[w2]:.1f} times (a) with 2 workers")
    print(f"on disk: PNG {png / len(df) / 1e3:.1f} kB a sample, store {ours / len(df) / 1e3:.1f} kB, {ours / png:.2f} times")
    if a.out:
        with open(a.out, "w", newline="", encoding="utf-8") as f:
            w = csv.DictWriter(f, [*rows[0], "png kB", "store kB", "size"])
            w.writeheader()
            w.writerows({**r, "png kB": round(png / len(df) / 1e3, 1), "store kB": round(ours / len(df) / 1e3, 1), "size": size} for r in rows)


if __name__ == "__main__":
    main()
