"Properties of samples tables that no single example shows."
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.labels import HPA28, Vocab
from hpa_lib.data.samples import (
    as_text, check_samples, derive_groups, join_samples, kaggle_samples, load_samples, save_samples, tidy_samples,
    twin_ties,
)
from hpa_lib.data.sources import add_labels, csv_samples, table_samples, z2g_samples

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.text("abcXYZ019-._ ", min_size=1, max_size=8)
LABELS = st.lists(st.sampled_from(["Cytosol", "Nucleoli", "Rods & rings"]), unique=True)
IDENTITIES = st.tuples(st.sampled_from("AB") | st.none(), st.sampled_from("tuv") | st.none())


@FEW
@given(st.lists(IDENTITIES, min_size=1, max_size=12), st.randoms())
def test_groups(rows, rng):
    "Twins and pictures of one antibody always share a group, whatever the order of rows; asking again changes nothing"
    ids = [f"s{i}" for i in range(len(rows))]
    df = pd.DataFrame(dict(id=ids, antibody=[a for a, _ in rows], twin=[t for _, t in rows]))
    df["group"] = derive_groups(df)
    for c in ("antibody", "twin"):
        assert (df.dropna(subset=c).groupby(c).group.nunique() == 1).all()
    assert derive_groups(df) == df.group.tolist()
    order = list(range(len(df)))
    rng.shuffle(order)
    assert derive_groups(df.drop(columns="group").iloc[order]) == df.group.iloc[order].tolist()


@FEW
@given(st.dictionaries(NAMES, LABELS | st.none(), min_size=1, max_size=6))
def test_tables_survive_parquet(tmp_path, rows):
    "Ids, empty sets and unknown sets come back as they were"
    df = tidy_samples(pd.DataFrame(dict(id=list(rows), labels=list(rows.values()), green="x.png")))
    back = load_samples(save_samples(df, tmp_path / "t.parquet"))
    assert back.labels.tolist() == list(rows.values()) and back.id.tolist() == list(rows)
    pd.testing.assert_frame_equal(check_samples(back), df)


@FEW
@given(st.lists(st.integers(0, 2**50) | st.none(), min_size=1, max_size=9))
def test_a_number_is_one_name_however_it_is_kept(numbers):
    "Whole, with a point, of pandas' nullable type, or as text; what is missing stays missing"
    names = [None if o is None else str(o) for o in numbers]
    kept = [
        numbers, [o if o is None else float(o) for o in numbers], pd.Series(numbers, dtype="Int64"), pd.Series(numbers),
        names, pd.Series(names, dtype="category"), np.array(names, dtype=object),
    ]
    for values in kept:
        text = as_text(values)
        assert text.astype(object).where(text.notna(), None).tolist() == names
    written = [None if o is None else f"{o}.0" for o in names]
    text = as_text(written, "antibody")
    assert text.astype(object).where(text.notna(), None).tolist() == names


@FEW
@given(st.lists(st.sampled_from([7, 8, 10580, None]), min_size=1, max_size=8), st.integers(0, 8))
def test_sources_agree_on_an_antibody(antibodies, cut):
    "One column of numbers with gaps, one of text: the groups are those of a single table of text"
    ids = [f"s{k}" for k in range(len(antibodies))]
    text = [None if o is None else str(o) for o in antibodies]
    numbers = tidy_samples(pd.DataFrame(dict(id=ids[:cut], antibody=antibodies[:cut])))
    words = tidy_samples(pd.DataFrame(dict(id=ids[cut:], antibody=text[cut:])))
    both = join_samples(numbers, words)
    assert both.group.tolist() == [i if a is None else a for i, a in zip(ids, text)]


PARTNER = st.integers(0, 9) | st.none()


@FEW
@given(st.lists(PARTNER, min_size=2, max_size=10))
def test_a_twin_that_names_its_original_ties_both(partners):
    "As if the two shared a name; also where ids are numbers, and pandas puts a point behind them"
    n = len(partners)
    twin = [None if o is None else o % n for o in partners]
    party = list(range(n))
    for i, o in enumerate(twin):                                        # by hand: everybody of two parties in one
        if o is not None:
            party = [party[i] if p == party[o] else p for p in party]
    known = {i for i, o in enumerate(twin) if o is not None} | {o for o in twin if o is not None}
    ties = twin_ties(pd.DataFrame(dict(id=range(n), twin=twin)))
    assert [i for i in range(n) if pd.notna(ties[i])] == sorted(known)
    assert all((ties[i] == ties[j]) == (party[i] == party[j]) for i in known for j in known)
    groups = tidy_samples(pd.DataFrame(dict(id=range(n), twin=twin))).group
    assert all((groups[i] == groups[j]) == (party[i] == party[j]) for i in range(n) for j in range(n))


# Every reader of labels, by the cells of its table
def _pictures(folder, ids, channels=("red", "green", "blue", "yellow")):
    folder.mkdir(parents=True)
    for i in ids:
        for c in channels:
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / f"{i}{'_' + c if c else ''}.png")


