"Properties of samples tables that no single example shows."
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpa_lib.data.samples import check_samples, derive_groups, load_samples, save_samples, tidy_samples

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
