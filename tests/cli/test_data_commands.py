"From pictures to proven folds by the commands alone; what one process wrote another reads."
import http.server
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from commands import alone, hpa
from PIL import Image

from hpa_lib.data.images import read_sample
from hpa_lib.data.samples import RGBY, load_samples, read_samples
from hpa_lib.data.store import Store
from hpa_lib.synth.atlas import make_atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return make_atlas(tmp_path_factory.mktemp("clidata") / "atlas", n=60, size=96, seed=2, per_antibody=4)


@pytest.fixture(scope="module")
def public(atlas):
    "The first twelve samples again, brighter, as JPEGs of the public atlas under other names; and its table"
    samples, root = read_samples(atlas), atlas.parent
    (root / "public").mkdir()
    for k, row in enumerate(samples[:12].itertuples()):
        for c, p in zip(RGBY, read_sample(row)):
            rgb = np.zeros((*p.shape, 3), np.uint8)
            rgb[..., dict(red=[0], green=[1], blue=[2], yellow=[0, 1])[c]] = (p * 1.1).clip(0, 255).astype(np.uint8)[..., None]
            Image.fromarray(rgb).save(root / f"public/9000{k}_5_A1_1_{c}.jpg", quality=95, subsampling=0)
    pd.DataFrame(dict(Id=[f"9000{k}_5_A1_1" for k in range(12)], Target="0 25", CellLine="HeLa")).to_csv(root / "public.csv", index=False)
    return root


@pytest.mark.slow
def test_from_pictures_to_proven_folds(atlas, public):
    alone("pack", public / "public", "--table", public / "public.csv", "--yellow", "R", "--out", public / "p.zarr", "--size", 48, 32, "--quiet")
    assert [Store(public / f"p-{s}.zarr").size for s in (48, 32)] == [48, 32]
    assert Store(public / "p-48.zarr").samples.yellow.str.endswith("#R").all()
    Store(public / "p-48.zarr").samples.drop(columns=["status", "error", "height", "width"]).to_parquet(public / "p.parquet")
    text = alone("duplicates", atlas, public / "p.parquet", "--out", public / "twins.csv", "--tied", public / "tied.parquet", "--gallery", public / "g.png", "--quiet")
    assert "12 pairs among 72 samples, in 12 twin groups" in text
    assert len(pd.read_csv(public / "twins.csv")) == 12 and Image.open(public / "g.png").size[0] > 300
    tied = load_samples(public / "tied.parquet")
    assert len(tied) == 72 and tied.twin.notna().sum() == 24
    text = alone("folds", public / "tied.parquet", "--n", 3, "--train-only", "hpav18", "--out", public / "folds.csv")
    assert "no group is in two folds" in text and "72 samples" in text
    assert "no group is cut" in hpa("leaks", public / "tied.parquet", public / "folds.csv")
    tied.assign(fold=np.arange(72) // 3 % 3).rename(columns=dict(id="Id"))[["Id", "fold"]].to_csv(public / "theirs.csv", index=False)
    text = hpa("leaks", public / "tied.parquet", public / "theirs.csv", status=1)
    assert "groups are cut" in text and "of the validation rows have their twin in training" in text
    hpa("pack", public / "tied.parquet", "--out", public / "all.zarr", "--size", 48, "--quiet")
    assert len(Store(public / "all.zarr")) == 72
    assert "in 12 twin groups" in hpa("duplicates", public / "all.zarr", "--out", public / "again.csv", "--quiet")
    run = alone("train", public / "all.zarr", "--run", public / "run", "--folds", public / "folds.csv", "--quiet", "--classes", "0 25",
              "--set", "train.epochs=1", "train.bs=16", "model.hidden=32", "views.names=none", "split.folds=3")
    assert "60 samples, folds [0, 1, 2]" in run                        # the public atlas trains, and is never scored


@pytest.mark.slow
def test_a_folder_of_a_microscope(atlas, tmp_path):
    samples = read_samples(atlas)
    (tmp_path / "p7").mkdir()
    for k, row in enumerate(samples[:3].itertuples()):
        tifffile.imwrite(tmp_path / f"p7/A{k + 1}.ome.tif", read_sample(row).astype(np.uint16) << 4, photometric="minisblack",
                         metadata=dict(axes="CYX", SignificantBits=12, Channel=dict(Name=["MT", "GFP", "DAPI", "ER"]), PhysicalSizeX=.2, PhysicalSizeY=.2))
    how = ("pack", tmp_path, "--pattern", "p{plate}/{well}.ome.tif", "--planes", "red=MT,green=GFP,blue=DAPI,yellow=ER", "--size", 96, "--quiet", "--out", tmp_path / "m.zarr")
    assert "pass depth='12'" in hpa(*how, status=2)
    hpa(*how, "--depth", 12)
    store = Store(tmp_path / "m.zarr")
    assert (store[1] == read_sample(samples.loc[1])).all() and store.pixel_size == pytest.approx(.2) and store.samples.well.tolist() == ["A1", "A2", "A3"]
    assert "write pairs as name=value" in hpa("pack", tmp_path, "--pattern", "p{plate}/{well}.ome.tif", "--planes", "red", status=2)
    assert "no part of a sample's name" in hpa("pack", tmp_path, "--pattern", "{plat}/{id}.tif", "--planes", "red=0,green=1,blue=2,yellow=3", status=2)


@pytest.mark.slow
def test_download_from_a_server(public, tmp_path):
    for o in (public / "public").glob("90000_*.jpg"):
        (tmp_path / "www/90000").mkdir(parents=True, exist_ok=True)
        (tmp_path / "www/90000" / o.name.removeprefix("90000_")).write_bytes(o.read_bytes())
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    handler.log_message = lambda *a: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    assert "4 to fetch" in hpa("download", "hpa", "90000_5_A1_1", "--out", tmp_path / "got", "--base", base, "--dry-run")
    text = hpa("download", "hpa", "90000_5_A1_1", "90001_5_A1_1", "--out", tmp_path / "got", "--base", base, "--interval", 0, "--failed", tmp_path / "f.csv", "--quiet", status=2)
    assert "4 files fetched" in text and "4 failed" in text and "404" in text and len(pd.read_csv(tmp_path / "f.csv")) == 4
    assert "4 were there" in hpa("download", "hpa", "90000_5_A1_1", "--out", tmp_path / "got", "--base", base, "--interval", 0, "--quiet")
    assert sorted(o.name for o in Path(tmp_path / "got").glob("*.jpg")) == [f"90000_5_A1_1_{c}.jpg" for c in sorted(RGBY)]
    server.shutdown()


@pytest.mark.slow
def test_tables_alone_make_folds(real, tmp_path):
    text = hpa("folds", real / "tables/hpav18.csv.gz", "--out", tmp_path / "f.parquet")
    assert "74606 samples; every class within 5 %" in text and "no antibody is in two folds" in text
    assert "no group is cut" in hpa("leaks", real / "tables/hpav18.csv.gz", tmp_path / "f.parquet")
