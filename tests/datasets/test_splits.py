"""Splits against naive draws of the same images."""
import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.splits import held_out, held_out_of_each_class


def random_labels(rng):
    counts = rng.integers(1, 7, rng.integers(2, 30))
    return rng.permutation(np.repeat(np.arange(len(counts)) * 5 - 7, counts))


@pytest.mark.parametrize('seed', range(20))
def test_the_draw_does_not_change(seed):
    """A stored recipe names its validation set by seed and fraction alone."""
    rng = np.random.default_rng(seed)
    labels, fraction = random_labels(rng), rng.uniform(0.05, 0.6)
    classes = np.unique(labels)
    size = int(round(fraction * len(classes)))
    metric = np.random.default_rng(seed).permutation(classes)[:max(1, size)]
    np.testing.assert_array_equal(held_out(labels, fraction, seed), np.isin(labels, metric))
    if size:
        zero_shot = classes[np.sort(np.random.default_rng(seed).permutation(len(classes))[:size])]
        np.testing.assert_array_equal(held_out(labels, fraction, seed), np.isin(labels, zero_shot))
    size = int(round(fraction * len(labels)))
    if size:
        expected = np.zeros(len(labels), bool)
        expected[np.random.default_rng(seed).permutation(len(labels))[:size]] = True
        np.testing.assert_array_equal(held_out(labels, fraction, seed, by='images'), expected)


def test_at_least_one_is_held_out():
    assert held_out([1, 1, 2, 2, 3], 0.01, 0).sum() in (1, 2)
    assert held_out([1, 1, 2, 2, 3], 0.01, 0, by='images').sum() == 1


@pytest.mark.parametrize('by', ['classes', 'images'])
@pytest.mark.parametrize('fraction', [0.0, 1.0, -1, 2, 0.9])
def test_both_parts_must_have_something(by, fraction):
    with pytest.raises(InputError, match='--validation_fraction') as caught:
        held_out([4, 4, 9][:2 if by == 'images' else 3], fraction, 0, by=by)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('seed', [0, 7, (7, 1)])
@pytest.mark.parametrize('least', [0, 1])
def test_a_share_of_each_class(seed, least):
    labels = random_labels(np.random.default_rng(3))
    held = held_out_of_each_class(labels, 0.3, seed, least)
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    for label in set(labels.tolist()):
        images = [i for i in order if labels[i] == label]
        count = min(max(round(0.3 * len(images)), least), len(images) - 1)
        assert [i for i in images if held[i]] == images[:count]


def test_a_class_of_one_image_is_not_drawn():
    assert not held_out_of_each_class(np.arange(5), 0.9, 0, least=1).any()
