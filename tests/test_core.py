"What every room stands on: words that stay short, digests, and writes that a kill at any moment leaves whole."
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpa_lib.core import (
    HPAError, digest, few, file_digest, heal_folder, near, one_of, placing, read_json, replace_folder, sweep_partials,
    write_json, write_text, writing,
)

WORDS = st.text("abcdefgh_", min_size=1, max_size=8)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
                    lambda o: st.lists(o, max_size=4) | st.dictionaries(st.text(max_size=5), o, max_size=4), max_leaves=12)
in_a_folder = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def shuffled(o, chance):
    "The same facts with the keys of every dictionary in another order"
    if isinstance(o, list):
        return [shuffled(p, chance) for p in o]
    if not isinstance(o, dict):
        return o
    return {k: shuffled(o[k], chance) for k in chance.sample(list(o), len(o))}


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


# --- words ---

@given(st.lists(st.text(max_size=6) | st.integers()), st.integers(1, 8))
def test_few_shows_the_first_and_counts_the_others(items, n):
    text = few(items, n)
    shown, more = (items[:n], f" and {len(items) - n} more") if len(items) > n else (items, "")
    assert text == ", ".join(map(repr, shown)) + more
    assert few(iter(items), n) == text
    assert few(items, n, str) == ", ".join(map(str, shown)) + more


def test_few_of_what_numpy_holds():
    "Scalars as plain numbers, arrays as they are"
    assert few(np.array([1, 2])) == "1, 2" and few(np.array([.5], "float64")) == "0.5" and few(np.array(["a"])) == "'a'"
    assert few([np.arange(2), None]) == "array([0, 1]), None"


@given(WORDS, st.lists(WORDS, min_size=1, unique=True))
def test_near_gives_a_name_that_is_known(name, known):
    text = near(name, known)
    meant = re.fullmatch(r"did you mean '(.*)'\?", text)
    if meant:
        assert meant.group(1) in known
    else:
        assert text == f"choose one of {', '.join(known)}" and name not in known


@given(WORDS, st.lists(WORDS, min_size=1, unique=True))
def test_one_of_is_the_name_or_an_error_with_its_cure(name, known):
    class OwnError(HPAError): pass
    if name in known:
        assert one_of(name, dict.fromkeys(known), "loss") == name
        return
    with pytest.raises(OwnError) as e:
        one_of(name, iter(known), "loss", OwnError)
    assert str(e.value) == f"no loss is called {name!r}: {near(name, known)}"


# --- digests and JSON ---

@given(JSON, st.randoms(use_true_random=False))
def test_digests_know_facts_and_not_their_order(facts, chance):
    d = digest(facts)
    assert re.fullmatch("[0-9a-f]{16}", d) and digest(shuffled(facts, chance)) == d and digest(json.loads(json.dumps(facts))) == d
    assert digest([facts]) != d and digest(dict(a=facts)) != d


@given(JSON, JSON)
def test_other_facts_have_other_digests(a, b):
    assert (digest(a) == digest(b)) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


@in_a_folder
@given(JSON)
def test_json_comes_back(tmp_path, facts):
    path = write_json(tmp_path / "a.json", facts)
    assert read_json(path) == facts and os.listdir(tmp_path) == ["a.json"]


@in_a_folder
@given(st.text(), st.text())
def test_text_comes_back_byte_by_byte(tmp_path, old, new):
    "Also where it cannot be written: what stood there stands there still"
    path = tmp_path / "a.txt"
    path.write_bytes(b"before")
    want = b"before"
    for text in (old, new):
        try:
            want = text.encode()
        except UnicodeEncodeError:
            with pytest.raises(UnicodeEncodeError):
                write_text(path, text)
        else:
            assert write_text(path, text) == path
        assert path.read_bytes() == want and os.listdir(tmp_path) == ["a.txt"]
    (tmp_path / "b.txt").write_bytes(want)
    assert file_digest(path) == file_digest(tmp_path / "b.txt")
    (tmp_path / "b.txt").unlink()


