"""Malformed input of every kind ends in a named error that says file or value, or in a row with status and error.

Nothing crashes, nothing is guessed.
"""
import io
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hpa_lib.core import DataError
from hpa_lib.data.duplicates import read_pairs
from hpa_lib.data.images import ImageError, pixel_size, read_plane, split_ref
from hpa_lib.data.labels import HPA28
from hpa_lib.data.samples import RGBY, folder_samples, kaggle_samples, load_samples, tidy_samples
from hpa_lib.data.sources import csv_samples, hpav18_samples, pattern_samples, table_samples, z2g_samples
from hpa_lib.data.store import Store, StoreError, pack

A = np.random.default_rng(0).integers(0, 256, (24, 24)).astype(np.uint8)


def png(path, a=A, **kw):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(a).save(path, **kw)
    return Path(path)


def text(path, s):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(s)
    return Path(path)


def raw(path, b):
    Path(path).write_bytes(b)
    return Path(path)


def tiff(path, a=A, **kw):
    tifffile.imwrite(path, a, **kw)
    return Path(path)


def stack(path, n, **kw):
    "A TIFF of `n` equal planes"
    return tiff(path, np.stack([A] * n), **{"photometric": "minisblack", **kw})


def mode(path, name):
    "A picture in one of Pillow's modes"
    Image.fromarray(A).convert(name).save(path)
    return path


def two_series(path):
    tifffile.imwrite(path, A)
    tifffile.imwrite(path, A[:9, :9], append=True)
    return path


def put(folder, files):
    "Write files by name, text or the pixels of a picture; hand back the folder"
    for name, content in files.items():
        write = text if isinstance(content, str) else png
        write(folder / name, content)
    return folder


# One plane: what is wrong with the file, and a word that the error must hold. The file's name is asked for too.
PLANES = {
    "nothing there": (lambda d: d / "a.png", "no such file"),
    "a folder": (lambda d: d, "damaged, or no picture|no such file"),
    "empty file": (lambda d: raw(d / "a.png", b""), "damaged, or no picture"),
    "text": (lambda d: text(d / "a.png", "hello"), "damaged, or no picture"),
    "an HTML answer": (lambda d: text(d / "a.jpg", "<html><body>404</body></html>"), "damaged, or no picture"),
    "truncated PNG": (lambda d: raw(d / "a.png", png(d / "b.png").read_bytes()[:200]), "truncated, damaged"),
    "truncated JPEG": (lambda d: raw(d / "a.jpg", png(d / "b.jpg").read_bytes()[:300]), "truncated, damaged"),
    "truncated TIFF": (lambda d: raw(d / "a.tif", tiff(d / "b.tif").read_bytes()[:200]), "truncated, damaged"),
    "TIFF header alone": (lambda d: raw(d / "a.tif", b"II*\0\x08\0\0\0"), "holds no picture"),
    "bits turned in a PNG": (
        lambda d: raw(d / "a.png", png(d / "b.png").read_bytes().replace(b"IDAT", b"IDAX")),
        "truncated, damaged",
    ),
    "RGBA": (lambda d: png(d / "a.png", np.zeros((8, 8, 4), np.uint8)), "mode 'RGBA'"),
    "palette": (lambda d: mode(d / "a.png", "P"), "mode 'P'"),
    "one bit a pixel": (lambda d: mode(d / "a.png", "1"), "mode '1'"),
    "CMYK JPEG": (lambda d: mode(d / "a.jpg", "CMYK"), "mode 'CMYK'"),
    "float TIFF": (lambda d: tiff(d / "a.tif", A.astype(np.float32)), "mode 'F'"),
    "32-bit TIFF": (lambda d: tiff(d / "a.tif", A.astype(np.uint32)), "mode|damaged"),
    "signed TIFF": (lambda d: tiff(d / "a.tif", A.astype(np.int16)), "mode|type int16"),
    "several planes, none named": (lambda d: stack(d / "a.tif", 4), "holds 4 planes; say which one"),
    "layers of one page, none named": (lambda d: stack(d / "a.tif", 4, planarconfig="separate"), "holds 4 planes"),
    "a plane that is not there": (lambda d: f"{stack(d / 'a.tif', 2)}#7", "no plane '7'"),
    "a plane of a grey picture": (lambda d: f"{png(d / 'a.png')}#G", "no plane 'G'"),
    "focal planes": (
        lambda d: tiff(d / "a.ome.tif", np.stack([[A] * 3] * 2), photometric="minisblack", metadata=dict(axes="CZYX")),
        "more than one picture a channel",
    ),
    "several series": (lambda d: two_series(d / "a.tif"), "2 series"),
    "16 bits where 12 were said": (lambda d: png(d / "a.png", A.astype(np.uint16) * 257), "does not fit into 12 bits"),
    "OME that says 12 bits": (
        lambda d: tiff(d / "a.ome.tif", A.astype(np.uint16), metadata=dict(axes="YX", SignificantBits=10)),
        "10 bits are in use",
    ),
}


