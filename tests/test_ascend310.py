"""The files around a model on an Ascend 310, with onnxruntime in the place of the card: accuracy equals that of eval.py."""
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from src import ascend310
from src.ascend310 import main, write_inputs
from src.checkpoints.checkpoint import Recorded, save_cell
from src.checkpoints.exported import Card, Exported
from src.common.errors import InputError
from src.recipes.command_line import parse_args
from src.systems import system_class

ROOT = Path(__file__).resolve().parents[1]
BATCH = 4


def door(*words):
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checkpoint(path, found, *flags):
    """A network with initial weights as a training saves it."""
    recipe = parse_args('train', flags).make_recipe()
    system = system_class(recipe.system)
    save_cell(system.build_network(recipe, system.Found(**found)), path, Recorded(recipe, found))


@pytest.fixture(scope='module')
def dem(dem_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('dem310')
    flags = [f'--data_path={dem_data}', '--dataset=AwA', '--train_mode=fusion']
    found = {'network_options': {'attribute_dim': 85, 'word_dim': 1000, 'visual_dim': 1024}}
    checkpoint(folder / 'dem.ckpt', found, *flags)
    return folder, [f'--save_ckpt={folder / "dem.ckpt"}', *flags], 10


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images310')
    rng = np.random.default_rng(0)
    for number in range(10):
        path = folder / 'test' / f'class_{number // 2}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    flags = ['--recipe=small', '--model=resnet18', '--image_size=16', f'--dataset_path={folder}',
             '--set=backbone_options.width=8']
    checkpoint(folder / 'net.ckpt', {'class_num': 5, 'conventions': {}}, *flags)
    return folder, [f'--save_ckpt={folder / "net.ckpt"}', f'--dataset_path={folder}', f'--test_batch_size={BATCH}'], BATCH


@pytest.fixture(scope='module')
def gallery(images, tmp_path_factory):
    """The same network, searching in a gallery of another size than the queries, by turned and mirrored pictures."""
    folder = tmp_path_factory.mktemp('gallery310')
    tested = images[0] / 'test'
    for name, numbers in (('query', (0, 2, 4)), ('gallery', (1, 3, 5, 7, 9))):
        (folder / f'{name}.txt').write_text(''.join(f'{tested}/class_{i // 2}/{i}.png {i // 2}\n' for i in numbers))
    flags = [*images[1], f'--query={folder}/query.txt', f'--gallery={folder}/gallery.txt', '--mirror', '--turned']
    return folder, flags, BATCH


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['dem', 'images', 'gallery'])
def test_accuracy_from_result_files_is_that_of_eval(kind, request, here, capfd):
    """The files around the card, of images by processes, as their user runs them."""
    folder, flags, batch = request.getfixturevalue(kind)
    work = folder / 'card'
    code, _, err = here('export', flags[0], f'--batch_size={batch}', '--file_format=ONNX', f'--file_name={folder}/model',
                        '--device_target=CPU')
    assert code == 0, err
    if kind == 'images':  # the three steps by one command, which looks for the checkpoint beside the model
        shutil.copy(folder / 'net.ckpt', folder / 'train.ckpt')
        said = door('-m', 'src.ascend310', 'infer', str(work), f'{folder}/model.onnx', str(folder), '0',
                    f'--result_file={folder}/card.json')
    else:
        main(['inputs', str(work), *flags])
        assert f'--batch_size={batch}' in capfd.readouterr().out
        door('scripts/run_310.py', f'{folder}/model.onnx', str(work))
        main(['accuracy', str(work), *flags, f'--result_file={folder}/card.json'])
        said = capfd.readouterr().out
    if kind == 'gallery':
        with pytest.raises(InputError, match='written with 16x16 resize bilinear mirror turned, batches of 4; these flags give '
                               '16x16 resize bilinear mirror, batches of 4; '):
            main(['accuracy', str(work), *flags[:-1]])
    code, _, err = here('eval', *flags, f'--result_file={folder}/eval.json', '--device_target=CPU')
    assert code == 0, err
    assert json.loads((folder / 'card.json').read_text()) == json.loads((folder / 'eval.json').read_text())
    assert 'Starting Evaluating' in said
    if kind == 'dem':
        assert [path.name for path in sorted(work.glob('inputs*'))] == ['inputs', 'inputs.json', 'inputs_1']
        result = work / 'results' / '00000.bin'
        result = result.rename(result.with_name('00000_0.bin'))
        assert main(['accuracy', str(work), *flags]) == json.loads((folder / 'eval.json').read_text())
        result.write_bytes(bytes(44))
        with pytest.raises(InputError, match='is not 10 rows of float32'):
            main(['accuracy', str(work), *flags])
        result.unlink()
        with pytest.raises(InputError, match='no such result'):
            main(['accuracy', str(work), *flags])
        (work / 'inputs.json').write_text('{"turned')
        with pytest.raises(InputError, match='inputs.json: damaged, or not JSON; write the inputs again'):
            main(['accuracy', str(work), *flags])
    else:
        # 10 images in batches of 4; 3 and 5 of them, each in eight views
        assert len(list(work.glob('inputs/*.bin'))) == (3 if kind == 'images' else (1 + 2) * 8)


