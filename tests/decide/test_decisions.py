"Property tests of thresholds, scores, decisions and folds: random cases, ties and extremes included."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hpa_lib.core import DataError, DecisionError
from hpa_lib.data.folds import check_folds, fold_balance, grouped_folds, leak_report
from hpa_lib.data.labels import HPA28, Vocab
from hpa_lib.data.scores import class_counts, counts_f1, macro_f1
from hpa_lib.decide.blend import average_twins, read_known
from hpa_lib.decide.decision import Decision, fit_decision, load_decision, shift_decision
from hpa_lib.decide.prior_shift import adjust, em_ratios
from hpa_lib.decide.threshold_rules import expected_f1_thresholds
from hpa_lib.decide.thresholds import (
    NestedScore, apply_thresholds, best_threshold, bootstrap_f1, cap_labels, class_cuts, explore_thresholds, fit_thresholds, group_counts,
    nested_score, plot_thresholds, score_ways, threshold_curve, threshold_facts,
)

COARSE = st.sampled_from([0., 1e-300, .1, .25, .5, np.nextafter(.5, 1), .75, 1.])
FINE = st.floats(0, 1, width=32)


@st.composite
def one_class(draw, score=COARSE):
    "Scores and targets of one class, 1 to 16 samples"
    n = draw(st.integers(1, 16))
    return draw(hnp.arrays(float, n, elements=score)), draw(hnp.arrays(bool, n))


@st.composite
def many_classes(draw, rows=st.integers(2, 12), cols=st.integers(1, 5), score=COARSE):
    "Probabilities and targets, N x C"
    shape = draw(rows), draw(cols)
    return draw(hnp.arrays(float, shape, elements=score)), draw(hnp.arrays(bool, shape))


def brute(p, y):
    "Highest F1 over all cuts, and the fewest positives that reach it"
    cuts = [(2 * (y & (p > t)).sum() / max((p > t).sum() + y.sum(), 1), -(p > t).sum()) for t in [-1., *np.unique(p)]]
    f1, k = max(cuts)
    return f1, -k


@settings(max_examples=2000, deadline=None)
@given(one_class())
def test_exact(case):
    p, y = case
    t, f1 = best_threshold(p, y)
    assert (f1, (p > t).sum()) == brute(p, y)
    assert -1 <= t <= 1


@settings(max_examples=300, deadline=None)
@given(one_class(score=FINE))
def test_exact_float32(case):
    p, y = case[0].astype("float32"), case[1]
    t, f1 = best_threshold(p, y)
    hard = apply_thresholds(p[:, None], t, fallback=None)[:, 0]
    assert (f1, hard.sum()) == brute(p, y)
    if y.any():
        assert macro_f1(y[:, None], hard[:, None]) == f1


@settings(max_examples=300, deadline=None)
@given(many_classes(), st.randoms(use_true_random=False))
def test_permutations(case, random):
    p, y = case
    rows, cols = list(range(len(p))), list(range(p.shape[1]))
    random.shuffle(rows)
    random.shuffle(cols)
    t = fit_thresholds(p, y)
    assert (fit_thresholds(p[rows], y[rows]) == t).all()
    assert (fit_thresholds(p[:, cols], y[:, cols]) == t[cols]).all()
    assert (fit_thresholds(np.tile(p, (3, 1)), np.tile(y, (3, 1))) == t).all()
    hard = apply_thresholds(p, t)
    assert (apply_thresholds(p[rows], t) == hard[rows]).all()
    assert (apply_thresholds(p[:, cols], t[cols], fallback=None) == apply_thresholds(p, t, fallback=None)[:, cols]).all()


@settings(max_examples=200, deadline=None)
@given(many_classes(), st.integers(1, 3))
def test_rows_are_filled_and_capped(case, cap):
    p, y = case
    free, capped = apply_thresholds(p, fit_thresholds(p, y)), apply_thresholds(p, fit_thresholds(p, y), cap=cap)
    assert free.any(1).all()
    assert (capped <= free).all()
    assert (capped.sum(1) == np.minimum(free.sum(1), cap)).all()


