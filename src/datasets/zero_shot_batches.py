"""Training batches of zero-shot learning: the images of each step, beside the semantics of theirs or of all classes."""
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from src.common.errors import InputError
from src.datasets.zero_shot_data import ZeroShotData


class Epoch(NamedTuple):
    """Which of the epochs, on which of the devices, from which step on.

    seed, number: not negative; together they decide the order. rank, size: this device and the number of devices. skip:
    steps of this epoch already done.
    """
    seed: int
    number: int
    rank: int = 0
    size: int = 1
    skip: int = 0


def steps_per_epoch(count: int, batch_size: int, size: int = 1) -> int:
    """Whole batches in an epoch of `count` images for each of `size` devices; the last short one is dropped.

    Raises:
        InputError: batch_size is not positive, or not even one batch for every device is there.
    """
    steps = count // (batch_size * size) if batch_size > 0 else 0
    if not steps:
        raise InputError(f'--batch_size={batch_size} for each of {size} device(s): choose between 1 and '
                         f'{count // size}, there are {count} training images')
    return steps


def shuffled_rows(count: int, batch_size: int, epoch: Epoch) -> np.ndarray:
    """The images of each batch of one device: int (steps left, batch_size).

    All devices draw the same permutation of the images from (seed, number of the epoch); step s of device r takes the
    r-th batch of the s-th group of size * batch_size images. So no image comes twice in an epoch, all devices do the
    same number of steps, and any epoch can be repeated or entered half-way.

    Raises:
        InputError: batch_size is larger than the data (see steps_per_epoch).
        ValueError: rank or skip out of range.
    """
    steps = steps_per_epoch(count, batch_size, epoch.size)
    if not 0 <= epoch.rank < epoch.size or not 0 <= epoch.skip < steps:
        raise ValueError(f'rank {epoch.rank} of {epoch.size} devices, skip {epoch.skip} of {steps} steps')
    order = np.random.default_rng((epoch.seed, epoch.number)).permutation(count)
    return order[:steps * epoch.size * batch_size].reshape(steps, epoch.size, batch_size)[epoch.skip:, epoch.rank]


def image_batches(data: ZeroShotData, batch_size: int, epoch: Epoch) -> Iterator[Tuple[np.ndarray, ...]]:
    """One shuffled epoch of images, each with the semantics of its class: what mean squared error is trained on.

    Yields:
        (semantics (batch_size, A_0), ..., features (batch_size, V)), float32.

    Raises:
        InputError, ValueError: see shuffled_rows.
    """
    for rows in shuffled_rows(len(data.train_labels), batch_size, epoch):
        yield (*(semantics[rows] for semantics in data.train_semantics), data.train_features[rows])


def prototype_batches(data: ZeroShotData, batch_size: int, epoch: Epoch, dropout: Optional[Sequence[float]] = None,
                      hidden_dim: int = 0) -> Iterator[Tuple[np.ndarray, ...]]:
    """One shuffled epoch of images, each batch beside all seen classes: what prototype_softmax is trained on.

    Args:
        dropout: shares of the semantics and of the hidden units that are dropped, the rest scaled up; drawn from (seed,
            epoch, rank, step). None for none.
        hidden_dim: width of the hidden layer that is dropped out.

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


def _keep(rng, shape, share):
    return (rng.random(shape, np.float32) >= share).astype(np.float32) / np.float32(1 - share)
