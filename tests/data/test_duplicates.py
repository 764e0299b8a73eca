"Duplicates: exactness against brute force, twins of larger atlases, real pictures and published lists."
import warnings
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.duplicates import (
    TWIN_RULES, add_twins, find_twins, hash_pictures, inherit_antibodies, label_conflicts, match_score,
    near_pairs, perceptual_hash, read_pairs, thumbnail, twin_table, unjudged,
)
from hpa_lib.data.folds import grouped_folds, leak_report
from hpa_lib.data.images import read_plane
from hpa_lib.data.samples import RGBY, kaggle_samples, read_samples, tidy_samples, twin_ties
from hpa_lib.synth.atlas import make_atlas, read_truth

FEW = settings(max_examples=60, deadline=None)
BITS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 3, 7, 2**64 - 1])


@FEW
@given(arrays(np.uint64, st.tuples(st.integers(0, 40), st.integers(1, 3)), elements=BITS), st.data())
def test_pairs_are_those_of_brute_force(hashes, data):
    "Whatever the hashes and radii, and with other hashes for the second row"
    n, k = hashes.shape
    radii = data.draw(st.lists(st.integers(0, 64), min_size=k, max_size=k))
    others = hashes[::-1].copy() if data.draw(st.booleans()) else hashes

    def near(a, b):
        return all((int(x) ^ int(y)).bit_count() <= r for x, y, r in zip(a, b, radii))
    found = [(i, j) for i in range(n) for j in range(i + 1, n) if near(hashes[i], others[j])]
    i, j = near_pairs(hashes, radii, others, workers=data.draw(st.integers(1, 2)))
    assert list(zip(i.tolist(), j.tolist())) == found


def test_pairs_across_blocks():
    "More rows than a tile holds"
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (9000, 2), dtype=np.uint64)
    hashes[[4095, 4096, 4097, 8999]] = hashes[[0, 63, 64, 5000]]
    i, j = near_pairs(hashes, [3, 3])
    assert list(zip(i.tolist(), j.tolist())) == [(0, 4095), (63, 4096), (64, 4097), (5000, 8999)]


def test_equal_hashes_end_in_an_error():
    "A hundred thousand pictures that hash alike"
    with pytest.raises(DataError, match="the commonest hash stands in 100,000"):
        near_pairs(np.ones((100_000, 3), np.uint64), [12] * 3, most=1_000_000)


@FEW
@given(arrays(np.uint8, st.tuples(st.integers(8, 50), st.integers(8, 50))))
def test_bits_are_those_of_imagehash(plane):
    thumb, bits = thumbnail(plane), perceptual_hash(thumbnail(plane))
    if np.ptp(plane) == 0:
        assert np.ptp(thumb) == 0
    if np.ptp(thumb) == 0:
        assert bits is None
    else:
        assert f"{bits:016x}" == str(imagehash.phash(Image.fromarray(plane)))


@FEW
@given(arrays(np.uint8, (2, 1, 2, 32, 32)), st.floats(0.5, 2), st.integers(-50, 50))
def test_score_is_symmetric_and_bounded(two, gain, lift):
    a, b = two.astype(float)
    assert np.allclose(match_score(a, b), match_score(b, a), atol=1e-3) and (abs(match_score(a, b)) <= 1).all()
    if (a.std((-1, -2)) > 20).all():
        assert np.allclose(match_score(a, a * gain + lift), 1, atol=1e-3)


ROW = st.integers(0, 11)
TWINS = st.lists(st.sampled_from(["x", "s0", None]), min_size=12, max_size=12)