@settings(max_examples=200, deadline=None)
@given(many_classes(), st.integers(2, 4))
def test_nested(case, n):
    p, y = case
    folds = np.arange(len(p)) % n
    if not y.any():
        with pytest.raises(DecisionError, match="nothing to average"):
            nested_score(p, y, folds)
        return
    score = nested_score(p, y, folds, fallback=None)
    assert score.at_half <= score.in_sample + 1e-12          # in-sample thresholds are the best single ones
    assert score.unscored == np.flatnonzero(~y.any(0)).tolist()
    for k in np.unique(folds):                              # each fold's decisions do not depend on its own targets
        other = y.copy()
        other[folds == k] = ~other[folds == k]
        if other.any():
            assert (nested_score(p, other, folds, fallback=None).hard[folds == k] == score.hard[folds == k]).all()


@settings(max_examples=100, deadline=None)
@given(many_classes(), st.data())
def test_bootstrap_is_sums_of_groups(case, data):
    y, h = case[1], case[0] > .3
    if not y.any():
        return
    groups = data.draw(st.lists(st.sampled_from("abc"), min_size=len(y), max_size=len(y)))
    spread = bootstrap_f1(y, h, groups, n=5)
    assert spread == bootstrap_f1(y, h, groups, n=5)
    assert 0 <= spread["low"] <= spread["score"] <= spread["high"] <= 1
    parts = sum(class_counts(y[np.array(groups) == g], h[np.array(groups) == g]) for g in set(groups))
    assert np.array_equal(counts_f1(parts), counts_f1(class_counts(y, h)), equal_nan=True)


def by_name(case):
    "A case as tables, ids and classes no counting would guess"
    p, y = case
    ids, names = pd.Index([f"s{7 * i % 97}" for i in range(len(p))]), [f"class {chr(122 - j)}" for j in range(p.shape[1])]
    return pd.DataFrame(p, ids, names), pd.DataFrame(y, ids, names)


def mixed(table, seed):
    "The same table, rows and columns in another order; an `id` column in place of the index, and a fold that is no class"
    rng = np.random.default_rng(seed)
    table = table.iloc[rng.permutation(len(table)), rng.permutation(table.shape[1])]
    return table.rename_axis("id").reset_index().assign(fold=9) if seed % 2 else table


