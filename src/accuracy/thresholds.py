"""Open-set search: the similarity threshold from which a nearest neighbour counts as a match, and its error rates.

Event. A query whose class is not in the gallery is searched. If its nearest image reaches the threshold, that is a false
match (false positive identification). The false-match rate is the share of such queries with a false match. It is
measured leave-one-class-out: every image is a query, against all images of the other classes. The rate of random pairs
is far smaller, as the nearest of many images reaches the threshold more often than a single one.

Sampling unit. Images of a class resemble each other, two similar classes are false matches of each other, and one class
may be the false match of many. So the independent samples are classes, not queries, and a false match belongs to two
classes. The number of queries is divided by the design effect of such dyads (Aronow, Samii, Assenova, "Cluster-robust
variance estimation for dyadic data", Political Analysis 2015): the number of ordered pairs of false matches with a class
in common, a false match with itself included, over the number of false matches. It is 1 if no two share a class, m if
they come in groups of m.

Bound. Let n effective queries have x false matches, and n queries of other classes of the same kind have k. Each of the
x + k is equally likely in both samples, so the first has x or fewer with probability
P(Bin(x + k, 1/2) <= x) = I_1/2(k, x + 1) (the incomplete beta function; for x = 0, 2^-k). The threshold is the lowest
at which k = n times the requested rate makes this at most 1 - CONFIDENCE. So the bound holds for the rate in another sample
of the same size, gallery included, which is stricter than the Clopper-Pearson bound of the population rate: 1 % at 95 %
takes 433 effective queries (Clopper-Pearson: 299).

Not covered: classes of another kind than those measured, and larger galleries than `searched`: r times as many images have up
to r times the false matches.
"""
from collections import Counter
from typing import Any, Callable, FrozenSet, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike

from src.common.arrays import Array, Search, as_embeddings, as_labels, block_rows, groups, slices
from src.common.errors import InputError

CONFIDENCE = 0.95
FEW = 12        # the design effect is estimated from at least this many false matches
LOOK_AHEAD = 4  # and from this many times the accepted ones, so that groups among the next ones count


class Threshold(NamedTuple):
    """A threshold, and the results of its calibration. Shares are in 0..1, of the calibration's queries.

    similarity: cosine; a nearest neighbour below it is `unknown`.
    false_match_rate: as requested.
    measured, false_matches: share and number of false matches seen. bound: with this `confidence` their share is at most this
        in another sample of this size.
    queries, classes, effective: numbers of images, of classes, and of queries over the design effect.
    searched: size of the gallery for which it holds.
    found: among queries with another image of their class, the share whose nearest image is of the class and reaches the
        similarity (detection and identification rate at rank 1). lost: the share whose nearest image is of the class and
        below the similarity. The rest is wrong at any threshold.
    """
    similarity: float
    false_match_rate: float
    confidence: float
    measured: float
    bound: float
    false_matches: int
    queries: int
    classes: int
    effective: float
    searched: int
    found: float
    lost: float


