"""The seen-unseen curve against loops over images, classes and gammas."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.accuracy.gzsl import generalised_accuracy, seen_unseen_curve
from src.common.errors import InputError


def naive(scores, labels, ids, seen, gamma):
    """(u, s) at one gamma by loops."""
    own = {}
    for row, label in zip(scores, labels):
        best_seen = max((c for c in range(len(ids)) if seen[c]), key=lambda c: (row[c], -c))
        best_unseen = max((c for c in range(len(ids)) if not seen[c]), key=lambda c: (row[c], -c))
        given_class = best_seen if row[best_seen] - row[best_unseen] > gamma else best_unseen
        own.setdefault(label, []).append(ids[given_class] == label)
    parts = {True: [], False: []}
    for c, label in enumerate(ids):
        if label in own:
            parts[bool(seen[c])].append(sum(own[label]) / len(own[label]))
    return [sum(parts[which]) / len(parts[which]) for which in (False, True)]


def make(seed, images=40, classes=7, unseen=3, levels=None):
    rng = np.random.default_rng(seed)
    ids = rng.permutation(100)[:classes]
    seen = np.ones(classes, bool)
    seen[rng.permutation(classes)[:unseen]] = False
    labels = np.concatenate([ids[seen][:1], ids[~seen][:1], rng.choice(ids, images - 2)])
    scores = rng.normal(size=(images, classes)) + 0.8 * (ids[None] == labels[:, None])
    if levels:
        scores = np.round(scores * levels) / levels
    return scores, labels, ids, seen


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10 ** 6), images=st.integers(2, 30), classes=st.integers(2, 8), levels=st.sampled_from([None, 2]))
def test_curve_equals_loops(seed, images, classes, levels):
    unseen = 1 + seed % (classes - 1)
    scores, labels, ids, seen = make(seed, images, classes, unseen, levels)
    curve = seen_unseen_curve(scores, labels, ids, seen)
    assert curve.gamma[0] == -np.inf and (np.diff(curve.gamma[1:]) > 0).all()
    for gamma in [-1e9, 1e9, 0.0, *curve.gamma[1:], *(curve.gamma[1:] + 1e-9), *(curve.gamma[1:] - 1e-9)]:
        u, s = naive(scores, labels, ids, seen, gamma)
        found = curve.at(gamma)
        assert found['u'] == pytest.approx(u, abs=1e-12) and found['s'] == pytest.approx(s, abs=1e-12)
        assert found['H'] == pytest.approx(2 * u * s / (u + s) if u + s else 0.0, abs=1e-12)
    points = [naive(scores, labels, ids, seen, gamma) for gamma in [-1e9, *curve.gamma[1:]]]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:]))
    assert curve.area == pytest.approx(area, abs=1e-12)
    best = curve.at(curve.best_gamma())['H']
    assert best == pytest.approx(max(2 * u * s / (u + s) if u + s else 0.0 for u, s in points), abs=1e-12)
    # T1: the unseen images among the unseen classes alone.
    rows = np.isin(labels, ids[~seen])
    right = ids[~seen][scores[rows][:, ~seen].argmax(1)] == labels[rows]
    assert curve.unseen_alone == pytest.approx(np.mean([right[labels[rows] == c].mean() for c in np.unique(labels[rows])]))


def test_perfect_and_constant_scores():
    labels = np.array([5, 5, 6, 7])
    ids, seen = np.array([5, 6, 7]), np.array([True, True, False])
    perfect = seen_unseen_curve((labels[:, None] == ids).astype(float), labels, ids, seen)
    assert perfect.at(perfect.best_gamma()) == {'u': 1.0, 's': 1.0, 'H': 1.0} and perfect.area == 1.0
    constant = seen_unseen_curve(np.zeros((4, 3)), labels, ids, seen)
    # All images change side at gamma 0: to the first seen class before it, to the only unseen one from it on.
    assert constant.at(-1e-9) == {'u': 0.0, 's': 0.5, 'H': 0.0}
    assert constant.at(0.0) == {'u': 1.0, 's': 0.0, 'H': 0.0}
    assert constant.area == 0.25 and np.isfinite(constant.best_gamma())


def test_one_unseen_class_and_a_class_without_images():
    ids, seen = np.array([3, 1, 2]), np.array([True, False, True])
    labels = np.array([1, 3, 3])  # none of class 2
    scores = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = generalised_accuracy(seen_unseen_curve(scores, labels, ids, seen), 0.0)
    assert found == {'T1': 1.0, 'u': 1.0, 's': 0.5, 'H': pytest.approx(2 / 3), 'AUSUC': 0.5, 'u_0': 1.0, 's_0': 0.5,
                     'H_0': pytest.approx(2 / 3)}


@pytest.mark.parametrize('change, words', [
    (dict(scores=np.zeros((2, 2))), 'scores'), (dict(scores=np.full((3, 3), np.nan)), 'NaN'),
    (dict(seen=np.ones(3, bool)), 'seen and unseen'), (dict(labels=np.array([1, 9, 3])), '9 is not among'),
    (dict(labels=np.array([3, 3, 2])), 'an unseen class'), (dict(labels=np.array([1, 1, 1])), 'a seen class')])
def test_bad_input(change, words):
    arguments = dict(scores=np.zeros((3, 3)), labels=np.array([1, 3, 3]), class_ids=np.array([3, 1, 2]),
                     seen=np.array([True, False, True]))
    with pytest.raises(InputError, match=words):
        seen_unseen_curve(**{**arguments, **change})
