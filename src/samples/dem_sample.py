"""Generated zero-shot data in exactly the published file layout, to try every DEM command without a download.

    python -m src.samples.dem_sample FOLDER
"""
import argparse
import os

import h5py
import numpy as np
import scipy.io

from src.common.errors import InputError
from src.common.files import replacing

# Dimensions of the hidden description of a class, from which its attributes, words and images all follow.
HIDDEN = 6
VISUAL = 1024
WORD = 1000


def _save(path, name, array):
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, {name: array}, do_compression=True)


def _save_v73(path, name, array):
    """Write as MATLAB -v7.3 does: HDF5 behind a 512-byte block that begins with MATLAB's own 128-byte header."""
    with replacing(path) as temporary:
        with h5py.File(temporary, 'w', userblock_size=512) as contents:
            contents.create_dataset(name, data=array, compression='gzip').attrs['MATLAB_class'] = np.bytes_('double')
        with open(temporary, 'r+b') as contents:
            # Text, 8 bytes of subsystem offset, version 0x0200 and the little-endian mark.
            contents.write(b'MATLAB 7.3 MAT-file'.ljust(116) + bytes(8) + b'\x00\x02IM')


def _make_classes(rng, count, attributes):
    """Attributes in 0..1, mostly small, word vectors around 0 and the visual centre of every class."""
    hidden = rng.normal(size=(count, HIDDEN))

    def view(source, width):
        return source @ rng.normal(size=(HIDDEN, width)) / np.sqrt(HIDDEN)

    attribute = 1 / (1 + np.exp(2 - 4 * view(hidden, attributes)))
    word = 0.1 * (view(hidden, WORD) + 0.3 * rng.normal(size=(count, WORD)))
    return attribute, word, 2 * view(np.tanh(hidden), VISUAL) - 1


def _photograph(rng, visual, images, noise):
    """Features (classes * images, VISUAL) float32, non-negative and mostly zero, and the class of each image."""
    labels = np.repeat(np.arange(len(visual)), images)
    features = visual[labels] + noise * rng.standard_normal((len(labels), visual.shape[1]), np.float32)
    return np.maximum(features, 0).astype(np.float32), labels


def make_dem_sample(folder, seed=0, noise=0.8):
    """Write FOLDER/AwA_data and FOLDER/CUB_data, CUB with the word vectors that the published data lacks.

    Classes have a hidden description; attributes, word vectors and, through tanh, noise and ReLU, the visual
    features are functions of it, so that what is learnt on the seen classes holds for the unseen ones.
    AwA: 40 seen and 10 unseen classes, 85 attributes 0..1; CUB: 150 and 50, 312 attributes 0..100; both 1000
    word dimensions and 1024 features. Files are MATLAB version 5, Z_s_con.mat is 7.3.

    Args:
        folder: where to write, made if it does not exist.
        seed (int): not negative; the same seed writes the same values.
        noise (float): standard deviation of an image around its class; the class centres' own is about 1.2.

    Returns:
        str, one line that says what was written.

    Raises:
        InputError: the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    folder = str(folder)
    lines = []
    # The recipe for AwA attributes moves a weight by about 1e-5 a step, and attributes of 0..1 do not help as those
    # of 0..100 do: only small features are learnt in the few hundred steps that such small data has time for.
    for dataset, seen, unseen, images, attributes, attribute_scale, visual_scale in (
            ('AwA', 40, 10, 80, 85, 1, 0.1), ('CUB', 150, 50, 20, 312, 100, 1)):
        attribute, word, visual = _make_classes(rng, seen + unseen, attributes)
        attribute *= attribute_scale
        train, train_class = _photograph(rng, visual[:seen], images, noise)
        test, test_class = _photograph(rng, visual[seen:], images, noise)
        train *= visual_scale
        test *= visual_scale
        # Ids of unseen classes are scattered and the rows of the prototypes are in another order than the ids.
        ids = rng.permutation(seen + unseen)[:unseen] + 1
        home = os.path.join(folder, f'{dataset}_data')
        middle = '_googlenet_bn' if dataset == 'AwA' else '_cub_googlenet_bn'
        _save(os.path.join(home, f'train{middle}.mat'), f'train{middle}', train)
        _save(os.path.join(home, f'test{middle}.mat'), f'test{middle}', test)
        labels = 'test_labels' if dataset == 'AwA' else 'test_labels_cub'
        _save(os.path.join(home, f'{labels}.mat'), labels, ids[test_class, None].astype(np.float64))
        _save(os.path.join(home, 'testclasses_id.mat'), 'testclasses_id', ids[:, None].astype(np.float64))
        _save(os.path.join(home, 'wordvector', 'train_word.mat'), 'train_word', word[train_class])
        _save(os.path.join(home, 'wordvector', 'test_vectors.mat'), 'test_vectors', word[seen:])
        if dataset == 'AwA':
            _save_v73(os.path.join(home, 'attribute', 'Z_s_con.mat'), 'Z_s_con', attribute[train_class])
            _save(os.path.join(home, 'attribute', 'pca_te_con_10x85.mat'), 'pca_te_con_10x85', attribute[seen:])
        else:
            _save(os.path.join(home, 'train_attr.mat'), 'train_attr', attribute[train_class])
            _save(os.path.join(home, 'test_proto.mat'), 'test_proto', attribute[seen:])
        lines.append(f'{dataset}_data: {seen} seen and {unseen} unseen classes, {len(train)} and {len(test)} images')
    return f'{folder}: {"; ".join(lines)}'


def main(args=None):
    parser = argparse.ArgumentParser(description='Write generated AwA and CUB data in the published .mat layout.')
    parser.add_argument('folder', help='folder to write AwA_data and CUB_data into')
    try:
        print(make_dem_sample(parser.parse_args(args).folder))
    except InputError as error:
        parser.exit(2, f'{error}\n')


if __name__ == '__main__':
    main()
