"""Folds for any table: nothing cut, nobody lost, the same whatever the order.

Malformed folds are refused by name. At the end the real tables.
"""
import time
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from hpa_lib.core import DataError
from hpa_lib.data.folds import (
    check_folds, cut_groups, fold_balance, fold_numbers, fold_rows, grouped_folds, holdout, leak_report, read_folds,
    save_folds,
)
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import hpa_identity, tidy_samples, twin_ties
from hpa_lib.data.shared_folds import closed_folds, leave_out, purge
from hpa_lib.learn.sampling import SAMPLING_RULES, sampling_weights

NAMES = HPA28.names[:5]
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]                  # no shrinking: of a table it takes minutes
# Small tables are often refused by name, and are then no example (`made`)
REFUSED = [HealthCheck.filter_too_much]
few = settings(max_examples=30, deadline=None, phases=PHASES, suppress_health_check=REFUSED)


@st.composite
def tables(draw, known=False):
    "A samples table: antibodies and wells (perhaps unknown), two sources, twins, unlabelled and test rows"
    row = st.tuples(
        st.sampled_from("123456") if known else st.sampled_from([None, *"123456"]),
        st.sampled_from(["A1", "A2", "A3"]),
        st.sampled_from(["kaggle", "kaggle", "hpav18"]),
        st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
        st.one_of(st.none(), st.none(), st.integers(0, 39)),
        st.sampled_from([""] * 8 + ["test", "unlabelled"]),
        st.sampled_from(["HeLa", "MCF7", "REH"]),
    )
    rows = draw(st.lists(row, min_size=4, max_size=40))
    antibody, well, source, labels, twin, part, line = zip(*rows)
    ids = [f"s{i:02}" for i in range(len(rows))]
    return tidy_samples(pd.DataFrame(dict(
        id=ids,
        antibody=antibody,
        plate=[a and "p" + a for a in antibody],
        well=[a and w for a, w in zip(antibody, well)],
        source=source,
        labels=[None if p == "unlabelled" else o for o, p in zip(labels, part)],
        twin=[None if t is None else ids[t % len(ids)] for t in twin],
        is_test=[p == "test" for p in part],
        cell_line=line,
    )))


def labelled(samples):
    return samples[samples.labels.notna() & ~samples.is_test]


def made(make, *args, **kwargs):
    "What `make` makes; tables that it refuses, by name, are no example"
    try:
        return make(*args, **kwargs)
    except DataError:
        assume(False)


def prove(samples, folds, by="group"):
    "What must hold for all folds that never cut `by`"
    rows = labelled(samples)
    assert folds.id.tolist() == rows.id.tolist()                       # every row exactly once, in order
    valid = folds.get("valid", True) & folds.fold.ge(0)
    thresh = folds.get("thresh", pd.Series(False, folds.index))
    seen = []
    for k in folds.fold[valid].unique():
        train, held = fold_rows(samples, folds, k)
        fit = fold_rows(samples, folds, k, "thresh")[1] if thresh.any() else []
        sides = [set(train), set(held), set(fit)]
        assert all(sides[:2]) and not any(a & b for a, b in combinations(sides, 2))
        assert set.union(*sides) <= set(rows.index)
        groups = [set(samples[by][sorted(o)]) for o in sides]
        assert not any(a & b for a, b in combinations(groups, 2))
        seen += list(held)
    assert sorted(seen) == rows.index[valid.to_numpy()].tolist()       # everyone that is valid is scored exactly once
    assert not len(cut_groups(samples, folds, by))


def same(samples, make, folds):
    "Another order of the rows gives each id the same place; the same call the same folds"
    assert make(samples).equals(folds)
    other = make(samples.sample(frac=1, random_state=1).reset_index(drop=True))
    assert other.set_index("id").loc[folds.id].reset_index()[list(folds)].equals(folds)


@few
@given(tables(), st.integers(2, 4), st.integers(0, 3), st.sampled_from([(), "hpav18", ("kaggle",)]))
def test_grouped_folds(samples, n, seed, only):
    def make(t): return grouped_folds(t, NAMES, n, seed, train_only=only)
    folds = made(make, samples)
    prove(samples, folds)
    same(samples, make, folds)
    check_folds(samples, folds)
    rows, only = labelled(samples), [only] if isinstance(only, str) else list(only)
    free = ~rows.source.isin(only).to_numpy()
    assert (folds.get("valid", folds.fold >= 0) == (free & (folds.fold >= 0))).all()
    alone = ~rows.group.isin(rows.group[free]).to_numpy()               # groups of train-only rows alone
    assert (folds.fold[alone] == -1).all() and (folds.fold[~alone] >= 0).all()
    assert sorted(folds.fold[free].unique()) == list(range(n))
    report = leak_report(samples, folds)
    assert report.leaked[[o for o in ("group", "antibody", "twin") if o in report.index]].sum() == 0