def _kaggle(d, rows):
    _pictures(d / "k/train", [i for i, _ in rows])
    (d / "k/train.csv").write_text("Id,Target\n" + "".join(f"{i},{o}\n" for i, o in rows))
    return kaggle_samples(d / "k")


def _z2g(d, rows):
    _pictures(d / "z/train", [i for i, _ in rows], channels=[""])
    (d / "z/train.csv").write_text("Image,Label\n" + "".join(f"{i},{o}\n" for i, o in rows))
    return z2g_samples(d / "z")


def _labels(d, rows):
    (d / "t.csv").write_text("Id,Target\n" + "".join(f"{i},{o}\n" for i, o in rows))
    return table_samples(d / "t.csv")


def _references(d, rows):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(d / "x.png")
    (d / "r.csv").write_text("id,red,labels\n" + "".join(f"{i},x.png,{o}\n" for i, o in rows))
    return csv_samples(d / "r.csv", channels=["red"])


def _added(d, rows):
    (d / "t.csv").write_text("Id,Target\n" + "".join(f"{i},{o}\n" for i, o in rows))
    return add_labels(tidy_samples(pd.DataFrame(dict(id=[i for i, _ in rows], red="x.png"))), d / "t.csv")


READERS = dict(kaggle=_kaggle, z2g=_z2g, labels=_labels, references=_references, added=_added)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("cells,want,said", [
    (["0", "none", "unknown"], [1, 0, None], None),
    (["0", "", "none"], [1, 0, 0], "1 of 3 cells .* \\(b\\) and are read as none of the classes"),
    (["", "", ""], [None] * 3, "3 of 3 cells .* are read as unknown"),
])
def test_empty_labels_have_one_rule(reader, cells, want, said, tmp_path):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        table = READERS[reader](tmp_path, list(zip("abc", cells)))
    assert [None if o is None else len(o) for o in table.labels] == want
    assert len(heard) == (said is not None)
    assert not said or re.search(said, str(heard[0].message))


SIDE = {
    "zeros": ("Id,antibody\n1,77\n2,77\n", "ids with other zeros in front than the samples: 1 for 001, 2 for 002"),
    "nobody": ("Id,antibody\nx,77\n", "names none of the 2 samples, but 'x'"),
    "empty": ("Id,antibody\n", "names none of the 2 samples, but nobody"),
    "two answers": ("Id,antibody\n001,77\n001,78\n", "ids that occur twice: 001"),
}


@pytest.mark.parametrize("kind", SIDE)
def test_side_tables_that_do_not_fit(kind, tmp_path):
    text, why = SIDE[kind]
    _pictures(tmp_path / "k/train", ["001", "002"])
    (tmp_path / "k/train.csv").write_text("Id,Target\n001,0\n002,1\n")
    (tmp_path / "k/atlas.csv").write_text(text)
    with pytest.raises(DataError, match=why):
        kaggle_samples(tmp_path / "k")
    (tmp_path / "k/atlas.csv").write_text("Id,antibody\n002,77\n")
    with pytest.warns(UserWarning, match="says nothing of 1 of 2 samples: 001"):
        assert kaggle_samples(tmp_path / "k").group.tolist() == ["001", "77"]
    (tmp_path / "k/groups.csv").write_text("Id,group\n1,g\n2,g\n")
    with pytest.raises(DataError, match="groups.csv: ids with other zeros"):
        kaggle_samples(tmp_path / "k")


@FEW
@given(st.lists(st.lists(st.sampled_from(HPA28.names), unique=True), max_size=5), st.randoms())
def test_decode_takes_columns_by_name(sets, rng):
    "Any order of named columns gives the same sets; a probability is not decoded"
    hot = pd.DataFrame(HPA28.multi_hot(sets), columns=HPA28.names)
    names = list(HPA28.names)
    rng.shuffle(names)
    want = [sorted(o, key=HPA28.index) for o in sets]
    assert HPA28.decode(hot[names]) == HPA28.decode(hot.to_numpy()) == HPA28.decode(hot.astype(bool)) == want
    if sets:
        with pytest.raises(DataError, match="neither 0 nor 1"):
            HPA28.decode(hot * .7 + .1)
        with pytest.raises(DataError, match="differ in 'Cytosol'"):
            HPA28.decode(hot.drop(columns="Cytosol"))


def test_codes_are_no_names():
    for make in (lambda: Vocab("hpa28"), lambda: Vocab([0, 25]), lambda: Vocab([None]), lambda: Vocab(["a"], ["0"])):
        with pytest.raises(DataError):
            make()
    two = Vocab(["a", "b"])
    for wrong in ([[0, 1]], ["a"], [None]):
        with pytest.raises(DataError, match="sample 0"):
            two.only(wrong)
    with pytest.raises(DataError, match="array of numbers"):
        two.multi_hot(np.array([[0, 1], [1, 0]]))
    assert two.multi_hot([[1], ["a"], np.array(["b", "a"])]).tolist() == [[0, 1], [1, 0], [1, 1]]
