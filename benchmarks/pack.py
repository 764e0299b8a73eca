#!/usr/bin/env python3
"""Packing against decoding and resizing the same files without writing: samples a second in the same number of threads, blocks alternating.

    python benchmarks/pack.py [--data FOLDER] [--sizes 512 2048] [--out results.csv]

Without --data the files are drawn: synthetic cells at 512 px, and the same enlarged to 2048 px with noise of one grey value, as PNG.
"""
import argparse
import resource
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hpa_lib.data.images import read_sample
from hpa_lib.data.samples import RGBY, folder_samples, read_samples
from hpa_lib.data.store import pack
from hpa_lib.synth.atlas import make_atlas


def enlarged(samples: pd.DataFrame, folder: Path, side: int) -> pd.DataFrame:
    "The same fields at another size, written as PNG"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for r in samples.itertuples():
        for c, p in zip(RGBY, read_sample(r)):
            big = np.array(Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
            Image.fromarray((big + rng.integers(0, 2, big.shape)).clip(0, 255).astype(np.uint8)).save(folder / f"{r.id}_{c}.png")
    return folder_samples(folder)


def measure(samples: pd.DataFrame, size: int, workers: int, repeats: int, work: Path) -> tuple[list[float], list[float]]:
    "Samples a second of decoding alone and of packing, for each repeat"
    rows, alone, packed = samples[list(RGBY)].to_dict("records"), [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(lambda r: read_sample(r, size=size), rows):
                pass
        alone.append(len(rows) / (time.perf_counter() - begun))
        begun = time.perf_counter()
        pack(samples, work / "s.zarr", size, workers=workers, progress=False)
        packed.append(len(rows) / (time.perf_counter() - begun))
        shutil.rmtree(work / "s.zarr")
    return alone, packed


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, help="a folder that hpa_lib reads; its own files are packed at their own size")
    p.add_argument("--sides", type=int, nargs="+", default=[512, 2048], help="sides of the drawn pictures")
    p.add_argument("--size", type=int, default=512, help="side in the store")
    p.add_argument("--n", type=int, default=1000, help="samples, repeated from fewer files (a tenth of it at 2048)")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--out", type=Path, help="CSV file for the results")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        work, table = Path(tmp), []
        drawn = read_samples(a.data) if a.data else read_samples(make_atlas(work / "atlas", n=40, size=512, seed=1))
        for side in [None] if a.data else a.sides:
            s = drawn if side in (None, 512) else enlarged(drawn[:10], work / f"at{side}", side)
            n = a.n if side in (None, 512) else a.n // 10
            s = pd.concat([s] * -(-n // len(s)), ignore_index=True)[:n].assign(id=lambda d: [f"s{i}" for i in range(len(d))])
            measure(s[:16].reset_index(drop=True), a.size, a.workers, 1, work)      # warm up
            alone, packed = measure(s, a.size, a.workers, a.repeats, work)
            shares = [q / o for o, q in zip(alone, packed)]
            table.append(dict(input=a.data or f"drawn, {side} px", samples=len(s), decode_a_second=statistics.median(alone), pack_a_second=statistics.median(packed),
                              share=statistics.median(shares), lowest=min(shares), highest=max(shares)))
        table = pd.DataFrame(table)
        print(table.round(3).to_string(index=False))
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
        if a.out:
            table.to_csv(a.out, index=False)


if __name__ == "__main__":
    main()
