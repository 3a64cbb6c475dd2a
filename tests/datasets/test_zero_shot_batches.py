"""Training batches: every image at most once an epoch, all devices in step, repeatable, entered anywhere."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.datasets.zero_shot_batches import Epoch, image_batches, prototype_batches, steps_per_epoch
from src.datasets.zero_shot_data import EvalPart, ZeroShotData


def columns(count):
    """Feature and semantics that both tell which image they belong to."""
    number = np.arange(count, dtype=np.float32)
    return np.stack([number, -number], 1), (np.stack([number, number + 0.5, 2 * number], 1), number[:, None])


def epoch(count, batch_size, seed=0, number=0, rank=0, size=1, skip=0):
    """The images of each step, (steps, batch_size), having checked that the columns belong together."""
    features, semantics = columns(count)
    part = EvalPart(features[:0], np.arange(0), np.arange(0), ())
    loaded = ZeroShotData(features, semantics, np.arange(count), part)
    steps = []
    for attribute, word, feature in image_batches(loaded, batch_size, Epoch(seed, number, rank, size, skip)):
        assert attribute.shape == (batch_size, 3) and word.shape == (batch_size, 1) and feature.shape == (batch_size, 2)
        assert attribute.dtype == word.dtype == feature.dtype == np.float32
        images = feature[:, 0].astype(int)
        np.testing.assert_array_equal(feature, features[images])
        np.testing.assert_array_equal(attribute, semantics[0][images])
        np.testing.assert_array_equal(word, semantics[1][images])
        steps.append(images)
    return np.array(steps)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 90), batch_size=st.integers(1, 12), size=st.integers(1, 5), seed=st.integers(0, 9))
def test_devices_share_an_epoch(count, batch_size, size, seed):
    if count < batch_size * size:
        with pytest.raises(InputError, match='--batch_size'):
            epoch(count, batch_size, size=size)
        return
    shares = [epoch(count, batch_size, seed, 3, rank, size) for rank in range(size)]
    assert {len(share) for share in shares} == {steps_per_epoch(count, batch_size, size)}
    images = np.concatenate([share.ravel() for share in shares])
    assert len(np.unique(images)) == len(images)
    # Only the last short group of batches is missing.
    assert 0 <= count - len(images) < batch_size * size
    # Together the devices see, step by step, what one device with their joint batch sees.
    np.testing.assert_array_equal(np.concatenate(shares, 1), epoch(count, batch_size * size, seed, 3))


def test_epochs_and_seeds_differ_and_repeat():
    first = epoch(50, 5)
    np.testing.assert_array_equal(first, epoch(50, 5))
    assert sorted(first.ravel()) == list(range(50))
    for other in (epoch(50, 5, seed=1), epoch(50, 5, number=1), np.arange(50).reshape(10, 5)):
        assert not np.array_equal(first, other)
    assert not np.array_equal(epoch(50, 5, seed=1, number=0), epoch(50, 5, seed=0, number=1))


def test_every_image_is_dropped_sometimes():
    seen = [set(epoch(11, 5, number=number).ravel()) for number in range(60)]
    assert all(len(images) == 10 for images in seen)
    assert set.union(*(set(range(11)) - images for images in seen)) == set(range(11))


@pytest.mark.parametrize('rank, size', [(0, 1), (1, 3)])
def test_skip_enters_the_same_epoch(rank, size):
    whole = epoch(50, 4, rank=rank, size=size)
    for skip in range(len(whole)):
        np.testing.assert_array_equal(epoch(50, 4, rank=rank, size=size, skip=skip), whole[skip:])


@pytest.mark.parametrize('count, batch_size, size, steps', [(8855, 100, 1, 88), (8855, 100, 8, 11), (64, 64, 1, 1),
                                                            (127, 64, 1, 1), (24295, 64, 1, 379)])
def test_steps_per_epoch(count, batch_size, size, steps):
    assert steps_per_epoch(count, batch_size, size) == steps


@pytest.mark.parametrize('batch_size, size', [(51, 1), (26, 2), (0, 1), (-3, 1)])
def test_impossible_batch(batch_size, size):
    with pytest.raises(InputError, match=f'--batch_size={batch_size}'):
        steps_per_epoch(50, batch_size, size)


@pytest.mark.parametrize('options', [dict(rank=2, size=2), dict(rank=-1), dict(skip=10), dict(skip=-1)])
def test_out_of_range(options):
    with pytest.raises(ValueError, match='rank'):
        epoch(50, 5, **options)


def classes(images=40, count=5):
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(count), rng.integers(0, count, images - count)]) * 7
    semantics = rng.uniform(1, 100, (count, 9)).astype(np.float32)
    features = rng.gamma(1.0, 2.0, (images, 11)).astype(np.float32)
    return ZeroShotData(features, (semantics[labels // 7],), labels,
                        EvalPart(features[:0], labels[:0], np.arange(0), (semantics[:0],)))


@pytest.mark.parametrize('rank, size', [(0, 1), (0, 2), (1, 2)])
def test_prototype_batches(rank, size):
    loaded = classes()
    batches = list(prototype_batches(loaded, 6, Epoch(3, 2, rank, size), (0.25, 0.5), 16))
    assert len(batches) == 40 // (6 * size)
    kept = []
    for semantics, keep, features, labels in batches:
        ratio = semantics / loaded.seen_prototypes[0]
        assert np.isclose(ratio, 0).sum() + np.isclose(ratio, 4 / 3).sum() == ratio.size
        assert keep.shape == (5, 16) and set(np.unique(keep)) <= {0.0, 2.0}
        kept.append(keep)
        for feature, label in zip(features, labels):
            image = int(np.flatnonzero((loaded.train_features == feature).all(1))[0])
            assert loaded.seen_class_ids[label] == loaded.train_labels[image]
    assert not np.array_equal(kept[0], kept[1])
    assert 0.3 < np.mean([keep > 0 for keep in kept]) < 0.7


def test_without_dropout_the_semantics_are_whole():
    loaded = classes()
    for semantics, features, labels in prototype_batches(loaded, 6, Epoch(3, 2)):
        np.testing.assert_array_equal(semantics, loaded.seen_prototypes[0])


def test_an_epoch_with_dropout_entered_half_way_goes_on_as_it_would_have():
    loaded = classes()
    whole = list(prototype_batches(loaded, 6, Epoch(3, 2), (0.2, 0.5), 16))
    rest = list(prototype_batches(loaded, 6, Epoch(3, 2, skip=4), (0.2, 0.5), 16))
    assert len(rest) == len(whole) - 4
    for one, other in zip(whole[4:], rest):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
