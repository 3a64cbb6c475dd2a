"""Files that appear whole or not at all."""
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.common.files import check_replaceable, held, replacing


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'folder' / 'a.txt'
    with replacing(path) as part:
        part.write_text('first')
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text('second')
        raise RuntimeError
    assert path.read_text() == 'first' and os.listdir(path.parent) == ['a.txt']


def test_a_disk_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    # A read-only file system refuses to remove even a file that is not there.
    monkeypatch.setattr(Path, 'unlink', refuse)
    with pytest.raises(InputError, match='cannot write .*a.txt: Read-only file system'), replacing(tmp_path / 'a.txt'):
        refuse()


def test_what_a_killed_process_left_of_a_file_goes_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    killed = str(ended.pid) * (ended.wait() == 0)
    theirs = ['.mine.part.txt', f'.b.{killed}.part.txt', '.a.1.part.txt', '.a.x.part.txt']
    for name in [f'.a.{killed}.part.txt', *theirs]:
        (tmp_path / name).write_text('half')
    with replacing(tmp_path / 'a.txt') as part:
        part.write_text('whole')
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, 'a.txt'])
    with held([tmp_path], '--save_ckpt'):
        assert sorted(os.listdir(tmp_path)) == sorted([name for name in theirs if killed not in name] + ['a.txt'])


def test_refused_work_leaves_no_folder(tmp_path):
    with pytest.raises(InputError), held([tmp_path / 'a' / 'b', tmp_path / 'a' / 'b' / '0'], '--save_ckpt'):
        assert (tmp_path / 'a' / 'b' / '0').is_dir()
        raise InputError('the data is missing')
    with pytest.raises(InputError), replacing(tmp_path / 'c' / 'd' / 'net.mindir'):
        raise InputError('cannot export')
    assert not os.listdir(tmp_path)
    with held([tmp_path / 'a'], '--save_ckpt'):
        (tmp_path / 'a' / 'train.ckpt').write_text('kept')
    assert os.listdir(tmp_path / 'a') == ['train.ckpt']


def test_the_second_process_in_a_folder_is_refused(tmp_path):
    with held([tmp_path], '--save_ckpt'):
        with pytest.raises(InputError, match=f'--save_ckpt: another process is training in {tmp_path}'), held(
                [tmp_path], '--save_ckpt'):
            pass
    with held([tmp_path], '--save_ckpt'):
        pass


def test_what_the_project_did_not_write_is_not_written_over(tmp_path):
    path = tmp_path / 'a.json'
    check_replaceable(path, [b'"accuracy"'], '--result_file')
    path.touch()
    check_replaceable(path, [b'"accuracy"'], '--result_file')
    path.write_text('{"accuracy": 1}')
    check_replaceable(path, [b'"accuracy"'], '--result_file')
    path.write_text('{"mine": 1}')
    with pytest.raises(InputError, match=f'--result_file={path}: exists'):
        check_replaceable(path, [b'"accuracy"'], '--result_file')
    with pytest.raises(InputError, match='--file_name=.*y: File name too long'):
        check_replaceable(tmp_path / ('y' * 300), [], '--file_name')
