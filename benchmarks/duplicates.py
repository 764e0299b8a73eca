#!/usr/bin/env python3
"""How long does it take to compare all hashes with all others, and how much memory?

    python benchmarks/duplicates.py                              # 100,000 hashes of three channels, 12 bits in each
    python benchmarks/duplicates.py --radius 22 --workers 1      # the default rule's radius, one thread
    python benchmarks/duplicates.py --out duplicates.csv

Hashes are random with half of their bits set, as the median makes them; 1,000 copies with up to four flipped bits a channel are planted, and every contestant must find them all.
Each contestant runs in a process of its own, so that its peak memory is its own. One that is too slow for all pairs takes a share of the rows, and its time is multiplied up: it is marked so.
`verified` is the whole of `find_twins` with its default rule (its radius is its own), `score` the second look alone; `equal` is a table of equal hashes, which must end in an error, not in all the memory.
"""
import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd

from hpa_lib.core import DataError
from hpa_lib.data.duplicates import find_twins, match_score, near_pairs

PLANTED = 1000


def make_hashes(n: int, channels: int = 3) -> np.ndarray:
    "N x K, uint64: half of the bits set; the last thousand rows are copies of the first with two bits moved"
    chance = np.random.default_rng(0)
    bits = np.zeros((n * channels, 64), np.uint8)
    bits[:, :32] = 1
    out = np.packbits(chance.permuted(bits, axis=1), axis=1).view(np.uint64).reshape(n, channels).copy()
    flips = np.uint64(1) << chance.integers(0, 64, (4, PLANTED, channels), dtype=np.uint64)
    out[-PLANTED:] = out[:PLANTED] ^ np.bitwise_xor.reduce(flips)
    return out


def ours(h, radius, workers):
    return 1, len(near_pairs(h, [radius] * h.shape[1], workers=workers)[0])


def verified(h, radius, workers):
    "The default rule of `find_twins`, with thumbnails of noise, the same for both copies"
    chance = np.random.default_rng(0)
    thumbs = [chance.bytes(3 * 1024) for _ in range(len(h) - PLANTED)]
    table = pd.DataFrame(dict(id=[f"s{i}" for i in range(len(h))], source="x", is_test=False, status="ok", error=None, picture="original",
                              **{c: pd.array(h[:, k], "UInt64") for k, c in enumerate(("red", "green", "blue"))}, thumbs=thumbs + thumbs[:PLANTED]))
    begun = time.perf_counter()
    pairs = find_twins(table, workers=workers)
    return 1, len(pairs), time.perf_counter() - begun


def numpy_rows(h, radius, workers):
    "What one writes first: each row against all later ones, in all channels; every fiftieth row"
    rows = range(0, len(h), 50)
    return len(h) / len(rows), sum(int((np.bitwise_count(h[i + 1:] ^ h[i]) <= radius).all(1).sum()) for i in rows)


def scipy_blocks(h, radius, workers):
    "scipy's Hamming distance on unpacked bits; every five hundredth row"
    from scipy.spatial.distance import cdist
    bits = [np.unpackbits(np.ascontiguousarray(c).view(np.uint8).reshape(-1, 8), axis=1).astype(bool) for c in h.T]
    rows = np.arange(0, len(h), 500)
    near = np.logical_and.reduce([cdist(b[rows], b, "hamming") * 64 <= radius + 1e-6 for b in bits])
    return len(h) / len(rows), int((near & (np.arange(len(h)) > rows[:, None])).sum())


def faiss_flat(h, radius, workers):
    "faiss, exhaustive range search in the first channel, the others looked up; every twentieth row"
    import faiss
    faiss.omp_set_num_threads(workers)
    codes = np.ascontiguousarray(h[:, 0]).view(np.uint8).reshape(-1, 8)
    index, rows = faiss.IndexBinaryFlat(64), np.arange(0, len(h), 20)
    index.add(codes)
    limits, _, found = index.range_search(codes[rows], radius + 1)
    i = np.repeat(rows, np.diff(limits.astype(np.int64)))
    keep = (found > i) & (np.bitwise_count(h[i] ^ h[found]) <= radius).all(1)
    return len(h) / len(rows), int(keep.sum())


def score(h, radius, workers):
    "Second look at 20,000 pairs of thumbnails, one thread"
    thumbs = np.random.default_rng(0).integers(0, 256, (500, 3, 32, 32), dtype=np.uint8)
    for k in range(0, 20_000, 32):
        at = np.arange(k, k + 32) % 500
        match_score(thumbs[at], thumbs[at - 1])
    return 1, 20_000


def equal(h, radius, workers):
    "All hashes the same"
    try: near_pairs(h * 0, [radius] * h.shape[1], workers=workers)
    except DataError: return 1, 0
    raise SystemExit("equal hashes were not refused")


CONTESTANTS = dict(ours=ours, verified=verified, numpy_rows=numpy_rows, scipy_blocks=scipy_blocks, faiss_flat=faiss_flat, score=score, equal=equal)


def run_one(args) -> None:
    "One contestant; its row as JSON on standard output"
    h = make_hashes(args.n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    try: times, pairs, *took = CONTESTANTS[args.only](h, args.radius, args.workers)
    except ImportError as e:
        print(json.dumps(dict(contestant=args.only, note=f"not installed ({e.name})")))
        return
    took = took[0] if took else time.perf_counter() - begun
    if args.only in ("ours", "verified") and pairs < PLANTED: raise SystemExit(f"only {pairs} of {PLANTED} planted pairs found")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(dict(contestant=args.only, seconds=round(took * times, 1), pairs=pairs, peak_mb=round(peak / 1024), data_mb=round(before / 1024),
                          note=f"measured on 1/{times:.0f} of the rows" if times > 1 else "")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="hashes")
    parser.add_argument("--radius", type=int, default=12, help="bits that may differ in every channel")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads")
    parser.add_argument("--out", help="CSV to write")
    parser.add_argument("--only", choices=CONTESTANTS, help="one contestant, in this process")
    args = parser.parse_args()
    if args.only: return run_one(args)
    rows = []
    for name in CONTESTANTS:
        command = [sys.executable, __file__, "--only", name, "--n", str(args.n), "--radius", str(args.radius), "--workers", str(args.workers)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if args.out:
        with open(args.out, "w", newline="") as f:
            writer = csv.DictWriter(f, ["contestant", "seconds", "pairs", "peak_mb", "data_mb", "note"])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
