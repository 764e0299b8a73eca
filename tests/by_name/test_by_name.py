"""By name, never by place: every public function that takes tables, pictures, networks or runs is walked through changes that must not change its answer.

Rows, classes and channels in another order, ids that count instead of naming, a row less, an id twice, another dtype, a NaN: the answer is the same,
or a `ValueError` says what is wrong. A function that takes such things and has no entry fails `test_every_function_has_an_entry`.

    python tests/by_name/test_by_name.py       # prints what each function did under each change
"""
import inspect
import os
import tempfile
import warnings
from pathlib import Path

import hpa_lib
import networks
import pictures
import pytest
import runs
import tables
from walk import public, walk

REGISTRIES = [tables, pictures, networks, runs]
ROOMS = [room for o in REGISTRIES for room in o.ROOMS]
ENTRIES = {room: o.ENTRIES.get(room, {}) for o in REGISTRIES for room in o.ROOMS}
TAKES = {room: o.TAKES for o in REGISTRIES for room in o.ROOMS}
EXEMPT = {room: o.EXEMPT.get(room, {}) for o in REGISTRIES for room in o.ROOMS}
WALKS = [(room, name) for room in ROOMS for name in ENTRIES[room]]
# Rooms whose functions take none of these things
NONE = {'core', 'all', 'cli', '__main__', '_modidx'}


def test_every_room_is_walked():
    package = Path(hpa_lib.__file__).parent
    rooms = {'.'.join(o.relative_to(package).with_suffix('').parts) for o in package.rglob('*.py') if o.name != '__init__.py'}
    assert sorted(ROOMS) == sorted(set(ROOMS)), 'a room stands in two registries'
    assert rooms - NONE == set(ROOMS), f'no registry for {sorted(rooms - NONE - set(ROOMS))}'


@pytest.mark.parametrize('room', ROOMS)
def test_every_function_has_an_entry(room):
    takes = {k for k, f in public(room) if set(inspect.signature(f).parameters) & TAKES[room]}
    known = set(ENTRIES[room]) | set(EXEMPT[room])
    assert takes <= known, f'no entry for {sorted(takes - known)}'
    assert not set(ENTRIES[room]) & set(EXEMPT[room])


@pytest.mark.slow
@pytest.mark.parametrize('room,name', WALKS, ids=[f'{r}.{n}' for r, n in WALKS])
def test_the_same_answer_or_a_refusal(room, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        wrong = [f'{part} {change}: {what}' for part, change, what in walk(ENTRIES[room][name]) if what.startswith('WRONG')]
    assert not wrong, '\n'.join(wrong)


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    os.chdir(tempfile.mkdtemp())
    for room, name in WALKS:
        print(f'\n{room}.{name}')
        for part, change, what in walk(ENTRIES[room][name]): print(f'  {part:12} {change:24} {what[:110]}')
