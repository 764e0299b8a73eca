"""What the code is built like: long lines, statements that share a line, long functions and signatures, exceptions, imports.

    python tools/house.py              # a row for each wing, and the whole
    python tools/house.py --list       # also where: file, line and what
    python tools/house.py --list nets  # of one wing, or of one module such as nets.models

A line counts when it is neither blank nor a comment of its own. A function is wide with nine or more parameters (constructors and
the command line aside). An import made inside a function counts for the direction, not for circles.
"""
import argparse
import ast
from collections import Counter, defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / 'hpa_lib'
WINGS = ['core', 'data', 'synth', 'nets', 'learn', 'decide', 'find', 'see', 'run', 'app', 'cli', 'all', '__main__', '__init__']
WIDE = 9
LONG = 120


def dotted(file: Path) -> str:
    "`hpa_lib/data/store.py` -> `data.store`; a wing's own file has the wing's name"
    parts = file.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' and len(parts) > 1 else parts)


FILES = {dotted(o): o for o in sorted(PACKAGE.rglob('*.py')) if o.name != '_modidx.py'}


def imported(module: str, node: ast.stmt) -> list[str]:
    "Modules of this package that an import statement names"
    if isinstance(node, ast.Import):
        names = [o.name for o in node.names]
        return [o.removeprefix('hpa_lib.') for o in names if o.startswith('hpa_lib.')]
    if not isinstance(node, ast.ImportFrom):
        return []
    if not node.level and (node.module or '').split('.')[0] != 'hpa_lib':
        return []
    # Where the dots begin, then the module, then names that are modules themselves
    here = FILES[module].relative_to(PACKAGE).parts[:-1]
    base = list(here[:len(here) - node.level + 1]) if node.level else []
    base += [o for o in (node.module or '').split('.') if o and (node.level or o != 'hpa_lib')]
    whole = ['.'.join([*base, o.name]) for o in node.names]
    return sorted({o if o in FILES else '.'.join(base) for o in whole} - {''})


def code_lines(text: str) -> list[tuple[int, str]]:
    "Number and text of each line that holds code"
    rows = enumerate(text.splitlines(), 1)
    return [(n, o) for n, o in rows if o.strip() and not o.lstrip().startswith('#')]


def shared_lines(tree: ast.AST) -> list[int]:
    "Lines on which a statement begins where another one of its block began"
    found = []
    for node in ast.walk(tree):
        for block in ('body', 'orelse', 'finalbody'):
            body = getattr(node, block, None)
            rows = [o.lineno for o in body if hasattr(o, 'lineno')] if isinstance(body, list) else []
            found += [b for a, b in zip(rows, rows[1:]) if a == b]
    return found


def parameters(node: ast.FunctionDef) -> int:
    a = node.args
    return len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs)


def is_error(node: ast.AST) -> bool:
    if not isinstance(node, ast.ClassDef):
        return False
    bases = [getattr(o, 'id', getattr(o, 'attr', '')) for o in node.bases]
    return any(o.endswith(('Error', 'Exception', 'Warning')) for o in bases)


def look(module: str) -> tuple[Counter, list[str], set[str], list[int]]:
    "Counts of one module, what to see and where, the modules it loads, and the lengths of its functions"
    text = FILES[module].read_text(encoding='utf-8')
    tree, wing, count, notes = ast.parse(text), module.split('.')[0], Counter(), []

    def note(kind, line, what):
        count[kind] += 1
        notes.append(f"{FILES[module].relative_to(PACKAGE.parent)}:{line}: {kind}: {what}")

    # Lines
    lines = code_lines(text)
    count['lines'] = len(lines)
    count['longest'] = max((len(o) for _, o in lines), default=0)
    for n, line in lines:
        if len(line) > LONG: note('long', n, f"{len(line)} characters")
    for n in shared_lines(tree): note('shared', n, "two statements on a line")
    # Functions and exceptions
    functions = [o for o in ast.walk(tree) if isinstance(o, ast.FunctionDef | ast.AsyncFunctionDef)]
    for o in functions:
        wide = parameters(o) >= WIDE and o.name != '__init__' and wing not in ('cli', 'app')
        if wide: note('wide', o.lineno, f"{o.name} has {parameters(o)} parameters")
    for o in ast.walk(tree):
        if is_error(o): note('errors', o.lineno, o.name)
    # Imports
    inside = {id(n) for f in functions for n in ast.walk(f)}
    loads = set()
    for o in ast.walk(tree):
        found = imported(module, o)
        private = [a.name for a in getattr(o, 'names', []) if found and a.name.startswith('_') and not a.name.startswith('__')]
        for name in private: note('private', o.lineno, f"{name} of {found[0]}")
        for other in found:
            there = other.split('.')[0]
            known = wing in WINGS and there in WINGS
            if known and WINGS.index(there) > WINGS.index(wing): note('up', o.lineno, other)
            if id(o) not in inside and other != module: loads.add(other)
    return count, notes, loads, [o.end_lineno - o.lineno + 1 for o in functions]


def circles(loads: dict[str, set[str]]) -> list[str]:
    "Modules that come back to themselves by what they load"
    def reach(start):
        seen, todo = set(), list(loads[start])
        while todo:
            o = todo.pop()
            if o not in seen:
                seen.add(o)
                todo += loads.get(o, ())
        return seen
    return sorted(o for o in loads if o in reach(o))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list', nargs='?', const='', metavar='PART', help="also say where; of all, of a wing, or of a module")
    asked = parser.parse_args().list
    total, wings, notes, loads, lengths = Counter(), defaultdict(Counter), {}, {}, defaultdict(list)
    for module in FILES:
        count, notes[module], loads[module], found = look(module)
        lengths[module.split('.')[0]] += found
        wings[module.split('.')[0]].update({k: v for k, v in count.items() if k != 'longest'} | dict(modules=1))
        wings[module.split('.')[0]]['longest'] = max(wings[module.split('.')[0]]['longest'], count['longest'])
    # A row for each wing that has functions, then the whole
    rows = {o: c for o, c in wings.items() if lengths[o]}
    for c in wings.values(): total.update({k: v for k, v in c.items() if k != 'longest'})
    total['longest'] = max(c['longest'] for c in wings.values())
    rows['all'], lengths['all'] = total, [n for o in list(lengths.values()) for n in o]
    columns = ['modules', 'lines', 'long', 'longest', 'shared', 'wide', 'errors', 'private', 'up']
    print(f"{'wing':8}" + ''.join(f"{o:>9}" for o in columns) + f"{'median':>9}{'max':>9}")
    for name, c in rows.items():
        n = sorted(lengths[name])
        print(f"{name:8}" + ''.join(f"{c[o]:9,}" for o in columns) + f"{n[len(n)//2]:9}{n[-1]:9}")
    print(f"lines over {LONG}: {total['long']/total['lines']:.1%}; modules in a circle: {circles(loads) or 'none'}")
    if asked is not None:
        for module, found in notes.items():
            if not asked or module == asked or module.startswith(asked + '.'): print(*found, sep='\n', end='\n' * bool(found))


if __name__ == '__main__':
    main()
