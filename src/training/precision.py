"""Mixed precision: the floating-point format in which a network of images computes."""
import mindspore as ms
from mindspore import amp, nn

from src.common.errors import InputError
from src.common.registry import check_choice
from src.recipes.entries import ENTRIES


def level_for(amp_level: str, target: str) -> str:
    """Resolve `auto` for a device: O2 on Ascend, O0 elsewhere; other levels are unchanged.

    Args:
        amp_level: 'auto'; 'O0', float32; 'O2', float16 with BatchNorm in float32; 'bfloat16', as O2 with bfloat16.
        target: 'Ascend', 'GPU' or 'CPU'.

    Raises:
        InputError: no such level, or bfloat16 on a CPU.
    """
    check_choice(ENTRIES['amp_level'].type.choices or (), amp_level, '--amp_level')
    if amp_level == 'bfloat16' and target == 'CPU':
        raise InputError('--amp_level=bfloat16: MindSpore computes no bfloat16 networks on a CPU; choose O0 or O2')
    if amp_level == 'auto':
        return 'O2' if target == 'Ascend' else 'O0'
    return amp_level


def mixed_precision(network: nn.Cell, level: str) -> nn.Cell:
    """Cast the network to a level of level_for; its parameters keep their names and float32."""
    if level == 'O0':
        return network
    return amp.auto_mixed_precision(network, 'O2', dtype=ms.bfloat16 if level == 'bfloat16' else ms.float16)
