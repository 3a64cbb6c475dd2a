"""Which device is taken, and CANN's simulation of one."""
import mindspore as ms
import pytest

from src.common import device
from src.common.errors import InputError


def test_a_simulated_card_is_not_refused(monkeypatch, capsys):
    """Where CANN is installed without a card; here MindSpore's set_device is recorded."""
    asked = []
    monkeypatch.setattr(ms, 'set_device', lambda *words: asked.append(words))
    monkeypatch.setattr(device, 'glob', lambda pattern: [pattern] if pattern == '/' else [])
    monkeypatch.delenv('MS_SIMULATION_LEVEL', raising=False)
    assert device.set_up().target == 'CPU'
    with pytest.raises(InputError, match='--device_target=Ascend: this machine has no such device'):
        device.set_up('Ascend')
    monkeypatch.setenv('MS_SIMULATION_LEVEL', '0')
    assert device.set_up() == device.set_up('Ascend') == device.Process('Ascend', 0, 0, 1)
    assert asked == [('CPU',), ('Ascend', 0), ('Ascend', 0)]
    assert 'device: Ascend' in capsys.readouterr().out
