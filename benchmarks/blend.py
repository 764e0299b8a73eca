#!/usr/bin/env python3
"""What is a blend worth? Single tables and blends of them, side by side, on samples with known labels.

    python benchmarks/blend.py --data FOLDER             # test_probs/*.npy and labels_dev.csv, tables/kaggle_sample_submission.csv.gz
    python benchmarks/blend.py --data FOLDER --rule exact   # thresholds by another rule than the library's
    python benchmarks/blend.py --data FOLDER --least 10  # F1 and precision of classes with 10 positives or more only
    python benchmarks/blend.py --data FOLDER --repeats 10 --draws 2000 --out blend.csv

Printed for each table and blend: nested macro F1 (weights and thresholds from the other folds; mean and standard deviation over the repeats, each with
folds of its own), mean average precision and log loss of the held-out rows; then two paired differences in nested macro F1 with their bootstrap
standard error over rows, on decisions of all repeats: to the single table that turned out best (chosen with all labels in hand, which favours it),
and to the single table chosen on the other folds by log loss, which is what somebody without the labels could have used.
"""
import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.labels import HPA28
from hpa_lib.data.probs import read_probs
from hpa_lib.data.scores import macro_f1, mean_ap
from hpa_lib.decide.blend import (
    blend, hill_climb, log_loss, nested_blend, paired_f1, simplex_weights, stack, target_table,
)
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, threshold_rule

FIXED = ["mean", "geometric", "logit", "power(2)", "rank", "max"]
CHOSEN, DEFAULT = "chosen single table", "simplex (default)"
FITTED = {
    CHOSEN: partial(hill_climb, rounds=1),
    DEFAULT: simplex_weights,
    "simplex, logit": partial(simplex_weights, how="logit"),
    "hill climb, log loss": hill_climb,
    "hill climb, mean AP": partial(hill_climb, objective="mean_ap", rounds=10),
    "hill climb, macro F1": partial(hill_climb, objective="macro_f1", rounds=10),
    "stack, C .1": stack,
    "stack, C 1": partial(stack, C=1.),
}


def read(folder: Path):
    "Tables of all test pictures by name, and targets of those with labels"
    sample = folder / "tables" / "kaggle_sample_submission.csv.gz"
    tables = {p.stem: read_probs(p, ids=sample) for p in sorted((folder / "test_probs").glob("*.npy"))}
    dev = pd.read_csv(folder / "test_probs" / "labels_dev.csv", dtype=str).set_index("Id")
    return tables, target_table(dev.Target.map(HPA28.parse))


def ways(tables: dict, targs: pd.DataFrame) -> dict:
    "name -> (tables of the labelled rows, how); fixed rules are applied to all rows before, so that ranks are places among all test pictures"
    known = {k: v.loc[targs.index] for k, v in tables.items()}
    out = {k: ({k: v}, "mean") for k, v in known.items()}
    out |= {k: ({k: blend(tables, k).loc[targs.index]}, "mean") for k in FIXED}
    return out | {k: (known, how) for k, how in FITTED.items()}


def measure(each: dict, targs: pd.DataFrame, repeats: int, draws: int, least: int, rule: str) -> pd.DataFrame:
    samples = pd.DataFrame(dict(id=targs.index, labels=HPA28.decode(targs), group=targs.index))
    folds = [grouped_folds(samples, n=5, seed=s).set_index("id").fold for s in range(repeats)]
    often = np.flatnonzero(targs.sum() >= least)
    scored = targs.iloc[:, often]
    rows, hard = {}, {}
    for name, (tables, how) in each.items():
        begun = time.perf_counter()
        runs = [nested_blend(tables, targs, f, how, threshold_rule(rule)) for f in folds]
        hard[name] = np.stack([o.hard.iloc[:, often] for o in runs])
        scores = [macro_f1(scored.to_numpy(), h) for h in hard[name]]
        rows[name] = dict(nested=np.mean(scores), std=np.std(scores), mean_ap=np.mean([mean_ap(scored, o.probs.iloc[:, often]) for o in runs]),
                          log_loss=np.mean([log_loss(targs, o.probs) for o in runs]), seconds=(time.perf_counter() - begun) / repeats)
    table = pd.DataFrame(rows).T
    singles = [k for k, (tables, how) in each.items() if k in tables and k not in FIXED]
    best = table.loc[singles, "nested"].idxmax()
    for column, other in [("best", best), ("chosen", CHOSEN)]:
        found = pd.DataFrame({k: paired_f1(scored.to_numpy(), h, hard[other], n=draws) for k, h in hard.items()}).T
        table[[f"to_{column}", f"{column}_se"]] = found[["difference", "std"]]
    table.attrs["best"] = best
    return table


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--repeats", type=int, default=10)
    p.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    p.add_argument("--least", type=int, default=0, help="positives that a class needs to be scored")
    p.add_argument("--rule", default=DEFAULT_RULE, help="threshold rule, for tables and blends alike")
    p.add_argument("--out", type=Path, help="CSV, one row a table or blend")
    a = p.parse_args()
    tables, targs = read(a.data)
    each = ways(tables, targs)
    table = measure(each, targs, a.repeats, a.draws, a.least, a.rule)
    print(f"{len(targs)} samples, {(targs.sum() >= max(a.least, 1)).sum()} classes scored, 5 folds x {a.repeats}, thresholds by {a.rule}; best single table: {table.attrs['best']}")
    print(f"{'':28}{'nested':>8}{'std':>7}{'AP':>8}{'logloss':>9}   to best single   to chosen single  s")
    for name, o in table.iterrows():
        print(f"{name:28}{o.nested:8.4f}{o['std']:7.4f}{o.mean_ap:8.4f}{o.log_loss:9.4f}   {o.to_best:+.4f} ± {o.best_se:.4f} {o.to_chosen:+.4f} ± {o.chosen_se:.4f}  {o.seconds:.2f}")
    print("weights of the default, fitted on all rows:", {k: round(w, 3) for k, w in simplex_weights(each[DEFAULT][0], targs).weights.items()})
    if a.out:
        table.to_csv(a.out, index_label="way")


if __name__ == "__main__":
    main()
