"""Networks through onnxruntime, which runs them faster than MindSpore on a CPU; it is not a requirement."""
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple, Union

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.checkpoints.protobuf import message_type
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.registry import check_choice
from src.networks.convolution import plain_convolutions
from src.networks.folding import fold_batch_norm

# One float32 array an input -> float32 array of the embeddings.
Run = Callable[..., Array]
# Shapes of the inputs of a model, 0 for a dimension of any size.
Shapes = List[List[int]]

ENGINES = ('mindspore', 'onnxruntime')
# Relative difference by rounding. GPU and Ascend round the factors of their products, to 10 bits of mantissa.
TOLERANCE = {'CPU': 1e-5, 'GPU': 1e-3, 'Ascend': 1e-2}
FEW_IMAGES = 500  # for fewer the export takes longer than it saves (ResNet50: 3 s)
# The fields of onnx.proto that lead to the shape of an output.
OnnxModel = message_type(
    ('Model', 'graph', 7, 'Graph'), ('Graph', 'output', 12, 'Value*'), ('Value', 'type', 2, 'Type'),
    ('Type', 'tensor_type', 1, 'Tensor'), ('Tensor', 'shape', 2, 'Shape'), ('Shape', 'dim', 1, 'Dimension*'),
    ('Dimension', 'dim_value', 1, 'int64'), ('Dimension', 'dim_param', 2, 'string'))


def has_onnxruntime() -> bool:
    return importlib.util.find_spec('onnxruntime') is not None


def write_onnx(network: nn.Cell, shapes: Sequence[Sequence[int]], batch_size: int, path: Union[str, Path]) -> None:
    """Export a network as ONNX. shapes: of its inputs, without the batch; batch_size: 0 for any."""
    names = [f'input_{i}' for i in range(len(shapes))]
    axes = {} if batch_size else {name: {0: 'batch'} for name in [*names, 'embedding']}
    traced = [Tensor(np.zeros((batch_size or 2, *shape), np.float32)) for shape in shapes]
    with plain_convolutions(network):
        ms.onnx.export(_Once(network), *traced, file_name=str(path), input_names=names, output_names=['embedding'],
                       dynamic_axes=axes)
    if not batch_size:
        _name_output_batch(Path(path))


def _name_output_batch(path: Path) -> None:
    """Declare the output of an ONNX file as (batch, D): MindSpore names the dynamic axes of inputs alone, and onnxruntime
    warns whenever a batch has another size than the traced one."""
    model = OnnxModel()
    model.ParseFromString(path.read_bytes())
    rows = model.graph.output[0].type.tensor_type.shape.dim[0]
    rows.ClearField('dim_value')
    rows.dim_param = 'batch'
    path.write_bytes(model.SerializeToString())


class _Once(nn.Cell):
    """A new cell around a network: MindSpore's ONNX export damages the graph that it keeps of a cell for its next export."""

    def __init__(self, network: nn.Cell):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs)


def open_onnx(path: str) -> Tuple[Run, Shapes]:
    """An ONNX file ready to run, and the shapes of its inputs.

    Raises:
        InputError: onnxruntime is not installed, or the file is damaged.
    """
    if not has_onnxruntime():
        raise InputError(f'{path} needs onnxruntime to run: pip install onnxruntime, or export a MINDIR')
    import onnxruntime
    options = onnxruntime.SessionOptions()
    # By default it binds threads to all cores of the machine, even those that this process may not use.
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no base class of their own
        raise InputError(f'{path}: damaged or no exported model; export it again') from error
    inputs = session.get_inputs()
    # A dimension of any size has a name instead.
    shapes = [[size if isinstance(size, int) else 0 for size in put.shape] for put in inputs]
    return lambda *arrays: session.run(None, {put.name: array for put, array in zip(inputs, arrays)})[0], shapes


def difference(given: Array, expected: Array) -> float:
    """Largest difference, relative to the largest expected value; NaN if any value is NaN."""
    return float(np.abs(given - expected).max()) / (float(np.abs(expected).max()) or 1.0)


class Engine:
    """Runs a trained network on batches of one shape; on a CPU through onnxruntime if that is installed, else with BatchNorm
    folded into the convolutions.

    The first batch runs through the network as it is too. Unless the results are equal to 1e-5, so do the remaining batches.
    One line on standard error says which engine runs. Later changes of the network's weights have no effect.

    Args:
        network: in evaluation mode, images (batch, 3, H, W) -> (batch, D).
        engine: 'mindspore', 'onnxruntime', or None for onnxruntime if it is installed, on a CPU and for at least
            FEW_IMAGES images.
        target: device of this process: 'CPU', 'GPU' or 'Ascend'.
        count: number of images, if it is known.

    Inputs: images, float32 array. Outputs: float32 array (batch, D).

    Raises:
        InputError: onnxruntime is asked for but not installed, or not on a CPU.
    """

    def __init__(self, network: nn.Cell, *, engine: Optional[str] = None, target: str = 'CPU',
                 count: Optional[int] = None):
        if engine:
            check_choice(ENGINES, engine, '--engine')
        possible = target == 'CPU' and has_onnxruntime()
        if engine == 'onnxruntime' and not possible:
            raise InputError('--engine=onnxruntime: ' + ('not installed here: pip install onnxruntime, or leave the '
                             'flag out' if target == 'CPU' else f'runs on a CPU, this is {target}; leave the flag out'))
        few = count is not None and count < FEW_IMAGES
        if engine is None:
            engine = 'onnxruntime' if possible and not few else 'mindspore'
        self.name = engine
        self._network = network
        self._folds = engine == 'mindspore' and target == 'CPU' and not few
        self._session: Optional[Run] = None

    def __call__(self, images: Array) -> Array:
        if self._session:
            return self._session(images)
        embeddings = self._network(Tensor(images)).asnumpy().astype(np.float32, copy=False)
        if self.name == 'onnxruntime':
            self._start(images, embeddings)
        elif self._folds:
            self._fold(images, embeddings)
        return embeddings

    def _fold(self, images: Array, expected: Array) -> None:
        """Fold BatchNorm if the folded network gives the network's output for these images."""
        self._folds, folded = False, fold_batch_norm(self._network)

        def run(array: Array) -> Array:
            return folded(Tensor(array)).asnumpy().astype(np.float32, copy=False)
        if difference(run(images), expected) <= TOLERANCE['CPU']:
            self._session = run

    def _start(self, images: Array, expected: Array) -> None:
        """Open the session if it gives MindSpore's output for these images."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'network.onnx')
            mode = ms.get_context('mode')
            try:
                ms.set_context(mode=ms.GRAPH_MODE)  # the other mode exports no BatchNorm
                write_onnx(self._network, [images.shape[1:]], len(images), path)
                session = open_onnx(path)[0]
                apart = difference(session(images), expected)
                why = '' if apart <= TOLERANCE['CPU'] else f'onnxruntime gives another result, by {apart:.1e}'
            except (InputError, RuntimeError, ValueError, TypeError) as error:
                why = f'no ONNX of this network: {str(error).strip().splitlines()[0]}'
            finally:
                ms.set_context(mode=mode)
        if why:
            self.name = 'mindspore'
            print(f'engine: mindspore; {why}', file=sys.stderr)
        else:
            self._session = session
            print(f'engine: onnxruntime, equal to mindspore to {apart:.1e} on the first batch', file=sys.stderr)
