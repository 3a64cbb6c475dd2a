"""Hubness of ridge regression on a benchmark in both directions: semantics to features, as in DEM, and features to semantics.

    python benchmarks/gbu_hubness.py --data_path=xlsa17/data/CUB

Both regressions are fitted to the same images, features and semantics (scaled as in the recipe `chosen`); their ridge is
the one of RIDGES with the largest T1 on the val classes. Skewness of N_k: how unevenly the nearest prototypes of the
images of unseen classes are spread over the unseen classes (src.accuracy.hubness). DEM (arXiv 1611.05088, section 3.4)
claims less hubness in the space of features.
"""
import numpy as np
import tools

from src.accuracy import hubness, knn_classify, per_class_accuracy
from src.accuracy.kernel_ridge import fit_kernel_ridge, kernel
from src.datasets.gbu import open_gbu
from src.datasets.scaling import fit_scaling

RIDGES = 10.0 ** np.arange(-4, 3)
K = (1, 5, 10)


def to_features(train, part, ridge):
    """(queries, prototypes) in the space of features."""
    labels, centres = np.searchsorted(train.seen_class_ids, train.train_labels), train.seen_prototypes[0]
    return part.features, kernel(part.semantics[0], centres, 0) @ fit_kernel_ridge(train.train_features, labels, centres, 0,
                                                                                   ridge)


def to_semantics(train, part, ridge):
    """(queries, prototypes) in the space of semantics."""
    x, y = train.train_features.astype(np.float64), train.train_semantics[0].astype(np.float64)
    gram = x.T @ x
    matrix = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)
    return part.features @ matrix, part.semantics[0]


def scaled(data):
    """(training data, unseen classes), both scaled."""
    scaling = fit_scaling(data, 'root_principal', 'root_centred')
    return scaling.train(data), scaling.part(data.test)


def measure(train, part, ridge, direction, metric):
    """T1 and the skewness of N_k on the unseen classes of a scaled part."""
    queries, prototypes = direction(train, part, ridge)
    predicted = knn_classify(queries, prototypes, part.class_ids, metric)
    return per_class_accuracy(predicted, part.labels, part.class_ids), hubness(queries, prototypes, K, metric)


def main():
    """Print the table."""
    parser = tools.parser(__doc__)
    parser.add_argument('--data_path', required=True)
    args = parser.parse_args()
    bench = open_gbu(args.data_path)
    choosing, final = scaled(bench.choosing(1)), scaled(bench.final())
    print(bench.statistics())
    print('| direction, nearest by | ridge | T1 | ' + ' | '.join(f'skewness of N_{k}' for k in K) + ' |\n' + '|---' * 6 + '|')
    for name, direction in (('semantics to features', to_features), ('features to semantics', to_semantics)):
        for metric in ('euclidean', 'cosine'):
            ridge = max(RIDGES, key=lambda one: measure(*choosing, one, direction, metric)[0])
            accuracy, skewness = measure(*final, ridge, direction, metric)
            shown = ' | '.join(f'{skewness[k]:.2f}' if k in skewness else '' for k in K)
            print(f'| {name}, {metric} | {ridge:g} | {100 * accuracy:.1f} | {shown} |', flush=True)


if __name__ == '__main__':
    main()
