"Property tests of blends: order does not matter, faults are named; and what blends are worth on real models."
import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from hpa_lib.core import DecisionError
from hpa_lib.data.labels import HPA28, Z2G10, Vocab
from hpa_lib.data.probs import align_tables, class_table, read_probs, read_table, reduce_views
from hpa_lib.data.samples import derive_groups
from hpa_lib.data.scores import macro_f1, mean_ap
from hpa_lib.decide.blend import (
    Blend, average_twins, blend, blend_fitter, hill_climb, log_loss, log_pool, nested_blend, overwrite, paired_f1,
    simplex_weights, stack, twin_groups,
)
from hpa_lib.decide.calibrate import Calibration
from hpa_lib.decide.decision import DEFAULT_BLEND, FITTED_BLENDS, Decision, fit_decision, load_decision
from hpa_lib.decide.submit import check_submission, compare_submissions, labels_a_row, read_submission, write_submission
from hpa_lib.decide.threshold_rules import DEFAULT_RULE, threshold_rule
from hpa_lib.decide.thresholds import bootstrap_f1, fit_thresholds, nested_score

AVERAGES = ["mean", "geometric", "logit", "power(2)", "power(.5)"]
RULES = [*AVERAGES, "rank", "max"]
CURVES = Calibration(method="offset", coefs={"x": [1., 1., 0.]})
PROB = st.one_of(st.sampled_from([0., 1., .5, 1e-9]), st.floats(0, 1, width=32))


@st.composite
def some_tables(draw, least=1):
    "One to four tables of the same samples and classes, and a weight for each"
    n, c, m = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(least, 4))
    index, columns = pd.Index([f"s{i}" for i in range(n)], name="id"), [f"class {j}" for j in range(c)]
    tables = {f"net {k}": pd.DataFrame(draw(hnp.arrays(float, (n, c), elements=PROB)), index, columns) for k in range(m)}
    return tables, {k: draw(st.floats(.01, 5)) for k in tables}


def fair(weights, how):
    return None if how == "max" else weights


def close(a, b, atol=1e-6):
    pd.testing.assert_frame_equal(a, b, rtol=0, atol=atol, check_dtype=False)


