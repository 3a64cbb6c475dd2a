"""Samplers, which choose the images of each batch, in order. Pure numpy.

Every sampler is built from the labels (N,) of the training list and has

    steps_per_epoch     the same number on every rank
    epoch(e)            (indices int64, mask float32 or None), both (steps_per_epoch, batch_size), of this rank

An epoch is drawn as a whole from (seed, e), identically on every rank, and cut into steps * size batches; step s of rank r is
batch s * size + r. So the batches of a run depend on seed and epoch alone, a resumed run needs no state, the ranks together
make up the epoch, and no triplet or group is ever cut. `last_batch` decides about images that do not fill a last batch on
every rank:

    'drop'  they are left out, different images in each epoch, at random.
    'wrap'  as in the published training: an epoch has ceil(ceil(N / size) / batch_size) steps, which are filled up from the
            beginning of the epoch, so that nothing is left out. If the images of a class are no multiple of the group, the
            remainder makes a group with other images of its class. If the groups are more than an epoch holds, the next epoch
            starts where this one ended: each pass over all groups is complete.
"""
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.common.errors import InputError
from src.common.registry import check_choice, lookup
from src.datasets.image_list import remap_labels

LAST_BATCH = ('drop', 'wrap')
SMALL_CLASSES = ('leave_out', 'repeat', 'mask')
Rows = NDArray[np.int64]
Epoch = Tuple[Rows, Optional[NDArray[np.float32]]]


