"""Properties of the samplers over seeds, class distributions and shards."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.common.errors import InputError
from src.datasets.image_list import read_image_list
from src.datasets.samplers import SAMPLERS, create_sampler

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
        return [create_sampler(kind, labels, batch_size=batch_size, seed=seed, rank=rank, size=size, **options)
                for rank in range(size)]
    except InputError as error:
        assert '\n' not in str(error)
        return None


def indices(epoch):
    return epoch[0]


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
    samplers = build('shuffle', labels, batch_size, seed, size)
    if samplers is None:
        assert len(labels) < batch_size * size
        return
    rows = union(samplers, 0).ravel()
    assert len(set(rows)) == len(rows) and rows.min() >= 0 and rows.max() < len(labels)
    assert len(labels) - len(rows) < batch_size * size
    # the ranks of a step together are the batch that one process of the summed size sees
    whole = create_sampler('shuffle', labels, batch_size=batch_size * size, seed=seed)
    np.testing.assert_array_equal(whole.epoch(3)[0], union(samplers, 3).reshape(whole.steps_per_epoch, -1))


@settings(max_examples=120, deadline=None)
@given(label_lists(), st.integers(1, 6), SEEDS, SHARDS)
def test_triplet(labels, triplets, seed, size):
    samplers = build('triplet', labels, 3 * triplets, seed, size)
    ids, counts = np.unique(labels, return_counts=True)
    possible = [i for i, label in enumerate(labels) if counts[ids == label][0] > 1]
    if samplers is None:
        assert len(ids) < 2 or len(possible) // 3 < triplets * size
        return
    rows = union(samplers, 1).reshape(-1, 3)
    for anchor, positive, negative in rows:
        assert labels[anchor] == labels[positive] and anchor != positive and labels[anchor] != labels[negative]
    anchors = rows[:, 0]
    assert len(set(anchors)) == len(anchors) and set(anchors) <= set(possible)
    assert len(possible) // 3 - len(anchors) < triplets * size
    # Three epochs from a multiple of three on: no anchor twice, all of them but for the short last batches.
    cycle = np.concatenate([union(build('triplet', labels, 3 * triplets, seed, size), e).reshape(-1, 3)[:, 0]
                            for e in (3, 4, 5)])
    assert len(set(cycle)) == len(cycle) and len(possible) - len(cycle) < 3 * triplets * size + 3


def test_triplet_partners_are_uniform():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    sampler = create_sampler('triplet', labels, batch_size=6, seed=5)
    rows = np.concatenate([sampler.epoch(e)[0].reshape(-1, 3) for e in range(9000)])
    mine = rows[rows[:, 0] == 1]
    for column, expected in ((1, {0: 1 / 3, 2: 1 / 3, 3: 1 / 3}), (2, {4: 1 / 3, 5: 1 / 3, 6: 1 / 3})):
        values, counts = np.unique(mine[:, column], return_counts=True)
        assert set(values) == set(expected)
        for value, count in zip(values, counts):
            assert abs(count / len(mine) - expected[value]) < 0.04


@settings(max_examples=120, deadline=None)
@given(label_lists(), st.integers(1, 6), st.integers(2, 4), SEEDS, SHARDS)
def test_groups(labels, classes, instances, seed, size):
    samplers = build('groups', labels, classes * instances, seed, size, instances=instances)
    ids, counts = np.unique(labels, return_counts=True)
    groups = (counts // instances).sum()
    if samplers is None:
        assert (counts >= instances).sum() < 2 or groups < classes * size
        return
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
    samplers = build('identities', labels, people * instances, seed, size, instances=instances,
                     small_classes='repeat' if resample else 'mask')
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


@pytest.mark.parametrize('kind, batch_size', [('shuffle', 6), ('triplet', 6), ('groups', 6), ('pairs', 6),
                                              ('identities', 8), ('super_classes', 8)])
@pytest.mark.parametrize('last_batch', ['drop', 'wrap'])
def test_epochs_and_seeds_differ_and_cover_the_set(kind, batch_size, last_batch):
    labels = np.repeat(np.arange(12), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 4, 4])
    def make(seed):
        return create_sampler(kind, labels, batch_size=batch_size, seed=seed, last_batch=last_batch, super_labels=labels % 2,
                              small_classes='repeat' if kind == 'super_classes' else None)

    sampler = make(1)
    epochs = [indices(sampler.epoch(e)) for e in range(20)]
    assert len({epoch.tobytes() for epoch in epochs}) == 20
    assert indices(make(2).epoch(0)).tobytes() != epochs[0].tobytes()
    assert set(np.concatenate(epochs).ravel()) == set(range(len(labels)))


@settings(max_examples=150, deadline=None)
@given(label_lists(), st.sampled_from(['shuffle', 'triplet', 'groups', 'pairs', 'identities']), st.integers(1, 5),
       st.integers(2, 4), SEEDS, SHARDS, st.sampled_from(['leave_out', 'repeat', 'mask']))
def test_wrap_drops_nothing(labels, kind, units, instances, seed, size, small_classes):
    """Published epochs: every image comes, triplets and groups are whole, and the number of steps is the formula's."""
    instances = {'shuffle': 1, 'triplet': 3, 'pairs': 2}.get(kind, instances)
    batch_size = units * instances
    samplers = build(kind, labels, batch_size, seed, size, last_batch='wrap',
                     instances=None if kind in ('shuffle', 'triplet') else instances, small_classes=small_classes)
    ids, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if samplers is None:
        assert len(ids) < 2 or (counts == 1).all() or (small_classes == 'leave_out' and (counts >= instances).sum() < 2)
        return
    assert samplers[0].steps_per_epoch == np.ceil(np.ceil(len(labels) / size) / batch_size)
    own = counts[number]
    trained = np.flatnonzero(own > 1 if kind == 'triplet' else
                             own >= instances if small_classes == 'leave_out' and kind != 'shuffle' else own > 0)
    epochs = [union(samplers, e) for e in range(3)]
    if kind == 'shuffle':
        assert all(set(rows.ravel()) == set(trained) for rows in epochs)
    elif kind == 'triplet':
        triplets = np.concatenate([rows.reshape(-1, 3) for rows in epochs])
        assert set(triplets[:, 0]) == set(trained)
        assert (labels[triplets[:, 0]] == labels[triplets[:, 1]]).all() and (triplets[:, 0] != triplets[:, 1]).all()
        assert (labels[triplets[:, 0]] != labels[triplets[:, 2]]).all()
    else:
        total = epochs[0].size // instances
        groups = sum(-(-count // instances) for count in counts if count >= instances or small_classes != 'leave_out')
        # an epoch shorter than all groups goes on in the next: a window of two passes holds a whole one
        whole = 1 if groups <= total else -(-(2 * groups - 1) // total)
        rows = np.concatenate([union(samplers, e) for e in range(whole)])
        assert set(rows.ravel()) == set(trained)
        for group in rows.reshape(-1, instances):
            assert len(set(labels[group])) == 1
            assert len(set(group)) == min(instances, (labels == labels[group[0]]).sum())


def test_wrap_has_the_published_steps(shared_data):
    """46, 62 and 62 steps on 8 devices, as the published logs show for the half list."""
    images = read_image_list(str(shared_data / 'Stanford_Online_Products' / 'Ebay_train.txt')).select(slice(29437))
    for kind, batch_size, steps in (('shuffle', 80, 46), ('triplet', 60, 62), ('pairs', 60, 62)):
        samplers = build(kind, images.labels, batch_size, 1, 8, last_batch='wrap')
        assert samplers[0].steps_per_epoch == steps
        seen = {'shuffle': 1, 'pairs': 2, 'triplet': 3}[kind]
        rows = np.concatenate([union(samplers, e).reshape(steps * 8, -1) for e in range(seen)])
        anchors = rows[:, ::3] if kind == 'triplet' else rows
        assert len(np.unique(anchors)) == len(images)
        if kind == 'pairs':
            assert (images.labels[rows[:, ::2]] == images.labels[rows[:, 1::2]]).all()


@settings(max_examples=60, deadline=None)
@given(label_lists(), st.integers(1, 5), st.integers(2, 4), SEEDS, SHARDS, st.integers(1, 4),
       st.sampled_from(['leave_out', 'repeat']))
def test_super_classes(labels, classes, instances, seed, size, supers, small_classes):
    super_labels = np.random.default_rng(5).integers(0, supers, 400)[labels + 3] * 11
    samplers = build('super_classes', labels, classes * instances, seed, size, instances=instances,
                     super_labels=super_labels, small_classes=small_classes)
    if samplers is None:
        return
    rows = union(samplers, 1).reshape(-1, classes * instances)
    check = labels[rows].reshape(len(rows), classes, instances)
    assert (check == check[:, :, :1]).all()
    # what is left of the super-classes fills fewer batches than there are super-classes
    mixed = sum(len(set(super_labels[row])) > 1 for row in rows)
    assert mixed < supers
    if small_classes == 'leave_out':
        assert len(np.unique(rows)) == rows.size


@pytest.mark.parametrize('kind', SAMPLERS)
def test_classes_of_4_or_5_and_of_2_to_12(kind):
    """P x K batches of K = 4, as on product data: all classes of 4 and more train, smaller ones where asked to."""
    rng = np.random.default_rng(0)
    for counts in (rng.integers(4, 6, 480), rng.integers(2, 13, 300)):
        labels = np.repeat(np.arange(len(counts)), counts)
        for small_classes in ('leave_out', 'repeat'):
            sampler = create_sampler(kind, labels, batch_size=12 if kind == 'triplet' else 32, seed=1, super_labels=labels % 9,
                                     instances=2 if kind == 'pairs' else 4, small_classes=small_classes)
            seen = np.unique(labels[np.concatenate([sampler.epoch(e)[0] for e in range(4)])])
            needed = counts >= 4 if kind in ('groups', 'identities', 'super_classes') else counts >= 2
            assert set(seen) == set(np.flatnonzero(needed | (small_classes == 'repeat')))


def sampler_of(kind, labels, batch_size, rank=0, size=1, **options):
    return create_sampler(kind, labels, batch_size=batch_size, seed=0, rank=rank, size=size, **options)


@pytest.mark.parametrize('make, words', [
    (lambda: sampler_of('shuffle', [1, 1, 2], 4), '--batch_size'),
    (lambda: sampler_of('shuffle', [1] * 9, 4, 0, 3), '--batch_size'),
    (lambda: sampler_of('triplet', [1, 1, 2, 2], 4), 'multiple of 3'),
    (lambda: sampler_of('triplet', [1, 1, 2, 2], 6), '--batch_size'),
    (lambda: sampler_of('triplet', [1, 2, 3], 3), 'of one image'),
    (lambda: sampler_of('triplet', [1, 1, 1], 3), '1 class'),
    (lambda: sampler_of('groups', [1, 1, 2, 2], 3), 'multiple of 2'),
    (lambda: sampler_of('groups', [1, 1, 2, 3], 2), 'two classes'),
    (lambda: sampler_of('groups', [1, 1, 2, 2], 6), '--batch_size'),
    (lambda: sampler_of('groups', [1, 1, 2, 2], 4, instances=1), '--samples_each_class'),
    (lambda: sampler_of('pairs', [1, 1, 2, 2], 4, instances=4), '--samples_each_class=4'),
    (lambda: sampler_of('super_classes', [1, 1, 2, 2], 4, instances=2), 'super_class_id'),
    (lambda: sampler_of('identities', [1, 1, 1, 1], 4), 'two classes'),
    (lambda: sampler_of('identities', [1, 1, 2, 2], 64), '--batch_size')])
def test_bad_input_is_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
    with pytest.raises(ValueError, match='rank'):
        sampler_of('shuffle', [1, 2], 1, rank=2, size=2)
