"""Properties of the samplers over seeds, class distributions and shards."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datasets.samplers import GroupSampler, IdentitySampler, ShuffleSampler, TripletSampler
from src.errors import InputError

SHARDS = st.sampled_from([1, 2, 3, 8])
SEEDS = st.integers(0, 2 ** 31)


@st.composite
def label_lists(draw):
    """Labels in shuffled order with gaps between ids; classes of one image are frequent."""
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=40))
    labels = np.repeat(np.arange(len(counts)) * 7 - 3, counts)
    return np.random.default_rng(draw(SEEDS)).permutation(labels)


def build(kind, labels, batch_size, seed, size, **options):
    """The samplers of all ranks, or None where the data is too small, which must be said."""
    try:
        return [kind(labels, batch_size, seed, rank, size, **options) for rank in range(size)]
    except InputError as error:
        assert '\n' not in str(error)
        return None


def indices(epoch):
    return epoch[0] if isinstance(epoch, tuple) else epoch


def union(samplers, e):
    """Rows of all ranks, step by step."""
    parts = [indices(sampler.epoch(e)) for sampler in samplers]
    for part, sampler in zip(parts, samplers):
        assert part.shape == (samplers[0].steps_per_epoch, sampler.batch_size)
        np.testing.assert_array_equal(part, indices(sampler.epoch(e)))
    return np.stack(parts, axis=1)


@settings(max_examples=80, deadline=None)
@given(label_lists(), st.integers(1, 12), SEEDS, SHARDS)
def test_shuffle(labels, batch_size, seed, size):
    samplers = build(ShuffleSampler, labels, batch_size, seed, size)
    if samplers is None:
        assert len(labels) < batch_size * size
        return
    rows = union(samplers, 0).ravel()
    assert len(set(rows)) == len(rows) and rows.min() >= 0 and rows.max() < len(labels)
    assert len(labels) - len(rows) < batch_size * size
    # the ranks of a step together are the batch that one process of the summed size sees
    whole = ShuffleSampler(labels, batch_size * size, seed)
    np.testing.assert_array_equal(whole.epoch(3), union(samplers, 3).reshape(whole.steps_per_epoch, -1))


@settings(max_examples=120, deadline=None)
@given(label_lists(), st.integers(1, 6), SEEDS, SHARDS)
def test_triplet(labels, triplets, seed, size):
    samplers = build(TripletSampler, labels, 3 * triplets, seed, size)
    ids, counts = np.unique(labels, return_counts=True)
    possible = [i for i, label in enumerate(labels) if counts[ids == label][0] > 1]
    if samplers is None:
        assert len(ids) < 2 or len(possible) // 3 < triplets * size
        return
    assert samplers[0].single_image_classes == (counts == 1).sum()
    rows = union(samplers, 1).reshape(-1, 3)
    for anchor, positive, negative in rows:
        assert labels[anchor] == labels[positive] and anchor != positive and labels[anchor] != labels[negative]
    anchors = rows[:, 0]
    assert len(set(anchors)) == len(anchors) and set(anchors) <= set(possible)
    assert len(possible) // 3 - len(anchors) < triplets * size
    # Three epochs from a multiple of three on: no anchor twice, all of them but for the short last batches.
    cycle = np.concatenate([union(build(TripletSampler, labels, 3 * triplets, seed, size), e).reshape(-1, 3)[:, 0]
                            for e in (3, 4, 5)])
    assert len(set(cycle)) == len(cycle) and len(possible) - len(cycle) < 3 * triplets * size + 3


def test_triplet_partners_are_uniform():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    rows = np.concatenate([TripletSampler(labels, 6, 5).epoch(e).reshape(-1, 3) for e in range(9000)])
    mine = rows[rows[:, 0] == 1]
    for column, expected in ((1, {0: 1 / 3, 2: 1 / 3, 3: 1 / 3}), (2, {4: 1 / 3, 5: 1 / 3, 6: 1 / 3})):
        values, counts = np.unique(mine[:, column], return_counts=True)
        assert set(values) == set(expected)
        for value, count in zip(values, counts):
            assert abs(count / len(mine) - expected[value]) < 0.04


@settings(max_examples=120, deadline=None)
@given(label_lists(), st.integers(1, 6), st.integers(2, 4), SEEDS, SHARDS)
def test_groups(labels, classes, instances, seed, size):
    samplers = build(GroupSampler, labels, classes * instances, seed, size, instances=instances)
    ids, counts = np.unique(labels, return_counts=True)
    groups = (counts // instances).sum()
    if samplers is None:
        assert (counts >= instances).sum() < 2 or groups < classes * size
        return
    assert samplers[0].small_classes == (counts < instances).sum()
    assert samplers[0].steps_per_epoch == groups // (classes * size)
    rows = union(samplers, 2)
    assert len(np.unique(rows)) == rows.size
    check_groups(labels, rows, instances, counts // instances)


def check_groups(labels, rows, instances, groups_of_class):
    """Groups are of one class; batches of distinct classes wherever no class has more groups than there are batches."""
    grouped = labels[rows].reshape(rows.shape[0] * rows.shape[1], -1, instances)
    assert (grouped == grouped[:, :, :1]).all()
    if groups_of_class.max() <= len(grouped):
        for batch in grouped[:, :, 0]:
            assert len(set(batch)) == len(batch)


@settings(max_examples=120, deadline=None)
@given(label_lists(), st.integers(1, 6), st.integers(2, 5), SEEDS, SHARDS, st.booleans())
def test_identities(labels, people, instances, seed, size, resample):
    samplers = build(IdentitySampler, labels, people * instances, seed, size, instances=instances, resample=resample)
    counts = np.unique(labels, return_counts=True)[1]
    groups = np.maximum(counts // instances, 1)
    if samplers is None:
        assert len(counts) < 2 or groups.sum() < people * size
        return
    rows = union(samplers, 4)
    check_groups(labels, rows, instances, groups)
    mask = np.stack([sampler.epoch(4)[1] for sampler in samplers], axis=1)
    assert mask.shape == rows.shape and mask.dtype == np.float32
    for group, shown in zip(rows.reshape(-1, instances), mask.reshape(-1, instances)):
        count = (labels == labels[group[0]]).sum()
        assert len(set(group)) == min(count, instances)
        if resample:
            assert shown.all()
        else:
            assert shown.sum() == min(count, instances) and len(set(group[shown > 0])) == shown.sum()
    if not resample:
        seen = rows[mask > 0]
        assert len(set(seen)) == len(seen)


@pytest.mark.parametrize('kind, batch_size', [(ShuffleSampler, 6), (TripletSampler, 6), (GroupSampler, 6),
                                              (IdentitySampler, 8)])
def test_epochs_and_seeds_differ_and_cover_the_set(kind, batch_size):
    labels = np.repeat(np.arange(12), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 4, 4])
    sampler = kind(labels, batch_size, 1)
    epochs = [indices(sampler.epoch(e)) for e in range(20)]
    assert len({epoch.tobytes() for epoch in epochs}) == 20
    assert indices(kind(labels, batch_size, 2).epoch(0)).tobytes() != epochs[0].tobytes()
    assert set(np.concatenate(epochs).ravel()) == set(range(len(labels)))


@pytest.mark.parametrize('make, words', [
    (lambda: ShuffleSampler([1, 1, 2], 4, 0), '--batch_size'),
    (lambda: ShuffleSampler([1] * 9, 4, 0, 0, 3), '--batch_size'),
    (lambda: TripletSampler([1, 1, 2, 2], 4, 0), 'multiple of 3'),
    (lambda: TripletSampler([1, 1, 2, 2], 6, 0), '--batch_size'),
    (lambda: TripletSampler([1, 2, 3], 3, 0), 'of one image'),
    (lambda: TripletSampler([1, 1, 1], 3, 0), '1 class'),
    (lambda: GroupSampler([1, 1, 2, 2], 3, 0), 'multiple of 2'),
    (lambda: GroupSampler([1, 1, 2, 3], 2, 0), 'two classes'),
    (lambda: GroupSampler([1, 1, 2, 2], 6, 0), '--batch_size'),
    (lambda: IdentitySampler([1, 1, 1, 1], 4, 0), 'two identities'),
    (lambda: IdentitySampler([1, 1, 2, 2], 64, 0), '--batch_size')])
def test_bad_input_is_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
    with pytest.raises(ValueError, match='rank'):
        ShuffleSampler([1, 2], 1, 0, rank=2, size=2)
