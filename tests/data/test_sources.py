"Real tables and real formats: counts as published, and the same bytes whatever the container."

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.duplicates import add_twins, inherit_antibodies, label_conflicts, leak_list, read_pairs
from hpa_lib.data.images import pixel_size, read_plane, read_sample
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import RGBY, folder_samples, join_samples, kaggle_samples
from hpa_lib.data.sources import csv_samples, hpav18_samples, pattern_samples, table_samples
from hpa_lib.data.store import pack

KAGGLE_COUNTS = [
    12885, 1254, 3621, 1561, 1858, 2513, 1008, 2822, 53, 45, 28, 1093, 688, 537,
    1066, 21, 530, 210, 902, 1482, 172, 3777, 802, 2965, 322, 8228, 328, 11,
]


@pytest.fixture(scope="module")
def tables(real):
    "Kaggle's training and test rows, and those of the public atlas"
    t = real / "tables"
    train = table_samples(t / "kaggle_train.csv.gz", source="kaggle")
    sample = t / "kaggle_sample_submission.csv.gz"
    test = table_samples(sample, columns=("Id", "Predicted"), is_test=True, source="kaggle_test")
    hpa = table_samples(t / "hpav18.csv.gz", cell_line="CellLine", source="hpav18")
    return train, test, hpa


def test_tables_hold_what_was_published(tables):
    train, test, hpa = tables
    assert (len(train), len(test), len(hpa), hpa.antibody.nunique()) == (31072, 11702, 74606, 12815)
    assert list(HPA28.counts(train.labels)) == KAGGLE_COUNTS
    assert test.labels.isna().all() and test.is_test.all() and train.labels.notna().all()
    assert hpa[["antibody", "plate", "well", "field", "cell_line"]].notna().all(axis=None)


@pytest.mark.slow
def test_twins_hand_on_antibodies_and_no_labels(real, tables):
    joined = join_samples(*tables)
    names = ("hpav18_kaggle_train", "hpav18_kaggle_test", "kaggle_train", "kaggle_test")
    tied = add_twins(joined, pd.concat([read_pairs(real / f"tables/duplicates_{n}.txt") for n in names]))
    out = inherit_antibodies(tied)
    assert len(out) == len(joined) == 117380 and out.id.tolist() == joined.id.tolist()
    assert out.groupby("source").inherited.sum().to_dict() == {"hpav18": 0, "kaggle": 4051, "kaggle_test": 143}
    assert [a == b for a, b in zip(out.labels, joined.labels)] == [True] * len(out)
    assert out.group[out.twin.notna()].groupby(out.twin).nunique().max() == 1
    conflicts = label_conflicts(out)
    across = conflicts[conflicts.source_a != conflicts.source_b]
    assert (len(across), (across.agreement == "disjoint").sum()) == (1605, 79)      # listed, and nothing is resolved
    assert leak_list(out).test_id.nunique() >= 143
    antibody = out[out.antibody.notna()].groupby("antibody").group.nunique()
    assert antibody.max() == 1                                          # an antibody is never parted