@in_a_folder
@given(JSON, st.data())
def test_damaged_json_is_named(tmp_path, facts, data):
    whole = json.dumps([facts]).encode()
    (tmp_path / "a.json").write_bytes(whole[:data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(HPAError, match="a.json: not readable as JSON"):
        read_json(tmp_path / "a.json")


# --- errors in the middle ---

def tree(folder):
    return {o.relative_to(folder).as_posix(): o.read_text() for o in sorted(Path(folder).rglob("*")) if o.is_file()}


def put(folder, **files):
    with placing(folder) as part:
        for name, text in files.items():
            (part / name).write_text(text)


@posix
def test_halves_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    "A process that was killed in the middle of a write, one that still writes, and files of other names"
    code = "import os, sys, time; from hpa_lib.core import writing\nwith writing('a.txt') as part: part.write_text('ha'); print(flush=True); time.sleep(60)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) for _ in range(2)]
    try:
        for o in both: o.stdout.readline()
        both[0].kill()
        both[0].wait()
        dead, alive = (f".a.txt.{o.pid}.partial" for o in both)
        for o in (f".a.txt.b.{both[0].pid}.partial", ".a.txt.99999999999999999999.partial", ".a.txt.partial"):
            (tmp_path/o).write_text("")
        left = {o.name for o in tmp_path.iterdir()}
        assert {dead, alive} <= left
        write_text(tmp_path/"a.txt", "whole")
        assert {o.name for o in tmp_path.iterdir()} == left - {dead, ".a.txt.99999999999999999999.partial"} | {"a.txt"}
    finally:
        for o in both: o.kill(), o.wait()
    assert sweep_partials(tmp_path/"a.txt") == [tmp_path/alive]


def test_errors_leave_what_stood_there(tmp_path):
    put(tmp_path / "a", x="old")
    with pytest.raises(KeyError):
        with placing(tmp_path / "a") as part:
            (part / "x").write_text("new")
            raise KeyError
    with pytest.raises(FileNotFoundError):                              # the writer's own mistake: nothing to give the name to
        with placing(tmp_path / "a") as part:
            part.rmdir()
    with pytest.raises(FileNotFoundError):
        with writing(tmp_path / "a" / "x"):
            pass
    assert tree(tmp_path) == {"a/x": "old"} and os.listdir(tmp_path) == ["a"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    "Without waiting for the next call"
    put(tmp_path / "a", x="old")
    rename = os.rename

    def full(a, b):
        if str(a).endswith(".partial"):
            raise OSError("the disk is full")
        rename(a, b)
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="disk is full"):
        put(tmp_path / "a", x="new")
    assert tree(tmp_path) == {"a/x": "old"}


def test_a_link_to_a_folder_stays_one(tmp_path):
    "The folder on the other disk is replaced, twice and more"
    (tmp_path / "large disk").mkdir()
    put(tmp_path / "large disk" / "store", x="0")
    (tmp_path / "store").symlink_to(tmp_path / "large disk" / "store")
    for text in "12":
        put(tmp_path / "store", x=text)
        assert (tmp_path / "store").is_symlink() and tree(tmp_path / "large disk") == {"store/x": text}
    os.rename(tmp_path / "large disk" / "store", tmp_path / "large disk" / ".store.old")
    heal_folder(tmp_path / "store")
    assert tree(tmp_path / "store") == {"x": "2"} and sorted(os.listdir(tmp_path)) == ["large disk", "store"]


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "a").write_text("thesis")
    with pytest.raises(HPAError, match="a: is a file; name another place for the folder, or move the file"):
        put(tmp_path / "a", x="new")
    assert tree(tmp_path) == {"a": "thesis"}


def test_the_folder_one_stands_in(tmp_path, monkeypatch):
    "A place may be said in any way that names it"
    put(tmp_path / "a", x="old")
    monkeypatch.chdir(tmp_path / "a")
    heal_folder(".")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    put("b/../a", x="new")
    assert tree(tmp_path / "a") == {"x": "new"}


def test_finished_folders_take_the_place(tmp_path):
    for text in ("old", "new"):
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "x").write_text(text)
        replace_folder(tmp_path / "part", tmp_path / "a")
    assert tree(tmp_path) == {"a/x": "new"}