class Sampler:
    """Base type of the samplers.

    Args:
        labels: (N,) class ids of any value.
        batch_size: rows of a step on one rank, a multiple of unit_size.
        seed: not negative.
        rank, size: this process and the number of processes.
        last_batch: 'drop' or 'wrap'.
        unit_size: rows that stay together: 1, or the size of a triplet or group.

    Attributes:
        instances: images of one class side by side; 1 if no order is promised.
        never_drawn: number of classes that have too few images to be drawn.

    Raises:
        InputError: a batch_size that is no positive multiple of unit_size, or an unknown last_batch.
        ValueError: a rank that is not one of `size`.
    """

    instances = 1
    never_drawn = 0
    steps_per_epoch: int

    def __init__(self, labels: ArrayLike, *, batch_size: int, seed: int, rank: int = 0, size: int = 1,
                 last_batch: str = 'drop', unit_size: int = 1):
        if not 0 <= rank < size:
            raise ValueError(f'rank {rank} is not one of {size} ranks')
        check_choice(LAST_BATCH, last_batch, 'last_batch')
        if batch_size < 1 or batch_size % unit_size:
            raise InputError(f'--batch_size {batch_size}: must be a positive multiple of {unit_size}')
        self.labels = remap_labels(labels)
        self.counts = np.bincount(self.labels)
        self.starts = np.cumsum(self.counts) - self.counts
        self.batch_size, self.seed, self.rank, self.size = batch_size, seed, rank, size
        self.wrap = last_batch == 'wrap'
        self.per_batch = batch_size // unit_size

    def epoch(self, e: int) -> Epoch:
        """Batches of this rank in epoch e."""
        raise NotImplementedError

    def _set_steps(self, units: int, what: str) -> None:
        """Set steps_per_epoch and `total`, the number of units of an epoch on all ranks, for a list of `units` units."""
        if self.wrap:
            self.steps_per_epoch = -(-(-(-len(self.labels) // self.size)) // self.batch_size)
        else:
            self.steps_per_epoch = units // (self.per_batch * self.size)
        if self.steps_per_epoch == 0:
            raise InputError(f'--batch_size {self.batch_size} on {self.size} device(s) needs '
                             f'{self.per_batch * self.size} {what} a step, the list gives {units}; lower --batch_size')
        self.total = self.steps_per_epoch * self.size * self.per_batch

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch))

    def _shuffled_by_class(self, rng: np.random.Generator) -> Rows:
        """All images sorted by class, in random order within a class; class c begins at starts[c]."""
        return np.lexsort((rng.random(len(self.labels)), self.labels))

    def _mine(self, units: NDArray[Any]) -> NDArray[Any]:
        """Rows (total, unit_size) of the whole epoch -> (steps, batch_size) of this rank."""
        return units.reshape(self.steps_per_epoch, self.size, self.batch_size)[:, self.rank]


class ShuffleSampler(Sampler):
    """Sampler of every image once per epoch, in random order."""

    def __init__(self, labels: ArrayLike, **common: Any):
        super().__init__(labels, **common)
        self._set_steps(len(self.labels), 'images')

    def epoch(self, e: int) -> Epoch:
        # np.resize cuts an array that is too long and repeats one that is too short from its beginning.
        return self._mine(np.resize(self._rng(e).permutation(len(self.labels)), self.total)), None


class TripletSampler(Sampler):
    """Triplets (anchor, positive, negative), three consecutive rows; batch_size is a multiple of 3.

    An epoch has about as many rows as the list has images, as the published training counts its epochs: a third of the
    images are anchors, and in three epochs every image that shares its class with another has been one (except for the last
    batches that 'drop' leaves out). The positive is another image of the class and the negative an image of another class,
    both uniformly at random. An image alone in its class is never anchor or positive, but may be a negative.

    Raises InputError if there is only one class or no class with two images.
    """

    def __init__(self, labels: ArrayLike, **common: Any):
        super().__init__(labels, unit_size=3, **common)
        single = int((self.counts == 1).sum())
        if len(self.counts) < 2 or single == len(self.counts):
            raise InputError(f'triplets need two classes, one of them with two images; the list of {len(self.labels)} '
                             f'images has {len(self.counts)} class(es), {single} of one image')
        anchors = int(self.counts[self.counts > 1].sum())
        self.third = -(-anchors // 3) if self.wrap else anchors // 3
        self._set_steps(self.third, 'anchors')

    def epoch(self, e: int) -> Epoch:
        by_class = self._shuffled_by_class(self._rng(e // 3 * 3))
        classes = self.labels[by_class]
        # Anchors, positives and negatives are positions in by_class; class c has starts[c] .. starts[c] + counts[c] - 1.
        anchors = self._rng(e // 3 * 3 + 1).permutation(np.flatnonzero(self.counts[classes] > 1))
        anchors = np.resize(np.roll(anchors, -(e % 3) * self.third), max(self.third, self.total))
        rng = np.random.default_rng((self.seed, e, 3))
        starts, counts = self.starts[classes[anchors]], self.counts[classes[anchors]]
        positives = starts + (anchors - starts + rng.integers(1, counts)) % counts
        negatives = rng.integers(0, len(by_class) - counts)
        negatives += counts * (negatives >= starts)
        return self._mine(by_class[np.stack([anchors, positives, negatives], axis=1)[:self.total]]), None


class GroupSampler(Sampler):
    """P classes x K images: groups of K = `instances` different images of a class, consecutive rows.

    Each epoch cuts every class into new groups. With last_batch 'drop' an image is seen at most once per epoch, and a class
    of n >= K images leaves n mod K of them out, different images in each epoch; with 'wrap' these make a group too. The
    groups of a batch are of distinct classes unless a class has more groups than the epoch has batches over all ranks.
    batch_size is a multiple of K. `small_classes` decides about classes of n < K images:

        'leave_out'  they are not trained on: with K = 4 this drops all classes of 2 or 3 images, so check the counts first.
        'repeat'     each makes one group: its n images, then repeats of them (augmented differently), which count.
                     All positive pairs of a class of one image are repeats.
        'mask'       as 'repeat', with a mask of 0 for the repeats, which must not count in losses and centroids. A
                     class of one image is kept too, without a positive.

    Raises InputError if fewer than two classes make groups: there would be no negative pair.
    """

    def __init__(self, labels: ArrayLike, instances: int = 2, small_classes: str = 'leave_out', **common: Any):
        if instances < 2:
            raise InputError(f'--samples_each_class={instances}: a positive pair needs at least 2 images')
        check_choice(SMALL_CLASSES, small_classes, 'small_classes')
        super().__init__(labels, unit_size=instances, **common)
        self.instances, self.small_classes = instances, small_classes
        small = np.flatnonzero(self.counts < instances)
        self.never_drawn = len(small) if small_classes == 'leave_out' else 0
        small = small[:0] if small_classes == 'leave_out' else small
        whole = np.where(self.counts < instances, 0,
                         (self.counts + (instances - 1) * self.wrap) // instances)
        if np.count_nonzero(whole) + len(small) < 2:
            raise InputError(f'groups of {instances} images need two classes'
                             + (f' of at least {instances} images' if small_classes == 'leave_out' else '')
                             + f'; the list of {len(self.labels)} images has {np.count_nonzero(whole) + len(small)}')
        # The class of each group, and its first position among the images of its class. Small classes come last.
        self.group_classes = np.concatenate([np.repeat(np.arange(len(whole)), whole), small])
        first = np.concatenate([np.arange(whole.sum()) - np.repeat(np.cumsum(whole) - whole, whole),
                                np.zeros(len(small), int)]) * instances
        places = first[:, None] + np.arange(instances)
        counts = self.counts[self.group_classes, None]
        self.group_places = self.starts[self.group_classes, None] + places % counts
        self.group_mask = np.broadcast_to(np.arange(instances) < counts, places.shape).astype(np.float32)
        self._set_steps(len(self.group_classes), f'groups of {instances}')

    def epoch(self, e: int) -> Epoch:
        rows, groups, rng = self._draw(e)
        order = self._deal(self.group_classes[groups], rng).reshape(-1)
        mask = self._mine(self.group_mask[groups[order]]) if self.small_classes == 'mask' else None
        return self._mine(rows[order]), mask

    def _draw(self, e: int) -> Tuple[Rows, Rows, np.random.Generator]:
        """(images (total, K), numbers (total,) of their groups, rng for the rest) of an epoch, in random order."""
        count = len(self.group_classes)
        if not self.wrap or count <= self.total:
            rng = self._rng(e)
            rows = self._shuffled_by_class(rng)[self.group_places]
            groups = np.resize(rng.permutation(count), self.total)
            return rows[groups], groups, rng
        begin = e * self.total
        passes, groups_of_pass = [], []
        for number in range(begin // count, -(-(begin + self.total) // count)):
            rng = self._rng(number)
            by_class = self._shuffled_by_class(rng)
            groups_of_pass.append(rng.permutation(count))
            passes.append(by_class[self.group_places[groups_of_pass[-1]]])
        part = slice(begin % count, begin % count + self.total)
        return np.concatenate(passes)[part], np.concatenate(groups_of_pass)[part], np.random.default_rng((self.seed, e, 3))

    def _deal(self, classes: Rows, rng: np.random.Generator) -> Rows:
        """Classes (G,) of groups, G a multiple of per_batch -> positions in them (batches, per_batch).

        The groups of a class lie side by side and are dealt to the batches in turn, like cards: no batch gets two of them
        unless the class has more groups than there are batches.
        """
        class_order = rng.permutation(len(self.counts))[classes]
        batches = len(classes) // self.per_batch
        dealt = np.argsort(class_order, kind='stable').reshape(self.per_batch, batches)
        return dealt.T[rng.permutation(batches)]


class PairSampler(GroupSampler):
    """P classes x 2 images, for losses that compare two images of a class: GroupSampler with `instances` 2."""

    def __init__(self, labels: ArrayLike, instances: int = 2, **options: Any):
        if instances != 2:
            raise InputError(f'--samples_each_class={instances}: this loss compares 2 images a class')
        super().__init__(labels, instances, **options)


class IdentitySampler(GroupSampler):
    """P identities x K images for centroids (CTL, arXiv 2104.13643): GroupSampler that keeps every identity.

    small_classes is 'mask', or 'repeat' if repeats shall count; a mask is always given.
    """

    def __init__(self, labels: ArrayLike, instances: int = 4, small_classes: str = 'mask', **common: Any):
        super().__init__(labels, instances, small_classes, **common)

    def epoch(self, e: int) -> Epoch:
        rows, mask = super().epoch(e)
        return rows, np.ones(rows.shape, np.float32) if mask is None else mask


class SuperClassSampler(GroupSampler):
    """P classes x K images, the classes of a batch from one super-class: negatives that are alike.

    Groups are cut as by GroupSampler. Each super-class fills as many whole batches as it can; the groups that are left of all
    super-classes fill the remaining batches, super-class by super-class.

    Args:
        super_labels: (N,) ids of any value; a class belongs to the super-class of its first image.

    Raises InputError if super_labels is None, and as GroupSampler.
    """

    def __init__(self, labels: ArrayLike, super_labels: Optional[ArrayLike] = None, instances: int = 4,
                 small_classes: str = 'leave_out', **common: Any):
        super().__init__(labels, instances, small_classes, **common)
        if super_labels is None:
            raise InputError('batches of super-classes need lists that name them: lines of `image_id class_id '
                             'super_class_id path`')
        self.super_of_class = np.asarray(super_labels)[np.unique(self.labels, return_index=True)[1]]

    def _deal(self, classes: Rows, rng: np.random.Generator) -> Rows:
        supers = self.super_of_class[classes]
        batches, rest = [], []
        for one in rng.permutation(np.unique(supers)):
            mine = np.flatnonzero(supers == one)
            full = len(mine) // self.per_batch * self.per_batch
            batches.append(mine[super()._deal(classes[mine[:full]], rng)])
            rest.append(mine[full:])
        dealt = np.concatenate([*batches, np.concatenate(rest).reshape(-1, self.per_batch)])
        return dealt[rng.permutation(len(dealt))]


# name -> (type, its options beside the common arguments)
SAMPLERS: Dict[str, Tuple[Callable[..., Sampler], Tuple[str, ...]]] = {
    'shuffle': (ShuffleSampler, ()),
    'triplet': (TripletSampler, ()),
    'groups': (GroupSampler, ('instances', 'small_classes')),
    'pairs': (PairSampler, ('instances', 'small_classes')),
    'identities': (IdentitySampler, ('instances', 'small_classes')),
    'super_classes': (SuperClassSampler, ('instances', 'small_classes', 'super_labels')),
}


def create_sampler(name: str, labels: ArrayLike, *, instances: Optional[int] = None, small_classes: Optional[str] = None,
                   super_labels: Optional[ArrayLike] = None, **common: Any) -> Sampler:
    """Create a sampler of SAMPLERS.

    Args:
        name: a key of SAMPLERS. labels: see Sampler.
        instances, small_classes, super_labels: passed to samplers that take them; None for the sampler's default.
        common: the other arguments of Sampler.

    Raises:
        InputError: no such sampler, or labels that it cannot sample.
    """
    kind, takes = lookup(SAMPLERS, name, 'sampler')
    given = {'instances': instances, 'small_classes': small_classes, 'super_labels': super_labels}
    return kind(labels, **common, **{option: given[option] for option in takes if given[option] is not None})
