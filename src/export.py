"""Exported models: written, read back, and compared with the network."""
import importlib.util

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.errors import InputError
from src.files import replacing

SUFFIXES = {'MINDIR': '.mindir', 'ONNX': '.onnx', 'AIR': '.air'}
TOLERANCE = 1e-5


def export_network(network, shapes, file_name, file_format, batch_size, place):
    """Export a network, and compare what the file gives with what the network gives on random inputs.

    Args:
        network (Cell): takes float32 inputs whose first dimension is the batch.
        shapes (sequence of tuples): of the inputs, without the batch.
        file_name (str): with or without the format's suffix.
        file_format (str): 'MINDIR', 'ONNX', or on Ascend 'AIR', which is not read back.
        batch_size (int): 0 for any.
        place (Place): where this runs.

    Returns:
        str, the path of the file.

    Raises:
        InputError: AIR without Ascend, a file that cannot be written, or one that gives another output; nothing is left
            of it then.
    """
    if file_format == 'AIR' and place.target != 'Ascend':
        raise InputError(f'--file_format=AIR: MindSpore writes AIR on Ascend only, this is {place.target}; '
                         'choose MINDIR or ONNX')
    suffix = SUFFIXES[file_format]
    path = file_name if file_name.endswith(suffix) else file_name + suffix
    network.set_train(False)
    rng = np.random.default_rng(0)
    # Of any size: checked at another batch than the one that is traced.
    examples = [rng.standard_normal((batch_size or 3, *shape)).astype(np.float32) for shape in shapes]
    expected = network(*map(Tensor, examples)).asnumpy()
    with replacing(path) as temporary:
        try:
            _write(network, shapes, batch_size, temporary, file_format)
        except (RuntimeError, ValueError) as error:
            raise InputError(f'cannot export {path}: {str(error).strip().splitlines()[0]}') from error
        temporary.chmod(0o644)
        given = {'MINDIR': _run_mindir, 'ONNX': _run_onnx}.get(file_format, _not_read_back)(temporary, examples)
        difference = None if given is None else float(np.abs(given - expected).max())
        if difference is not None and not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise InputError(f'{path}: the exported model differs from the network by {difference:.3g}; not kept')
    checked = 'not read back here' if difference is None else f'largest difference to the network {difference:.3g}'
    print(f'exported {path}: batch {batch_size or "of any size"}, {checked}')
    return path


def _write(network, shapes, batch_size, path, file_format):
    traced = [Tensor(np.zeros((batch_size or 2, *shape), np.float32)) for shape in shapes]
    if file_format == 'ONNX':
        names = [f'input_{i}' for i in range(len(shapes))]
        axes = {} if batch_size else {name: {0: 'batch'} for name in [*names, 'embedding']}
        ms.onnx.export(network, *traced, file_name=str(path), input_names=names, output_names=['embedding'],
                       dynamic_axes=axes)
        return
    if batch_size == 0:
        traced = [Tensor(shape=[None, *shape], dtype=ms.float32) for shape in shapes]
    ms.export(network, *traced, file_name=str(path), file_format=file_format)


def _run_mindir(path, examples):
    return nn.GraphCell(ms.load(str(path)))(*map(Tensor, examples)).asnumpy()


def _run_onnx(path, examples):
    if importlib.util.find_spec('onnxruntime') is None:
        return None
    import onnxruntime  # not a requirement: only the check needs it
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {put.name: example for put, example in zip(session.get_inputs(), examples)})[0]


def _not_read_back(path, examples):
    return None
