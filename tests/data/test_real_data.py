"Reading and packing real Human Protein Atlas pictures."
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.images import ImageError, composite, read_plane, read_sample
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import (
    RGBY, check_samples, folder_samples, hpa_identity, join_samples, load_samples, read_samples, save_samples,
    tidy_samples,
)
from hpa_lib.data.store import Store, StoreError, pack


@pytest.fixture(scope="session")
def mosaics(real, tmp_path_factory):
    "The 85 mosaics, packed at their own size"
    df = read_samples(real / "mosaics512")
    return df, pack(df, tmp_path_factory.mktemp("store") / "mosaics.zarr", size=512, progress=False)


@pytest.mark.parametrize("name, n, size", [("cells256", 467, 256), ("fields512", 10, 512), ("mosaics512", 85, 512)])
def test_kaggle_folders(real, name, n, size):
    df = check_samples(read_samples(real / name))
    assert len(df) == n and df.labels.notna().all()
    x = read_sample(df.loc[0])
    assert x.shape == (4, size, size) and x.dtype == np.uint8
    for c, p in zip(RGBY, x):
        assert (p == np.asarray(Image.open(df.loc[0, c]))).all()


def test_labels_and_groups_of_cells(real):
    df = read_samples(real / "cells256")
    counts = HPA28.counts(df.labels)
    expected = {"Nucleoplasm": 170, "Nucleoli": 36, "Plasma membrane": 63, "Mitochondria": 27, "Cytosol": 171}
    assert counts[counts > 0].to_dict() == expected
    given = pd.read_csv(real / "cells256" / "groups.csv", dtype=str).set_index("Id").group
    assert (df.group == given[df.id].to_numpy()).all() and df.group.nunique() < len(df)


def test_hpa_jpegs(real):
    df = folder_samples(real / "formats")
    assert len(df) == 2 and df.labels.isna().all()
    row = df[df.id == "800_A6_1"].iloc[0]
    for c, band in zip(RGBY, (0, 1, 2, 0)):
        assert (read_plane(row[c], c) == np.asarray(Image.open(row[c]))[..., band]).all()
    x = read_sample(row, size=512)
    assert x.shape == (4, 512, 512) and (x.reshape(4, -1).mean(1) > 1).all()
    assert composite(x).shape == (512, 512, 3)


def test_yellow_jpeg_is_yellow(real):
    "R and G of the yellow picture carry the signal, B next to nothing; R is the convention"
    path = next((real / "formats").glob("*_yellow.jpg"))
    r, g, b = (read_plane(f"{path}#{o}").astype(float) for o in "RGB")
    assert (read_plane(path, "yellow") == r).all()
    assert np.corrcoef(r.ravel(), g.ravel())[0, 1] > .99 and b.mean() < .2 * r.mean()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_round_trip(real, tmp_path, order, compression):
    "A field as 8-bit, 16-bit and multi-page TIFF gives the same bytes"
    df = folder_samples(real / "formats")
    x = read_sample(df[df.id != "800_A6_1"].iloc[0])[:, :512, :512]
    wide = x.astype(np.uint16) * 257
    for c, p, w in zip(RGBY, x, wide):
        tifffile.imwrite(tmp_path / f"eight_{c}.tif", p, compression=compression)
        tifffile.imwrite(tmp_path / f"sixteen_{c}.tiff", w, byteorder=order, compression=compression)
    tifffile.imwrite(tmp_path / "pages.tif", wide, photometric="minisblack", compression=compression, byteorder=order)
    for row in folder_samples(tmp_path, extra="allow").to_dict("records"):
        assert (read_sample(row) == x).all(), row["id"]
    assert (read_sample([f"{tmp_path}/pages.tif#{i}" for i in range(4)]) == x).all()


