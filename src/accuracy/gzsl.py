"""Generalised zero-shot accuracy: the exact curve of seen and unseen accuracy over all calibrations.

Measures: Xian et al. (arXiv 1707.00600, section 4.2); calibrated stacking and AUSUC: Chao et al. (arXiv 1605.04253).
Every accuracy is the mean of the accuracies of the classes; classes without images are left out.
"""
from typing import Dict, NamedTuple, Tuple

import numpy as np

from src.common.arrays import Array
from src.common.errors import InputError


class Curve(NamedTuple):
    """Accuracy as a function of gamma: from gamma[i] to below gamma[i + 1] it is unseen[i] and seen[i].

    gamma: (K,) ascending, the first is -inf. unseen: (K,) rising, 0..1. seen: (K,) falling, 0..1.
    """
    gamma: Array
    unseen: Array
    seen: Array

    @property
    def harmonic(self) -> Array:
        """Harmonic means (K,): 2 u s / (u + s), 0 where both are 0."""
        total = self.unseen + self.seen
        return np.divide(2 * self.unseen * self.seen, total, out=np.zeros_like(total), where=total > 0)

    @property
    def area(self) -> float:
        """AUSUC: the area under seen accuracy over unseen accuracy, neighbouring points joined by straight lines."""
        return float(np.sum((self.seen[1:] + self.seen[:-1]) / 2 * np.diff(self.unseen)))

    def best_gamma(self) -> float:
        """Middle of the interval of gammas with the largest harmonic mean; of several intervals, the middle nearest 0."""
        harmonic, ends = self.harmonic, np.append(self.gamma[1:], self.gamma[-1])
        starts = np.append(self.gamma[1], self.gamma[1:]) if len(self.gamma) > 1 else np.zeros(1)
        middles = (starts + ends) / 2
        best = np.flatnonzero(harmonic == harmonic.max())
        return float(middles[best[np.abs(middles[best]).argmin()]])

    def at(self, gamma: float) -> Dict[str, float]:
        """u, s and H at one gamma."""
        i = int(np.searchsorted(self.gamma, gamma, 'right')) - 1
        return {'u': float(self.unseen[i]), 's': float(self.seen[i]), 'H': float(self.harmonic[i])}

    @property
    def unseen_alone(self) -> float:
        """T1: accuracy of unseen images if seen classes are excluded (gamma at infinity)."""
        return float(self.unseen[-1])


def seen_unseen_curve(scores: Array, labels: Array, class_ids: Array, seen: Array) -> Curve:
    """Curve of calibrated stacking, which subtracts a constant gamma from the scores of seen classes.

    The prediction is the best seen class if best seen score - best unseen score > gamma, else the best unseen class; of
    equal scores the first class. So only these two scores of an image matter.

    Args:
        scores: (M, C) float, higher is nearer.
        labels: (M,) class ids of the images.
        class_ids: (C,) ids of the columns, all different.
        seen: (C,) bool.

    Raises:
        InputError: shapes that differ, NaN, no seen or no unseen class, a label that is not among class_ids, or no image
            of a seen or of an unseen class.
    """
    scores, labels, class_ids = np.asarray(scores), np.asarray(labels), np.asarray(class_ids)
    seen = np.asarray(seen, bool)
    if scores.shape != (len(labels), len(class_ids)) or seen.shape != class_ids.shape:
        raise InputError(f'scores: {scores.shape} for {len(labels)} labels, {len(class_ids)} classes and {len(seen)} marks')
    if np.isnan(scores).any():
        raise InputError('scores: NaN; if the network was trained just now, it has diverged: lower --lr, or check the data')
    if seen.all() or not seen.any():
        raise InputError('classes: generalised accuracy needs both seen and unseen classes')
    order = np.argsort(class_ids, kind='stable')
    place = np.minimum(np.searchsorted(class_ids, labels, sorter=order), len(order) - 1)
    column = order[place]
    if (class_ids[column] != labels).any():
        raise InputError(f'labels: {labels[class_ids[column] != labels][0]} is not among the classes')
    own = seen[column]
    if own.all() or not own.any():
        raise InputError(f'images: none of them is of {"an unseen" if own.all() else "a seen"} class')

    def best(mask: Array) -> Tuple[Array, Array]:
        columns = np.flatnonzero(mask)
        top = columns[scores[:, columns].argmax(axis=1)]
        return np.take_along_axis(scores, top[:, None], axis=1)[:, 0], top == column

    (seen_score, seen_right), (unseen_score, unseen_right) = best(seen), best(~seen)
    with np.errstate(invalid='ignore'):
        margin = np.where(seen_score == unseen_score, 0.0, seen_score.astype(np.float64) - unseen_score)
    gamma, step = np.unique(margin, return_inverse=True)

    def gained(mask: Array, right: Array) -> Array:
        """Accuracy due to the images whose prediction changes sides when gamma reaches each step."""
        count = np.bincount(column[mask], minlength=len(class_ids))
        weight = right[mask] / count[column[mask]] / np.count_nonzero(count)
        return np.bincount(step[mask], weight, minlength=len(gamma))

    unseen_accuracy = np.append(0.0, np.cumsum(gained(~own, unseen_right)))
    # Summed from the end, so that it is exactly 0 where no seen class is predicted any more.
    seen_accuracy = np.append(np.cumsum(gained(own, seen_right)[::-1])[::-1], 0.0)
    # Rounding may carry a sum of shares above 1.
    return Curve(np.append(-np.inf, gamma), np.minimum(unseen_accuracy, 1.0), np.minimum(seen_accuracy, 1.0))


def generalised_accuracy(curve: Curve, gamma: float) -> Dict[str, float]:
    """All measures at one gamma, 0..1: T1, u, s, H and AUSUC, and u, s and H at gamma 0 (u_0, s_0, H_0)."""
    plain = {f'{name}_0': value for name, value in curve.at(0.0).items()}
    return {'T1': curve.unseen_alone, **curve.at(gamma), 'AUSUC': curve.area, **plain}
