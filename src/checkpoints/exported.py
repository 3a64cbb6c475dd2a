"""Exported models: written and compared with the network, opened and run; and the engine that runs a network on a CPU.

Beside `X.mindir`, `X.onnx` or `X.air` lies `X.mindir.json` and so on: what a user of the model needs to know (recipe,
image size, transform, order of the channels, threshold, classes), the checksum of the file it belongs to and the
identity of the weights.
"""
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from src.checkpoints.weights import quiet_mindspore
from src.common.errors import InputError
from src.common.files import replacing
from src.networks.convolution import plain_convolutions

SUFFIXES = {'MINDIR': '.mindir', 'ONNX': '.onnx', 'AIR': '.air'}
READABLE = ('.mindir', '.onnx')
ENGINES = ('mindspore', 'onnxruntime')
# Of float32 on a CPU; the others round the factors of their products, to 10 bits of mantissa.
TOLERANCE = {'CPU': 1e-5, 'GPU': 1e-3, 'Ascend': 1e-2}
FEW_IMAGES = 500  # below that the export takes longer than it saves (ResNet50: 3 s)


@dataclass(frozen=True)
class Exported:
    """An exported model that can be run.

    run: one float32 array an input -> float32 array of the embeddings. shapes: of the inputs, 0 for a batch of any
    size. facts: of the file beside it, {} where there is none.
    """
    path: str
    run: Callable
    shapes: List[List[int]]
    facts: Dict[str, Any] = field(default_factory=dict)

    @property
    def image_shape(self) -> Tuple[int, int, int]:
        """(batch (0 for any), height, width); InputError when this is no model of images."""
        shapes = self.shapes
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or 0 in shapes[0][2:]:
            raise InputError(f'{self.path}: takes inputs of shape {", ".join(map(str, shapes))}, not images (batch, 3, '
                             'height, width); export a network of images')
        batch, _, height, width = shapes[0]
        return batch, height, width


