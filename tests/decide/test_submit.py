"Property tests of submissions: whatever carries ids is matched by them, and what cannot be told is refused."
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpa_lib.cli import submit, write_answer
from hpa_lib.core import DecisionError
from hpa_lib.data.labels import HPA28, Z2G10
from hpa_lib.data.probs import read_probs, write_probs
from hpa_lib.decide.decision import Decision
from hpa_lib.decide.submit import compare_submissions, read_submission, write_submission

IDS = st.lists(st.text("abc019", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)
SETS = st.lists(st.sampled_from(HPA28.names), max_size=4, unique=True)
SLOW_FOLDER = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW_FOLDER
@given(st.data(), IDS, st.sampled_from(["series", "mapping", "list", "tuple", "rows"]), st.booleans())
def test_every_id_gets_its_own_labels(tmp_path, data, ids, kind, with_sample):
    "Labels by id in any order, by place where they have no ids, by rows where both are columns of one table"
    labels = {o: data.draw(SETS) for o in ids}
    others = data.draw(st.permutations(ids))
    wanted = data.draw(st.permutations(ids))
    sample = None
    if with_sample:
        sample = tmp_path / "sample.csv"
        pd.DataFrame(dict(Id=wanted, Predicted="0")).to_csv(sample, index=False)
    table = pd.DataFrame(dict(id=ids, labels=pd.Series([labels[o] for o in ids], dtype=object)))
    table.index = np.arange(len(ids)) * 7 + 900000
    shuffled = table.labels.loc[data.draw(st.permutations(table.index.tolist()))]
    given_ids, given_labels = {
        "series": (ids, pd.Series([labels[o] for o in others], pd.Index(others, name="id"), dtype=object)),
        "mapping": (pd.Series(ids), {o: labels[o] for o in others}),
        "list": (pd.Index(ids), [labels[o] for o in ids]),
        "tuple": (tuple(ids), pd.Series([labels[o] for o in ids], dtype=object)),
        "rows": (table.id, shuffled),
    }[kind]
    path = write_submission(tmp_path / "s.csv", given_ids, given_labels, sample=sample)
    found = read_submission(path)
    assert {k: set(v) for k, v in found.items()} == {k: set(v) for k, v in labels.items()}
    assert found.index.tolist() == (list(wanted) if with_sample else ids)


@pytest.mark.parametrize("labels, said", [
    (pd.Series([["Cytosol"]] * 2, ["a", "b"]), "id 'c' is not among the labels"),
    (pd.Series([["Cytosol"]] * 4, list("abcd")), "labels of id 'd', which is not among the ids"),
    (pd.Series([["Cytosol"]] * 4, list("abca")), "id 'a' has labels more than once"),
    (pd.Series([["Cytosol"]] * 3, ["a", "b", None]), "labels: row 2 has no id"),
    (dict(a=[], b=[], x=[]), "id 'c' is not among the labels"),
    (pd.Series([["Cytosol"]] * 3, [5, 3, 4]), "id 'a', 'b', 'c' is not among the labels"),
    ([["Cytosol"]] * 2, "3 ids but 2 sets of labels"),
    (pd.DataFrame(np.eye(3, dtype=bool), columns=HPA28.names[:3]), r"labels are a table of shape \(3, 3\)"),
    (np.eye(3), r"labels are a table of shape \(3, 3\)"),
])
def test_labels_of_others_are_refused(tmp_path, labels, said):
    with pytest.raises(DecisionError, match=said):
        write_submission(tmp_path / "s.csv", list("abc"), labels)
    assert not (tmp_path / "s.csv").exists()


def test_ids_are_text(tmp_path):
    labels = pd.Series({"10580": ["Cytosol"], "7": []})
    for ids in ([7, 10580], [7., 10580.], ["7", "10580"], pd.Series([7, 10580], dtype="Int64")):
        assert write_submission(tmp_path / "s.csv", ids, labels).read_text() == "Id,Predicted\n7,\n10580,25\n"
    (tmp_path / "sample.csv").write_text("Id,Predicted\n007,0\n10580,0\n")
    with pytest.raises(DecisionError, match="id '007' of the sample submission is missing: a spreadsheet has taken zeros"):
        write_submission(tmp_path / "s.csv", [7, 10580], labels, sample=tmp_path / "sample.csv")


def test_text_is_read_as_one_set(tmp_path):
    "The text 25 is the code of cytosol, not the codes 2 and 5"
    labels = {"a": "25", "b": "2 5", "c": "Cytosol|Nucleoli", "d": ["25"], "e": "Golgi apparatus"}
    found = read_submission(write_submission(tmp_path / "s.csv", list("abcde"), labels))
    assert found.to_dict() == dict(a=["Cytosol"], b=[HPA28[2], HPA28[5]], c=["Nucleoli", "Cytosol"], d=["Cytosol"], e=["Golgi apparatus"])


def test_labels_are_sets(tmp_path):
    one = pd.Series(dict(x=["Cytosol", "Nucleoli"], y=["Nucleoplasm"]))
    other = dict(y=["Nucleoplasm"], x=["Nucleoli", "Cytosol"])
    assert not compare_submissions(one, other).changed.any()
    paths = [write_submission(tmp_path / f"{i}.csv", ["x", "y"], o) for i, o in enumerate((one, other))]
    assert paths[0].read_text() == paths[1].read_text()


def test_a_table_of_one_command_decides_alike_in_another(tmp_path):
    "Probabilities of single precision beside the thresholds: what `hpa predict` writes, `hpa submit` decides as the bundle did"
    rng = np.random.default_rng(0)
    thresholds = {o: float(t) for o, t in zip(Z2G10, rng.random(10))}
    t = np.array(list(thresholds.values()), "float32")
    steps = [t, np.nextafter(t, 1), np.nextafter(t, 0), np.round(t, 5), t + np.float32(2e-6), t - np.float32(4e-6)]
    probs = pd.DataFrame(np.concatenate([rng.permutation(steps) for _ in range(5)]), columns=Z2G10.names)
    probs.index = pd.Index([f"s{i}" for i in range(len(probs))], name="id")
    decision = Decision(thresholds=thresholds, fallbacks=[])
    labels = decision.decide(probs)
    assert (probs.round(5).astype(float) > list(thresholds.values())).to_numpy().sum() != labels.map(len).sum()

    # What the bundle answers, and tables of both kinds
    answer = probs.reset_index()
    answer.insert(1, "status", "ok")
    answer.insert(2, "error", None)
    answer.insert(3, "labels", labels.to_numpy())
    files = [write_answer(answer, Z2G10, tmp_path / "predictions.csv")]
    files += [write_probs(probs, tmp_path / f"probs.{o}") for o in ("csv", "parquet")]
    decision.save(tmp_path / "d.json")
    for file in files:
        pd.testing.assert_frame_equal(read_probs(file), probs.astype(float), check_exact=True)
        submit([str(file)], decision=str(tmp_path / "d.json"), vocab="z2g10", out=str(tmp_path / "s.csv"))
        found = read_submission(tmp_path / "s.csv", Z2G10)
        assert {k: set(v) for k, v in found.items()} == {k: set(v) for k, v in labels.items()}


def test_known_labels_of_no_sample_are_said(tmp_path, capsys):
    probs = pd.DataFrame(.9, pd.Index(["x", "y"], name="id"), Z2G10.names)
    file = write_probs(probs, tmp_path / "p.csv")
    decision = Decision(thresholds=dict.fromkeys(Z2G10, .5))
    how = dict(decision=str(decision.save(tmp_path / "d.json")), out=str(tmp_path / "s.csv"), vocab="z2g10")
    known = tmp_path / "known.csv"
    known.write_text("Id,Target\nx,3\nz,3\n")
    submit([str(file)], known=str(known), **how)
    assert "labels of 1 of 2 ids are of these samples" in capsys.readouterr().out
    assert read_submission(tmp_path / "s.csv", Z2G10)["x"] == ["Golgi apparatus"]
    known.write_text("Id,Target\nX,3\nz,3\n")
    with pytest.raises(ValueError, match="none of its 2 ids, such as 'X', is among the 2 samples, such as 'x'"):
        submit([str(file)], known=str(known), **how)
    with pytest.warns(UserWarning, match="none of the 1 known labels, such as that of 'z', is of these 2 samples"):
        decision.model_copy(update=dict(known=dict(z=["Cytosol"]))).decide(probs)
    submit([str(file)], **how | dict(vocab="hpa28"))
    assert "--vocab z2g10 writes its codes" in capsys.readouterr().out
