"""The losses again, as loops over images and pairs in float64 numpy, straight from their formulas.

Each oracle takes (inputs, labels, mask, parameters), inputs a tuple of (N, D) arrays and parameters a dict by name; those of
pair losses also references, (rows, labels), where rows with a label below 0 do not count.
"""
import math

import numpy as np


def unit(x):
    return np.stack([row / math.sqrt(row @ row) if row @ row > 0 else 0 * row for row in x])


def squared(a, b):
    return float(((a - b) ** 2).sum())


def distance(a, b):
    return math.sqrt(max(squared(a, b), 1e-12))


NONE = ((), ())


def compared(inputs, labels, references, normalised=False):
    """Rows and labels of all, references that count last, and of each anchor the numbers of its positives and negatives."""
    e = list(unit(inputs[0]) if normalised else inputs[0])
    y = [*labels, *(label for label in references[1] if label >= 0)]
    for row, label in zip(*references):
        if label >= 0:
            e.append(unit(row[None])[0] if normalised else row)
    pairs = [([j for j in range(len(e)) if j != i and y[j] == y[i]], [j for j in range(len(e)) if y[j] != y[i]])
             for i in range(len(labels))]
    return e, y, pairs


def mean(values):
    return sum(values) / len(values) if values else 0.0


def row_cross_entropy(logits, target):
    top = logits.max()
    log_sum = top + math.log(sum(math.exp(v - top) for v in logits))
    return sum(t * (log_sum - v) for t, v in zip(target, logits))


def softmax(smoothing=0.0):
    def oracle(inputs, labels, mask, parameters):
        weight, bias = parameters['weight'], parameters.get('bias', 0.0)
        classes = len(weight)
        rows = []
        for e, y, real in zip(inputs[0], labels, mask):
            if real:
                target = [(1 - smoothing) * (c == y) + smoothing / classes for c in range(classes)]
                rows.append(row_cross_entropy(weight @ e + bias, target))
        return mean(rows)
    return oracle


def arcmargin(scale, margin, easy):
    def oracle(inputs, labels, mask, parameters):
        embeddings, weight = unit(inputs[0]), unit(parameters['weight'])
        rows = []
        for e, y in zip(embeddings, labels):
            cosines = weight @ e
            c = cosines[y]
            phi = c * math.cos(margin) - math.sqrt(1 - min(c * c, 1.0) + 1e-6) * math.sin(margin)
            if easy:
                cosines[y] = phi if c > 0 else c
            else:
                cosines[y] = phi if c > math.cos(math.pi - margin) else c - margin * math.sin(margin)
            rows.append(row_cross_entropy(scale * cosines, np.eye(len(weight))[y]))
        return mean(rows)
    return oracle


def triplet(margin, factor=None):
    """factor(triplets) multiplies the mean: what reduction='sum' differentiates."""
    def oracle(inputs, labels, mask, parameters):
        e = unit(inputs[0])
        rows = [max(0.0, squared(e[i], e[i + 1]) - squared(e[i], e[i + 2]) + margin) for i in range(0, len(e), 3)]
        return mean(rows) * (factor(len(rows)) if factor else 1)
    return oracle


def quadruplet(margin):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        e, _, pairs = compared(inputs, labels, references, True)
        positives = [squared(e[i], e[j]) for i, (same, _) in enumerate(pairs) for j in same]
        negatives = [squared(e[i], e[j]) for i, (_, others) in enumerate(pairs) for j in others]
        return max(0.0, max(positives) - min(negatives) + margin) if positives and negatives else 0.0
    return oracle


