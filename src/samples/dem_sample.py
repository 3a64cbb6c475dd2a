"""Synthetic zero-shot data in the published file layout, to try every DEM command without a download.

    python -m src.samples.dem_sample FOLDER
"""
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

import h5py
import numpy as np
import scipy.io

from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import replacing
from src.common.run import run
from src.common.values import Parser

# Width of the hidden description of a class, from which its attributes, words and images are computed.
HIDDEN = 6
VISUAL = 1024
WORD = 1000
NOISE = 0.8  # standard deviation of the images around their class; class centres deviate by about 1.2


def _save(path: Path, array: Array) -> None:
    """Write a MATLAB file with one variable, which has the name of the file."""
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, {path.stem: array}, do_compression=True)


def _save_v73(path: Path, array: Array) -> None:
    """Write as MATLAB -v7.3 does: HDF5 after a 512-byte block that begins with MATLAB's 128-byte header."""
    with replacing(path) as temporary:
        with h5py.File(temporary, 'w', userblock_size=512) as contents:
            contents.create_dataset(path.stem, data=array, compression='gzip').attrs['MATLAB_class'] = np.bytes_('double')
        with open(temporary, 'r+b') as file:
            # Text, 8 bytes of subsystem offset, version 0x0200 and the little-endian mark.
            file.write(b'MATLAB 7.3 MAT-file'.ljust(116) + bytes(8) + b'\x00\x02IM')


def _make_classes(rng: np.random.Generator, count: int, attributes: int) -> Tuple[Array, Array, Array]:
    """Attributes in 0..1, mostly small, word vectors around 0 and the visual centre of every class."""
    hidden = rng.normal(size=(count, HIDDEN))

    def view(source: Array, width: int) -> Array:
        return source @ rng.normal(size=(HIDDEN, width)) / np.sqrt(HIDDEN)

    attribute = 1 / (1 + np.exp(2 - 4 * view(hidden, attributes)))
    word = 0.1 * (view(hidden, WORD) + 0.3 * rng.normal(size=(count, WORD)))
    return attribute, word, 2 * view(np.tanh(hidden), VISUAL) - 1


def _photograph(rng: np.random.Generator, visual: Array, images: int) -> Tuple[Array, Array]:
    """Features (classes * images, VISUAL) float32, non-negative and mostly zero, and the class of each image."""
    labels = np.repeat(np.arange(len(visual)), images)
    features = visual[labels] + NOISE * rng.standard_normal((len(labels), visual.shape[1]), np.float32)
    return np.maximum(features, 0).astype(np.float32), labels


def make_dem_sample(folder: Union[str, Path], seed: int = 0) -> str:
    """Write FOLDER/AwA_data and FOLDER/CUB_data, CUB with the word vectors that the published data lacks.

    Classes have a hidden description. Attributes, word vectors and, through tanh, noise and ReLU, the visual features are
    functions of it, so that a network trained on the seen classes generalises to the unseen ones.
    AwA: 40 seen and 10 unseen classes, 85 attributes 0..1; CUB: 150 and 50, 312 attributes 0..100; both 1000
    word dimensions and 1024 features. Files are MATLAB version 5, Z_s_con.mat is 7.3.

    Args:
        folder: output folder, created if it does not exist.
        seed: not negative; the same seed writes the same values.

    Returns:
        one line with the counts of the written data.

    Raises:
        InputError: the folder cannot be written, or holds such data already.
    """
    for path in (Path(folder) / 'AwA_data', Path(folder) / 'CUB_data'):
        if path.exists():
            raise InputError(f'{path}: exists; remove it or name another folder')
    rng = np.random.default_rng(seed)
    lines = []
    # The AwA recipe moves an attribute's weight by about 1e-5 a step, and attributes of 0..1 do not help as those of
    # 0..100 do: in the few hundred steps that such small data has time for, only small features are learnt.
    for dataset, seen, unseen, images, attributes, attribute_scale, visual_scale in (
            ('AwA', 40, 10, 80, 85, 1, 0.1), ('CUB', 150, 50, 20, 312, 100, 1)):
        attribute, word, visual = _make_classes(rng, seen + unseen, attributes)
        attribute *= attribute_scale
        train, train_class = _photograph(rng, visual[:seen], images)
        test, test_class = _photograph(rng, visual[seen:], images)
        train *= visual_scale
        test *= visual_scale
        # Ids of unseen classes are scattered, and the rows of the prototypes are not in the order of the ids.
        ids = rng.permutation(seen + unseen)[:unseen] + 1
        awa, home = dataset == 'AwA', Path(folder) / f'{dataset}_data'
        middle = '' if awa else 'cub_'
        _save(home / f'train_{middle}googlenet_bn.mat', train)
        _save(home / f'test_{middle}googlenet_bn.mat', test)
        _save(home / ('test_labels.mat' if awa else 'test_labels_cub.mat'), ids[test_class, None].astype(np.float64))
        _save(home / 'testclasses_id.mat', ids[:, None].astype(np.float64))
        _save(home / 'wordvector' / 'train_word.mat', word[train_class])
        _save(home / 'wordvector' / 'test_vectors.mat', word[seen:])
        if awa:
            _save_v73(home / 'attribute' / 'Z_s_con.mat', attribute[train_class])
            _save(home / 'attribute' / 'pca_te_con_10x85.mat', attribute[seen:])
        else:
            _save(home / 'train_attr.mat', attribute[train_class])
            _save(home / 'test_proto.mat', attribute[seen:])
        lines.append(f'{dataset}_data: {seen} seen and {unseen} unseen classes, {len(train)} and {len(test)} images')
    return f'{folder}: {"; ".join(lines)}'


def main(args: Optional[Sequence[str]] = None) -> None:
    parser = Parser(prog='python -m src.samples.dem_sample',
                    description='Write synthetic AwA and CUB data in the published .mat layout.')
    parser.add_argument('folder', help='folder to write AwA_data and CUB_data into')
    print(make_dem_sample(parser.parse_args(args).folder))


if __name__ == '__main__':
    run(main)
