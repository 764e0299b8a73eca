"Intervals of macro F1 and of differences: they hold their score, name what they know little of, and cover the truth."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from hpa_lib.core import DecisionError
from hpa_lib.data.scores import counts_f1, macro_f1
from hpa_lib.decide.blend import paired_f1
from hpa_lib.decide.thresholds import bootstrap_f1, class_support, draw_f1, f1_interval, group_counts


@st.composite
def decided(draw):
    "Targets with a positive, two decisions, groups"
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    y, a, b = (rng.random(shape) < draw(st.sampled_from([.05, .3, .7, 1.])) for _ in range(3))
    y[0, 0] = True
    if draw(st.booleans()):
        a = y.copy()                                                  # nothing is wrong
    return y, a, b, rng.integers(draw(st.integers(1, 12)), size=len(y))


@settings(max_examples=200, deadline=None)
@given(decided(), st.sampled_from([.5, .95, .999]), st.booleans())
def test_interval_holds_its_score(case, level, like_kaggle):
    y, a, b, groups = case
    spread = bootstrap_f1(y, a, groups, n=7, level=level, like_kaggle=like_kaggle)
    assert spread["score"] == macro_f1(y, a, like_kaggle)
    assert 0 <= spread["low"] <= spread["score"] <= spread["high"] <= 1 and spread["std"] > 0
    pair = paired_f1(y, a, b, groups, n=7, level=level)
    assert pair["difference"] == macro_f1(y, a) - macro_f1(y, b)
    assert -1 <= pair["low"] <= pair["difference"] <= pair["high"] <= 1
    assert pair["low"] < pair["high"] or (a == b).all()
    same = paired_f1(y, a, a, groups, n=7, level=level)
    assert same["low"] == same["high"] == same["std"] == 0
    held = [len(set(groups[y[:, j]])) for j in range(y.shape[1])]
    assert spread["absent"] == pair["absent"] == [j for j, m in enumerate(held) if not m]
    assert spread["few_groups"] == pair["few_groups"] == [j for j, m in enumerate(held) if 0 < m < 5]


def test_twenty_classes_that_nobody_finds():
    "The score was .048 and the interval .056 to .100, since a class that a draw has not met left its mean"
    y = np.zeros((200, 21), bool)
    y[np.arange(20), np.arange(20)] = y[20:, 20] = True
    names = [f"class {j}" for j in range(21)] + ["never"]
    targs = pd.DataFrame(np.c_[y, np.zeros(200, bool)], columns=names).rename(index="s{}".format)
    hard = targs & [o == "class 20" for o in names]
    spread = bootstrap_f1(targs, hard)
    assert spread["score"] == pytest.approx(1 / 21)
    assert spread["low"] < spread["score"] and .25 < spread["high"] < .35   # all that is missed may have been found in 1 of 6
    assert spread["absent"] == ["never"] and spread["few_groups"] == names[:20]


def by_hand(y, h, groups, n, seed, level):
    "The definition, one draw and one class at a time"
    groups = np.asarray(groups)
    kinds = list(dict.fromkeys(groups.tolist()))
    classes = [j for j in range(y.shape[1]) if y[:, j].any()]
    weights = np.random.default_rng(seed).standard_exponential((n, len(kinds)), dtype="float32").astype(float)

    def f1(weight, j):
        w = np.array([weight[kinds.index(g)] for g in groups])
        return 2 * w[y[:, j] & h[:, j]].sum() / (w[y[:, j]].sum() + w[h[:, j]].sum())

    whole = np.array([f1(np.ones(len(kinds)), j) for j in classes])
    moved = np.array([[f1(w, j) for j in classes] for w in weights]) - whole
    held = np.array([[(y[groups == g, j]).sum() for g in kinds] for j in classes])
    size = np.array([o.sum() ** 2 / (o**2).sum() for o in held])
    single = [moved[:, i].var() * (m + 1) for i, m in enumerate(size)]      # variance of one group, of each class
    believed = [(m - 1) / (m + 1) for m in size]
    pooled = (sum(b * s for b, s in zip(believed, single)) + 1 / 4) / (sum(believed) + 1)
    each = [b * s / m + (1 - b) * pooled / m for b, s, m in zip(believed, single, size)]
    together = sum(moved[:, i] * ((m - 1) / m) ** .5 for i, m in enumerate(size))
    lent = sum((1 - b) * pooled / m for b, m in zip(believed, size))
    std = (together.var() + lent) ** .5 / len(classes)
    freedom = sum(each) ** 2 / sum(v**2 / (m + 1) for v, m in zip(each, size))
    middle = whole.mean() - np.mean([b * moved[:, i].mean() for i, b in enumerate(believed)])
    # All proportions that are no further than t of their own standard deviations
    reach = student.ppf((1 + level) / 2, freedom)
    p = np.linspace(0, 1, 200001)
    n_like = max(middle * (1 - middle), std) / std**2
    inside = p[(p - middle) ** 2 <= reach**2 * p * (1 - p) / n_like]
    return dict(score=whole.mean(), low=inside[0], high=inside[-1], std=std)


