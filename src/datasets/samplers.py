"""Which images make each batch, in which order. Pure numpy.

Every sampler is built from the labels (N,) of the training list and has

    steps_per_epoch     the same number on every rank
    epoch(e)            indices int64 (steps_per_epoch, batch_size) for this rank in epoch e

An epoch is drawn as a whole from (seed, e), identically on every rank, and cut into steps * size batches; step s of
rank r is batch s * size + r. So what a run sees depends on nothing but seed and epoch, a resumed run needs no state,
the ranks together make up the epoch, and no triplet or group is ever cut. What does not fill a last batch on every
rank is left out: chance decides what, anew each epoch.
"""
import numpy as np

from src.errors import InputError


class _Sampler:
    """What the samplers share. units: what an epoch holds of images, triplets or groups; unit_size: rows of one."""

    def __init__(self, labels, batch_size, seed, rank, size, unit_size):
        if not 0 <= rank < size:
            raise ValueError(f'rank {rank} is not one of {size} ranks')
        if batch_size < 1 or batch_size % unit_size:
            raise InputError(f'--batch_size {batch_size}: must be a positive multiple of {unit_size}')
        # the inverse of np.unique: classes become 0..C-1, whatever their ids
        self.labels = np.unique(np.asarray(labels).reshape(-1), return_inverse=True)[1].reshape(-1)
        self.counts = np.bincount(self.labels)
        self.starts = np.cumsum(self.counts) - self.counts
        self.batch_size, self.seed, self.rank, self.size = batch_size, seed, rank, size
        self.per_batch = batch_size // unit_size

    def _set_steps(self, units, what):
        self.steps_per_epoch = units // (self.per_batch * self.size)
        if self.steps_per_epoch == 0:
            raise InputError(f'--batch_size {self.batch_size} on {self.size} device(s) needs '
                             f'{self.per_batch * self.size} {what} a step, the list gives {units}; lower --batch_size')

    def _rng(self, epoch):
        return np.random.default_rng((self.seed, epoch))

    def _shuffled_by_class(self, rng):
        """All images sorted by class, in random order within a class; class c begins at starts[c]."""
        return np.lexsort((rng.random(len(self.labels)), self.labels))

    def _mine(self, units):
        """Rows (>= steps * size * per_batch, unit_size) of the whole epoch -> (steps, batch_size) of this rank."""
        units = units[:self.steps_per_epoch * self.size * self.per_batch]
        return units.reshape(self.steps_per_epoch, self.size, self.batch_size)[:, self.rank]


class ShuffleSampler(_Sampler):
    """Every image once an epoch in random order; the last short batch is dropped."""

    def __init__(self, labels, batch_size, seed, rank=0, size=1):
        super().__init__(labels, batch_size, seed, rank, size, 1)
        self._set_steps(len(self.labels), 'images')

    def epoch(self, e):
        return self._mine(self._rng(e).permutation(len(self.labels)))