@settings(max_examples=150, deadline=None)
@given(some_tables(), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_order_changes_nothing_but_order(case, how, random):
    tables, weights = case
    before = blend(tables, how, fair(weights, how))

    def shuffled(items):
        return random.sample(list(items), len(list(items)))
    other = {k: tables[k].loc[shuffled(tables[k].index), shuffled(tables[k].columns)] for k in shuffled(tables)}
    other = {k: o.reset_index() if random.random() < .5 else o for k, o in other.items()}
    after = blend(other, how, fair({k: weights[k] for k in shuffled(weights)}, how))
    first = align_tables(other)[next(iter(other))]
    assert list(after.index) == list(first.index) and list(after.columns) == list(first.columns)
    close(after.loc[before.index, before.columns], before, 1e-9)


@settings(max_examples=150, deadline=None)
@given(some_tables(), st.sampled_from([*AVERAGES, "max"]))
def test_with_itself(case, how):
    tables, weights = case
    one = tables["net 0"]
    close(blend({k: one for k in tables}, how, fair(weights, how)), one)


@settings(max_examples=100, deadline=None)
@given(some_tables())
def test_rank_with_itself_keeps_the_order(case):
    one = case[0]["net 0"]
    ranks = blend({"a": one, "b": one}, "rank")
    for c in one:
        p, r = one[c].to_numpy(), ranks[c].to_numpy()
        assert ((p[:, None] < p) == (r[:, None] < r)).all()
        assert r.mean() == pytest.approx(.5)


@settings(max_examples=150, deadline=None)
@given(some_tables(least=2), st.sampled_from(RULES))
def test_one_hot_weights(case, how):
    tables, _ = case
    chosen = blend(tables, how, {k: float(k == "net 1") for k in tables})
    close(chosen, blend({"only": tables["net 1"]}, how))
    if how != "rank":
        close(chosen, tables["net 1"])


@settings(max_examples=150, deadline=None)
@given(some_tables(), st.sampled_from([*AVERAGES, "max"]))
def test_between_lowest_and_highest(case, how):
    tables, weights = case
    p, out = np.stack(list(tables.values())), blend(tables, how, fair(weights, how)).to_numpy()
    assert (out >= p.min(0) - 1e-6).all() and (out <= p.max(0) + 1e-6).all()
    assert (out >= 0).all() and (out <= 1).all()


@settings(max_examples=100, deadline=None)
@given(some_tables(), st.sampled_from(RULES))
def test_json_round_trip(case, how):
    tables, weights = case
    first = tables["net 0"]
    kept = Blend(how=how, weights=fair(weights, how) or dict.fromkeys(tables, 1.), classes=list(first))
    back = Blend.model_validate_json(kept.model_dump_json())
    assert back == kept
    close(back.apply(tables), blend(tables, how, fair(weights, how)), 1e-12)


@settings(max_examples=100, deadline=None)
@given(some_tables(), st.randoms(use_true_random=False), st.booleans())
def test_ranks_are_among_the_samples_of_the_fit(case, random, climbed):
    "The fit ranks as the rule does; and a sample keeps its place, whoever else is asked about"
    tables, _ = case
    first = tables["net 0"]
    truth = first > .5
    fit = partial(hill_climb, how="rank", rounds=2) if climbed else blend_fitter("rank")
    kept = Blend.model_validate_json(fit(tables, truth).model_dump_json())
    whole = kept.apply(tables)
    if not climbed:
        pd.testing.assert_frame_equal(whole, blend(tables, "rank"), check_exact=True)
    some = random.sample(list(first.index), random.randint(1, len(first)))
    alone = kept.apply({k: t.loc[some] for k, t in tables.items()})
    pd.testing.assert_frame_equal(alone, whole.loc[some], check_exact=True)


@settings(max_examples=100, deadline=None)
@given(some_tables(), st.randoms(use_true_random=False))
def test_weights_by_name_in_any_order(case, random):
    tables, weights = case
    turned = pd.Series(weights).sample(frac=1, random_state=random.randint(0, 99))
    by_class = pd.DataFrame({c: turned for c in reversed(list(tables["net 0"]))})
    for named in (turned, by_class, turned.to_dict()):
        close(blend(tables, weights=named), blend(tables, weights=weights), 1e-12)
    with pytest.raises(DecisionError, match="have no names"):
        blend(tables, weights=list(weights.values()))


def test_inequality_of_means():
    "geometric <= power(.5) <= mean <= power(2) <= max, for every entry"
    rng = np.random.default_rng(0)
    tables = {k: pd.DataFrame(rng.random((50, 3)), pd.Index(range(50), name="id").astype(str), list("abc")) for k in "xyz"}
    outs = [blend(tables, o).to_numpy() for o in ["geometric", "power(.5)", "mean", "power(2)", "max"]]
    for low, high in zip(outs, outs[1:]):
        assert (low <= high + 1e-12).all()


@pytest.fixture
def case():
    "Three networks, the truth and folds of 120 samples"
    rng = np.random.default_rng(1)
    index, classes = pd.Index([f"s{i}" for i in range(120)], name="id"), list("abcd")
    y = pd.DataFrame(rng.random((120, 4)) < [.1, .3, .5, .2], index, classes)
    tables = {}
    for name, noise in dict(one=1, two=1.2, three=2).items():
        logits = 3 * y.to_numpy() - 1.5 + noise * rng.normal(size=y.shape)
        tables[name] = pd.DataFrame(1 / (1 + np.exp(-logits)), index, classes)
    return tables, y, pd.Series(np.arange(120) % 4, index)


@pytest.mark.parametrize("bad, said", [
    (lambda t: t.mask(t.index.to_series() == "s3"), r"table 'two': probs\['s3', 'a'\] is nan"),
    (lambda t: t + 1, r"table 'two': probs\['s0', 'a'\] is 1\."),
    (lambda t: t - 1, r"table 'two': probs\['s0', 'a'\] is -"),
    (lambda t: t[1:], "table 'two' lacks id 's0'"),
    (lambda t: pd.concat([t, t[:1].rename(index={"s0": "new"})]), "table 'two' has id 'new'"),
    (lambda t: pd.concat([t, t[:1]]), "table 'two': id 's0' stands more than once"),
    (lambda t: t.drop(columns="d"), "table 'two' lacks class 'd'"),
    (lambda t: t.rename(columns={"d": "e"}), "table 'two' lacks class 'd'"),
    (lambda t: t.assign(e=.5), "table 'two' has class 'e'"),
    (lambda t: t.rename_axis(None), "table 'two': no `id`"),
    (lambda t: t.assign(a="x"), "table 'two': column 'a' holds no numbers"),
])
def test_faults_are_named(case, bad, said):
    tables, y, folds = case
    tables["two"] = bad(tables["two"]).rename_axis("id") if "no `id`" not in said else bad(tables["two"])
    kept = Blend(how="mean", weights=dict.fromkeys(tables, 1.), classes=list(y))
    for run in (lambda: blend(tables), lambda: kept.apply(tables), lambda: simplex_weights(tables, y), lambda: hill_climb(tables, y),
                lambda: stack(tables, y), lambda: log_pool(tables, y), lambda: nested_blend(tables, y, folds)):
        with pytest.raises(DecisionError, match=said):
            run()


@pytest.mark.parametrize("fields", [
    dict(how="median"), dict(how="power(0)"), dict(how="power(nan)"), dict(how="power(inf)"),
    dict(weights={}), dict(weights={"a": -1.}), dict(weights={"a": float("nan")}), dict(weights={"a": {"y": 1.}}),
    dict(how="max", weights={"a": 1., "b": 2.}), dict(how="stack"), dict(how="stack", weights={"a": {"x": 1.}}),
    dict(bias={"x": 1.}), dict(classes=[]), dict(power=2),
    dict(most=5.), dict(aside={"a": 1}), dict(how="log_pool"), dict(how="log_pool", most=5.),
    dict(how="log_pool", most=5., calibrations={"b": CURVES}), dict(how="log_pool", most=0., calibrations={"a": CURVES}),
    dict(how="log_pool", most=5., calibrations={"a": CURVES}, bias={"x": 1.}),
    dict(how="log_pool", most=5., calibrations={"a": Calibration(method="offset", coefs={"y": [1., 1., 0.]})})])
def test_impossible_blends(fields):
    with pytest.raises(ValidationError):
        Blend(**(dict(how="mean", weights={"a": 1.}, classes=["x"]) | fields))


@pytest.mark.parametrize("fit", [
    log_pool, simplex_weights, hill_climb, partial(hill_climb, objective="mean_ap", rounds=5),
    partial(hill_climb, objective="macro_f1", rounds=3), stack])
def test_fits_do_not_look_at_order(case, fit):
    tables, y, folds = case
    other = {k: tables[k].iloc[::-1, [2, 0, 3, 1]] for k in ["three", "one", "two"]}
    a, b = nested_blend(tables, y, folds, fit), nested_blend(other, y.iloc[::-1, ::-1], folds[::-1], fit)
    close(b.probs.loc[y.index, list(y)], a.probs, 2e-3)
    assert abs(a.nested - b.nested) < .03
    assert a.blends["all"].fitted["by"] in {"log_pool", "simplex_weights", "hill_climb", "stack"}


@pytest.mark.parametrize("fit", [log_pool, simplex_weights, hill_climb, stack, "mean", "rank"])
def test_nested_sees_nothing_of_the_held_out_fold(case, fit):
    tables, y, folds = case
    turned = y.copy()
    turned[folds == 2] = ~turned[folds == 2]
    a, b = nested_blend(tables, y, folds, fit), nested_blend(tables, turned, folds, fit)
    pd.testing.assert_frame_equal(a.hard[folds == 2], b.hard[folds == 2])
    assert a.blends[2] == b.blends[2]


def test_nested_is_what_it_says(case):
    "Written out for one fold; and with fixed weights the nested score of the blended table"
    tables, y, folds = case
    found, out = nested_blend(tables, y, folds, hill_climb, fallback=None), folds == 1
    kept = hill_climb({k: t[~out] for k, t in tables.items()}, y[~out])
    p = kept.apply(tables)
    thresh = fit_thresholds(p[~out], y[~out])
    assert ((p[out] > thresh) == found.hard[out]).all(axis=None)
    assert found.nested == macro_f1(y, found.hard)
    assert nested_blend(tables, y, folds, "logit", cap=2).nested == nested_score(blend(tables, "logit"), y, folds, cap=2).nested


def test_simplex_is_the_lowest_point(case):
    tables, y, _ = case
    best = log_loss(y, simplex_weights(tables, y).apply(tables))
    for w in np.random.default_rng(0).dirichlet([1, 1, 1], 300):
        assert best <= log_loss(y, blend(tables, weights=dict(zip(tables, w)))) + 1e-7
    assert hill_climb(tables, y, rounds=1).weights == {"one": 1., "three": 0., "two": 0.}


def test_stack_falls_back_where_positives_are_few(case):
    tables, y, _ = case
    y = y.assign(a=False, b=True)
    found = stack(tables, y)
    assert found.fitted["fallback"] == ["a", "b"]
    close(found.apply(tables)[["a", "b"]], blend(tables, "logit")[["a", "b"]])
    assert y.d.sum() > 2 and stack(tables, y, least=int(y.d.sum()) + 1).fitted["fallback"][-1] == "d"
    assert "d" not in stack(tables, y, least=int(y.d.sum())).fitted["fallback"]


@pytest.mark.parametrize("objective", ["macro_f1", "mean_ap"])
def test_more_rounds_are_never_worse(case, objective):
    "The best of all rounds is kept, not the last"
    tables, y, _ = case
    score = {"mean_ap": mean_ap, "macro_f1": lambda y, p: macro_f1(y, p > .5)}[objective]
    found = [score(y, hill_climb(tables, y, objective, rounds=r, fit=lambda p, y: .5).apply(tables)) for r in range(1, 12)]
    assert all(a <= b + 1e-12 for a, b in zip(found, found[1:]))


def test_comparisons_are_matched_by_name(case):
    tables, y, folds = case
    a, b = (nested_blend({k: tables[k]}, y, folds, "mean").hard for k in ("one", "three"))
    right = paired_f1(y, a, b, folds, n=50)
    turned = {k: o.iloc[::-1, [2, 0, 3, 1]] for k, o in dict(a=a, b=b).items()}
    assert paired_f1(y, turned["a"], turned["b"], folds.sample(frac=1, random_state=0), n=50) == right
    assert paired_f1(y, [turned["a"], a], [b, turned["b"]], folds, n=50)["difference"] == pytest.approx(right["difference"])
    assert right["few_groups"] == list("abcd")                               # four folds are the groups
    assert paired_f1(y.to_numpy(), a.to_numpy(), b.to_numpy(), folds.to_numpy(), n=50) == right | dict(few_groups=[0, 1, 2, 3])
    assert log_loss(y.iloc[::-1, ::-1], tables["one"]) == pytest.approx(log_loss(y, tables["one"]), rel=1e-12)
    for run in (lambda: paired_f1(y, a[1:], b), lambda: paired_f1(y, a, b, folds[1:]), lambda: log_loss(y[1:], tables["one"])):
        with pytest.raises(DecisionError, match="lacks id 's0'|has id 's0'"):
            run()
    with pytest.raises(DecisionError, match="targs names its ids and b does not"):
        paired_f1(y, a, b.to_numpy())
    with pytest.raises(DecisionError, match="b lacks class 'd'"):
        paired_f1(y, a, b.drop(columns="d"))


def test_paired_spread(case):
    "Against a constant opponent without hits the spread is that of the score itself"
    tables, y, folds = case
    hard = nested_blend(tables, y, folds).hard
    nothing = hard & False
    pair, alone = paired_f1(y, hard, nothing, n=2000), bootstrap_f1(y, hard, n=2000)
    assert pair["difference"] == alone["score"]
    assert pair["std"] == pytest.approx(alone["std"]) and pair["low"] == pytest.approx(alone["low"], abs=.01)
    assert paired_f1(y, nothing, hard, n=50)["difference"] == -pair["difference"]


def test_read_probs(tmp_path, case):
    table = case[0]["one"]
    table.to_parquet(tmp_path / "a.parquet")
    table.reset_index().sample(frac=1, random_state=0).to_csv(tmp_path / "a.csv", index=False)
    np.save(tmp_path / "a.npy", table.to_numpy())
    for name in ["a.parquet", "a.csv", "a.npy"]:
        close(read_probs(tmp_path / name, ids=table.index, names=list("abcd")), table, 1e-12)
    with pytest.raises(FileNotFoundError):
        read_probs(tmp_path / "none.csv")
    faults = {"a.txt": "reads .parquet"} | {o: o for o in ("broken.npy", "broken.parquet", "broken.csv")}
    for name, said in faults.items():
        (tmp_path / name).write_bytes(b'"\x00')
        with pytest.raises(DecisionError, match=said):
            read_probs(tmp_path / name, ids=table.index)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DecisionError, match="objects.npy"):
        read_probs(tmp_path / "objects.npy", ids=["x"])


