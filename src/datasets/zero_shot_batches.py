"""Training batches of zero-shot learning: images with the semantics of their own classes or of all seen classes."""
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.zero_shot_data import ZeroShotData


class Epoch(NamedTuple):
    """One device's share of one epoch.

    seed, number: not negative; together they decide the order of the images. rank, size: index of this device and number of
    devices. skip: steps of this epoch that are already done.
    """
    seed: int
    number: int
    rank: int = 0
    size: int = 1
    skip: int = 0


def steps_per_epoch(count: int, batch_size: int, size: int = 1) -> int:
    """Number of whole batches per device in an epoch of `count` images on `size` devices; a short last batch is dropped.

    Raises:
        InputError: batch_size is not positive, or there is not one batch for every device.
    """
    steps = count // (batch_size * size) if batch_size > 0 else 0
    if not steps:
        raise InputError(f'--batch_size={batch_size} on each of {size} device(s): choose between 1 and '
                         f'{count // size}, there are {count} training images')
    return steps


def shuffled_rows(count: int, batch_size: int, epoch: Epoch) -> Array:
    """Image numbers of each remaining batch of one device: (steps left, batch_size) int.

    All devices draw the same permutation of the images from (seed, number of the epoch); step s of device r takes the
    r-th batch of the s-th group of size * batch_size images. So no image comes twice in an epoch, all devices do the
    same number of steps, and any epoch can be repeated or resumed.

    Raises:
        InputError: batch_size is larger than the data (see steps_per_epoch).
        ValueError: rank or skip is out of range.
    """
    steps = steps_per_epoch(count, batch_size, epoch.size)
    if not 0 <= epoch.rank < epoch.size or not 0 <= epoch.skip < steps:
        raise ValueError(f'rank {epoch.rank} of {epoch.size} devices, skip {epoch.skip} of {steps} steps')
    order = np.random.default_rng((epoch.seed, epoch.number)).permutation(count)
    return order[:steps * epoch.size * batch_size].reshape(steps, epoch.size, batch_size)[epoch.skip:, epoch.rank]


def image_batches(data: ZeroShotData, batch_size: int, epoch: Epoch) -> Iterator[Tuple[Array, ...]]:
    """Batches of one shuffled epoch for the mean squared error: each image with the semantics of its class.

    Yields:
        (semantics (batch_size, A_0), ..., features (batch_size, V)), float32.

    Raises:
        InputError, ValueError: see shuffled_rows.
    """
    for rows in shuffled_rows(len(data.train_labels), batch_size, epoch):
        yield (*(semantics[rows] for semantics in data.train_semantics), data.train_features[rows])


def prototype_batches(data: ZeroShotData, batch_size: int, epoch: Epoch, dropout: Optional[Sequence[float]] = None,
                      hidden_dim: int = 0) -> Iterator[Tuple[Array, ...]]:
    """Batches of one shuffled epoch for prototype_softmax: images with the semantics of all seen classes.

    Args:
        dropout: shares of the semantics and of the hidden units to drop; the rest is scaled up. Drawn from (seed, epoch,
            rank, step). None: no dropout.
        hidden_dim: width of the hidden layer that dropout applies to.

    Yields:
        (semantics of all seen classes (S, A_0), ..., with dropout keep (S, hidden_dim), features (batch_size, V)), float32,
        and labels (batch_size,) int32 in 0..S-1.

    Raises:
        InputError, ValueError: see shuffled_rows.
    """
    labels = np.searchsorted(data.seen_class_ids, data.train_labels).astype(np.int32)
    prototypes = data.seen_prototypes
    for step, rows in enumerate(shuffled_rows(len(labels), batch_size, epoch), epoch.skip):
        images = data.train_features[rows], labels[rows]
        if dropout is None:
            yield (*prototypes, *images)
            continue
        rng = np.random.default_rng((epoch.seed, epoch.number, epoch.rank, step))
        semantics = [array * _keep(rng, array.shape, dropout[0]) for array in prototypes]
        yield (*semantics, _keep(rng, (len(prototypes[0]), hidden_dim), dropout[1]), *images)


def _keep(rng: np.random.Generator, shape: Tuple[int, ...], share: float) -> Array:
    """Factors 0 for dropped values and 1 / (1 - share) for kept ones: float32."""
    return (rng.random(shape, np.float32) >= share).astype(np.float32) / np.float32(1 - share)
