"""The acceptance run: verdicts, the table, the archive, faults that are planted; the whole of it by hand."""
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from src.acceptance import __main__ as acceptance
from src.acceptance import computations, device, environment
from src.acceptance.archive import without_paths, write_archive
from src.acceptance.items import FAILED, ITEMS, OK, SKIPPED, Finding, Node, Skipped, Wrong, check, table
from src.common.device import Process
from src.common.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
NODE = Node(Path('/none'), 'CPU', 2)


def item(name):
    return next(one for one in ITEMS if one.name == name)


@pytest.mark.parametrize('raised, verdict, found', [
    (None, OK, 'fine'), (Wrong('3 instead of 2'), FAILED, '3 instead of 2'), (Skipped('no card'), SKIPPED, 'no card'),
    (RuntimeError('failed\n----\nAscend Error Message: EZ9\n'), FAILED, 'RuntimeError: failed | Ascend Error Message: EZ9'),
    (SystemExit(3), FAILED, 'SystemExit: 3')])
def test_whatever_happens_in_an_item_is_a_finding(monkeypatch, raised, verdict, found):
    def driver(node):
        if raised:
            raise raised
        return 'fine'
    monkeypatch.setattr(environment, 'driver', driver)
    finding = check(item('driver'), NODE)
    assert (finding.verdict, finding.found) == (verdict, found)
    *_, line = table([finding])
    assert [cell.strip() for cell in line.split('|')[:3]] == ['driver', item('driver').wanted, verdict] and line.endswith(found)


def test_the_summary_names_what_failed():
    findings = [Finding(name, 'all', 'some', verdict, 1.0) for name, verdict in (('a', OK), ('b, c', FAILED), ('d', SKIPPED))]
    assert acceptance.summary(findings) == '1 of 3 items failed: b, c (1 skipped, 3 s)'
    assert acceptance.summary(findings[:1]) == '0 of 1 items failed (0 skipped, 1 s)'


@pytest.mark.parametrize('change, words', [
    ({}, "losses apart by 0.0e+00, outputs by 0.0e+00, gradients' cosine 1.000000"),
    ({'losses': [2.0, 1.1]}, r'losses apart by 1.0e-01 \(step 2\)'),
    ({'losses': [2.0, np.nan]}, r'losses apart by nan \(step 2\)'),
    ({'outputs': [0.0, 2.0]}, 'outputs by 1.0e'),
    ({'gradients': {'a': [1.0, 0.0], 'b': [3.0, -4.0]}}, r'cosine -0.280000 \(b\)'),
    ({'gradients': {'a': [1.0, np.inf], 'b': [3.0, 4.0]}}, r'cosine nan \(a\)'),
    ({'gradients': {'a': [0.0, 0.0], 'b': [3.0, 4.0]}}, r'cosine 0.000000 \(a\)')])
def test_what_differs_is_wrong_and_named(change, words):
    wanted = {'losses': [2.0, 1.0], 'outputs': [1.0, 1.0], 'gradients': {'a': [1.0, 0.0], 'b': [3.0, 4.0]}}
    if change:
        with np.errstate(invalid='ignore'), pytest.raises(Wrong, match=words):
            device.compare({**wanted, **change}, wanted, (1e-3, 1e-3))
    else:
        assert device.compare(wanted, wanted, (1e-3, 1e-3)).startswith(words)


def test_sketches_keep_the_cosines_and_distances_of_arrays():
    random = np.random.default_rng(0)
    one = random.normal(size=(300, 40))
    near, other = one + 0.1 * random.normal(size=one.shape), random.normal(size=one.shape)
    sketches = [np.array(computations.sketch(array)) for array in (one, near, other)]
    cosine = [sketches[0] @ given / np.linalg.norm(sketches[0]) / np.linalg.norm(given) for given in sketches[1:]]
    assert len(sketches[0]) == computations.SUMS and cosine[0] > 0.97 and abs(cosine[1]) < 0.7
    np.testing.assert_allclose(np.abs(computations.sketch([3.0, -4.0])), [3, 4])


