"Stores brought up to date: byte for byte what packing anew gives, and only what is new was decoded."
import os
import random
import shutil
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
from PIL import Image

import hpa_lib.data.store
from hpa_lib.data.reading import Reading
from hpa_lib.data.samples import save_samples, tidy_samples
from hpa_lib.data.store import Store, StoreError, pack, pack_estimate, pack_sizes

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = ("red", "green")


def draw(path, seed, side=12):
    "A picture of its own, of twelve bits, with a time of change of its own"
    noise = np.random.default_rng(seed).integers(0, 4096, (side, side)).astype(np.uint16)
    Image.fromarray(noise).save(path.with_suffix(".new"), format="PNG")
    os.replace(path.with_suffix(".new"), path)
    os.utime(path, ns=(seed * 10**9, seed * 10**9))
    return str(path)


def table(folder, ids, seed=0, side=12):
    "A samples table of pictures in a folder, two channels each"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for k, i in enumerate(ids):
        pictures = {c: draw(folder / f"{i}_{c}.png", seed + 7 * k + j, side) for j, c in enumerate(CHANNELS)}
        rows.append(dict(id=i) | pictures)
    return tidy_samples(pd.DataFrame(rows), CHANNELS)


def contents(path):
    "Every file of a store"
    return {o.relative_to(path).as_posix(): o.read_bytes() for o in sorted(Path(path).rglob("*")) if o.is_file()}


def made(df, path, **kwargs):
    return pack(df.reset_index(drop=True), path, 12, CHANNELS, progress=False, workers=2, **kwargs)


EDITS = ("label", "group", "rename", "add", "remove", "change", "touch", "reorder", "twice", "depth", "break", "mend")
PIXELS = {"add", "change", "touch", "depth", "break", "mend"}


def edit(df, kind, rng, folder, n):
    "One change to a table or its files; the new table"
    df, i = df.copy(), rng.randrange(len(df))
    if kind == "label":
        df.at[i, "labels"] = [rng.choice(["Cytosol", "Nucleoli"])]
    elif kind == "group":
        df.loc[i, "group"] = f"g{n}"
    elif kind == "rename":
        df.loc[i, "id"] = f"renamed{n}"
    elif kind == "add":
        df = pd.concat([df, table(folder, [f"new{n}"], 1000 + 10 * n)], ignore_index=True)
    elif kind == "remove" and len(df) > 3:
        df = df.drop(i).reset_index(drop=True)
    elif kind in ("change", "mend"):
        draw(Path(df.red[i]), 5000 + n)
    elif kind == "touch":
        os.utime(df.green[i], ns=(n, n)) if Path(df.green[i]).exists() else None
    elif kind == "reorder":
        df = df.sample(frac=1, random_state=n).reset_index(drop=True)
    elif kind == "twice":
        df = pd.concat([df, df[i:i + 1].assign(id=f"twice{n}")], ignore_index=True)
    elif kind == "depth":
        df["depth"] = df.get("depth", pd.Series(None, df.index, dtype=object))
        df.loc[i, "depth"] = rng.choice(["12", "stretch", None])
    elif kind == "break" and len(df) > 3 and sum(Path(o).stat().st_size > 20 for o in df.red) > 2:
        Path(df.red[i]).write_bytes(f"no picture {n}".encode())
    return df


ROUNDS = st.lists(st.lists(st.sampled_from(EDITS), min_size=0, max_size=3), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROUNDS, st.integers(0, 10**6))
def test_any_sequence_of_changes_gives_what_packing_anew_gives(tmp_path, rounds, seed):
    "Labels, pictures added, removed, changed, touched, in another order, twice, read otherwise, broken, mended"
    work = tmp_path / str(time.time_ns())
    rng = random.Random(seed)
    df = table(work / "p", [f"s{k}" for k in range(6)])
    made(df, work / "s.zarr")
    n = 0
    for kinds in rounds:
        decodable = (~Store(work / "s.zarr").ok).sum()                   # those that were broken before
        for kind in kinds:
            n += 1
            df = edit(df, kind, rng, work / "p", n)
        refs = df.red.value_counts().max()                               # a new picture may get a second name at once
        decodable += refs * sum(o in PIXELS for o in kinds)
        store = made(df, work / "s.zarr", update=True)
        anew = made(df, work / "anew.zarr", overwrite=True)
        assert store.fingerprint == anew.fingerprint
        assert (store.hist == anew.hist).all() and (store.mean == anew.mean).all()
        assert contents(store.path) == contents(anew.path) and store.check().decoded <= decodable
        assert not list(work.glob(".*"))
    shutil.rmtree(work)


