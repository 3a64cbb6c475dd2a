"""Broken pictures of a list: all are named before a training, the result is kept, and a share may be left out."""
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from src.common.errors import InputError
from src.datasets import broken
from src.datasets.broken import contents, last_changed, without_broken
from src.datasets.image_list import read_image_list


@pytest.fixture
def listed(tmp_path):
    """20 pictures: 3 is text, 4 is cut short, and of 5 only decoding shows that it is damaged."""
    for i in range(20):
        picture = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f'{i}.png')
    (tmp_path / '3.png').write_bytes(b'no picture')
    (tmp_path / '4.png').write_bytes((tmp_path / '4.png').read_bytes()[:400])
    (tmp_path / '5.png').write_bytes((tmp_path / '5.png').read_bytes().replace(b'IDAT', b'IDATIDAT'))
    (tmp_path / 'list.txt').write_text(''.join(f'{i}.png {i // 2}\n' for i in range(20)))
    return read_image_list(str(tmp_path / 'list.txt'))


def test_all_are_named_and_the_result_is_kept(listed, tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError) as caught:
        without_broken(listed)
    said = str(caught.value)
    assert '2 of 20 pictures cannot be read: ' in said and '3.png (no picture of a known format' in said and '4.png (' in said
    assert '--skip_broken=0.1' in said and '\n' not in said
    kept = json.loads((tmp_path / 'list.txt.checked.json').read_text())
    assert [os.path.basename(path) for path in kept['broken']] == ['3.png', '4.png']
    looked = []
    monkeypatch.setattr(broken, 'looks_whole', lambda path: looked.append(path) or True)
    rest = without_broken(listed, 0.1, show_progress=True)
    assert len(rest) == 18 and rest.labels.tolist() == [i // 2 for i in range(20) if i not in (3, 4)]
    assert rest.left_out == {'broken': 2} and not looked
    assert '--skip_broken=0.1: 2 of 20 pictures are left out: ' in capsys.readouterr().out
    with pytest.raises(InputError, match='2 of 20 pictures cannot be read'):
        without_broken(listed, 0.09)
    # A part of the list is looked at once too, and the whole is not looked at again.
    part = listed.select(slice(6, 12))
    assert without_broken(part) is part and len(looked) == 6
    assert without_broken(part) is part and len(without_broken(listed, 0.1)) == 18 and len(looked) == 6


def test_the_contents_of_a_list_are_known_again(listed, tmp_path, monkeypatch):
    images = listed.select(slice(6, 12))
    before = contents(images)
    # As in another folder, where nothing is kept.
    shutil.copytree(tmp_path, tmp_path / 'copy', ignore=shutil.ignore_patterns('copy', '*.json'))
    there = replace(images, paths=[path.replace(str(tmp_path), f'{tmp_path}/copy') for path in images.paths], source='')
    assert contents(there) == before
    monkeypatch.setattr(broken, '_size_and_end', lambda path: pytest.fail('read again'))
    assert contents(images) == before
    monkeypatch.undo()
    os.rename(images.paths[0], tmp_path / 'x')
    os.rename(images.paths[3], images.paths[0])
    os.rename(tmp_path / 'x', images.paths[3])
    assert contents(images) != before and last_changed(images) in (images.paths[0], images.paths[3])
    assert contents(listed) != contents(images) and len(without_broken(listed, 0.5)) == 18


def test_what_only_decoding_shows_is_kept_too(listed, tmp_path):
    with pytest.raises(InputError):
        without_broken(listed)
    with pytest.raises(InputError, match='3 of 20 .*5.png'):
        without_broken(listed, whole=True)
    assert len(without_broken(listed, 0.15)) == 17


def test_a_changed_picture_or_list_is_looked_at_again(listed, tmp_path):
    with pytest.raises(InputError):
        without_broken(listed)
    for name in ('3.png', '4.png'):
        (tmp_path / name).write_bytes((tmp_path / '0.png').read_bytes())
    assert without_broken(listed) is listed
    (tmp_path / '7.png').write_bytes(b'')
    with pytest.raises(InputError, match='1 of 20 pictures .*7.png'):
        without_broken(listed)
    (tmp_path / 'list.txt.checked.json').write_text('{"looked_at": 5}')
    with pytest.raises(InputError, match='list.txt.checked.json: .*remove it'):
        without_broken(listed)


def test_nothing_is_kept_where_it_is_not_asked_for_or_cannot_be(listed, tmp_path, monkeypatch):
    good = listed.select(slice(6, 20))
    assert without_broken(good, keep=False) is good and not list(tmp_path.glob('*.json'))

    def refuse(path, values):
        raise InputError('read-only')
    monkeypatch.setattr(broken, 'write_json', refuse)
    assert without_broken(good) is good
    for i in range(20):
        (tmp_path / f'{i}.png').write_bytes(b'')
    with pytest.raises(InputError, match='20 of 20 pictures cannot be read: '):
        without_broken(listed, 1.0)


def test_many_broken_pictures_are_one_line(listed, tmp_path):
    rows = ''.join(f'{i % 20}.png {i}\n' for i in range(400))
    for i in range(20):
        (tmp_path / f'copy{i}.png').write_bytes(b'')
        rows += f'copy{i}.png 1\n'
    (tmp_path / 'many.txt').write_text(rows)
    with pytest.raises(InputError, match='more, all in .*many.txt.checked.json; repair them, remove'):
        without_broken(read_image_list(str(tmp_path / 'many.txt')))