@FEW
@given(st.integers(1, 12), st.lists(st.tuples(ROW, ROW), max_size=12), TWINS)
def test_twins_share_a_group_and_no_row_goes(n, ends, old):
    "Pairs and the ties that were there before; the order of pairs changes nothing"
    ids, antibodies = [f"s{i}" for i in range(n)], [str(i // 2) for i in range(n)]
    samples = tidy_samples(pd.DataFrame(dict(id=ids, antibody=antibodies, twin=old[:n])))
    pairs = pd.DataFrame([(f"s{a}", f"s{b}") for a, b in ends if a < n and b < n and a != b], columns=["id_a", "id_b"])
    done = add_twins(samples, pairs)
    assert done.id.tolist() == samples.id.tolist() and done.labels.tolist() == samples.labels.tolist()
    group = done.set_index("id").group
    assert (group[pairs.id_a].to_numpy() == group[pairs.id_b].to_numpy()).all()
    assert (samples.assign(after=done.group).groupby("group").after.nunique() == 1).all()
    pd.testing.assert_frame_equal(add_twins(samples, pairs[::-1].rename(columns=dict(id_a="id_b", id_b="id_a"))), done)
    pd.testing.assert_frame_equal(add_twins(done, pairs), done)


@FEW
@given(st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=10), st.data())
def test_antibodies_pass_to_all_that_are_tied(partners, data):
    "A sample that names its original is tied as if both shared a name"
    n = len(partners)
    ids = [f"s{i}" for i in range(n)]
    antibodies = data.draw(st.lists(st.sampled_from([7, 8, None]), min_size=n, max_size=n))
    twin = [None if o is None else ids[o % n] for o in partners]
    named = tidy_samples(pd.DataFrame(dict(id=ids, antibody=antibodies, twin=twin)))
    shared = tidy_samples(named.assign(twin=twin_ties(named)))
    a, b = inherit_antibodies(named), inherit_antibodies(shared)
    assert a.antibody.fillna("-").tolist() == b.antibody.fillna("-").tolist() and a.inherited.equals(b.inherited)
    assert len(twin_table(named)) == len(twin_table(shared))
    for _, party in b.groupby("twin"):
        said = set(named.antibody[party.index].dropna())
        assert len(said) != 1 or set(party.antibody) == said


LETTERS = st.characters(exclude_categories=("C", "Z")) | st.sampled_from(', "\'#;')
NAMES = st.sampled_from(["NA", "null", "1", "01", "id_a", " a", "a ", "a,b", '"a"', "a'"])
ODD = st.text(LETTERS, min_size=1, max_size=6).filter(str.strip) | NAMES
ODD_PAIRS = st.lists(st.tuples(ODD, ODD).filter(lambda o: o[0] != o[1]), max_size=8)


@settings(max_examples=150, deadline=None)
@given(ODD_PAIRS, st.permutations(["id_a", "id_b", "score", "source_a"]), st.sampled_from(["csv", "parquet"]))
def test_tables_of_pairs_come_back(tmp_path_factory, pairs, columns, kind):
    "Whatever the ids, the order of the columns and the columns beside them"
    path = tmp_path_factory.getbasetemp() / f"pairs.{kind}"
    table = pd.DataFrame(pairs, columns=["id_a", "id_b"], dtype=object).assign(score=.5, source_a="a,b")[columns]
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    back = read_pairs(path)
    assert list(back) == ["id_a", "id_b"] and back.to_numpy().tolist() == [list(o) for o in pairs]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_pairs_that_were_found_come_back(tmp_path, kind):
    "From the search to the file to the groups, also for ids with commas"
    samples = read_samples(make_atlas(tmp_path / "atlas", n=24, size=128, seed=1, twins=8, workers=1, cover=0))
    samples = tidy_samples(samples.assign(id='a, "' + samples.id, twin=None, group=None))
    pairs = find_twins(hash_pictures(samples, progress=False), progress=False)
    pairs.to_csv(tmp_path / "twins.csv", index=False) if kind == "csv" else pairs.to_parquet(tmp_path / "twins.parquet", index=False)
    back = read_pairs(tmp_path / f"twins.{kind}")
    assert len(pairs) >= 8 and back.to_numpy().tolist() == pairs[["id_a", "id_b"]].to_numpy().tolist()
    pd.testing.assert_frame_equal(add_twins(samples, back), add_twins(samples, pairs))


@pytest.mark.parametrize("text,why", [
    ("a,b\n\nc\n", "line 3 is 'c'; expected two ids"),
    ("a,b\n,\n", "line 2 is '', ''"),
    ("id_a;id_b\na;b\n", "line 1 is 'id_a;id_b'"),
    ("id_a\na\n", "line 1 names the columns 'id_a'; a table of pairs has id_a and id_b, each once"),
    ("id_a,twin\na,b\n", "line 1 names the columns 'id_a', 'twin'"),
    ("id_a,id_b,id_a\na,b,c\n", "line 1 names the columns"),
    ("id_a,id_b\na,b\n\nc,d,e\n", "line 4 has 3 cells, and line 1 has 2"),
    ("id_a,id_b\na,b\nc,\n", "line 3 is 'c', ''"),
    ("id_a,id_b\na,a\n", "line 2 is 'a', 'a'"),
    ('id_a,id_b\n"a,b\n', "cannot be read as text"),
    ("", "is empty; where there are no pairs, write the header id_a,id_b"),
])
def test_files_that_hold_no_pairs_are_named_with_their_line(tmp_path, text, why):
    (tmp_path / "twins.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as e:
        read_pairs(tmp_path / "twins.csv")
    assert str(e.value).startswith(f"{tmp_path / 'twins.csv'}: ") and why in str(e.value)


@pytest.mark.parametrize("numbers", [dict(id_a=[1, 2], id_b=[30, 4]), dict(id_a=[1., 2.], id_b=["30", "4"])])
def test_numbers_are_ids_in_parquet_as_in_csv(tmp_path, numbers):
    pd.DataFrame(numbers).to_parquet(tmp_path/"twins.parquet")
    (tmp_path/"twins.csv").write_text("id_a,id_b\n1,30\n2,4\n")
    assert read_pairs(tmp_path/"twins.parquet").equals(read_pairs(tmp_path/"twins.csv"))


@pytest.mark.parametrize("table,why", [
    (pd.DataFrame(dict(id_a=["a"], b=["b"])), "names the columns 'id_a', 'b'"),
    (pd.DataFrame(dict(id_a=["a", "c"], id_b=["b", None])), "line 3 is 'c', "),
    (pd.DataFrame(dict(id_a=[1, 2], id_b=[3., None])), "line 3 is '2', "),
    (pd.DataFrame(dict(id_a=[1, 2], id_b=[3., 2.])), "line 3 is '2', '2'"),
    (pd.DataFrame(dict(id_a=[pd.Timestamp(0)], id_b=["a"])), "expected two ids or more, as text"),
])
def test_parquet_that_holds_no_pairs(tmp_path, table, why):
    table.to_parquet(tmp_path / "twins.parquet")
    with pytest.raises(DataError) as e:
        read_pairs(tmp_path / "twins.parquet")
    assert "twins.parquet: " in str(e.value) and why in str(e.value)
    (tmp_path / "text.parquet").write_text("id_a,id_b\na,b\n")
    with pytest.raises(DataError, match="text.parquet: cannot be read as Parquet"):
        read_pairs(tmp_path / "text.parquet")


def with_jpegs(folder: Path, seed: int, n: int, twins: int):
    "An atlas whose twins are shifted, brightened and re-encoded; nobody tells of them"
    how = dict(n=n, size=256, seed=seed, twins=twins, twin_shift=.04, twin_gain=1.25)
    samples = read_samples(make_atlas(folder / "atlas", workers=1, **how))
    planted = read_truth(folder / "atlas").twins
    for row in samples.index[samples.id.isin(planted.Id)]:
        for c in RGBY:
            path = Path(samples.loc[row, c])
            Image.open(path).save(path.with_suffix(".jpg"), quality=85)
            samples.loc[row, c] = str(path.with_suffix(".jpg"))
    unknown = tidy_samples(samples.assign(twin=None, group=None))
    return unknown, {frozenset(o) for o in planted[["Id", "twin_of"]].to_numpy()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_planted_twins_are_found(tmp_path, seed):
    "Recall and precision of the default, and that the plain rule does not reach them"
    samples, planted = with_jpegs(tmp_path, seed, 160, 120)
    hashes = hash_pictures(samples, progress=False)
    pairs = find_twins(hashes)
    hit = sum(frozenset(o) in planted for o in pairs[["id_a", "id_b"]].to_numpy())
    print(f"seed {seed}: recall {hit / len(planted):.4f}, precision {hit / len(pairs):.4f}")
    assert hit / len(planted) >= .99 and hit / len(pairs) >= .99
    plain = find_twins(hashes, "bestfitting")
    assert len(plain) < .95 * len(planted) and {frozenset(o) for o in plain[["id_a", "id_b"]].to_numpy()} <= planted
    tied = add_twins(samples, pairs)
    assert tied.id.tolist() == samples.id.tolist()
    assert leak_report(tied, grouped_folds(tied)).leaked.eq(0).all()


def test_black_pictures_match_nothing(tmp_path):
    "They keep their rows, are told, and are no twins of each other"
    for i in range(3):
        for c in RGBY:
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / f"s{i}_{c}.png")
    Image.fromarray(np.arange(1024, dtype=np.uint16).astype(np.uint8).reshape(32, 32)).save(tmp_path / "s0_red.png")
    hashes = hash_pictures(read_samples(tmp_path), progress=False)
    assert len(hashes) == 3 and (hashes.status == "ok").all() and hashes.green.isna().all()
    for rule in ("verified", "bestfitting", {"green": 64}):
        for dihedral in (False, True):
            with pytest.warns(UserWarning, match="3 of 3 samples cannot be judged"):
                assert len(find_twins(hashes, rule, dihedral)) == 0
    assert unjudged(hashes, {"red": 5}).id.tolist() == ["s1", "s2"]


def test_real_bits(real):
    "imagehash itself on real PNG and JPEG, whole or by plane"
    for path in sorted((real / "formats").glob("000a6c98*.png")) + sorted((real / "fields512/train").glob("*.png")):
        plane = read_plane(path, path.stem.rpartition("_")[2])
        assert f"{perceptual_hash(thumbnail(plane)):016x}" == str(imagehash.phash(Image.fromarray(plane)))
        with Image.open(path) as im:
            if im.mode == "L":
                assert f"{perceptual_hash(thumbnail(plane)):016x}" == str(imagehash.phash(im))


def test_real_pictures_have_no_twins(real):
    "Ten fields and 85 mosaics: nothing is near; 467 different cells: only the rules without a second look are taken in"
    found = {}
    for name in ("fields512", "mosaics512", "cells256"):
        hashes = hash_pictures(kaggle_samples(real / name), (*RGBY, "luma"), progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found[name] = {rule: len(find_twins(hashes, rule)) for rule in TWIN_RULES}
        again = pd.concat([hashes, hashes.assign(id=hashes.id + " again")], ignore_index=True)
        assert (find_twins(again).pipe(lambda d: d.id_b == d.id_a + " again")).sum() == len(hashes)
    print(found)
    assert not any(found["fields512"].values()) and not any(found["mosaics512"].values())
    assert found["cells256"] == dict(verified=0, bestfitting=0, leak259=2, densenet121=1)


def test_real_field_moved_and_compressed(real, tmp_path):
    "Real fields issued again: 3 % of the side away, darker, JPEG 85"
    samples = kaggle_samples(real / "fields512")
    for row in samples.itertuples():
        for c in RGBY:
            plane = read_plane(getattr(row, c), c)[:, 15:]
            plane = np.pad(plane, ((0, 0), (0, 15)), mode="reflect")
            Image.fromarray((plane * .8).astype(np.uint8)).save(tmp_path / f"{row.id}x_{c}.jpg", quality=85)
    hashes = pd.concat([hash_pictures(o, progress=False) for o in (samples, read_samples(tmp_path))], ignore_index=True)
    pairs = find_twins(hashes)
    assert sorted(pairs.id_b) == sorted(samples.id + "x")
    assert (pairs.id_b == pairs.id_a + "x").all() and (pairs.source_a != pairs.source_b).all()
    print(pairs.score.describe())


def test_published_lists(real):
    "Twins of the contest and HPAv18: two of five pairs carry different labels"
    tables = real / "tables"
    pairs = read_pairs(tables / "duplicates_hpav18_kaggle_train.txt")
    both = {o: pd.read_csv(tables / f"{o}.csv.gz", dtype=str, keep_default_na=False) for o in ("hpav18", "kaggle_train")}
    every = pd.concat([d.assign(source=o, id=d.Id, labels=d.Target.str.split()) for o, d in both.items()], ignore_index=True)
    samples = tidy_samples(every[every.id.isin([*pairs.id_a, *pairs.id_b])])
    tied = add_twins(samples, pairs)
    assert tied.id.tolist() == samples.id.tolist() and tied.twin.notna().all()
    inside = twin_table(tied)
    across = inside[inside.source_a != inside.source_b]
    print(len(pairs), len(inside), len(across), across.agreement.value_counts().to_dict())
    assert len(across) == 4052
    assert across.agreement.value_counts().to_dict() == dict(equal=2447, overlapping=1526, disjoint=79)
    assert len(label_conflicts(tied)) == 1605
