"""Evaluation on an Ascend 310 accelerator: write the model's inputs as .bin files, and compute accuracy from its outputs.

    python -m src.ascend310 inputs FOLDER [flags of eval.py]
    python -m src.ascend310 accuracy FOLDER [flags of eval.py]
    python -m src.ascend310 infer FOLDER MODEL DATA DEVICE_ID [flags of eval.py]      (scripts/run_infer_310.sh)

`inputs` writes FOLDER/inputs/00000.bin ..., each the float32 input of one run of the model; for a model with two inputs
FOLDER/inputs_1 holds the second ones. scripts/run_310.py, on the machine with the accelerator, writes the float32 outputs to
FOLDER/results under the same names (NAME_0.bin is read too). `accuracy` reads them instead of running the network and prints
the lines of eval.py. Both commands run on any machine and take the same flags. `infer` does all three steps on the machine with
the accelerator, with the checkpoint in the model's folder unless flags name another.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Optional, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.checkpoints.exported import network_identity, open_exported
from src.common.device import Process
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_json, write_json
from src.common.run import run
from src.recipes.command_line import parse_args
from src.recipes.entries import entries_of
from src.recipes.recipe import Recipe
from src.recipes.systems import SYSTEMS
from src.retrieval.embedding import EmbeddingOptions
from src.systems.trained import load_trained, system_for
from src.training.system import System

# On 'CPU' images would be embedded by onnxruntime instead of the network that stands in for the accelerator.
CARD = Process('Ascend', 0, 0, 1)
# File in the folder: the settings that its inputs were written with.
SETTINGS = 'inputs.json'


class Stand(nn.Cell):
    """Stand-in for a system's network, which has the network's parameters and so its identity."""

    def __init__(self, network: nn.Cell, folder: Path) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.folder = folder
        self.count = 0
        self.input_widths = getattr(network, 'input_widths', ())


class Recorder(Stand):
    """Write the inputs of every call to files. Outputs: (N, 2), another direction for each row."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        for number, values in enumerate(inputs):
            with replacing(self.folder / (f'inputs_{number}' if number else 'inputs') / f'{self.count:05d}.bin') as path:
                values.asnumpy().astype(np.float32).tofile(path)
        self.count += 1
        self.shapes = [values.shape for values in inputs]
        rows = len(inputs[0])
        numbers = np.arange(self.count * rows, (self.count + 1) * rows, dtype=np.float32)
        return Tensor(np.stack([numbers, np.ones_like(numbers)], axis=1))


class Replayed(Stand):
    """Return the accelerator's output files one after another.

    Outputs: float32 (N, D) for N rows of input.

    Raises:
        InputError: a file is missing, or is not N rows of float32.
    """

    def __call__(self, *inputs: Tensor) -> Tensor:
        names = [self.folder / 'results' / f'{self.count:05d}{end}.bin' for end in ('', '_0')]
        path = next((name for name in names if name.is_file()), None)
        if path is None:
            raise InputError(f'{names[0]}: no such result; run the model on {self.folder / "inputs"} first')
        values, rows = np.fromfile(path, np.float32), len(inputs[0])
        if not values.size or values.size % rows or path.stat().st_size % 4:
            raise InputError(f'{path}: is not {rows} rows of float32; run the model with the batch size it was exported with')
        self.count += 1
        return Tensor(values.reshape(rows, -1))


def write_inputs(system: System, folder: Path) -> Recorder:
    """Write the inputs of a system's evaluation; images in batches of its recipe's test_batch_size, the last one padded."""
    for old in sorted(folder.glob('inputs*/*.bin')):
        if not (folder / SETTINGS).is_file() or not re.fullmatch(r'\d{5,}\.bin', old.name):
            raise InputError(f'{old}: was not written by this command; name another folder')
    for old in (*folder.glob('inputs*/*.bin'), *folder.glob(SETTINGS)):
        old.unlink()
    system.network = recorder = Recorder(system.network, folder)
    system.run_on_test()
    write_json(folder / SETTINGS, settings(system.recipe))
    return recorder


