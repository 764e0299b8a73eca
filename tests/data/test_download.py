"""The download against a server that misbehaves in every way we could think of.

It is a real HTTP server on this machine; no other one is contacted.
"""
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections import Counter
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpa_lib.data.download import (
    DownloadError, Pace, Retry, check_picture, download_hpa, download_kaggle, hpa_files, read_ids,
)
from hpa_lib.data.samples import RGBY, folder_samples

ID = '10580_1610_C1_1'
pytestmark = pytest.mark.slow


def jpeg(seed=0, side=128) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)).save(out, 'JPEG')
    return out.getvalue()


class Server(ThreadingHTTPServer):
    "Answers by `scripts`: path -> list of steps, the last one for ever; every request is noted"
    daemon_threads, request_queue_size = True, 64

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.scripts, self.default = {}, None
        self.seen, self.times = [], []
        self.now, self.most, self.lock = 0, 0, threading.Lock()
        self.base = f'http://127.0.0.1:{self.server_port}/images'
        threading.Thread(target=self.serve_forever, args=(.02,), daemon=True).start()

    def script(self, channel, *steps, id=ID):
        self.scripts[f"/images/{id.replace('_', '/', 1)}_{channel}.jpg"] = [dict(o) for o in steps]

    def asked(self, channel): return [h for p,h in self.seen if p.endswith(f'_{channel}.jpg')]
    def handle_error(self, *args): pass                   # a client that goes away is no news


class Handler(BaseHTTPRequestHandler):
    """One step of a script: body, status, headers, cut (bytes sent of those announced), delay, after (an event),
    ranges, etag, ignore_if_range, drip"""
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def do_GET(self):
        s = self.server
        with s.lock:
            s.seen.append((self.path, dict(self.headers)))
            s.times.append(time.monotonic())
            s.now += 1
            s.most = max(s.most, s.now)
            steps = s.scripts.get(self.path) or [s.default or dict(status=404, body=b'no')]
            step = steps.pop(0) if len(steps) > 1 else steps[0]
        try: self.answer(step)
        finally:
            with s.lock: s.now -= 1

    def answer(self, o):
        time.sleep(o.get('delay', 0))
        if 'after' in o: o['after'].wait(10)
        body, status, start = o.get('body', b''), o.get('status', 200), 0
        asked = self.headers.get('Range')
        known = o.get('ignore_if_range') or self.headers.get('If-Range') in (None, o.get('etag'), o.get('modified'))
        if status == 200 and asked and o.get('ranges', True) and known:
            start, status = int(asked[6:-1]), 206
            if start >= len(body): status, start = 416, len(body)
        self.send_response(status)
        headers = dict(o.get('headers', {}))
        if o.get('etag'): headers['ETag'] = o['etag']
        if o.get('modified'): headers['Last-Modified'] = o['modified']
        rest = f'bytes {start}-{len(body)-1}/{len(body)}'
        if status == 206: headers['Content-Range'] = o.get('content_range') or rest
        headers.setdefault('Content-Length', str(len(body) - start))
        for k,v in headers.items(): self.send_header(k, v)
        self.end_headers()
        data, cut = body[start:], o.get('cut')
        if o.get('drip'):
            for i in range(0, len(data), o['drip']):
                self.wfile.write(data[i:i + o['drip']])
                self.wfile.flush()
                time.sleep(.02)
        else: self.wfile.write(data[:cut])
        if cut is not None: self.close_connection = True


@pytest.fixture
def server():
    o = Server()
    yield o
    o.shutdown()
    o.server_close()


def get(server, folder, ids=(ID,), channels=('red',), **kwargs):
    "A quick download; the row of the only file, or the table"
    patience = {o.name: kwargs.pop(o.name) for o in fields(Retry) if o.name in kwargs}
    retry = Retry(**(dict(interval=0, backoff=.01, timeout=5) | patience))
    done = download_hpa(list(ids), folder, channels, server.base, retry=retry, progress=False, **kwargs)
    return done.iloc[0] if len(done) == 1 else done


