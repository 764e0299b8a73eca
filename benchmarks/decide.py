#!/usr/bin/env python3
"""Which threshold rule is best on real probabilities? Every rule of hpa_lib.decide.threshold_rules, nested, on fourteen models of two contests' pictures.

    python benchmarks/decide.py --data FOLDER                    # holds test_probs/, val_probs/ and tables/
    python benchmarks/decide.py --data FOLDER --part val --jobs 2
    python benchmarks/decide.py --data FOLDER --part test --rules calibrated exact --seeds 0
    python benchmarks/decide.py --data FOLDER --part broken      # distorted outputs, and decisions that set broken samples aside

FOLDER/test_probs: NAME.npy, 11,702 x 28, rows in the order of FOLDER/tables/kaggle_sample_submission.csv.gz, and labels_dev.csv: the labels of 300 of them.
FOLDER/val_probs: eight models of 3,923 labelled training pictures, two of which are broken on some; labels in rows.csv.gz.
Printed for each model and for the mean: nested macro F1 (5 folds, made anew in each repeat and for each seed, twins in one fold), in-sample, their gap, macro F1
at .5, mean standard deviation of a class's threshold over folds and repeats, and the difference to the best rule with its standard error (paired bootstrap over
groups, of the nested decisions). Then the default against the best rule of each model, and on the mean against the next. Part gap checks the gap: labels drawn
for all 11,702 pictures from one model's calibrated probabilities, exact thresholds fitted on 300 of them, and what those are truly worth on the rest.
"""
import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hpa_lib.data.folds import grouped_folds
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import derive_groups
from hpa_lib.data.scores import class_counts, counts_f1
from hpa_lib.decide.calibrate import shared_slope
from hpa_lib.decide.decision import fit_decision
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, RuleRanking, rank_rules, ranking_table
from hpa_lib.decide.thresholds import apply_thresholds, fit_thresholds, nested_score

MODELS = ("13_ext_512crop_pred_5fold", "inceptionv3_650_score", "inceptionv3_800_score", "inceptionv4_800_score", "xception_512_score", "xception_800_score")
RULES = ("fixed", "fixed(.3)", "single", "exact", "soft_f1", "ratio", "expected_f1", "calibrated", "bagged", "fold_mean", "shrunk(10)", "shrunk(20)",
         "shrunk(20, bagged)", "scaled(exact, .7)", "scaled(bagged, .7)")
BEHIND = dict(val=.005, test=.02)      # how far the default may be behind the best rule of a model


def grouped(data: Path, ids, part: str) -> list:
    "Pictures of equal hash are one group"
    lines = (data / "tables" / f"duplicates_kaggle_{part}.txt").read_text().split()
    twin = {o: line.split(",")[0] for line in lines for o in line.split(",")}
    return derive_groups(pd.DataFrame(dict(id=ids, twin=ids.map(twin))))


def read_test(data: Path) -> tuple[dict, np.ndarray, list]:
    "Probabilities of the 300 labelled test pictures by model, their labels, and their twins' groups"
    ids = pd.Index(pd.read_csv(data / "tables" / "kaggle_sample_submission.csv.gz", dtype=str).Id)
    dev = pd.read_csv(data / "test_probs" / "labels_dev.csv", dtype=str)
    rows, targs = ids.get_indexer(dev.Id), HPA28.multi_hot([HPA28.parse(o) for o in dev.Target]).astype(bool)
    assert (rows >= 0).all() and not dev.Id.duplicated().any()
    return {m: np.load(data / "test_probs" / f"{m}.npy")[rows].astype(float) for m in MODELS}, targs, grouped(data, dev.Id, "test")


def read_val(data: Path) -> tuple[dict, np.ndarray, list]:
    "The same of the 3,923 training pictures that eight models had not seen"
    rows = pd.read_csv(data / "val_probs" / "rows.csv.gz", dtype=str)
    tables = np.load(data / "val_probs" / "val_probs.npz")
    targs = HPA28.multi_hot([HPA28.parse(o) for o in rows.Target]).astype(bool)
    return {m: tables[m].astype(float) for m in tables}, targs, grouped(data, rows.Id, "train")


READ = dict(test=read_test, val=read_val)


def rank_model(data: Path, part: str, model: str, rules, folds: int, repeats: int, seeds) -> RuleRanking:
    "All rules for one model, over the repeats of all seeds"
    tables, targs, groups = READ[part](data)
    found = [rank_rules({model: tables[model]}, targs, rules, folds, repeats, groups, seed) for seed in seeds]
    scores = pd.concat([o.scores for o in found]).groupby(["model", "rule"], sort=False).mean().reset_index()
    counts = {k: np.concatenate([o.counts[k] for o in found], axis=1) for k in found[0].counts}
    return RuleRanking(scores, sum(o.spread for o in found) / len(found), counts)


def rank_all(data: Path, part: str, rules, folds: int, repeats: int, seeds, jobs: int) -> RuleRanking:
    "The same for every model of a part, in processes"
    with ProcessPoolExecutor(jobs) as pool:
        found = list(pool.map(rank_model, *zip(*[(data, part, m, rules, folds, repeats, seeds) for m in READ[part](data)[0]])))
    counts = {k: v for o in found for k, v in o.counts.items()}
    return RuleRanking(pd.concat([o.scores for o in found], ignore_index=True), pd.concat([o.spread for o in found]), counts)


