"Packs struck down, spread over processes, or larger than memory: the same bytes, and no more memory for more pictures."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpa_lib.data.samples import RGBY, save_samples, tidy_samples
from hpa_lib.data.store import Store, pack, pack_sizes

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def pictures(folder, n, size, seed=0, black=()):
    "A samples table of `n` samples drawn from eight different pictures a channel; some are all black"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for k in range(8):
        for c in RGBY:
            small = rng.integers(0, 256, (size // 8, size // 8)).astype(np.uint8)
            Image.fromarray(small).resize((size, size)).save(folder / f"p{k}_{c}.png", compress_level=1)
    Image.new("L", (size, size)).save(folder / "black.png")

    def place(i, j, c):
        return str(folder / ("black.png" if i in black else f"p{(i + j) % 8}_{c}.png"))
    rows = [dict(id=f"s{i}") | {c: place(i, j, c) for j, c in enumerate(RGBY)} for i in range(n)]
    return tidy_samples(pd.DataFrame(rows))


def contents(store):
    "Every file of a store"
    return {o.relative_to(store.path).as_posix(): o.read_bytes() for o in sorted(store.path.rglob("*")) if o.is_file()}


def start(code, *args):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], env=env, stdout=subprocess.PIPE, text=True)


PACK = """
import sys
from hpa_lib.data.samples import load_samples
from hpa_lib.data.store import pack
pack(load_samples(sys.argv[1]), sys.argv[2], int(sys.argv[3]), workers=2, progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_killed_twice_and_resumed_is_the_same_store(tmp_path):
    "kill -9 at two points; all-black pictures and an unreadable one among the rest"
    df = pictures(tmp_path / "p", 200, 256, black=(3, 16, 17, 150))
    df.loc[40, "green"] = str(tmp_path / "nowhere.png")
    save_samples(df, tmp_path / "t.parquet")
    whole = pack(df, tmp_path / "whole.zarr", 256, progress=False)
    for least in (1, 5):
        p = start(PACK, tmp_path / "t.parquet", tmp_path / "s.zarr", 256)
        journal = tmp_path / ".s.partial" / "journal"
        while p.poll() is None and len(list(journal.glob("[0-9]*.json"))) < least:
            time.sleep(.002)
        p.send_signal(signal.SIGKILL)
        p.wait()
        assert not (tmp_path / "s.zarr").exists()
    before = {o.name: o.stat().st_mtime_ns for o in journal.glob("[0-9]*.json")}
    assert 5 <= len(before) < 34
    starts = [int(name.removesuffix(".json")) for name in before]
    good = [o for o in starts if not o <= 40 < o + 6]                     # jobs without the unreadable picture

    def times(folder):
        return {o: (folder / f"images/{o}.0.0.0").stat().st_mtime_ns for o in good}
    done = times(tmp_path / ".s.partial")
    store = pack(df, tmp_path / "s.zarr", 256, workers=1, progress=False)
    assert times(store.path) == done                                      # what was finished was not written again
    assert contents(store) == contents(whole)
    assert (~store.ok).sum() == 1 and store.batch([16]).max() == 0


def test_two_processes_of_a_dask_cluster_write_the_same_store(tmp_path):
    from distributed import LocalCluster
    df = pictures(tmp_path / "p", 60, 128, black=(7,))
    df.loc[9, "red"] = str(tmp_path / "gone.png")
    whole = pack_sizes(df, tmp_path / "whole.zarr", [128, 64], progress=False)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        spread = pack_sizes(df, tmp_path / "spread.zarr", [128, 64], progress=False, scheduler=address)
    for s in (128, 64):
        assert contents(spread[s]) == contents(whole[s])


def test_an_address_where_nobody_answers(tmp_path):
    df = pictures(tmp_path / "p", 2, 32)
    with pytest.raises(ValueError, match="no Dask scheduler answers"):
        pack(df, tmp_path / "s.zarr", 32, scheduler="tcp://127.0.0.1:9")


# VmHWM, not ru_maxrss: the latter keeps, through exec, the size of the pytest process that was forked
MEMORY = PACK + """
from pathlib import Path
print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory in kB")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    "2048 px inputs, two threads: under 1.5 GB, and four times the pictures take no more than a tenth more"
    peaks = []
    for n in (12, 48):
        save_samples(pictures(tmp_path / "p", n, 2048), tmp_path / "t.parquet")
        peaks.append(int(start(MEMORY, tmp_path / "t.parquet", tmp_path / f"s{n}.zarr", 512).communicate()[0]))
        assert len(Store(tmp_path / f"s{n}.zarr")) == n
    assert peaks[1] < 1500 and peaks[1] < 1.1 * peaks[0] + 20, peaks
