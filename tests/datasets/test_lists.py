"""Lists, folders, the lists of Stanford Online Products and re-identification names."""
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.image_list import (
    ImageList,
    check_images,
    read_image_folder,
    read_image_list,
    remap_labels,
    with_turned_classes,
)
from src.datasets.images import open_images, read_any_list
from src.datasets.reid import open_reid, reid_dataset, statistics, statistics_lines

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


def test_turned_classes_are_classes_of_their_own():
    images = ImageList(['a', 'b', 'c'], np.array([7, 7, -2]), super_labels=np.array([1, 1, 2]), class_names=('x', 'y'))
    turned = with_turned_classes(images)
    assert turned.paths == ['a', 'b', 'c'] * 4 and turned.super_labels.tolist() == [1, 1, 2] * 4
    assert turned.labels.tolist() == [1, 1, 0, 3, 3, 2, 5, 5, 4, 7, 7, 6]
    assert turned.turns.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    some = turned.select(turned.labels > 4)
    assert some.paths == ['a', 'b', 'a', 'b', 'c'] and some.turns.tolist() == [2, 2, 3, 3, 3]


def test_path_label_camera_and_ebay(tmp_path):
    images = read_image_list(write(tmp_path / 'c.txt', 'a b.jpg 7 2\nc.jpg 8 1\n'))
    assert images.paths[0] == str(tmp_path / 'a b.jpg')
    assert images.labels.tolist() == [7, 8] and images.cameras.tolist() == [2, 1]
    ebay = write(tmp_path / 'e.txt', '\ufeffimage_id class_id super_class_id path\n1 5 2 d/a b.JPG\n2 6 2 c.JPG\n')
    images = read_image_list(ebay)
    assert images.paths[0] == str(tmp_path / 'd/a b.JPG') and images.labels.tolist() == [5, 6]
    assert images.cameras is None and images.super_labels.tolist() == [2, 2]


def test_select():
    images = ImageList(list('abcd'), np.arange(4) * 2, np.arange(4), np.arange(4) % 2, ('x', 'y'))
    for rows in (np.array([False, True, False, True]), [1, 3], slice(1, None, 2)):
        part = images.select(rows)
        assert part.paths == ['b', 'd'] and part.labels.tolist() == [2, 6] and part.cameras.tolist() == [1, 3]
        assert part.super_labels.tolist() == [1, 1] and part.class_names == ('x', 'y')
    assert ImageList(['a', 'b'], None).select([1]) == ImageList(['b'], None)


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
    assert images.labels.tolist() == [0, 1, 1, 3] and images.class_names == ('a', 'b', 'c', 'd')
    for bad in (tmp_path / 'c', tmp_path / 'nowhere'):
        with pytest.raises(InputError, match=str(bad)):
            read_image_folder(str(bad))


def test_check_images_and_remap(tmp_path):
    write(tmp_path / 'a.jpg', '')
    images = read_image_list(write(tmp_path / 'l.txt', 'a.jpg 1\ngone.jpg 1\nlost.jpg 2\n'))
    with pytest.raises(InputError, match=r'gone\.jpg.*2 of 3'):
        check_images(images)
    assert remap_labels(np.array([30, -1, 30, 7])).tolist() == [2, 0, 2, 1]