@pytest.mark.parametrize("kind", PLANES)
def test_planes(kind, tmp_path):
    make, said = PLANES[kind]
    ref = make(tmp_path)
    with pytest.raises(ImageError, match=said) as e:
        read_plane(ref, "red", depth="12" if "12" in kind else "16")
    assert split_ref(ref)[0] in str(e.value)


def labels(folder, rows):
    "A table of labels, read"
    return table_samples(text(folder / "t.csv", rows))


def references(folder, rows, files=None):
    "A table of references to red planes, read"
    put(folder, files or {})
    return csv_samples(text(folder / "t.csv", rows), channels=["red"])


def other_parquet(folder):
    pd.DataFrame(dict(a=[1])).to_parquet(folder / "t.parquet")
    return load_samples(folder / "t.parquet")


# A whole source: what is wrong, how it is read, and a word of the error.
ONE = {"train.csv": "Id,Target\na,0\n", **{f"train/a_{c}.png": A for c in RGBY}}
FURLONGS = dict(PhysicalSizeX=1, PhysicalSizeXUnit="furlong", PhysicalSizeY=1, PhysicalSizeYUnit="furlong")
NO_XML = "<OME xmlns='x'><Pixels</OME>"
SOURCES = {
    "no folder": (lambda d: kaggle_samples(d / "x"), "no such"),
    "no table": (lambda d: kaggle_samples(put(d, {"train/a_red.png": A})), "train.csv: no such file"),
    "commas at the ends": (lambda d: labels(d, "Id,Target\na,0,\nb,5 7,\n"), "more cells than the header"),
    "two columns of ids": (lambda d: labels(d, "Id,Target,id\na,0,b\n"), "has the columns 'id' and 'Id'"),
    "no id in a table of references": (lambda d: references(d, "id,red\n,a.png\n", {"a.png": A}), "without an id: 2"),
    "a table of references without rows": (lambda d: references(d, "id,red\n"), "no samples in it"),
    "empty table": (
        lambda d: kaggle_samples(put(d, {"train.csv": "", "train/a_red.png": A})),
        "train.csv: not readable",
    ),
    "only a header": (lambda d: labels(d, "Id,Target\n"), "no samples in it"),
    "a column is missing": (lambda d: labels(d, "Id,Labels\na,0\n"), "no column 'Target'"),
    "binary table": (lambda d: table_samples(raw(d / "t.csv", bytes(range(256)) * 9)), "not readable"),
    "ragged table": (lambda d: labels(d, "Id,Target\na,0\nb,1,2,3\n"), "not readable"),
    "id twice": (lambda d: labels(d, "Id,Target\na,0\na,1\n"), "occur twice: a"),
    "id empty": (lambda d: labels(d, "Id,Target\n,0\n"), "without an id"),
    "unknown label": (lambda d: labels(d, "Id,Target\na,28\n"), "labels '28' of a"),
    "label that is no number": (lambda d: labels(d, "Id,Target\na,0 golgi\n"), "labels '0 golgi' of a"),
    "label twice in a row": (lambda d: labels(d, "Id,Target\na,0 0\n"), "labels '0 0' of a"),
    "a packed table that is not packed": (
        lambda d: table_samples(text(d / "t.csv.gz", "Id,Target\na,0\n")),
        "not readable",
    ),
    "missing channel": (lambda d: folder_samples(put(d, {"a_red.png": A})), "missing channels"),
    "empty folder": (lambda d: folder_samples(d), "no pictures in it"),
    "a channel in two files": (
        lambda d: folder_samples(put(d, {"a_red.png": A, "a_red.jpg": A})),
        "one channel in two files",
    ),
    "groups that leave one out": (
        lambda d: kaggle_samples(put(d, {**ONE, "groups.csv": "Id,group\nb,1\n"})),
        "gives no group to a",
    ),
    "ids of no antibody": (
        lambda d: hpav18_samples(
            text(d / "t.csv", "Id,Target,CellLine\na,0,x\n"), put(d, {"a_red.png": A}), channels=["red"],
        ),
        "no <antibody>_<plate>",
    ),
    "a yellow policy of no name": (lambda d: hpav18_samples(d / "t.csv", d, "mean"), "yellow 'mean'"),
    "ten classes, label 12": (
        lambda d: z2g_samples(put(d, {"train/a.png": A, "train.csv": "Image,Label\na,12\n"})),
        "labels '12' of a",
    ),
    "a pattern that fits nothing": (
        lambda d: pattern_samples(put(d, {"a.png": A}), "{id}_{channel}.tif"),
        "no picture in it fits",
    ),
    "a pattern with a strange part": (lambda d: pattern_samples(d, "{name}_{channel}.tif"), "name is no part"),
    "a pattern of one name for all": (lambda d: pattern_samples(d, "x_{channel}.tif"), "tells samples apart"),
    "a reference to nothing": (lambda d: references(d, "id,red\na,b.png#G\n"), "not there: .*b.png"),
    "a pixel size in words": (
        lambda d: references(d, "id,red,pixel_size\na,a.png,small\n", {"a.png": A}),
        "pixel_size that is no number",
    ),
    "a twin alone": (lambda d: read_pairs(text(d / "t.txt", "a,b\nc\n")), "line 2"),
    "twins in bytes": (lambda d: read_pairs(raw(d / "t.txt", b"\xff\xfe\x00a,b")), "UTF-8"),
    "a damaged Parquet": (lambda d: load_samples(raw(d / "t.parquet", b"PAR1xxxxPAR1")), "not a readable Parquet"),
    "Parquet of something else": (other_parquet, "not a samples table"),
    "no store": (lambda d: Store(d), "not a store"),
    "half a store": (lambda d: Store(put(d, {"s.zarr/zarr.json": "{"}) / "s.zarr"), "not a store"),
    "OME with a pixel in furlongs": (
        lambda d: pixel_size(tiff(d / "a.ome.tif", metadata=dict(axes="YX", **FURLONGS))),
        "known units",
    ),
    "OME that is no XML": (lambda d: read_plane(f"{stack(d / 'a.ome.tif', 2, description=NO_XML)}#0"), "damaged"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sources(kind, tmp_path):
    read, said = SOURCES[kind]
    with pytest.raises((DataError, ImageError, StoreError), match=said) as e:
        read(tmp_path)
    assert len(str(e.value)) > 25                                        # an error tells, it does not only name


def test_there_are_enough_kinds():
    assert len(PLANES) + len(SOURCES) >= 50


def test_a_pack_keeps_a_row_for_each_kind(tmp_path):
    "All the bad planes at once, between good ones: each keeps its row, and the good ones are what they were"
    refs = []
    for k, (make, _) in enumerate(PLANES.values()):
        (tmp_path / str(k)).mkdir()
        refs.append(str(make(tmp_path / str(k))))
    good = png(tmp_path / "good.png")
    refs = [o for r in refs for o in (r, str(good))]
    s = tidy_samples(pd.DataFrame(dict(id=[f"s{k}" for k in range(len(refs))], red=refs)), ["red"])
    store = pack(s, tmp_path / "s.zarr", 24, ["red"], progress=False, depth="14")
    assert store.ok[1::2].all() and (store.batch(np.flatnonzero(store.ok)[:1])[0, 0] == A).all()
    bad = store.samples[~store.ok]
    assert len(bad) >= len(PLANES) - 2          # 14 bits hold two of the pictures that were bad for another depth
    assert bad.error.str.len().min() > 25
    assert not store.ok[[2 * k for k, o in enumerate(PLANES) if "bits" not in o]].any()


FILES = {
    "png": dict(format="PNG"),
    "jpg": dict(format="JPEG", quality=90),
    "tif": dict(format="TIFF"),
    "lzw": dict(format="TIFF", compression="tiff_lzw"),
}
FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(FILES)), cut=st.integers(0, 10**6), flips=FLIPS, data=st.data())
def test_any_damage_is_an_image_error_or_a_plane(kind, cut, flips, data, tmp_path):
    "Cut anywhere, bytes changed anywhere: a named error, or a plane of bytes; never another exception"
    f = io.BytesIO()
    Image.fromarray(A).save(f, **FILES[kind])
    b = bytearray(f.getvalue())
    for at, x in flips:
        b[at % len(b)] ^= x
    b = b[:cut % (len(b) + 1)] if data.draw(st.booleans()) else b
    path = raw(tmp_path / f"x.{kind}", bytes(b))
    try:
        x = read_plane(path, "red")
        assert x.dtype == np.uint8 and x.ndim == 2
    except ImageError as e:
        assert str(path) in str(e)