def network_table(seed, folds_of):
    "A probability table as a network writes it: eight views of each of twenty samples in the folds that saw it, in no order"
    rng = np.random.default_rng(seed)
    keys = pd.DataFrame([(f"s{i}", k, v) for i in range(20) for k in folds_of(i) for v in range(8)], columns=["id", "fold", "view"])
    return keys.join(pd.DataFrame(rng.random((len(keys), 3)).astype("float32"), columns=list("abc"))).sample(frac=1, random_state=seed)


@pytest.mark.parametrize("how", ["mean", "max", "logit_mean", "quantile(.75)"])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_of_networks_are_read_by_a_rule(tmp_path, how, suffix):
    oof, test = network_table(0, lambda i: [i % 5]), network_table(1, lambda i: range(5))
    def write(table, name):
        path = tmp_path / f"{name}.{suffix}"
        table.to_parquet(path) if suffix == "parquet" else table.to_csv(path, index=False)
        return path
    held_out, everywhere = write(oof, "oof"), write(test, "test")
    for path in (held_out, everywhere):
        with pytest.raises(DecisionError, match=r"sample 's\d+' has (8|40) rows .*reduce='mean' .*--reduce mean"):
            read_probs(path)
    read = read_table(held_out, reduce=how)
    close(read.probs, class_table(reduce_views(oof, how)), 1e-6)
    assert read.fold.to_dict() == {f"s{i}": i % 5 for i in range(20)}                # the fold of each sample is not lost
    assert read.folded.fold.tolist() == [int(i[1:]) % 5 for i in read.folded.index]
    close(class_table(read.folded), read.probs)
    both = read_table(everywhere, reduce=how, folds="max")
    close(both.probs, class_table(reduce_views(test, how, "max")), 1e-6)
    assert both.fold is None and "fold" not in both.folded
    wanted = [f"s{i}" for i in range(19, -1, -1)]
    close(read_probs(held_out, ids=wanted, names=list("cab"), reduce=how), read.probs.loc[wanted, list("cab")])
    with pytest.raises(DecisionError, match=f"oof.{suffix}: views and folds are not reduced by 'median'"):
        read_probs(held_out, reduce="median")


