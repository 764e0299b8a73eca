"How tests call `hpa`: in this process, or in one of its own where the test is about processes."
import contextlib
import io
import subprocess
import sys

from hpa_lib.cli import main


def hpa(*words, status:int|None=0) -> str:
    "Run a command in this process, ask for its status (None: any), give what it printed"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try: code = main([str(o) for o in words])
        except SystemExit as e: code = e.code
    assert status is None or code == status, out.getvalue()
    return out.getvalue()


def alone(*words, status:int=0, cwd=None) -> str:
    "The same in a process of its own"
    done = subprocess.run([sys.executable, '-m', 'hpa_lib', *map(str, words)], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == status, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr, done.stderr
    return done.stdout + done.stderr
