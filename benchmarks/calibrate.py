#!/usr/bin/env python3
"""Do calibrated probabilities of real networks mean what they say, and are new class ratios found without labels?

    python benchmarks/calibrate.py --data FOLDER            # FOLDER/test_probs/*.npy and labels_dev.csv, FOLDER/tables/kaggle_sample_submission.csv.gz

Each .npy holds N x 28 probabilities in the row order of the sample submission; labels_dev.csv (Id, Target) labels a few of these rows.

First table, calibration: `--folds` random folds, everything cross-fitted, mean over `--repeats`. ece: all entries together, 15 bins; ece_class: mean over classes, 10 bins;
both in thousandths, and so is brier. floor: ece_class where labels are drawn from the raw probabilities themselves. map: over all rows; map_fold: mean over the folds of the change
within a fold. `lower`: in how many repeats ece fell.

Second table, class ratios: in each of `--draws` draws the labelled rows are cut in two halves. One fits calibration (`--method`), old ratios, confusion and thresholds. From the other, as many rows are
drawn with replacement, with weights that move the ratios towards a Dirichlet draw (mean: the ratios of all rows, sum of alphas: `--concentration`), for the classes with `--positives` or more.
True ratios are those of the rows drawn. err_X: mean absolute error of the ratios in thousandths, over classes and draws; old: assuming the ratios of the fitting half; X_part: err_X as a share of err_old.
F1: macro F1 over these classes. exact, default: thresholds of the fitting half by these rules; expected: `expected_f1_thresholds` of the drawn rows; X_em and X_true after `adjust` to the ratios found by EM and to
the true ones. Then the gain of expected_em (what `shift_decision` does, except that its old ratios are the mean calibrated probabilities of the labelled rows, not the share of positives) over exact and over default, with the 95 % interval of its mean over draws; and what is lost when the old thresholds stay (exact_em).
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from hpa_lib.core import DecisionError
from hpa_lib.data.labels import HPA28, get_vocab
from hpa_lib.data.scores import macro_f1, mean_ap
from hpa_lib.decide.calibrate import brier, cross_fit, ece, ece_per_class, fit_calibration
from hpa_lib.decide.prior_shift import adjust, em_ratios, matrix_ratios
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, expected_f1_thresholds, threshold_rule
from hpa_lib.decide.thresholds import apply_thresholds, fit_thresholds


def read(data: Path) -> tuple[dict, np.ndarray]:
    "Probabilities of the labelled rows, by model, and their labels"
    ids = pd.read_csv(data / "tables" / "kaggle_sample_submission.csv.gz").Id
    dev = pd.read_csv(data / "test_probs" / "labels_dev.csv", dtype=str, keep_default_na=False)
    rows = pd.Index(ids).get_indexer(dev.Id)
    assert (rows >= 0).all(), "labels_dev.csv has an id that the sample submission lacks"
    vocab = get_vocab(HPA28)
    targs = np.asarray(vocab.multi_hot([vocab.parse(t) for t in dev.Target])).astype(bool)
    return {f.stem: np.load(f)[rows].astype(float) for f in sorted((data / "test_probs").glob("*.npy"))}, targs


def measure(probs, targs) -> np.ndarray:
    return np.array([1e3 * ece(probs, targs), 1e3 * ece_per_class(probs, targs).mean(), 1e3 * brier(probs, targs).mean(), mean_ap(targs, probs)])


def within(probs, raw, targs, folds) -> float:
    "Mean change of average precision inside the folds"
    return float(np.mean([mean_ap(targs[folds == k], probs[folds == k]) - mean_ap(targs[folds == k], raw[folds == k]) for k in np.unique(folds)]))


def calibration_table(models: dict, targs, ways: dict, repeats: int, folds: int) -> pd.DataFrame:
    out, columns = [], ["ece", "ece_class", "brier", "map"]
    for name, p in models.items():
        raw, rng = measure(p, targs), np.random.default_rng(0)
        floor = 1e3 * np.mean([ece_per_class(p, rng.random(p.shape) < p).mean() for _ in range(10)])
        out.append(dict(model=name, way="raw", **dict(zip(columns, raw)), floor=floor))
        for way, rule in ways.items():
            each, inner = [], []
            for s in range(repeats):
                fold = np.random.default_rng(s).permutation(len(p)) % folds
                q = cross_fit(p, targs, fold, **rule)
                each.append(measure(q, targs))
                inner.append(within(q, p, targs, fold))
            mean = np.mean(each, axis=0)
            out.append(dict(model=name, way=way, **dict(zip(columns, mean)), d_map=mean[3] - raw[3], map_fold=np.mean(inner), lower=f"{sum(e[0] < raw[0] for e in each)}/{repeats}"))
    return pd.DataFrame(out)


def drawn_rows(targs, pool, keep, concentration, rng) -> np.ndarray:
    "Rows of `pool`, with replacement, the ratios of the classes `keep` moved towards a Dirichlet draw"
    share = targs[:, keep].mean(0)
    wanted = rng.dirichlet(concentration * share / share.sum()) * share.sum()
    weight = np.prod(np.where(targs[np.ix_(pool, keep)], (wanted / share).clip(.05, 20), 1), axis=1)
    return rng.choice(pool, size=len(pool), p=weight / weight.sum())


def shift_draw(p, targs, keep, concentration, method, rng) -> dict:
    "One draw: errors of the ratios, and F1 before and after"
    while True:                                                       # a half needs some positives of every class
        rows = rng.permutation(len(p))
        fit, pool = rows[: len(p) // 2], rows[len(p) // 2:]
        if (targs[np.ix_(fit, keep)].sum(0) >= 3).all():
            break
    new = drawn_rows(targs, pool, keep, concentration, rng)
    calibration = fit_calibration(p[fit], targs[fit], method)
    known, unknown, y, truth = calibration.apply(p[fit])[:, keep], calibration.apply(p[new])[:, keep], targs[np.ix_(fit, keep)], targs[np.ix_(new, keep)]
    old, ratio = y.mean(0), truth.mean(0)
    found = dict(old=old, mean=unknown.mean(0), em=em_ratios(unknown, old), em_plain=em_ratios(unknown, old, prior=0), soft=matrix_ratios(unknown, known, y))
    try:
        found["hard"] = matrix_ratios(unknown, known, y, .5)
    except DecisionError:                                             # no positive of a class above .5: counted as no_hard
        found["hard"] = np.full(len(keep), np.nan)
    exact, default = fit_thresholds(known, y), threshold_rule(DEFAULT_RULE)(p[fit], targs[fit])[keep]
    moved, ideal = adjust(unknown, old, found["em"]), adjust(unknown, old, ratio)
    def f1(q, t): return macro_f1(truth, apply_thresholds(q, t, fallback=None))
    return {f"err_{k}": 1e3 * np.abs(v - ratio).mean() for k, v in found.items()} | dict(
        f1_exact=f1(unknown, exact), f1_exact_em=f1(moved, exact), f1_exact_true=f1(ideal, exact), f1_default=f1(p[np.ix_(new, keep)], default),
        f1_expected=f1(unknown, expected_f1_thresholds(unknown)), f1_expected_em=f1(moved, expected_f1_thresholds(moved)), f1_expected_true=f1(ideal, expected_f1_thresholds(ideal)))


def interval(gain) -> str:
    "Mean of the draws and the 95 % interval of that mean"
    gain = np.asarray(gain)
    low, high = np.quantile(np.random.default_rng(1).choice(gain, (2000, len(gain))).mean(1), [.025, .975])
    return f"{gain.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


GAINS = {"over_exact": ("expected_em", "exact"), "over_default": ("expected_em", "default"), "old_thresholds": ("exact_em", "exact")}


def shift_table(models: dict, targs, positives: int, concentrations, draws: int, method: str) -> pd.DataFrame:
    "One row a concentration and model, and one of the mean over the models, whose interval is that of the draws' means over models"
    keep, out = np.flatnonzero(targs.sum(0) >= positives), []
    for concentration in concentrations:
        each = {}
        for name, p in models.items():
            rng = np.random.default_rng(0)
            each[name] = pd.DataFrame([shift_draw(p, targs, keep, concentration, method, rng) for _ in range(draws)])
        each["mean"] = sum(each.values()) / len(each)
        for name, t in each.items():
            out.append(dict(sum_of_alphas=concentration, model=name, **t.filter(like="err").mean(), **{f"{k}_part": t[f"err_{k}"].mean() / t.err_old.mean() for k in ("em", "soft", "mean")},
                            **t.filter(like="f1").mean(), **{f"gain_{k}": interval(t[f"f1_{a}"] - t[f"f1_{b}"]) for k, (a, b) in GAINS.items()}, no_hard=int(t.err_hard.isna().sum())))
    return pd.DataFrame(out)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--folds", type=int, default=5)
    p.add_argument("--draws", type=int, default=50)
    p.add_argument("--method", default="offset", help="calibration before ratios are estimated")
    p.add_argument("--positives", type=int, default=15)
    p.add_argument("--concentration", type=float, nargs="+", default=[10, 30, 100])
    a = p.parse_args()
    models, targs = read(a.data)
    ways = {"platt (default)": {}, "temperature": dict(method="temperature"), "beta": dict(method="beta"), "isotonic": dict(method="isotonic"),
            "platt, pooled only": dict(least=10**9), "platt, least=0": dict(least=0), "platt, least=0, shrink=0.01": dict(least=0, shrink=.01), "offset": dict(method="offset")}
    show = dict(index=False, float_format=lambda v: f"{v:.4g}" if abs(v) >= 1 else f"{v:.4f}", na_rep="")
    print(f"{len(targs)} labelled rows, {len(models)} models\n")
    table = calibration_table(models, targs, ways, a.repeats, a.folds)
    print(table.to_string(**show))
    table = table.assign(d_ece=table.ece - table.groupby("model").ece.transform("first"), d_class=table.ece_class - table.groupby("model").ece_class.transform("first"))
    print("\nover the models:\n" + table[table.way != "raw"].groupby("way", sort=False).agg(worst_d_ece=("d_ece", "max"), mean_d_ece=("d_ece", "mean"), mean_d_class=("d_class", "mean"), worst_d_map=("d_map", "min"), worst_map_fold=("map_fold", "min")).round(4).to_string())
    if a.draws:
        table = shift_table(models, targs, a.positives, a.concentration, a.draws, a.method)
        for part in ("err|part|no_hard", "f1|gain"):
            print("\n" + table.set_index(["sum_of_alphas", "model"]).filter(regex=part).to_string(float_format=show["float_format"], na_rep=""))


if __name__ == "__main__":
    main()