# --- kills ---

REPLACE = """
import sys
from pathlib import Path
from hpa_lib.core import placing, writing

n = int(sys.argv[1])
while True:
    n += 1
    with writing('file') as part: part.write_text(f'{n} ' * 40_000)
    with placing('folder') as part:
        (part/'deep').mkdir()
        for o in ('a', 'b', 'deep/c'): (part/o).write_text(f'{n} ' * 20_000)
    print(n, flush=True)
"""


def whole(text: str, times: int) -> int:
    "The number that a file repeats; fails where it is cut or mixed"
    words = text.split(" ")
    assert len(words) == times + 1 and words[-1] == "" and len(set(words[:-1])) == 1, f"{len(words)} words, {set(words)}"
    return int(words[0])


@posix
def test_kills_at_random_moments(tmp_path):
    "24 times SIGKILL into a loop of replacements: what stands there is whole, and no older than what was finished"
    begun, chance, last, aside = time.perf_counter(), random.Random(0), 0, 0
    for _ in range(24):
        work = subprocess.Popen([sys.executable, "-c", REPLACE, str(last)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        try:
            first = work.stdout.readline()
            time.sleep(chance.uniform(0, .12))
        finally:
            work.kill()
            rest = work.communicate()[0]
        assert work.returncode == -signal.SIGKILL and first
        done = int((first + rest).split()[-1])
        aside += not (tmp_path / "folder").exists()
        heal_folder(tmp_path / "folder")
        file = whole((tmp_path / "file").read_text(), 40_000)
        parts = {k: whole(o, 20_000) for k, o in tree(tmp_path / "folder").items()}
        assert set(parts) == {"a", "b", "deep/c"} and len(set(parts.values())) == 1
        assert done <= parts["a"] <= file <= done + 1
        last = file
    put(tmp_path / "folder", x="new")                                   # and the next one clears away what the dead left beside it
    assert not list(tmp_path.glob(".folder*")) and tree(tmp_path / "folder") == {"x": "new"}
    took = time.perf_counter() - begun
    print(f"24 kills in {took:.1f} s, {last} replacements, {aside} between the two renames")
    assert took < 20


EVERY = """
import json, os, shutil, signal, sys
from pathlib import Path
from hpa_lib.core import heal_folder, placing, writing

def tree(folder): return {o.relative_to(folder).as_posix(): o.read_text() for o in sorted(Path(folder).rglob('*')) if o.is_file()}

def new_file():
    with writing('place') as part: part.write_text('new')

def new_folder():
    with placing('place') as part:
        (part/'deep').mkdir()
        for o in ('a', 'deep/b'): (part/o).write_text('new')

def old_file(): Path('place').write_text('old')

def old_folder():
    Path('place/deep').mkdir(parents=True)
    for o in ('a', 'deep/b', 'deep/c'): Path('place', o).write_text('old')

def killed(k, work):
    "Do it in a child that is killed before its k-th step in the file system; was it?"
    pid = os.fork()
    if pid: return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    steps = 0
    def step(event, args):
        nonlocal steps
        if event.split('.')[0] not in ('open', 'os', 'shutil'): return
        steps += 1
        if steps == k: os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(step)
    try: work()
    finally: os._exit(0)

def stands():
    if not Path('place').exists(): return None
    return tree('place') if Path('place').is_dir() else Path('place').read_text()

out = []
new, old = (new_folder, old_folder) if sys.argv[1] == 'folder' else (new_file, old_file)
for before in (old, None):
    k, go = 0, True
    while go:
        k += 1
        os.mkdir('room')
        os.chdir('room')
        if before: before()
        go = killed(k, new)
        seen = stands()
        j = 1
        while killed(j, lambda: heal_folder('place')): j += 1               # and killed again while it is mended, until it is
        mended = stands()
        new()
        out.append(dict(before=bool(before), killed=go, seen=seen, mended=mended, after=stands(), beside=sorted(os.listdir('.'))))
        os.chdir('..')
        shutil.rmtree('room')
print(json.dumps(out))
"""


@posix
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kills_before_every_step(tmp_path, kind):
    "SIGKILL before each open, rename, mkdir and removal in turn: after it the old content or the new one, and the next write works"
    done = subprocess.run([sys.executable, "-c", EVERY, kind], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert not done.returncode, done.stderr
    moments = json.loads(done.stdout)
    old = "old" if kind == "file" else {"a": "old", "deep/b": "old", "deep/c": "old"}
    new = "new" if kind == "file" else {"a": "new", "deep/b": "new"}
    for o in moments:
        first = old if o["before"] else None
        assert o["mended"] in (first, new) and o["after"] == new, o
        assert o["killed"] or o["mended"] == new
        if kind == "folder":
            assert o["beside"] == ["place"], o
    kills = sum(o["killed"] for o in moments)
    print(f"{kind}: {kills} kills, {sum(o['seen'] is None for o in moments if o['before'])} of them with the name missing")
    assert {str(o["mended"]) for o in moments if o["killed"]} >= {str(old), str(new)}      # some came too early, some too late
    if kind == "folder":
        assert kills >= 20 and any(o["before"] and o["seen"] is None for o in moments)      # one fell between the two renames


@posix
def test_two_processes_and_a_reader(tmp_path):
    "Both replace one file all the time: whoever reads it reads one of theirs, whole"
    code = REPLACE.replace("with placing", "continue\n    with placing")
    write_text(tmp_path / "file", "0 " * 40_000)
    both = [subprocess.Popen([sys.executable, "-c", code, n], cwd=tmp_path) for n in ("0", "1000000")]
    seen = set()
    try:
        until = time.time() + 10
        while time.time() < until and not (len([o for o in seen if 0 < o < 1000000]) > 4 and len([o for o in seen if o > 1000000]) > 4):
            seen.add(whole((tmp_path / "file").read_text(), 40_000))
    finally:
        for o in both:
            o.kill()
            o.wait()
    assert any(0 < o < 1000000 for o in seen) and any(o > 1000000 for o in seen)


def test_bytes_are_flushed_before_the_name_is_given(tmp_path, monkeypatch):
    "Each file, each folder, then the rename, then the list of names: what a loss of power asks for"
    log, fsync, rename, replace = [], os.fsync, os.rename, os.replace

    def name(handle):
        return Path(os.readlink(f"/proc/self/fd/{handle}")).relative_to(tmp_path).as_posix()
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", lambda h: (log.append(("sync", name(h))), fsync(h))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (log.append(("name", Path(b).name)), rename(a, b))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (log.append(("name", Path(b).name)), replace(a, b))[1])
    write_text(tmp_path / "file", "x")
    assert log == [("sync", f".file.{os.getpid()}.partial"), ("name", "file"), ("sync", ".")]
    log.clear()
    with placing(tmp_path / "a") as part:
        (part / "deep").mkdir()
        for o in ("x", "deep/y"):
            (part / o).write_text("x")
    assert log[-2:] == [("name", "a"), ("sync", ".")]
    assert sorted(log[:-2]) == [("sync", ".a.partial"), ("sync", ".a.partial/deep"), ("sync", ".a.partial/deep/y"), ("sync", ".a.partial/x")]


def test_errors_are_value_errors():
    code = textwrap.dedent("""
        from hpa_lib.core import one_of
        try: one_of('focl', ['focal'], 'loss')
        except ValueError as e: print(e)
    """)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "no loss is called 'focl': did you mean 'focal'?"