def test_models_and_inputs_that_cannot_be_run_are_one_line(tmp_path, monkeypatch):
    """Of scripts/run_310.py, which needs no file of this project."""
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    run_310 = importlib.import_module('run_310')
    (tmp_path / 'inputs').mkdir()
    for model, words in (('none.onnx', 'no .bin; write them'), ('none.onnx', 'none.onnx: no such model'),
                         ('bad.onnx', 'bad.onnx: (no model that can be run|needs onnxruntime)'),
                         ('bad.mindir', 'bad.mindir: needs mindspore_lite')):
        with pytest.raises(SystemExit, match=words):
            run_310.main(str(tmp_path / model), tmp_path)
        (tmp_path / 'inputs' / '00000.bin').write_bytes(bytes(40))
        (tmp_path / 'bad.onnx').write_bytes(b'x')
        (tmp_path / 'bad.mindir').write_bytes(b'x')


def test_the_files_of_others_among_the_inputs_stay(tmp_path):
    (tmp_path / 'inputs').mkdir()
    (tmp_path / 'inputs' / 'mine.bin').write_bytes(b'mine')
    with pytest.raises(InputError, match='mine.bin: was not written by this command'):
        write_inputs(None, tmp_path)
    assert (tmp_path / 'inputs' / 'mine.bin').read_bytes() == b'mine'


def test_an_exported_model_that_a_310_cannot_be_measured_by_is_refused(tmp_path, monkeypatch):
    model = str(tmp_path / 'model.mindir')

    def opened(batch, **entries):
        card = Card(**entries) if entries else None
        monkeypatch.setattr(ascend310, 'open_exported', lambda path: Exported(path, len, [[batch, 3, 8, 8]], '', card))
        return main(['infer', str(tmp_path), model, 'data', '0'])
    with pytest.raises(InputError, match='model.mindir: does not say what was trained'):
        opened(8)
    with pytest.raises(InputError, match='export it with --batch_size=8'):
        opened(0, system='metric_learning')
    recorder = SimpleNamespace(network=None, shapes=[(50, 312)])
    monkeypatch.setattr(ascend310, 'write_inputs', lambda *_: recorder)
    monkeypatch.setattr(ascend310, 'system_for', lambda *_: None)
    monkeypatch.setattr(ascend310, 'load_trained', lambda *_, **__: None)
    recorder.count = 1
    for identity, words in (('1', 'was exported from another checkpoint'), ('0', 'takes 8 rows, the data has 50 classes')):
        monkeypatch.setattr(ascend310, 'network_identity', lambda network: identity * 32)
        with pytest.raises(InputError, match=words):
            opened(8, system='zero_shot')
