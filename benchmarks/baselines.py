"""Accuracy without training, which every recipe is held against: pixels, colour histograms, ridge regression.

    python benchmarks/baselines.py images Ebay_test.txt                        # Recall@1, each image against all others
    python benchmarks/baselines.py images reid_query.txt reid_gallery.txt      # queries against a gallery
    python benchmarks/baselines.py zero_shot data --dataset=CUB --mode=att     # DEM's files
    python benchmarks/baselines.py gbu data/CUB                                # the layout of xlsa17

A list is that of Stanford Online Products, `path label` or `path label camera`. Each takes seconds on one core.
Measured: drawings of 240 classes of 4 or 5: pixels 0.136, histograms 0.020. Groceries, session 2 against session 1: pixels
0.186, histograms 0.534. CUB att, VGG fc7: 0.525 by cosine, 0.529 by Euclidean distance. GBU's split of CUB, VGG fc7,
cosine: T1 0.506. The penalty is chosen on held-out training classes.
"""
import numpy as np
import tools
from PIL import Image

from src.accuracy import accuracy, knn_classify, per_class_accuracy, recall_at_k
from src.datasets.dem import load_dem
from src.datasets.image_list import read_image_list
from src.datasets.mat_file import read_mat

PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1, 10)  # times the mean of the diagonal of inputs.T @ inputs


def pixels(path, size=16):
    """A picture shrunk to size x size: (3 * size * size,) float32, each picture with mean 0."""
    values = np.asarray(Image.open(path).convert('RGB').resize((size, size), Image.BILINEAR), np.float32).reshape(-1)
    return values - values.mean()


def histogram(path, bins=8, size=64):
    """Joint histogram of the colours, square-rooted, so that the cosine is Hellinger's affinity: (bins ** 3,) float32."""
    colours = np.asarray(Image.open(path).convert('RGB').resize((size, size), Image.BILINEAR)).reshape(-1, 3)
    cell = (colours.astype(np.int64) * bins // 256) @ (bins * bins, bins, 1)
    return np.sqrt(np.bincount(cell, minlength=bins ** 3) / len(cell)).astype(np.float32)


def images(queries, gallery):
    lists = [read_image_list(name) for name in ([queries, gallery] if gallery else [queries])]
    for describe in (pixels, histogram):
        arrays = [np.stack([describe(path) for path in listed.paths]) for listed in lists]
        others = {'gallery': arrays[1], 'gallery_labels': lists[1].labels} if gallery else {}
        print(f'{describe.__name__:10} Recall@1 {recall_at_k(arrays[0], lists[0].labels, **others)[1]:.4f}')


def ridge(inputs, outputs, penalty):
    """The matrix W that minimises |inputs W - outputs|^2 + penalty * mean of the diagonal of inputs.T @ inputs * |W|^2."""
    products = inputs.T @ inputs
    return np.linalg.solve(products + penalty * products.diagonal().mean() * np.eye(len(products)), inputs.T @ outputs)


def predict(semantics, features, test_semantics, test_features, class_ids, metric, penalty):
    """Regress features on the semantics of each training image, predict each class's feature, take the nearest.

    Everything is centred by the training images' means.
    """
    mean, middle = semantics.mean(0, dtype=np.float64), features.mean(0, dtype=np.float64)
    weights = ridge(semantics - mean, features - middle, penalty)
    prototypes = ((test_semantics - mean) @ weights).astype(np.float32)
    return knn_classify((test_features - middle).astype(np.float32), prototypes, class_ids, metric=metric)


def chosen_penalty(semantics, features, labels, metric, classify):
    """The penalty that classifies best one third of the training classes, which are then left out of the fit."""
    classes = np.random.default_rng(0).permutation(np.unique(labels))
    held = np.isin(labels, classes[:len(classes) // 3])
    ids, first = np.unique(labels[held], return_index=True)
    prototypes = semantics[held][first]
    scores = [classify(predict(semantics[~held], features[~held], prototypes, features[held], ids, metric, penalty),
                       labels[held]) for penalty in PENALTIES]
    return PENALTIES[int(np.argmax(scores))]


def zero_shot(folder, dataset, mode, metric):
    data = load_dem(folder, dataset, mode)
    semantics = np.concatenate(data.train_semantics, axis=1)
    penalty = chosen_penalty(semantics, data.train_features, data.train_labels, metric, accuracy)
    test = data.test
    found = predict(semantics, data.train_features, np.concatenate(test.semantics, axis=1), test.features, test.class_ids,
                    metric, penalty)
    print(f'{dataset} {mode} {metric}: ridge {penalty:g}, accuracy {accuracy(found, test.labels):.4f}')


def gbu(folder, metric):
    """T1: the mean over the unseen classes of the share of their images found among the unseen classes."""
    read = {name: read_mat(f'{folder}/att_splits.mat', name) for name in ('att', 'trainval_loc', 'test_unseen_loc')}
    features, labels = (read_mat(f'{folder}/res101.mat', name) for name in ('features', 'labels'))
    labels, features = labels.reshape(-1).astype(np.int64), features.T.astype(np.float32)
    train, unseen = (read[name].reshape(-1).astype(np.int64) - 1 for name in ('trainval_loc', 'test_unseen_loc'))
    semantics = read['att'].T.astype(np.float32)
    classes = np.unique(labels[unseen])

    def by_class(found, truth):
        return per_class_accuracy(found, truth, np.unique(truth))

    described = semantics[labels[train] - 1]
    penalty = chosen_penalty(described, features[train], labels[train], metric, by_class)
    found = predict(described, features[train], semantics[classes - 1], features[unseen], classes, metric, penalty)
    print(f'GBU {metric}: ridge {penalty:g}, T1 {by_class(found, labels[unseen]):.4f}')


def main():
    parser = tools.parser(__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True)
    chosen = kinds.add_parser('images')
    chosen.add_argument('queries')
    chosen.add_argument('gallery', nargs='?')
    chosen = kinds.add_parser('zero_shot')
    chosen.add_argument('folder')
    chosen.add_argument('--dataset', choices=('AwA', 'CUB'), default='CUB')
    chosen.add_argument('--mode', choices=('att', 'word', 'fusion'), default='att')
    chosen.add_argument('--metric', choices=('euclidean', 'cosine'), default='cosine')
    chosen = kinds.add_parser('gbu')
    chosen.add_argument('folder')
    chosen.add_argument('--metric', choices=('euclidean', 'cosine'), default='cosine')
    args = parser.parse_args()
    if args.kind == 'images':
        images(args.queries, args.gallery)
    elif args.kind == 'zero_shot':
        zero_shot(args.folder, args.dataset, args.mode, args.metric)
    else:
        gbu(args.folder, args.metric)


if __name__ == '__main__':
    main()
