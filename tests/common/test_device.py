"""Which device is taken, and CANN's simulation of one."""
import os

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


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Function (instructions of the processor, MindSpore's release, environment) that makes this process believe so."""
    def make(flags, version, **environment):
        info = tmp_path / 'cpuinfo'
        info.write_text(f'processor : 0\nflags : fpu {flags} sse2\n')
        monkeypatch.setattr(device, 'CPU_INFO', info)
        monkeypatch.setattr(ms, '__version__', version)
        for name in ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'):
            # Set first, so that what set_up sets is undone after the test.
            monkeypatch.setenv(name, '')
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(ms, 'set_device', lambda *words: None)
    return make


@pytest.mark.parametrize('flags, version, environment, slow', [
    ('avx2 avx512f', '2.9.0', {}, True), ('avx2 avx512f', '2.10.0', {}, True), ('avx2 avx512f', '2.8.0', {}, False),
    ('avx2', '2.10.0', {}, False), ('avx2 avx512f', '2.10.0', {'ONEDNN_MAX_CPU_ISA': 'AVX2'}, False),
    ('avx2 avx512f', '2.10.0', {'DNNL_MAX_CPU_ISA': 'avx2_vnni'}, False),
    ('avx2 avx512f', '2.10.0', {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE'}, True)])
def test_where_convolutions_are_slow(machine, capfd, flags, version, environment, slow):
    machine(flags, version, **environment)
    assert device.reference_convolutions() == slow
    device.set_up('CPU')
    assert capfd.readouterr() == ('', '') and device.reference_convolutions() == slow
    device.cap_instruction_set()
    capped = slow and not environment
    assert os.environ.get('ONEDNN_MAX_CPU_ISA') == ('AVX2' if capped else environment.get('ONEDNN_MAX_CPU_ISA'))
    said = capfd.readouterr().out.splitlines()
    assert len(said) == capped and all('ONEDNN_MAX_CPU_ISA=AVX2' in line and version in line for line in said)


def test_a_system_without_cpuinfo_has_no_slow_convolutions(machine, monkeypatch, tmp_path):
    machine('avx512f', '2.10.0')
    monkeypatch.setattr(device, 'CPU_INFO', tmp_path / 'none')
    assert not device.reference_convolutions()