@pytest.fixture
def here(monkeypatch):
    """Items of one device run in this process, operator by operator."""
    monkeypatch.setattr(device, 'process_of', lambda target: Process('CPU', 0, 0, 1))
    monkeypatch.setattr(device, 'TIMED', 1)


def test_what_is_recorded_is_what_this_project_computes(here):
    """Where a recipe or a loss has changed on purpose, `python -m src.acceptance.computations` records it anew."""
    findings = [check(one, NODE) for one in ITEMS if one.name == 'DEM' or one.name.startswith('loss ')]
    assert len(findings) > 20 and not [one for one in findings if one.verdict != OK]
    assert ' ms a step' in findings[0].found


def test_a_wrong_kernel_is_found(here, monkeypatch):
    """Simulated by one layer's weights, 2 % larger than they should be."""
    set_weights = computations.set_weights

    def spoilt(cell):
        set_weights(cell)
        if hasattr(cell, 'fc2'):
            cell.fc2.weight.set_data(cell.fc2.weight * 1.02)
        elif cell.trainable_params():
            cell.trainable_params()[0].set_data(cell.trainable_params()[0] * 1.02)
    monkeypatch.setattr(computations, 'set_weights', spoilt)
    found = {name: check(item(name), NODE) for name in ('DEM', 'loss softmax', 'loss triplet')}
    assert {name: one.verdict for name, one in found.items()} == {'DEM': FAILED, 'loss softmax': FAILED, 'loss triplet': OK}
    assert re.search(r'losses apart by \d.\de-0[23]', found['DEM'].found), found['DEM'].found


@pytest.mark.parametrize('stub, words', [('import os; os._exit(11)', 'its process ended with 11; last: === packages'),
                                         ('import time; time.sleep(60)', 'no end after 1 s; last: ')])
def test_an_item_that_ends_its_process_or_hangs_does_not_end_the_run(tmp_path, monkeypatch, capsys, stub, words):
    (tmp_path / 'mindspore.py').write_text(stub)
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}{os.pathsep}{ROOT}')
    hangs = 'no end' in words
    monkeypatch.setattr(acceptance, 'LIMIT', 1 if hangs else 60)
    # Python itself may take a second to start the next process.
    found = acceptance.follow_stage(Node(tmp_path, 'CPU', 2), [item('packages'), *[item('driver')] * (not hangs)])
    assert [one.verdict for one in found] == [FAILED, SKIPPED][:len(found)] and found[0].found.startswith(words)
    assert [line.split('|')[0].strip() for line in capsys.readouterr().out.splitlines()] == ['packages', 'driver'][:len(found)]


def test_a_stage_ends_when_every_process_does(monkeypatch, tmp_path, capsys):
    items = ITEMS[:4]
    monkeypatch.setattr(acceptance, '_follow', lambda node, items, path: [Finding(items[0].name, '', 'died', FAILED, 1)])
    found = acceptance.follow_stage(NODE, items)
    assert [one.item for one in found] == [one.name for one in items]
    assert [one.found[:9] for one in found] == ['died', 'died', 'not tried', 'not tried']


def test_the_archive_has_no_paths_of_the_user(tmp_path, monkeypatch):
    home = tmp_path / 'home' / 'alice'
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.setattr('getpass.getuser', lambda: 'alice')
    monkeypatch.setattr('socket.gethostname', lambda: 'node7')
    folder = tmp_path / 'run'
    text = (f'{folder}/dem: {ROOT}/train.py {home}/data /mnt/secret project/a.ckpt /usr/local/Ascend/driver a:/data/b:/opt/c '
            'alice@node7 loss 1/2 http://x.org/d')
    said = without_paths(text, folder)
    assert said == ('FOLDER/dem: PROJECT/train.py HOME/data .../secret project/a.ckpt /usr/local/Ascend/driver a:.../b:/opt/c '
                    'USER@HOST loss 1/2 http://x.org/d')
    (folder / 'rank').mkdir(parents=True)
    (folder / 'rank' / 'train.log').write_text(text)
    write_archive(tmp_path / 'a.tar.gz', {'table.txt': text}, folder)
    with tarfile.open(tmp_path / 'a.tar.gz') as file:
        assert [file.extractfile(name).read().decode() for name in file.getnames()] == [said] * 2
        assert file.getnames() == ['acceptance/table.txt', 'acceptance/logs/rank/train.log']


