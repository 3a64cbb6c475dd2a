"""What a test consists of, against loops, and the figures of metric learning from lists that repeat pictures."""
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from src.common.device import Process
from src.common.errors import InputError
from src.datasets.image_list import ImageList, read_image_list
from src.recipes.recipe import Recipe, make_recipe
from src.systems.measured import MeasuredImages
from src.systems.metric_learning import MetricLearning, recall_across_cameras

HERE = Process('CPU', 0, 0, 1)


@pytest.fixture
def folder(tmp_path):
    """24 different pictures, red their number; 0 to 11 of classes 0 to 3 to train, the rest of 4 to 8 to test."""
    for i in range(24):
        Image.new('RGB', (8, 8), (i, 0, 0)).save(tmp_path / f'{i}.png')
    return tmp_path


def listed(folder, name, rows):
    (folder / name).write_text(''.join(f'{row}\n' for row in rows))
    return read_image_list(str(folder / name))


def recipe(folder, **lists):
    values = make_recipe('SOP', 'softmax', 'published')
    return Recipe({**values, 'loss_name': 'softmax', **{name: str(folder / file) for name, file in lists.items()}})


@pytest.fixture
def by_number(monkeypatch):
    """Embeddings of pictures are drawn by their number."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(24, 4)).astype(np.float32)

    def embed(self, images, show_progress=False):
        return np.stack([rows[int(np.asarray(Image.open(path))[0, 0, 0])] for path in images.paths])
    monkeypatch.setattr(MetricLearning, 'embed', embed)
    return rows


def recall(rows, queries, labels, gallery, gallery_labels):
    """Recall@1 where a picture, a number, is no answer to itself."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    hits = []
    for number, label in zip(queries, labels):
        scores = [-9 if other == number else unit[number] @ unit[other] for other in gallery]
        hits.append(gallery_labels[int(np.argmax(scores))] == label)
    return np.mean(hits)


def test_a_list_against_itself_and_a_part_of_it(folder, by_number, capsys):
    numbers, labels = np.arange(12, 24), np.arange(12) % 4
    names = [f'{number}.png {label}' for number, label in zip(numbers, labels)]
    listed(folder, 'all.txt', names)
    listed(folder, 'half.txt', names[::2])
    (folder / 'copies').mkdir()
    for number in numbers:
        (folder / 'copies' / f'{number}.png').write_bytes((folder / f'{number}.png').read_bytes())
    listed(folder, 'copies.txt', [f'copies/{name}' for name in names])
    for query, rows in (('all.txt', slice(None)), ('half.txt', slice(None, None, 2)), ('copies.txt', slice(None))):
        result = MetricLearning(recipe(folder, query=query, gallery='all.txt'), HERE).evaluate('x')
        assert result['accuracy'] == pytest.approx(recall(by_number, numbers[rows], labels[rows], numbers, labels))
        count = len(numbers[rows])
        assert result['test'] == {
            'queries': count, 'classes': len(set(labels[rows])), 'gallery': 12, 'gallery_classes': 4,
            'queries_without_answer': 0, 'queries_among_answers': count, 'repeated': 0, 'cameras_apart': False,
            'classes_trained_on': None, 'of_several_classes': 0, 'trained_on': None, 'left_out': {}}
        assert (f'measured: {count} queries of {len(set(labels[rows]))} classes in a gallery of 12 images of 4 classes; '
                f'{count} queries are among the images to find too, and no answers to themselves\n') in capsys.readouterr().out
    json.dumps(result)


def test_lines_twice_and_training_images_in_a_test(folder, by_number, capsys):
    numbers, labels = [12, 13, 14, 15, 12, 16], [0, 0, 1, 1, 0, 2]
    listed(folder, 'test.txt', [f'{number}.png {label}' for number, label in zip(numbers, labels)])
    result = MetricLearning(recipe(folder, dataset_path='test.txt'), HERE).evaluate('x')
    unit = by_number / np.linalg.norm(by_number, axis=1, keepdims=True)
    close = unit[numbers] @ unit[numbers].T
    hits = [labels[max((j for j in range(6) if numbers[j] != numbers[i]), key=close[i].__getitem__)] == labels[i]
            for i in range(6)]
    assert result['accuracy'] == pytest.approx(np.mean(hits))
    facts = result['test']
    assert (facts['queries_without_answer'], facts['queries_among_answers'], facts['trained_on']) == (1, 2, 6)
    said = capsys.readouterr().out
    assert '1 queries have no image of their class to find' in said and '6 images are in the training list too' in said