@pytest.mark.parametrize("seed", range(4))
def test_definition(seed):
    rng = np.random.default_rng(seed)
    y, h = rng.random((2, 60, 5)) < [.03, .1, .3, .5, 0]
    h |= y & (rng.random(y.shape) < .5)
    y[0, 0] = True
    groups = rng.integers(25, size=60)
    spread, right = bootstrap_f1(y, h, groups, n=40, seed=seed, level=.9), by_hand(y, h, groups, 40, seed, .9)
    assert {k: spread[k] for k in right} == pytest.approx(right, abs=1e-5)
    assert spread["absent"] == [4]


def test_weights_of_many_groups_are_drawn_in_parts():
    "Parts of a few megabytes are those of one piece"
    rng = np.random.default_rng(0)
    y, h = rng.random((2, 30000, 2)) < .2
    counts = group_counts(y, h)
    weights = np.random.default_rng(3).standard_exponential((150, 30000), dtype="float32")
    whole = counts_f1((weights.astype(float) @ counts.reshape(30000, -1)).reshape(150, 3, -1))
    assert np.allclose(draw_f1(counts, 150, seed=3), whole, atol=1e-5)


def percentiles(counts, rng, n):
    "The interval that was: groups drawn with replacement, absent classes leave the mean"
    draws = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=n)
    f1 = counts_f1((draws @ counts.reshape(len(counts), -1)).reshape(n, 3, -1))
    return np.nanquantile(np.nanmean(f1, axis=1), [.025, .975])


def test_coverage():
    "Antibodies of four pictures, half of the classes rare: nominal 95 % holds for scores and differences, percentiles do not"
    share, recall = np.repeat([.01, .1], 6), np.array([.2, .35])
    wrong = recall[:, None] * share / (1 - share) / 2
    f1 = 2 * recall / (1 + 1.5 * recall)                              # of every class: one false for two found
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = np.repeat(rng.random((80, 12)) < share, 4, axis=0)
        u = rng.random((80, 12)).repeat(4, axis=0)                    # half of the pictures go with their antibody
        u = np.where(rng.random(y.shape) < .5, u, rng.random(y.shape))
        a, b = (u < np.where(y, r, w) for r, w in zip(recall, wrong))
        groups = np.repeat(np.arange(80), 4)
        score, pair = bootstrap_f1(y, a, groups, n=100, seed=seed), paired_f1(y, a, b, groups, n=100, seed=seed)
        low, high = percentiles(group_counts(y, a, groups), rng, 100)
        held.append([score["low"] <= f1[0] <= score["high"], pair["low"] <= f1[0] - f1[1] <= pair["high"], low <= f1[0] <= high])
    of_score, of_pair, old = np.mean(held, axis=0)
    assert of_score >= .92 and of_pair >= .92                         # the Monte Carlo error is .013
    assert old < .9


def test_repeats_are_the_mean_of_their_scores():
    rng = np.random.default_rng(0)
    y = rng.random((50, 3)) < .3
    a, b = rng.random((2, 2, 50, 3)) < .4
    both = paired_f1(y, list(a), list(b), n=400)
    each = [paired_f1(y, o, p, n=400) for o, p in zip(a, b)]
    assert both["difference"] == pytest.approx(np.mean([o["difference"] for o in each]))
    assert both["std"] < max(o["std"] for o in each)
    thrice = paired_f1(y, [a[0]] * 3, [b[0]] * 3, n=400)
    assert [thrice[o] for o in ("difference", "low", "high", "std")] == pytest.approx([each[0][o] for o in ("difference", "low", "high", "std")])


def test_what_has_no_interval():
    y = np.eye(3, dtype=bool)
    for how in (dict(n=1), dict(n=2.5), dict(n=np.nan), dict(level=0), dict(level=1), dict(level=np.nan)):
        for run in (lambda: bootstrap_f1(y, y, **how), lambda: paired_f1(y, y, y, **how)):
            with pytest.raises(DecisionError, match="at least two draws"):
                run()
    with pytest.raises(DecisionError, match="has nothing to average"):
        paired_f1(y & False, y, y)
    counts = group_counts(y, y)
    assert class_support("abc", counts, least=1) == dict(absent=[], few_groups=[])
    low = f1_interval(1., np.ones(3), draw_f1(counts), counts)["low"]
    assert low < f1_interval(1., np.ones(3), draw_f1(counts), counts, level=.5)["low"]