@few
@given(tables(), st.integers(2, 4))
def test_folds_by_twin(samples, n):
    "Twins stay together, also through rows that need no fold; who has none is held out too, and counted as itself"
    folds = made(lambda t: grouped_folds(t, NAMES, n, by="twin"), samples)
    rows = labelled(samples)
    assert folds.id.tolist() == rows.id.tolist() and sorted(folds.fold.unique()) == list(range(n))
    fold = folds.set_index("id").fold
    ties = twin_ties(samples)[rows.index]
    assert (fold[rows.id].groupby(ties.to_numpy()).nunique() == 1).all()
    assert not len(cut_groups(samples, folds, by="twin"))
    assert leak_report(samples, folds, ["twin"]).get("leaked", pd.Series(0)).sum() == 0
    party = rows.id.groupby(ties.fillna(rows.id)).transform("min")
    assert grouped_folds(rows.assign(group=party), NAMES, n).equals(folds.drop(columns="unit"))


def test_folds_do_not_wrap_round():
    samples = pd.DataFrame(dict(id=range(400), labels=[["Nucleoli"]] * 400, group=[i // 2 for i in range(400)]))
    fold = grouped_folds(samples, n=127).fold
    assert (fold.min(), fold.max(), fold.nunique()) == (0, 126, 127)
    with pytest.raises(DataError, match="200 folds: folds are numbered 0 to 126"):
        grouped_folds(samples, n=200)
    with pytest.raises(DataError, match="group has 200 values"):
        leave_out(samples, "group")


def test_ids_of_folds_are_text(tmp_path):
    "Folds whose ids are numbers, in a table or in a file, fit samples whose ids are text; lost zeros are named"
    samples = tidy_samples(pd.DataFrame(dict(id=["7", "8", "9"], labels=[["Nucleoli"]] * 3)))
    numbers = pd.DataFrame(dict(id=[9., 8., 7.], fold=[0, 1, 1]))
    assert fold_rows(samples, numbers, 0)[1].tolist() == [2]
    for name in ("folds.parquet", "folds.csv"):
        path = tmp_path / name
        ints = numbers.astype(dict(id=int))
        ints.to_parquet(path) if name.endswith("parquet") else ints.to_csv(path, index=False)
        assert read_folds(path, samples, extra="drop").to_dict("list") == dict(id=["7", "8", "9"], fold=[1, 1, 0])
    with pytest.raises(DataError, match="7 for 007, 8 for 008, 9 for 009"):
        fold_rows(samples.assign(id=["007", "008", "009"]), numbers[::-1], 0)


@few
@given(tables(), st.floats(.1, .5), st.sampled_from([0, .2]), st.integers(0, 3), st.sampled_from([(), "hpav18"]))
def test_holdout(samples, share, thresh, seed, only):
    def make(t): return holdout(t, NAMES, share, thresh, seed, train_only=only)
    folds = made(make, samples)
    prove(samples, folds)
    same(samples, make, folds)
    assert set(folds.fold) == {0, -1} and ("thresh" in folds) == (thresh > 0)


@few
@given(tables(known=True), st.floats(.1, .9), st.sampled_from(["well", "id"]), st.integers(0, 3))
def test_closed_folds(samples, share, unit, seed):
    def make(t): return closed_folds(t, share, unit, seed=seed)
    folds = made(make, samples)
    same(samples, make, folds)
    check_folds(samples, folds, by=unit)
    assert not len(cut_groups(labelled(samples), folds, by="twin"))
    train, held = fold_rows(samples, folds, 0)
    assert len(held)
    assert set(samples.antibody[held]) <= set(samples.antibody[train])   # each antibody that is scored was trained on
    with pytest.raises(DataError, match="say by="):
        check_folds(samples, folds)


@few
@given(tables(known=True))
def test_leave_out_and_purge(samples):
    lines = made(leave_out, samples)
    prove(samples, lines, "cell_line")
    for k in sorted(lines.fold.unique()):
        strict = made(purge, samples, lines, k)
        assert strict.id.tolist() == lines.id.tolist()
        train, held = fold_rows(samples, strict, k)
        assert held.tolist() == fold_rows(samples, lines, k)[1].tolist()
        assert not set(samples.group[train]) & set(samples.group[held]) and not len(cut_groups(samples, strict))
        rest = labelled(samples).index.difference([*train, *held])
        assert set(samples.group[rest]) <= set(samples.group[held])     # only what had to go is unused


@few
@given(tables(), st.sampled_from([".csv", ".parquet"]), st.sampled_from([0, .2]))
def test_files(tmp_path_factory, samples, suffix, thresh):
    path = tmp_path_factory.getbasetemp() / f"folds{suffix}"
    aside = made(holdout, samples, NAMES, .4, thresh, train_only="hpav18")
    for folds in (aside, made(grouped_folds, samples, NAMES, 2, by="id")):
        pd.testing.assert_frame_equal(read_folds(save_folds(folds, path), samples), folds)
        shuffled = folds.sample(frac=1, random_state=0)
        pd.testing.assert_frame_equal(read_folds(save_folds(shuffled, path), samples), folds)


CHARACTERS = st.characters(exclude_categories=("C", "Z")) | st.sampled_from(', "\'#;')
HARD = ["NA", "nan", "null", "None", "1", "01", "1e3", "True", "-", " a", "a ", "a,b", '"a"']
IDS = st.text(CHARACTERS, min_size=1, max_size=6) | st.sampled_from(HARD)


@st.composite
def any_folds(draw):
    "Samples with ids that look like numbers, gaps or quotes, and folds for them with any of the columns they may have"
    ids = draw(st.lists(IDS, min_size=1, max_size=12, unique=True))
    row = st.tuples(st.integers(-1, 3) | st.sampled_from([126, -1]), st.sampled_from(["valid", "thresh", "unused"]))
    rows = draw(st.lists(row, min_size=len(ids), max_size=len(ids)))
    assume(any(k >= 0 and use == "valid" for k, use in rows))
    fold, uses = zip(*rows)
    valid, thresh = ([o == use for o in uses] for use in ("valid", "thresh"))
    columns = dict(fold=list(fold), valid=valid, thresh=thresh, unit=draw(IDS))
    if "unused" not in uses and draw(st.booleans()):
        del columns["valid"]                                           # without it whoever fits no thresholds is scored
    if not any(columns["thresh"]) and draw(st.booleans()):
        del columns["thresh"]
    if draw(st.booleans()):
        del columns["unit"]
    samples = pd.DataFrame(dict(id=ids, labels=[["Nucleoli"]] * len(ids)))
    return samples, pd.DataFrame(dict(id=ids, **columns)).sample(frac=1, random_state=draw(st.integers(0, 9)))


@settings(max_examples=80, deadline=None)
@given(any_folds(), st.sampled_from([".csv", ".parquet"]))
def test_any_folds_come_back_from_their_file(tmp_path_factory, both, suffix):
    "All that they say, in order of the samples; and what was read is written and read unchanged"
    samples, folds = both
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    back = read_folds(save_folds(folds, path), samples)
    said = folds.set_index("id").loc[samples.id]
    held = said.fold.to_numpy() >= 0
    thresh = said.get("thresh", pd.Series(False, said.index)).to_numpy()
    valid = said.get("valid", pd.Series(~thresh, said.index)).to_numpy()
    assert back.id.tolist() == samples.id.tolist() and back.fold.tolist() == said.fold.tolist()
    read = back.get("thresh", pd.Series(False, back.index)).to_numpy()
    assert (read == (held & thresh)).all()
    assert (back.get("valid", pd.Series(held)).to_numpy() == (held & valid)).all()
    unit = said.get("unit", pd.Series("group", said.index)).iloc[0]
    assert back.get("unit", pd.Series("group", back.index)).eq(unit).all()
    assert fold_numbers(back) == fold_numbers(folds) == sorted(set(said.fold[held & valid].tolist()))
    pd.testing.assert_frame_equal(read_folds(save_folds(back, path), samples), back)


@few
@given(tables(), st.integers(2, 4))
def test_fold_numbers_are_the_folds_that_can_be_held_out(samples, n):
    dealt = made(grouped_folds, samples, NAMES, n, train_only="hpav18")
    for folds in (dealt, made(holdout, samples, NAMES, .3, .2)):
        numbers = fold_numbers(folds)
        assert numbers == sorted(numbers) and all(type(k) is int for k in numbers)
        for k in range(-1, n + 1):
            if k in numbers:
                assert len(fold_rows(samples, folds, k)[1])
            else:
                with pytest.raises(DataError, match=f"fold {k} holds no valid rows out"):
                    fold_rows(samples, folds, k)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_folds_for_more_samples(tmp_path, suffix):
    "Refused by name, or left out and told; unlabelled rows and those of the test set are more, too"
    path = save_folds(GOOD, tmp_path / f"folds{suffix}")
    here = TABLE[2:].assign(is_test=[False, False, False, True])
    foreign = "not among the labelled samples"
    with pytest.raises(DataError, match=f"folds{suffix}: fold for 'a', 'b', 'f', {foreign}.*extra='drop'"):
        read_folds(path, here)
    with pytest.warns(UserWarning, match=f"folds{suffix}: folds for 3 ids left out, {foreign}: 'a', 'b', 'f'") as told:
        folds = read_folds(path, here, extra="drop")
    assert told[0].filename == __file__
    assert folds.id.tolist() == list("cde") and folds.fold.tolist() == [1, 1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_folds(path, TABLE, extra="drop").equals(read_folds(path, TABLE))
    with pytest.raises(DataError, match="labelled sample 'g' has no fold"):            # dropping never hides what lacks
        with pytest.warns(UserWarning, match="left out"):
            read_folds(path, here.assign(id=list("gdef")), extra="drop")
    GOOD.assign(id=[*"abcde", None]).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(DataError, match="1 rows of the folds have no id"):
        read_folds(tmp_path / "gap.csv", TABLE, extra="drop")
    with pytest.raises(DataError, match="no way with extra folds is called 'skip'"):
        read_folds(path, TABLE, extra="skip")


def test_folds_that_say_two_things_are_not_saved(tmp_path):
    with pytest.raises(DataError, match="'a' occurs more than once in the folds"):
        save_folds(pd.concat([GOOD, GOOD[:1]]), tmp_path / "folds.csv")
    assert not list(tmp_path.iterdir())


@few
@given(tables(), st.integers(0, 2**32 - 1), st.data())
def test_leak_report_of_any_folds(samples, seed, data):
    "Counted row by row, whatever the folds"
    rows = labelled(samples)
    assume(len(rows))
    fold = np.random.default_rng(seed).integers(-1, 3, len(rows))
    use = np.random.default_rng(seed + 1).integers(0, 3, len(rows))
    folds = pd.DataFrame(dict(id=rows.id.to_numpy(), fold=fold, valid=use == 0, thresh=use == 1))
    assume(((fold >= 0) & (use == 0)).any())
    held, group, leaked = (fold >= 0) & (use < 2), rows.group.to_numpy(), 0
    for i in np.flatnonzero(held):
        others = (group == group[i]) & ((fold != fold[i]) | (held & (use != use[i])))
        leaked += bool(others.any())
    assert leak_report(samples, folds, ["group"]).leaked["group"] == leaked
    assert (len(cut_groups(samples, folds)) > 0) == (leaked > 0)


@few
@given(tables(), st.sampled_from(SAMPLING_RULES))
def test_sampling_weights(samples, rule):
    rows = labelled(samples)
    assume(len(rows))
    weights = sampling_weights(rows, NAMES, rule)
    assert weights.index.tolist() == rows.id.tolist() and np.isfinite(weights).all() and (weights > 0).all()
    assert rule == 'balance' or (weights >= 1).all()
    shuffled = sampling_weights(rows[::-1], NAMES, rule)
    assert np.allclose(shuffled[weights.index], weights)


TABLE = tidy_samples(pd.DataFrame(dict(
    id=list("abcdef"), labels=[["Nucleoli"]] * 6, antibody=list("112233"), source=["kaggle"] * 4 + ["hpav18"] * 2,
)))
GOOD = pd.DataFrame(dict(id=list("abcdef"), fold=[0, 0, 1, 1, 2, 2]))


@pytest.mark.parametrize("folds,message", [
    (GOOD.drop(columns="fold"), "give `id` and `fold`"),
    (GOOD.assign(fold=[0, 0, 1, 1, 2, np.nan]), "whole numbers"),
    (GOOD.assign(fold=GOOD.fold + .5), "fold 0.5"),
    (GOOD.assign(fold=[*"00112", "x"]), "fold '0', '1', '2', 'x': folds are whole numbers"),
    (GOOD.assign(fold=[0, 0, 1, 1, -2, -2]), "fold -2"),
    (GOOD.assign(fold=[0, 0, 1, 1, 127, 127]), "fold 127"),
    (GOOD.assign(fold=-1), "no sample is ever validated"),
    (GOOD.assign(valid=False), "no sample is ever validated"),
    (GOOD.assign(valid=[True, True, None, True, True, True]), "column `valid` holds True, None"),
    (GOOD.assign(valid="yes"), "column `valid` holds 'yes'"),
    (GOOD.assign(thresh=2), "column `thresh` holds 2"),
    (GOOD.assign(valid=True, thresh=[True] + [False] * 5), "'a' is both scored and used"),
    (GOOD.assign(unit=["well"] * 5 + ["id"]), "column `unit` holds 'well', 'id'"),
    (GOOD.assign(unit=None), "column `unit` holds None"),
    (GOOD.assign(id=[*"abcde", None]), "1 rows of the folds have no id"),
    (GOOD.assign(id=list("abcdeg")), "labelled sample 'f' has no fold"),
    (pd.concat([GOOD, GOOD[:1].assign(id="g")]), "fold for 'g', not among"),
    (pd.concat([GOOD, GOOD[:1]]), "'a' occurs more than once"),
    (GOOD.assign(fold=[0, 1, 1, 1, 2, 2]), "1 groups are cut by these folds, for example '1' stands in folds .0, 1."),
    (GOOD.assign(fold=[0, 0, -1, 1, 2, 2]), "1 groups are cut by these folds, for example '2' stands in folds .-1, 1."),
    (GOOD[:0], "labelled sample 'a'.*and 1 more"),
])
def test_malformed_folds(folds, message, tmp_path):
    with pytest.raises(DataError, match=message):
        check_folds(TABLE, folds)
    if "cut" not in message:                                          # a file may cut groups: `leak_report` is for that
        folds.to_csv(tmp_path / "folds.csv", index=False)
        with pytest.raises(DataError, match="folds.csv: "):
            read_folds(tmp_path / "folds.csv", TABLE)


@pytest.mark.parametrize("samples,message", [
    (TABLE.drop(columns="group"), "no column 'group'"),
    (TABLE.drop(columns="labels"), "no column 'labels'"),
    (TABLE.assign(labels=None), "none of the 6 samples has labels"),
    (TABLE.assign(is_test=True), "none of the 6 samples has labels"),
    (TABLE.assign(id="a"), "occurs more than once in the samples table"),
    (TABLE.assign(group=[None, *"12233"]), "sample 'a' has no group"),
    (TABLE.assign(group="1"), "2 folds of 1 groups"),
])
def test_malformed_samples(samples, message):
    with pytest.raises(DataError, match=message):
        grouped_folds(samples, n=2)


def test_malformed_wishes(tmp_path):
    for n in (-1, 0, 1, 4):
        with pytest.raises(DataError, match="folds of 3 groups"):
            grouped_folds(TABLE, n=n)
    with pytest.raises(DataError, match="'hpa18', and the sources are 'kaggle', 'hpav18'"):
        grouped_folds(TABLE, n=2, train_only=["hpa18"])
    with pytest.raises(DataError, match="held='train'"):
        fold_rows(TABLE, GOOD, 0, "train")
    with pytest.raises(DataError, match="fold 5 holds no valid rows out"):
        fold_rows(TABLE, GOOD, 5)
    (tmp_path / "bytes.parquet").write_bytes(b"PAR0")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes.parquet", "bytes.csv", "none.csv", "folds.txt"):
        with pytest.raises(DataError, match=name):
            read_folds(tmp_path / name, TABLE)


def test_parquet_from_pandas(tmp_path):
    "Nullable types and categories, as other programs write them"
    path = tmp_path / "folds.parquet"
    GOOD.assign(fold=GOOD.fold.astype("Int64"), valid=pd.array([True] * 6, "boolean")).to_parquet(path)
    assert read_folds(path, TABLE).fold.tolist() == GOOD.fold.tolist()


def real_table(path, source):
    table = pd.read_csv(path, dtype=str)
    labels = [HPA28.parse(o) for o in table.Target]
    samples = pd.DataFrame(dict(id=table.Id, labels=labels, source=source, cell_line=table.get("CellLine")))
    return samples.join(hpa_identity(table.Id))


@pytest.fixture(scope="session")
def hpav18(real):
    return tidy_samples(real_table(real / "tables" / "hpav18.csv.gz", "hpav18"))


@pytest.fixture(scope="session")
def both(real, hpav18):
    "Kaggle and HPAv18 with the published list of equal pictures as twins"
    kaggle = real_table(real / "tables" / "kaggle_train.csv.gz", "kaggle")
    samples = pd.concat([kaggle, hpav18.drop(columns="group")], ignore_index=True)
    pairs = [o.split(",") for o in (real / "tables" / "duplicates_hpav18_kaggle_train.txt").read_text().split()]
    twins = {other: last for *others, last in pairs for other in others}
    return tidy_samples(samples.assign(twin=samples.id.map(twins)))


@pytest.mark.parametrize("n", [5, 10])
def test_real_folds(hpav18, n):
    "The bound for every class, seed and fold: 5 % of the even share or one group's images"
    for seed in range(3):
        begun = time.perf_counter()
        folds = check_folds(hpav18, grouped_folds(hpav18, n=n, seed=seed))
        assert time.perf_counter() - begun < 10
        balance = fold_balance(hpav18, folds)
        assert (balance.worst <= balance.allowed).all()
        assert leak_report(hpav18, folds).leaked.sum() == 0


def test_real_image_level_folds(hpav18):
    "Folds of images, as published solutions have them"
    fold = np.zeros(len(hpav18), int)
    split = MultilabelStratifiedKFold(5, shuffle=True, random_state=0).split(hpav18, HPA28.multi_hot(hpav18.labels))
    for k, (_, held) in enumerate(split):
        fold[held] = k
    report = leak_report(hpav18, pd.DataFrame(dict(id=hpav18.id, fold=fold)))
    assert report.share["antibody"] > .99 and report.share["well"] > .7
    leaked = f"{report.share['antibody']:.1%}"
    assert report.verdict["antibody"] == f"{leaked} of the validation rows have their antibody in training"


def test_real_sources(both):
    "HPAv18 in training only: what is scored is Kaggle's, evenly, and no twin, well or antibody is on both sides"
    folds = check_folds(both, grouped_folds(both, train_only="hpav18"))
    report = leak_report(both, folds)
    assert report.index.tolist() == ["group", "antibody", "well", "twin"] and report.leaked.sum() == 0
    kaggle = both.source.eq("kaggle").to_numpy()
    assert folds.valid.equals(pd.Series(kaggle)) and (folds.fold[kaggle] >= 0).all()
    unused = folds[~kaggle & (folds.fold >= 0)]                  # HPAv18 rows of antibodies that a twin ties to Kaggle
    assert 4051 <= len(unused) < len(both) / 2
    balance = fold_balance(both, folds)
    assert (balance.worst <= balance.allowed).all()


def test_real_closed_and_left_out(hpav18):
    closed = closed_folds(hpav18)
    train, held = fold_rows(hpav18, closed, 0)
    several = hpav18.groupby("antibody").apply(lambda o: (o.plate + o.well).nunique()) > 1
    assert set(hpav18.antibody[held]) == set(several.index[several])
    assert set(several.index) == set(hpav18.antibody[train])
    report = leak_report(hpav18, check_folds(hpav18, closed, by="well"))
    assert report.leaked["well"] == 0 and report.share["antibody"] == 1
    assert "on purpose" in report.verdict["antibody"]
    lines = check_folds(hpav18, leave_out(hpav18), by="cell_line")
    assert lines.fold.nunique() == 27 and leak_report(hpav18, lines).share["antibody"] > .9
    names = sorted(set(hpav18.cell_line))
    for line, before, after in (("U-2 OS", 49888, 4317), ("HeLa", 73152, 70147)):
        k = names.index(line)
        strict = check_folds(hpav18, purge(hpav18, lines, k))
        train, held = fold_rows(hpav18, strict, k)
        assert set(hpav18.cell_line[held]) == {line} and len(train) == after
        assert len(fold_rows(hpav18, lines, k)[0]) == before
