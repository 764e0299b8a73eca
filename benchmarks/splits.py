#!/usr/bin/env python3
"""How even are folds, and how much leaks? hpa_lib's folds beside iterative stratification and scikit-learn, on one table.

    python benchmarks/splits.py --table hpav18.csv.gz                       # Id,Target as HPAv18 has them: Id = antibody_plate_well_field
    python benchmarks/splits.py --table FILE --n 5 10 --seeds 0 1 2 --out splits.csv

Printed for each way, mean and worst over the seeds: share of validation images whose antibody or well is in training; the worst class's deviation
from its even share among classes of `--common` images and more; how many of the classes are further off than 5 % of their share or the images of
their largest antibody, whichever is more; seconds to make the folds. scikit-learn's StratifiedGroupKFold knows one class a sample: it is given
the rarest label of each image.
"""
import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import StratifiedGroupKFold

from hpa_lib.data.folds import fold_balance, grouped_folds, leak_report
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import hpa_identity, tidy_samples


def numbered(split, rows: int) -> np.ndarray:
    "Fold of each row from a scikit-learn splitter"
    fold = np.full(rows, -1)
    for k, (_, held) in enumerate(split):
        fold[held] = k
    return fold


def ours(samples, hot, n, seed) -> np.ndarray:
    return grouped_folds(samples, n=n, seed=seed).fold.to_numpy()


def iterstrat_groups(samples, hot, n, seed) -> np.ndarray:
    "Every antibody is one sample with the labels of its images"
    code, names = pd.factorize(samples.group)
    each = np.zeros((len(names), hot.shape[1]), int)
    np.maximum.at(each, code, hot)
    return numbered(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed).split(each, each), len(names))[code]


def iterstrat_images(samples, hot, n, seed) -> np.ndarray:
    return numbered(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed).split(hot, hot), len(hot))


def sklearn_groups(samples, hot, n, seed) -> np.ndarray:
    rarest = np.where(hot > 0, hot.sum(0), np.inf).argmin(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                       # classes with fewer images than folds
        return numbered(StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(hot, rarest, samples.group), len(hot))


WAYS = {"hpa_lib grouped_folds": ours, "iterstrat on antibodies": iterstrat_groups, "iterstrat on images": iterstrat_images, "sklearn StratifiedGroupKFold": sklearn_groups}


def measure(way, samples, hot, n, seed, common) -> dict:
    begun = time.perf_counter()
    fold = WAYS[way](samples, hot, n, seed)
    seconds = time.perf_counter() - begun
    folds = pd.DataFrame(dict(id=samples.id, fold=fold))
    leaks, balance = leak_report(samples, folds, ["antibody", "well"]).share, fold_balance(samples, folds)
    balance = balance[balance.share > 0]
    often = balance[balance.share * n >= common]
    return dict(way=way, n=n, seed=seed, antibody=leaks["antibody"], well=leaks["well"], worst=(often.worst / often.share).max(), beyond=int((balance.worst > balance.allowed).sum()),
                sizes=int(folds.fold.value_counts().max() - folds.fold.value_counts().min()), seconds=seconds)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--table", type=Path, required=True)
    p.add_argument("--n", type=int, nargs="+", default=[5, 10])
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--common", type=int, default=750, help="images that make a class common")
    p.add_argument("--out", type=Path, help="CSV, one row a measurement")
    a = p.parse_args()
    table = pd.read_csv(a.table, dtype=str)
    samples = tidy_samples(pd.DataFrame(dict(id=table.Id, labels=[HPA28.parse(o) for o in table.Target])).join(hpa_identity(table.Id)))
    hot, rows = HPA28.multi_hot(samples.labels).astype(int), []
    print(f"{len(samples)} images of {samples.group.nunique()} antibodies")
    for n in a.n:
        for way in WAYS:
            rows += [measure(way, samples, hot, n, seed, a.common) for seed in a.seeds]
            own = pd.DataFrame(rows[-len(a.seeds):])
            print(f"{n:3} folds  {way:29} antibody in training {own.antibody.mean():6.1%}  well {own.well.mean():6.1%}  worst common class {own.worst.max():6.2%}"
                  f"  classes beyond the bound {own.beyond.max():2}  sizes apart {own.sizes.max():4}  {own.seconds.median():5.2f} s", flush=True)
    if a.out:
        pd.DataFrame(rows).to_csv(a.out, index=False)


if __name__ == "__main__":
    main()
