"""Exported models: written and compared with the network, opened and run, each with a card inside and beside it.

The card says what somebody who has the exported model alone must know to use it. A .mindir or .onnx holds it among its
metadata, and beside `X.mindir`, `X.onnx` or `X.air` it lies as `X.mindir.json` and so on, where eval.py adds thresholds and
other programs read it. The one beside is taken where there is one.
"""
import hashlib
import json
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from src.checkpoints.checkpoint import quiet_mindspore
from src.checkpoints.engine import TOLERANCE, Run, Shapes, difference, has_onnxruntime, open_onnx, write_onnx
from src.checkpoints.protobuf import message_type
from src.common.device import cap_instruction_set
from src.common.errors import InputError
from src.common.files import check_replaceable, replacing
from src.common.records import as_table, parse_json, read_json, read_record
from src.networks.convolution import plain_convolutions
from src.networks.demnet import SemanticNetwork

SUFFIXES = {'MINDIR': '.mindir', 'ONNX': '.onnx', 'AIR': '.air'}
READABLE = ('.mindir', '.onnx')
ADVICE = 'remove it, or export the model again'
# An identity or checksum that is filled in later.
UNKNOWN = '0' * 32
# The name of the card among the metadata of a model.
KEY = b'metric_learning_card'
UserInfo = message_type(('Model', 'pairs', 14, 'Pair*'), ('Pair', 'key', 1, 'bytes'), ('Pair', 'value', 2, 'bytes'))


@dataclass(frozen=True)
class Card:
    """Facts stored with an exported model; None: unknown.

    Attributes:
        recipe, system, dataset: names of those that trained the network.
        image_size: pixels, or [height, width].
        eval_transform, bgr, interpolation, mirror, turned, mean, deviation: how images are given to the network, see
            src.retrieval.embedding.EmbeddingOptions; no mean and deviation where they are ImageNet's.
        threshold: see src.retrieval.thresholds.
        model: identity of the network, see network_identity.
        checksum: of the file of the model without the card; inside a model of the card too.

    Raises:
        ValueError: a size below 1, an identity or checksum that is not 32 hexadecimal digits, or no three means and positive
            deviations.
    """
    recipe: Optional[str] = None
    system: Optional[str] = None
    dataset: Optional[str] = None
    image_size: Union[int, List[int], None] = None
    eval_transform: Optional[str] = None
    bgr: Optional[bool] = None
    interpolation: Optional[str] = None
    mirror: Optional[bool] = None
    turned: Optional[bool] = None
    mean: Optional[List[float]] = None
    deviation: Optional[List[float]] = None
    threshold: Optional[Dict[str, Any]] = None
    model: str = UNKNOWN
    checksum: str = UNKNOWN

    def __post_init__(self) -> None:
        sides = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size or [1, 1]
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f'image_size is {self.image_size}, expected pixels, or [height, width]')
        for name, values, least in (('mean', self.mean, -math.inf), ('deviation', self.deviation, 0)):
            if values is not None and (len(values) != 3 or min(values) <= least):
                raise ValueError(f'{name} is {values}, expected three numbers' + ' above 0' * (least == 0))
        for name, value in (('model', self.model), ('checksum', self.checksum)):
            if not re.fullmatch('[0-9a-f]{32}', value):
                raise ValueError(f'{name} is "{value[:40]}", expected 32 hexadecimal digits')


@dataclass(frozen=True)
class Exported:
    """An exported model that can be run.

    run: one float32 array an input -> float32 array of the embeddings. shapes: of the inputs, 0 for a batch of any
    size. card: None if there is none, beside the model or inside. model: identity of the network; without a card it is that
    of the file's bytes, so that its embeddings are told from those of all others.
    """
    path: str
    run: Run
    shapes: Shapes
    model: str
    card: Optional[Card] = None

    @property
    def image_shape(self) -> Tuple[int, int, int]:
        """(batch (0 for any), height, width); InputError if this is no model of images."""
        shapes = self.shapes
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or 0 in shapes[0][2:]:
            raise InputError(f'{self.path}: takes inputs of shape {", ".join(map(str, shapes))}, not images (batch, 3, '
                             'height, width); export a network of images')
        batch, _, height, width = shapes[0]
        return batch, height, width


