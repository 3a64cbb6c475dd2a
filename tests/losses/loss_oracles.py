"""The losses again, as loops over images and pairs in float64 numpy, straight from their formulas.

Each oracle takes (inputs, labels, mask, parameters), inputs a tuple of (N, D) arrays and parameters a dict by name.
"""
import math

import numpy as np


def unit(x):
    return np.stack([row / math.sqrt(row @ row) if row @ row > 0 else 0 * row for row in x])


def squared(a, b):
    return float(((a - b) ** 2).sum())


def distance(a, b):
    return math.sqrt(max(squared(a, b), 1e-12))


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
    def oracle(inputs, labels, mask, parameters):
        e = unit(inputs[0])
        positives, negatives = [], []
        for i in range(len(e)):
            for j in range(i):
                (positives if labels[i] == labels[j] else negatives).append(squared(e[i], e[j]))
        return max(0.0, max(positives) - min(negatives) + margin) if positives and negatives else 0.0
    return oracle


def eml(inputs, labels, mask, parameters):
    e, beta, threshold = inputs[0], 1e5, 20.0
    rows = []
    for i in range(len(e)):
        positives = [squared(e[i], e[j]) for j in range(len(e)) if j != i and labels[j] == labels[i]]
        negatives = [squared(e[i], e[j]) for j in range(len(e)) if labels[j] != labels[i]]
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
    def oracle(inputs, labels, mask, parameters):
        e = inputs[0]
        rows = []
        for i in range(0, len(e), 2):
            same = [labels[i] == labels[j] for j in range(1, len(e), 2)]
            if any(same):
                logits = np.array([e[i] @ e[j] for j in range(1, len(e), 2)])
                rows.append(row_cross_entropy(logits, [s / sum(same) for s in same]))
        return mean(rows) + 0.5 * reg_lambda * mean([float(row @ row) for row in e])
    return oracle


def center(inputs, labels, mask, parameters):
    return mean([min(max(squared(e, parameters['centers'][y]), 1e-12), 1e12)
                 for e, y, real in zip(inputs[0], labels, mask) if real])


def batch_hard(margin):
    def oracle(inputs, labels, mask, parameters):
        e = inputs[0]
        real = [i for i in range(len(e)) if mask[i]]
        rows = []
        for i in real:
            positives = [distance(e[i], e[j]) for j in real if labels[j] == labels[i]]
            negatives = [distance(e[i], e[j]) for j in real if labels[j] != labels[i]]
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


def cosines_by_anchor(inputs, labels):
    """For each row: cosines to its positives, and to its negatives."""
    e = unit(inputs[0])
    for i in range(len(e)):
        yield ([e[i] @ e[j] for j in range(len(e)) if j != i and labels[j] == labels[i]],
               [e[i] @ e[j] for j in range(len(e)) if labels[j] != labels[i]])


def multi_similarity(alpha, beta, base, eps):
    def oracle(inputs, labels, mask, parameters):
        rows = []
        for positives, negatives in cosines_by_anchor(inputs, labels):
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
    def oracle(inputs, labels, mask, parameters):
        rows = []
        for positives, negatives in cosines_by_anchor(inputs, labels):
            if positives:
                logits = np.array(positives + negatives) / temperature
                rows.append(mean([row_cross_entropy(logits, np.eye(len(logits))[p]) for p in range(len(positives))]))
        return mean(rows)
    return oracle


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def ranks(positives, negatives, temperature):
    """Of each positive: the rank among all, and among the positives."""
    for i, s in enumerate(positives):
        before = sum(sigmoid((other - s) / temperature) for j, other in enumerate(positives) if j != i)
        yield 1 + before + sum(sigmoid((other - s) / temperature) for other in negatives), 1 + before


def smooth_ap(temperature):
    def oracle(inputs, labels, mask, parameters):
        return mean([1 - mean([own / rank for rank, own in ranks(positives, negatives, temperature)])
                     for positives, negatives in cosines_by_anchor(inputs, labels) if positives])
    return oracle


def recall_at_k(temperature, ks):
    def oracle(inputs, labels, mask, parameters):
        rows = []
        for positives, negatives in cosines_by_anchor(inputs, labels):
            if positives:
                found = [rank for rank, _ in ranks(positives, negatives, temperature)]
                rows.append(1 - mean([sum(sigmoid(k - rank) for rank in found) / min(k, len(found)) for k in ks]))
        return mean(rows)
    return oracle


def contrastive(anchors, anchor_labels, others, other_labels, margin):
    """others: rows to compare with, each with the number of the anchor it is, or None."""
    rows = []
    for i, (a, y) in enumerate(zip(anchors, anchor_labels)):
        rows.append(sum((1 - a @ b) if z == y else max(0.0, a @ b - margin)
                        for (number, b), z in zip(others, other_labels) if number != i))
    return mean(rows)


def xbm_first_step(margin, factor=1.0):
    """The memory holds the batch alone; half the gradient of the pairs is that of the anchors."""
    def oracle(inputs, labels, mask, parameters):
        e = unit(inputs[0])
        return factor * contrastive(e, labels, list(enumerate(e)), labels, margin)
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