class OpenSet:
    """Every image searched among the others, with and without its own class.

    Attributes:
        same (N,) float32: similarity to the nearest other image of its class (from another camera, if cameras are given);
            -inf if there is none.
        different (N,) float32: similarity to the nearest image of another class.
        labels, mistaken_for (N,): its class, and the class of its nearest image of another class.
        classes: number of classes. searched: number of images of other classes, the mean over the images.

    Memory: that of `recall_at_k` with a gallery.

    Args:
        embeddings: (N, D), any float type, of classes that training never saw; compared by cosine.
        labels: (N,).
        cameras: (N,) or None. Images from one camera resemble each other by their background, so they are no right matches
            of each other.

    Raises:
        InputError: NaN or Inf, lengths that differ, fewer than two classes.
    """

    def __init__(self, embeddings: Array, labels: ArrayLike, cameras: Optional[ArrayLike] = None) -> None:
        embeddings = as_embeddings('embeddings', embeddings)
        self.labels = as_labels('labels', labels, len(embeddings))
        seen_by = None if cameras is None else as_labels('cameras', cameras, len(embeddings))
        members = groups(self.labels)
        self.classes = len(members)
        if self.classes < 2:
            raise InputError('labels: open-set search needs images of at least two classes')
        self.searched = round(float(np.mean([len(embeddings) - len(members[label]) for label in self.labels.tolist()])))
        self.same, self.different = np.empty((2, len(embeddings)), np.float32)
        nearest = np.empty(len(embeddings), np.int64)
        search = Search(embeddings, embeddings, names=('embeddings', 'embeddings'))
        for rows in slices(len(embeddings), block_rows(len(embeddings))):
            scores = search.scores(rows)
            for i, row in zip(range(rows.start, rows.stop), scores):
                own = members[self.labels[i].item()]
                row[i] = -np.inf
                right = own if seen_by is None else own[seen_by[own] != seen_by[i]]
                self.same[i] = row[right].max(initial=-np.inf)
                row[own] = -np.inf
            nearest[rows] = scores.argmax(axis=1)
            self.different[rows] = scores.max(axis=1)
        self.mistaken_for = self.labels[nearest]

    def threshold(self, false_match_rate: float) -> Threshold:
        """Find the `Threshold` for a requested false-match rate, 0..1; the method is described in the module's docstring.

        Raises:
            InputError: too few images or classes for that rate, or a rate out of range.
        """
        if not 0 < false_match_rate < 1:
            raise InputError(f'false_match_rate: {false_match_rate} is not between 0 and 1')
        from scipy.special import betainc
        count = len(self.labels)
        wanted = false_match_rate * count
        order = np.argsort(-self.different, kind='stable')
        accepted = np.arange(int(wanted) + 1)
        looked = np.minimum(np.maximum(FEW, LOOK_AHEAD * accepted), count)
        effects = self._design_effects(order[:looked[-1]])[looked - 1]
        too_many = betainc(wanted / effects, accepted / effects + 1, 0.5) > 1 - CONFIDENCE
        if too_many[0]:
            needed = np.ceil(-np.log2(1 - CONFIDENCE) * effects[0] / wanted * count)
            lowest = np.ceil(1000 * false_match_rate * needed / count) / 1000
            raise InputError(f'false_match_rate: {false_match_rate:g} with {100 * CONFIDENCE:g} % confidence takes about '
                             f'{needed:.0f} images and there are {count} of {self.classes} classes; give more'
                             + (f', or a rate of at least {lowest:g}' if lowest < 1 else ''))
        place = np.argmax(too_many) - 1 if too_many.any() else len(accepted) - 1
        similarity = np.nextafter(self.different[order[min(place, count - 1)]], np.float32(np.inf))
        false_matches = int(np.count_nonzero(self.different >= similarity))
        bound = effects[place] / count * _further(betainc, false_matches / effects[place])
        found, lost = self._found(similarity)
        return Threshold(float(similarity), float(false_match_rate), CONFIDENCE, false_matches / count,
                         min(1.0, float(bound)), false_matches, count, self.classes, float(count / effects[place]),
                         self.searched, found, lost)

    def at(self, similarity: float) -> Tuple[float, float, float]:
        """(share of false matches, found, lost) at a similarity, as in `Threshold`."""
        return (float(np.mean(self.different >= similarity)), *self._found(similarity))

    def _found(self, similarity: float) -> Tuple[float, float]:
        answerable = np.isfinite(self.same)
        if not answerable.any():
            return 0.0, 0.0
        right = self.same[answerable] > self.different[answerable]
        reached = self.same[answerable] >= similarity
        return float(np.mean(right & reached)), float(np.mean(right & ~reached))

    def identification_rate(self, false_match_rate: float) -> Tuple[float, float]:
        """(detection and identification rate at rank 1, similarity) at a measured share of false matches of at most
        `false_match_rate`. Papers report this rate, without a bound."""
        if not 0 <= false_match_rate < 1:
            raise InputError(f'false_match_rate: {false_match_rate} is not between 0 and 1')
        place = int(false_match_rate * len(self.labels))
        similarity = np.nextafter(-np.partition(-self.different, place)[place], np.float32(np.inf))
        return self._found(similarity)[0], float(similarity)

    def curve(self, points: int = 200) -> Tuple[Array, Array, Array]:
        """The detection curve: (similarities, false-match rates, found), each (P,), P at most `points`, by rising rate."""
        ordered = -np.sort(-self.different)
        similarities = np.unique(ordered[np.geomspace(1, len(ordered), points).astype(int) - 1])[::-1]
        rates = np.searchsorted(-ordered, -similarities, side='right') / len(ordered)
        return similarities, rates, np.array([self._found(one)[0] for one in similarities])

    def _design_effects(self, order: Array) -> Array:
        """Design effects (n,) of the first, the first two, ... of n false matches; the running maximum."""
        per_class: 'Counter[Any]' = Counter()
        per_dyad: 'Counter[FrozenSet[Any]]' = Counter()
        in_common, effects = 0, []
        for number, (one, other) in enumerate(zip(self.labels[order].tolist(), self.mistaken_for[order].tolist()), 1):
            dyad = frozenset((one, other))
            # Ordered pairs of false matches with a class in common; pairs with both in common count once.
            in_common += 1 + 2 * (per_class[one] + per_class[other] - per_dyad[dyad])
            per_class[one] += 1
            per_class[other] += 1
            per_dyad[dyad] += 1
            effects.append(in_common / number)
        return np.maximum.accumulate(effects)


def _further(betainc: Callable[[float, float, float], float], seen: float) -> float:
    """The k at which P(Bin(seen + k, 1/2) <= seen) = I_1/2(k, seen + 1) falls to 1 - CONFIDENCE, by bisection."""
    low, high = 0.0, 1.0
    while betainc(high, seen + 1, 0.5) > 1 - CONFIDENCE:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if betainc(middle, seen + 1, 0.5) > 1 - CONFIDENCE else (low, middle)
    return high

