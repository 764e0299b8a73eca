#!/usr/bin/env python3
"""What is a blend worth? Single tables and blends of them, side by side, on samples with known labels.

    python benchmarks/blend.py --data FOLDER                        # both sets, 10 repeats of 5 folds, seed 0
    python benchmarks/blend.py --data FOLDER --seed 1 --rule exact  # other folds; thresholds by another rule
    python benchmarks/blend.py --data FOLDER --set test_probs --only "log_pool (default)" simplex
    python benchmarks/blend.py --data FOLDER --faults               # the default with one member made faulty, in many ways
    python benchmarks/blend.py --data FOLDER --least 10             # only classes with 10 positives or more are scored

Two sets. `test_probs`: six good models of one contest on 300 pictures (test_probs/*.npy and labels_dev.csv,
tables/kaggle_sample_submission.csv.gz). `val_probs`: eight middling models on 3,923 pictures, two of them broken on
some rows (val_probs/val_probs.npz and rows.csv.gz). Twins (tables/duplicates_kaggle_*.txt) stay in one fold.

Printed for each table and blend: nested macro F1 (weights and thresholds from the other folds; mean and standard
deviation over the repeats, each with folds of its own), mean average precision and log loss of the held-out rows; then
two paired differences in nested macro F1 with their bootstrap 95 % interval and standard error over groups of twins, on
decisions of all repeats: to the single table that turned out best (chosen with all labels in hand, which favours it),
and to the single table chosen on the other folds by log loss, which is what somebody without the labels could have used.
"""
import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.labels import HPA28
from hpa_lib.data.probs import read_probs
from hpa_lib.data.samples import derive_groups
from hpa_lib.data.scores import macro_f1, mean_ap
from hpa_lib.decide.blend import (
    blend, hill_climb, log_loss, log_pool, nested_blend, paired_f1, simplex_weights, stack, target_table,
)
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, threshold_rule

FIXED = ["mean", "geometric", "logit", "power(2)", "rank", "max"]
CHOSEN, DEFAULT = "chosen single table", "log_pool (default)"
FITTED = {
    CHOSEN: partial(hill_climb, rounds=1),
    DEFAULT: log_pool,
    "log_pool, pull 3": partial(log_pool, pull=3.),
    "log_pool, pull 30": partial(log_pool, pull=30.),
    "simplex": simplex_weights,
    "simplex, logit": partial(simplex_weights, how="logit"),
    "hill climb, log loss": hill_climb,
    "hill climb, mean AP": partial(hill_climb, objective="mean_ap", rounds=10),
    "hill climb, macro F1": partial(hill_climb, objective="macro_f1", rounds=10),
    "stack, C .1": stack,
    "stack, C 1": partial(stack, C=1.),
}
SLOW = ["hill climb, mean AP", "hill climb, macro F1", "stack, C .1", "stack, C 1"]  # on 3,923 pictures


def twin_table(folder: Path, name: str, ids) -> pd.Series:
    "id -> group of twins"
    lines = (folder / "tables" / name).read_text().split()
    twin = {o: line.split(",")[0] for line in lines for o in line.split(",")}
    samples = pd.DataFrame(dict(id=list(ids)))
    return pd.Series(derive_groups(samples.assign(twin=samples.id.map(twin))), list(ids))


def read_test(folder: Path):
    "Tables of all test pictures by name; targets and groups of those with labels"
    sample = folder / "tables" / "kaggle_sample_submission.csv.gz"
    tables = {p.stem: read_probs(p, ids=sample) for p in sorted((folder / "test_probs").glob("*.npy"))}
    dev = pd.read_csv(folder / "test_probs" / "labels_dev.csv", dtype=str).set_index("Id")
    targs = target_table(dev.Target.map(HPA28.parse))
    return tables, targs, twin_table(folder, "duplicates_kaggle_test.txt", targs.index)


def read_val(folder: Path):
    "Tables, targets and groups of training pictures that the models had not seen"
    rows = pd.read_csv(folder / "val_probs" / "rows.csv.gz", dtype=str).set_index("Id")
    stored = np.load(folder / "val_probs" / "val_probs.npz")
    index = rows.index.rename("id")
    tables = {k: pd.DataFrame(stored[k].astype(float), index, HPA28.names) for k in stored.files}
    targs = target_table(rows.Target.map(HPA28.parse))
    return tables, targs, twin_table(folder, "duplicates_kaggle_train.txt", targs.index)