def network_identity(network: nn.Cell) -> str:
    """A name for the weights of a network, the same whatever file they came from: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in sorted(network.get_parameters(), key=lambda parameter: parameter.name):
        values = parameter.asnumpy()
        digest.update(f'{parameter.name} {values.dtype} {values.shape}'.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def export_network(network: nn.Cell, shapes: Sequence[Sequence[int]], *, file_name: str, file_format: str = 'MINDIR',
                   batch_size: int = 1, target: str = 'CPU', facts: Optional[Dict[str, Any]] = None) -> str:
    """Export a network, compare what the file gives with what the network gives on random inputs, and say what it is.

    Files other than AIR are the same on every device: export them in a process on the CPU, where they are compared
    to 1e-5. AIR needs a process on Ascend and is not read back.

    Args:
        network: takes float32 inputs whose first dimension is the batch; `tolerance`, where it has one, is how far its
            output is known to be off by rounding.
        shapes: of the inputs, without the batch.
        file_name: with or without the format's suffix.
        file_format: 'MINDIR', 'ONNX' or 'AIR'.
        batch_size: 0 for any, which AIR does not have.
        target: what this process runs on: 'CPU', 'GPU' or 'Ascend'.
        facts: for the file beside it, as JSON: recipe, image_size, transform, bgr, threshold, classes.

    Returns:
        The path of the file.

    Raises:
        InputError: AIR without Ascend or of any batch, a folder, a file that cannot be written, or one that gives another
            output; nothing is left of it then.
    """
    if file_format == 'AIR' and target != 'Ascend':
        raise InputError(f'--file_format=AIR: MindSpore writes AIR on Ascend only, this is {target}; '
                         'choose MINDIR or ONNX')
    if file_format == 'AIR' and batch_size == 0:
        raise InputError('--batch_size=0: AIR has no batch of any size; give the size it will be run with')
    if os.path.isdir(file_name):
        raise InputError(f'--file_name={file_name}: is a folder; give the name of a file')
    suffix = SUFFIXES[file_format]
    path = file_name if file_name.endswith(suffix) else file_name + suffix
    network.set_train(False)
    rng = np.random.default_rng(0)
    # Of any size: checked at another batch than the one that is traced.
    examples = [rng.standard_normal((batch_size or 3, *shape)).astype(np.float32) for shape in shapes]
    expected = network(*map(Tensor, examples)).asnumpy()
    with replacing(path) as temporary:
        try:
            with quiet_mindspore():
                _write(network, shapes, batch_size, temporary, file_format)
        except (RuntimeError, ValueError) as error:
            raise InputError(f'cannot export {path}: {str(error).strip().splitlines()[0]}') from error
        if not temporary.is_file():  # MindSpore does not tell of a full disk here
            raise InputError(f'cannot write {path}: MindSpore has written nothing; look whether its disk is full or '
                             'cannot be written to')
        temporary.chmod(0o644)
        apart = None
        if file_format == 'MINDIR' or file_format == 'ONNX' and importlib.util.find_spec('onnxruntime'):
            given = {'MINDIR': _open_mindir, 'ONNX': _open_onnx}[file_format](str(temporary))[0](*examples)
            apart = _difference(given, expected)
            if not apart <= max(TOLERANCE[target], getattr(network, 'tolerance', 0)):
                raise InputError(f'{path}: the exported model differs from the network by {apart:.3g}; not kept')
        with replacing(sidecar(path)) as note:
            note.write_text(json.dumps({**(facts or {}), 'model': network_identity(network),
                                        'checksum': _checksum(temporary)}, indent=1) + '\n', encoding='utf-8')
    checked = 'not read back here' if apart is None else f'largest difference to the network {apart:.3g}'
    print(f'exported {path}: batch {batch_size or "of any size"}, {checked}')
    return path


def sidecar(path: str) -> str:
    """The file of facts beside an exported model."""
    return path + '.json'


def open_exported(path: str) -> Exported:
    """An exported .mindir or .onnx, ready to run, with the facts beside it.

    Raises:
        InputError: no such file, damaged, of another kind, beside facts of another model; or .onnx without onnxruntime.
    """
    if not path.endswith(READABLE):
        raise InputError(f'{path}: not an exported model, which ends in {" or ".join(READABLE)}')
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such exported model')
    facts = read_facts(path)
    run, shapes = (_open_onnx if path.endswith('.onnx') else _open_mindir)(path)
    return Exported(path, run, shapes, facts)


def read_facts(path: str) -> Dict[str, Any]:
    """What the file beside an exported model says, {} where there is none.

    Raises:
        InputError: it cannot be read or belongs to another model.
    """
    beside = sidecar(path)
    if not os.path.isfile(beside):
        return {}
    try:
        facts = json.loads(Path(beside).read_text(encoding='utf-8'))
        if not isinstance(facts, dict):
            raise ValueError('no table')
    except (OSError, ValueError) as error:
        raise InputError(f'{beside}: damaged; remove it, or export the model again') from error
    if facts.get('checksum') != _checksum(path):
        raise InputError(f'{beside}: describes another model than {path}; remove it, or export the model again')
    return facts


def add_facts(folder: Union[str, Path], model: str, **facts: Any) -> List[str]:
    """Add facts to the files beside those exported models in a folder whose weights are `model`; returns their paths."""
    told = []
    for beside in sorted(one for suffix in SUFFIXES.values() for one in Path(folder).glob(f'*{suffix}.json')):
        path = str(beside)[:-len('.json')]
        try:
            known = read_facts(path)
        except (InputError, OSError):  # another's, or its model is gone
            continue
        if known.get('model') == model:
            with replacing(beside) as part:
                part.write_text(json.dumps({**known, **facts}, indent=1) + '\n', encoding='utf-8')
            told.append(path)
    return told


def _write(network, shapes, batch_size, path, file_format):
    with plain_convolutions(network):
        _write_plain(network, shapes, batch_size, path, file_format)


def _write_plain(network, shapes, batch_size, path, file_format):
    traced = [Tensor(np.zeros((batch_size or 2, *shape), np.float32)) for shape in shapes]
    if file_format == 'ONNX':
        names = [f'input_{i}' for i in range(len(shapes))]
        axes = {} if batch_size else {name: {0: 'batch'} for name in [*names, 'embedding']}
        ms.onnx.export(_Once(network), *traced, file_name=str(path), input_names=names, output_names=['embedding'],
                       dynamic_axes=axes)
        return
    if batch_size == 0:
        traced = [Tensor(shape=[None, *shape], dtype=ms.float32) for shape in shapes]
    ms.export(network, *traced, file_name=str(path), file_format=file_format)


class _Once(nn.Cell):
    """A network as a cell of its own: MindSpore's ONNX export spoils the graph it keeps of the cell, for a second export."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *inputs):
        return self.network(*inputs)