def eml(inputs, labels, mask, parameters, references=NONE):
    e, _, pairs = compared(inputs, labels, references)
    beta, threshold = 1e5, 20.0
    rows = []
    for i, (same, others) in enumerate(pairs):
        positives, negatives = [squared(e[i], e[j]) for j in same], [squared(e[i], e[j]) for j in others]
        if not positives or not negatives:
            continue
        theta = (mean([math.exp(d - max(positives)) for d in positives])
                 * mean([math.exp(min(negatives) - d) for d in negatives]))
        b = max(positives) - min(negatives)

        def f(b):
            return math.log1p(beta * theta * math.exp(b)) / math.log1p(beta)

        g = (math.log(theta) + max(b, threshold) + math.log(beta)) / math.log1p(beta)
        rows.append(f(min(b, threshold)) + g - f(threshold))
    return mean(rows)


def npairs(reg_lambda):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        e, y, _ = compared(inputs, labels, references)
        count = len(labels)
        candidates = [*range(1, count, 2), *range(count, len(e))]
        rows = []
        for i in range(0, count, 2):
            same = [y[i] == y[j] for j in candidates]
            if any(same):
                logits = np.array([e[i] @ e[j] for j in candidates])
                rows.append(row_cross_entropy(logits, [s / sum(same) for s in same]))
        return mean(rows) + 0.5 * reg_lambda * mean([float(row @ row) for row in e[:count]])
    return oracle


def center(inputs, labels, mask, parameters):
    return mean([min(max(squared(e, parameters['centers'][y]), 1e-12), 1e12)
                 for e, y, real in zip(inputs[0], labels, mask) if real])


def batch_hard(margin):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        e, y, _ = compared(inputs, labels, references)
        real = [i for i in range(len(e)) if i >= len(labels) or mask[i]]
        rows = []
        for i in [i for i in real if i < len(labels)]:
            positives = [distance(e[i], e[j]) for j in real if y[j] == y[i]]
            negatives = [distance(e[i], e[j]) for j in real if y[j] != y[i]]
            if negatives:
                rows.append(max(0.0, max(positives) - min(negatives) + margin))
        return mean(rows)
    return oracle


def centroid_triplet(k, margin):
    def oracle(inputs, labels, mask, parameters):
        e = inputs[0]
        rounds = []
        for i in range(k):
            points, point_labels = [], []
            for start in range(0, len(e), k):
                others = [e[j] for j in range(start, start + k) if j != start + i and mask[j]]
                if mask[start + i] and others:
                    points += [e[start + i], sum(others) / len(others)]
                    point_labels += [labels[start]] * 2
            if len(set(point_labels)) > 1:
                rounds.append(batch_hard(margin)([points], point_labels, [1] * len(points), {}))
        return mean(rounds)
    return oracle


def ctl(k, margin, center_weight):
    def oracle(inputs, labels, mask, parameters):
        features, neck = inputs
        return (softmax(0.1)([neck], labels, mask, {'weight': parameters['classifier.weight']})
                + batch_hard(margin)([features], labels, mask, {})
                + center_weight * center([features], labels, mask, {'centers': parameters['center.centers']})
                + centroid_triplet(k, margin)([features], labels, mask, {}))
    return oracle


def baseline(margin):
    def oracle(inputs, labels, mask, parameters):
        features, neck = inputs
        return (softmax(0.1)([neck], labels, mask, {'weight': parameters['classifier.weight']})
                + batch_hard(margin)([features], labels, mask, {}))
    return oracle


def norm_softmax(temperature):
    def oracle(inputs, labels, mask, parameters):
        e, weight = unit(inputs[0]), unit(parameters['weight'])
        return mean([row_cross_entropy(weight @ x / temperature, np.eye(len(weight))[y]) for x, y in zip(e, labels)])
    return oracle


def log_one_plus(exponents):
    top = max([0.0, *exponents])
    return top + math.log(math.exp(-top) + sum(math.exp(x - top) for x in exponents))