@settings(max_examples=150, deadline=None)
@given(many_classes(rows=st.integers(4, 12)), st.integers(0, 99))
def test_what_has_names_is_matched_by_them(case, seed):
    "Whatever the order of targets, decisions, folds, groups and thresholds, the answer is the one of arrays in one order"
    case[1][0, 0] = True
    (p, y), (probs, targs) = case, by_name(case)
    folds, groups = np.arange(len(p)) % 3, np.arange(len(p)) // 2
    by_id = {k: pd.Series(o, probs.index).sample(frac=1, random_state=seed) for k, o in dict(folds=folds, groups=groups).items()}
    t = fit_thresholds(p, y)
    named = pd.Series(t, probs.columns).sample(frac=1, random_state=seed)
    hard = pd.DataFrame(p > .3, probs.index, probs.columns)
    found, decided = fit_thresholds(probs, mixed(targs, seed)), apply_thresholds(probs, named)
    assert found.to_dict() == dict(zip(probs, t))
    assert decided.equals(pd.DataFrame(apply_thresholds(p, t), probs.index, probs.columns))
    for what in (lambda: apply_thresholds(probs, t), lambda: cap_labels(probs, t, hard, 1)):        # whose would they be?
        with pytest.raises(DecisionError, match="without names for the classes"):
            what()
    assert np.array_equal(apply_thresholds(probs, dict(named), cap=1), apply_thresholds(p, t, cap=1))
    assert np.array_equal(cap_labels(probs, named, mixed(hard, seed), 1), cap_labels(p, t, p > .3, 1))
    assert np.array_equal(group_counts(targs, mixed(hard, seed), by_id["groups"]), group_counts(y, p > .3, groups))
    spread, other = bootstrap_f1(targs, mixed(hard, seed), by_id["groups"], n=5), bootstrap_f1(y, p > .3, groups, n=5)
    named = {k: [targs.columns[j] for j in other[k]] for k in ("absent", "few_groups")}
    assert spread == other | named
    one, other = nested_score(probs, mixed(targs, seed), by_id["folds"]), nested_score(p, y, folds, names=probs.columns)
    assert repr(one) == repr(other) and (one.hard == other.hard).all()
    pd.testing.assert_frame_equal(one.thresholds, other.thresholds)
    pd.testing.assert_frame_equal(one.per_class, other.per_class)
    turned = one.thresholds.sample(frac=1, random_state=seed)
    ways = [mixed(pd.DataFrame(o, probs.index, probs.columns), seed) for o in (one.hard, p > .5, p > .5)]
    again = score_ways(targs, list(probs.columns), turned, *ways)
    assert again.nested == one.nested and again.thresholds.equals(one.thresholds) and (again.hard == one.hard).all()
    for j, name in enumerate(probs):
        y_of = mixed(targs[[name]], 2 * seed)[name]
        assert best_threshold(probs[name], y_of) == best_threshold(p[:, j], y[:, j])
        assert threshold_facts(probs[name], y_of, .3) == threshold_facts(p[:, j], y[:, j], .3)
        assert all(map(np.array_equal, class_cuts(probs[name], y_of), class_cuts(p[:, j], y[:, j])))


def test_what_cannot_be_matched_is_refused():
    p, y = np.random.default_rng(0).random((6, 2)), np.eye(6, 2)
    (probs, targs), f = by_name((p, y)), np.arange(6) % 2
    folds, t = pd.Series(f, probs.index), pd.Series(.5, probs.columns)
    pairs = {o.__name__: o for o in (fit_thresholds, plot_thresholds, explore_thresholds)}
    pairs |= dict(nested=lambda p, y: nested_score(p, y, folds if isinstance(p, pd.DataFrame) else f), bootstrap=bootstrap_f1, groups=group_counts,
                  cap=lambda p, y: cap_labels(p, .5, y, 1))
    wrong = [(probs, y, "names its"), (p, targs, "names its"), (probs, targs.iloc[:5], "lacks id"), (probs, targs.iloc[:, :1], "lacks class"),
             (probs, targs.rename(columns={"class z": "other"}), "lacks class"), (probs, targs.iloc[[0, 0, 1, 2, 3, 4]], "more than once"),
             (p, y[:5], "6 rows"), (p[:5], y, "5 rows")]
    for name, what in pairs.items():
        for a, b, why in wrong:
            with pytest.raises(DecisionError, match=why):
                what(a if name not in ("bootstrap", "groups") else (a > .5), b)
    singles = [best_threshold, threshold_curve, threshold_facts, class_cuts]
    for what in singles:
        for a, b in ((probs["class z"], y[:, 0]), (p[:, 0], targs["class z"]), (p[:, 0], y[:5, 0]), (probs["class z"], targs["class z"][1:])):
            with pytest.raises(DecisionError):
                what(a, b)
    for bad in (f, folds[1:], folds.rename({"s0": "other"}), pd.concat([folds, folds[:1]])):
        with pytest.raises(DecisionError):
            nested_score(probs, targs, bad)
        with pytest.raises(DecisionError):
            bootstrap_f1(targs, targs, bad)
    for bad in (t[:1], pd.concat([t, t]), t.rename({"class z": "other"}), t.where(t.index == "class z"), np.nan, [.5], [.5] * 3):
        with pytest.raises(DecisionError):
            apply_thresholds(probs, bad)
    with pytest.raises(DecisionError, match="lacks class 0"):
        apply_thresholds(p, t)
    with pytest.raises(DecisionError, match="names 'class y', 'class z' for a table"):
        nested_score(probs, targs, folds, names=["class y", "class z"])


