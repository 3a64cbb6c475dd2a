"""The benchmark's protocol through the doors: chosen on val classes, trained, reported, and repeated by eval.py."""
import json

import numpy as np
import pytest
import scipy.io

import eval as eval_door
import train as train_door


@pytest.fixture(scope='module')
def benchmark(tmp_path_factory):
    """12 classes of 20 images whose features follow from their attributes; 3 unseen, 3 val."""
    folder = tmp_path_factory.mktemp('data') / 'TOY'
    folder.mkdir()
    rng = np.random.default_rng(0)
    attributes, count = rng.normal(size=(12, 10)), 240
    labels = np.repeat(np.arange(12), 20)
    features = attributes[labels] @ rng.normal(size=(10, 16)) + 0.5 * rng.standard_normal((count, 16))
    test = np.arange(count) % 20 >= 16

    def places(mask):
        return (np.flatnonzero(mask) + 1).astype(np.uint8)[:, None]
    scipy.io.savemat(folder / 'res101.mat', {'features': features.T, 'labels': labels[:, None] + 1})
    scipy.io.savemat(folder / 'att_splits.mat', {
        'att': attributes.T, 'trainval_loc': places((labels < 9) & ~test), 'test_seen_loc': places((labels < 9) & test),
        'test_unseen_loc': places(labels >= 9), 'train_loc': places(labels < 6),
        'val_loc': places((labels >= 6) & (labels < 9))})
    return folder


@pytest.mark.slow
def test_the_protocol_is_one_command(benchmark, tmp_path, capsys):
    flags = ['--dataset=GBU', '--device_target=CPU', f'--data_path={benchmark}']
    result = train_door.main([*flags, '--recipe=ranked', '--batch_size=24', '--total_iter_num=120', '--lr=0.003',
                              f'--save_ckpt={tmp_path}'])
    assert 'TOY: 12 classes, 3 unseen, 10 numbers a class, 240 images' in capsys.readouterr().out
    assert 0.7 < result['T1'] <= 1 and 0 < result['u'] <= 1 and 0 < result['s'] <= 1
    assert result['H'] == pytest.approx(2 * result['u'] * result['s'] / (result['u'] + result['s']))
    assert result['found']['chosen_on']['unseen'] == 3 and result['gamma'] == result['found']['gamma']
    assert json.loads((tmp_path / 'result.json').read_text())['AUSUC'] == result['AUSUC']
    assert (tmp_path / 'gzsl_curve.png').stat().st_size > 1000
    again = eval_door.main([*flags, f'--save_ckpt={tmp_path}'])
    for name in ('T1', 'u', 's', 'H', 'AUSUC', 'gamma'):
        assert again[name] == pytest.approx(result[name], abs=1e-6), name
