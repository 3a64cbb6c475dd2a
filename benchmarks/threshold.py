"""The bound of a threshold over random splits: how often the other half of the classes shows more false matches than wanted.

    python benchmarks/threshold.py                                  # simulated: classes of 3 to 8 images, alike in groups
    python benchmarks/threshold.py --embeddings=gallery.npy --rate=0.05     # of infer.py, from a list with labels

Each split halves the classes at random. The threshold is found on one half (src.accuracy.OpenSet.threshold), and the images
of the other half are searched among themselves. The bound holds when at most 5 % of the splits show a higher share than
--rate. It is compared with a threshold without a bound: the similarity at which the first half has the wanted share of false
matches.
"""
import time

import numpy as np
import tools

from src.accuracy import OpenSet
from src.common.errors import InputError
from src.retrieval.embedding_file import EmbeddingFile


def simulated(classes, groups, width=32):
    """Embeddings and labels: classes of 3 to 8 images and unequal spread around centres that are alike within a group."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((groups, width))[rng.integers(0, groups, classes)] + rng.standard_normal((classes, width))
    labels = np.repeat(np.arange(classes), rng.integers(3, 9, classes))
    spread = 0.5 * rng.lognormal(0, 0.3, (classes, 1))
    return (centres[labels] + spread[labels] * rng.standard_normal((len(labels), width))).astype(np.float32), labels


def main():
    args = tools.parser(__doc__, embeddings=('', 'labelled file of infer.py; default: simulated'), rate=0.05, splits=200,
                        classes=(600, 'simulated'), groups=(200, 'simulated')).parse_args()
    if args.embeddings:
        file = EmbeddingFile(args.embeddings)
        x, labels = file.vectors(file.images, np.arange(file.count)), file.images.labels
    else:
        x, labels = simulated(args.classes, args.groups)
    classes = np.unique(labels)
    print(f'{len(x)} images of {len(classes)} classes, {args.splits} splits, wanted {args.rate:g}')
    rng = np.random.default_rng(1)
    rows, refused, began = [], 0, time.perf_counter()
    for _ in range(args.splits):
        half = np.isin(labels, rng.permutation(classes)[:len(classes) // 2])
        one, other = OpenSet(x[half], labels[half]), OpenSet(x[~half], labels[~half])
        try:
            threshold = one.threshold(args.rate)
        except InputError as error:
            refused += 1
            why = str(error)
            continue
        plain = one.identification_rate(args.rate)[1]
        rows.append((*other.at(threshold.similarity), *other.at(plain), threshold.effective, threshold.similarity))
    if refused:
        print(f'{refused} splits refused, the last: {why}')
    if rows:
        false, found, lost, plain_false, plain_found, plain_lost, effective, similarity = np.array(rows).T
        for name, own, is_found, is_lost in (('with the bound', false, found, lost),
                                             ('without', plain_false, plain_found, plain_lost)):
            print(f'{name:15}: more than {args.rate:g} false matches in {np.mean(own > args.rate):6.1%} of {len(own)} splits '
                  f'(mean {own.mean():.4f}, highest {own.max():.4f}); found {is_found.mean():.3f}, lost {is_lost.mean():.3f}')
        print(f'effective queries {effective.mean():.0f} of {len(x) / 2:.0f}, threshold {similarity.mean():.3f} '
              f'+- {similarity.std():.3f}; limit: 5 % of the splits; {time.perf_counter() - began:.0f} s')


if __name__ == '__main__':
    main()