def proxy_anchor(alpha, delta):
    def oracle(inputs, labels, mask, parameters):
        e, proxies = unit(inputs[0]), unit(parameters['proxies'])
        pull, push = [], []
        for p, proxy in enumerate(proxies):
            own = [-alpha * (x @ proxy - delta) for x, y in zip(e, labels) if y == p]
            if own:
                pull.append(log_one_plus(own))
            push.append(log_one_plus([alpha * (x @ proxy + delta) for x, y in zip(e, labels) if y != p]))
        return mean(pull) + mean(push)
    return oracle


def cosines_by_anchor(inputs, labels, references=NONE, in_batch=False):
    """For each row: cosines to its positives, in the batch alone where in_batch, and to its negatives."""
    e, _, pairs = compared(inputs, labels, references, True)
    for i, (same, others) in enumerate(pairs):
        yield [e[i] @ e[j] for j in same if j < len(labels) or not in_batch], [e[i] @ e[j] for j in others]


def multi_similarity(alpha, beta, base, eps):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        rows = []
        for positives, negatives in cosines_by_anchor(inputs, labels, references):
            if not positives or not negatives:
                rows.append(0.0)
                continue
            hard_positives = [s for s in positives if s < max(negatives) + eps]
            hard_negatives = [s for s in negatives if s > min(positives) - eps]
            rows.append(log_one_plus([-alpha * (s - base) for s in hard_positives]) / alpha
                        + log_one_plus([beta * (s - base) for s in hard_negatives]) / beta)
        return mean(rows)
    return oracle


def supcon(temperature):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        rows = []
        for positives, negatives in cosines_by_anchor(inputs, labels, references):
            if positives:
                logits = np.array(positives + negatives) / temperature
                rows.append(mean([row_cross_entropy(logits, np.eye(len(logits))[p]) for p in range(len(positives))]))
        return mean(rows)
    return oracle


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def ranks(positives, negatives, temperature, query=()):
    """Of each positive: the rank among all, and among the positives. query: [its own cosine], where it counts."""
    for i, s in enumerate(positives):
        before = sum(sigmoid((other - s) / temperature) for j, other in enumerate(positives) if j != i)
        before_others = sum(sigmoid((other - s) / temperature) for other in [*negatives, *query])
        yield 1 + before + before_others, 1 + before


def smooth_ap(temperature, counts_query=False):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        rows = []
        for e, (positives, negatives) in zip(unit(inputs[0]), cosines_by_anchor(inputs, labels, references, True)):
            positives = positives + [e @ e] * counts_query
            if positives:
                rows.append(1 - mean([own / rank for rank, own in ranks(positives, negatives, temperature)]))
        return mean(rows)
    return oracle


def recall_at_k(temperature, ks, counts_query=False):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        rows = []
        for e, (positives, negatives) in zip(unit(inputs[0]), cosines_by_anchor(inputs, labels, references, True)):
            if positives:
                found = [rank for rank, _ in ranks(positives, negatives, temperature, [e @ e] * counts_query)]
                rows.append(1 - mean([sum(sigmoid(k - rank) for rank in found) / min(k, len(found)) for k in ks]))
        return mean(rows)
    return oracle


def contrastive(margin):
    def oracle(inputs, labels, mask, parameters, references=NONE):
        return mean([sum(1 - s for s in positives) + sum(max(0.0, s - margin) for s in negatives)
                     for positives, negatives in cosines_by_anchor(inputs, labels, references)])
    return oracle


def mse(mapped, features):
    return mean([(a - b) ** 2 for row, other in zip(mapped, features) for a, b in zip(row, other)])


def finite_differences(function, arrays, step=1e-6):
    """Central differences of function(list of float64 arrays) -> float, one array like each of arrays."""
    arrays = [np.array(a, np.float64) for a in arrays]
    gradients = []
    for a in arrays:
        gradient = np.zeros_like(a)
        for index in np.ndindex(*a.shape):
            kept = a[index]
            a[index] = kept + step
            above = function(arrays)
            a[index] = kept - step
            gradient[index] = (above - function(arrays)) / (2 * step)
            a[index] = kept
        gradients.append(gradient)
    return gradients
