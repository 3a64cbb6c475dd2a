"""What goes with weights, and the figures of metric learning, without training a network."""
import os
import shutil
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from src.checkpoints.checkpoint import Recorded
from src.checkpoints.weights import read_weights
from src.common.device import Process
from src.common.errors import InputError
from src.common.imagenet import MEAN
from src.datasets.image_list import ImageList
from src.losses import LOSSES, loss_class, loss_kind
from src.networks import create_network
from src.networks.resnet import ResNet18
from src.recipes.command_line import parse_args
from src.recipes.recipe import RECIPES, Recipe, make_recipe
from src.retrieval.embedding import EmbeddingOptions, embed_batches
from src.systems.images import ImageFound
from src.systems.metric_learning import MetricLearning, recall_across_cameras
from src.training.loop import fit
from tests.conftest import trained_by

HERE = Process('CPU', 0, 0, 1)
SMALL = ['--model=resnet18', '--set=backbone_options.width=8']


def recipe(**changes):
    return Recipe({**make_recipe('SOP', 'softmax', 'published'), 'loss_name': 'softmax', **changes})


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A checkpoint of the published structure: backbone, bare head and the optimizer's state."""
    path = tmp_path_factory.mktemp('weights') / 'softmax.ckpt'
    network = create_network('resnet18', width=8)
    extra = {'weight': np.ones((3, 64), np.float32), 'bias': np.arange(3, dtype=np.float32),
             'moments.conv1.weight': np.zeros(3, np.float32), 'learning_rate': np.zeros(5, np.float32),
             'index_var': np.zeros(2, np.float32)}
    ms.save_checkpoint([{'name': p.name, 'data': p} for p in network.get_parameters()]
                       + [{'name': name, 'data': ms.Tensor(value)} for name, value in extra.items()], str(path))
    return path


@pytest.mark.parametrize('more, padding', [([], 'same'), (['--recipe=paddle'], 'symmetric')])
def test_a_ckpt_of_unknown_origin_is_used_as_the_recipe_says(published, more, padding, capsys):
    trained = trained_by('eval', f'--save_ckpt={published}', *SMALL, *more)
    options = {**trained.recipe.backbone_options, **trained.found.conventions}
    assert options['padding'] == padding
    said = capsys.readouterr().out
    assert 'index_var' in said and said.count('\n') == 1


def test_different_images_of_the_same_embedding_are_refused(tmp_path):
    """Weights of zeros or of 1e30, whose overflow MindSpore's ReLU turns into zeros, or a collapsed training."""
    paths = [str(tmp_path / f'{i}.png') for i in range(3)]
    for i, path in enumerate(paths):
        Image.new('RGB', (8, 8), (80 * i, 0, 0)).save(path)
    images, options = ImageList(paths, None), EmbeddingOptions((8, 8), batch_size=2)

    def zeros(batch):
        return np.zeros((len(batch), 4), np.float32)
    with pytest.raises(InputError, match='all 3 images have the same embedding'):
        list(embed_batches(images, zeros, options))
    assert len(list(embed_batches(images, lambda batch: batch.mean((2, 3)), options))) == 2
    assert len(list(embed_batches(images.select([1, 1, 1]), zeros, options))) == 2


def test_images_are_normalised_by_the_statistics_of_the_backbone(monkeypatch):
    monkeypatch.setattr(ResNet18, 'mean', (0.5, 0.4, 0.3))
    assert EmbeddingOptions.of_recipe(recipe(backbone='resnet18')).mean == (0.5, 0.4, 0.3)
    assert EmbeddingOptions.of_recipe(recipe(backbone='resnet50')).mean == MEAN


def test_weights_of_torchvision_bring_their_padding(tmp_path):
    path = tmp_path / 'a.safetensors'
    ms.save_checkpoint(create_network('resnet18', width=8), str(path), format='safetensors')
    weights = read_weights(path)
    found = MetricLearning.found_in_weights(recipe(backbone='resnet18'), weights)
    assert found == ImageFound(conventions={'padding': 'symmetric', 'bn_eps': 1e-5})


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for i in range(6):
            folder = tmp_path / split / f'class_{i // 2}'
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    return tmp_path


