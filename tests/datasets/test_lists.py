"""Lists, folders, the lists of Stanford Online Products and re-identification names."""
import csv
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.datasets.image_list import (
    ImageList,
    check_images,
    read_image_folder,
    read_image_list,
    remap_labels,
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
    without = str(root / 'Ebay_train.txt')
    with pytest.raises(InputError, match='Ebay_train.txt: names no cameras'):
        open_reid('lists', lists=dict(files, query=without))
    # Where no list names cameras, none keeps an answer away.
    parts = open_reid('lists', lists=dict.fromkeys(files, without))
    assert parts.train.cameras is None and not set(parts.query.cameras) & set(parts.gallery.cameras)
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
    for bad in ('holiday.jpg', f'0001_c{"9" * 30}_1.jpg', f'{"9" * 30}_c1_1.jpg', '0001_c\u0663.jpg'):
        write(tmp_path / folder / 'query' / bad, '')
        with pytest.raises(InputError, match=f'{bad}: name is not like'):
            open_reid(name, str(tmp_path))
        (tmp_path / folder / 'query' / bad).unlink()


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


def test_labels_are_numbers_or_names(tmp_path):
    images = read_image_list(write(tmp_path / 'names.txt', 'a b.jpg red pear.jpg pear\nc.jpg apple\nd.jpg pear\n'))
    assert images.paths[0] == str(tmp_path / 'a b.jpg red pear.jpg')
    assert images.class_names == ('apple', 'pear') and images.labels.tolist() == [1, 0, 1]
    people = read_image_list(write(tmp_path / 'people.txt', 'a b.jpg ann 2\nc.jpg bob 11\n'))
    assert people.class_names == ('ann', 'bob') and people.labels.tolist() == [0, 1] and people.cameras.tolist() == [2, 11]
    for text, where in (('a.jpg 1_2\nb.jpg 3\n', ':1: label'),
                        ('a.jpg 1\nb.jpg 1_2\n', ':2: label'), ('a.jpg \u0663\n', ':1: label'),
                        ('a.jpg pear\nb.jpg 3\n', ':2: label'), ('a.jpg 3 1_2\n', ':1: camera'), ('a.jpg 3 -2\n', ':1: camera'),
                        ('a.jpg nan\n', ':1: label'), ('a.jpg +3\n', ':1: label'), ('a.jpg pear 1.0\n', ':1: camera')):
        file = write(tmp_path / 'bad.txt', text)
        with pytest.raises(InputError, match=f'bad.txt{where}'):
            read_image_list(file)


CSV = '''path,label,camera,split,is_query,is_gallery,x
"a, b.jpg",pear,1,train,,,9
c.jpg,plum,2,test,True,true,9
d.jpg,apple,3,test,0,1,
'''


@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
def test_csv_names_its_columns(tmp_path, delimiter):
    text = CSV.replace('"a, b.jpg"', '"a; b.jpg"').replace(',', delimiter)
    images = read_image_list(write(tmp_path / 'all.csv', text))
    assert images.paths == [str(tmp_path / name) for name in ('a; b.jpg', 'c.jpg', 'd.jpg')]
    assert images.class_names == ('apple', 'pear', 'plum') and images.labels.tolist() == [1, 2, 0]
    assert images.cameras.tolist() == [1, 2, 3] and images.source == str(tmp_path / 'all.csv')
    assert len(read_image_list(images.source, part='train')) == 1
    test = read_image_list(images.source, part='test')
    assert test.class_names == ('apple', 'plum')
    assert test.part('query').paths == [str(tmp_path / 'c.jpg')] and len(test.part('gallery')) == len(test.part('test')) == 2
    with pytest.raises(InputError, match='all.csv: lists no image whose is_query is true'):
        read_image_list(images.source, part='train').part('query')
    paths = read_image_list(write(tmp_path / 'paths.csv', 'PATH\nx.jpg\n'), need_labels=False)
    assert paths.paths == [str(tmp_path / 'x.jpg')] and paths.labels is None
    with pytest.raises(InputError, match='paths.csv: has no column `label`'):
        read_image_list(str(tmp_path / 'paths.csv'))
    for value, count in (('val', 2), ('validation', 2)):
        file = write(tmp_path / 'oml.csv', CSV.replace(',test,', f',{value},'))
        found = read_image_list(file, part='test')
        assert len(found) == count and found.left_out == {'whose split is not test': 1}


@pytest.mark.parametrize('text, words', [
    ('x,y\n', 'names no column `path`'), ('path,lable\na.jpg,1\n', ':1: column lable: did you mean label'),
    ('path,label,label\na,1,1\n', ':1: column label: comes twice'), ('path,label\na.jpg,1,2\n', ':2: has 3 cells'),
    ('path,label\na.jpg,\n', ":2: label ''"), ('path,label\n,3\n', ':2: has no path'), ('path,label\n', 'lists no image'),
    ('path,label,camera\na.jpg,1,x\n', ":2: camera 'x'"), ('path,label,split\na.jpg,1,tset\n', ":2: split 'tset'"),
    ('path,label,split\na.jpg,1,test\n', 'lists no image whose split is train'),
    ('path,label,camid\na.jpg,1,2\n', 'column camid: did you mean camera'), ('path,class\na.jpg,1\n', 'did you mean label'),
    ('path,label,set\na.jpg,1,Train\nb.jpg,1,query\n', 'column set: Train seems to be a part of the data'),
    ('path,label,is_query\na.jpg,1,maybe\n', ":2: is_query 'maybe'"), ('path,label\n"a.jpg,1\n', 'check its quotes'),
    ('path,label\na.jpg,"' + 200_000 * 'x' + '"\n', ':2: ')])
def test_malformed_csv(tmp_path, text, words):
    file = write(tmp_path / 'bad.csv', text)
    with pytest.raises(InputError) as caught:
        read_image_list(file, part='train')
    assert str(caught.value).startswith(file) and words in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize('encoding, name', [('gbk', '\u82f9\u679c'), ('latin-1', 'p\xeache'), ('utf-16', '\u82f9\u679c')])
def test_encodings(tmp_path, encoding, name):
    for file, text in (('list.txt', f'{name}/1.jpg {name}\n'), ('list.csv', f'path,label\n{name}/1.jpg,{name}\n')):
        (tmp_path / file).write_bytes(text.encode(encoding))
        images = read_image_list(str(tmp_path / file), encoding=encoding)
        assert images.class_names == (name,) and images.paths == [str(tmp_path / name / '1.jpg')]
        with pytest.raises(InputError, match=f'{file}: is not text in utf-8; give its encoding'):
            read_image_list(str(tmp_path / file))
        (tmp_path / file).write_bytes(b'\xef\xbb\xbf' + text.encode())
        assert read_image_list(str(tmp_path / file)).class_names == (name,)


def test_junk_is_left_out_and_counted(tmp_path):
    for name in 'ab':
        write(tmp_path / f'{name}.jpg', '')
    lists = {name: write(tmp_path / name, 'a.jpg -1 1\nb.jpg 3 2\n') for name in ('train_list', 'query', 'gallery')}
    for images in (*open_reid('lists', lists=lists), open_images(lists['query'], 'train'),
                   open_images(lists['query'], 'test', need_labels=False)):
        assert images.labels.tolist() == [3] and images.left_out == {'of label -1, junk': 1}
    assert read_image_list(lists['query']).labels.tolist() == [-1, 3]  # rows of an embedding file
    for text, words in (('a.jpg -1\n', 'all images are of label -1'), ('a.jpg -3\n', 'label -3: labels are names')):
        with pytest.raises(InputError, match=words):
            open_images(write(tmp_path / 'junk.txt', text), 'train')


def test_folders_say_what_they_leave_out(tmp_path):
    for name in ('a/2.webp', 'a/1.jfif', 'a/deep/er/0.gif', 'a/notes.txt', 'b/3.jpg', '@eaDir/x.jpg', 'b/@eaDir/3.jpg/y.jpg',
                 'b/.DS_Store', '__MACOSX/b/3.jpg', 'top.jpg'):
        write(tmp_path / name, '')
    (tmp_path / 'b' / 'loop').symlink_to(tmp_path / 'b')
    images = read_image_folder(str(tmp_path))
    assert [os.path.relpath(path, tmp_path) for path in images.paths] == ['a/1.jfif', 'a/2.webp', 'a/deep/er/0.gif', 'b/3.jpg']
    assert images.labels.tolist() == [0, 0, 0, 1] and images.class_names == ('a', 'b')
    assert list(images.left_out.values()) == [2]


def test_classes_called_train_or_test(tmp_path):
    for name in ('a/1.jpg', 'test/2.jpg', 'train/3.jpg'):
        write(tmp_path / 'classes' / name, '')
        write(tmp_path / 'both' / name, '')
    write(tmp_path / 'both' / 'train' / 'c' / '4.jpg', '')
    write(tmp_path / 'half' / 'train' / 'c' / '4.jpg', '')
    for need_labels in (True, False):
        for split in ('train', 'test'):
            images = open_images(str(tmp_path / 'classes'), split, need_labels=need_labels)
            assert images.class_names == ('a', 'test', 'train') and images.labels.tolist() == [0, 1, 2]
            with pytest.raises(InputError, match='both: holds a beside train'):
                open_images(str(tmp_path / 'both'), split, need_labels=need_labels)
        with pytest.raises(InputError, match='half: holds train, but no test'):
            open_images(str(tmp_path / 'half'), 'test', need_labels=need_labels)


def test_names_that_look_the_same_are_one_class(tmp_path):
    """macOS writes folder names decomposed; editors leave no-break and zero-width spaces."""
    names = ('caf\u00e9 1', 'cafe\u0301\u00a01', 'caf\u00e9\u200b 1')
    images = read_image_list(write(tmp_path / 'a.csv', 'path,label\n' + ''.join(f'{i}.jpg,{name}\n'
                                                                            for i, name in enumerate((*names, 'tea')))))
    assert images.class_names == ('caf\u00e9 1', 'tea') and images.labels.tolist() == [0, 0, 0, 1]
    for i, name in enumerate((*names, 'b')):
        write(tmp_path / 'folder' / name / f'{i}.jpg', '')
    folder = read_image_folder(str(tmp_path / 'folder'))
    assert folder.class_names == ('b', 'caf\u00e9 1') and sorted(folder.labels.tolist()) == [0, 1, 1, 1]


def test_links_to_a_folder_above_are_not_followed(tmp_path):
    for name in ('a/1.jpg', 'b/2.jpg'):
        write(tmp_path / name, '')
    (tmp_path / 'a' / 'all').symlink_to(tmp_path)
    assert [os.path.basename(path) for path in read_image_folder(str(tmp_path)).paths] == ['1.jpg', '2.jpg']


@pytest.mark.parametrize('parts', [('Train', 'Test'), ('training', 'testing')])
def test_parts_under_other_names_are_no_classes(tmp_path, parts):
    for part in parts:
        write(tmp_path / part / 'a' / '1.jpg', '')
    with pytest.raises(InputError, match=f'holds {parts[0]} and {parts[1]}, but no test'):
        open_images(str(tmp_path), 'test')


@pytest.mark.parametrize('content, words', [
    (b'image class\na.jpg 1\n', "line 1 has 'class'.*header"), (b'a.jpg 1.0\n', "label '1.0': expected a name or"),
    (b'PK\x03\x04\xff', 'archive or a workbook'), (b'x\\a.jpg 1\n', r'1 of 1 images in .*a.txt are missing\); write its paths'),
    (b'a.jpg 1\n', 'check the list'),
    (b'image_id\tclass_id\tsuper_class_id\tpath\n1\t1\t1\ta.jpg\n', 'a.jpg: no such image .1 of 1'),
    (b'{"path": "' + b'x' * 999 + b'"} 1\n', r'x\.\.\.: no such image')])
def test_the_words_for_bad_lists(tmp_path, content, words):
    (tmp_path / 'a.txt').write_bytes(content)
    with pytest.raises(InputError, match=words):
        open_images(str(tmp_path / 'a.txt'), 'test')
    with pytest.raises(InputError, match='neither a file nor a folder'):
        open_images('/dev/null', 'test')


WORDS = st.sampled_from(['a.jpg', 'b c.PNG', 'x', '1', '-1', '2.5', '1_0', 'nan', ',', '"', ' ', '\n', '\n', '\r', '\t', ';',
                         'path,label', 'path', 'camera', 'split', 'train', 'is_query', 'true',
                         '\u82f9\u679c', '\x00', '\x85', '\ufeff'])
TEXTS = st.one_of(st.lists(WORDS, max_size=30).map(' '.join), st.lists(WORDS, max_size=30).map(','.join), st.text(max_size=60))
BYTES = st.one_of(TEXTS.map(lambda text: text.encode()), st.binary(max_size=60))


def check_list(file, content, suffix, need_labels):
    """An InputError of one line, or as many images as lines."""
    path = Path(f'{file}.{suffix}')
    path.write_bytes(content)
    try:
        images = read_image_list(str(path), part='test', need_labels=need_labels)
    except InputError as error:
        assert '\n' not in str(error) and str(path) in str(error)
        return
    lines = [line for line in content.decode('utf-8-sig').replace('\r', '\n').split('\n') if line.strip()]
    assert 0 < len(images) <= len(lines)
    for column in (images.labels, images.cameras, images.super_labels):
        assert column is None or column.dtype == np.int64 and len(column) == len(images)
    assert images.class_names is None or set(images.labels) == set(range(len(images.class_names)))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(BYTES, st.sampled_from(['txt', 'csv']), st.booleans())
def test_any_bytes_are_a_list_or_refused(tmp_path_factory, content, suffix, need_labels):
    check_list(tmp_path_factory.getbasetemp() / 'any', content, suffix, need_labels)


@pytest.mark.by_hand
@settings(max_examples=3000, deadline=None)
@given(BYTES, st.sampled_from(['txt', 'csv']), st.booleans())
def test_many_bytes_are_a_list_or_refused(tmp_path_factory, content, suffix, need_labels):
    check_list(tmp_path_factory.getbasetemp() / 'many', content, suffix, need_labels)


NAMES = st.text('ab c.\u82f9,"\'', min_size=1, max_size=8).map(lambda text: text.strip(' "')).filter(bool)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NAMES, st.text('xyz', min_size=1, max_size=3), st.integers(0, 10 ** 12), st.booleans()), min_size=1))
def test_what_csv_writes_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / 'written.csv'
    with open(path, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([('path', 'label', 'camera', 'is_gallery'), *rows])
    images = read_image_list(str(path))
    assert images.paths == [os.path.join(path.parent, name) for name, *_ in rows]
    assert [images.class_names[label] for label in images.labels] == [row[1] for row in rows]
    assert images.cameras.tolist() == [row[2] for row in rows] and images.is_gallery.tolist() == [row[3] for row in rows]


def test_a_class_beside_some_paths_alone_is_no_part_of_a_name(tmp_path):
    file = write(tmp_path / 'a.txt', 'a.jpg\nb.jpg 5\n')
    with pytest.raises(InputError, match="a.txt:2: expected a path alone, as in line 1, found 'b.jpg 5'"):
        read_any_list(file)
    assert read_any_list(write(tmp_path / 'b.txt', 'a.jpg\nb 5.jpg\nc d\n')).paths[1:] == [
        str(tmp_path / 'b 5.jpg'), str(tmp_path / 'c d')]
