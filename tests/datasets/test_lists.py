"""Lists, folders, the lists of Stanford Online Products and re-identification names."""
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from src.datasets.image_list import check_images, read_image_folder, read_image_list, remap_labels
from src.datasets.reid import EXPECTED, load_reid, load_reid_lists, reid_statistics
from src.datasets.sop import load_sop, make_lists
from src.errors import InputError

COMMANDS = '''
sed '1d' Ebay_train.txt | awk -F' ' '{print $4" "$2}' > train.txt
sed '1d' Ebay_test.txt | awk -F' ' '{print $4" "$2}' > test.txt
head -n 29437 train.txt > train_half.txt
head -n 30003 test.txt > test_half.txt
head -n 1012 train.txt > train_tiny.txt
head -n 1048 test.txt > test_tiny.txt
'''


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_path_label(tmp_path):
    images = read_image_list(write(tmp_path / 'a.txt', 'x/my photo 2.jpg 7\n\n/abs/b.jpg -3\n'))
    assert images.paths == [str(tmp_path / 'x/my photo 2.jpg'), '/abs/b.jpg']
    assert images.labels.tolist() == [7, -3] and images.labels.dtype == np.int64 and images.cameras is None
    assert len(images) == 2
    other = read_image_list(str(tmp_path / 'a.txt'), root='/data')
    assert other.paths[0] == '/data/x/my photo 2.jpg'


def test_path_label_camera_and_ebay(tmp_path):
    images = read_image_list(write(tmp_path / 'c.txt', 'a b.jpg 7 2\nc.jpg 8 1\n'))
    assert images.paths[0] == str(tmp_path / 'a b.jpg')
    assert images.labels.tolist() == [7, 8] and images.cameras.tolist() == [2, 1]
    ebay = write(tmp_path / 'e.txt', '\ufeffimage_id class_id super_class_id path\n1 5 2 d/a b.JPG\n2 6 2 c.JPG\n')
    images = read_image_list(ebay)
    assert images.paths[0] == str(tmp_path / 'd/a b.JPG') and images.labels.tolist() == [5, 6]
    assert images.cameras is None


@pytest.mark.parametrize('text, where', [
    ('', ''), ('\n\n', ''), ('image_id class_id super_class_id path\n', ''), ('a.jpg\n', ':1'),
    ('a.jpg 1\nb.jpg x\n', ':2'),
    ('a.jpg 1\n\nb.jpg 1.5\n', ':3'), ('a.jpg 1 2\nb.jpg 3\n', ':2'), ('a.jpg 99999999999999999999\n', ':1'),
    ('image_id class_id super_class_id path\n1 1 1 a\n2 1 b\n', ':3'),
    ('image_id class_id super_class_id path\n1 one 1 a\n', ':2')])
def test_malformed_lists(tmp_path, text, where):
    file = write(tmp_path / 'bad.txt', text)
    with pytest.raises(InputError) as caught:
        read_image_list(file)
    assert str(caught.value).startswith(f'{file}{where}: ') and '\n' not in str(caught.value)


def test_unreadable_lists(tmp_path):
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xd8\xff\xe0')
    for file in (tmp_path / 'absent.txt', tmp_path, tmp_path / 'binary.txt'):
        with pytest.raises(InputError, match=str(file)):
            read_image_list(str(file))


def test_folder(tmp_path):
    for name in ('b/2.jpg', 'b/1.JPG', 'a/x.png', 'c/notes.txt', '.git/y.jpg', 'd/z.jpg', 'top.jpg'):
        write(tmp_path / name, '')
    images = read_image_folder(str(tmp_path))
    assert [os.path.relpath(path, tmp_path) for path in images.paths] == ['a/x.png', 'b/1.JPG', 'b/2.jpg', 'd/z.jpg']
    assert images.labels.tolist() == [0, 1, 1, 3]
    for bad in (tmp_path / 'c', tmp_path / 'nowhere'):
        with pytest.raises(InputError, match=str(bad)):
            read_image_folder(str(bad))


def test_check_images_and_remap(tmp_path):
    write(tmp_path / 'a.jpg', '')
    images = read_image_list(write(tmp_path / 'l.txt', 'a.jpg 1\ngone.jpg 1\nlost.jpg 2\n'))
    with pytest.raises(InputError, match=r'gone\.jpg.*2 of 3'):
        check_images(images)
    assert remap_labels(np.array([30, -1, 30, 7])).tolist() == [2, 0, 2, 1]