def test_training_starts_from_a_published_checkpoint_and_its_classifier(published, pictures, capsys):
    used = parse_args('train', [f'--dataset_path={pictures}', f'--pretrained_model={published}', *SMALL,
                                            '--recipe=small', '--batch_size=2', '--image_size=8']).make_recipe()
    system = MetricLearning(used, HERE)
    system.prepare()
    values = read_weights(published).values
    mine = {p.name: p.asnumpy() for p in system.network.get_parameters()}
    assert all((mine[name] == values[name]).all() for name in mine)
    assert (system.loss.weight.asnumpy() == 1).all() and system.loss.bias.asnumpy().tolist() == [0, 1, 2]
    said = capsys.readouterr().out
    assert f'starting from {published}' in said and 'the classifier is kept' in said and 'index_var' in said
    assert system.found.class_num == 3 and system.found.class_names == ['class_0', 'class_1', 'class_2']
    batches = list(system.batches(0, 1))
    assert len(batches) == system.steps_per_epoch - 1 and batches[0][0].shape == (2, 3, 8, 8)


def test_a_classifier_goes_on_for_the_same_classes_and_a_training_for_the_same_labels(published, pictures, monkeypatch, capsys):
    names = [f'train/class_{i // 2}/{i}.png' for i in range(6)]

    def prepared(labels, found=None, **changes):
        (pictures / 'list.txt').write_text(''.join(f'{name} {label}\n' for name, label in zip(names, labels)))
        system = MetricLearning(parse_args('train', [
            f'--dataset_path={pictures}/list.txt', *SMALL, '--recipe=small', '--batch_size=2', '--image_size=8',
            *(f'--{name}={value}' for name, value in changes.items())]).make_recipe(), HERE)
        system.prepare(found)
        return system.found
    found = prepared(['a', 'a', 'b', 'b', 'c', 'c'])
    assert found.class_names == ['a', 'b', 'c']
    weights = read_weights(published)
    monkeypatch.setattr('src.systems.images.read_weights', lambda path: replace(weights, recorded=Recorded(
        found={'classes': found.classes})))
    for labels, kept in (('aabbcc', True), ('ccbbaa', True), ('aabbdd', False), ('001122', False)):
        capsys.readouterr()
        prepared(list(labels), pretrained='x')
        assert ('the classifier is kept' in capsys.readouterr().out) == kept
    prepared(list('aabbcc'), found)
    with pytest.raises(InputError, match='list.txt: the training images or their labels have changed'):
        prepared(list('ababcc'), found)
    first, last = pictures / names[0], pictures / names[5]
    was = first.read_bytes(), last.read_bytes()
    first.write_bytes(was[1])
    last.write_bytes(was[0])
    os.utime(first, (1e9, 1e9))
    with pytest.raises(InputError, match=f'list.txt: pictures have changed since this training began, the last .*{names[5]}|'
                                         f'{names[0]}'):
        prepared(list('aabbcc'), found)
    first.write_bytes(was[0])
    last.write_bytes(was[1])
    prepared(list('aabbcc'), found)


@pytest.mark.parametrize('labels, loss, more, words', [
    ('000000', 'softmax', '', 'list.txt: all 6 training images are of one class, 0'),
    ('000111', 'supcon', '--batch_size=2', '--batch_size=2: holds images of only one class, 2 of it'),
    ('012345', 'supcon', '--set=small_classes=repeat', 'are all of different classes')])
