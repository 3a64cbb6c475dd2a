"""Run an exported model on all inputs of a folder that `python -m src.ascend310 inputs` has written.

    python scripts/run_310.py MODEL FOLDER [DEVICE_ID]

A .mindir, converted by converter_lite, runs on the Ascend card by mindspore_lite, which is all that it needs beside numpy;
a .onnx on this CPU by onnxruntime, to try the files without a card. Writes FOLDER/results/NAME.bin.
"""
import sys
import time
from pathlib import Path

import numpy as np


def open_lite(path, device_id):
    """Function of arrays to the first output, on an Ascend card."""
    import mindspore_lite as lite
    context = lite.Context()
    context.target = ['ascend']
    context.ascend.device_id = device_id
    model = lite.Model()
    model.build_from_file(path, lite.ModelType.MINDIR, context)
    inputs = model.get_inputs()

    def run(arrays):
        for tensor, array in zip(inputs, arrays):
            tensor.set_data_from_numpy(array)
        return model.predict(inputs)[0].get_data_to_numpy()
    return run, [tensor.shape for tensor in inputs]


def open_onnx(path, _):
    """The same, on the CPU."""
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    inputs = session.get_inputs()
    names = [tensor.name for tensor in inputs]
    return lambda arrays: session.run(None, dict(zip(names, arrays)))[0], [tensor.shape for tensor in inputs]


def main(model, folder, device_id=0):
    """Returns the number of runs."""
    folder = Path(folder)
    names = sorted(path.name for path in (folder / 'inputs').glob('*.bin'))
    if not names:
        sys.exit(f'{folder / "inputs"}: no .bin; write them by python -m src.ascend310 inputs')
    if not Path(model).is_file():
        sys.exit(f'{model}: no such model')
    try:
        run, shapes = (open_onnx if model.endswith('.onnx') else open_lite)(model, int(device_id))
    except ImportError as error:
        sys.exit(f'{model}: needs {error.name}, which is not installed here')
    except Exception as error:  # theirs have no type in common
        sys.exit(f'{model}: no model that can be run here: {str(error).splitlines()[0]}')
    (folder / 'results').mkdir(exist_ok=True)
    began = time.perf_counter()
    for name in names:
        parts = [folder / (f'inputs_{number}' if number else 'inputs') / name for number in range(len(shapes))]
        try:
            arrays = [np.fromfile(path, np.float32).reshape(shape) for path, shape in zip(parts, shapes)]
        except (OSError, ValueError, TypeError) as error:
            sys.exit(f'{folder / "inputs" / name}: {model} takes inputs of {" and ".join(map(str, shapes))}: {error}')
        run(arrays).astype(np.float32).tofile(folder / 'results' / name)
    print(f'{len(names)} runs of {model} in {time.perf_counter() - began:.1f} s: {folder / "results"}')
    return len(names)


if __name__ == '__main__':
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
