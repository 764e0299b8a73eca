"Steps: exactly what a change concerns is redone, and nothing half-written is ever taken for complete."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpa_lib.core import RunError
from hpa_lib.run.steps import Files, Step, identity, order_steps, plan, run_steps

N = 9


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def random_graph(seed, path):
    "Who reads whom among N steps: each some of the earlier ones, by name or by path"
    rng = np.random.default_rng(seed)
    return [sorted(rng.choice(i, rng.integers(0, min(i, 3) + 1), replace=False).tolist()) for i in range(N)], rng.random(N) < .5


def build(reads, by_name, path, outside, settings, deaf=()):
    "Steps whose output is their setting and all they read; a deaf one writes always the same"
    def work(i):
        def run():
            seen = [(path/f's{j}.txt').read_text() for j in reads[i]] + [outside.read_text()]*(i == 0)
            write(path/f's{i}.txt', 'same' if i in deaf else json.dumps([settings[i], *seen]))
        return run
    def read(i):
        upstream = [f's{j}' if by_name[i] else Path(f's{j}.txt') for j in reads[i]]
        return (*upstream, outside) if i == 0 else tuple(upstream)
    return [Step(f's{i}', work(i), read(i), (f's{i}.txt',), settings=dict(part=dict(x=settings[i]))) for i in range(N)]


def concerned(reads, i, deaf=()):
    "Step i and what hears of it, through steps that are not deaf"
    out = {i}
    for j in range(i + 1, N):
        if set(reads[j]) & (out - set(deaf)): out.add(j)
    return [f's{j}' for j in sorted(out)]


@pytest.mark.parametrize('seed', range(6))
def test_exactly_the_dependents_rerun(seed, tmp_path):
    reads, by_name = random_graph(seed, tmp_path)
    outside, path, settings = tmp_path/'in.txt', tmp_path/'run', [0]*N
    outside.write_text('in')
    def steps(deaf=()): return build(reads, by_name, path, outside, settings, deaf)
    assert run_steps(steps()[::-1], path, progress=False) and run_steps(steps(), path) == []
    for i in np.random.default_rng(seed).permutation(N).tolist():
        settings[i] += 1
        table = plan(steps(), path)
        assert table.index[table.status != 'done'].tolist() == concerned(reads, i)
        assert table.why[f's{i}'] == f'settings changed: part.x {settings[i] - 1} -> {settings[i]}'
        assert run_steps(steps(), path, progress=False) == concerned(reads, i)
        seen = [(path/f's{j}.txt').read_text() for j in reads[i]] + ['in']*(i == 0)
        assert (path/f's{i}.txt').read_text() == json.dumps([settings[i], *seen])
    outside.write_text('other')
    assert run_steps(steps(), path, progress=False) == concerned(reads, 0)


@pytest.mark.parametrize('seed', range(6))
def test_what_comes_out_the_same_stops_there(seed, tmp_path):
    reads, by_name = random_graph(seed, tmp_path)
    outside, path, settings, deaf = tmp_path/'in.txt', tmp_path/'run', [0]*N, (0, 2, 4)
    outside.write_text('in')
    def steps(): return build(reads, by_name, path, outside, settings, deaf)
    run_steps(steps(), path, progress=False)
    for i in range(N):
        settings[i] += 1
        ran = run_steps(steps(), path, progress=False)
        assert ran == concerned(reads, i, deaf)
        assert set(ran) <= set(concerned(reads, i))                                # never more than the plan said


KILLED = """
import os, sys, time
from pathlib import Path
from hpa_lib.run.steps import Step, run_steps
path = Path(sys.argv[1])
def a(): (path/'a').write_text('a'); open(path.parent/'log', 'a').write('a')
def b():
    (path/'b').mkdir(exist_ok=True); (path/'b/one').write_text('half'); (path/'b/two').write_text('whole')
    open(path.parent/'log', 'a').write('b')
    if sys.argv[2] == 'hang': (path.parent/'ready').write_text(''); time.sleep(60)
    (path/'b/one').write_text('whole')
def c(): (path/'c').write_text((path/'b/one').read_text())
steps = [Step('a', a, (), ('a',)), Step('b', b, ('a',), ('b',)), Step('c', c, ('b',), ('c',))]
print(run_steps(steps, path, progress=False))
"""