def test_one_channel_is_refused_by_name(real):
    folder = real / "formats" / "one_channel"
    with pytest.raises(DataError, match="00822d20-bbc1-11e8-b2bb-ac1f6b6435d0_red"):
        read_samples(folder)
    df = read_samples(folder, missing="allow")
    assert len(df) == 12 and (df[list(RGBY)].notna().sum(axis=1) == 1).all()
    with pytest.raises(ImageError, match="_blue.png: its sample has no picture for red, green, yellow"):
        read_sample(df.loc[0])
    x = read_sample(df.loc[0], missing="allow")
    assert x[2].any() and not x[[0, 1, 3]].any()


def test_one_channel_pack(real, tmp_path):
    df = read_samples(real / "formats" / "one_channel", missing="allow")
    with pytest.raises(StoreError, match="none of the 12 samples"):
        pack(df, tmp_path / "no.zarr", size=64, progress=False)
    store = pack(df, tmp_path / "yes.zarr", size=64, missing="allow", progress=False)
    assert store.ok.all() and store.made["reading"]["missing"] == "allow"


def test_pack_of_mosaics(mosaics):
    df, store = mosaics
    rows = np.random.default_rng(0).integers(0, len(df), 40)
    x = store.batch(rows)
    for k, i in enumerate(rows):
        assert (x[k] == read_sample(df.loc[i])).all()
    everything = store.batch(range(len(df)))
    for c in range(4):
        v = everything[:, c].astype(np.float64) / 255
        assert abs(store.mean[c] - v.mean()) < 1e-12 and abs(store.std[c] - v.std()) < 1e-12
    assert store.samples.labels.tolist() == df.labels.tolist()
    assert store.check() is store


def test_store_is_no_larger_than_the_pngs(mosaics):
    df, store = mosaics
    png = sum(os.path.getsize(o) for c in RGBY for o in df[c])
    ours = sum(o.stat().st_size for o in store.path.rglob("*") if o.is_file())
    assert ours <= 1.3 * png


def test_a_bad_picture_among_many(real, tmp_path):
    "One truncated and one missing file cost two rows of 467, and nothing else"
    df = read_samples(real / "cells256")
    cut, gone = tmp_path / "cut.png", tmp_path / "gone.png"
    cut.write_bytes(Path(df.green[100]).read_bytes()[:900])
    df.loc[100, "green"], df.loc[300, "blue"] = str(cut), str(gone)
    store = pack(df, tmp_path / "hurt.zarr", size=64, progress=False)
    assert np.flatnonzero(~store.ok).tolist() == [100, 300]
    assert "cut.png: truncated" in store.samples.error[100] and "gone.png: no such file" in store.samples.error[300]
    for i in (466, 101):
        assert (store[i] == read_sample(df.loc[i], size=64)).all()
    with pytest.raises(StoreError, match=f"row 300 \\({df.id[300]}\\)"):
        store.batch([0, 300])
    assert len(Store(store.path)) == 467


def test_fields_and_sources_join(real, tmp_path):
    fields = read_samples(real / "fields512")
    ids = fields.id[hpa_identity(fields.id).antibody.notna()]
    assert len(ids) == 3
    assert (fields.set_index("id").group[ids] == [o.split("_")[0] for o in ids]).all()
    df = join_samples(fields, read_samples(real / "cells256"))
    assert df.source.unique().tolist() == ["fields512", "cells256"]
    assert check_samples(load_samples(save_samples(df, tmp_path / "both.parquet"))).equals(df)


def test_the_whole_of_hpav18_in_a_table(real):
    "74,606 rows, 12,815 antibodies: the identity is in the names"
    raw = pd.read_csv(real / "tables" / "hpav18.csv.gz", dtype=str, keep_default_na=False)
    labels = [HPA28.parse(o) for o in raw.Target]
    df = pd.DataFrame(dict(id=raw.Id, labels=labels, cell_line=raw.CellLine))
    df = tidy_samples(df.join(hpa_identity(raw.Id)))
    assert len(df) == 74606 and df.group.nunique() == 12815
    assert df.groupby("group").labels.agg(lambda o: len({tuple(x) for x in o})).eq(1).all()