def test_only_what_is_new_is_decoded(tmp_path, monkeypatch):
    "Counted at the door of the decoder, not by what the store says"
    df = table(tmp_path / "p", [f"s{k}" for k in range(70)])
    made(df, tmp_path / "s.zarr")
    read, seen = hpa_lib.data.store._read, []
    monkeypatch.setattr(hpa_lib.data.store, "_read", lambda refs, *a: (seen.append(refs["red"]), read(refs, *a))[1])
    draw(Path(df.red[3]), 77)
    more = pd.concat([df.drop(9), table(tmp_path / "p", ["new"], 500)], ignore_index=True)
    store = made(more, tmp_path / "s.zarr", update=True)
    assert sorted(seen) == sorted([df.red[3], more.red.iloc[-1]]) and store.decoded == 2
    seen.clear()
    store = made(more.assign(labels=[["Cytosol"]] * 70), tmp_path / "s.zarr", update=True)
    assert store.decoded == 0 and not seen and store.samples.labels[69] == ["Cytosol"]


def test_pictures_are_linked_not_copied(tmp_path):
    df = table(tmp_path / "p", ["a", "b", "c"])
    made(df, tmp_path / "s.zarr")
    chunk = (tmp_path / "s.zarr/images/2.0.0.0").stat().st_ino
    store = made(df[1:], tmp_path / "s.zarr", update=True)
    assert (tmp_path / "s.zarr/images/1.0.0.0").stat().st_ino == chunk and len(store) == 2


def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch):
    df = table(tmp_path / "p", ["a", "b", "c"])
    made(df, tmp_path / "s.zarr")

    link = os.link

    def refuse(source, target, **kwargs):
        if str(target).endswith(".0.0.0"):
            raise OSError("no links here")
        link(source, target, **kwargs)
    monkeypatch.setattr(os, "link", refuse)
    store = made(df[1:], tmp_path / "s.zarr", update=True)
    assert store.decoded == 0 and contents(store.path) == contents(made(df[1:], tmp_path / "anew.zarr").path)


def test_what_the_old_store_lost_is_decoded(tmp_path):
    "One chunk is gone, one cut; a third, which is not wanted any more, is cut as well"
    df = table(tmp_path / "p", [f"s{k}" for k in range(6)])
    made(df, tmp_path / "s.zarr")
    chunks = [tmp_path / f"s.zarr/images/{k}.0.0.0" for k in range(6)]
    chunks[1].unlink()
    for o in (chunks[2], chunks[5]):
        o.write_bytes(o.read_bytes()[:-1])
    store = made(df[:5], tmp_path / "s.zarr", update=True)
    assert store.decoded == 2 and contents(store.path) == contents(made(df[:5], tmp_path / "anew.zarr").path)


def test_what_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    "A file that was locked, not changed: its size and time are what they were"
    df = table(tmp_path / "p", ["a", "b", "c"])
    with monkeypatch.context() as m:
        read = hpa_lib.data.store._read

        def locked(refs, *a):
            return (None, (0, 0), "locked") if "b_" in refs["red"] else read(refs, *a)
        m.setattr(hpa_lib.data.store, "_read", locked)
        store = made(df, tmp_path / "s.zarr")
        assert store.ok.tolist() == [True, False, True]
        before = (tmp_path / "s.zarr/zarr.json").stat().st_mtime_ns
        store = made(df, tmp_path / "s.zarr", update=True)                # locked still: nothing is written
        assert store.decoded == 0 and (tmp_path / "s.zarr/zarr.json").stat().st_mtime_ns == before
    store = made(df, tmp_path / "s.zarr", update=True)
    assert store.ok.all() and store.decoded == 1
    assert contents(store.path) == contents(made(df, tmp_path / "anew.zarr").path)


def test_a_picture_that_is_gone_is_an_error_as_in_a_new_pack(tmp_path):
    df = table(tmp_path / "p", ["a", "b", "c"])
    made(df, tmp_path / "s.zarr")
    Path(df.red[1]).unlink()
    store = made(df, tmp_path / "s.zarr", update=True)
    assert not store.ok[1] and "no such file" in store.samples.error[1]
    shutil.rmtree(tmp_path / "p")
    with pytest.raises(StoreError, match="s.zarr: none of the 3 samples could be read"):
        made(df, tmp_path / "s.zarr", update=True)
    assert Store(tmp_path / "s.zarr").ok.sum() == 2                       # what stood there stands there still


