"""The download scripts against a server on 127.0.0.1, with small archives in place of the published ones."""
import functools
import hashlib
import http.server
import io
import os
import re
import shlex
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from tests.scripts.test_launchers import ROOT, SHELLS

# Script -> archive, its files, a file of the result, and the flag of the next command that names the data.
SCRIPTS = {
    'download_dem.sh': ('DEM_data.zip', ['__MACOSX/data/CUB_data/._x', 'data/AwA_data/test_labels.mat',
                                         'data/CUB_data/test_proto.mat'],
                        'DEM_data/CUB_data/test_proto.mat', '--data_path', 'DEM_data'),
    'download_gbu.sh': ('xlsa17.zip', ['xlsa17/data/CUB/res101.mat', 'xlsa17/data/CUB/att_splits.mat'],
                        'xlsa17/data/CUB/res101.mat', '--data_path', 'xlsa17/data/CUB'),
    'download_sop.sh': ('Stanford_Online_Products.zip', ['Stanford_Online_Products/Ebay_train.txt'],
                        'Stanford_Online_Products/Ebay_train.txt', '--dataset_path', 'Stanford_Online_Products'),
}
TOOLS = ('sh', 'awk', 'cat', 'df', 'dirname', 'find', 'head', 'mkdir', 'mv', 'rm', 'sed', 'sha256sum', 'tail', 'tr', 'unzip',
         'wc')


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one archive with ranges, or breaks off after `limit` bytes; notes where each request began."""

    def __init__(self, served, *args):
        self.served = served
        super().__init__(*args)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, send):
        body, served = self.served['body'], self.served
        if body is None:
            self.send_error(404)
            return
        begin = re.match(r'bytes=(\d+)-', self.headers.get('Range', ''))
        begin = int(begin[1]) if begin and served['ranges'] else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header('Content-Range', f'bytes {begin}-{len(body) - 1}/{len(body)}')
        length = len(body) - begin + (0 if send else served['lie'])
        self.send_header('Content-Length', str(length))
        self.end_headers()
        if send:
            served['begins'].append(begin)
            self.wfile.write(body[begin:served['limit']])

    def log_message(self, *_):
        pass


class Server:
    def __init__(self, folder):
        self.served = {'body': None, 'limit': None, 'ranges': True, 'lie': 0, 'begins': []}
        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, self.served))
        self.address = f'http://127.0.0.1:{self.http.server_port}/data.zip'
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.folder = folder / 'my data'
        self.tools = folder / 'tools'
        self.tools.mkdir()

    def serve(self, script):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, 'w') as file:
            for name in SCRIPTS[script][1]:
                file.writestr(name, os.urandom(5000))
        self.served['body'] = buffer.getvalue()

    def stand_in(self, name, body):
        (self.tools / name).write_text('#!/bin/sh\n' + body)
        (self.tools / name).chmod(0o755)

    def run(self, script, *args, shell='sh', path=None, **env):
        path = path or os.pathsep.join([str(self.tools), os.environ['PATH']])
        done = subprocess.run([shutil.which(shell), str(ROOT / 'scripts' / script), *(args or [str(self.folder)])], text=True,
                              capture_output=True, timeout=60, env={**os.environ, 'ADDRESS': self.address, 'PATH': path, **env})
        # curl and wget draw their progress on standard error.
        said = [line for line in done.stderr.splitlines() if line.startswith(f'{script}: ')]
        return done.returncode, done.stdout, said


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(params=SCRIPTS)
def script(request, server):
    server.serve(request.param)
    return request.param


@pytest.mark.parametrize('shell', SHELLS)
def test_whole_download(server, script, shell):
    archive, _, wanted, flag, data = SCRIPTS[script]
    code, out, said = server.run(script, shell=shell)
    assert (code, said) == (0, []) and hashlib.sha256(server.served['body']).hexdigest() in out
    assert (server.folder / wanted).stat().st_size == 5000
    assert sorted(path.name for path in server.folder.iterdir()) == sorted([archive, Path(wanted).parts[0]])
    program, *words = shlex.split(out.splitlines()[-1])
    assert program == 'python' and f'{flag}={server.folder / data}' in words
    code, _, said = server.run(script, shell=shell)
    assert code == 0 and 'is there already' in said[0] and server.served['begins'] == [0]


def test_the_next_command_is_understood(server, script):
    from src.recipes.command_line import parse_args
    words = shlex.split(server.run(script)[1].splitlines()[-1])
    assert words[:2] == ['python', 'train.py'] and parse_args('train', words[2:]).make_recipe()


@pytest.mark.parametrize('program', ['curl', 'wget'])
def test_continues_where_it_broke_off(server, script, program):
    archive, _, wanted, *_ = SCRIPTS[script]
    for name in (*TOOLS, program):
        (server.tools / name).symlink_to(shutil.which(name))
    if program == 'wget':  # its own tries would hide the break
        (server.tools / 'wget').unlink()
        server.stand_in('wget', f'for arg do shift; [ "$arg" = --tries=3 ] && arg=--tries=1; set -- "$@" "$arg"; done\n'
                                f'exec {shutil.which("wget")} "$@"\n')
    server.served['limit'] = 3000
    code, _, said = server.run(script, path=str(server.tools))
    assert code == 1 and len(said) == 1 and 'start again to continue' in said[0]
    assert (server.folder / f'{archive}.part').stat().st_size == 3000 and not (server.folder / archive).exists()
    server.served['limit'] = None
    code, _, said = server.run(script, path=str(server.tools))
    assert (code, said) == (0, []) and server.served['begins'] == [0, 3000] and (server.folder / wanted).is_file()


def test_a_whole_part_is_not_asked_for_again(server, script):
    server.folder.mkdir()
    (server.folder / f'{SCRIPTS[script][0]}.part').write_bytes(server.served['body'])
    assert server.run(script)[0] == 0 and server.served['begins'] == []


def test_wrong_sizes(server, script):
    archive = SCRIPTS[script][0]
    server.served['lie'] = 7
    code, _, said = server.run(script)
    size = len(server.served['body'])
    assert code == 1 and f'has {size} bytes where' in said[0] and not (server.folder / archive).exists()
    server.served['lie'] = -7
    code, _, said = server.run(script)
    assert code == 1 and f'has {size} bytes, more than the {size - 7}' in said[0] and 'delete it' in said[0]


def test_a_server_that_cannot_continue(server, script):
    server.served['ranges'] = False
    server.folder.mkdir()
    (server.folder / f'{SCRIPTS[script][0]}.part').write_bytes(b'half')
    code, _, said = server.run(script)
    assert code == 1 and 'cannot be continued by its server: delete' in said[0]


def test_a_damaged_archive(server, script):
    archive, _, wanted, *_ = SCRIPTS[script]
    body = bytearray(server.served['body'])
    body[200:300] = bytes(100)
    server.served['body'] = bytes(body)
    code, _, said = server.run(script)
    assert code == 1 and 'is damaged' in said[0] and f'{archive} ' in said[0]
    assert not (server.folder / Path(wanted).parts[0]).exists()


def test_another_archive_and_another_checksum(server, script):
    code, _, said = server.run(script, SHA256='0' * 64)
    assert code == 1 and 'does not have the checksum' in said[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        file.writestr('other/x', 'x')
    (server.folder / SCRIPTS[script][0]).write_bytes(buffer.getvalue())
    code, _, said = server.run(script)
    assert code == 1 and 'has no folder' in said[0]


def test_a_full_disk(server, script):
    server.stand_in('df', 'echo head; echo disk 9 9 2 100% /\n')
    code, _, said = server.run(script)
    assert code == 1 and len(said) == 1 and 'the disk would be full' in said[0] and server.served['begins'] == []
    (server.tools / 'df').unlink()
    server.stand_in('curl', 'exit 23\n')
    code, _, said = server.run(script)
    assert code == 1 and len(said) == 1 and 'is the disk full?' in said[0]
    (server.tools / 'curl').unlink()
    server.stand_in('unzip', 'exit 50\n')
    code, _, said = server.run(script)
    assert code == 1 and len(said) == 1 and 'the disk is full' in said[0]


def test_nothing_at_the_address(server, script):
    server.served['body'] = None
    code, _, said = server.run(script)
    assert code == 1 and len(said) == 1 and 'could not be fetched (exit code 22)' in said[0]
    assert not list(server.folder.iterdir())


@pytest.mark.parametrize('shell', SHELLS)
def test_help_and_too_many_arguments(server, script, shell):
    code, out, said = server.run(script, '-h', shell=shell)
    assert (code, said) == (0, []) and out.startswith(f'usage: sh {script} [FOLDER]')
    code, _, said = server.run(script, 'a', 'b', shell=shell)
    assert code == 2 and 'at most 1 argument, 2 given' in said[0]