def show(ranking: RuleRanking, title: str, draws: int) -> pd.DataFrame:
    table = ranking_table(ranking, draws=draws)
    print(f"\n== {title}: {ranking.scores.model.nunique()} models; difference to the best rule of the model ==")
    print(table.to_string(index=False, float_format="{:.4f}".format), flush=True)
    return table


def judge(table: pd.DataFrame, part: str) -> None:
    "The default against the best rule of each model, and on the mean against the next"
    print(f"\n== default {DEFAULT_RULE!r} on {part}: at most {BEHIND[part]} behind the best rule of a model, ahead on the mean ==")
    for model, rows in table.groupby("model", sort=False):
        own, best = rows[rows.rule == DEFAULT_RULE].iloc[0], rows.iloc[0]
        other = rows[rows.rule != DEFAULT_RULE].iloc[0]
        held = best.nested - own.nested <= BEHIND[part] if model != "mean" else own.nested > other.nested
        print(f"{model:28} {own.nested:.4f}  next {other.rule} {other.nested:.4f}  difference {own.nested - other.nested:+.4f}"
              f"  to the best {own.difference:+.4f} +- {own.se:.4f}  {'holds' if held else 'DOES NOT HOLD'}", flush=True)


def distorted(p: np.ndarray, rng: np.random.Generator) -> dict:
    "Outputs that nobody gave us"
    z = logit(np.clip(p, 1e-4, 1 - 1e-4))
    some, ones, flipped, constant = rng.choice(len(p), len(p) // 50, replace=False), p.copy(), p.copy(), p.copy()
    ones[some] = 1
    flipped[:, [0, 21, 25]] = 1 - flipped[:, [0, 21, 25]]
    constant[:, [0, 5]] = .3
    return dict(plain=p, overconfident=expit(3 * z), underconfident=expit(z / 3), flipped=flipped, bits8=np.rint(p * 255) / 255, levels10=np.rint(p * 10) / 10,
                ones=ones, constant=constant, noise=rng.random(p.shape), classes60=np.c_[p, p, p[:, :4]], rows30=p[:30])


def broken(data: Path, rules=("calibrated", "exact", "single", "fixed")) -> None:
    "Rules on distorted outputs; and decisions, which set samples aside whose outputs say nothing"
    print("\n== distorted outputs, nested macro F1, 5 folds, 2 repeats ==")
    for part, model in (("test", "xception_800_score"), ("val", "resnet34_rgb224")):
        tables, targs, groups = READ[part](data)
        rows = {}
        for name, p in distorted(tables[model], np.random.default_rng(0)).items():
            y = np.c_[targs, targs, targs[:, :4]] if name == "classes60" else targs[:len(p)]
            rows[name] = rank_rules({model: p}, y, rules, 5, 2, groups[:len(p)]).scores.set_index("rule").nested
        print(f"{part}: {model}\n" + pd.DataFrame(rows).T.to_string(float_format="{:.4f}".format), flush=True)
    print("\n== decisions by the default rule: broken samples taken at their word, or set aside; nested macro F1 ==")
    tables, targs, groups = read_val(data)
    ids = [f"s{i}" for i in range(len(targs))]
    samples = pd.DataFrame(dict(id=ids, labels=HPA28.decode(targs), group=groups))
    fold = grouped_folds(samples, n=5, seed=0).set_index("id").fold
    for model, p in tables.items():
        table = pd.DataFrame(p, columns=HPA28.names).assign(id=ids, fold=fold.loc[ids].to_numpy())
        scores = [fit_decision(table, samples, faults=o, draws=2) for o in (False, True)]
        aside = scores[1][0].faults.rows
        print(f"{model:20} taken {scores[0][1].nested:.4f}  set aside {scores[1][1].nested:.4f}  ({len(aside)} samples)", flush=True)


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
    p.add_argument("--part", choices=["all", "test", "val", "gap", "broken"], default="all")
    p.add_argument("--rules", nargs="+", default=RULES)
    p.add_argument("--folds", type=int, default=5)
    p.add_argument("--repeats", type=int, default=10, help="of each seed")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    p.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    p.add_argument("--sets", type=int, default=20, help="of the check of the gap")
    p.add_argument("--jobs", type=int, default=1, help="models at once, a process each")
    p.add_argument("--out", type=Path, help="CSV, one row a model and rule")
    a = p.parse_args()
    begun, tables = time.perf_counter(), []
    for part in [o for o in READ if a.part in ("all", o)]:
        ranking = rank_all(a.data, part, a.rules, a.folds, a.repeats, a.seeds, a.jobs)
        tables.append(show(ranking, part, a.draws).assign(part=part))
        if DEFAULT_RULE in a.rules:
            judge(tables[-1], part)
    if a.part in ("all", "gap"):
        probs, targs, _ = read_test(a.data)
        true_gap(a.data, MODELS, probs, targs, a.sets, a.folds)
    if a.part in ("all", "broken"):
        broken(a.data)
    if a.out and tables:
        pd.concat(tables).to_csv(a.out, index=False)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