def test_a_store_of_before_is_packed_anew(tmp_path):
    "No notes of files; or pictures decoded by another version"
    df = table(tmp_path / "p", ["a", "b"])
    made(df, tmp_path / "s.zarr")
    (tmp_path / "s.zarr/pictures.parquet").unlink()
    assert made(df, tmp_path / "s.zarr", update=True).decoded == 2
    described = tmp_path / "s.zarr/zarr.json"
    described.write_text(described.read_text().replace('"pillow": "', '"pillow": "0.'))
    assert made(df, tmp_path / "s.zarr", update=True).decoded == 2


def test_reading_that_a_table_says_for_every_row_is_no_other_reading(tmp_path):
    "12 bits alone, then joined by a source of 16: the common reading changes, that of the first pictures does not"
    first, second = table(tmp_path / "p", ["a", "b"]), table(tmp_path / "p", ["c"], 300)
    made(first, tmp_path / "s.zarr", depth="12")
    both = pd.concat([first.assign(depth="12"), second.assign(depth="16")], ignore_index=True)
    store = made(both, tmp_path / "s.zarr", update=True)
    assert store.decoded == 1 and store.reading.depth == "16"
    with pytest.raises(StoreError, match="packed with depth '16', and '12' is asked for now"):
        made(first, tmp_path / "s.zarr", update=True, depth="12")


def test_several_sizes_at_once(tmp_path):
    df = table(tmp_path / "p", ["a", "b", "c"])
    pack_sizes(df[:2], tmp_path / "s.zarr", [12, 6], channels=CHANNELS, progress=False)
    stores = pack_sizes(df, tmp_path / "s.zarr", [12, 6], channels=CHANNELS, progress=False, update=True)
    assert [o.decoded for o in stores.values()] == [1, 1]
    for s, o in pack_sizes(df, tmp_path / "anew.zarr", [12, 6], channels=CHANNELS, progress=False).items():
        assert contents(o.path) == contents(stores[s].path)
    shutil.rmtree(tmp_path / "s-6.zarr")                                 # what one of them lacks is decoded for all
    stores = pack_sizes(df, tmp_path / "s.zarr", [12, 6], channels=CHANNELS, progress=False, update=True)
    assert stores[6].decoded == 3 and stores[6].fingerprint == Store(tmp_path / "anew-6.zarr").fingerprint


def test_in_other_processes_with_paths_from_here(tmp_path, monkeypatch):
    df = table(tmp_path / "p", ["a", "b", "c"])
    for c in CHANNELS:
        df[c] = [os.path.relpath(o, tmp_path) for o in df[c]]
    monkeypatch.chdir(tmp_path)
    made(df[:2], "s.zarr")
    store = made(df, "s.zarr", update=True, scheduler="processes")
    assert store.decoded == 1 and contents("s.zarr") == contents(made(df, "anew.zarr").path)


