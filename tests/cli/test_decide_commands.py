"Decisions on anybody's probabilities, by the commands alone."
import json

import numpy as np
import pandas as pd
import pytest
from commands import alone, hpa

from hpa_lib.data.labels import HPA28
from hpa_lib.decide.submit import read_submission

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "Two models' probabilities for 400 samples, one as Parquet and one as an array in another order; labels of 300; a sample submission"
    root, rng = tmp_path_factory.mktemp("decide"), np.random.default_rng(0)
    ids = [f"s{i:03}" for i in range(400)]
    share = np.geomspace(.4, .02, 28)
    targs = rng.random((400, 28)) < share
    def look(): return 1 / (1 + np.exp(-(4 * (targs - .5) + np.log(share / (1 - share)) + rng.normal(size=targs.shape))))
    pd.DataFrame(look(), columns=HPA28.names).assign(id=ids).to_parquet(root / "a.parquet")
    order = rng.permutation(400)
    np.save(root / "b.npy", look()[order].astype(np.float16))
    pd.DataFrame(dict(Id=np.array(ids)[order])).to_csv(root / "b_ids.csv", index=False)
    pd.DataFrame(dict(Id=ids[:300], Target=[HPA28.text(o) for o in HPA28.decode(targs[:300])])).to_csv(root / "train.csv", index=False)
    pd.DataFrame(dict(Id=ids[::-1], Predicted="0")).to_csv(root / "sample.csv", index=False)
    return root


def test_decide_and_submit(files):
    text = hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--fallbacks", ".2,argmax", "--cap", 5, "--calibrate", "platt", "--out", files / "d.json")
    assert "300 samples with known labels" in text and "nested" in text and "95 % interval" in text
    facts = json.loads((files / "d.json").read_text())
    assert facts["fallbacks"] == [.2, "argmax"] and facts["cap"] == 5 and facts["calibration"]["method"] == "platt" and facts["scores"]["nested"] > .4
    text = alone("submit", files / "a.parquet", "--decision", files / "d.json", "--sample", files / "sample.csv", "--out", files / "sub.csv")
    assert "400 rows" in text
    labels = read_submission(files / "sub.csv")
    assert labels.index.tolist() == pd.read_csv(files / "sample.csv").Id.tolist() and labels.map(len).between(1, 5).all()


def test_a_decision_moves_to_the_ratios_of_the_rows(files):
    "Two thirds of the rows without the most frequent class are taken out: it is seen, and fewer rows lack it"
    table = pd.read_parquet(files / "a.parquet").set_index("id")
    often = table.columns[0]
    some = table[(table[often] > .5) | (np.arange(len(table)) % 3 == 0)]
    some.reset_index().to_parquet(files / "some.parquet")
    hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--calibrate", "offset", "--out", files / "off.json")
    text = hpa("submit", files / "some.parquet", "--decision", files / "off.json", "--shift", "--out", files / "moved.csv")
    moved, plain = (json.loads((files / o).read_text()) for o in ("moved.decision.json", "off.json"))
    old, new = moved["prior"][often]
    assert f"{new:.3f}" in text and new > 1.2 * old and not moved["scores"] and not plain["prior"] and moved["calibration"] == plain["calibration"]
    assert len(read_submission(files / "moved.csv")) == len(some)
    hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--out", files / "bare.json")
    text = hpa("submit", files / "some.parquet", "--decision", files / "bare.json", "--shift", "--out", files / "no.csv", status=2)
    assert "bare.json" in text and "hpa decide --calibrate offset" in text
    assert not (files / "no.csv").exists()


def test_rates_are_met_on_the_rows_that_are_handed_in(files):
    "Rows of which the most frequent class is taken out: so many are called all the same, and the most probable class of each is on"
    table = pd.read_parquet(files / "a.parquet").set_index("id")
    few = table[table.iloc[:, 0] < .5]
    few.reset_index().to_parquet(files / "few.parquet")
    hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--rule", "ratio", "--ratio-on", "decided", "--out", files / "rates.json")
    text = hpa("submit", files / "few.parquet", "--decision", files / "rates.json", "--out", files / "met.csv")
    wanted, used = (json.loads((files / o).read_text()) for o in ("rates.json", "met.decision.json"))
    assert "met.decision.json: thresholds meet its rates on these samples" in text and used["rates"] == wanted["rates"] and used["thresholds"] != wanted["thresholds"]
    called = pd.DataFrame(HPA28.multi_hot(read_submission(files / "met.csv").loc[few.index]), few.index, HPA28.names)
    most = few.idxmax(axis=1).value_counts().reindex(HPA28.names, fill_value=0)
    assert all(abs(called[o].sum() - max(wanted["rates"][o] * len(few), most[o])) <= 1 for o in HPA28.names)
    assert all(called.at[i, o] for i, o in few.idxmax(axis=1).items())
    text = hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--rule", "ratio", "--ratio-on", "test", "--out", files / "no.json", status=2)
    assert "ratio_on 'test'" in text


