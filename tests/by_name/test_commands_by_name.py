"""Commands take files by name, never by place: see `commands_walk`."""
import warnings

import pytest
from commands_walk import ENTRIES, EXEMPT, file_parameters, walk_line

from hpa_lib.cli import commands

LINES = [(name, i) for name in ENTRIES for i in range(len(ENTRIES[name]))]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Figures are not asked about here, and take their time"
    for o in ('plot_history', 'plot_classes', 'plot_curves', 'plot_samples'): monkeypatch.setattr(f'hpa_lib.run.folder.{o}', lambda *a, **k: 'not drawn')


@pytest.mark.parametrize('name', commands)
def test_every_file_of_every_command_is_walked(name):
    "A new command, or a new parameter that takes a file, needs a line or a reason"
    assert name in ENTRIES or name in EXEMPT, 'no line in commands_walk'
    walked = {o for line in ENTRIES.get(name, []) for o in line.files}
    known = walked | set(EXEMPT.get(name, {}))
    assert file_parameters(name) <= known, f'nothing changes {sorted(file_parameters(name) - known)}'
    assert not walked & set(EXEMPT.get(name, {})) and set(EXEMPT.get(name, {})) <= file_parameters(name)


@pytest.mark.slow
@pytest.mark.parametrize('name,i', LINES, ids=[f'{n}-{i}' for n, i in LINES])
def test_the_same_answer_or_a_refusal_that_names_it(name, i):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        wrong = [f'{part} {change}: {what}' for part, change, what in walk_line(ENTRIES[name][i]) if what.startswith('WRONG')]
    assert not wrong, '\n'.join(wrong)
