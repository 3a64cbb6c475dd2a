"""The generated data: published layout, repeatable, learnable on unseen classes and only through the semantics."""
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from src.common.errors import InputError
from src.datasets.dem import load_dem
from src.samples.dem_sample import make_dem_sample

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# From the published description: file -> columns, rows counted in training images, test images or unseen classes.
LAYOUT = {
    'AwA_data/train_googlenet_bn.mat': ('train', 1024), 'AwA_data/test_googlenet_bn.mat': ('test', 1024),
    'AwA_data/attribute/Z_s_con.mat': ('train', 85), 'AwA_data/attribute/pca_te_con_10x85.mat': ('unseen', 85),
    'AwA_data/wordvector/train_word.mat': ('train', 1000), 'AwA_data/wordvector/test_vectors.mat': ('unseen', 1000),
    'AwA_data/test_labels.mat': ('test', 1), 'AwA_data/testclasses_id.mat': ('unseen', 1),
    'CUB_data/train_cub_googlenet_bn.mat': ('train', 1024), 'CUB_data/test_cub_googlenet_bn.mat': ('test', 1024),
    'CUB_data/train_attr.mat': ('train', 312), 'CUB_data/test_proto.mat': ('unseen', 312),
    'CUB_data/wordvector/train_word.mat': ('train', 1000), 'CUB_data/wordvector/test_vectors.mat': ('unseen', 1000),
    'CUB_data/test_labels_cub.mat': ('test', 1), 'CUB_data/testclasses_id.mat': ('unseen', 1),
}
ROWS = {'AwA': {'train': 3200, 'test': 800, 'unseen': 10}, 'CUB': {'train': 3000, 'test': 1000, 'unseen': 50}}
CASES = [('AwA', 'att'), ('AwA', 'word'), ('AwA', 'fusion'), ('CUB', 'att'), ('CUB', 'word'), ('CUB', 'fusion')]


def test_published_layout(dem_data):
    written = {path.relative_to(dem_data).as_posix() for path in dem_data.rglob('*') if path.is_file()}
    assert written == set(LAYOUT)
    for path, (rows, width) in LAYOUT.items():
        variable = os.path.basename(path)[:-4]
        shape = (ROWS[path[:3]][rows], width)
        if variable == 'Z_s_con':
            with h5py.File(dem_data / path) as contents:
                assert contents[variable].shape == shape
        else:
            assert scipy.io.loadmat(dem_data / path)[variable].shape == shape
    assert sum((dem_data / path).stat().st_size for path in written) < 40e6


def test_v73_file_is_known_as_one(dem_data):
    path = dem_data / 'AwA_data' / 'attribute' / 'Z_s_con.mat'
    with pytest.raises(NotImplementedError, match='v7.3'):
        scipy.io.loadmat(path)
    with open(path, 'rb') as contents:
        header = contents.read(128)
    assert header.startswith(b'MATLAB 7.3 MAT-file') and header[124:] == b'\x00\x02IM'


@pytest.mark.parametrize('dataset, mode', CASES)
def test_values(dem_data, dataset, mode):
    data = load_dem(dem_data, dataset, mode)
    assert data.train_features.min() == 0 and 0.2 < (data.train_features == 0).mean() < 0.8
    assert len(data.seen_class_ids) == {'AwA': 40, 'CUB': 150}[dataset]
    assert set(data.test.labels) == set(data.test.class_ids)
    if mode != 'word':
        assert data.train_semantics[0].min() >= 0
        highest = {'AwA': 1, 'CUB': 100}[dataset]
        assert 0.9 * highest < data.train_semantics[0].max() <= highest


def ridge_accuracy(data, semantics, unseen, cosine):
    """Ridge regression from semantics to features, then the nearest unseen prototype by a loop over the classes."""
    mean, scale = semantics.mean(0), semantics.std()
    x = (semantics - mean) / scale
    y = data.train_features.astype(np.float64)
    weight = np.linalg.solve(x.T @ x + 0.1 * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
    prototypes = (unseen - mean) / scale @ weight + y.mean(0)
    distances = []
    for prototype in prototypes:
        if cosine:
            norms = np.linalg.norm(data.test.features, axis=1) * np.linalg.norm(prototype)
            distances.append(-(data.test.features @ prototype) / norms)
        else:
            distances.append(((data.test.features - prototype) ** 2).sum(1))
    return (data.test.class_ids[np.argmin(distances, 0)] == data.test.labels).mean()


@pytest.mark.parametrize('dataset, mode', CASES)
def test_unseen_classes_are_learnable_through_the_semantics_alone(dem_data, dataset, mode):
    data = load_dem(dem_data, dataset, mode)
    semantics = np.concatenate(data.train_semantics, 1).astype(np.float64)
    unseen = np.concatenate(data.test.semantics, 1).astype(np.float64)
    assert ridge_accuracy(data, semantics, unseen, mode != 'att') > 0.8
    # With every class described as another one, nothing is left but chance: 0.1 and 0.02.
    swapped = np.roll(unseen, 1, axis=0)
    assert ridge_accuracy(data, semantics, swapped, mode != 'att') < 0.1


def test_as_a_command_and_the_seed_decides(dem_data, tmp_path):
    folder = str(tmp_path / 'new' / 'data')
    done = subprocess.run([sys.executable, '-m', 'src.samples.dem_sample', folder], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    assert done.stdout.count('\n') == 1 and folder in done.stdout and not done.stderr
    assert load_dem(folder, 'AwA', 'fusion').train_features.shape == (3200, 1024)
    line = make_dem_sample(tmp_path / 'other', 1)
    assert str(tmp_path / 'other') in line and '\n' not in line
    first = load_dem(dem_data, 'CUB', 'word')
    for written, same in ((folder, True), (tmp_path / 'other', False)):
        again = load_dem(written, 'CUB', 'word')
        assert np.array_equal(again.train_features, first.train_features) == same
        assert np.array_equal(again.train_semantics[0], first.train_semantics[0]) == same


@pytest.mark.parametrize('name', ['AwA_data', 'CUB_data'])
def test_nothing_is_written_over(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'mine.mat').write_text('mine')
    with pytest.raises(InputError, match=f'{name}: exists; remove it or name another folder'):
        make_dem_sample(str(tmp_path))
    assert [path.name for path in tmp_path.rglob('*')] == [name, 'mine.mat']


def test_command_refuses_what_is_not_a_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    done = subprocess.run([sys.executable, '-m', 'src.samples.dem_sample', str(tmp_path / 'file')], cwd=ROOT,
                          check=False, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and str(tmp_path / 'file') in done.stderr
