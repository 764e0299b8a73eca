"Properties of a store that no single example shows, and what a killed pack leaves behind."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hpa_lib.data.samples import RGBY, folder_samples, kaggle_samples, save_samples
from hpa_lib.data.store import Store, histogram, mean_std, moments, pack

ROOT = Path(__file__).resolve().parents[2]
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def atlas(folder: Path, n: int, size: int = 24) -> pd.DataFrame:
    "Noise in Kaggle layout"
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    for i in range(n):
        for c in RGBY:
            noise = rng.integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "train" / f"s{i}_{c}.png")
    (folder / "train.csv").write_text("Id,Target\n" + "".join(f"s{i},{i % 28}\n" for i in range(n)))
    return kaggle_samples(folder)


def thousand(folder: Path, size: int = 24) -> pd.DataFrame:
    "A thousand samples, of twenty fields"
    df = pd.concat([atlas(folder, 20, size)] * 50, ignore_index=True)
    return df.assign(id=[f"s{i}" for i in range(len(df))])


def python(code: str, *args) -> list[str]:
    "The command that runs `code`"
    return [sys.executable, "-c", code, *map(str, args)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    "A store of 30 samples and all its pictures"
    folder = tmp_path_factory.mktemp("packed")
    store = pack(atlas(folder / "atlas", 30), folder / "s.zarr", size=24, progress=False)
    return store, store.batch(range(30))


@FEW
@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
def test_statistics_are_exact(x):
    mean, std = mean_std(moments(histogram(x)), x[0].size)
    np.testing.assert_allclose(mean, (x / 255).mean((1, 2)), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(std, (x / 255).std((1, 2)), rtol=1e-9, atol=1e-12)


@FEW
@given(st.lists(st.integers(0, 29), max_size=70))
def test_batches_in_any_order(packed, rows):
    store, everything = packed
    assert (store.batch(rows) == everything[rows].reshape(len(rows), 4, 24, 24)).all()


def test_one_bad_picture_in_a_thousand(tmp_path):
    df = thousand(tmp_path / "atlas")
    (tmp_path / "cut.png").write_bytes(Path(df.red[0]).read_bytes()[:300])
    df.loc[617, "red"] = str(tmp_path / "cut.png")
    store = pack(df, tmp_path / "s.zarr", size=24, progress=False)
    assert len(store) == 1000 and np.flatnonzero(~store.ok).tolist() == [617]
    assert store.samples.status[617] == "error" and "cut.png" in store.samples.error[617]
    good = pack(df.drop(617).reset_index(drop=True), tmp_path / "good.zarr", size=24, progress=False)
    assert (store.batch(np.delete(np.arange(1000), 617)) == good.batch(range(999))).all()
    assert (store.mean == good.mean).all() and (store.std == good.std).all()


def test_black_pictures_are_pictures(tmp_path):
    for c in RGBY:
        Image.new("L", (16, 16)).save(tmp_path / f"dark_{c}.png")
    store = pack(folder_samples(tmp_path), tmp_path / "s.zarr", size=16, progress=False)
    assert store.ok.all() and not store[0].any() and (store.std == 0).all()


PACK = """
import sys
from hpa_lib.data.samples import load_samples
from hpa_lib.data.store import pack
pack(load_samples(sys.argv[1]), sys.argv[2], size=64, workers=1, progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_pack_goes_on(tmp_path):
    "SIGKILL in the middle leaves nothing under the store's name; the same call reads only what was not finished"
    df = thousand(tmp_path / "atlas", 64)
    first = {c: tmp_path / f"first_{c}.png" for c in RGBY}
    for c, path in first.items():
        path.write_bytes(Path(df[c][0]).read_bytes())
        df.loc[0, c] = str(path)
    save_samples(df, tmp_path / "t.parquet")

    # Kill it when 200 samples are there
    path, partial = tmp_path / "s.zarr", tmp_path / ".s.partial"
    p = subprocess.Popen(python(PACK, tmp_path / "t.parquet", path), env=ENVIRONMENT)
    deadline = time.time() + 60
    while time.time() < deadline and not (partial / "images" / "200.0.0.0").exists():
        time.sleep(.005)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert partial.is_dir() and not path.exists()

    # Go on
    whole = pack(df, tmp_path / "whole.zarr", size=64, progress=False)
    for o in first.values():
        o.unlink()                                                      # sample 0 can only come from the killed pack
    store = pack(df, path, size=64, progress=False)
    assert store.ok.all() and store.check().fingerprint == whole.fingerprint and not partial.exists()
    assert (store.mean == whole.mean).all() and (store.stats([0, 999])[1] == whole.stats([0, 999])[1]).all()


def test_a_failed_replacement_keeps_the_old_store(tmp_path):
    df = atlas(tmp_path / "atlas", 3)
    store = pack(df, tmp_path / "s.zarr", size=24, progress=False)
    gone = df.assign(**{c: "nowhere.png" for c in RGBY})
    with pytest.raises(ValueError, match="none of the 3 samples"):
        pack(gone, tmp_path / "s.zarr", size=24, progress=False, overwrite=True)
    assert (Store(tmp_path / "s.zarr").batch(range(3)) == store.batch(range(3))).all()


IMPORTS = """
import sys
import hpa_lib.data.samples, hpa_lib.data.images, hpa_lib.data.store
print(*[o for o in ('torch', 'fastai', 'matplotlib') if o in sys.modules])
"""


def test_light_imports():
    "samples, images and store come without torch, fastai and matplotlib"
    out = subprocess.run(python(IMPORTS), capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert out.stdout.strip() == ""
