"Calibration and class ratios: what holds for any probabilities, and on the outputs of six real networks."
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hpa_lib.core import DecisionError
from hpa_lib.data.labels import HPA28, get_vocab
from hpa_lib.data.scores import mean_ap
from hpa_lib.decide.calibrate import Calibration, brier, cross_fit, ece, ece_per_class, fit_calibration, reliability, shared_slope
from hpa_lib.decide.prior_shift import adjust, em_ratios, em_table, estimate_ratios, match_ratios, matrix_ratios
from hpa_lib.decide.threshold_rules import expected_f1_thresholds
from hpa_lib.decide.thresholds import apply_thresholds

METHODS = ["temperature", "platt", "beta", "isotonic", "offset"]
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def samples(seed: int, n: int = 80, c: int = 3) -> tuple[np.ndarray, np.ndarray]:
    "Probabilities on a coarse grid with exact zeros and ones, some classes constant, never or always positive"
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 9, (n, c)) / 8
    y = rng.random((n, c)) < rng.random(c) * (.3 + p) / 1.3
    odd = rng.integers(0, 6)
    if odd == 0:
        y[:, 0] = False
    if odd == 1:
        y[:, 0] = True
    if odd == 2:
        p[:, 0] = rng.choice([0, .3, 1])
    return p, y


def both_kinds(y: np.ndarray) -> np.ndarray:
    "At least one positive and one negative a class"
    y = y.copy()
    y[0], y[1] = True, False
    return y


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), least=st.sampled_from([0, 10, 30]), shrink=st.sampled_from([0., 1., 30.]))
def test_curves_rise_whatever_they_are_fitted_on(method, seed, least, shrink):
    p, y = samples(seed)
    c = fit_calibration(p, y, method, least=least, shrink=shrink)
    grid = np.tile(np.linspace(0, 1, 101)[:, None], 3)
    q = c.apply(grid)
    assert ((q >= 0) & (q <= 1)).all() and (np.diff(q, axis=0) >= 0).all()
    if method != "isotonic" and shrink:                          # without any pull a curve may become too steep for floats
        assert (np.diff(q, axis=0) > 0).all()
        if y.any():
            assert mean_ap(y, c.apply(p)) == mean_ap(y, p)
    assert Calibration.model_validate_json(c.model_dump_json()) == c
    assert np.array_equal(Calibration(**json.loads(c.model_dump_json())).apply(p), c.apply(p))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_rows_does_not_matter(method, seed):
    p, y = samples(seed)
    rng = np.random.default_rng(seed)
    rows, folds = rng.permutation(len(p)), np.arange(len(p)) % 4
    assert np.allclose(fit_calibration(p[rows], y[rows], method).apply(p), fit_calibration(p, y, method).apply(p), atol=1e-3)
    assert np.allclose(cross_fit(p[rows], y[rows], folds[rows], method), cross_fit(p, y, folds, method)[rows], atol=1e-3)
    for measure in (ece, ece_per_class, brier):
        assert np.allclose(measure(p[rows], y[rows]), measure(p, y))
    y, old = both_kinds(y), np.array([.1, .3, .6])
    assert np.array_equal(adjust(p[rows], old, old[::-1]), adjust(p, old, old[::-1])[rows])
    assert np.allclose(em_ratios(p[rows], old), em_ratios(p, old))
    assert np.array_equal(match_ratios(p[rows], old), match_ratios(p, old))
    assert np.allclose(expected_f1_thresholds(p[rows]), expected_f1_thresholds(p))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ratios(seed):
    p, _ = samples(seed)
    rng = np.random.default_rng(seed)
    old, new = rng.uniform(.02, .98, 3), rng.uniform(0, 1, 3)
    assert np.array_equal(adjust(p, old, old), p)
    q = adjust(p, old, new)
    assert ((q >= 0) & (q <= 1)).all()
    assert all((np.diff(q[np.argsort(p[:, j], kind="stable"), j]) >= -1e-12).all() for j in range(3))
    for prior in (0., 20.):
        r = em_ratios(p, old, prior)
        assert ((r >= 0) & (r <= 1)).all()
        inside = (r > 1e-6) & (r < 1 - 1e-6)                     # a round of EM from there stays there
        again = (len(p) * adjust(p, old, r).mean(0) + prior * old) / (len(p) + prior)
        assert np.allclose(again[inside], r[inside], atol=1e-6)
    t = match_ratios(p, new)
    share = apply_thresholds(p, t, fallback=None).mean(0)
    for j in range(3):                                           # no cut comes nearer
        every = [(p[:, j] > o).mean() for o in np.r_[-1, np.unique(p[:, j])]]
        assert abs(share[j] - new[j]) <= min(abs(o - new[j]) for o in every) + 1e-12