@pytest.mark.parametrize("bad", [np.nan, -.1, 1.1, np.inf])
def test_no_probability(bad):
    p, y = np.full((4, 2), .5), np.eye(4, 2)
    p[2, 1] = bad
    for what in (lambda: fit_thresholds(p, y), lambda: apply_thresholds(p, .5), lambda: best_threshold(p[:, 1], y[:, 1]),
                 lambda: nested_score(p, y, [0, 1, 0, 1]), lambda: class_cuts(p[:, 1], y[:, 1]), lambda: threshold_facts(p[:, 1], y[:, 1])):
        with pytest.raises(DecisionError, match="no probability"):
            what()


def test_ids_missing_or_twice():
    table = pd.DataFrame({"id": list("abcd"), "fold": [0, 1, 0, 1], "Nucleoli": [.9, .8, .2, .1], "Cytosol": [.1, .2, .8, .9]})
    samples = pd.DataFrame({"id": list("abcd"), "labels": [["Nucleoli"], ["Nucleoli"], ["Cytosol"], ["Cytosol"]], "group": list("abcd")})
    decision, score = fit_decision(table, samples, draws=5)
    assert score.nested == 1 and decision.decide(table).tolist() == samples.labels.tolist()
    with pytest.raises(DecisionError, match="id 'd' has no labels"):
        fit_decision(table, samples[:3])
    with pytest.raises(DecisionError, match="'a' stands more than once"):
        decision.decide(pd.concat([table, table[:1]]))
    with pytest.raises(ValueError, match="duplicate"):
        fit_decision(table, pd.concat([samples, samples[:1]]))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.floats(-1, 1), min_size=1, max_size=5), st.sampled_from([None, 1, 5]))
def test_decision_round_trip(tmp_path_factory, thresholds, cap):
    decision = Decision(thresholds=thresholds, cap=cap)
    back = load_decision(decision.save(tmp_path_factory.getbasetemp() / "decision.json"))
    assert back == decision and list(back.thresholds) == list(thresholds)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sets(st.sampled_from(HPA28.names[:6]))), min_size=2, max_size=60),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_folds_never_cut(groups, n, seed):
    rows = []
    for g, (size, labels) in enumerate(groups):
        rows += [(f"{g}_{i}", sorted(labels, key=HPA28.index), f"{g}") for i in range(size)]
    samples = pd.DataFrame(rows, columns=["id", "labels", "group"])
    if n > len(groups):
        with pytest.raises(DataError, match="folds of"):
            grouped_folds(samples, n=n, seed=seed)
        return
    folds = check_folds(samples, grouped_folds(samples, n=n, seed=seed))
    assert leak_report(samples, folds).leaked.sum() == 0
    assert sorted(folds.fold.unique()) == list(range(n))     # no fold is empty
    balance = fold_balance(samples, folds, Vocab(HPA28.names[:6]))
    assert (balance.worst <= 2 * balance.allowed + 1e-9).all()


