"""The report that a user sends with a failure."""
import pytest

from src import __version__
from src.common.errors import InputError
from src.report import main


def test_the_report_names_versions_environment_recipe_and_last_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('ASCEND_HOME_PATH', str(tmp_path / 'cann'))
    monkeypatch.setenv('HCCL_CONNECT_TIMEOUT', '600')
    (tmp_path / 'cann').mkdir()
    (tmp_path / 'cann' / 'version.cfg').write_text('runtime=8.5.0\n')
    (tmp_path / 'train.log').write_text('\n'.join(f'line {number}' for number in range(60)))
    from mindspore import nn

    from src.checkpoints.checkpoint import Recorded, save_cell
    save_cell(nn.Dense(1, 1), tmp_path / 'train.ckpt', Recorded({'lr_max': 0.25}, device_num=8))
    main([str(tmp_path)])
    out = capsys.readouterr().out
    for part in (f'version of this project: {__version__}',
                 'mindspore: 2.', 'te: not in this environment', 'runtime=8.5.0', 'HCCL_CONNECT_TIMEOUT: 600',
                 'recipe: {"lr_max": 0.25}', 'devices of the training: 8', '    line 59', 'driver: '):
        assert part in out
    assert 'line 19\n' not in out
    (tmp_path / 'train-1_2.ckpt').write_bytes(b'half of it')
    main([str(tmp_path)])
    out = capsys.readouterr().out
    assert f'{tmp_path}/train-1_2.ckpt: ' in out and '    line 59' in out
    (tmp_path / 'x.ckpt').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'train.log').unlink()
    (tmp_path / 'train.log').mkdir()
    main([str(tmp_path)])
    assert 'files: train.ckpt (' in capsys.readouterr().out
    with pytest.raises(InputError, match='no such folder'):
        main([str(tmp_path / 'nothing')])
