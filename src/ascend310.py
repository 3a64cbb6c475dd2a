"""What surrounds a model on an Ascend 310: the evaluation's inputs as .bin files, and the accuracy of the result files.

    python -m src.ascend310 inputs FOLDER [flags of eval.py]
    python -m src.ascend310 accuracy FOLDER [flags of eval.py]

The first writes FOLDER/inputs/00000.bin ..., each the float32 input of one run of the model, in FOLDER/inputs_1 the second
input of those that have two. The card (scripts/run_310.py) writes the float32 outputs to FOLDER/results under the same
names, NAME_0.bin as well. The second reads them in the place of the network and prints what eval.py prints. Both run on any
machine, with the same flags.
"""
import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.common.device import Process
from src.common.errors import InputError
from src.common.files import replacing
from src.recipes.set_parser import parse_args, run
from src.systems.images import ImageSystem, embedding_options
from src.systems.trained import load_system
from src.training.loop import write_result

# Not the CPU, on which images would be embedded by onnxruntime.
CARD = Process('Ascend', 0, 0, 1)
# In the folder, how the images of its inputs are embedded.
EMBEDDED = 'inputs.json'


class Stand(nn.Cell):
    """Takes the place of a system's network, and has its parameters, by which it is known."""

    def __init__(self, network, folder):
        super().__init__(auto_prefix=False)
        self.network = network
        self.folder = folder
        self.count = 0
        self.input_widths = getattr(network, 'input_widths', ())


class Recorder(Stand):
    """Writes what it is called with. Outputs: zeros (N, 1)."""

    def __call__(self, *inputs):
        for number, values in enumerate(inputs):
            with replacing(self.folder / (f'inputs_{number}' if number else 'inputs') / f'{self.count:05d}.bin') as path:
                values.asnumpy().astype(np.float32).tofile(path)
        self.count += 1
        self.shapes = [values.shape for values in inputs]
        return Tensor(np.zeros((len(inputs[0]), 1), np.float32))


class Replayed(Stand):
    """Gives what the card wrote for the runs, in their order.

    Outputs: float32 (N, D), N the rows of the inputs.

    Raises:
        InputError: a result is missing, or is no N rows of float32.
    """

    def __call__(self, *inputs):
        names = [self.folder / 'results' / f'{self.count:05d}{end}.bin' for end in ('', '_0')]
        path = next((name for name in names if name.is_file()), None)
        if path is None:
            raise InputError(f'{names[0]}: no such result; run the model on {self.folder / "inputs"} first')
        values, rows = np.fromfile(path, np.float32), len(inputs[0])
        if not values.size or values.size % rows or path.stat().st_size % 4:
            raise InputError(f'{path}: is not {rows} rows of float32; run the model with the batch it was exported with')
        self.count += 1
        return Tensor(values.reshape(rows, -1))


def write_inputs(system, folder: Path) -> Recorder:
    """Write the inputs of a system's evaluation; images in batches of its recipe's test_batch_size, the last filled up."""
    for old in (*folder.glob('inputs*/*.bin'), *folder.glob(EMBEDDED)):
        old.unlink()
    system.network = recorder = Recorder(system.network, folder)
    if isinstance(system, ImageSystem):
        for images in system.test_images():
            system.embed(images, True)
    else:
        system.prototypes(system.test_part().semantics)
    with replacing(folder / EMBEDDED) as path:
        path.write_text(json.dumps(way_of_embedding(system.recipe)))
    return recorder


def way_of_embedding(recipe) -> dict:
    """What the inputs of an evaluation hang on beside the data: results of another number of runs would not be noticed."""
    options = {**embedding_options(recipe), 'test_batch_size': recipe.test_batch_size} if 'image_size' in recipe else {}
    return {name: value for name, value in options.items() if name != 'num_workers'}


def check_inputs(folder: Path, recipe) -> None:
    """Raise InputError where the inputs of a folder were written for another way of embedding."""
    try:
        written = json.loads((folder / EMBEDDED).read_text())
        other = [name for name, value in way_of_embedding(recipe).items() if written.get(name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f'{folder / EMBEDDED}: missing or broken; write the inputs again') from error
    if other:
        raise InputError(f'{folder}: its inputs were written with another {", ".join(other)}; give the flags that wrote them')


def main(argv=None):
    """Returns the figures, or the number of files written."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) < 2 or words[0] not in ('inputs', 'accuracy'):
        raise InputError('give inputs or accuracy, a folder, and the flags of eval.py')
    command, folder = parse_args('eval', words[2:]), Path(words[1])
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    system = load_system(command, CARD)
    if system.recipe.system == 'generalised':
        raise InputError(f'{system.recipe.dataset}: not for generalised zero-shot learning; use eval.py')
    if words[0] == 'inputs':
        written = write_inputs(system, folder)
        print(f'{folder}: {written.count} runs of inputs {", ".join(map(str, written.shapes))}, float32; export the network '
              f'with --batch_size={written.shapes[0][0]}')
        return written.count
    check_inputs(folder, system.recipe)
    system.network = Replayed(system.network, folder)
    result = system.evaluate(str(command.options.save_ckpt))
    if command.options.result_file:
        write_result(result, command.options.result_file)
    return result


if __name__ == '__main__':
    run(main)
