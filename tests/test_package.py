"What a notebook cannot see of itself: import times, sizes, paths, and that the command answers."
import ast
import configparser
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpa_lib.core import DataError, DecisionError, HPAError, LearnError, NetError, RunError, SynthError

ROOT = Path(__file__).resolve().parent.parent
def dotted(path):
    "`hpa_lib/data/store.py` -> `data.store`"
    return '.'.join(path.relative_to(ROOT/'hpa_lib').with_suffix('').parts)


WINGS = ['data', 'synth', 'nets', 'learn', 'decide', 'see', 'run']    # from the top down
BY_HAND = {'__init__', '__main__', '_modidx', 'all', *(f'{o}.__init__' for o in WINGS)}
MODULES = sorted({dotted(o) for o in (ROOT/'hpa_lib').rglob('*.py')} - BY_HAND)
NOTEBOOKS = [o for o in sorted((ROOT/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in o.parts]
LIGHT = ['core', 'data.labels', 'data.samples', 'data.images', 'data.folds', 'data.scores', 'data.probs', 'synth.atlas', 'decide.thresholds', 'decide.submit', 'cli']


def run(code: str) -> str:
    "Output of Python code in a fresh process."
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_labels_import_under_a_second():
    code = 'import time; t = time.perf_counter(); import hpa_lib.data.labels; print(time.perf_counter() - t)'
    assert min(float(run(code)) for _ in range(3)) < 1


@pytest.mark.parametrize('name', LIGHT)
def test_light_modules_need_no_torch(name):
    heavy = run(f"import sys, hpa_lib.{name}; print([o for o in ('torch', 'fastai', 'timm', 'matplotlib.pyplot') if o in sys.modules])")
    assert heavy.strip() == '[]'


def test_all_gives_notebooks_their_names():
    names = 'rgby_learner store_dls HPA28 make_atlas nested_score pack Bundle train_run np pd Path Learner set_seed'.split()
    assert run(f"from hpa_lib.all import *; print([o for o in {names} if o not in globals()])").strip() == '[]'


def test_help_is_quick():
    begun = time.perf_counter()
    text = run("from hpa_lib.cli import main; main(['--help'])")
    assert 'hpa demo' in text and time.perf_counter() - begun < 5


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda o: o.name)
def test_notebook_is_small_and_names_no_machine(path):
    assert path.stat().st_size < 300 * 1024, f'{path.name} is {path.stat().st_size // 1024} kB, about 300 is the limit: smaller figures, or jpeg'
    text = path.read_text(encoding='utf-8')
    assert not re.search(r'(/home/|/root/|/work/|/Users/|[A-Z]:\\\\\\\\Users)', text), 'a path of somebody\'s machine'
    cells = json.loads(text)['cells']
    assert not [o for c in cells for o in c.get('outputs', []) if o['output_type'] == 'error']


def test_modules_come_from_notebooks():
    made = {m.group(1): o for o in NOTEBOOKS if (m := re.search(r'#\| default_exp ([\w.]+)', o.read_text(encoding='utf-8')))}
    assert set(MODULES) == set(made)
    # A notebook and its module stand in the same folder and have the same name
    for name, page in made.items():
        assert [*page.relative_to(ROOT/'nbs').parent.parts, page.stem.split('_', 1)[1]] == name.split('.')


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda o: o.name)
def test_links_between_pages_lead_somewhere(path):
    "Links of the front page start at the top, because README.md is made from it"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    start = ROOT if path.name == 'index.ipynb' else path.parent
    links = [o for o in re.findall(r'\]\(([^)#\s]+)', text) if not o.startswith('http')]
    assert not [o for o in links if not (start/o).exists()]


def test_the_front_page_leads_to_every_room():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    rooms = [o.relative_to(ROOT).as_posix() for o in NOTEBOOKS if o.name != 'index.ipynb']
    assert not [o for o in rooms if f'({o})' not in text]


def test_tests_stand_in_the_folder_of_their_wing():
    folders = {o.parent.relative_to(ROOT/'tests').as_posix() for o in (ROOT/'tests').rglob('test_*.py')}
    assert folders <= {'.', 'by_name', 'cli', *WINGS}


def test_no_page_speaks_of_a_notebook_that_is_gone():
    "`26_folds` and the like"
    known = {o.stem for o in NOTEBOOKS}
    for path in NOTEBOOKS:
        named = set(re.findall(r'`(\d\d_[a-z_]+)`', path.read_text(encoding='utf-8')))
        assert named <= known, path.name


def classes(name):
    "Exception classes that a module defines"
    module = importlib.import_module(f'hpa_lib.{name}')
    return [o for o in vars(module).values() if isinstance(o, type) and issubclass(o, Exception) and o.__module__ == module.__name__]


@pytest.fixture(scope='session')
def alone():
    "Module -> modules of this library that a fresh process has loaded after importing it, or what went wrong"
    def load(name):
        code = f"import sys, hpa_lib.{name}; print(*[o for o in sys.modules if o.startswith('hpa_lib.')])"
        try: return run(code).split()
        except subprocess.CalledProcessError as e: return e.stderr
    with ThreadPoolExecutor(os.cpu_count()) as pool: return dict(zip(MODULES, pool.map(load, MODULES)))


@pytest.mark.slow
@pytest.mark.parametrize('name', MODULES)
def test_a_module_imports_alone(alone, name):
    assert f'hpa_lib.{name}' in alone[name], alone[name]


@pytest.mark.slow
@pytest.mark.parametrize('name', MODULES)
def test_a_module_loads_nothing_of_the_wings_below(alone, name):
    order = ['core', *WINGS, 'cli']
    below = order[order.index(name.split('.')[0]) + 1:]
    assert not [o for o in alone[name] if o.split('.')[1] in below]