def files(folder): return sorted(o.name for o in Path(folder).iterdir() if not o.name.startswith('.'))


NAME, A, B = f'{ID}_red.jpg', jpeg(1), jpeg(2)


def test_whole_file_is_kept_and_not_asked_for_again(server, tmp_path):
    server.script('red', dict(body=A))
    row = get(server, tmp_path)
    assert (row.status, row.bytes, row.tries, row.error) == ('ok', len(A), 1, None)
    assert (tmp_path/NAME).read_bytes() == A and files(tmp_path) == [NAME]
    assert server.seen[0][1]['User-Agent'].startswith('hpa_lib/') and server.seen[0][1]['Accept-Encoding'] == 'identity'
    row = get(server, tmp_path)
    assert (row.status, row.bytes, row.tries) == ('kept', len(A), 0) and len(server.seen) == 1


@pytest.mark.parametrize('status,requests', [(404, 1), (410, 1), (403, 1), (500, 3), (503, 3), (429, 3), (408, 3)])
def test_which_refusals_are_final(server, tmp_path, status, requests):
    server.script('red', dict(status=status, body=b'sorry'))
    row = get(server, tmp_path, tries=3)
    assert (row.status, row.tries, row.bytes) == ('failed', requests, 0) and str(status) in row.error
    assert len(server.seen) == requests and files(tmp_path) == []


def test_broken_then_well(server, tmp_path):
    server.script('red', dict(status=500), dict(status=502), dict(body=A))
    row = get(server, tmp_path)
    assert (row.status, row.tries) == ('ok', 3) and (tmp_path/NAME).read_bytes() == A


def test_pauses_double(server, tmp_path):
    server.script('red', dict(status=500))
    get(server, tmp_path, tries=4, backoff=.1)
    gaps = np.diff(server.times)
    assert np.all(gaps > [.09, .19, .39]) and gaps.sum() < 5


def test_retry_after_holds_the_whole_host(server, tmp_path, monkeypatch):
    server.script('red', dict(status=429, headers={'Retry-After': '1'}), dict(body=A))
    for c in RGBY[1:]: server.script(c, dict(body=B))
    done = get(server, tmp_path, channels=RGBY, workers=1)
    assert set(done.status) == {'ok'} and done.tries.tolist() == [2, 1, 1, 1]
    assert np.diff(server.times)[0] >= .98
    server.seen.clear()
    server.times.clear()
    shutil.rmtree(tmp_path)
    held, began, hold = threading.Event(), [], Pace.hold

    def noted(self, *args):
        hold(self, *args)
        began.append(time.monotonic())
        held.set()
    monkeypatch.setattr(Pace, 'hold', noted)
    server.script('red', dict(status=503, headers={'Retry-After': '1'}), dict(body=A))
    for c in RGBY[1:]: server.script(c, dict(body=B, after=held))             # no other answer before the wait is known
    get(server, tmp_path, channels=RGBY, workers=2, interval=.1)
    assert len([o for o in server.times if o - began[0] < .95]) <= 2              # one more was under way at most
    assert len(server.times) == 5


def test_a_server_that_wants_too_long_is_left_alone(server, tmp_path):
    server.default = dict(status=429, headers={'Retry-After': '3600'})
    done = get(server, tmp_path, channels=RGBY, workers=1)
    assert set(done.status) == {'failed'} and len(server.seen) == 1
    assert '429' in done.error[0] and 'asked to wait 3600 s' in done.error[1] and done.tries.tolist() == [1, 0, 0, 0]


def test_slow_server(server, tmp_path):
    server.script('red', dict(delay=1, body=A), dict(body=A))
    row = get(server, tmp_path, timeout=.3)
    assert (row.status, row.tries) == ('ok', 2)
    server.script('green', dict(delay=1, body=A))
    row = get(server, tmp_path, channels=['green'], timeout=.2, tries=2)
    assert (row.status, row.tries) == ('failed', 2) and 'Timeout' in row.error