CODE = """import sys, time
import hpa_lib.data.store
from hpa_lib.data.samples import load_samples
read = hpa_lib.data.store._read
hpa_lib.data.store._read = lambda *a: (time.sleep(.01), read(*a))[1]
samples = load_samples(sys.argv[1])
hpa_lib.data.store.pack(samples, sys.argv[2], 12, ('red', 'green'), workers=1, progress=False, update=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_update_leaves_the_old_store_and_goes_on(tmp_path):
    df = table(tmp_path / "p", [f"s{k}" for k in range(300)])
    made(df[:200], tmp_path / "s.zarr")
    more = df[::-1].reset_index(drop=True)
    save_samples(more, tmp_path / "t.parquet")
    old = contents(tmp_path / "s.zarr")
    command = [sys.executable, "-c", CODE, str(tmp_path / "t.parquet"), str(tmp_path / "s.zarr")]
    p = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    journal, deadline = tmp_path / ".s.partial/journal", time.time() + 60
    while p.poll() is None and time.time() < deadline and len(list(journal.glob("[0-9]*.json"))) < 6:
        time.sleep(.002)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert contents(tmp_path / "s.zarr") == old and Store(tmp_path / "s.zarr").check()
    labelled = more.assign(labels=[["Nucleoli"]] * 300)                   # other labels: it goes on all the same
    store = made(labelled, tmp_path / "s.zarr", update=True)
    assert 0 < store.decoded <= 100 - 4 * 9                              # journals of nine decoded pictures or more
    assert contents(store.path) == contents(made(labelled, tmp_path / "anew.zarr").path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("cut", ["journal", "old", "new"])
def test_cut_off_between_the_renames(tmp_path, monkeypatch, cut):
    "The old store or the new one, never none, once the next pack has looked"
    df = table(tmp_path / "p", ["a", "b", "c"])
    made(df[:2], tmp_path / "s.zarr")
    rename, names = os.rename, dict(journal="journal", old=".s.zarr.old", new="s.zarr")

    def stop(source, target):
        if cut in ("journal", "new"):
            rename(source, target)
        if Path(target).name.endswith({"journal": ".journal", "old": ".old", "new": "s.zarr"}[cut]):
            raise KeyboardInterrupt
        if cut == "old":
            rename(source, target)
    with monkeypatch.context() as m:
        m.setattr(os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            made(df, tmp_path / "s.zarr", update=True)
    assert names[cut] and sum(len(Store(o)) >= 2 for o in (tmp_path / "s.zarr",) if o.exists()) == 1
    read = hpa_lib.data.store._read
    monkeypatch.setattr(hpa_lib.data.store, "_read", lambda *a: 1 / 0)         # nothing need be decoded again
    store = made(df, tmp_path / "s.zarr", update=True)
    monkeypatch.setattr(hpa_lib.data.store, "_read", read)
    assert store.decoded == 0 and contents(store.path) == contents(made(df, tmp_path / "anew.zarr").path)
    assert not list(tmp_path.glob(".*"))


def test_a_pack_that_will_not_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    df = table(tmp_path / "p", [f"s{k}" for k in range(70)], side=64)
    disk = type("Disk", (), dict(free=100_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    with pytest.raises(StoreError, match=r"70 pictures will take about 0\.\d MB, and 0\.1 MB are free"):
        pack(df, tmp_path / "s.zarr", 64, CHANNELS, progress=False)
    assert not (tmp_path / "s.zarr").exists() and not (tmp_path / ".s.partial").exists()
    disk.free = 70 * 2 * 64 * 64 - 1                                     # less than unpacked, more than packed
    for o in df.red:
        Image.new("L", (64, 64)).save(o)
    store = pack(df, tmp_path / "s.zarr", 64, CHANNELS, progress=False)
    assert store.decoded == 70                                           # those read to measure are not counted
    disk.free = 10
    labelled = df.assign(labels=[["Cytosol"]] * 70)
    assert pack(labelled, tmp_path / "s.zarr", 64, CHANNELS, progress=False, update=True).decoded == 0


def test_an_estimate_reads_few_and_knows_what_is_there(tmp_path, monkeypatch):
    df = table(tmp_path / "p", [f"s{k}" for k in range(100)], side=64)
    reading = Reading(channels=CHANNELS)
    read, seen = hpa_lib.data.store._read, []
    monkeypatch.setattr(hpa_lib.data.store, "_read", lambda *a: (seen.append(1), read(*a))[1])
    told = pack_estimate(df, 64, reading, tmp_path / "s.zarr")
    assert len(seen) <= 8 and told["pictures"] == 100 and told["seconds"] > 0 and 0 < told["bytes"] <= 100 * 2 * 64 * 64
    seen.clear()
    told = pack_estimate(df[:63], 64, reading, tmp_path / "s.zarr")
    assert not seen and told["bytes"] == 63 * 2 * 64 * 64
    pack(df[:90], tmp_path / "s.zarr", 64, reading=reading, progress=False)
    told = pack_estimate(df, 64, reading, tmp_path / "s.zarr")
    assert told["pictures"] == 10
    assert pack_estimate(df, 32, reading, tmp_path / "s.zarr")["pictures"] == 100


def test_bytes_depend_on_pictures_and_reading_alone(tmp_path):
    df = table(tmp_path / "p", ["a", "b", "c"])
    one = contents(made(df, tmp_path / "one.zarr").path)
    other = df.assign(labels=[["Cytosol"], None, []], group=["x", "x", "y"], source="other")
    two = contents(made(other, tmp_path / "two.zarr").path)
    assert {o for o in one if one[o] != two[o]} == {"samples.parquet"}
    assert b"Cytosol" not in two["pictures.parquet"]