def test_a_csv_tells_queries_and_gallery(folder, by_number):
    rows = [(f'{i}.png', 'ant' if i % 2 else 'bee', 'train' if i < 12 else 'test', i % 3 == 0, i % 4 != 0) for i in range(24)]
    (folder / 'all.csv').write_text('path,label,split,is_query,is_gallery\n' + ''.join(
        ','.join(map(str, row)) + '\n' for row in rows))
    result = MetricLearning(recipe(folder, dataset_path='all.csv'), HERE).evaluate('x')
    test = np.arange(12, 24)
    queries, gallery = test[test % 3 == 0], test[test % 4 != 0]
    assert result['accuracy'] == pytest.approx(recall(by_number, queries, queries % 2, gallery, gallery % 2))
    assert (result['test']['queries'], result['test']['gallery'], result['test']['trained_on']) == (4, 9, 0)


def test_what_can_tell_nothing_is_refused(folder):
    def images(numbers, labels, cameras=None):
        return ImageList([str(folder / f'{i}.png') for i in numbers], np.array(labels),
                         None if cameras is None else np.array(cameras))
    for lists, words in (((images([1, 2, 3], [5, 5, 5]),), 'one class'),
                         ((images([1, 2, 3], [4, 5, 6]),), 'no query has another'),
                         ((images([1, 2], [4, 5]), images([3, 4], [6, 6])), 'one class'),
                         ((images([1, 2], [4, 5]), images([3, 4], [6, 7])), 'no query has another'),
                         # The only answer is the query's own picture.
                         ((images([1, 2], [4, 5]), images([1, 2], [4, 5])), 'no query has another')):
        with pytest.raises(InputError, match=words):
            MeasuredImages(*lists)
    with pytest.raises(InputError, match='and another camera to find'):
        MeasuredImages(images([1, 2], [4, 5], [0, 0]), images([3, 4], [4, 5], [0, 0]), by_camera=True)


def test_answers_against_a_loop(folder):
    rng = np.random.default_rng(1)
    sides = []
    for count in (40, 60):
        numbers = rng.integers(0, 24, count)
        sides.append((numbers, numbers % 5, rng.integers(0, 3, count)))
    query, gallery = (ImageList([str(folder / f'{i}.png') for i in numbers], labels, cameras)
                      for numbers, labels, cameras in sides)
    expected = [sum(label == other and camera != seen and number != shown for shown, other, seen in zip(*sides[1]))
                for number, label, camera in zip(*sides[0])]
    np.testing.assert_array_equal(MeasuredImages(query, gallery, by_camera=True).answers, expected)
    expected = [sum(label == other and number != shown for shown, other, _ in zip(*sides[1]))
                for number, label, _ in zip(*sides[0])]
    np.testing.assert_array_equal(MeasuredImages(query, gallery).answers, expected)
    assert MeasuredImages(query, gallery).different.sum() == len(set(sides[0][0]) | set(sides[1][0]))


def test_validation_leaves_repeated_pictures_out():
    rng = np.random.default_rng(2)
    rows, labels = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 4, 20)
    twice = np.concatenate([np.arange(20), [4, 4]])
    for cameras in (None, np.arange(22) % 2):
        unit = rows[twice] / np.linalg.norm(rows[twice], axis=1, keepdims=True)
        seen = twice if cameras is None else cameras
        hits = []
        for i in range(22):
            others = [j for j in range(22) if seen[j] != seen[i] and twice[j] != twice[i]]
            if cameras is None or any(labels[twice[j]] == labels[twice[i]] for j in range(22) if seen[j] != seen[i]):
                hits.append(labels[twice[max(others, key=lambda j, i=i: unit[i] @ unit[j])]] == labels[twice[i]])
        assert recall_across_cameras(rows[twice], labels[twice], cameras, twice) == pytest.approx(np.mean(hits))


def test_copies_cameras_apart_and_names_of_training_classes_are_said(folder):
    copy = folder / 'copy of 3.png'
    copy.write_bytes((folder / '3.png').read_bytes())

    def images(files, labels, camera):
        return ImageList(list(map(str, files)), np.array(labels), np.full(len(files), camera), class_names=('ant', 'bee'))
    query, gallery = images([folder / '1.png'], [0], 1), images([folder / '2.png', folder / '3.png', copy], [0, 1, 1], 2)
    train = images([folder / '9.png'], [0], 1)
    line = MeasuredImages(query, gallery, train, by_camera=True).line()
    assert '1 images are the same picture as another one of their list' in line
    assert '1 classes have the names of training classes' in line and line.endswith('no answer is excluded for its camera')
    assert 'excluded' not in MeasuredImages(query, replace(gallery, cameras=np.array([2, 1, 2])), by_camera=True).line()
    # A copy is no answer to the other file, also where there is one list and no training list.
    alone = MeasuredImages(images([folder / '2.png', folder / '3.png', copy, folder / '4.png'], [0, 1, 1, 0], 1))
    assert alone.answers.tolist() == [1, 0, 0, 1]