@pytest.mark.parametrize("how", ["mean", "max", "logit_mean", "quantile(.75)"])
def test_a_view_that_did_not_answer_is_named(tmp_path, how):
    table = network_table(2, lambda i: range(3))
    for rows, sample in ((table.view.eq(3) & table.id.eq("s7"), "s7"), (table.fold.eq(1) & table.id.eq("s4"), "s4")):
        gap = table.assign(b=table.b.mask(rows))
        for other in (gap, gap.convert_dtypes()):
            with pytest.raises(DecisionError, match=rf"probs\['{sample}', 'b'\] is nan, one of {rows.sum()} values"):
                reduce_views(other, how)
        gap.to_parquet(tmp_path / "gap.parquet")
        with pytest.raises(DecisionError, match=rf"gap.parquet: probs\['{sample}', 'b'\] is nan"):
            read_probs(tmp_path / "gap.parquet", reduce=how)
    for wrong, said in (
        (table.assign(fold=table.fold.where(table.id != "s3")), "sample 's3', has no fold"),
        (table.assign(id=table.id.where(table.id != "s3")), r"row \d+ has no id"),
        (table.assign(c=2.), r"probs\['s\d+', 'c'\] is 2.0"),
    ):
        with pytest.raises(DecisionError, match=said):
            reduce_views(wrong, how)
    shuffled = table.sample(frac=1, random_state=5)[["c", "view", "a", "id", "b", "fold"]]
    close(reduce_views(shuffled, how).loc[[f"s{i}" for i in range(20)], list("abc")], reduce_views(table, how).loc[[f"s{i}" for i in range(20)]], 1e-6)


def test_a_rule_changes_nothing_where_there_is_one_row(tmp_path, case):
    table = case[0]["one"]
    table.to_parquet(tmp_path / "plain.parquet")
    table.reset_index().assign(fold=3).to_csv(tmp_path / "folded.csv", index=False)
    assert read_table(tmp_path / "plain.parquet", reduce="mean").fold is None
    close(read_probs(tmp_path / "plain.parquet", reduce="max"), table, 0)
    for reduce in (None, "mean"):
        read = read_table(tmp_path / "folded.csv", reduce=reduce)
        close(read.probs, table, 1e-15)
        assert set(read.fold) == {3}