def _difference(given, expected):
    """The largest difference as a share of the largest value; NaN where a value is."""
    return float(np.abs(given - expected).max()) / (float(np.abs(expected).max()) or 1.0)


def _checksum(path):
    digest = hashlib.blake2b(digest_size=16)
    with open(path, 'rb') as file:
        while block := file.read(2 ** 20):
            digest.update(block)
    return digest.hexdigest()


def _open_mindir(path):
    # MindSpore has no call that tells the input of a MINDIR, and prints its own words about a damaged one.
    model = ModelProto()
    try:
        with open(path, 'rb') as file:
            model.ParseFromString(file.read())
        shapes = [list(put.tensor[0].dims) for put in model.graph.input]
        cell = nn.GraphCell(ms.load(path))
    except (DecodeError, IndexError, RuntimeError, ValueError) as error:
        raise _unreadable(path) from error
    return lambda *inputs: cell(*map(Tensor, inputs)).asnumpy(), _known_sizes(shapes)


def _open_onnx(path):
    if importlib.util.find_spec('onnxruntime') is None:
        raise InputError(f'{path} needs onnxruntime to run: pip install onnxruntime, or export a MINDIR')
    import onnxruntime  # not a requirement
    options = onnxruntime.SessionOptions()
    # By itself it binds threads to every core of the machine, those that this process may not use too.
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    try:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no base class of their own
        raise _unreadable(path) from error
    names = [put.name for put in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs)))[0], _known_sizes(
        [put.shape for put in session.get_inputs()])


def _unreadable(path):
    return InputError(f'{path}: damaged or no exported model; export it again')


def _known_sizes(shapes):
    return [[size if isinstance(size, int) and size > 0 else 0 for size in shape] for shape in shapes]


class Engine:
    """Runs a trained network on batches of one shape, on a CPU through onnxruntime where that is installed.

    The first batch runs through MindSpore, and through onnxruntime too: unless both are equal to 1e-5 the rest stays
    with MindSpore. What was chosen is told in one line on standard error. A change of the network's weights after the
    first batch is not seen.

    Args:
        network: in evaluation mode, images (batch, 3, H, W) -> (batch, D).
        engine: 'mindspore', 'onnxruntime', or None for onnxruntime where it is installed, on a CPU and for at least
            FEW_IMAGES images.
        target: what this process runs on.
        count: how many images there will be, where that is known.

    Inputs: images, float32 array. Outputs: float32 array (batch, D).

    Raises:
        InputError: onnxruntime is asked for and not installed, or not on a CPU.
    """

    def __init__(self, network: nn.Cell, *, engine: Optional[str] = None, target: str = 'CPU',
                 count: Optional[int] = None):
        installed = importlib.util.find_spec('onnxruntime') is not None
        if engine not in (None, *ENGINES):
            raise InputError(f'--engine={engine}: choose one of {", ".join(ENGINES)}')
        if engine == 'onnxruntime' and not (installed and target == 'CPU'):
            raise InputError('--engine=onnxruntime: ' + ('not installed here: pip install onnxruntime, or leave the '
                             'flag out' if target == 'CPU' else f'runs on a CPU, this is {target}; leave the flag out'))
        if engine is None:
            few = count is not None and count < FEW_IMAGES
            engine = 'onnxruntime' if installed and target == 'CPU' and not few else 'mindspore'
        self.name = engine
        self._network = network
        self._session: Optional[Callable] = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self._session:
            return self._session(images)
        embeddings = self._network(Tensor(images)).asnumpy().astype(np.float32, copy=False)
        if self.name == 'onnxruntime':
            self._start(images, embeddings)
        return embeddings

    def _start(self, images, expected):
        """Open the session when it gives what MindSpore gave for these images."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'network.onnx')
            mode = ms.get_context('mode')
            try:
                ms.set_context(mode=ms.GRAPH_MODE)  # the other mode exports no BatchNorm
                _write(self._network, [images.shape[1:]], len(images), path, 'ONNX')
                session = _open_onnx(path)[0]
                apart = _difference(session(images), expected)
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