def test_kill_and_go_on(tmp_path):
    path = tmp_path/'run'
    def call(how): return [sys.executable, '-c', KILLED, str(path), how]
    first = subprocess.Popen(call('hang'))
    deadline = time.time() + 60
    while not (tmp_path/'ready').exists():
        assert time.time() < deadline and first.poll() is None
        time.sleep(.05)
    second = subprocess.run(call('go'), capture_output=True, text=True)              # two at once: refused
    assert second.returncode and 'RunError' in second.stderr and 'another process is working' in second.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert sorted(o.name for o in (path/'b').iterdir()) == ['one', 'two']            # looks complete, and is not
    done = subprocess.run(call('go'), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['b', 'c']" and (tmp_path/'log').read_text() == 'abb'
    assert (path/'c').read_text() == 'whole'


@pytest.mark.parametrize('text', [
    '', '{"format": 1, "steps": {"a"', '[]', '{"format": 2, "steps": {}}', '{"format": 1, "steps": {"a": 3}}',
    '{"format": 1, "steps": []}'])
def test_a_damaged_record_says_so(text, tmp_path):
    step = Step('a', lambda: write(tmp_path/'a', 'x'), writes=('a',))
    run_steps([step], tmp_path, progress=False)
    (tmp_path/'steps.json').write_text(text)
    for call in (plan, run_steps):
        with pytest.raises(RunError, match='steps.json cannot be read.*delete it'): call([step], tmp_path)
    (tmp_path/'steps.json').unlink()
    assert run_steps([step], tmp_path, progress=False) == ['a']


def test_a_leftover_partial_record_is_ignored(tmp_path):
    step = Step('a', lambda: write(tmp_path/'a', 'x'), writes=('a',))
    run_steps([step], tmp_path, progress=False)
    (tmp_path/'.steps.json.partial').write_text('{"for')
    assert run_steps([step], tmp_path) == []


def test_a_run_folder_can_be_moved(tmp_path):
    outside = tmp_path/'in'
    outside.write_text('1')
    def steps(path):
        a = Step('a', lambda: write(path/'sub/a', 'x'), (outside,), ('sub/a',))
        b = Step('b', lambda: write(path/'b', 'y'), (path/'sub/a',), (path/'b',))
        return [a, b]
    assert run_steps(steps(tmp_path/'old'), tmp_path/'old', progress=False) == ['a', 'b']
    os.rename(tmp_path/'old', tmp_path/'new')
    assert run_steps(steps(tmp_path/'new'), tmp_path/'new') == []


def test_what_changes_while_a_step_runs_is_seen_next_time(tmp_path):
    outside = tmp_path/'in'
    outside.write_text('1')
    def run():
        write(tmp_path/'run/a', outside.read_text())
        outside.write_text('2')
    step = Step('a', run, (outside,), ('a',))
    run_steps([step], tmp_path/'run', progress=False)
    assert plan([step], tmp_path/'run').why['a'].startswith('input changed')


def test_a_failure_keeps_what_was_done(tmp_path):
    def fail(): raise RuntimeError('no')
    def steps(b): return [Step('a', lambda: write(tmp_path/'a', 'x'), writes=('a',)), Step('b', b, ('a',), ('b',))]
    with pytest.raises(RuntimeError) as e: run_steps(steps(fail), tmp_path, progress=False)
    assert e.value.__notes__ == ['in step b']
    good = steps(lambda: write(tmp_path/'b', 'y'))
    assert run_steps(good, tmp_path, progress=False) == ['b']
    (tmp_path/'b').unlink()
    with pytest.raises(RuntimeError): run_steps(steps(fail), tmp_path, progress=False)
    write(tmp_path/'b', 'y')                                                        # the right content, but nobody vouches for it
    assert plan(good, tmp_path).why.to_dict() == {'a': '', 'b': 'begun but not finished'}


def test_part_of_a_written_folder_is_an_input(tmp_path):
    def steps(other):
        def both():
            write(tmp_path/'out/x', 'x')
            write(tmp_path/'out/y', other)
        a = Step('a', both, (), ('out',), settings=dict(o=other))
        b = Step('b', lambda: write(tmp_path/'b', 'b'), (Path('out/x'),), ('b',))
        return [a, b]
    assert order_steps(steps('1')[::-1], tmp_path) == {'a': [], 'b': ['a']}
    assert run_steps(steps('1'), tmp_path, progress=False) == ['a', 'b']
    assert run_steps(steps('2'), tmp_path, progress=False) == ['a']


def test_many_files_as_one_input(tmp_path):
    for o in 'xy': write(tmp_path/f'in/{o}', o)
    files = Files('pictures', tuple(tmp_path/f'in/{o}' for o in 'xyz'))              # z is missing, which is a fact like others
    step = Step('a', lambda: write(tmp_path/'run/a', 'a'), (files,), ('a',))
    run_steps([step], tmp_path/'run', progress=False)
    assert run_steps([step], tmp_path/'run') == []
    write(tmp_path/'in/z', 'z')
    assert plan([step], tmp_path/'run').why['a'] == 'input changed: pictures'
    os.rename(tmp_path/'in', tmp_path/'elsewhere')                                  # all moved together: the same files
    moved = Files('pictures', tuple(tmp_path/f'elsewhere/{o}' for o in 'xyz'))
    run_steps([Step('a', step.run, (moved,), ('a',))], tmp_path/'run', progress=False)
    os.rename(tmp_path/'elsewhere', tmp_path/'in')
    assert run_steps([step], tmp_path/'run') == []


def test_a_store_is_what_it_holds(tmp_path):
    from hpa_lib.data.samples import read_samples
    from hpa_lib.data.store import Store, pack
    from hpa_lib.synth.atlas import make_atlas
    samples = read_samples(make_atlas(tmp_path/'atlas', n=8, size=16, cover=0, workers=1))
    def packed(name, rows): return identity(pack(rows, tmp_path/name, 16, workers=1, progress=False).path)
    first = packed('a.zarr', samples)
    assert packed('b.zarr', samples) == first                                       # another place and another time
    assert packed('c.zarr', samples[::-1].reset_index(drop=True)) != first
    os.utime(tmp_path/'a.zarr/samples.parquet', (0, 0))
    assert identity(tmp_path/'a.zarr') == first and len(Store(tmp_path/'a.zarr')) == 8