def test_nobody_there(tmp_path, server):
    server.shutdown()
    server.server_close()
    done = get(server, tmp_path, channels=RGBY, tries=2, workers=1, give_up=2)
    assert done.tries.tolist() == [2, 2, 0, 0]
    assert 'ConnectError' in done.error[0] and 'not tried, since 2 files' in done.error[3]


@pytest.mark.parametrize('version', [dict(etag='"a"'), dict(modified='Wed, 21 Oct 2015 07:28:00 GMT')])
def test_cut_connection_goes_on_in_the_middle(server, tmp_path, version):
    server.script('red', dict(body=A, cut=4000, **version), dict(body=A, **version))
    row = get(server, tmp_path)
    assert (row.status, row.bytes, row.tries) == ('ok', len(A), 2) and (tmp_path/NAME).read_bytes() == A
    first, second = server.asked('red')
    assert 'Range' not in first and second['Range'] == 'bytes=4000-' and second['If-Range'] in version.values()
    assert files(tmp_path) == [NAME]


def test_goes_on_in_the_next_call(server, tmp_path):
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=A, etag='"a"'))
    row = get(server, tmp_path, tries=1)
    assert row.status == 'failed' and files(tmp_path) == [NAME + '.partial', NAME + '.partial.json']
    assert (tmp_path/f'{NAME}.partial').read_bytes() == A[:4000]
    assert get(server, tmp_path).status == 'ok' and (tmp_path/NAME).read_bytes() == A
    assert server.asked('red')[1]['Range'] == 'bytes=4000-'


@pytest.mark.parametrize('version', [dict(), dict(etag='W/"a"')])
def test_without_a_version_one_begins_anew(server, tmp_path, version):
    server.script('red', dict(body=A, cut=4000, **version), dict(body=A, **version))
    assert get(server, tmp_path).status == 'ok' and (tmp_path/NAME).read_bytes() == A
    assert not any('Range' in h for h in server.asked('red'))


def test_server_without_ranges(server, tmp_path):
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=A, etag='"a"', ranges=False))
    assert get(server, tmp_path).status == 'ok' and (tmp_path/NAME).read_bytes() == A
    assert 'Range' in server.asked('red')[1]


@pytest.mark.parametrize('rude', [False, True])
def test_two_versions_are_never_glued(server, tmp_path, rude):
    "B is of A's length, and the rude server sends its second half under A's condition"
    b = next(o for o in (jpeg(k) for k in range(2, 2000)) if len(o) == len(A))
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=b, etag='"b"', ignore_if_range=rude))
    row = get(server, tmp_path)
    assert row.status == 'ok' and (tmp_path/NAME).read_bytes() == b and row.tries == (3 if rude else 2)


@pytest.mark.parametrize('content_range', ['bytes 3999-{last}/{n}', 'bytes 4000-{last}/99', 'bytes */{n}', 'nonsense'])
def test_wrong_rests_are_thrown_away(server, tmp_path, content_range):
    wrong = content_range.format(n=len(A), last=len(A) - 1)
    whole = dict(body=A, etag='"a"')
    server.script('red', whole | dict(cut=4000), whole | dict(content_range=wrong), whole)
    row = get(server, tmp_path)
    assert (row.status, row.tries) == ('ok', 3) and (tmp_path/NAME).read_bytes() == A
    assert 'Range' not in server.asked('red')[2]


def test_a_partial_of_nonsense_is_begun_anew(server, tmp_path):
    "Of the right version but other bytes: does not decode, and is fetched from the start"
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=A, etag='"a"'))
    get(server, tmp_path, tries=1)
    (tmp_path/f'{NAME}.partial').write_bytes(b'x' * 4000)
    row = get(server, tmp_path)
    assert (row.status, row.tries) == ('ok', 2) and (tmp_path/NAME).read_bytes() == A


@pytest.mark.parametrize('size', ['whole', 'longer'])
def test_partial_that_needs_no_more(server, tmp_path, size):
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=A, etag='"a"'))
    get(server, tmp_path, tries=1)
    (tmp_path/f'{NAME}.partial').write_bytes(A + b'x' * (size == 'longer'))
    assert get(server, tmp_path).status == 'ok' and (tmp_path/NAME).read_bytes() == A
    assert len(server.seen) == (1 if size == 'whole' else 3)                 # longer: 416, then from the start


