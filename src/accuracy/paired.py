"""Whether one way of training is better than another: differences paired by seed."""
from typing import NamedTuple, Optional

import numpy as np

# More seeds than anybody trains.
MOST_SEEDS = 10000


class PairedDifference(NamedTuple):
    """A mean difference and what N pairs can say of it.

    mean: of the differences. low, high: its confidence interval; infinite for one pair. smallest: half of the interval's
    width: with this spread and this N, a mean difference above it is established, one below it is not. seeds: the smallest
    N at which a difference of this mean and spread would be established, None for a mean of 0. established: whether 0 lies
    outside the interval.
    """
    mean: float
    low: float
    high: float
    smallest: float
    seeds: Optional[int]
    established: bool


def paired_difference(values, reference, level: float = 0.95) -> PairedDifference:
    """The mean of values - reference with its confidence interval by Student's t.

    The interval holds for one difference that was asked for before looking; of many recipes compared with one reference, one
    in twenty seems established by chance.

    Args:
        values, reference: (N,) float, pair i trained from the same seed; N >= 1.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: no pair, or lengths that differ.
    """
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if values.shape != reference.shape or values.ndim != 1 or not len(values):
        raise ValueError(f'paired_difference: {values.shape} values and {reference.shape} of the reference: expected one '
                         'each for every seed')
    differences = values - reference
    mean, count = float(differences.mean()), len(differences)
    if count == 1:
        return PairedDifference(mean, -np.inf, np.inf, np.inf, None, False)
    spread = float(differences.std(ddof=1))
    half = _half_width(spread, count, level)
    # Of equal spreads the shortest interval has the most pairs: the first N that is enough is found by halving.
    seeds = None
    if mean:
        low, high = 2, MOST_SEEDS
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _half_width(spread, middle, level) < abs(mean) else (middle + 1, high)
        seeds = low if _half_width(spread, low, level) < abs(mean) else None
    return PairedDifference(mean, mean - half, mean + half, half, seeds, abs(mean) > half)


def _half_width(spread, count, level):
    # scipy.stats takes a door half a second to import.
    from scipy.special import stdtrit
    return float(stdtrit(count - 1, 0.5 + level / 2)) * spread / np.sqrt(count)