def test_blend_matches_rows_by_id(files):
    hpa("blend", files / "a.parquet", files / "b.npy", "--ids", files / "b_ids.csv", "--weights", "a=1,b=3", "--out", files / "ab.csv")
    ab, a = (o.set_index("id") for o in (pd.read_csv(files / "ab.csv"), pd.read_parquet(files / "a.parquet")))
    b = pd.DataFrame(np.load(files / "b.npy").astype(float), columns=HPA28.names, index=pd.read_csv(files / "b_ids.csv").Id)
    assert np.allclose(ab.loc["s007"], .25 * a.loc["s007"] + .75 * b.loc["s007"], atol=1e-6)
    text = hpa("decide", files / "a.parquet", files / "b.npy", "--ids", files / "b_ids.csv", "--labels", files / "train.csv", "--out", files / "two.json")
    two = json.loads((files / "two.json").read_text())
    assert set(two["blend"]["weights"]) == {"a", "b"} and "nested" in text
    text = hpa("submit", files / "b.npy", files / "a.parquet", "--ids", files / "b_ids.csv", "--decision", files / "two.json", "--sample", files / "sample.csv",
               "--out", files / "two.csv", "--compare", files / "sub.csv")
    assert "changed" in text


def test_a_blend_of_ranks_decides_one_row_as_among_all(files):
    "Four hundred rows at once, then three: the ranks are among the rows of the fit"
    two = (files / "a.parquet", files / "b.npy", "--ids", files / "b_ids.csv")
    hpa("decide", *two, "--labels", files / "train.csv", "--blend", "rank", "--out", files / "rank.json")
    hpa("submit", *two, "--decision", files / "rank.json", "--out", files / "all.csv")
    a = pd.read_parquet(files / "a.parquet").set_index("id")
    b = pd.DataFrame(np.load(files / "b.npy").astype(float), columns=HPA28.names, index=pd.read_csv(files / "b_ids.csv").Id)
    few = ["s350", "s007", "s123"]
    (files / "few").mkdir()
    a.loc[few].reset_index().to_parquet(files / "few" / "a.parquet")
    b.loc[few[::-1]].rename_axis("id").reset_index().to_csv(files / "few" / "b.csv", index=False)
    hpa("submit", files / "few" / "b.csv", files / "few" / "a.parquet", "--decision", files / "rank.json", "--out", files / "few.csv")
    assert read_submission(files / "few.csv").to_dict() == read_submission(files / "all.csv")[few].to_dict()


def test_a_table_decides_alike_as_parquet_and_as_csv(files):
    "Every threshold is a probability of the table, in single precision: not one digit may be lost"
    table = pd.read_parquet(files / "a.parquet").set_index("id").astype("float32")
    hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--out", files / "near.json")
    facts = json.loads((files / "near.json").read_text())
    facts["thresholds"] = {o: float(np.sort(table[o])[-5]) for o in table}
    (files / "near.json").write_text(json.dumps(facts))
    table.reset_index().to_parquet(files / "single.parquet")
    hpa("blend", files / "single.parquet", files / "single.parquet", "--out", files / "no.csv", status=2)      # one name
    table.reset_index().to_parquet(files / "same.parquet")
    hpa("blend", files / "single.parquet", files / "same.parquet", "--how", "max", "--out", files / "single.csv")
    for o in ("parquet", "csv"):
        hpa("submit", files / f"single.{o}", "--decision", files / "near.json", "--out", files / f"from_{o}.csv")
    assert (files / "from_csv.csv").read_text().splitlines()[1:] != []
    one, other = (read_submission(files / f"from_{o}.csv") for o in ("parquet", "csv"))
    assert one.to_dict() == other.to_dict()


def test_known_labels_name_samples(files):
    hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--out", files / "plain.json")
    (files / "known.csv").write_text("Id,Target\ns399,3\nzzz,3\n")
    text = hpa("submit", files / "a.parquet", "--decision", files / "plain.json", "--known", files / "known.csv", "--out", files / "k.csv")
    assert "labels of 1 of 2 ids are of these samples" in text and read_submission(files / "k.csv")["s399"] == [HPA28[3]]
    (files / "known.csv").write_text("Id,Target\nzzz,3\n")
    text = hpa("submit", files / "a.parquet", "--decision", files / "plain.json", "--known", files / "known.csv", "--out", files / "no.csv", status=2)
    assert "none of its 1 ids, such as 'zzz', is among the 400 samples" in text and not (files / "no.csv").exists()


def test_mistakes_are_named(files):
    assert "--labels" in hpa("decide", files / "a.parquet", status=2)
    assert "ids" in hpa("decide", files / "b.npy", "--labels", files / "train.csv", status=2)
    assert "no rule is called 'best': choose one of fixed, single, exact" in hpa("decide", files / "a.parquet", "--labels", files / "train.csv", "--rule", "best", "--out", files / "x.json", status=2)
    assert "two tables or more" in hpa("blend", files / "a.parquet", status=2)
    assert "--decision" in hpa("submit", files / "a.parquet", status=2)
    (files / "other.csv").write_text("Id,Target\nzzz,0\n")
    assert "none of its 400 ids" in hpa("decide", files / "a.parquet", "--labels", files / "other.csv", status=2)
    assert not (files / "x.json").exists()