def test_answers_of_predict_are_read(tmp_path):
    text = "Id,status,error,labels,Predicted,a,b\nNA,ok,,a|b,0 1,.9,.8\nnull,{},{},,,{},\n"
    (tmp_path / "p.csv").write_text(text.format("failed", "no such file", ""))
    with pytest.raises(DecisionError, match="p.csv: sample 'null' has no probabilities, the status is 'failed'"):
        read_probs(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("".join(text.splitlines(True)[:2]))
    assert read_probs(tmp_path / "p.csv").to_dict("index") == {"NA": dict(a=.9, b=.8)}


def test_what_is_no_class_is_refused(tmp_path, case):
    case[0]["one"].reset_index().to_csv(tmp_path / "numbered.csv")
    with pytest.raises(DecisionError, match="'Unnamed: 0' holds row numbers of pandas"):
        read_probs(tmp_path / "numbered.csv")
    (tmp_path / "nameless.csv").write_text("id,a\nx,.1\n,.2\n")
    with pytest.raises(DecisionError, match="row 1 has no id"):
        read_probs(tmp_path / "nameless.csv")
    (tmp_path / "round.csv").write_text("id,a\nx,1.0000001\n")
    with pytest.raises(DecisionError, match="off by rounding"):
        read_probs(tmp_path / "round.csv")


def test_twins():
    ids = pd.Index(list("wxyz"), name="id")
    table = pd.DataFrame({"a": [0., .2, .4, 1.]}, ids)
    group = pd.Series([None, "t", "t", "u"], ids)
    out, report = average_twins(table, group)
    assert out.a.tolist() == pytest.approx([0., .3, .3, 1.]) and report.samples.to_dict() == {"t": 2}
    same, none = average_twins(table, pd.Series(None, ids, dtype=object))
    close(same, table)
    assert not len(none)
    with pytest.raises(DecisionError, match="more than once among the twins"):
        average_twins(table, pd.concat([group, group]))
    with pytest.raises(DecisionError, match="needs id and twin"):
        average_twins(table, pd.DataFrame({"id": list("wxyz")}))


@pytest.mark.parametrize("how", ["mean", "rank", "log_pool", "simplex", "hill_climb", "stack", "max"])
def test_a_decision_knows_a_sample_by_itself(case, how):
    "The labels of a sample are the same alone, in a part and among all; of tables in any order"
    tables, y, folds = case
    labels = pd.Series(Vocab(list(y)).decode(y.to_numpy()), y.index)
    samples = pd.DataFrame(dict(id=y.index, labels=labels.to_numpy(), group=y.index))
    decision, score = fit_decision({k: t.assign(fold=folds) for k, t in tables.items()}, samples, blend=how, draws=9)
    whole = decision.decide(tables)
    assert decision.scores["in_sample"] == macro_f1(y, decision.hard(tables))
    for part in (["s7"], ["s100", "s3", "s55"]):
        other = {k: tables[k].loc[part, ["c", "a", "d", "b"]] for k in ["two", "three", "one"]}
        assert decision.decide(other).to_dict() == whole[part].to_dict()


@pytest.mark.parametrize("change, said", [
    (lambda s: s.assign(labels=[Vocab(list("abcd")).text(o) for o in s.labels]), "the labels of sample 's[0-9]+' are codes"),
    (lambda s: s.assign(labels=[[int(k) for k in Vocab(list("abcd")).text(o).split()] for o in s.labels]), "are codes"),
    (lambda s: pd.concat([s, s[5:6]]), "id 's5' is a duplicate in the samples table"),
    (lambda s: s[s.id != "s5"], "id 's5' has no labels"),
    (lambda s: s.drop(columns="labels"), "no `labels` among the columns"),
])
def test_samples_of_a_decision_are_named(case, change, said):
    tables, y, folds = case
    samples = pd.DataFrame(dict(id=y.index, labels=Vocab(list(y)).decode(y.to_numpy()), group=y.index))
    with pytest.raises(DecisionError, match=said):
        fit_decision(tables["one"].assign(fold=folds), change(samples), draws=9)


def test_a_missing_group_is_no_group_of_all(case):
    tables, y, folds = case
    samples = pd.DataFrame(dict(id=y.index, labels=Vocab(list(y)).decode(y.to_numpy()), group=y.index))
    table = tables["one"].assign(fold=folds)
    right = fit_decision(table, samples, draws=50)[0]
    for gap in (samples.assign(group=None), samples.assign(group=samples.group.where(samples.id != "s5")), samples.set_index("id")):
        assert fit_decision(table, gap, draws=50)[0] == right


GROUPS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.sampled_from("abcdefghtu"))), min_size=1, max_size=8, unique_by=lambda o: o[0])


@settings(max_examples=300, deadline=None)
@given(GROUPS, st.randoms(use_true_random=False))
def test_twins_are_tied_as_groups_are(rows, random):
    "Who shares a group of `derive_groups` shares a mean, in whatever order the rows stand; nobody else does"
    twins = pd.DataFrame(rows, columns=["id", "twin"], dtype=object)
    group = pd.Series(derive_groups(twins), twins.id)
    table = pd.DataFrame(dict(a=np.linspace(0, 1, len(twins))), pd.Index(twins.id, name="id"))
    table = table.loc[random.sample(list(table.index), len(table))]
    out, report = average_twins(table, random.choice([twins, twins[::-1], twins.set_index("id").twin]))
    assert out.a.tolist() == pytest.approx(table.a.groupby(group.loc[table.index].to_numpy()).transform("mean").tolist())
    assert report.samples.sum() == len(twin_groups(twins, table.index))


