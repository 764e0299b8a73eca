"What can be said to `hpa`: every option of every command, every option that a message or a page names."
import argparse
import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from commands import hpa

from hpa_lib.cli import commands, strict_parser

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = ('help', 'pdb', 'xtra')
WORDS = {int: '1', float: '.5', str: 'x', None: 'x'}


@cache
def parser(command): return strict_parser(commands[command], f'hpa {command}')


def actions(command): return [o for o in parser(command)._actions if o.dest not in HIDDEN]


def value(action): return action.choices[0] if action.choices else WORDS[action.type]


def needed(command):
    "A word for every place that must be filled"
    return [value(o) for o in actions(command) if not o.option_strings and o.nargs not in ('?', '*')]


def options(command): return {s for o in actions(command) for s in o.option_strings}


OPTIONS = [(c, o.option_strings[0], o) for c in commands for o in actions(c) if o.option_strings]
MANY = [(c, s, o) for c,s,o in OPTIONS if o.nargs in ('+', '*') or isinstance(o, argparse._AppendAction)]
FLAGS = [(c, s, o) for c,s,o in OPTIONS if o.nargs == 0]
SINGLE = [o for o in OPTIONS if o not in MANY and o not in FLAGS]


def named(cases): return dict(argvalues=cases, ids=[f'{c}{s}' for c,s,_ in cases])


def test_every_option_is_of_a_known_kind():
    assert len(SINGLE) > 80 and len(FLAGS) > 15
    assert {(c, s) for c,s,_ in MANY} >= {('run', '--set'), ('run', '--fold'), ('run', '--pictures'), ('run', '--train-only'), ('run', '--accept'), ('train', '--set'), ('train', '--fold'),
                                          ('demo', '--set'), ('pack', '--size'), ('folds', '--train-only')}


@pytest.mark.parametrize('command,option,action', **named(SINGLE))
def test_one_value_is_said_once(command, option, action, capsys):
    word, many = value(action), [option, value(action)]
    assert vars(parser(command).parse_args([*needed(command), *many]))[action.dest] == (action.type or str)(word)
    for again in (many, [f'{option}={word}']):
        with pytest.raises(SystemExit) as e: parser(command).parse_args([*needed(command), *many, *again])
        assert e.value.code == 2 and f'{option} is said twice, and takes one value' in capsys.readouterr().err
    assert vars(parser(command).parse_args([*needed(command), *many]))[action.dest] == (action.type or str)(word)     # a parser forgets what it was told
    with pytest.raises(SystemExit): parser(command).parse_args([*needed(command), option])
    assert f'argument {option}: expected one argument' in capsys.readouterr().err


@pytest.mark.parametrize('command,option,action', **named(MANY))
def test_many_values_add_up(command, option, action):
    word, one = value(action), (action.type or str)(value(action))
    twice = [option, word, option, word]
    assert vars(parser(command).parse_args([*needed(command), *twice]))[action.dest] == [one, one]
    if action.nargs == '+': assert vars(parser(command).parse_args([*needed(command), option, word, word, *twice]))[action.dest] == [one]*4
    assert not vars(parser(command).parse_args(needed(command)))[action.dest]


@pytest.mark.parametrize('command,option,action', **named(FLAGS))
def test_flags_are_off_until_they_are_said(command, option, action):
    assert [vars(parser(command).parse_args([*needed(command), *said]))[action.dest] for said in ([], [option], [option, option])] == [False, True, True]


@pytest.mark.parametrize('command', commands)
def test_no_option_is_guessed(command, capsys):
    for o in sorted(options(command)):
        short = o[:-1]
        if len(short) < 4 or short in options(command): continue
        with pytest.raises(SystemExit): parser(command).parse_args([*needed(command), short])
        assert 'unrecognized arguments' in capsys.readouterr().err


@pytest.mark.parametrize('command', commands)
def test_help_of_every_command(command):
    "Of each parameter it tells what it is, in words of its own"
    text = ' '.join(hpa(command, '--help').split())
    assert f'usage: hpa {command}' in text and ' '.join(commands[command].__doc__.split()) in text
    for o in actions(command):
        assert o.help and not o.help.strip().startswith('(default') and len(o.help.split()) > 1, f'{command} {o.dest} has no help'
        assert ' '.join(o.help.split()[:3]) in text, f'{command} {o.dest}'
        for s in o.option_strings: assert s in text


# --- options that messages name ---

TREE = ast.parse((ROOT/'hpa_lib/cli.py').read_text(encoding='utf-8'))
FUNCTIONS = {o.name: o for o in TREE.body if isinstance(o, ast.FunctionDef)}


def said(node):
    "The texts of a function, without its signature; what is put into them stands as {}"
    texts = []
    class Look(ast.NodeVisitor):
        def visit_JoinedStr(self, o):
            texts.append(''.join(v.value if isinstance(v, ast.Constant) else '{}' for v in o.values))
            for v in o.values:
                if isinstance(v, ast.FormattedValue): self.visit(v.value)
        def visit_Constant(self, o):
            if isinstance(o.value, str): texts.append(o.value)
    for o in node.body: Look().visit(o)
    return texts