def test_what_nothing_can_be_learnt_from_is_refused(pictures, labels, loss, more, words):
    (pictures / 'list.txt').write_text(''.join(f'train/class_{i // 2}/{i}.png {label}\n' for i, label in enumerate(labels)))
    used = parse_args('train', [f'--dataset_path={pictures}/list.txt', *SMALL, '--recipe=small', f'--loss_name={loss}',
                                '--batch_size=4', '--samples_each_class=2', *more.split()]).make_recipe()
    with pytest.raises(InputError, match=words):
        MetricLearning(used, HERE).prepare()


def test_classes_that_are_never_drawn_are_counted(pictures, capsys):
    (pictures / 'list.txt').write_text(''.join(f'train/class_{i // 2}/{i}.png {label}\n' for i, label in enumerate('001122')))
    with open(pictures / 'list.txt', 'a') as file:
        file.write('test/class_0/0.png 3\ntest/class_0/0.png -1\n')
    MetricLearning(parse_args('train', [
        f'--dataset_path={pictures}/list.txt', *SMALL, '--recipe=small', '--loss_name=supcon', '--batch_size=4',
        '--samples_each_class=2', '--set=small_classes=leave_out']).make_recipe(), HERE).prepare()
    said = capsys.readouterr().out
    assert '1 of 4 classes have fewer than 2 images and are never drawn' in said and '1 of label -1, junk: left out' in said


def test_every_epoch_of_every_seed_is_augmented_anew(pictures, monkeypatch):
    seeds = []

    def train_dataset(*args):
        seeds.append(args[-1].seed)
        raise InputError('enough')
    monkeypatch.setattr('src.systems.images.train_dataset', train_dataset)
    for seed in (1, 2):
        used = parse_args('train', [f'--dataset_path={pictures}', *SMALL, '--recipe=small', '--batch_size=2',
                                                f'--seed={seed}']).make_recipe()
        system = MetricLearning(used, HERE)
        system.prepare()
        for epoch in range(3):
            with pytest.raises(InputError, match='enough'):
                next(system.batches(epoch, 0))
    assert len(set(seeds)) == 6


def test_a_whitened_head_is_fitted_to_the_training_images(pictures, tmp_path, capsys):
    used = parse_args('train', [
        f'--dataset_path={pictures}', *SMALL, '--loss_name=supcon', '--recipe=pretrained', '--batch_size=4', '--lr=0.004',
        '--set=backbone_options.frozen_batch_norm=False', '--samples_each_class=2', '--epoch_size=4',
        '--save_checkpoint_epochs=1', '--num_workers=1', '--image_size=32', '--class_num=3', '--set=memory=6',
        '--set=memory_warm_up=1']).make_recipe()
    system = MetricLearning(used, HERE)
    fit(system, tmp_path / 'whole')
    assert 'training on 6 images of 3 classes\n' in capsys.readouterr().out

    def whitening(name):
        values = read_weights(tmp_path / 'whole' / name).values
        return {name: values[f'whitening.{name}'] for name in ('mean', 'matrix')}
    kept, before, head = whitening('train.ckpt'), whitening('train-3_1.ckpt'), system.head
    head.reset()
    plain = replace(system.options, mirror=False, turned=False)
    head.fit(system.embed(system.images, options=plain), np.repeat(np.arange(3), 2))
    for name, value in kept.items():
        np.testing.assert_array_equal(value, getattr(head, name).asnumpy())
        assert np.abs(value - np.eye(len(value))).max() > 0.01
        # a state has that of its own weights
        assert np.abs(value - before[name]).max() > 1e-4
    np.testing.assert_array_less(1e-3, np.abs(before['mean']).max())
    system.before_measuring(hurried=True)
    assert not head.mean.asnumpy().any() and (head.matrix.asnumpy() == np.eye(64)).all()

    (tmp_path / 'again').mkdir()
    shutil.copy(tmp_path / 'whole' / 'train-3_1.ckpt', tmp_path / 'again')
    fit(MetricLearning(used, HERE), tmp_path / 'again', resume=True)
    for file in ('train.ckpt', 'train-4_1.ckpt'):
        whole, again = (ms.load_checkpoint(str(tmp_path / name / file)) for name in ('whole', 'again'))
        assert whole.keys() == again.keys()
        for name, value in whole.items():
            if name != 'facts':
                np.testing.assert_array_equal(value.asnumpy(), again[name].asnumpy(), name)
    # The memory is part of the state, and has gone around.
    assert (again['loss.memory_labels'].asnumpy() >= 0).all() and again['loss.steps'].asnumpy() == 4

    # Another head goes on from it.
    command = parse_args('train', [f'--dataset_path={pictures}', *SMALL, '--loss_name=supcon', '--recipe=pretrained',
                                   '--set=head=none', '--batch_size=4', '--samples_each_class=2', '--image_size=32',
                                   '--set=backbone_options.width=8', f'--pretrained={tmp_path}/whole/train.ckpt'])
    MetricLearning(command.make_recipe(), HERE).prepare()
    assert 'ignored: whitening.matrix, whitening.mean' in capsys.readouterr().out


