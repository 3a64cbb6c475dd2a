"""Files that appear whole or not at all."""
import errno
import os
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.common.files import replacing


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
