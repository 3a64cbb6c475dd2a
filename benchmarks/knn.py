"""Nearest-prototype classification: our time beside the matrix product's own and beside the published way.

    python benchmarks/knn.py           # the sizes of DEM's AwA and CUB tests, a few seconds

The published way handles one test feature at a time.
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.accuracy import knn_classify  # noqa: E402

SIZES = {'AwA': (6180, 10), 'CUB': (2933, 50)}  # test images, unseen classes as published


def published_knn(queries, prototypes, labels, metric):
    """The published computation, k = 1: for each query the prototypes' distances, sorted whole."""
    predicted = []
    for query in queries:
        if metric == 'euclidean':
            difference = np.tile(query, (len(prototypes), 1)) - prototypes
            distance = (difference ** 2).sum(axis=1) ** 0.5
        else:
            distance = [1 - query @ p / (np.sqrt((query ** 2).sum()) * np.sqrt((p ** 2).sum())) for p in prototypes]
        predicted.append(labels[np.argsort(distance)[0]])
    return np.array(predicted)


def best_time(function, *arguments, runs=3):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        value = function(*arguments)
        times.append(time.perf_counter() - start)
    return value, min(times)


def main():
    parser = argparse.ArgumentParser(description='Time of nearest-prototype classification.')
    parser.add_argument('--width', type=int, nargs='+', default=[1024, 4096], help='feature widths')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for width in args.width:
        for name, (images, classes) in SIZES.items():
            prototypes = rng.standard_normal((classes, width), dtype=np.float32)
            labels = rng.permutation(200)[:classes]
            queries = prototypes[rng.integers(0, classes, images)]
            queries = queries + 6 * rng.standard_normal((images, width), dtype=np.float32)
            _, product = best_time(lambda: queries.astype(np.float64) @ prototypes.T.astype(np.float64))
            for metric in ('euclidean', 'cosine'):
                ours, seconds = best_time(knn_classify, queries, prototypes, labels, metric)
                theirs, published = best_time(published_knn, queries, prototypes, labels, metric, runs=1)
                print(f'{name} {images} x {classes} x {width} {metric}: ours {1e3 * seconds:.1f} ms; published '
                      f'{1e3 * published:.0f} ms, {published / seconds:.0f} times ours; float64 product alone '
                      f'{1e3 * product:.1f} ms, ratio {seconds / product:.1f}; '
                      f'equal answers {np.mean(ours == theirs):.4f}')


if __name__ == '__main__':
    main()