def test_sop_real_lists(shared_data, tmp_path, monkeypatch):
    """The Ebay files and the lists that the documented commands make of them give the same images."""
    monkeypatch.setattr('src.datasets.images.check_images', lambda images: None)
    source = shared_data / 'Stanford_Online_Products'
    ours, documented = tmp_path / 'ours', tmp_path / 'documented'
    for folder in (ours, documented):
        folder.mkdir()
        for name in ('Ebay_train.txt', 'Ebay_test.txt'):
            (folder / name).symlink_to(source / name)
    subprocess.run(['sh', '-ec', COMMANDS], cwd=documented, check=True)
    for split, counts in {'train': {'full': (59551, 11318), 'half': (29437, 5184), 'tiny': (1012, 160)},
                          'test': {'full': (60502, 11316), 'half': (30003, 5184), 'tiny': (1048, 160)}}.items():
        for subset, expected in counts.items():
            images, prepared = (open_images(str(folder), split, subset=subset) for folder in (ours, documented))
            assert (len(images), len(np.unique(images.labels))) == expected
            assert [os.path.relpath(path, ours) for path in images.paths] == [
                os.path.relpath(path, documented) for path in prepared.paths]
            assert (prepared.labels == images.labels).all()
            assert len(images.super_labels) == len(images) and prepared.super_labels is None


def test_sop_small_or_absent(tmp_path):
    write(tmp_path / 'a.jpg', '')
    write(tmp_path / 'train_half.txt', 'a.jpg 4\n')
    assert open_images(str(tmp_path), 'train', subset='half').labels.tolist() == [4]
    for split, subset in (('train', 'full'), ('test', 'half')):
        with pytest.raises(InputError, match=f'Ebay_{split}.txt; --query'):
            open_images(str(tmp_path), split, subset=subset, flag='--query')


def test_open_a_folder_a_class_or_parts_of_it(tmp_path):
    for name in ('a/1.jpg', 'b/2.jpg', 'b/3.jpg'):
        write(tmp_path / 'plain' / name, '')
        write(tmp_path / 'parts' / 'train' / name, '')
    write(tmp_path / 'parts' / 'test' / 'c/4.jpg', '')
    for need_labels in (True, False):
        images = open_images(str(tmp_path / 'plain'), 'test', need_labels=need_labels)
        assert images.labels.tolist() == [0, 1, 1] and images.class_names == ('a', 'b')
        assert open_images(str(tmp_path / 'parts'), 'test', need_labels=need_labels).class_names == ('c',)
        assert len(open_images(str(tmp_path / 'parts'), 'train', need_labels=need_labels)) == 3


def test_open_what_has_no_labels(tmp_path):
    image, other = write(tmp_path / 'x/one.JPG', ''), write(tmp_path / 'x/two.png', '')
    names = write(tmp_path / 'names.txt', 'x/one.JPG\nx/two.png\n')
    labelled = write(tmp_path / 'labelled.txt', 'x/one.JPG 3\n')
    for path, paths in ((image, [image]), (names, [image, other]), (str(tmp_path / 'x'), [image, other])):
        images = open_images(path, 'test', need_labels=False)
        assert images.paths == paths and images.labels is None
        with pytest.raises(InputError) as caught:
            open_images(path, 'test')
        assert '\n' not in str(caught.value) and path in str(caught.value)
    assert open_images(labelled, 'test', need_labels=False).labels.tolist() == [3]
    assert read_any_list(names).paths == [image, other]
    write(tmp_path / 'x/sub/three.jpg', '')
    with pytest.raises(InputError, match='beside folders of images'):
        open_images(str(tmp_path / 'x'), 'test', need_labels=False)


def test_open_nothing(tmp_path):
    with pytest.raises(InputError, match='--gallery is missing'):
        open_images('', 'test', flag='--gallery')
    with pytest.raises(InputError, match='--dataset_path=nowhere: no such'):
        open_images('nowhere', 'train')
    gone = write(tmp_path / 'l.txt', 'gone.jpg 1\n')
    with pytest.raises(InputError, match='gone.jpg: no such image'):
        open_images(gone, 'train')


