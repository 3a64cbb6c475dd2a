"""mAP, CMC, centroids and ranked lists against loops written from the definition."""
import numpy as np
import pytest

from src.accuracy import Images, make_centroids, nearest_of_others, reid_metrics
from src.accuracy import reid as reid_module
from src.common.errors import InputError


def unit(a):
    length = np.sqrt(sum(float(x) ** 2 for x in a))
    return [float(x) / length if length else 0.0 for x in a]


def naive_list(q, q_id, q_cam, gallery, ids, cams):
    """Gallery indices by rising distance, own person with own camera among its cameras left out."""
    left = [j for j in range(len(gallery)) if not (ids[j] == q_id and q_cam in cams[j])]
    return sorted(left, key=lambda j: sum((x - y) ** 2 for x, y in zip(unit(q), unit(gallery[j]))))


def naive_metrics(query, q_ids, q_cams, gallery, ids, cams):
    precisions, penalties, firsts, skipped = [], [], [], 0
    for q, q_id, q_cam in zip(query, q_ids, q_cams):
        right, precision, first = 0, [], None
        for place, j in enumerate(naive_list(q, q_id, q_cam, gallery, ids, cams), 1):
            if ids[j] == q_id:
                right += 1
                precision.append(right / place)
                first, last = first or place, place
        if right:
            precisions.append(sum(precision) / right)
            penalties.append(right / last)
            firsts.append(first)
        else:
            skipped += 1
    return {'mAP': np.mean(precisions), 'mINP': np.mean(penalties), 'skipped': skipped,
            'cmc': {k: np.mean([first <= k for first in firsts]) for k in (1, 5, 10, 20, 50)}}


def naive_centroids(gallery, ids, cams, q_ids, q_cams):
    made = []
    for person in sorted(set(ids)):
        seen = []
        for cam in sorted({c for p, c in zip(q_ids, q_cams) if p == person}):
            images = [j for j in range(len(ids)) if ids[j] == person and cams[j] != cam]
            used = tuple(sorted({cams[j] for j in images}))
            if images and used not in seen:
                seen.append(used)
                made.append(([sum(float(gallery[j][d]) for j in images) / len(images)
                              for d in range(len(gallery[0]))], person, used))
    return [m[0] for m in made], [m[1] for m in made], [m[2] for m in made]


def records(query, q_ids, q_cams, gallery, ids, cams):
    return Images('query', query, q_ids, q_cams), Images('gallery', gallery, ids, cams)


def made_centroids(queries, images):
    """Centroids, their ids, and the cameras that each is made from."""
    made = make_centroids(queries, images)
    return made.embeddings, made.ids, [tuple(np.unique(images.cams[rows])) for rows in made.members]