def test_damaged_note_is_no_note(server, tmp_path):
    server.script('red', dict(body=A, cut=4000, etag='"a"'), dict(body=A, etag='"a"'))
    get(server, tmp_path, tries=1)
    (tmp_path/f'{NAME}.partial.json').write_text('{"url": "htt')
    assert get(server, tmp_path).status == 'ok' and (tmp_path/NAME).read_bytes() == A
    assert 'Range' not in server.asked('red')[1]


@pytest.mark.parametrize(
    'body', [b'<!DOCTYPE html><p>We are sorry', A[:len(A)//2], A[:-50], b''], ids=['html', 'half', 'nearly', 'nothing'],
)
def test_what_is_no_picture_is_never_kept(server, tmp_path, body):
    server.script('red', dict(body=body, etag='"a"'))
    row = get(server, tmp_path)
    assert (row.status, row.tries) == ('failed', 1) and row.error.startswith(f'{NAME}: no whole JPEG')
    assert files(tmp_path) == []


def test_chunked_answer_that_breaks_off(server, tmp_path):
    "No length is announced, and the end of the last piece never comes"
    half = b'%x\r\n%s\r\n' % (4000, A[:4000])
    chunked = {'Transfer-Encoding': 'chunked', 'Content-Length': '0'}
    server.script('red', dict(body=half, headers=chunked, cut=len(half)), dict(body=A))
    row = get(server, tmp_path)
    assert (row.status, row.tries) == ('ok', 2) and (tmp_path/NAME).read_bytes() == A


def test_redirects_are_followed_at_the_same_pace(server, tmp_path):
    server.script('red', dict(status=302, headers={'Location': '/elsewhere.jpg'}))
    server.scripts['/elsewhere.jpg'] = [dict(body=A)]
    row = get(server, tmp_path, interval=.2)
    assert (row.status, row.tries) == ('ok', 1) and np.diff(server.times)[0] > .15
    server.scripts['/elsewhere.jpg'] = [dict(status=302, headers={'Location': '/elsewhere.jpg'})]
    server.script('green', dict(status=302, headers={'Location': '/elsewhere.jpg'}))
    row = get(server, tmp_path, channels=['green'])
    assert (row.status, row.tries) == ('failed', 1) and 'redirect' in row.error.lower()


@pytest.mark.parametrize('workers', [1, 3])
def test_never_more_than_workers_at_once(server, tmp_path, workers):
    ids = [f'{k}_1_A1_1' for k in range(6)]
    server.default = dict(body=A, delay=.03)
    done = get(server, tmp_path, ids, RGBY, workers=workers)
    assert Counter(done.status) == {'ok': 24} and server.most == workers
    assert done[['id', 'channel']].values.tolist() == [[i, c] for i in ids for c in RGBY]


def test_interval_is_kept(server, tmp_path):
    server.default = dict(body=A)
    get(server, tmp_path, [f'{k}_1_A1_1' for k in range(3)], RGBY, workers=4, interval=.05)
    assert server.times[-1] - server.times[0] > .4                     # eleven times .05, less what the first was late


PROGRAM = textwrap.dedent("""
    import sys
    from hpa_lib.data.download import Retry, download_hpa
    base, folder = sys.argv[1:]
    print('begun', flush=True)
    ids = [f'{k}_1_A1_1' for k in range(5)]
    download_hpa(ids, folder, base=base, workers=2, retry=Retry(interval=0), progress=False)
""")


@pytest.mark.parametrize('with_what', [signal.SIGKILL, signal.SIGINT])
def test_killed_and_called_again(server, tmp_path, with_what):
    "Kill it in the middle of a file: finished ones are not asked for again, half ones go on, all bytes are right"
    server.default = dict(body=A, etag='"a"', drip=1000)
    child = subprocess.Popen(
        [sys.executable, '-c', PROGRAM, server.base, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ,
        # A job in the background inherits a shell's deafness to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def well_begun():
        partial = [o.stat().st_size for o in tmp_path.glob('*.partial')]
        return len(list(tmp_path.glob('*.jpg'))) >= 4 and max(partial, default=0) > 2000
    begun = time.monotonic()
    while not well_begun():
        assert time.monotonic() - begun < 60 and child.poll() is None
        time.sleep(.01)
    child.send_signal(with_what)
    _, err = child.communicate(timeout=30)
    if with_what == signal.SIGINT: assert b'KeyboardInterrupt' in err
    whole = {o.name for o in tmp_path.glob('*.jpg')}
    half = {o.name[:-8] for o in tmp_path.glob('*.partial') if o.stat().st_size}
    assert whole and half and len(whole) < 20 and all((tmp_path/o).read_bytes() == A for o in whole)
    server.seen.clear()
    server.default = dict(body=A, etag='"a"')
    done = get(server, tmp_path, [f'{k}_1_A1_1' for k in range(5)], RGBY)
    assert Counter(done.status) == {'kept': len(whole), 'ok': 20 - len(whole)}
    assert all(Path(p).read_bytes() == A for p in done.path) and len(files(tmp_path)) == 20
    names = {f"{p.split('/')[2]}_{p.split('/')[3]}": h for p,h in server.seen}
    assert len(server.seen) == 20 - len(whole) and not whole & set(names)
    assert all('Range' in names[o] for o in half)
    assert len(folder_samples(tmp_path)) == 5


def test_one_folder_one_download(server, tmp_path):
    server.default = dict(body=A, drip=500)
    one = threading.Thread(target=get, args=(server, tmp_path))
    one.start()
    while not server.seen: time.sleep(.01)
    with pytest.raises(DownloadError, match='another download'): get(server, tmp_path)
    one.join()
    assert get(server, tmp_path).status == 'kept'


def test_folders_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('x')
    with pytest.raises(DownloadError, match='file: cannot be written there'): get(server, tmp_path/'file')
    if os.geteuid():
        (tmp_path/'shut').mkdir()
        (tmp_path/'shut').chmod(0o500)
        with pytest.raises(DownloadError, match='shut: cannot be written there'): get(server, tmp_path/'shut')
    server.script('red', dict(body=A))
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('hpa_lib.data.download.os.fsync', full)
    with pytest.raises(DownloadError, match='writing failed .No space left on device.; is there room'):
        get(server, tmp_path/'full')
    assert not list((tmp_path/'full').glob('*.jpg'))


def test_failed_rows_in_a_file(server, tmp_path):
    server.script('red', dict(body=A))
    done = get(server, tmp_path/'x', channels=RGBY, failed=tmp_path/'failed.csv')
    lost = pd.read_csv(tmp_path/'failed.csv')
    assert lost.channel.tolist() == ['green', 'blue', 'yellow'] and lost.error.tolist() == done.error.tolist()[1:]
    for c in RGBY: server.script(c, dict(body=A))
    get(server, tmp_path/'x', channels=RGBY, failed=tmp_path/'failed.csv')
    assert len(pd.read_csv(tmp_path/'failed.csv')) == 0                                # what is mended leaves the list


def test_many_files_that_are_there_cost_little(server, tmp_path):
    ids = [f'{k}_1_A1_1' for k in range(2000)]
    for p in hpa_files(ids, tmp_path).path: Path(p).write_bytes(b'x')
    begun = time.process_time()
    done = get(server, tmp_path, ids, RGBY)
    assert time.process_time() - begun < 5 and not server.seen and set(done.status) == {'kept'}


# Kaggle: a stand-in that has the part of the client's interface which we call

CLIENT = '''
import json, shutil, sys
from pathlib import Path
HERE = Path(__file__).parent
class KaggleApi:
    ready = False
    def authenticate(self):
        if (HERE/'no_token').exists(): print('authenticate first'); sys.exit(1)
        self.ready = True
    def competition_download_files(self, competition, path=None, force=False, quiet=True):
        assert self.ready
        if (HERE/'no_rules').exists(): raise RuntimeError('403 Client Error: Forbidden')
        with open(HERE/'calls', 'a') as f: f.write(json.dumps([competition, path, force, quiet]) + '\\n')
        shutil.copy(HERE/'data.zip', Path(path)/f'{competition}.zip')
'''


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    "The stand-in on the path; its folder"
    folder = tmp_path/'site'/'kaggle'/'api'
    folder.mkdir(parents=True)
    (folder/'kaggle_api_extended.py').write_text(CLIENT)
    for o in (folder, folder.parent): (o/'__init__.py').write_text('')
    with zipfile.ZipFile(folder/'data.zip', 'w') as z:
        z.writestr('train.csv', 'Id,Target\na,0\n')
        for c in RGBY: z.writestr(f'train/a_{c}.png', b'x')
    for o in [o for o in sys.modules if o.split('.')[0] == 'kaggle']: monkeypatch.delitem(sys.modules, o)
    monkeypatch.syspath_prepend(folder.parents[1])
    yield folder
    for o in [o for o in sys.modules if o.split('.')[0] == 'kaggle']: del sys.modules[o]


def test_kaggle_is_called_and_unpacked(kaggle, tmp_path):
    out = download_kaggle(tmp_path/'data', progress=False)
    assert out == tmp_path/'data'
    assert (kaggle/'calls').read_text().strip() == f'["human-protein-atlas-image-classification", "{out}", false, true]'
    assert (out/'train.csv').read_text() == 'Id,Target\na,0\n' and len(list((out/'train').iterdir())) == 4
    before = (out/'train.csv').stat().st_mtime_ns
    (out/'train'/'a_red.png').unlink()
    download_kaggle(out, progress=False)
    assert (out/'train.csv').stat().st_mtime_ns == before and (out/'train'/'a_red.png').read_bytes() == b'x'


def test_kaggle_without_token_rules_or_whole_archive(kaggle, tmp_path):
    (kaggle/'no_token').touch()
    with pytest.raises(DownloadError, match='could not log in .*create a token'): download_kaggle(tmp_path/'data')
    (kaggle/'no_token').unlink()
    (kaggle/'no_rules').touch()
    with pytest.raises(DownloadError, match='403 Client Error.*accept the rules at https://www.kaggle.com/c/human'):
        download_kaggle(tmp_path/'data')
    (kaggle/'no_rules').unlink()
    (kaggle/'data.zip').write_bytes((kaggle/'data.zip').read_bytes()[:-30])
    with pytest.raises(DownloadError, match='damaged or no archive'): download_kaggle(tmp_path/'data', progress=False)
    assert not (tmp_path/'data'/'train.csv').exists()


def test_kaggle_of_old_that_logs_in_on_import(kaggle, tmp_path):
    (kaggle.parent/'__init__.py').write_text("raise OSError('Could not find kaggle.json')")
    with pytest.raises(DownloadError, match='could not log in .OSError: Could not find kaggle.json'):
        download_kaggle(tmp_path/'data')


def test_ids_and_pictures_of_the_real_atlas(real):
    ids = read_ids(real/'tables'/'hpav18.csv.gz')
    table = hpa_files(ids, 'x')
    assert len(table) == 4*74606 and table.path.is_unique and table.url.is_unique
    assert table.url.str.fullmatch(r'http://v18\.proteinatlas\.org/images/\d+/\w+_(red|green|blue|yellow)\.jpg').all()
    for o in (real/'formats').rglob('*.jpg'): assert check_picture(o) == (2048, 2048)


def test_real_picture_cut_anywhere_is_no_picture(real, tmp_path):
    data = next((real/'formats').rglob('*.jpg')).read_bytes()
    for n in [2, 100, len(data)//3, len(data) - 1000, len(data) - 20]:
        (tmp_path/'x.jpg').write_bytes(data[:n])
        with pytest.raises(DownloadError): check_picture(tmp_path/'x.jpg')