SETS = dict(test_probs=read_test, val_probs=read_val)


def ways(tables: dict, targs: pd.DataFrame) -> dict:
    "name -> (tables of labelled rows, how); fixed rules are applied to all rows before: ranks are among all pictures"
    known = {k: v.loc[targs.index] for k, v in tables.items()}
    out = {k: ({k: v}, "mean") for k, v in known.items()}
    out |= {k: ({k: blend(tables, k).loc[targs.index]}, "mean") for k in FIXED}
    return out | {k: (known, how) for k, how in FITTED.items()}


def repeated_folds(targs: pd.DataFrame, groups: pd.Series, repeats: int, seed: int) -> list:
    "The folds of each repeat, id -> fold"
    samples = pd.DataFrame(dict(id=targs.index, labels=HPA28.decode(targs), group=groups.loc[targs.index].to_numpy()))
    return [grouped_folds(samples, n=5, seed=seed * repeats + r).set_index("id").fold for r in range(repeats)]


def measure(each: dict, targs: pd.DataFrame, groups: pd.Series, folds: list, draws: int, least: int, rule: str):
    "One row a table or blend"
    often = np.flatnonzero(targs.sum() >= least)
    scored = targs.iloc[:, often]
    truth = scored.to_numpy()
    groups = groups.loc[targs.index].to_numpy()
    rows, hard = {}, {}
    for name, (tables, how) in each.items():
        begun = time.perf_counter()
        runs = [nested_blend(tables, targs, f, how, threshold_rule(rule)) for f in folds]
        hard[name] = np.stack([o.hard.iloc[:, often] for o in runs])
        scores = [macro_f1(truth, h) for h in hard[name]]
        rows[name] = dict(
            nested=np.mean(scores),
            std=np.std(scores),
            mean_ap=np.mean([mean_ap(scored, o.probs.iloc[:, often]) for o in runs]),
            log_loss=np.mean([log_loss(targs, o.probs) for o in runs]),
            seconds=(time.perf_counter() - begun) / len(folds),
        )
    table = pd.DataFrame(rows).T
    singles = [k for k, (tables, how) in each.items() if k in tables and k not in FIXED]
    best = table.loc[singles, "nested"].idxmax()
    for column, other in [("best", best), ("chosen", CHOSEN)]:
        found = pd.DataFrame({k: paired_f1(truth, h, hard[other], groups, n=draws) for k, h in hard.items()}).T
        table[[f"to_{column}", f"{column}_low", f"{column}_high", f"{column}_se"]] = found[["difference", "low", "high", "std"]]
    table.attrs["best"] = best
    return table


def show(name: str, table: pd.DataFrame) -> None:
    print(f"{name:30}{'nested':>8}{'std':>7}{'AP':>8}{'logloss':>9}   to the best single: 95 %, se           to the chosen single: 95 %, se")
    def gap(o, to):
        return f"{o[f'to_{to}']:+.4f} [{o[f'{to}_low']:+.4f}, {o[f'{to}_high']:+.4f}] {o[f'{to}_se']:.4f}"
    for way, o in table.iterrows():
        print(f"{way:30}{o.nested:8.4f}{o['std']:7.4f}{o.mean_ap:8.4f}{o.log_loss:9.4f}   {gap(o, 'best')}   {gap(o, 'chosen')}  {o.seconds:.2f} s")