def network_identity(network: nn.Cell) -> str:
    """The identity of a network: a hash of its weights, whatever file they came from; 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in sorted(network.get_parameters(), key=lambda parameter: parameter.name):
        values = parameter.asnumpy()
        digest.update(f'{parameter.name} {values.dtype} {values.shape}'.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def export_network(network: nn.Cell, shapes: Sequence[Sequence[int]], *, file_name: str, file_format: str = 'MINDIR',
                   batch_size: int = 1, target: str = 'CPU', card: Optional[Card] = None) -> str:
    """Export a network, compare the file's output with the network's on random inputs, and write its card.

    MINDIR and ONNX are the same on every device: export them in a process on the CPU, where they are compared to 1e-5.
    AIR needs a process on Ascend and is not compared.

    Args:
        network: takes float32 inputs whose first dimension is the batch.
        shapes: of the inputs, without the batch.
        file_name: with or without the format's suffix.
        file_format: 'MINDIR', 'ONNX' or 'AIR'.
        batch_size: 0 for any, which AIR does not have.
        target: device of this process: 'CPU', 'GPU' or 'Ascend'.
        card: what to write beside the model; model and checksum are filled in.

    Returns:
        The path of the file.

    Raises:
        InputError: AIR without Ascend or of any batch, a folder, a file that cannot be written or gives another output.
            No file is left then.
    """
    path = _path(file_name, file_format, batch_size, target)
    network.set_train(False)
    rng = np.random.default_rng(0)
    # A model for any batch size is compared at another size than the one that is traced.
    examples = [rng.standard_normal((batch_size or 3, *shape)).astype(np.float32) for shape in shapes]
    expected = network(*map(Tensor, examples)).asnumpy()
    if not os.path.exists(card_path(path)):  # which models of earlier releases have
        check_replaceable(path, [KEY], '--file_name')
    check_replaceable(card_path(path), [b'"checksum"'], '--file_name')
    apart = None
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as plain:
        # MindSpore writes to no path with blanks, quotes or letters beyond ASCII.
        made = Path(plain) / f'network{SUFFIXES[file_format]}'
        try:
            with quiet_mindspore():
                _write(network, shapes, batch_size, made, file_format)
        except (RuntimeError, ValueError) as error:
            raise InputError(f'cannot export {path}: {str(error).strip().splitlines()[0]}') from error
        if not made.is_file():  # MindSpore does not report a full disk here
            raise InputError(f'cannot write {path}: MindSpore has written nothing; look whether the disk of {plain} is full or '
                             'cannot be written to')
        if file_format == 'MINDIR' or file_format == 'ONNX' and has_onnxruntime():
            run = (_open_mindir if file_format == 'MINDIR' else open_onnx)(str(made))[0]
            apart = difference(run(*examples), expected)
            if not apart <= max(TOLERANCE[target], network.tolerance if isinstance(network, SemanticNetwork) else 0):
                raise InputError(f'{path}: the exported model differs from the network by {apart:.3g}; not kept')
        model = made.read_bytes()
        card = replace(card or Card(), model=network_identity(network), checksum=_checksum(model))
        temporary.write_bytes(model if file_format == 'AIR' else model + _entry(_text(_sealed(model, card))))
        _write_card(path, card)
    compared = 'not read back here' if apart is None else f'largest difference to the network {apart:.3g}'
    print(f'exported {path}: batch {batch_size or "of any size"}, {compared}')
    return path


def _path(file_name: str, file_format: str, batch_size: int, target: str) -> str:
    """The file to export to; see export_network for errors."""
    if file_format == 'AIR' and target != 'Ascend':
        raise InputError(f'--file_format=AIR: MindSpore writes AIR on Ascend only, this is {target}; '
                         'choose MINDIR or ONNX')
    if file_format == 'AIR' and batch_size == 0:
        raise InputError('--batch_size=0: AIR has no batch of any size; give the size it will be run with')
    if os.path.isdir(file_name):
        raise InputError(f'--file_name={file_name}: is a folder; give the name of a file')
    suffix = SUFFIXES[file_format]
    return file_name if file_name.endswith(suffix) else file_name + suffix


def _write(network: nn.Cell, shapes: Sequence[Sequence[int]], batch_size: int, path: Path, file_format: str) -> None:
    if file_format == 'ONNX':
        write_onnx(network, shapes, batch_size, path)
        return
    traced = [Tensor(np.zeros((batch_size, *shape), np.float32)) if batch_size
              else Tensor(shape=[None, *shape], dtype=ms.float32) for shape in shapes]
    with plain_convolutions(network):
        ms.export(network, *traced, file_name=str(path), file_format=file_format)


def open_exported(path: str) -> Exported:
    """Open an exported .mindir or .onnx with its card; one line on standard error says if it has none.

    Raises:
        InputError: no such file, damaged, of another kind; see read_card; or .onnx without onnxruntime.
    """
    if not path.endswith(READABLE):
        raise InputError(f'{path}: not an exported model, which ends in {" or ".join(READABLE)}')
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such exported model')
    card = read_card(path)
    run, shapes = (open_onnx if path.endswith('.onnx') else _open_mindir)(path)
    if card is None:
        print(f'{path}: has no card, inside or as {card_path(path)}: preprocessing is taken from the flags',
              file=sys.stderr)
    return Exported(path, run, shapes, card.model if card else _checksum(Path(path).read_bytes()), card)


def _open_mindir(path: str) -> Tuple[Run, Shapes]:
    # MindSpore has no call that returns the inputs of a MINDIR, and logs its own lines about a damaged one.
    model = ModelProto()
    try:
        with open(path, 'rb') as file:
            model.ParseFromString(file.read())
        shapes = [[max(size, 0) for size in put.tensor[0].dims] for put in model.graph.input]
        cap_instruction_set()
        cell = nn.GraphCell(ms.load(path))
    except (DecodeError, IndexError, RuntimeError, ValueError) as error:
        raise InputError(f'{path}: damaged or no exported model; export it again') from error
    return lambda *arrays: cell(*map(Tensor, arrays)).asnumpy(), shapes


def card_path(path: str) -> str:
    """The file of the card of an exported model."""
    return path + '.json'


def read_card(path: str) -> Optional[Card]:
    """The card of the exported model `path`: the one beside it, else the one inside; None if it has neither.

    Raises:
        InputError: one line that names the file and what is wrong: an entry, that the card beside is of another model, or that
            the model was changed.
    """
    model, inside = _split(Path(path).read_bytes())
    beside = card_path(path)
    if os.path.isfile(beside):
        card = read_record(Card, read_json(beside, ADVICE), beside, ADVICE)
        if card.checksum != _checksum(model):
            raise InputError(f'{beside}: describes another model than {path}; {ADVICE}')
    elif inside is not None:
        beside = f'{path}: the card inside'
        card = read_record(Card, parse_json(inside, beside, ADVICE), beside, ADVICE)
        if card.checksum != _sealed(model, card).checksum:
            raise InputError(f'{path}: was changed since it was exported; {ADVICE}')
    else:
        return None
    if card.model == UNKNOWN:
        raise InputError(f'{beside}: model is missing; {ADVICE}')
    return card


def _sealed(model: bytes, card: Card) -> Card:
    """The card to put into a model, whose checksum is of the model and of the card itself."""
    return replace(card, checksum=_checksum(model + _text(replace(card, checksum=UNKNOWN)).encode()))


def _entry(text: str) -> bytes:
    """An entry of the metadata of a model: the bytes of protobuf's field 14 with KEY and a text.

    That field is a list of pairs in both ONNX's ModelProto (metadata_props) and MindIR's (user_info), and what is appended to a
    message is added to its lists.
    """
    entry: bytes = UserInfo(pairs=[{'key': KEY, 'value': text.encode()}]).SerializeToString()
    return entry


def _split(model: bytes) -> Tuple[bytes, Optional[str]]:
    """The model without its card, and the card's text; None if it has none."""
    at = model.rfind(KEY)
    start = model.find(b'{', at)
    if at < 0 or start < 0:
        return model, None
    text = model[start:].decode('utf-8', 'replace')
    entry = _entry(text)
    return (model[:-len(entry)], text) if model.endswith(entry) else (model, None)


def _write_card(path: str, card: Card) -> None:
    with replacing(card_path(path)) as part:
        part.write_text(_text(card), encoding='utf-8')


def _text(card: Card) -> str:
    return json.dumps(as_table(card), indent=1) + '\n'


def add_threshold(folder: Union[str, Path], model: str, threshold: Dict[str, Any]) -> List[str]:
    """Write a threshold into the cards of the exported models of the network `model` in a folder.

    Returns:
        The paths of these models.
    """
    changed = []
    for beside in sorted(one for suffix in SUFFIXES.values() for one in Path(folder).glob(f'*{suffix}.json')):
        path = str(beside)[:-len('.json')]
        try:
            card = read_card(path)
        except (InputError, OSError):  # the card of another model, or its model is gone
            continue
        if card and card.model == model:
            _write_card(path, replace(card, threshold=threshold))
            changed.append(path)
    return changed


def _checksum(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()