def test_grocery_lists(shared_data):
    root = shared_data / 'Grocery'
    files = {flag: str(root / f'reid_{name}.txt') for flag, name in (
        ('train_list', 'train'), ('query', 'query'), ('gallery', 'gallery'))}
    parts = open_reid('Market1501', lists=files)
    for images, file in zip(parts, files.values()):
        lines = Path(file).read_text().splitlines()
        assert len(images) == len(lines)
        assert images.paths[-1] == str(root / lines[-1].split()[0])
        assert [images.labels[-1], images.cameras[-1]] == [int(word) for word in lines[-1].split()[1:]]
    measured = open_reid('lists', lists=files, training=False)
    assert measured.train is None and list(statistics(measured)) == ['query', 'gallery']
    train = open_images(str(root), 'train')
    assert len(train) == 2781 and len(set(train.labels)) == 41
    with pytest.raises(InputError, match='camera'):
        open_reid('lists', lists=dict.fromkeys(files, str(root / 'Ebay_train.txt')))
    with pytest.raises(InputError, match='--gallery is missing'):
        open_reid('lists', lists=dict(files, gallery=None))


@pytest.mark.parametrize('name, folder, names', [
    ('DukeMTMC-reID', 'DukeMTMC-reID', ['0005_c2_f0046985.jpg', '0001_c8_f0000001.jpg']),
    ('Market1501', 'market1501', ['0002_c1s1_000451_03.jpg', '0000_c3s2_000001_01.jpg', '-1_c1s1_000401_03.jpg']),
    ('Market1501', '.', ['1501_c6s4_001877_01.jpg'])])
def test_reid_folders(tmp_path, name, folder, names):
    for split in ('bounding_box_train', 'query', 'bounding_box_test'):
        for file in names:
            write(tmp_path / folder / split / file, '')
        write(tmp_path / folder / split / 'Thumbs.db', '')
    opened = open_reid(name, str(tmp_path))
    expected = sorted(file for file in names if not file.startswith('-1'))
    for images in opened:
        assert [Path(path).name for path in images.paths] == expected
        assert images.labels.tolist() == [int(file[:4]) for file in expected]
        assert images.cameras.tolist() == [int(file[6]) for file in expected]
    found, dataset = statistics(opened), reid_dataset(name)
    assert found['query'] == (len(expected),) * 3 and set(found) == set(dataset.expected)
    assert statistics_lines(dataset, found)[1] == (
        'query   {:6} identities {:6} images {:3} cameras (published: {}, {}, {})'.format(
            *found['query'], *dataset.expected['query']))
    assert all(line.endswith('(as published)') for line in statistics_lines(dataset, dataset.expected))
    assert 'published' not in statistics_lines(reid_dataset('lists'), found)[0]
    for line in statistics_lines(dataset, dataset.expected):
        assert ''.join(line.split()[1:7:2]) in ''.join(dataset.__doc__.split())
    write(tmp_path / folder / 'query' / 'holiday.jpg', '')
    with pytest.raises(InputError, match='holiday.jpg'):
        open_reid(name, str(tmp_path))


def test_labels_and_cameras_that_are_not_known_are_refused(tmp_path):
    images = ImageList([str(tmp_path / 'a.jpg')], np.array([3]))
    assert images.known_labels.tolist() == [3]
    with pytest.raises(InputError, match='a.jpg: its camera is not known'):
        images.known_cameras
    with pytest.raises(InputError, match='a.jpg: its class is not known'):
        ImageList(images.paths, None).known_labels


def test_reid_absent(tmp_path):
    with pytest.raises(InputError, match='DukeMTMC-reID, Market1501, lists'):
        open_reid('CUHK03', str(tmp_path))
    with pytest.raises(InputError, match='--data_path is missing'):
        open_reid('Market1501')
    with pytest.raises(InputError, match='DukeMTMC-reID/bounding_box_train'):
        open_reid('DukeMTMC-reID', str(tmp_path))
    (tmp_path / 'bounding_box_train').mkdir()
    with pytest.raises(InputError, match='holds no image'):
        open_reid('DukeMTMC-reID', str(tmp_path))
    write(tmp_path / 'bounding_box_train/0001_c1_f1.jpg', '')
    with pytest.raises(InputError, match='query'):
        open_reid('DukeMTMC-reID', str(tmp_path))