def test_overwrite_faults():
    labels = pd.Series({"x": ["Cytosol"], "y": []})
    for known, said in [
        (dict(id=["x", "x"], labels=[[], []]), "more than once in the known labels"),
        (dict(id=["x"], labels=[None]), "of the known labels has none"),
        (dict(id=["x"]), "needs id and labels"),
    ]:
        with pytest.raises(DecisionError, match=said):
            overwrite(labels, pd.DataFrame(known))
    out, changed = overwrite(labels, pd.DataFrame(dict(id=["x"], labels=[[]])))
    assert out.tolist() == [[], []] and changed.to_dict("records") == [dict(before=["Cytosol"], after=[])]
    assert overwrite(labels, dict(x=[]))[0].tolist() == out.tolist()


def test_submissions(tmp_path):
    sample = write_submission(tmp_path / "sample.csv", list("xyz"), [["Cytosol"]] * 3)
    mine = write_submission(tmp_path / "mine.csv", list("xyz"), [HPA28.names[:7], [], ["Cytosol"]])
    with pytest.raises(DecisionError, match="sample 'y' has no label, one of 1"):
        check_submission(mine, sample, cap=None)
    with pytest.warns(UserWarning, match="sample 'x' has 7 labels, one of 1 with more than 5"):
        labels = check_submission(mine, sample, empty=True)
    assert labels_a_row(labels).to_dict() == {0: 1, 1: 1, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 1}
    d = compare_submissions(sample, mine)
    assert d.loc["Cytosol"].tolist() == [3, 1, 0, 2, 2] and d.loc["all"].tolist() == [3, 8, 7, 2, 2]
    back = compare_submissions(mine, sample)
    assert (back.added == d.removed).all() and (back.changed == d.changed).all()


def test_submissions_of_the_ten_classes(tmp_path):
    "The contest of z2g: submission.csv with the columns Image,Label"
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("Image,Label\nq7,0\np1,0\nNA,0\n")
    labels = dict(NA=["Cytosol"], p1=["Golgi apparatus", "Mitochondria"], q7=["Centrosome"])
    path = write_submission(tmp_path / "submission.csv", list(labels), labels.values(), Z2G10, sample)
    assert path.read_text() == "Image,Label\nq7,8\np1,0 3\nNA,6\n"
    assert {k: sorted(v) for k, v in check_submission(path, sample, Z2G10).items()} == {k: sorted(v) for k, v in labels.items()}
    named = write_submission(tmp_path / "named.csv", list(labels), labels.values(), Z2G10, columns=("Image", "Label"))
    assert compare_submissions(path, named, Z2G10).loc["all", "changed"] == 0 and named.read_text().startswith("Image,Label\n")
    plain = write_submission(tmp_path / "plain.csv", list(labels), labels.values(), Z2G10)
    assert plain.read_text().startswith("Id,Predicted\n")
    assert read_submission(plain, Z2G10).to_dict() == read_submission(named, Z2G10).to_dict()
    with pytest.raises(DecisionError, match="plain.csv has the columns 'Id', 'Predicted', the sample submission 'Image', 'Label'"):
        check_submission(plain, sample, Z2G10)
    with pytest.raises(DecisionError, match="but the sample submission has 'Image', 'Label'"):
        write_submission(plain, list(labels), labels.values(), Z2G10, sample, columns=("Id", "Predicted"))
    for text in ("Image\nq7\n", "Image,Label,Score\nq7,8,.1\n"):
        (tmp_path / "odd.csv").write_text(text)
        with pytest.raises(DecisionError, match="odd.csv has the columns .*: a submission has two, ids and labels, such as Id,Predicted"):
            read_submission(tmp_path / "odd.csv", Z2G10)


CLASSES = HPA28.names[:12]


def twelve(n=300, seed=0, noises=dict(a=1., b=1.2, c=1.4)):
    "Networks of different noise on twelve rare classes, and the truth"
    rng = np.random.default_rng(seed)
    index = pd.Index([f"s{i}" for i in range(n)], name="id")
    y = pd.DataFrame(rng.random((n, 12)) < .12, index, CLASSES)
    logits = {k: 3 * y.to_numpy() - 2.5 + s * rng.normal(size=y.shape) for k, s in noises.items()}
    return {k: pd.DataFrame(1 / (1 + np.exp(-z)), index, CLASSES) for k, z in logits.items()}, y


def broken(table, kind, seed=0):
    "A table with a fault"
    rng = np.random.default_rng(seed)
    p = table.to_numpy().copy()
    some = rng.random(len(p)) < .1
    if kind == "ones": p[some] = 1
    if kind == "zeros": p[some] = 0
    if kind == "ten classes": p[np.ix_(some, range(1, 11))] = .999
    if kind == "noise": p = rng.random(p.shape)
    if kind == "shuffled": p = p[rng.permutation(len(p))]
    if kind == "upside down": p = 1 - p
    if kind == "constant": p = p * 0 + .3
    if kind == "columns": p[:, :6] = .7
    if kind == "flipped": p[:, 2] = 1 - p[:, 2]
    if kind == "bold": p = 1 / (1 + (1 / p - 1)**3)
    if kind == "eight bits": p = np.round(p * 255) / 255
    return pd.DataFrame(p, table.index, table.columns)