@pytest.mark.parametrize("blend", [None, "mean"])
def test_a_shifted_decision(tmp_path, blend):
    "Ratios are those of `em_ratios`, probabilities those of Bayes' rule; rows and columns may come in any order"
    rng, names = np.random.default_rng(3), ["a", "b", "c"]
    def look(share, n):
        y = rng.random((n, 3)) < share
        z = 2 * rng.normal(size=y.shape) + 4 * (y - .5) + np.log([.3 / .7, .1 / .9, .02 / .98])
        return tuple(pd.DataFrame(o, pd.Index([f"s{i}" for i in range(n)], name="id"), names) for o in (1 / (1 + np.exp(-z)), y))
    table, y = look([.3, .1, .02], 2000)
    samples = pd.DataFrame(dict(id=table.index, labels=Vocab(names).decode(y.to_numpy()), group=table.index))
    new, truth = look([.1, .4, .02], 1500)
    pack = (lambda t: {"m": t, "n": t}) if blend else (lambda t: t)
    def folded(t): return t.assign(fold=np.arange(len(t)) % 4)
    decision, _ = fit_decision(pack(folded(table)), samples, draws=5, calibrate="offset", blend=blend)
    moved, ratios = shift_decision(decision, pack(new), n=50)
    p = decision.calibration.apply(new)
    assert np.allclose(list(decision.ratios.values()), decision.calibration.apply(table).mean())
    assert np.allclose(ratios.ratio, em_ratios(p, pd.Series(decision.ratios)))
    assert np.allclose(moved.probs(pack(new)), adjust(p, ratios.old, ratios.ratio))
    assert np.allclose(list(moved.thresholds.values()), expected_f1_thresholds(moved.probs(pack(new))))
    assert (abs(ratios.ratio - truth.mean(0)) < .03).all()
    assert ((ratios.low <= ratios.ratio) & (ratios.ratio <= ratios.high)).all()
    assert macro_f1(truth, moved.hard(pack(new))) > macro_f1(truth, decision.hard(pack(new)))
    assert moved.scores == {} and load_decision(moved.save(tmp_path / "d.json")) == moved
    again, _ = shift_decision(moved, pack(new[["c", "a", "b"]].iloc[::-1]), n=50)
    assert np.allclose(list(again.thresholds.values()), list(moved.thresholds.values()))
    assert list(again.thresholds) == list(moved.thresholds)
    with pytest.raises(DecisionError, match="lacks (the )?class"):
        shift_decision(decision, pack(new[["a", "b"]]))
    with pytest.raises(DecisionError, match="calibrate='offset'"):
        shift_decision(Decision(thresholds=dict(a=.5)), new[["a"]])


def is_column(name):
    return name not in ("id", "fold") and name.splitlines() == [name] and "\0" not in name


ANY = st.characters(exclude_categories=["Cs"])
NAME = st.text(ANY, min_size=1, max_size=6).filter(is_column)


@settings(max_examples=150, deadline=None)
@given(many_classes(rows=st.integers(4, 12), score=FINE), st.data())
def test_a_score_comes_back_from_disk(tmp_path_factory, case, data):
    "To the last bit, whatever classes and folds are called"
    p, y = case
    y[0, 0] = True
    names = data.draw(st.lists(NAME, min_size=p.shape[1], max_size=p.shape[1], unique=True))
    i = np.arange(len(p))
    folds = data.draw(st.sampled_from([i % 3, i.astype("int8") % 2 - 1, np.array(["b", "NA"])[i % 2]]))
    ids = data.draw(st.lists(st.text(ANY, min_size=1), min_size=len(p), max_size=len(p), unique=True))
    score = nested_score(p, y, folds, names=names, fallback=None)
    folder = tmp_path_factory.mktemp("score")
    assert score.save(folder, ids, folds) == folder
    assert sorted(o.name for o in folder.iterdir()) == ["classes.csv", "nested.parquet"]
    rows, back = NestedScore.load(folder)
    assert rows.id.tolist() == ids and rows.fold.tolist() == folds.tolist()
    for what in ("nested", "in_sample", "at_half", "unscored"):
        assert getattr(back, what) == getattr(score, what)
    assert repr(back) == repr(score)
    pd.testing.assert_frame_equal(back.per_class, score.per_class, check_exact=True)
    pd.testing.assert_frame_equal(back.thresholds, score.thresholds, check_exact=True)
    assert back.hard.dtype == bool and (back.hard == score.hard).all()