def test_the_shift_is_found_and_undone():
    rng = np.random.default_rng(0)
    def draw(n, share):
        y = rng.random((n, 1)) < share
        z = 2 * rng.normal(size=y.shape) + 4 * (y - .5) + np.log(.1 / .9)
        return 1 / (1 + np.exp(-z)), y
    (known, y), (p, truth) = draw(20_000, .1), draw(20_000, .4)
    for method in ("em", "soft", "hard"):
        t = estimate_ratios(p, known, y, method, n=50)
        assert abs(t.ratio[0] - truth.mean()) < .02 and t.low[0] < t.ratio[0] < t.high[0]
    assert ece(adjust(p, [.1], [.4]), truth) < .2 * ece(p, truth)


@pytest.mark.parametrize("bad", [np.nan, -.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(bad):
    p, y = samples(3)
    c, y, worse = fit_calibration(p, y), both_kinds(y), p.copy()
    worse[5, 1] = bad
    r = [.2, .2, .2]
    calls = [
        lambda: fit_calibration(worse, y), lambda: c.apply(worse), lambda: cross_fit(worse, y, np.arange(80) % 2),
        lambda: ece(worse, y), lambda: ece_per_class(worse, y), lambda: brier(worse, y), lambda: reliability(worse[:, 1], y[:, 1]),
        lambda: adjust(worse, r, r), lambda: em_ratios(worse, r), lambda: match_ratios(worse, r),
        lambda: matrix_ratios(worse, p, y), lambda: matrix_ratios(p, worse, y), lambda: estimate_ratios(worse, p, y),
        lambda: expected_f1_thresholds(worse),
    ]
    for call in calls:
        with pytest.raises(DecisionError, match=r"\[5, 1\]|probs"):
            call()


def test_a_class_of_one_kind_has_no_ratio_to_estimate():
    p = pd.DataFrame(samples(4)[0], columns=["a", "b", "c"])
    y = both_kinds(samples(4)[1])
    for value in (False, True):
        y[:, 1] = value
        for method in ("em", "soft", "hard"):
            with pytest.raises(DecisionError, match="'b'"):
                estimate_ratios(p, p, pd.DataFrame(y, columns=p.columns), method)
        with pytest.raises(DecisionError, match="'b'"):
            adjust(p, y.mean(0), [.1, .1, .1])


@pytest.mark.parametrize("method", METHODS)
def test_no_fold_sees_its_own_labels(method):
    p, y = samples(7)
    folds, other = np.arange(80) % 4, y.copy()
    other[folds == 1] ^= True
    first, second = cross_fit(p, y, folds, method), cross_fit(p, other, folds, method)
    assert np.array_equal(first[folds == 1], second[folds == 1]) and not np.allclose(first[folds != 1], second[folds != 1])


def test_few_positives_take_the_pooled_curve():
    rng = np.random.default_rng(8)
    y = rng.random((2000, 3)) < [.3, .3, .005]
    p = 1 / (1 + np.exp(-(2 * rng.normal(size=y.shape) + 4 * (y - .5) + [-1., 1., -5.])))
    c, pooled = fit_calibration(p, y, names=["low", "high", "few"]), fit_calibration(p, y, least=10**6)
    assert c.pooled == ["few"] and c.coefs["few"] == pooled.coefs["0"]
    assert c.coefs["low"][2] > pooled.coefs["0"][2] > c.coefs["high"][2]
    assert np.abs(c.apply(p).mean(0) - y.mean(0))[:2].max() < .02


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_expected_thresholds_are_the_best_of_all_cuts(seed):
    p, _ = samples(seed)
    def f1(o, t):
        return 2 * o[o > t].sum() / max((o > t).sum() + o.sum(), 1e-9)
    for o, t in zip(p.T, expected_f1_thresholds(p)):
        assert np.isclose(f1(o, t), max(f1(o, u) for u in np.r_[-1, np.unique(o)]))


def test_broken_curves_are_refused():
    good = fit_calibration(*samples(5)).model_dump()
    coefs = {}, {"0": [1., 1.]}, {"0": [1., float("nan"), 0.]}
    for change in (dict(method="magic"), *(dict(coefs=o) for o in coefs), dict(more=1), dict(knots={"0": [[0., 0.]]})):
        with pytest.raises(ValidationError):
            Calibration(**(good | change))


def test_a_table_keeps_its_rows_and_columns():
    p, y = samples(6)
    table = pd.DataFrame(p, columns=["x", "y", "z"], index=[f"s{i}" for i in range(80)])
    c = fit_calibration(table, pd.DataFrame(y, table.index, table.columns))
    out = c.apply(table[["z", "x", "y"]].iloc[::-1])
    assert list(out) == ["z", "x", "y"] and list(out.index) == list(table.index[::-1])
    assert np.array_equal(out.loc[table.index, ["x", "y", "z"]], c.apply(p))
    for wrong in (table[["x", "y"]], table.assign(fold=0.), table.rename(columns={"x": "w"})):
        with pytest.raises(DecisionError, match="exactly those"):
            c.apply(wrong)


def named(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Probabilities, and targets whose rows and columns stand in another order"
    p, y = samples(seed)
    table, hot = (pd.DataFrame(o, [f"s{i}" for i in range(80)], ["x", "y", "z"]) for o in (p, both_kinds(y)))
    return table, hot.sample(frac=1, random_state=seed)[["z", "x", "y"]]


@pytest.mark.parametrize("seed", range(5))
def test_tables_are_matched_by_name(seed):
    table, hot = named(seed)
    p, y = table.to_numpy(), hot.loc[table.index, table.columns].to_numpy()
    folds = np.arange(80) % 3
    by_id = pd.Series(folds, table.index).sample(frac=1, random_state=seed)
    for measure in (ece, ece_per_class, brier):
        assert np.array_equal(measure(table, hot), measure(p, y))
    assert reliability(table.x, hot.x).equals(reliability(p[:, 0], y[:, 0]))
    assert fit_calibration(table, hot) == fit_calibration(p, y, names=["x", "y", "z"])
    assert np.array_equal(cross_fit(table, hot, by_id), cross_fit(p, y, folds)) and cross_fit(table, hot, by_id).index.equals(table.index)
    z = np.log((p + .1) / (1.1 - p))
    one, other = shared_slope(pd.DataFrame(z, table.index, table.columns), hot, 1.), shared_slope(z, y, 1.)
    assert one[0] == other[0] and np.array_equal(one[1], other[1])


def test_ratios_are_matched_by_name():
    table, hot = named(1)
    table = (table + 2 * hot) / 3                                            # positives get more, so that a mean tells something
    p, y = table.to_numpy(), hot.loc[table.index, table.columns].to_numpy()
    old, new = pd.Series(dict(z=.1, x=.3, y=.6)), dict(y=.2, z=.4, x=.5)
    plain, to = [.3, .6, .1], [.5, .2, .4]
    assert np.array_equal(adjust(table, old, new), adjust(p, plain, to))
    assert np.array_equal(em_ratios(table, old), em_ratios(p, plain))
    assert np.array_equal(match_ratios(table, pd.Series(new)), match_ratios(p, to))
    assert em_table(table, old, n=5).equals(em_table(table, dict(old), n=5))
    for call in (adjust, em_ratios, em_table, match_ratios):
        given = (plain, plain) if call is adjust else (plain,)
        with pytest.raises(DecisionError, match="without names for the classes 'x', 'y', 'z'"): call(table, *given)
    other = table[["y", "z", "x"]].iloc[::-1].reset_index(drop=True)          # other samples, classes in another order
    t = pd.Series(dict(z=.4, y=.5, x=.6))
    assert np.allclose(matrix_ratios(other, table, hot, t), matrix_ratios(p[::-1][:, [1, 2, 0]], p[:, [1, 2, 0]], y[:, [1, 2, 0]], [.5, .4, .6]))
    for method in ("em", "soft", "hard"):
        mine, theirs = estimate_ratios(other, table, hot, method, n=5), estimate_ratios(table, table, hot, method, n=5)
        assert list(mine.index) == ["y", "z", "x"] and np.allclose(mine.ratio[theirs.index], theirs.ratio)
    for bad in (old[:2], old.rename(dict(x="w")), pd.concat([old, old]), old.where(old > .1)):
        for call in (lambda: adjust(table, bad, new), lambda: em_ratios(table, bad), lambda: em_table(table, bad), lambda: match_ratios(table, bad)):
            with pytest.raises(DecisionError):
                call()
    with pytest.raises(DecisionError, match="lacks class 0"):
        adjust(p, old, to)


def test_what_cannot_be_matched_is_refused():
    table, hot = named(2)
    p, y = table.to_numpy(), hot.loc[table.index, table.columns].to_numpy()
    f = np.arange(80) % 2
    folds = pd.Series(f, table.index)
    pairs = [ece, ece_per_class, brier, fit_calibration, lambda a, b: cross_fit(a, b, folds if isinstance(a, pd.DataFrame) else f),
             lambda a, b: shared_slope(a - .5, b, 1.), lambda a, b: matrix_ratios(a, a, b), lambda a, b: estimate_ratios(a, a, b)]
    for what in pairs:
        for a, b in ((table, y), (p, hot), (table, hot[1:]), (table, hot[["x", "y"]]), (table, hot.iloc[[0, *range(79)]]), (p, y[1:])):
            with pytest.raises(DecisionError):
                what(a, b)
    for a, b in ((table.x, y[:, 0]), (p[:, 0], hot.x), (table.x, hot.x[1:]), (p[:, 0], y[1:, 0])):
        with pytest.raises(DecisionError):
            reliability(a, b)
    for bad in (f, folds[1:], folds.where(folds > 0), pd.concat([folds, folds[:1]])):
        with pytest.raises(DecisionError):
            cross_fit(table, hot, bad)
    for a, b in ((p, table), (table, p), (table[["x", "y"]], table), (table, table[["x", "y"]])):
        with pytest.raises(DecisionError):
            matrix_ratios(a, b, hot if isinstance(b, pd.DataFrame) else y)
    for setting in (dict(least=np.nan), dict(shrink=np.nan), dict(shrink=np.inf), dict(spread=np.nan)):
        with pytest.raises(DecisionError):
            fit_calibration(p, y, **setting)


@pytest.fixture(scope="module")
def networks(real):
    if not (real / "test_probs").is_dir():
        pytest.skip("no probabilities of real networks")
    ids = pd.read_csv(real / "tables" / "kaggle_sample_submission.csv.gz").Id
    dev = pd.read_csv(real / "test_probs" / "labels_dev.csv", dtype=str)
    rows = pd.Index(ids).get_indexer(dev.Id)
    vocab = get_vocab(HPA28)
    y = np.asarray(vocab.multi_hot([vocab.parse(t) for t in dev.Target])).astype(bool)
    return {f.stem: np.load(f)[rows].astype(float) for f in sorted((real / "test_probs").glob("*.npy"))}, y


def test_real_networks_become_more_honest(networks):
    models, y = networks
    assert len(models) == 6
    folds = np.random.default_rng(0).permutation(len(y)) % 5
    for name, p in models.items():
        q = cross_fit(p, y, folds)
        assert ece(q, y) < ece(p, y), name
        assert mean_ap(y, q) > mean_ap(y, p) - .002, name
        assert all(mean_ap(y[folds == k], q[folds == k]) == mean_ap(y[folds == k], p[folds == k]) for k in range(5)), name


def test_ratios_of_real_outputs_are_found(networks, monkeypatch):
    "Twelve draws: the error of the ratios is at most half of that of the old ones, and F1 does not fall"
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from calibrate import shift_table
    models, y = networks
    table = shift_table({k: models[k] for k in ("inceptionv3_800_score", "xception_512_score")}, y, 15, [10, 30], 12, "offset")
    assert (table.em_part <= .5).all() and (table.f1_expected_em > table.f1_exact).all()
    mean = table[table.model == "mean"]
    assert (mean.f1_expected_em > mean.f1_default - .01).all()


def test_offsets_are_one_slope_and_what_few_labels_insist_on():
    rng = np.random.default_rng(9)
    y = rng.random((400, 3)) < [.4, .4, .01]
    z = 2 * rng.normal(size=y.shape) + 4 * (y - .5) + np.log([.4 / .6, .4 / .6, .01 / .99])
    p = 1 / (1 + np.exp(-2 * (z + [0., 1., 0.])))                  # twice too sure, the second class also too high
    c = fit_calibration(p, y, "offset", names=["right", "high", "few"])
    assert len({o[0] for o in c.coefs.values()}) == 1 and abs(c.coefs["few"][0] - .5) < .1 and not c.pooled
    assert c.coefs["right"][2] - c.coefs["high"][2] > .5
    free, held = (fit_calibration(p, y, "offset", spread=o) for o in (100., .01))
    assert np.allclose(free.apply(p).mean(0), y.mean(0), atol=1e-3)   # with offsets of their own, what is promised is what is there
    assert np.ptp([o[2] for o in held.coefs.values()]) < .01          # held, there is one offset
    none = fit_calibration(p, y & [True, True, False], "offset")      # a class without positives: a finite curve that rises
    assert np.isfinite(none.coefs["2"]).all() and none.apply(p)[:, 2].mean() < c.apply(p)[:, 2].mean()


def test_the_benchmark_runs(networks, real):
    small = ["--repeats", "1", "--draws", "2", "--concentration", "10"]
    command = [sys.executable, ROOT / "benchmarks" / "calibrate.py", "--data", real, *small]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.count("platt (default)") == 7 and "gain_over_default" in out
