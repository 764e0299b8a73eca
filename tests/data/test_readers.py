"Every reader of a table keeps the same rules: empty labels, rows to be predicted, zeros that a spreadsheet lost, who a sample is."
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.reading import Reading
from hpa_lib.data.samples import RGBY, folder_samples, kaggle_samples
from hpa_lib.data.sources import add_groups, add_labels, csv_samples, hpav18_samples, open_samples, pattern_samples, table_samples

IDS = ["10580_1610_C1_1", "10580_1610_C1_2", "800_12_A6_1", "9_7_D4_1"]
NUMBERS = ["001", "002", "010", "7"]
BARE = ["1", "2", "10", "7"]


def draw(folder: Path, ids, name="{id}_{c}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for id in ids:
        for c in RGBY: Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder/name.format(id=id, c=c))
    return folder


def kaggle(d, table, ids):
    draw(d/"train", ids)
    table.to_csv(d/"train.csv", index=False)
    return kaggle_samples(d)


def public(d, table, ids):
    draw(d/"hpa", ids, "{id}_{c}.jpg")
    table.assign(CellLine="HeLa").to_csv(d/"t.csv", index=False)
    return hpav18_samples(d/"t.csv", d/"hpa")


def references(d, table, ids):
    draw(d/"pictures", ids)
    named = {c: [f"pictures/{o}_{c}.png" for o in ids] for c in RGBY}
    table.rename(columns=dict(Id="id", Target="labels")).assign(**named).to_csv(d/"refs.csv", index=False)
    return csv_samples(d/"refs.csv")


def labels_alone(d, table, ids):
    table.to_csv(d/"t.csv", index=False)
    return table_samples(d/"t.csv")


def folder_and_labels(d, table, ids):
    table.to_csv(d/"t.csv", index=False)
    return add_labels(folder_samples(draw(d/"pictures", ids)), d/"t.csv")


def pattern_and_labels(d, table, ids):
    table.to_csv(d/"t.csv", index=False)
    return add_labels(pattern_samples(draw(d/"pictures", ids, "{id}-{c}.png"), "{id}-{channel}.png"), d/"t.csv")


def any_source(d, table, ids):
    table.to_csv(d/"t.csv", index=False)
    return open_samples(draw(d/"pictures", ids), Reading(table=d/"t.csv"))


READERS = [kaggle, public, references, labels_alone, folder_and_labels, pattern_and_labels, any_source]
every_reader = pytest.mark.parametrize("read", READERS, ids=lambda o: o.__name__)


def rows(ids=IDS, target=("0", "25", "none", "0 25"), **more): return pd.DataFrame(dict(Id=ids, Target=target, **more))


def heard(read, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read(*args)
    return table.set_index("id").loc[[str(o) for o in args[2]]], [str(o.message) for o in caught]


@every_reader
def test_an_empty_cell_is_none_of_the_classes_and_is_counted(read, tmp_path):
    table, said = heard(read, tmp_path, rows(target=["25", "", "none", "unknown"]), IDS)
    assert table.labels.tolist() == [["Cytosol"], [], [], None]
    assert len(said) == 1 and "1 of 4 cells" in said[0] and IDS[1] in said[0] and "none of the classes" in said[0]


@every_reader
def test_where_every_cell_is_empty_all_are_unknown(read, tmp_path):
    table, said = heard(read, tmp_path, rows(target=[""]*4), IDS)
    assert table.labels.tolist() == [None]*4 and "unknown, for no row has labels" in said[0]


@every_reader
def test_an_empty_cell_of_a_row_to_be_predicted_is_unknown(read, tmp_path):
    table, said = heard(read, tmp_path, rows(target=["25", "0", "", ""], is_test=["no", "False", "", "yes"]), IDS)
    assert table.labels.tolist() == [["Cytosol"], ["Nucleoplasm"], [], None] and table.is_test.tolist() == [False]*3 + [True]
    assert len(said) == 1 and "1 of 3 cells" in said[0]
    with pytest.raises(DataError, match="is_test that is neither true nor false"):
        read(tmp_path, rows(is_test=["perhaps"]*4), IDS)


@every_reader
def test_the_ids_of_the_atlas_tell_who_a_sample_is(read, tmp_path):
    table, said = heard(read, tmp_path, rows(), IDS)
    assert table.antibody.tolist() == ["10580", "10580", "800", "9"] and table.group.tolist() == table.antibody.tolist()
    assert table.well.tolist() == ["C1", "C1", "A6", "D4"] and not said


@every_reader
def test_a_table_that_contradicts_the_names_is_believed_and_counted(read, tmp_path):
    table, said = heard(read, tmp_path, rows(antibody=["10580.0", "77", "800", ""]), IDS)
    assert table.antibody.tolist() == ["10580", "77", "800", "9"]
    assert len(said) == 1 and "antibody of 1 of 4 samples" in said[0] and f"{IDS[1]}: 77, not 10580" in said[0]


@pytest.mark.parametrize("read", [kaggle, folder_and_labels, pattern_and_labels, any_source], ids=lambda o: o.__name__)
def test_zeros_that_a_spreadsheet_lost_are_named(read, tmp_path):
    with pytest.raises(DataError, match="1 for 001, 2 for 002"): read(tmp_path, rows(ids=BARE), NUMBERS)


@every_reader
def test_twins_without_their_zeros_are_named(read, tmp_path):
    ids = IDS if read is public else NUMBERS
    twin = ["", "", "", IDS[0]] if read is public else ["", "", "", "1"]
    table, said = heard(read, tmp_path, rows(ids=ids, twin=twin), ids)
    if read is public: assert table.group.iloc[3] == table.group.iloc[0] and not said
    else: assert table.group.iloc[3] == "7" and "twins: ids with other zeros in front than the samples: 1 for 001" in said[0]


@pytest.mark.parametrize("read", [o for o in READERS if o is not references], ids=lambda o: o.__name__)
def test_rows_may_stand_in_any_order(read, tmp_path):
    columns = ["labels", "antibody", "plate", "well", "field", "group", "is_test"]
    def read_in(folder, table):
        folder.mkdir()
        return read(folder, table, IDS).set_index("id")[columns].loc[IDS]
    pd.testing.assert_frame_equal(read_in(tmp_path/"a", rows()), read_in(tmp_path/"b", rows()[::-1]))


def test_side_tables_that_know_only_some_of_the_test_rows_say_so(tmp_path):
    draw(tmp_path/"test", IDS)
    pd.DataFrame(dict(Id=IDS[:3], group=list("aab"))).to_csv(tmp_path/"groups.csv", index=False)
    table, said = heard(lambda *_: kaggle_samples(tmp_path, "test"), 0, 0, IDS)
    assert table.group.tolist() == ["a", "a", "b", "9"]
    assert any("gives no group to 1 of 4 test samples: 9_7_D4_1; theirs are derived" in o for o in said)
    table, said = heard(lambda *_: add_groups(kaggle_samples(tmp_path, "test", groups=False), tmp_path/"groups.csv"), 0, 0, IDS)
    assert any("gives no group to 1 of 4 test samples" in o for o in said)
    # The training rows' groups, which know none of these, are not meant for them
    pd.DataFrame(dict(Id=["x"], group=["a"])).to_csv(tmp_path/"groups.csv", index=False)
    assert not heard(lambda *_: kaggle_samples(tmp_path, "test"), 0, 0, IDS)[1]