def test_a_score_of_a_decision_comes_back(tmp_path):
    table, samples = with_twins()
    _, score = fit_decision(table, samples, draws=5)
    score.save(tmp_path, table.id, table.fold)
    rows, back = NestedScore.load(tmp_path)
    pd.testing.assert_frame_equal(back.per_class, score.per_class, check_exact=True)
    assert back.thresholds.columns.tolist() == [0, 1, 2, "all"] and rows.id.tolist() == table.id.tolist()
    pd.read_parquet(tmp_path / "nested.parquet").rename(columns={"a": "b", "b": "a"}).to_parquet(tmp_path / "nested.parquet")
    with pytest.raises(DecisionError, match="hold other classes"):
        NestedScore.load(tmp_path)
    p, y = table[["a", "b"]].to_numpy(), np.eye(2)[np.arange(120) % 2]
    for name in ("id", "fold", "", "a\rb", "\r"):
        with pytest.raises(DecisionError, match="cannot be a column"):
            nested_score(p, y, table.fold, names=["a", name]).save(tmp_path, table.id, table.fold)
    (tmp_path / "classes.csv").unlink()
    with pytest.raises(FileNotFoundError):
        NestedScore.load(tmp_path)


def with_twins(n=120):
    "Samples 0 and 1, 4 and 5, ... are twins; folds hold four samples in a row"
    rng = np.random.default_rng(4)
    y = rng.random((n, 2)) < [.4, .2]
    y[1::4] = y[::4]
    table = pd.DataFrame(1 / (1 + np.exp(-(3 * y - 1.5 + rng.normal(size=y.shape)))), columns=["a", "b"])
    table.insert(0, "id", [f"s{i}" for i in range(n)])
    table.insert(1, "fold", np.arange(n) // 4 % 3)
    twin = [f"t{i // 4}" if i % 4 < 2 else None for i in range(n)]
    return table, pd.DataFrame(dict(id=table.id, labels=Vocab(["a", "b"]).decode(y), group=[f"g{i // 4}" for i in range(n)], twin=twin))


@pytest.mark.parametrize("how", [dict(), dict(calibrate="platt"), dict(blend="simplex"), dict(blend="logit", calibrate="offset", cap=1)])
def test_twins_are_averaged_right_after_the_blend(tmp_path, how):
    table, samples = with_twins()
    tables = dict(m=table, n=table.assign(a=table.a ** 2)) if "blend" in how else table
    decision, score = fit_decision(tables, samples, draws=5, average_twins=True, **how)
    p = decision.probs(tables, samples)
    assert (p.iloc[::4].to_numpy() == p.iloc[1::4].to_numpy()).all()
    assert not (p.iloc[2::4].to_numpy() == p.iloc[3::4].to_numpy()).all()
    bare = decision.blend.apply(tables) if decision.blend else table.set_index("id")[["a", "b"]]
    by_hand = average_twins(bare, samples)[0]
    assert np.allclose(p, decision.calibration.apply(by_hand) if decision.calibration else by_hand, atol=0, rtol=1e-12)
    if "blend" not in how:                                   # thresholds and calibration are fitted on the averaged ones
        before, _ = fit_decision(by_hand.assign(fold=table.fold.to_numpy()), samples, draws=5, **how)
        assert (before.thresholds, before.calibration, before.scores) == (decision.thresholds, decision.calibration, decision.scores)
    assert decision.fitted_on["twin_groups"] == 30 and load_decision(decision.save(tmp_path / "d.json")) == decision
    # each fold's decisions do not depend on its own labels
    other = [[o for o in "ab" if o not in labels] for labels in samples.labels]
    turned = samples.assign(labels=[b if f == 1 else a for a, b, f in zip(samples.labels, other, table.fold)])
    again = fit_decision(tables, turned, draws=5, average_twins=True, **how)[1]
    assert (again.hard[table.fold == 1] == score.hard[table.fold == 1]).all()
    # twins outside the table do not count
    more = pd.concat([samples, pd.DataFrame(dict(id=["z"], labels=[None], group=["z"], twin=["t0"]))], ignore_index=True)
    assert (decision.probs(tables, more) == p).all(axis=None)


def test_twins_that_nobody_named_or_folds_cut():
    table, samples = with_twins()
    decision, _ = fit_decision(table, samples, draws=5, calibrate="offset", average_twins=True)
    for ask in (decision.probs, decision.hard, decision.decide, lambda t: shift_decision(decision, t, n=5)):
        with pytest.raises(DecisionError, match="nothing says who they are: give twins="):
            ask(table)
    assert shift_decision(decision, table, n=5, twins=samples)[0].average_twins
    with pytest.raises(DecisionError, match="the folds cut twin group 't0', 't1', 't10', 't11', 't12' and 25 more"):
        fit_decision(table.assign(fold=np.arange(120) % 3), samples, average_twins=True)
    with pytest.raises(DecisionError, match="no column `twin`"):
        fit_decision(table, samples.drop(columns="twin"), average_twins=True)


def test_decisions_of_older_versions(tmp_path):
    "What was called leaks is read as known, and written so"
    (tmp_path / "old.json").write_text('{"thresholds": {"a": 0.5}, "leaks": {"x": ["a"], "z": []}}')
    decision = load_decision(tmp_path / "old.json")
    assert decision.known == {"x": ["a"], "z": []} and not decision.average_twins
    assert "leaks" not in decision.save(tmp_path / "new.json").read_text() and load_decision(tmp_path / "new.json") == decision
    assert decision.decide(pd.DataFrame(dict(id=["x", "y"], a=[.1, .2]))).to_dict() == dict(x=["a"], y=["a"])
    (tmp_path / "both.json").write_text('{"thresholds": {"a": 0.5}, "leaks": {}, "known": {}}')
    with pytest.raises(DecisionError, match="both.json.*older name of known"):
        load_decision(tmp_path / "both.json")


@pytest.mark.parametrize("header", ["Id,Target", "id,labels", "Id,Predicted"])
def test_known_labels_overrule_a_decision(tmp_path, header):
    path = tmp_path / "known.csv"
    path.write_text(f"{header}\nNA,b\nx,a|b\n")
    known = read_known(path, ["a", "b"])
    assert known == {"NA": ["b"], "x": ["a", "b"]}
    decision = Decision(thresholds=dict(a=.5, b=.5), known=known)
    assert decision.decide(pd.DataFrame(dict(id=["x", "y"], a=[.9, .9], b=[.1, .1]))).to_dict() == dict(x=["a", "b"], y=["a"])
    for text, said in {f"{header}\nx,a\nx,b\n": "id 'x' stands more than once", f"{header}\nx,c\n": "sample 'x': unknown label 'c'", f"{header}\n": "holds no samples",
                       f"{header}\nx,\n": "id 'x' has no labels", "Image,Label\nx,a\n": "has the columns 'Image', 'Label'", "Id,Target,Predicted\nx,a,b\n": "has the columns"}.items():
        path.write_text(text)
        with pytest.raises(DecisionError, match=f"known.csv.*{said}"):
            read_known(path, ["a", "b"])


def test_broken_rows_of_a_real_model_are_set_aside(real):
    "inception_rgb224 is sure of ten classes and more on 168 of 3,923 pictures: set aside, they cost little; a sound model loses none"
    rows = pd.read_csv(real / "val_probs" / "rows.csv.gz", dtype=str)
    outputs = np.load(real / "val_probs" / "val_probs.npz")
    samples = pd.DataFrame(dict(id=rows.Id, labels=rows.Target.map(HPA28.parse)))
    fold = np.random.default_rng(0).permutation(len(rows)) % 5

    def scored(model, faults):
        table = pd.DataFrame(outputs[model].astype(float), columns=list(HPA28)).assign(id=rows.Id, fold=fold)
        return fit_decision(table, samples, faults=faults, draws=2)

    (decision, aside), (_, taken) = (scored("inception_rgb224", o) for o in (True, False))
    saturated = rows.Id[(outputs["inception_rgb224"] > .99).sum(1) >= 10]
    assert set(saturated) <= set(decision.faults.rows) and len(decision.faults.rows) < 260
    assert aside.nested > taken.nested + .05
    assert scored("vgg16_rgb224", True)[0].faults.rows == []