def faults(p: pd.DataFrame, targs: pd.DataFrame, seed: int) -> dict:
    "One table, made faulty in many ways"
    rng = np.random.default_rng(seed)
    n, c = p.shape
    often = targs.sum().sort_values(ascending=False).index
    some = rng.random(n) < .1

    def rows(value):
        return p.mask(pd.Series(some, p.index), value)

    def columns(change, which):
        return p.assign(**{o: change(p[o].to_numpy()) for o in which})

    claims = p.copy()
    for i in np.flatnonzero(some):
        claims.iloc[i, rng.permutation(c)[:11]] = .999
    held = p.clip(1e-7, 1 - 1e-7)
    return {
        "as it is": p,
        "noise": p * 0 + rng.random(p.shape),
        "rows shuffled": p * 0 + p.to_numpy()[rng.permutation(n)],
        "all .3": p * 0 + .3,
        "upside down": 1 - p,
        "one row of ones": p.mask(pd.Series(np.arange(n) == n // 2, p.index), 1.),
        "ones on 10 %": rows(1.),
        "zeros on 10 %": rows(0.),
        "11 classes claimed on 10 %": claims,
        "slope 3": held.map(lambda o: expit(3 * logit(o))),
        "slope 1/3": held.map(lambda o: expit(logit(o) / 3)),
        "8 bits": (p * 255).round() / 255,
        "0 or 1": (p > .5).astype(float),
        "one class flipped": columns(lambda o: 1 - o, often[1:2]),
        "eight classes flipped": columns(lambda o: 1 - o, often[2:10]),
        "eight classes shuffled": columns(rng.permutation, often[2:10]),
        "eight classes .7": columns(lambda o: o * 0 + .7, often[2:10]),
    }


def judge_faults(known: dict, targs: pd.DataFrame, groups: pd.Series, folds: list, best: str, rule: str) -> None:
    "The default and the simplex with the best table made faulty, beside both without that table"
    def row(name, tables):
        scores = []
        for how in (log_pool, simplex_weights):
            runs = [nested_blend(tables, targs, f, how, threshold_rule(rule)) for f in folds]
            scores.append(np.mean([o.nested for o in runs]))
        print(f"{name:28}{scores[0]:10.4f}{scores[1]:10.4f}   {log_pool(tables, targs).note}", flush=True)
    print(f"\n{best} made faulty, {len(folds)} repeats\n{'':28}{'log_pool':>10}{'simplex':>10}   note of the pool fitted on all rows")
    row("left out", {k: v for k, v in known.items() if k != best})
    for name, table in faults(known[best], targs, 0).items():
        row(name, known | {best: table})


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--set", choices=list(SETS), help="default: both")
    p.add_argument("--repeats", type=int, default=10)
    p.add_argument("--seed", type=int, default=0, help="of the folds")
    p.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    p.add_argument("--least", type=int, default=0, help="positives that a class needs to be scored")
    p.add_argument("--rule", default=DEFAULT_RULE, help="threshold rule, for tables and blends alike")
    p.add_argument("--only", nargs="+", help="blends to show beside the single tables; default: all, on val_probs the quick ones")
    p.add_argument("--faults", action="store_true", help="make one table faulty instead")
    p.add_argument("--out", type=Path, help="CSV, one row a set and table or blend")
    a = p.parse_args()
    found = {}
    for name in [a.set] if a.set else SETS:
        tables, targs, groups = SETS[name](a.data)
        folds = repeated_folds(targs, groups, a.repeats, a.seed)
        each = ways(tables, targs)
        skipped = SLOW if name == "val_probs" else []
        wanted = a.only or [o for o in [*FIXED, *FITTED] if o not in skipped]
        known = each[DEFAULT][0]
        if a.faults:
            best = log_pool(known, targs).weights
            judge_faults(known, targs, groups, folds, max(best, key=best.get), a.rule)
            continue
        each = {k: v for k, v in each.items() if k in known or k in wanted or k == CHOSEN}
        table = measure(each, targs, groups, folds, a.draws, a.least, a.rule)
        classes = (targs.sum() >= max(a.least, 1)).sum()
        print(f"\n{len(targs)} samples, {classes} classes scored, 5 folds x {a.repeats}, seed {a.seed}, thresholds by {a.rule}; best single table: {table.attrs['best']}")
        show(name, table)
        whole = log_pool(known, targs)
        print("weights of the default, fitted on all rows:", {k: round(w, 3) for k, w in whole.weights.items()})
        print(whole.note, flush=True)
        found[name] = table
    if a.out and found:
        pd.concat(found, names=["set", "way"]).to_csv(a.out)


if __name__ == "__main__":
    main()