ROWS = ["ones", "zeros", "ten classes"]
ALL = ["noise", "shuffled", "upside down", "constant"]
SOME = ["columns", "flipped", "bold", "eight bits"]


@pytest.mark.parametrize("kind", [*ROWS, *ALL, *SOME])
def test_a_faulty_member_drags_no_pool_down(kind):
    "Not below the pool without it, nor below the best of the others: on samples that the fit has not seen"
    (old, y), (new, truth) = twelve(seed=0), twelve(seed=1)
    faulty = [o | dict(b=broken(o["b"], kind)) for o in (old, new)]
    pool = log_pool(faulty[0], y)
    rest = log_pool({k: old[k] for k in "ac"}, y).apply({k: new[k] for k in "ac"})
    got = pool.apply(faulty[1])
    assert mean_ap(truth, got) > mean_ap(truth, rest) - .005
    assert log_loss(truth, got) < log_loss(truth, rest) + .002
    assert mean_ap(truth, got) > max(mean_ap(truth, new[k]) for k in "ac") + .02
    if kind in ROWS:
        assert mean_ap(truth, got) > mean_ap(truth, rest) + .01                   # what it knows elsewhere is not lost


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("share", [.02, .1, .25])
def test_broken_rows_are_found_and_no_others(kind, share):
    tables, y = twelve()
    rows = np.random.default_rng(3).random(len(y)) < share
    tables["b"].loc[rows] = dict(ones=1., zeros=0.).get(kind, .999)
    if kind == "ten classes":
        tables["b"].loc[rows, CLASSES[:2]] = .2
    pool = log_pool(tables, y)
    aside = pool.set_aside(tables)
    assert (aside.b == rows).all() and not aside[["a", "c"]].to_numpy().any()
    assert pool.aside == dict(b=rows.sum()) and f"b set aside on {rows.sum()} of 300 samples" in pool.note
    others = pool.model_copy(update=dict(weights={k: w * (k != "b") for k, w in pool.weights.items()}))
    close(pool.apply(tables)[rows], others.apply(tables)[rows], 1e-12)
    assert (pool.apply(tables)[~rows] - others.apply(tables)[~rows]).abs().max(axis=1).gt(1e-3).all()


@pytest.mark.parametrize("kind", ALL)
def test_a_member_that_knows_nothing_is_named(kind):
    tables, y = twelve()
    pool = log_pool(tables | dict(b=broken(tables["b"], kind)), y)
    assert pool.weights["b"] < .03 and min(pool.weights["a"], pool.weights["c"]) > .1
    if kind == "constant":
        assert pool.weights["b"] == 0 and pool.aside == dict(b=300)
        assert "weight below .01: b" in pool.note and pool.note.startswith("counts like 2.0 of 3 tables")


def test_a_pool_becomes_one_member_of_none():
    "Of a table and itself with a little noise both count; the stronger the pull, the more evenly; of equal tables none is preferred"
    tables, y = twelve()
    echo = tables | dict(echo=tables["a"] * .999)
    counted = [log_pool(echo, y, pull=q).weights for q in (1., 10., 100., 1e6)]
    least = [min(w.values()) for w in counted]
    assert all(a < b for a, b in zip(least, least[1:])) and least[1] > .05
    assert least[-1] == pytest.approx(.25, abs=1e-3)
    alike = log_pool({k: tables["a"] for k in "xyz"}, y)
    assert list(alike.weights.values()) == pytest.approx([1 / 3] * 3) and alike.note == "counts like 3.0 of 3 tables"


def test_weights_of_a_pool_are_the_lowest_point():
    "Brute force over the simplex, of log loss in nats and relative entropy"
    tables, y = twelve(60)
    tables["b"].iloc[:5] = 1.
    pool = log_pool(tables, y, pull=4.)

    def cost(w):
        p = pool.model_copy(update=dict(weights=dict(zip("abc", w.tolist())))).apply(tables)
        return log_loss(y, p) * y.size + 4 * (w * np.log(3 * np.maximum(w, 1e-300))).sum()
    best = cost(np.array([pool.weights[k] for k in "abc"]))
    for w in np.random.default_rng(0).dirichlet([1, 1, 1], 200):
        assert best <= cost(w) + 1e-4


@settings(max_examples=60, deadline=None)
@given(some_tables(), st.randoms(use_true_random=False))
def test_a_pool_looks_at_one_sample_at_a_time(case, random):
    "In any order of tables, classes and samples; alone or among others; from JSON as from the fit"
    tables, _ = case
    first = tables["net 0"]
    truth = first > .5
    try: pool = log_pool(tables, truth)
    except DecisionError as e:
        assert "nothing to blend" in str(e)
        assert all(len(set(row)) == 1 or sum(row) > 2 for t in tables.values() for row in t.clip(1e-4, 1 - 1e-4).to_numpy())
        return
    kept = Blend.model_validate_json(pool.model_dump_json())
    assert kept == pool
    whole = pool.apply(tables)
    assert whole.notna().all(axis=None) and ((whole >= 0) & (whole <= 1)).all(axis=None)
    assert sum(pool.weights.values()) == pytest.approx(1)
    some = random.sample(list(first.index), random.randint(1, len(first)))
    columns = random.sample(list(first), first.shape[1])
    other = {k: tables[k].loc[some, columns] for k in random.sample(list(tables), len(tables))}
    close(kept.apply(other), whole.loc[some], 1e-12)
    pd.testing.assert_frame_equal(kept.set_aside(other)[list(tables)], pool.set_aside(tables).loc[some, list(tables)])


