"""Whether one recipe is better than another: differences paired by seed, and a picture of them."""
from typing import NamedTuple, Optional

import numpy as np
import tools  # noqa: F401 - puts the project on sys.path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from src.common.files import replacing
from src.pictures import QUERY, RIGHT, WRONG

# Largest number of seeds that is searched for; nobody trains as many.
MOST_SEEDS = 10000


class PairedDifference(NamedTuple):
    """A mean difference of N pairs, and how well they establish it.

    mean: of the differences. low, high: its confidence interval, infinite for one pair. smallest: half the width of the
    interval: the smallest mean difference that this N and this spread can establish. seeds: the smallest N that would
    establish a difference of this mean and spread, None for a mean of 0. established: whether 0 is outside the interval.
    """
    mean: float
    low: float
    high: float
    smallest: float
    seeds: Optional[int]
    established: bool


def paired_difference(values: ArrayLike, reference: ArrayLike, level: float = 0.95) -> PairedDifference:
    """The mean of values - reference with its confidence interval by Student's t.

    The interval holds for one comparison chosen beforehand. Of many recipes compared with one reference at level 0.95, one
    in twenty without an effect seems established by chance.

    Args:
        values, reference: (N,) float, N >= 1; both of pair i are trained from the same seed.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: no pair, or lengths that differ.
    """
    one, other = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ValueError(f'paired_difference: {one.shape} values and {other.shape} of the reference: expected one '
                         'each for every seed')
    differences = one - other
    mean, count = float(differences.mean()), len(differences)
    if count == 1:
        return PairedDifference(mean, -np.inf, np.inf, np.inf, None, False)
    spread = float(differences.std(ddof=1))
    half = _half_width(spread, count, level)
    # With equal spread more pairs give a shorter interval: bisection finds the first N that is enough.
    seeds = None
    if mean:
        low, high = 2, MOST_SEEDS
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _half_width(spread, middle, level) < abs(mean) else (middle + 1, high)
        seeds = low if _half_width(spread, low, level) < abs(mean) else None
    return PairedDifference(mean, mean - half, mean + half, half, seeds, abs(mean) > half)


def _half_width(spread: float, count: int, level: float) -> float:
    # Not scipy.stats, which takes half a second to import.
    from scipy.special import stdtrit
    return float(stdtrit(count - 1, 0.5 + level / 2) * spread / np.sqrt(count))


def comparison_picture(values, differences, measure, path):
    """Draw what recipes reach from the same seeds, and their paired differences from the first.

    Args:
        values: recipe -> {seed: figure}, at least one recipe; the seeds may differ.
        differences: recipe -> (mean, low, high); an infinite interval is drawn as none. May be empty.
        measure: what the figures are, with their unit.
        path: .png, .pdf or .svg.
    """
    names = list(values)
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(names)), dpi=110, layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    for seed in sorted({seed for found in values.values() for seed in found}):
        rows = [row for row, name in enumerate(names) if seed in values[name]]
        left.plot([values[names[row]][seed] for row in rows], rows, color='#bbbbbb', linewidth=0.8, marker='o', markersize=4,
                  markerfacecolor='#2c6fbb', markeredgewidth=0)
    for row, name in enumerate(names):
        if values[name]:
            left.plot([np.mean(list(values[name].values()))], [row], '|', color=QUERY, markersize=16, markeredgewidth=2)
        if name in differences:
            mean, low, high = differences[name]
            colour = RIGHT if low > 0 else WRONG if high < 0 else QUERY
            right.plot([mean], [row], 'o', color=colour)
            if np.isfinite(low):
                right.plot([low, high], [row, row], color=colour, linewidth=2)
    left.set(xlabel=f'{measure}: each seed, and the mean', yticks=range(len(names)), yticklabels=names,
             ylim=(len(names) - 0.5, -0.5))
    right.axvline(0, color='#bbbbbb', linewidth=1)
    right.set_xlabel(f'difference from {names[0]}, 95 % interval')
    for axis in (left, right):
        axis.grid(axis='x', color='#dddddd', linewidth=0.7)
        axis.spines[['top', 'right']].set_visible(False)
    FigureCanvasAgg(figure)
    with replacing(path) as part:
        figure.savefig(part)