def test_the_machine_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv('DEVICE_TARGET', raising=False)
    monkeypatch.setattr(acceptance, 'glob', lambda pattern: ['/dev/davinci0', '/dev/davinci1'])
    assert acceptance.find_node(tmp_path, []) == Node(tmp_path, 'Ascend', 2)
    assert acceptance.find_node(tmp_path, ['8']).devices == 8
    for words in (['0'], ['x'], ['1', '2']):
        with pytest.raises(InputError, match='number of devices'):
            acceptance.find_node(tmp_path, words)
    monkeypatch.setenv('DEVICE_TARGET', 'TPU')
    with pytest.raises(InputError, match='DEVICE_TARGET=TPU'):
        acceptance.find_node(tmp_path, [])


def test_cann_is_compared_with_what_mindspore_accepts(monkeypatch, tmp_path):
    monkeypatch.delenv('ASCEND_TOOLKIT_HOME', raising=False)
    monkeypatch.delenv('ASCEND_HOME_PATH', raising=False)
    node = Node(tmp_path, 'Ascend', 1)
    assert check(item('CANN'), node).found == "source CANN's set_env.sh first"
    monkeypatch.setenv('ASCEND_HOME_PATH', str(tmp_path))
    assert check(item('CANN'), node).found.startswith('no release in ')
    (tmp_path / 'compiler').mkdir()
    for release, verdict in (('8.5', OK), ('7.0', FAILED)):
        (tmp_path / 'compiler' / 'version.info').write_text(f'Version={release}.0.RC1\n')
        finding = check(item('CANN'), node)
        assert finding.verdict == verdict and finding.found.startswith(f'{release}; MindSpore 2.')


@pytest.mark.by_hand
@pytest.mark.parametrize('fault, failed', [
    ('', []), ('package', ['packages', 'train.py, DEM']), ('kernel', ['small ResNet, float32', 'small ResNet, mixed']),
    ('rank', ['several devices', 'AllReduce', 'a rank that is killed'])])
def test_the_whole_run_says_which_item_failed(tmp_path, fault, failed):
    root = tmp_path / 'project'
    for name in ('src', 'scripts'):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns('__pycache__'))
    for path in [*ROOT.glob('*.py'), ROOT / 'requirements.txt']:
        shutil.copy(path, root)
    planted = tmp_path / 'planted'
    planted.mkdir()
    if fault == 'package':
        (planted / 'h5py.py').write_text("raise ImportError('planted')")
    if fault == 'rank':
        (planted / 'sitecustomize.py').write_text(
            "import os, threading\nif os.environ.get('RANK_ID') == '1':\n    threading.Timer(3, os._exit, [9]).start()\n")
    if fault == 'kernel':
        source = root / 'src' / 'acceptance' / 'computations.py'
        text = source.read_text()
        deviation = 'np.sqrt(2 / np.prod(shape[1:]))'
        spoilt = text.replace(deviation, f"{deviation} * (1.1 if 'layer2' in parameter.name else 1)")
        assert spoilt != text
        source.write_text(spoilt)
    done = subprocess.run(['sh', str(root / 'scripts' / 'accept_ascend.sh'), '2'], cwd=tmp_path, text=True, capture_output=True,
                          env={**os.environ, 'DEVICE_TARGET': 'CPU', 'PYTHON': sys.executable, 'PYTHONPATH': str(planted)})
    print(done.stdout, done.stderr)
    [archive] = tmp_path.glob('accept_cpu_*.tar.gz')
    with tarfile.open(archive) as file:
        texts = {name: file.extractfile(name).read().decode() for name in file.getnames()}
    findings = json.loads(texts['acceptance/findings.json'])
    wrong = [one['item'] for one in findings if one['verdict'] == FAILED]
    assert done.returncode == bool(fault) and [one['item'] for one in findings] == [one.name for one in ITEMS]
    assert wrong[:len(failed)] == failed and (fault == 'package' or wrong == failed)
    assert not [name for name, text in texts.items() if str(tmp_path) in text or str(ROOT) in text]