def random_gallery(seed, people=14, width=5, cameras=4):
    """1 to 7 gallery images a person over few cameras; queries also of people without gallery images."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(people) * 3, rng.integers(1, 8, people))
    ids = rng.permutation(ids)
    cams = rng.integers(0, cameras, len(ids)) * 2 + 1
    q_ids = rng.integers(-1, people + 2, 30) * 3
    q_cams = rng.integers(0, cameras + 1, 30) * 2 + 1
    centres = rng.standard_normal((people + 3, width))
    gallery = centres[ids // 3] + rng.standard_normal((len(ids), width))
    query = centres[q_ids // 3] + rng.standard_normal((30, width))
    return query, q_ids, q_cams, gallery, ids, cams


def check(metrics, expected):
    assert metrics['mAP'] == pytest.approx(expected['mAP'], abs=1e-9)
    assert metrics['mINP'] == pytest.approx(expected['mINP'], abs=1e-9)
    assert metrics['cmc'] == pytest.approx(expected['cmc'])
    assert metrics['skipped'] == expected['skipped']


@pytest.fixture(params=[False, True], ids=['one block', 'small blocks'])
def blocks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(reid_module, 'block_rows', lambda *_: 7)


@pytest.mark.parametrize('seed', range(8))
def test_instances_equal_loops(seed, blocks):
    query, q_ids, q_cams, gallery, ids, cams = random_gallery(seed)
    expected = naive_metrics(query, q_ids, q_cams, gallery, ids, [(c,) for c in cams])
    assert expected['skipped'] > 0 and expected['mAP'] < 1
    check(reid_metrics(query, q_ids, q_cams, gallery, ids, cams), expected)


@pytest.mark.parametrize('seed', range(8))
def test_centroids_equal_loops(seed, blocks):
    query, q_ids, q_cams, gallery, ids, cams = random_gallery(seed)
    centroids, centroid_ids, centroid_cams = naive_centroids(gallery, ids.tolist(), cams.tolist(), q_ids.tolist(),
                                                             q_cams.tolist())
    made = made_centroids(*records(query, q_ids, q_cams, gallery, ids, cams))
    np.testing.assert_allclose(made[0], centroids, rtol=1e-5, atol=1e-6)
    assert made[1].tolist() == centroid_ids and made[2] == centroid_cams
    expected = naive_metrics(query, q_ids, q_cams, centroids, centroid_ids, centroid_cams)
    check(reid_metrics(query, q_ids, q_cams, gallery, ids, cams, centroids=True), expected)


@pytest.mark.parametrize('seed', range(4))
def test_ties_keep_the_gallery_order(seed, blocks):
    # +-1 in four dimensions and zero vectors: exact in float32, most distances tied
    rng = np.random.default_rng(seed)
    _, q_ids, q_cams, _, ids, cams = random_gallery(seed)
    query = rng.choice([-1.0, 1.0], (len(q_ids), 4)) * rng.choice([0, 1, 1], (len(q_ids), 1))
    gallery = rng.choice([-1.0, 1.0], (len(ids), 4)) * rng.choice([0, 1, 1], (len(ids), 1))
    with np.errstate(all='raise'):
        metrics = reid_metrics(query, q_ids, q_cams, gallery, ids, cams)
    check(metrics, naive_metrics(query, q_ids, q_cams, gallery, ids, [(c,) for c in cams]))


def test_equal_images_tie_exactly():
    # random values: a matrix product alone rounds equal rows differently
    row = np.random.default_rng(0).standard_normal(131).astype(np.float32)
    metrics = reid_metrics(np.tile(row, (9, 1)), np.full(9, 100), np.zeros(9), np.tile(row, (101, 1)),
                           np.arange(101), np.ones(101))
    assert metrics['mAP'] == pytest.approx(1 / 101) and metrics['cmc'][50] == 0


def test_by_hand():
    # query of person 1 from camera 0; nearest is its own camera's image (removed), then a wrong one, then two right
    gallery = [[1, 0.0], [1, 0.1], [1, 0.2], [1, 0.3]]
    arguments = ([[1, 0]], [1], [0], gallery, [1, 2, 1, 1], [0, 0, 1, 2])
    metrics = reid_metrics(*arguments)
    assert metrics['mAP'] == pytest.approx((1 / 2 + 2 / 3) / 2) and metrics['mINP'] == pytest.approx(2 / 3)
    assert metrics['cmc'] == {1: 0.0, 5: 1.0, 10: 1.0, 20: 1.0, 50: 1.0} and metrics['skipped'] == 0
    # person 2 is never queried: the one centroid, of cameras 1 and 2 of person 1, stands alone
    centroids, ids, cams = made_centroids(*records(*arguments))
    np.testing.assert_allclose(centroids, [[1, 0.25]])
    assert ids.tolist() == [1] and cams == [(1, 2)]
    assert reid_metrics(*arguments, centroids=True)['mAP'] == 1.0


def test_one_camera_set_is_one_centroid():
    gallery, ids, cams = np.arange(6.0).reshape(3, 2), ['a'] * 3, [1, 2, 2]
    # cameras 7 and 8 hold no gallery image: both leave cameras 1 and 2
    made = made_centroids(*records(np.ones((4, 2)), ['a'] * 4, [7, 8, 1, 2], gallery, ids, cams))
    assert made[2] == [(2,), (1,), (1, 2)]


@pytest.mark.parametrize('n', [1, 3, 10])
@pytest.mark.parametrize('seed', range(3))
def test_ranked_list_equals_loops(n, seed, blocks):
    query, q_ids, q_cams, gallery, ids, cams = random_gallery(seed)
    indices, right = nearest_of_others(*records(query, q_ids, q_cams, gallery, ids, cams), n)
    for i in range(len(query)):
        expected = naive_list(query[i], q_ids[i], q_cams[i], gallery, ids, [(c,) for c in cams])[:n]
        assert indices[i].tolist() == expected
        assert right[i].tolist() == [ids[j] == q_ids[i] for j in expected]


def test_ranked_list_pads_what_is_removed():
    indices, right = nearest_of_others(*records([[1, 0]], [-1], [0], np.eye(2), [-1, -1], [0, 1]), 2)
    assert indices.tolist() == [[1, -1]] and right.tolist() == [[True, False]]


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_dtypes(dtype):
    query, q_ids, q_cams, gallery, ids, cams = random_gallery(3)
    query, gallery = query.astype(dtype), gallery.astype(dtype)
    check(reid_metrics(query, q_ids, q_cams, gallery, ids, cams),
          naive_metrics(query, q_ids, q_cams, gallery, ids, [(c,) for c in cams]))


@pytest.mark.parametrize('arguments, word', [
    (dict(query=np.ones((2, 3))), 'width'), (dict(query_ids=[1]), 'query_ids'),
    (dict(gallery_cams=[1]), 'gallery_cams'), (dict(gallery=np.full((2, 2), np.nan)), 'gallery'),
    (dict(query=np.full((2, 2), np.inf)), 'query'), (dict(query_ids=[8, 9]), 'no query'),
    (dict(gallery_cams=[0, 0]), 'no query')])
@pytest.mark.parametrize('centroids', [False, True])
def test_bad_input(arguments, word, centroids):
    good = dict(query=np.ones((2, 2)), query_ids=[1, 2], query_cams=[0, 0], gallery=np.ones((2, 2)),
                gallery_ids=[1, 2], gallery_cams=[1, 1])
    with pytest.raises(InputError, match=word) as caught:
        reid_metrics(**{**good, **arguments}, centroids=centroids)
    assert '\n' not in str(caught.value)