def test_sop_real_lists(shared_data, tmp_path):
    source = shared_data / 'Stanford_Online_Products'
    ours, documented = tmp_path / 'ours', tmp_path / 'documented'
    for folder in (ours, documented):
        folder.mkdir()
        for name in ('Ebay_train.txt', 'Ebay_test.txt'):
            (folder / name).symlink_to(source / name)
    subprocess.run(['sh', '-ec', COMMANDS], cwd=documented, check=True)
    from_ebay = load_sop(str(ours), 'test', 'half')
    counts = make_lists(str(ours))
    names = sorted(path.name for path in ours.iterdir())
    assert names == sorted(path.name for path in documented.iterdir())
    for name in names:
        assert (ours / name).read_bytes() == (documented / name).read_bytes()
    assert counts == {'train.txt': (59551, 11318), 'train_half.txt': (29437, 5184), 'train_tiny.txt': (1012, 160),
                      'test.txt': (60502, 11316), 'test_half.txt': (30003, 5184), 'test_tiny.txt': (1048, 160)}
    prepared = load_sop(str(ours), 'test', 'half')
    assert prepared.paths == from_ebay.paths and (prepared.labels == from_ebay.labels).all()
    assert len(load_sop(str(ours), 'train', 'tiny')) == 1012 and len(load_sop(str(ours))) == 59551


def test_sop_small_or_absent(tmp_path):
    with pytest.raises(InputError, match='--dataset_path'):
        load_sop(str(tmp_path))
    with pytest.raises(InputError, match='Ebay_train.txt'):
        make_lists(str(tmp_path))
    write(tmp_path / 'train_half.txt', 'a.jpg 4\n')
    assert load_sop(str(tmp_path), 'train', 'half').labels.tolist() == [4]


def test_grocery_lists(shared_data):
    root = shared_data / 'Grocery'
    train, query, gallery = load_reid_lists(*[str(root / f'reid_{name}.txt') for name in ('train', 'query', 'gallery')])
    for images, name in ((train, 'train'), (query, 'query'), (gallery, 'gallery')):
        lines = (root / f'reid_{name}.txt').read_text().splitlines()
        assert len(images) == len(lines)
        assert images.paths[-1] == str(root / lines[-1].split()[0])
        assert [images.labels[-1], images.cameras[-1]] == [int(word) for word in lines[-1].split()[1:]]
        check_images(images)
    assert len(load_sop(str(root), 'train')) == 2781 and len(set(load_sop(str(root), 'train').labels)) == 41
    with pytest.raises(InputError, match='camera'):
        load_reid_lists(*[str(root / 'Ebay_train.txt')] * 3)


@pytest.mark.parametrize('name, folder, names', [
    ('DukeMTMC-reID', 'DukeMTMC-reID', ['0005_c2_f0046985.jpg', '0001_c8_f0000001.jpg']),
    ('market1501', 'market1501', ['0002_c1s1_000451_03.jpg', '0000_c3s2_000001_01.jpg', '-1_c1s1_000401_03.jpg']),
    ('market1501', '.', ['1501_c6s4_001877_01.jpg'])])
def test_reid_folders(tmp_path, name, folder, names):
    for split in ('bounding_box_train', 'query', 'bounding_box_test'):
        for file in names:
            write(tmp_path / folder / split / file, '')
        write(tmp_path / folder / split / 'Thumbs.db', '')
    train, query, gallery = load_reid(name, str(tmp_path))
    expected = sorted(file for file in names if not file.startswith('-1'))
    for images in (train, query, gallery):
        assert [Path(path).name for path in images.paths] == expected
        assert images.labels.tolist() == [int(file[:4]) for file in expected]
        assert images.cameras.tolist() == [int(file[6]) for file in expected]
    statistics = reid_statistics(train, query, gallery)
    assert statistics['query'] == (len(expected),) * 3 and set(statistics) == set(EXPECTED[name.lower()])
    write(tmp_path / folder / 'query' / 'holiday.jpg', '')
    with pytest.raises(InputError, match='holiday.jpg'):
        load_reid(name, str(tmp_path))


def test_reid_absent(tmp_path):
    with pytest.raises(InputError, match='DukeMTMC-reID/bounding_box_train'):
        load_reid('dukemtmc-reid', str(tmp_path))
    (tmp_path / 'bounding_box_train').mkdir()
    with pytest.raises(InputError, match='holds no image'):
        load_reid('dukemtmc-reid', str(tmp_path))
    write(tmp_path / 'bounding_box_train/0001_c1_f1.jpg', '')
    with pytest.raises(InputError, match='query'):
        load_reid('dukemtmc-reid', str(tmp_path))
