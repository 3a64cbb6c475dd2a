"""Nearest-prototype classification: its time beside that of the matrix product alone and of the published code.

    python benchmarks/knn.py           # the sizes of DEM's AwA and CUB tests, a few seconds

The published code handles one test feature at a time.
"""
import numpy as np
import tools

from src.accuracy import knn_classify

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


def main():
    parser = tools.parser(__doc__)
    parser.add_argument('--width', type=int, nargs='+', default=[1024, 4096], help='feature widths')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for width in args.width:
        for name, (images, classes) in SIZES.items():
            prototypes = rng.standard_normal((classes, width), dtype=np.float32)
            labels = rng.permutation(200)[:classes]
            queries = prototypes[rng.integers(0, classes, images)]
            queries = queries + 6 * rng.standard_normal((images, width), dtype=np.float32)
            for metric in ('euclidean', 'cosine'):
                ours = knn_classify(queries, prototypes, labels, metric)
                taken = tools.in_turns({
                    'ours': lambda: knn_classify(queries, prototypes, labels, metric),
                    'product': lambda: queries.astype(np.float64) @ prototypes.T.astype(np.float64)}, 3, of_rounds=np.min)
                seconds, product = taken['ours'].wall, taken['product'].wall
                theirs, (published, _) = tools.timed(published_knn, queries, prototypes, labels, metric)
                print(f'{name} {images} x {classes} x {width} {metric}: ours {1e3 * seconds:.1f} ms; published '
                      f'{1e3 * published:.0f} ms, {published / seconds:.0f} times ours; float64 product alone '
                      f'{1e3 * product:.1f} ms, ratio {seconds / product:.1f}; '
                      f'equal answers {np.mean(ours == theirs):.4f}')


if __name__ == '__main__':
    main()