def settings(recipe: Recipe) -> str:
    """Preprocessing settings stored with the inputs, so that results computed with different settings are refused."""
    if not SYSTEMS[recipe.system].images:
        return 'no images'
    options = EmbeddingOptions.of_recipe(recipe)
    return f'{options.identity.replace("+", " ")}, batches of {options.batch_size}'


def check_inputs(folder: Path, recipe: Recipe) -> None:
    """Raise InputError if the inputs in a folder were written with other settings."""
    written = read_json(folder / SETTINGS, 'write the inputs again')
    if written != settings(recipe):
        raise InputError(f'{folder}: its inputs were written with {written}; these flags give {settings(recipe)}; use '
                         'the flags that wrote them')


def infer(folder: Path, model: str, data: str, device_id: str, flags: Sequence[str]) -> Any:
    """Write the inputs, run the model on them by scripts/run_310.py, and measure; returns the figures.

    Raises:
        InputError: a model without a fixed batch, without its card or of another network, or one that does not run.
    """
    exported = open_exported(model)
    batch, card = exported.shapes[0][0], exported.card
    if not card or card.system not in SYSTEMS:
        raise InputError(f'{model}: does not say what was trained; export it again')
    if not batch:
        raise InputError(f'{model}: has no fixed batch size, which a 310 needs; export it with --batch_size=8')
    images = SYSTEMS[card.system].images
    place = 'dataset_path' if 'dataset_path' in entries_of(card.system) else 'data_path'
    given = [f'--save_ckpt={Path(model).parent}', f'--{place}={data}', *[f'--test_batch_size={batch}'] * images, *flags]
    recorder = main(['inputs', str(folder), *given])
    if network_identity(recorder.network) != card.model:
        raise InputError(f'{model}: was exported from another checkpoint; give its own as --save_ckpt')
    if recorder.shapes[0][0] != batch:
        raise InputError(f'{model}: takes {batch} rows, the data has {recorder.shapes[0][0]} classes; export it with '
                         f'--batch_size={recorder.shapes[0][0]}')
    converter = shutil.which('converter_lite')
    if converter and model.endswith('.mindir'):
        converted = folder / 'converted'
        _execute(model, converter, '--fmk=MINDIR', f'--modelFile={model}', f'--outputFile={converted}',
                 '--optimize=ascend_oriented')
        model = f'{converted}.mindir'
    _execute(model, sys.executable, str(Path(__file__).parents[1] / 'scripts' / 'run_310.py'), model, str(folder), device_id)
    return main(['accuracy', str(folder), *given])


def _execute(model: str, *command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise InputError(f'{model}: {Path(command[0]).name} {Path(command[1]).name} failed; see its output above')


def main(argv: Optional[List[str]] = None) -> Any:
    """Run a command; returns the figures of `accuracy` and `infer`, or the Recorder that has written `inputs`."""
    words = sys.argv[1:] if argv is None else argv
    if words in (['-h'], ['--help']):
        return print(__doc__)
    if len(words) < 2 or words[0] not in ('inputs', 'accuracy', 'infer'):
        raise InputError('give `inputs` or `accuracy`, a folder, and the flags of eval.py')
    if words[0] == 'infer':
        if len(words) < 5:
            raise InputError('infer: give a folder for its files, the model, the data, the device number, and flags of '
                             'eval.py')
        return infer(Path(words[1]), words[2], words[3], words[4], words[5:])
    command, folder = parse_args('eval', words[2:]), Path(words[1])
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    system = system_for(load_trained(command.options.save_ckpt, recipe_for=command.recipe_for), CARD)
    if words[0] == 'inputs':
        written = write_inputs(system, folder)
        print(f'{folder}: {written.count} runs of inputs {", ".join(map(str, written.shapes))}, float32; export the network '
              f'with --batch_size={written.shapes[0][0]}')
        return written
    check_inputs(folder, system.recipe)
    system.network = Replayed(system.network, folder)
    result = system.evaluate(str(command.options.save_ckpt))
    if command.options.result_file:
        write_json(command.options.result_file, result)
    return result


if __name__ == '__main__':
    run(main)