def test_where_all_are_broken_all_count():
    tables, y = twelve()
    pool = log_pool(tables, y)
    ones = {k: t.iloc[:1] * 0 + p for (k, t), p in zip(tables.items(), (1., .999, .99))}
    assert pool.set_aside(ones).all(axis=None)
    assert (pool.apply(ones) > .5).all(axis=None)


@pytest.mark.parametrize("n, classes", [(30, 12), (200, 60)])
def test_pools_of_few_samples_and_of_many_classes(n, classes):
    rng = np.random.default_rng(5)
    index, names = pd.Index([f"s{i}" for i in range(n)], name="id"), [f"k{j}" for j in range(classes)]
    y = pd.DataFrame(rng.random((n, classes)) < .06, index, names)
    def table(noise): return pd.DataFrame(1 / (1 + np.exp(-(3 * y - 2.5 + noise * rng.normal(size=y.shape)))), index, names)
    tables = dict(a=table(1), b=table(1.2), noise=pd.DataFrame(rng.random(y.shape), index, names))
    pool = log_pool(tables, y)
    assert pool.weights["noise"] < .1 < min(pool.weights["a"], pool.weights["b"]) and not pool.aside
    assert mean_ap(y, pool.apply(tables)) > max(mean_ap(y, t) for t in tables.values())


def test_a_decision_with_a_pool(tmp_path, case):
    "The default of several tables; a decision on a broken row is as without the broken table; older blends still load"
    tables, y = twelve()
    assert FITTED_BLENDS[DEFAULT_BLEND] is log_pool
    samples = pd.DataFrame(dict(id=y.index, labels=Vocab(CLASSES).decode(y.to_numpy()), group=y.index))
    folded = {k: t.assign(fold=np.arange(300) % 4) for k, t in tables.items()}
    decision, _ = fit_decision(folded, samples, blend=DEFAULT_BLEND, draws=9)
    kept = load_decision(decision.save(tmp_path / "d.json"))
    assert kept == decision and kept.blend.how == "log_pool"
    row = {k: t.loc[["s4"]] for k, t in tables.items()}
    out = [kept.decide(row | dict(b=row["b"] * 0 + p))["s4"] for p in (0, .3, 1)]
    assert out[0] == out[1] == out[2]
    older = dict(how="mean", weights=dict(one=.25, two=.75), classes=["a"], bias={}, fitted=dict(by="simplex_weights", samples=9))
    assert Blend.model_validate(older).model_dump() == older
    facts = dict(thresholds=dict(a=.5), blend=older)
    assert Decision.model_validate(facts).blend.weights == dict(one=.25, two=.75)
    assert nested_blend(*case).blends["all"].how == "log_pool" and "counts like" in repr(nested_blend(*case))


def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_blend", Path(__file__).parents[2] / "benchmarks" / "blend.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    return bench


def test_real_models(real):
    "Held out, the default blend has a higher precision and a lower log loss than each of six real models"
    bench = benchmark()
    tables, targs, groups = bench.read_test(real)
    assert targs.shape == (300, 28) and all(t.shape == (11702, 28) for t in tables.values())
    assert groups.nunique() == 299
    known = {k: t.loc[targs.index] for k, t in tables.items()}
    folds = bench.repeated_folds(targs, groups, 1, 0)[0]
    found = nested_blend(known, targs, folds)
    assert log_loss(targs, found.probs) < min(log_loss(targs, t) for t in known.values())
    assert mean_ap(targs, found.probs) > max(mean_ap(targs, t) for t in known.values())
    singles = {k: nested_blend({k: t}, targs, folds, "mean") for k, t in known.items()}
    gain = paired_f1(targs, found.hard, max(singles.values(), key=lambda o: o.nested).hard, n=300)
    assert abs(gain["difference"]) < 3 * gain["std"]
    assert found.blends["all"].aside == {}


def test_real_broken_models(real):
    "Eight real models, two of them broken on some rows: the default is above the best of them, and says what it set aside"
    bench = benchmark()
    tables, targs, groups = bench.read_val(real)
    pool = log_pool(tables, targs)
    aside = pool.set_aside(tables)
    saturated = (tables["inception_rgb224"] > .99).sum(axis=1) >= 10
    assert saturated.sum() == 168 and aside.inception_rgb224[saturated].all()
    assert pool.aside["inception_rgb224"] == aside.inception_rgb224.sum() < 240
    assert aside.drop(columns=["inception_rgb224", "vgg16_green224"]).sum().max() < 10
    assert pool.weights["vgg16_green224"] < .001 and "vgg16_green224" in pool.note
    assert sum(w > .05 for w in pool.weights.values()) >= 3
    fold = bench.repeated_folds(targs, groups, 1, 0)[0]
    found = nested_blend(tables, targs, fold, fit=threshold_rule(DEFAULT_RULE))
    best = nested_blend({"one": tables["vgg16_rgby224"]}, targs, fold, "mean", fit=threshold_rule(DEFAULT_RULE))
    gain = paired_f1(targs, found.hard, best.hard, groups, n=300)
    assert gain["low"] > -.03 and gain["difference"] > .005
    assert mean_ap(targs, found.probs) > max(mean_ap(targs, t) for t in tables.values()) + .02