def reached(name):
    "A function of the room and all others of it that it calls"
    seen, todo = set(), [name]
    while todo:
        if (one := todo.pop()) in seen: continue
        seen.add(one)
        todo += [o.id for o in ast.walk(FUNCTIONS[one]) if isinstance(o, ast.Name) and o.id in FUNCTIONS]
    return seen


def mentioned(text, own):
    "(command, option) for each option in a text: of the `hpa COMMAND` before it, else of the command itself"
    for part in re.split(r'(?=`?\bhpa [a-z])', text):
        other = re.match(r'`?hpa ([a-z]+)', part)
        for o in re.findall(r'(?<![\w-])--[a-z][a-z-]*', part): yield (other[1] if other else own), o


@pytest.mark.parametrize('command', commands)
def test_options_in_messages_exist(command):
    name = commands[command].__name__
    found = {o for f in reached(name) for text in said(FUNCTIONS[f]) for o in mentioned(text, command)}
    # helpers that several commands share speak of an option that one of them has
    for other,option in found:
        shared = [c for c in commands if any(option in text for f in reached(commands[c].__name__) for text in said(FUNCTIONS[f]))]
        assert other in commands and any(option in options(c) for c in ([other] if other != command else shared)), f'{command} speaks of {other} {option}'


def test_the_search_for_options_finds_some():
    assert list(mentioned('say --out; then `hpa folds X --run R` or `hpa run R --accept F`', 'pack')) == [('pack', '--out'), ('folds', '--run'), ('run', '--accept')]
    assert {'--labels', '--known', '--weights', '--decision'} <= {o for f in FUNCTIONS.values() for text in said(f) for _,o in mentioned(text, '')}


def test_options_in_messages_of_other_rooms_exist():
    "They speak to a terminal too, so some command must have what they name"
    every, found = set().union(*map(options, commands)), set()
    for file in (ROOT/'hpa_lib').rglob('*.py'):
        if file.stem in ('cli', '_modidx'): continue
        tree = ast.parse(file.read_text(encoding='utf-8'))
        texts = [t for o in ast.walk(tree) if isinstance(o, ast.FunctionDef) for t in said(o)]
        found |= {(c, o) for t in texts for c,o in mentioned(t, '')}
    assert {('', '--accept'), ('', '--table'), ('', '--reduce')} <= found
    assert not [(c, o) for c,o in found if o not in (options(c) if c else every)]


@pytest.mark.parametrize('words,option', [
    (['run', 'default', '--pictures', 'ATLAS', '--yellow', 'grey'], '--yellow'),
    (['pack', 'ATLAS', '--planes', 'red=0'], '--planes'),
    (['duplicates', 'ATLAS', '--names', 'a=red'], '--names'),
    (['folds', 'ATLAS/train.csv', '--allow-missing'], '--allow-missing'),
    (['leaks', 'ATLAS/train.csv', '--depth', '12'], '--depth'),
    (['run', 'RECIPE', '--allow-missing'], '--allow-missing'),
    (['run', 'RECIPE', '--depth', '12'], '--depth'),
])
def test_options_that_messages_put_together_exist(words, option, tmp_path):
    "An option that cannot be used is named as it was written"
    (tmp_path/'atlas/train').mkdir(parents=True)
    (tmp_path/'atlas/train.csv').write_text('Id,Target\na,0\n')
    (tmp_path/'r.toml').write_text('[[source]]\npath = "atlas"\n')
    places = dict(ATLAS=str(tmp_path/'atlas'), RECIPE=str(tmp_path/'r.toml'))
    text = hpa(*[re.sub('ATLAS|RECIPE', lambda o: places[o[0]], w) for w in words], status=2)
    assert re.findall(r'(?<![\w-])--[a-z][a-z-]*', text)[0] == option and option in options(words[0])


# --- command lines on pages ---

def lines_of(path):
    "Lines that begin with `hpa COMMAND`, continued ones in one piece"
    if path.suffix == '.ipynb':
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        text = '\n'.join(''.join(c['source']) for c in cells)
    else: text = path.read_text(encoding='utf-8')
    for line in text.replace('\\\n', ' ').splitlines():
        line = line.strip().removeprefix('$ ').removeprefix('!')
        if re.match(r'hpa [a-z]+ ', line): yield line
        else: yield from re.findall(r'`(hpa [a-z]+ [^`]+)`', line)


PAGES = [o for o in (ROOT/'README.md', ROOT/'nbs/index.ipynb', *sorted((ROOT/'nbs/tutorials').glob('*.ipynb'))) if o.is_file()]


@pytest.mark.parametrize('path', PAGES, ids=lambda o: o.name)
def test_command_lines_on_pages_are_understood(path, capsys):
    wrong = []
    for line in lines_of(path):
        words = shlex.split(line, comments=True)[1:]
        if words[0] not in commands or '...' in line: continue
        try: parser(words[0]).parse_args(words[1:])
        except SystemExit: wrong.append(f'{line}: {capsys.readouterr().err.splitlines()[-1]}')
    assert not wrong


def test_pages_hold_command_lines():
    assert len([o for p in PAGES for o in lines_of(p)]) > 20