def test_full_size_formats_are_the_same_bytes(real, tmp_path):
    "One 2048 px field as PNG, and as TIFFs of 8, 12 and 16 bits, packed and bare, one file a channel and one for all"
    formats = real / "formats"
    kaggle = folder_samples(formats, extra="allow", missing="allow")
    row = kaggle[kaggle.id.str.startswith("000a6c98")].iloc[0]
    x = read_sample(row)
    assert x.shape == (4, 2048, 2048)
    for c, p in zip(RGBY, x):
        Image.fromarray(p.astype(np.uint16) << 8 | p).save(tmp_path / f"wide_{c}.tif", compression="tiff_lzw")
        big = dict(byteorder=">", compression="zlib", bigtiff=True)
        tifffile.imwrite(tmp_path / f"big_{c}.tif", p.astype(">u2") << 8, **big)
        Image.fromarray(p).save(tmp_path / f"eight_{c}.tif")
        Image.fromarray(p.astype(np.uint16) << 4).save(tmp_path / f"twelve_{c}.png")
    for o in folder_samples(tmp_path).itertuples():
        assert (read_sample(o, depth="12" if o.id == "twelve" else "16") == x).all(), o.id

    # One file with all channels
    (tmp_path / "ome").mkdir()
    stains = dict(red="MT", green="GFP", blue="DAPI", yellow="ER")
    tifffile.imwrite(
        tmp_path / "ome/f1.ome.tif", x.astype(np.uint16) << 8, photometric="minisblack", tile=(512, 512),
        compression="zlib", metadata=dict(
            axes="CYX", Channel=dict(Name=list(stains.values())), PhysicalSizeX=.08, PhysicalSizeY=.08,
        ),
    )
    s = pattern_samples(tmp_path / "ome", "{id}.ome.tif", planes=stains)
    assert (read_sample(s.loc[0]) == x).all() and s.pixel_size[0] == pixel_size(tmp_path / "ome/f1.ome.tif") == .08

    # Packed
    store = pack(s, tmp_path / "s.zarr", 512, progress=False)
    assert store.pixel_size == pytest.approx(.32)
    only = kaggle[kaggle.id == row.id].reset_index(drop=True)
    assert (store[0] == pack(only, tmp_path / "k.zarr", 512, progress=False)[0]).all()


def test_jpegs_of_the_public_atlas(real, tmp_path):
    table = tmp_path / "hpav18.csv"
    for c in RGBY:
        (tmp_path / f"1_800_A6_1_{c}.jpg").symlink_to(real / f"formats/800_A6_1_{c}.jpg")
    table.write_text("Id,Target,CellLine\n1_800_A6_1,0 25,U-2 OS\n")
    by = {o: read_sample(hpav18_samples(table, tmp_path, o).loc[0]) for o in ("R", "grey", "RG", "B")}
    rgb = np.array(Image.open(real / "formats/800_A6_1_yellow.jpg"))
    assert (by["R"][3] == rgb[..., 0]).all() and (by["B"][3] == rgb[..., 2]).all()
    assert (by["grey"][3] == np.array(Image.open(real / "formats/800_A6_1_yellow.jpg").convert("L"))).all()
    assert (by["RG"][3] == (rgb[..., 0].astype(int) + rgb[..., 1] + 1) // 2).all()
    assert all((by["R"][:3] == o[:3]).all() for o in by.values())


def test_one_channel_pictures_are_refused_by_name(real):
    with pytest.raises(DataError, match="missing channels: .*one_channel/00822d20-bbc1-11e8-b2bb-ac1f6b6435d0_red"):
        folder_samples(real / "formats/one_channel")


def test_an_empty_reference_is_no_file(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("id,red,green,antibody\na,a.png,,7.0\nb,a.png,a.png,\nc,,a.png,7\n")
    s = csv_samples(tmp_path / "t.csv", channels=["red", "green"], missing="allow")
    assert s[["red", "green"]].isna().to_numpy().tolist() == [[False, True], [False, False], [True, False]]
    assert s.group.tolist() == ["7", "b", "7"]
    with pytest.raises(DataError, match="missing channels: red of c, green of a"):
        csv_samples(tmp_path / "t.csv", channels=["red", "green"])


def test_labels_in_a_column_of_that_name_stay(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a_red.png")
    (tmp_path / "train.csv").write_text("id,labels\na,0 25\n")
    s = kaggle_samples(tmp_path, channels=["red"], columns=("id", "labels"))
    assert s.labels.tolist() == [["Nucleoplasm", "Cytosol"]]
    assert kaggle_samples(tmp_path, vocab=None, channels=["red"], columns=("id", "labels")).labels.tolist() == [None]


def test_kaggle_fields(real):
    s = kaggle_samples(real / "fields512", extra="allow")
    assert all(read_plane(s.loc[i, c], c).shape == (512, 512) for i in s.index for c in RGBY)