@pytest.mark.parametrize('wing', WINGS)
def test_a_wing_says_what_it_is_for_and_loads_nothing(wing):
    said = run(f"import sys, hpa_lib.{wing} as w; print(len(w.__doc__.splitlines()), [o for o in sys.modules if o.startswith('hpa_lib.{wing}.')])")
    assert said.strip() == '1 []'


@pytest.mark.parametrize('name', MODULES)
def test_errors_of_a_room_are_ours(name):
    "Whoever catches HPAError catches all that this library refuses"
    assert not [o.__name__ for o in classes(name) if issubclass(o, ValueError) and not issubclass(o, HPAError)]


REFUSED = {
    'data.labels': ("get_vocab('hpa29')", "did you mean 'hpa28'"),
    'data.download': ("hpa_files(['cat'], 'x')", "no ids of the public atlas: 'cat'"),
    'data.duplicates': ("get_rule('verifyed')", "did you mean 'verified'"),
    'data.folds': ("save_folds(None, 'x.xlsx')", "x.xlsx: folds are kept as .csv or .parquet"),
    'synth.atlas': ("make_atlas('x', cell_lines=['HeLo'])", "no cell line is called 'HeLo': did you mean 'HeLa'"),
    'nets.models': ("rgby_model('resnet18', 2, head='concat_pol', weights=None)", "did you mean 'concat_pool'"),
    'learn.sampling': ("class_weights([1], 1, 'ballance')", "did you mean 'balance'"),
    'learn.augment': ("augmentation('bestfiting')", "did you mean 'bestfitting'"),
    'learn.losses': ("get_loss('lovas')", "did you mean 'lovasz'"),
    'decide.threshold_rules': ("threshold_rule('exakt')", "no rule is called 'exakt': did you mean 'exact'?"),
    'run.recipes': ("load_recipe('bestfiting')", "no recipe is called 'bestfiting' (a file ends in .toml): did you mean 'bestfitting'?"),
}
OWN = dict(data=DataError, synth=SynthError, nets=NetError, learn=LearnError, decide=DecisionError, run=RunError)


@pytest.mark.parametrize('name', REFUSED)
def test_a_real_cause_raises_the_error_of_its_wing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, says = REFUSED[name]
    with pytest.raises(HPAError) as e:
        eval(call, vars(importlib.import_module(f'hpa_lib.{name}')))
    own = OWN[name.split('.')[0]]
    assert says in str(e.value) and not list(tmp_path.iterdir())
    assert type(e.value) is own or type(e.value) in classes(name)


@pytest.mark.parametrize('name', [*REFUSED, 'data.shared_folds', 'see.report'])
def test_words_and_writes_are_written_once(name):
    "No list cut short, near miss or write beside the place but those of core"
    tree = ast.parse((ROOT/'hpa_lib'/f"{name.replace('.', '/')}.py").read_text(encoding='utf-8'))
    made = {o.name for o in ast.walk(tree) if isinstance(o, ast.FunctionDef)}
    used = {p.name for o in ast.walk(tree) if isinstance(o, (ast.Import, ast.ImportFrom)) for p in o.names}
    used |= {o.attr for o in ast.walk(tree) if isinstance(o, ast.Attribute)}
    assert not made & {'_few', '_some', '_near', '_beside', '_write_json'}
    assert not used & {'get_close_matches', 'fsync', 'hashlib'}


def imported(path):
    "Names of the packages that a module imports, at its top or in its functions"
    tree = ast.parse(path.read_text(encoding='utf-8'))
    whole = [a.name for o in ast.walk(tree) if isinstance(o, ast.Import) for a in o.names]
    parts = [o.module for o in ast.walk(tree) if isinstance(o, ast.ImportFrom) and not o.level]
    return {o.split('.')[0] for o in whole + parts}


def required(section):
    "Names of the distributions that `setup.py` asks for"
    ini = configparser.ConfigParser(delimiters=['='], interpolation=None)
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    lines = [o.strip() for o in ini['DEFAULT'][section].splitlines()]
    return {re.match(r'[\w.-]+', o)[0].lower().replace('_', '-') for o in lines if o and not o.startswith('#')}


def test_what_the_library_imports_is_installed_with_it():
    "Without the extra of developers; only the client of Kaggle is somebody's own choice, and its absence says so"
    provides = importlib.metadata.packages_distributions()
    used = {o for path in (ROOT/'hpa_lib').rglob('*.py') for o in imported(path)} - set(sys.stdlib_module_names) - {'hpa_lib'}
    assert {'torch', 'PIL', 'fastcore', 'sklearn'} <= used
    wanted = required('requirements')
    lacking = {o for o in used if not {p.lower().replace('_', '-') for p in provides.get(o, [o])} & wanted}
    assert lacking == {'kaggle'} and 'kaggle' in required('kaggle_requirements')


def test_modules_of_one_system_are_imported_where_they_are_used():
    "Windows has no `resource`, `fcntl` and the like: a module that needs one at its top could not be imported there"
    only_posix = {'resource', 'fcntl', 'termios', 'pwd', 'grp', 'pty', 'tty'}
    for path in (ROOT/'hpa_lib').rglob('*.py'):
        top = [o for o in ast.parse(path.read_text(encoding='utf-8')).body if isinstance(o, ast.Import | ast.ImportFrom)]
        names = {a.name for o in top if isinstance(o, ast.Import) for a in o.names} | {o.module for o in top if isinstance(o, ast.ImportFrom)}
        assert not names & only_posix, path


@pytest.mark.slow
def test_a_run_folder_is_opened_without_the_module_of_memory():
    code = "import sys; sys.modules['resource'] = None; import hpa_lib.run.folder as f; print(f._peak_memory())"
    assert run(code).split()[-1] == 'None'
