#!/usr/bin/env python3
"""Which threshold rule is best on real probabilities? Every rule of hpa_lib.decide.threshold_rules, nested, on six models of the 2018 contest.

    python benchmarks/decide.py --data FOLDER                # holds test_probs/ and tables/
    python benchmarks/decide.py --data FOLDER --part choice  # only the three models the default was chosen on
    python benchmarks/decide.py --data FOLDER --out ranking.csv

FOLDER/test_probs: NAME.npy, 11,702 x 28, rows in the order of FOLDER/tables/kaggle_sample_submission.csv.gz, and labels_dev.csv: the labels of 300 of them.
The default rule was fixed on the models of CHOICE, before those of JUDGED were looked at; both see the same 300 pictures.
Printed for each model and for the mean: nested macro F1 (folds made anew in each repeat, twins in one fold), in-sample, their gap, macro F1 at .5, mean standard
deviation of a class's threshold over folds and repeats, and the difference to the best rule with its standard error (paired bootstrap over pictures, of the
nested decisions). Then the default against the rules it must beat, and a check of the gap: labels drawn for all 11,702 pictures from one model's calibrated
probabilities, exact thresholds fitted on 300 of them, and what those are truly worth on the rest.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import derive_groups
from hpa_lib.data.scores import class_counts, counts_f1
from hpa_lib.decide.calibrate import shared_slope
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, RuleRanking, rank_rules, ranking_table
from hpa_lib.decide.thresholds import apply_thresholds, fit_thresholds, nested_score

CHOICE = ("13_ext_512crop_pred_5fold", "inceptionv3_650_score", "xception_512_score")
JUDGED = ("inceptionv3_800_score", "inceptionv4_800_score", "xception_800_score")
RULES = ("fixed", "fixed(.3)", "single", "exact", "soft_f1", "ratio", "expected_f1", "calibrated", "bagged", "fold_mean", "shrunk(10)", "shrunk(20)",
         "shrunk(20, bagged)", "scaled(exact, .7)", "scaled(bagged, .7)")
TO_BEAT = ("fixed", "single", "exact")


def read(data: Path, models) -> tuple[dict, np.ndarray, list]:
    "Probabilities of the labelled pictures by model, their labels, and their twins' groups"
    ids = pd.Index(pd.read_csv(data / "tables" / "kaggle_sample_submission.csv.gz", dtype=str).Id)
    dev = pd.read_csv(data / "test_probs" / "labels_dev.csv", dtype=str)
    rows, targs = ids.get_indexer(dev.Id), HPA28.multi_hot([HPA28.parse(o) for o in dev.Target]).astype(bool)
    assert (rows >= 0).all() and not dev.Id.duplicated().any()
    twin = {o: line.split(",")[0] for line in (data / "tables" / "duplicates_kaggle_test.txt").read_text().split() for o in line.split(",")}
    groups = derive_groups(pd.DataFrame(dict(id=dev.Id, twin=dev.Id.map(twin))))
    return {m: np.load(data / "test_probs" / f"{m}.npy")[rows].astype(float) for m in models}, targs, groups


def show(ranking: RuleRanking, title: str, draws: int) -> pd.DataFrame:
    table = ranking_table(ranking, draws=draws)
    print(f"\n== {title}: {ranking.scores.model.nunique()} models; difference to the best rule of the model ==")
    print(table.to_string(index=False, float_format="{:.4f}".format), flush=True)
    return table


def judge(ranking: RuleRanking, draws: int) -> None:
    "The default against the best rule, and against those it must beat"
    table = ranking_table(ranking, draws=draws)
    own = table[table.rule == DEFAULT_RULE].set_index("model")
    print(f"\n== default {DEFAULT_RULE!r} on the judged models ==")
    for model, row in own.iterrows():
        best = table[table.model == model].iloc[0]
        print(f"{model:28} nested {row.nested:.4f}, best {best.rule} {best.nested:.4f}: {row.difference:+.4f} +- {row.se:.4f}, {'within' if -row.difference <= row.se else 'NOT within'} one standard error")
    for rule in [o for o in TO_BEAT if o in ranking.scores.rule.to_list()]:
        other = ranking_table(ranking, rule, draws).query("rule == @DEFAULT_RULE").set_index("model")
        print(f"over {rule:8} " + "  ".join(f"{m}: {r.difference:+.4f} +- {r.se:.4f}" for m, r in other.iterrows()))


def true_gap(data: Path, models, tables: dict, targs: np.ndarray, sets: int, folds: int) -> None:
    "In-sample minus true score of exact thresholds fitted on 300 pictures, beside the gap that nested scoring reports"
    print(f"\n== is the gap right? {sets} sets of {len(targs)} with drawn labels, exact thresholds ==")
    for model in models:
        rng, raw = np.random.default_rng(0), np.load(data / "test_probs" / f"{model}.npy").astype(float)
        slope, offset = shared_slope(logit(np.clip(tables[model], 1e-3, 1 - 1e-3)), targs, 1.)
        truth, rows = expit(slope * logit(np.clip(raw, 1e-3, 1 - 1e-3)) + offset), []
        for seed in range(sets):
            y = rng.random(raw.shape) < truth
            few = np.zeros(len(raw), bool)
            few[rng.choice(len(raw), len(targs), replace=False)] = True
            p, known = raw[few], y[few]
            samples = pd.DataFrame(dict(id=[str(i) for i in range(len(p))], labels=HPA28.decode(known)))
            samples["group"] = samples.id
            score = nested_score(p, known, grouped_folds(samples, n=folds, seed=seed).fold.to_numpy())
            hard = apply_thresholds(raw[~few], fit_thresholds(p, known))
            worth = counts_f1(class_counts(y[~few], hard))[known.any(0)].mean()       # the classes that the 300 could score
            rows.append((score.in_sample - worth, score.optimism))
        true, said = np.array(rows).T
        print(f"{model:28} true gap {true.mean():.4f} (spread of one set {true.std():.4f})  reported {said.mean():.4f} (spread {said.std():.4f})  apart {said.mean() - true.mean():+.4f}", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--part", choices=["all", "choice", "judged", "gap"], default="all")
    p.add_argument("--rules", nargs="+", default=RULES)
    p.add_argument("--folds", type=int, default=5)
    p.add_argument("--repeats", type=int, default=10)
    p.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    p.add_argument("--sets", type=int, default=20, help="of the check of the gap")
    p.add_argument("--out", type=Path, help="CSV, one row a model and rule")
    a = p.parse_args()
    begun, tables = time.perf_counter(), []
    for part, models in (("choice", CHOICE), ("judged", JUDGED)):
        if a.part not in ("all", part):
            continue
        probs, targs, groups = read(a.data, models)
        ranking = rank_rules(probs, targs, a.rules, a.folds, a.repeats, groups)
        tables.append(show(ranking, part, a.draws).assign(part=part))
        if part == "judged" and DEFAULT_RULE in a.rules:
            judge(ranking, a.draws)
    if a.part in ("all", "gap"):
        models = CHOICE + JUDGED
        probs, targs, groups = read(a.data, models)
        true_gap(a.data, models, probs, targs, a.sets, a.folds)
    if a.out and tables:
        pd.concat(tables).to_csv(a.out, index=False)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