@settings(max_examples=150, deadline=None)
@given(st.text(string.digits + " ,;|-.x", max_size=12))
def test_labels_parse_or_say_why(s):
    try:
        names = HPA28.parse(s)
        assert all(o in HPA28 for o in names) and len(set(names)) == len(names)
    except DataError as e:
        assert len(str(e)) > 10


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_as_a_table_or_a_list(tmp_path, b):
    for read in (table_samples, read_pairs, csv_samples):
        try:
            read(raw(tmp_path / "t.csv", b))
        except DataError as e:
            assert "t.csv" in str(e)


@given(
    st.text(string.ascii_letters + "#._/", min_size=1, max_size=20),
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=5),
)
def test_references_come_apart_as_they_were_put_together(path, plane):
    if path.endswith("/") or not path.strip("#"):
        return
    assert split_ref(f"{path}#{plane}") == (path, plane)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(string.ascii_lowercase + "{}_*/.[(\\", max_size=16))
def test_any_pattern_is_read_or_refused(tmp_path, pattern):
    if not (tmp_path / "a_1.png").exists():
        png(tmp_path / "a_1.png")
    try:
        assert len(pattern_samples(tmp_path, pattern, ["red"], planes=dict(red=0), extra="allow")) == 1
    except DataError as e:
        assert len(str(e)) > 10
