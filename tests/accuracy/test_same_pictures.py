"""A picture is no answer to itself: every measure against loops, and which rows show the same picture."""
import os

import numpy as np
import pytest
from PIL import Image

from src.accuracy import Images, Rerank, Retrieval, measure, nearest_of_others, recall_at_k, reid_figures, reid_metrics
from src.accuracy.retrieval import own_rows
from src.datasets.image_list import ImageList
from src.datasets.same_pictures import of_several_classes, picture_numbers

RNG = np.random.default_rng(0)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def drawn(count, classes=6):
    return RNG.normal(size=(count, 5)).astype(np.float32), RNG.integers(0, classes, count)


def by_loops(query, labels, gallery, gallery_labels, excluded, ks):
    """Recall@K, R-precision and MAP@R; excluded: (N, M) bool."""
    hits, precisions, averages = {k: [] for k in ks}, [], []
    for i, scores in enumerate(unit(query) @ unit(gallery).T):
        order = [j for j in np.argsort(-scores, kind='stable') if not excluded[i, j]]
        right = [gallery_labels[j] == labels[i] for j in order]
        for k in ks:
            hits[k].append(any(right[:k]))
        count = sum(right)
        if count:
            first = np.array(right[:count])
            precisions.append(first.mean())
            averages.append((first * np.cumsum(first) / np.arange(1, count + 1)).mean())
    return {**{f'Recall@{k}': np.mean(hits[k]) for k in ks}, 'R-precision': np.mean(precisions), 'MAP@R': np.mean(averages)}


def test_a_gallery_with_pictures_of_the_queries():
    gallery, gallery_labels = drawn(70)
    numbers = np.arange(70)
    numbers[[5, 9]] = numbers[[60, 61]]           # two rows of the gallery show one picture
    query, labels = np.concatenate([gallery[:20], *[drawn(9)[0]]]), np.concatenate([gallery_labels[:20], drawn(9)[1]])
    own = np.concatenate([numbers[:20], 1000 + np.arange(9)])
    figures = measure(['recall', 'r_precision', 'map_at_r'], Retrieval(
        query, labels, gallery, gallery_labels, ks=(1, 5), pictures=own, gallery_pictures=numbers))
    expected = by_loops(query, labels, gallery, gallery_labels, own[:, None] == numbers, (1, 5))
    assert figures == pytest.approx(expected)
    assert figures['Recall@1'] < recall_at_k(query, labels, 1, gallery, gallery_labels)[1]


def test_lines_twice_in_one_list():
    embeddings, labels = drawn(50)
    rows = np.concatenate([np.arange(50), [3, 3, 8]])
    figures = measure(['recall', 'r_precision', 'map_at_r'], Retrieval(
        embeddings[rows], labels[rows], ks=(1, 4), pictures=rows))
    expected = by_loops(embeddings[rows], labels[rows], embeddings[rows], labels[rows], rows[:, None] == rows, (1, 4))
    assert figures == pytest.approx(expected)
    # A list against itself is a list alone.
    both = Retrieval(embeddings, labels, embeddings, labels, pictures=np.arange(50), gallery_pictures=np.arange(50))
    assert measure(['recall'], both)['Recall@1'] == recall_at_k(embeddings, labels)[1]
    np.testing.assert_array_equal(both.answers, [np.sum(labels == one) - 1 for one in labels])


def test_re_ranked_lists_leave_it_out_too():
    embeddings, labels = drawn(40)
    one = Retrieval(embeddings, labels, embeddings, labels, rerank=Rerank(5, 3), pictures=np.arange(40),
                    gallery_pictures=np.arange(40))
    scores = one.rerank.search(embeddings, embeddings, ('a', 'b')).scores(slice(None))
    np.fill_diagonal(scores, -np.inf)
    assert measure(['recall'], one)['Recall@1'] == pytest.approx(np.mean(labels[scores.argmax(1)] == labels))


@pytest.mark.parametrize('centroids', [False, True])
def test_reid_with_pictures_on_both_sides(centroids):
    gallery, persons = drawn(48, 5)
    cameras, shown = np.ones(48, int), np.arange(48)
    query = Images('query', gallery[::3], persons[::3], np.zeros(16, int), shown[::3])
    images = Images('gallery', gallery, persons, cameras, shown)
    figures = reid_figures(query, images, centroids)
    first, average = [], []
    for i in range(16):
        left = np.arange(48) != 3 * i
        if centroids:
            # What is made for each query that the gallery has: the mean without its own picture.
            rows = [np.flatnonzero((persons == persons[j]) & (np.arange(48) != j)) for j in range(0, 48, 3)]
            made = [(persons[one[0]], gallery[one].mean(0)) for one in rows if len(one) and 3 * i not in one]
            ids, vectors = np.array([one[0] for one in made]), np.array([one[1] for one in made])
        else:
            ids, vectors = persons[left], gallery[left]
        right = ids[np.argsort(-(unit(vectors) @ unit(gallery[3 * i:3 * i + 1]).T)[:, 0], kind='stable')] == persons[3 * i]
        if right.any():
            places = np.flatnonzero(right) + 1
            first.append(places[0] == 1)
            average.append(np.mean(np.arange(1, len(places) + 1) / places))
    assert figures['cmc'][1] == pytest.approx(np.mean(first)) and figures['mAP'] == pytest.approx(np.mean(average))
    assert reid_metrics(query.embeddings, query.ids, query.cams, gallery, persons, cameras)['cmc'][1] == 1
    nearest, _ = nearest_of_others(query, images, 5)
    assert not (nearest == np.arange(0, 48, 3)[:, None]).any()


def test_own_rows():
    assert own_rows(None, None) == {}
    own = own_rows(np.array([7, 7, 3, 5]))
    assert {row: rows.tolist() for row, rows in own.items()} == {0: [1], 1: [0]}
    own = own_rows(np.array([7, 4]), np.array([4, 4, 9]))
    assert {row: rows.tolist() for row, rows in own.items()} == {1: [0, 1]}


def test_which_rows_show_the_same_picture(tmp_path):
    for name, colour in (('a', 10), ('b', 20), ('copy_of_a', 10), ('c', 30)):
        Image.new('RGB', (8, 8), (colour,) * 3).save(tmp_path / f'{name}.png')
    os.link(tmp_path / 'a.png', tmp_path / 'hard.png')
    (tmp_path / 'soft.png').symlink_to('b.png')

    def listed(*names):
        return ImageList([str(tmp_path / f'{name}.png') for name in names], None)
    alone, = picture_numbers([listed('a', 'b', 'hard', 'soft', 'copy_of_a', 'a', 'gone')])
    assert alone.tolist() == [0, 1, 0, 1, 0, 0, 2]
    assert of_several_classes(alone, np.array([5, 6, 5, 6, 5, 5, 8])) == 0
    assert of_several_classes(alone, np.array([5, 6, 9, 8, 7, 5, 8])) == 2
    first, second = picture_numbers([listed('a', 'b', 'gone'), listed('c', 'copy_of_a', 'soft', 'gone')])
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [3, 0, 1, 2])