class TripletSampler(_Sampler):
    """Triplets (anchor, positive, negative), three consecutive rows; batch_size is a multiple of 3.

    An epoch has about as many rows as the list has images, as the published training counts its epochs: a third of the
    images are anchors, and in three epochs every image that shares its class with another has been one (bar the short
    last batches). The positive is another image of the class and the negative an image of another class, both uniformly
    at random. An image alone in its class is never anchor nor positive, but may be a negative;
    `single_image_classes` counts such classes.

    Raises InputError when there is no class with two images or only one class.
    """

    def __init__(self, labels, batch_size, seed, rank=0, size=1):
        super().__init__(labels, batch_size, seed, rank, size, 3)
        self.single_image_classes = int((self.counts == 1).sum())
        if len(self.counts) < 2 or self.single_image_classes == len(self.counts):
            raise InputError(f'triplets need two classes, one of them with two images; the list of {len(self.labels)} '
                             f'images has {len(self.counts)} class(es), {self.single_image_classes} of one image')
        self.third = int(self.counts[self.counts > 1].sum()) // 3
        self._set_steps(self.third, 'anchors')

    def epoch(self, e):
        by_class = self._shuffled_by_class(self._rng(e // 3 * 3))
        classes = self.labels[by_class]
        # places are positions in by_class, where a class is the run starts[c] .. starts[c] + counts[c] - 1
        anchors = self._rng(e // 3 * 3 + 1).permutation(np.flatnonzero(self.counts[classes] > 1))
        anchors = anchors[e % 3 * self.third:][:self.third]
        rng = np.random.default_rng((self.seed, e, 3))
        starts, counts = self.starts[classes[anchors]], self.counts[classes[anchors]]
        positives = starts + (anchors - starts + rng.integers(1, counts)) % counts
        negatives = rng.integers(0, len(by_class) - counts)
        negatives += counts * (negatives >= starts)
        return self._mine(by_class[np.stack([anchors, positives, negatives], axis=1)])


class _GroupedSampler(_Sampler):
    """Cuts every class into groups of `instances` images and deals the groups to batches."""

    def __init__(self, labels, batch_size, seed, rank, size, instances):
        if instances < 2:
            raise InputError(f'--samples_each_class={instances}: a positive pair needs 2 images')
        super().__init__(labels, batch_size, seed, rank, size, instances)
        self.instances = instances

    def _whole_groups(self, by_class):
        """(G, K) groups of different images; the n mod K images at the end of a class are left out."""
        classes = self.labels[by_class]
        place = np.arange(len(by_class)) - self.starts[classes]
        return by_class[place < self.counts[classes] // self.instances * self.instances].reshape(-1, self.instances)

    def _deal(self, classes, rng):
        """Classes (G,) of the groups -> the order of the groups in the epoch, batch by batch.

        The groups of a class lie side by side and are dealt to the batches in turn, like cards: as long as a class has
        no more groups than the epoch has batches, no batch gets two of them.
        """
        batches = self.steps_per_epoch * self.size
        kept = rng.permutation(len(classes))[:batches * self.per_batch]
        class_order = rng.permutation(len(self.counts))[classes[kept]]
        dealt = kept[np.argsort(class_order, kind='stable')].reshape(self.per_batch, batches)
        return dealt.T[rng.permutation(batches)].reshape(-1)


class GroupSampler(_GroupedSampler):
    """P classes x K images: groups of K = `instances` different images of a class, consecutive rows.

    Each epoch cuts every class anew into whole groups: an image is seen at most once, and a class of n images
    leaves n mod K of them out, others in the next epoch. Classes of fewer than K images never make a group
    (`small_classes` counts them). The groups of a batch are of distinct classes unless a class has more groups than
    the epoch has batches over all ranks. batch_size is a multiple of K.

    Raises InputError when fewer than two classes have K images: there would be no negative pair.
    """

    def __init__(self, labels, batch_size, seed, rank=0, size=1, instances=2):
        super().__init__(labels, batch_size, seed, rank, size, instances)
        self.small_classes = int((self.counts < instances).sum())
        if len(self.counts) - self.small_classes < 2:
            raise InputError(f'groups of {instances} images need two classes of at least {instances} images; '
                             f'the list of {len(self.labels)} images has {len(self.counts) - self.small_classes}')
        self._set_steps(int((self.counts // instances).sum()), f'groups of {instances}')

    def epoch(self, e):
        rng = self._rng(e)
        groups = self._whole_groups(self._shuffled_by_class(rng))
        return self._mine(groups[self._deal(self.labels[groups[:, 0]], rng)])


class IdentitySampler(_GroupedSampler):
    """P identities x K images for centroids (CTL, arXiv 2104.13643): batch_size = P * K, K = `instances`.

    Groups are cut and dealt as by GroupSampler, a group never to two ranks. An identity of n < K images makes one
    group of its n images, then repeats of them. By default repeats are masked out (mask 0: they must not count
    in losses and centroids); with resample=True they count (mask 1). `small_classes` counts such identities; one of
    a single image is kept too, without a positive.

    epoch(e) returns (indices int64, mask float32), both (steps_per_epoch, batch_size).
    """

    def __init__(self, labels, batch_size, seed, rank=0, size=1, instances=4, resample=False):
        super().__init__(labels, batch_size, seed, rank, size, instances)
        self.resample = resample
        self.small_classes = int((self.counts < instances).sum())
        if len(self.counts) < 2:
            raise InputError('identities x images need two identities; the list has one')
        self._set_steps(int(np.maximum(self.counts // instances, 1).sum()), f'groups of {instances}')

    def epoch(self, e):
        rng = self._rng(e)
        by_class = self._shuffled_by_class(rng)
        small = np.flatnonzero(self.counts < self.instances)
        place = np.arange(self.instances)
        filled = by_class[self.starts[small, None] + place % self.counts[small, None]]
        whole = self._whole_groups(by_class)
        groups = np.concatenate([whole, filled])
        mask = np.ones(groups.shape, np.float32)
        if not self.resample:
            mask[len(whole):] = place < self.counts[small, None]
        order = self._deal(self.labels[groups[:, 0]], rng)
        return self._mine(groups[order]), self._mine(mask[order])
