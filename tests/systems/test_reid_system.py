"""CTL from lists and folders to mAP: what the network is given, the centres, and the doors run as a user runs them."""
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from PIL import Image

from src.accuracy import reid_metrics
from src.checkpoints.checkpoint import read_checkpoint
from src.common.device import Process
from src.common.errors import InputError
from src.losses import create_loss
from src.networks import create_network
from src.networks.resnet import ResNet18
from src.recipes.command_line import parse_args
from src.recipes.recipe import Recipe, make_recipe
from src.samples.image_sample import make_reid
from src.systems.reid import Reid
from src.training.learning_rate import schedule
from src.training.train_step import create_step
from tests.processes import free_port, on_all_processors

ROOT = Path(__file__).resolve().parents[2]
HERE = Process('CPU', 0, 0, 1)
TINY = ['--recipe=small', '--image_size=48,32', '--batch_size=8', '--samples_each_class=2', '--device_target=CPU',
        '--model=resnet18', '--set=backbone_options.width=8']

ms.set_device('CPU')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('reid')
    for style in ('duke', 'market'):
        make_reid(folder, style, identities=8, cameras=2)
    return folder


@pytest.fixture(scope='module')
def lists(data, tmp_path_factory):
    """The Market folder as three lists, with an identity of one image added to the training list."""
    folder, root = tmp_path_factory.mktemp('lists'), data / 'market1501'
    for name, sub in (('train', 'bounding_box_train'), ('query', 'query'), ('gallery', 'bounding_box_test')):
        paths = [path for path in sorted((root / sub).iterdir()) if not path.name.startswith('-1')]
        lines = [f'{path} {int(path.name[:4])} {path.name[6]}' for path in paths]
        lines += [f'{paths[0]} 9999 1'] * (name == 'train')
        (folder / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    return [f'--train_list={folder}/train.txt', f'--query={folder}/query.txt', f'--gallery={folder}/gallery.txt']


class TwoWays(nn.Cell):
    """A network that returns feature and neck."""

    def __init__(self, width):
        super().__init__()
        self.dense = nn.Dense(3, width)

    def construct(self, x):
        return self.dense(x), 2 * self.dense(x)


def system(*more):
    return Reid(parse_args('train', [*TINY, *more]).make_recipe(), HERE)


def tiny_step(name='ctl', entries=(), **options):
    network = TwoWays(4)
    network.new_layers = ()
    loss = create_loss(name, num_classes=3, embedding_size=4, num_instances=2, **options)
    recipe = Recipe({**make_recipe('lists', 'ctl', 'small'), 'decay': 'weights', **dict(entries)})
    return network, loss, create_step(network, loss, 1, recipe, np.full(5, 1e-3, np.float32), HERE)


STOP = Tensor(0, ms.int32)
BATCH = (Tensor(np.random.default_rng(0).standard_normal((6, 3)), ms.float32), Tensor([0, 0, 2, 2, 1, 1], ms.int32),
         Tensor([1, 1, 1, 1, 1, 0], ms.float32))


@pytest.mark.parametrize('scale, weight, optimizer', [(1.0, 5e-4, 'adam'), (1024.0, 5e-4, 'momentum'),
                                                      (8.0, 0.3, 'adam')])
def test_centres_move_by_plain_sgd_whatever_weight_scale_and_optimizer(scale, weight, optimizer):
    entries = dict(optimizer=optimizer, weight_decay=0.1, loss_scale=scale)
    network, loss, step = tiny_step(entries=entries, center_weight=weight)
    images, labels, mask = (x.asnumpy() for x in BATCH)
    centers = loss.center.centers.asnumpy().astype(float)
    for _ in range(3):
        w, b = (p.asnumpy().copy() for p in (network.dense.weight, network.dense.bias))
        moved = centers.copy()
        for image, label, real in zip(images, labels, mask):
            if real:
                moved[label] += 0.5 * 2 * (w @ image + b - centers[label]) / mask.sum()
        step(STOP, *BATCH)
        np.testing.assert_allclose(loss.center.centers.asnumpy(), moved, rtol=1e-4, atol=1e-5)
        assert np.abs(network.dense.weight.asnumpy() - w).max() > 1e-5
        centers = moved


def test_baseline_is_classifier_and_triplet_and_has_no_centres():
    network, loss, _ = tiny_step('baseline')
    assert [p.name for p in loss.trainable_params()] == ['loss.classifier.weight']
    images, labels, mask = (x.asnumpy() for x in BATCH)
    features = images @ network.dense.weight.asnumpy().T + network.dense.bias.asnumpy()
    logits = 2 * features @ loss.classifier.weight.asnumpy().T
    real, entropy, triplet = np.flatnonzero(mask), 0.0, 0.0
    for i in real:
        logs = logits[i] - np.log(np.exp(logits[i]).sum())
        entropy -= (0.9 * logs[labels[i]] + 0.1 * logs.mean()) / len(real)
        far = {same: [np.linalg.norm(features[i] - features[j]) for j in real if (labels[j] == labels[i]) == same]
               for same in (True, False)}
        triplet += max(0, max(far[True]) - min(far[False]) + 0.5) / len(real)
    given = loss(*network(BATCH[0]), *BATCH[1:])
    np.testing.assert_allclose(given.asnumpy(), entropy + triplet, rtol=1e-5)


def test_a_run_shorter_than_its_warm_up_is_the_beginning_of_the_whole_one():
    whole = make_recipe('lists', 'ctl', 'published')
    lr = schedule(Recipe(whole), 5)
    assert len(lr) == 600
    # The published warm-up has one value an epoch, (epoch + 1) / 10 of the highest.
    np.testing.assert_allclose(lr[[0, 4, 5, 49, 50, 199, 200, 349, 350, 599]],
                               [3.5e-5, 3.5e-5, 7e-5, 3.5e-4, 3.5e-4, 3.5e-4, 3.5e-5, 3.5e-5, 3.5e-6, 3.5e-6], rtol=1e-5)
    np.testing.assert_array_equal(schedule(Recipe({**whole, 'epoch_size': 2}), 5), lr[:10])


def test_batches_statistics_and_the_start_from_a_backbone(lists, tmp_path, capfd):
    ms.set_seed(3)
    backbone = create_network('resnet18', width=8, padding='symmetric', bn_eps=1e-5)
    path = tmp_path / 'backbone.safetensors'
    ms.save_checkpoint(backbone, str(path), format='safetensors')
    mine = system(*lists, f'--pretrained={path}')
    mine.prepare()
    out = capfd.readouterr().out
    trained = re.search(r'train +(\d+) identities +(\d+) images', out)
    images = [line.rsplit(None, 2) for line in Path(lists[0].split('=')[1]).read_text().splitlines()]
    assert [int(x) for x in trained.groups()] == [len({label for _, label, _ in images}), len(images)]
    assert 'published' not in out
    assert 'starting from' in out and 'starting fresh: ' in out and 'neck' in out
    values = {p.name: p.asnumpy() for p in mine.network.get_parameters()}
    for p in backbone.get_parameters():
        np.testing.assert_array_equal(values[p.name], p.asnumpy())
    assert not values['neck.beta'].any() and (values['neck.gamma'] == 1).all()
    assert 'neck.beta' not in [p.name for p in mine.network.trainable_params()]

    single = len(np.unique(mine.labels)) - 1
    seen, epochs = 0, [[[c.asnumpy() for c in columns] for columns in mine.batches(e, 0)] for e in range(4)]
    for batches in epochs:
        assert len(batches) == mine.steps_per_epoch
        for image, label, mask in batches:
            assert image.shape == (8, 3, 48, 32) and image.dtype == np.uint8
            label, mask = label.reshape(4, 2), mask.reshape(4, 2)
            assert (label[:, 0] == label[:, 1]).all() and (mask[:, 0] == 1).all()
            np.testing.assert_array_equal(mask[:, 1] == 0, label[:, 0] == single)
            seen += int((label[:, 0] == single).sum())
    assert seen
    skipped = [[c.asnumpy() for c in columns] for columns in mine.batches(1, 1)]
    for given, expected in zip(skipped, epochs[1][1:]):
        for a, b in zip(given, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('loss', ['softmax', 'multi_similarity'])
def test_losses_without_a_use_for_the_neck_get_the_embedding_of_retrieval(lists, loss):
    mine = system(*lists, f'--loss_name={loss}')
    mine.prepare()
    images = next(iter(mine.batches(0, 0)))[0]
    mine.network.set_train()
    embedding = mine.network(images)
    assert embedding.shape == (8, mine.network.out_channels)
    means = embedding.asnumpy().mean(0)
    np.testing.assert_allclose(means, 0, atol=1e-4)    # behind the neck


@pytest.mark.parametrize('given, message', [
    (['--dataset=Market1501'], '--data_path is missing'),
    (['--dataset=lists'], '--train_list is missing'),
    (['--dataset=Market1501', '--data_path=.', '--validation=seen_classes'], '--validation=seen_classes'),
    (['--dataset=Market1501', '--data_path=.', '--run_eval=True', '--set=picture=a.txt'], 'a.txt'),
    (['--dataset=Market1501', '--recipe=paddle'], '--recipe=paddle: for Market1501 ctl there are published, small'),
    (['--dataset=Market1501', '--embedding_size=3'], '--embedding_size: is for metric learning'),
    (['--dataset=Market1501', '--image_size=3,4,5'], '--image_size'),
])
def test_bad_flags_are_named(given, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        system(*given).prepare()
    assert len(str(raised.value).splitlines()) == 1


def test_a_query_list_alone_is_not_enough(lists):
    with pytest.raises(InputError, match='--gallery is missing'):
        system(*lists[:2]).prepare()


def test_lists_go_before_the_data_a_checkpoint_was_trained_on(lists):
    saved = {**make_recipe('lists', 'ctl', 'small'), 'dataset': 'Market1501', 'loss_name': 'ctl'}
    mine = Reid(parse_args('eval', lists[1:]).recipe_for(Recipe(saved), '', {}), HERE)
    for images, flag in zip(mine.test.lists, lists[1:]):
        lines = [line.rsplit(None, 2) for line in Path(flag.split('=')[1]).read_text().splitlines()]
        assert images.paths == [path for path, _, _ in lines]
        assert images.labels.tolist() == [int(label) for _, label, _ in lines]
        assert images.cameras.tolist() == [int(camera) for _, _, camera in lines]


def test_queries_without_a_match_are_refused_before_the_training(lists, tmp_path):
    one_camera = []
    for flag in lists:
        flag, path = flag.split('=')
        rows = [line.rsplit(None, 1)[0] for line in Path(path).read_text().splitlines()]
        (tmp_path / Path(path).name).write_text(''.join(f'{row} 1\n' for row in rows))
        one_camera.append(f'{flag}={tmp_path / Path(path).name}')
    with pytest.raises(InputError, match='no query has another image of its class and another camera'):
        system(*one_camera).prepare()
    system(*one_camera, '--run_eval=False').prepare()
    # A picture of the gallery that cannot be read, too.
    gallery = Path(lists[2].split('=')[1]).read_text()
    (tmp_path / 'cut.png').write_bytes(b'no picture')
    (tmp_path / 'gallery.txt').write_text(f'{gallery}cut.png 1 2\n')
    with pytest.raises(InputError, match='1 of .* pictures cannot be read: .*cut.png'):
        system(*lists[:2], f'--gallery={tmp_path}/gallery.txt').prepare()


@pytest.mark.slow
def test_what_was_trained_is_kept_when_measuring_fails(lists, tmp_path, here, monkeypatch):
    # Quick to compile.
    monkeypatch.setattr(ResNet18, 'blocks', (1, 1, 1, 1))
    content = io.BytesIO()
    Image.new('L', (64, 64)).save(content, 'PNG')
    (tmp_path / 'broken.png').write_bytes(content.getvalue().replace(b'IDAT', b'IDATIDAT'))
    gallery = Path(lists[2].split('=')[1]).read_text()
    (tmp_path / 'gallery.txt').write_text(f'{gallery}broken.png 1 2\n')
    monkeypatch.chdir(tmp_path)
    flags = [*TINY, *lists[:2], '--gallery=gallery.txt', '--total_iter_num=1', '--save_ckpt=out']
    # Its header and end are right: only the training's own test decodes it, and then it is known.
    code, _, err = here('train', *flags)
    assert code == 2 and 'broken.png' in err.splitlines()[-1]
    code, _, err = here('train', *flags, '--save_ckpt=other')
    assert code == 2 and 'broken.png' in err.splitlines()[-1] and not list(Path('other').glob('*'))
    assert json.loads((tmp_path / 'out' / 'result.json').read_text())['steps'] == 1
    assert {'train.ckpt', 'curves.png'} <= {path.name for path in (tmp_path / 'out').iterdir()}


def run(folder, *command):
    done = subprocess.run([str(word) for word in command], cwd=folder, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project: its launchers write into its folder."""
    project = tmp_path_factory.mktemp('copy') / 'project'
    for name in ('src', 'scripts', 'test'):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('train.py', 'eval.py', 'export.py', 'infer.py'):
        shutil.copy(ROOT / name, project)
    return project


@pytest.mark.slow
def test_two_processes_train_one_network(data, project):
    """One epoch of Market1501 by the launcher of several devices; BatchNorm's statistics stay each device's own."""
    with on_all_processors():
        out = run(project, 'env', f'PYTHON={sys.executable}', 'DEVICE_NUM=2', f'MASTER_PORT={free_port()}', 'bash',
                  './test/train_performance_8p.sh', '--dataset=Market1501', f'--data_path={data}', *TINY, '--batch_size=4',
                  '--epoch_size=1')
    assert re.search(r'trained \d+ steps on CPU, [\d.]+ images/s', out) and 'centroid: mAP' in out
    first, second = (read_checkpoint(next((project / 'train_performance_8p' / rank).glob('auto_parallel-1_*.ckpt')))
                     for rank in '01')
    trained = [name for name in first if name != 'facts' and 'moving_' not in name]
    assert 'loss.center.centers' in trained and 'neck.gamma' in trained
    for name in trained:
        np.testing.assert_array_equal(first[name].asnumpy(), second[name].asnumpy())
    assert (first['neck.moving_mean'].asnumpy() != second['neck.moving_mean'].asnumpy()).any()


@pytest.mark.slow
def test_doors_train_resume_evaluate_and_export(data, project, tmp_path, here, monkeypatch):
    """Trained by the launcher's process and resumed by another; the other doors in this one."""
    keep = [*TINY, '--save_checkpoint_epochs=1', '--keep_checkpoint_max=9', '--validation=test_classes']

    # As published: two epochs of Duke, with images per second and mAP at the end.
    out = run(project, 'env', f'PYTHON={sys.executable}', 'bash', './test/train_performance_1p.sh',
              f'--data_path={data}', *keep)
    folder = project / 'train_performance_1p'
    result = json.loads((folder / 'result.json').read_text())
    steps = result['steps'] // 2
    assert re.search(r'trained \d+ steps on CPU, [\d.]+ images/s', out) and result['samples_per_second'] > 0
    root = data / 'DukeMTMC-reID'
    for split, sub in (('train', 'bounding_box_train'), ('query', 'query'), ('gallery', 'bounding_box_test')):
        names = [path.name for path in (root / sub).iterdir()]
        people, cameras = {name[:4] for name in names}, {name[6] for name in names}
        assert re.search(rf'{split} +{len(people)} identities +{len(names)} images +{len(cameras)} cameras '
                         r'\(published: \d+, \d+, 8\)', out)
    gallery = [path.name for path in (root / 'bounding_box_test').iterdir()]
    query = [path.name for path in (root / 'query').iterdir()]
    # With two cameras each queried person and camera has one centroid: the person's images of the other camera.
    centroids = {name[:7] for name in query if any(g[:4] == name[:4] and g[6] != name[6] for g in gallery)}
    for kind, size in (('instance', len(gallery)), ('centroid', len(centroids))):
        assert re.search(rf'{kind}: mAP = [\d.]+, mINP = [\d.]+, CMC@1 = .*CMC@50 = .*'
                         rf'{len(query)} queries, \d+ skipped, gallery of {size}', out)
        assert result[kind]['gallery'] == size and 0 < result[kind]['mAP'] <= 1

    assert result['history'][-1]['accuracy'] == result['instance']['mAP']

    # Resumed after the first epoch: the same to the last bit, centres included.
    again = tmp_path / 'again'
    again.mkdir()
    shutil.copy(folder / f'train-1_{steps}.ckpt', again)
    monkeypatch.chdir(project)
    # A process as well: in this one oneDNN may use other instructions, which round otherwise.
    out = run(project, sys.executable, 'train.py', '--dataset=DukeMTMC-reID', f'--data_path={data}', '--epoch_size=2',
              f'--save_ckpt={again}', '--resume', '--run_eval=False', '--device_target=CPU', *keep)
    assert f'resumed after step {steps}' in out
    before, first, second = (read_checkpoint(path) for path in (
        folder / f'train-1_{steps}.ckpt', folder / f'train-2_{steps}.ckpt', again / f'train-2_{steps}.ckpt'))
    for name in first.keys() - {'facts'}:
        np.testing.assert_array_equal(first[name].asnumpy(), second[name].asnumpy())
    assert np.abs(first['loss.center.centers'].asnumpy() - before['loss.center.centers'].asnumpy()).max() > 0.1

    code, _, err = here('eval', f'--save_ckpt={folder}', f'--data_path={data}', '--device_target=CPU',
                        '--picture=ranked.png', '--result_file=eval.json')
    assert code == 0, err
    evaluated = json.loads((project / 'eval.json').read_text())
    assert evaluated == {key: result[key] for key in ('queries', 'instance', 'centroid', 'accuracy', 'measures', 'test')}
    assert result['accuracy'] == result['measures']['instance mAP'] == result['instance']['mAP']
    assert (project / 'ranked.png').read_bytes().startswith(b'\x89PNG')

    code, _, err = here('infer', f'--save_ckpt={folder}', f'--images={root}', '--output=all.npz', '--device_target=CPU')
    assert code == 0, err
    with np.load(project / 'all.npz') as archive:
        paths = [Path(path) for path in archive['paths'].tolist()]
        columns = archive['embeddings'], *np.array([(int(path.name[:4]), int(path.name[6])) for path in paths]).T
    parts = [column[[path.parent.name == sub for path in paths]]
             for sub in ('query', 'bounding_box_test') for column in columns]
    assert reid_metrics(*parts)['mAP'] == pytest.approx(result['instance']['mAP'], abs=1e-6)

    code, _, err = here('export', f'--save_ckpt={folder}', '--device_target=CPU', '--file_name=m', '--file_format=ONNX',
                        '--batch_size=0')
    assert code == 0, err
    onnxruntime = pytest.importorskip('onnxruntime')
    model = onnxruntime.InferenceSession(str(project / 'm.onnx'), providers=['CPUExecutionProvider'])
    assert [(put.name, put.shape[1:]) for put in model.get_inputs()] == [('input_0', [3, 48, 32])]
    assert [(put.name, put.shape[1:]) for put in model.get_outputs()] == [('embedding', [64])]