def test_recall_beyond_the_images_is_left_out_and_accuracy_is_recall_at_1(pictures, capsys, monkeypatch):
    # Classes 0 and 2 find each other first, one image of class 1 does not.
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0.3], [-1, 0], [-1, -0.1]], np.float32)
    monkeypatch.setattr(MetricLearning, 'embed', lambda self, images, show_progress=False: embeddings)
    system = MetricLearning(recipe(dataset_path=str(pictures), recall_k=[5, 1000]), HERE)
    result = system.evaluate('~/x.ckpt')
    assert list(result['recall']) == ['1', '5'] and result['recall']['5'] == 1
    first = [max((j for j in range(6) if j != i), key=lambda j, i=i: embeddings[i] @ embeddings[j] / np.linalg.norm(
        embeddings[j])) for i in range(6)]
    truth = np.mean([first[i] // 2 == i // 2 for i in range(6)])
    assert 0 < truth < 1 and result['accuracy'] == pytest.approx(truth)
    assert f"result: {{'acc': {truth:.3f}}} ckpt=~/x.ckpt\n" in capsys.readouterr().out


def test_an_image_of_both_lists_is_one_image_where_a_threshold_is_found(pictures, monkeypatch):
    for name, numbers in (('query', (0, 2)), ('gallery', (0, 1, 2, 3))):
        (pictures / f'{name}.txt').write_text(''.join(f'test/class_{i // 2}/{i}.png {i // 2}\n' for i in numbers))
    monkeypatch.setattr(MetricLearning, 'embed', lambda self, images, show_progress=False: np.array(
        [[1.0, int(path[-5])] for path in images.paths], np.float32))
    seen = {}

    def find_threshold(system, checkpoint, embeddings, labels, page=None):
        seen.update(numbers=embeddings[:, 1].tolist(), labels=labels.tolist())
        return {}
    monkeypatch.setattr('src.systems.metric_learning.find_threshold', find_threshold)
    MetricLearning(recipe(query=str(pictures / 'query.txt'), gallery=str(pictures / 'gallery.txt'), false_match_rate=0.1),
                   HERE).evaluate('x')
    assert seen == {'numbers': [0, 2, 1, 3], 'labels': [0, 1, 0, 1]}


def test_query_and_gallery_folders_are_compared_by_the_names_of_their_classes(tmp_path, monkeypatch):
    for grey, place in enumerate(('gallery/apple', 'gallery/pear', 'gallery/plum', 'query/pear', 'query/plum')):
        (tmp_path / place).mkdir(parents=True)
        Image.new('RGB', (8, 8), (grey,) * 3).save(tmp_path / place / '0.png')
    angle = {'apple': 0.0, 'pear': 1.0, 'plum': 2.0}
    monkeypatch.setattr(MetricLearning, 'embed', lambda self, images, show_progress=False: np.array(
        [[np.cos(angle[path.split('/')[-2]]), np.sin(angle[path.split('/')[-2]])] for path in images.paths], np.float32))
    folders = recipe(query=str(tmp_path / 'query'), gallery=str(tmp_path / 'gallery'))
    assert MetricLearning(folders, HERE).evaluate('x')['accuracy'] == 1
    (tmp_path / 'list.txt').write_text('gallery/apple/0.png 0\ngallery/pear/0.png 1\n')
    with pytest.raises(InputError, match='--query and --gallery: one is a folder'):
        MetricLearning(recipe(query=str(tmp_path / 'query'), gallery=str(tmp_path / 'list.txt')), HERE).evaluate('x')


@pytest.mark.parametrize('name', ['small', 'pretrained'])
def test_the_recipes_for_small_pictures_give_each_loss_the_batches_it_needs(pictures, name):
    (pictures / 'list.txt').write_text(''.join(f'train/class_0/0.png {label // 4}\n' for label in range(160)))
    for loss in LOSSES:
        if not loss_class(loss).uses_neck and any(('SOP', one, name) in RECIPES for one in (loss, loss_kind(loss))):
            MetricLearning(parse_args('train', [
                f'--dataset_path={pictures}/list.txt', f'--loss_name={loss}', f'--recipe={name}', *SMALL]).make_recipe(),
                HERE).prepare()


@pytest.mark.parametrize('changes, message', [
    ({'dataset_path': None}, '--dataset_path is missing'),
    ({'validation': 'seen_images'}, '--validation=seen_images: choose one of seen_classes'),
    ({'class_num': 7}, '--class_num=7: the training list has 3 classes'),
    ({'image_size': [16, 24], 'turned': True}, 'turned: images of 16 x 24 pixels, only square ones'),
    ({'run_eval': True, 'picture': 'a.png'}, '--picture=a.png: metric learning draws the threshold only'),
    ({'augmentation': {'colour': {'tint': 'a'}}}, "augmentation colour: tint='a': expected a number"),
    ({'run_eval': True, 'query': 'q.txt'}, '--query and --gallery: give both or neither'),
    ({'backbone': 'mobilenet_v2', 'backbone_options': {'frozen_layers': 7}}, '7 layers of mobilenet_v2 .* --pretrained=FILE'),
    ({'validation': 'test_classes', 'subset': 'tiny', 'dataset_path': 'SOP'}, 'holds neither test_tiny.txt nor Ebay_test.txt'),
    ({'loss_name': 'npairs', 'batch_size': 6, 'samples_each_class': 3}, '--samples_each_class=3')])
def test_errors_of_metric_learning_name_the_flag(pictures, changes, message):
    (pictures / 'SOP').mkdir()
    (pictures / 'SOP' / 'train_tiny.txt').write_text('../train/class_0/0.png 0\n../train/class_1/2.png 1\n')
    changes = {name: str(pictures / value) if value == 'SOP' else value for name, value in changes.items()}
    used = recipe(**{'dataset_path': str(pictures), 'backbone': 'resnet18', **changes})
    with pytest.raises(InputError, match=message):
        MetricLearning(used, HERE).prepare()


def test_a_missing_query_is_named():
    with pytest.raises(InputError, match='--query=/no/query.txt: no such'):
        MetricLearning(recipe(query='/no/query.txt', gallery='/no/gallery.txt'), HERE).evaluate('x')


def test_across_cameras_against_a_loop():
    rng = np.random.default_rng(3)
    for cameras in (np.arange(40) % 3, np.arange(40) // 39, np.zeros(40, int), None):
        embeddings, labels = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 8, 40)
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        seen = cameras if cameras is not None and len(set(cameras)) > 1 else np.arange(40)
        hits = []
        for i in range(40):
            others = [j for j in range(40) if seen[j] != seen[i]]
            if any(labels[j] == labels[i] for j in others) or cameras is None or len(set(cameras)) == 1:
                hits.append(labels[max(others, key=lambda j: unit[i] @ unit[j])] == labels[i])
        assert recall_across_cameras(embeddings, labels, cameras) == pytest.approx(np.mean(hits))
