"""What goes with weights, and the figures of metric learning, without training a network."""
import mindspore as ms
import numpy as np
import pytest
from easydict import EasyDict
from PIL import Image

from src.config import COMMON, RECIPES, create_recipe
from src.errors import InputError
from src.networks import create_network
from src.set_parser import parse_args
from src.systems import recipe_of
from src.systems.image_system import MINDSPORE, TORCHVISION, ImageSystem, conventions
from src.systems.metric_learning import MetricLearning
from src.training.distributed import Place


def test_padding_goes_with_the_weights():
    trained = {'network_options': {'padding': 'symmetric', 'bn_eps': 1e-4, 'embedding_size': 8}}
    assert conventions('a.ckpt', trained) == {'padding': 'symmetric', 'bn_eps': 1e-4}
    assert conventions('a.safetensors', {'network_options': {}}) == {}
    assert conventions('resnet50-19c8e357.pth', None) == conventions('a.safetensors', None) == TORCHVISION
    assert conventions('published.ckpt', None) == MINDSPORE


@pytest.mark.parametrize('name, padding', [('a.safetensors', 'symmetric'), ('a.ckpt', 'same')])
def test_weights_of_others_are_evaluated_with_their_padding(tmp_path, name, padding):
    path = tmp_path / name
    kind = path.suffix[1:]
    ms.save_checkpoint([{'name': 'x', 'data': ms.Tensor(np.zeros(3, np.float32))}], str(path), format=kind)
    for door in ('eval', 'export', 'infer'):
        used = recipe_of(path, parse_args(door, [f'--save_ckpt={path}']))
        assert used.network_options.padding == padding


@pytest.mark.parametrize('flags, padding', [(['--model=ResNet50'], 'symmetric'), ([], 'same')])
def test_training_starts_from_a_published_checkpoint_as_evaluation_uses_it(tmp_path, flags, padding):
    class System(ImageSystem):
        validations = ('none',)
        new_layer = 'embedding.'

    path = tmp_path / 'a.ckpt'
    ms.save_checkpoint(create_network('resnet50'), str(path))
    recipe = create_recipe(parse_args('train', ['--dataset_path=D', f'--pretrained_model={path}', *flags]))
    system = System(recipe, Place('CPU', 0, 0, 1), True)
    system._create_network(True)
    evaluated = recipe_of(path, parse_args('eval', [f'--pretrained_model={path}', *flags]))
    for name in ('padding', 'bn_eps'):
        assert recipe.network_options[name] == evaluated.network_options[name]
    assert recipe.network_options.padding == padding


def test_recall_beyond_the_images_is_left_out_and_accuracy_is_recall_at_1(tmp_path, capsys, monkeypatch):
    for i in range(6):
        (tmp_path / 'test' / f'class_{i // 2}').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'test' / f'class_{i // 2}' / f'{i}.png')
    # Classes 0 and 2 find each other first, one image of class 1 does not.
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0.3], [-1, 0], [-1, -0.1]], np.float32)
    monkeypatch.setattr(MetricLearning, 'embed', lambda self, images, show_progress=False: embeddings)
    system = MetricLearning.__new__(MetricLearning)
    system.recipe = EasyDict(dataset_path=str(tmp_path), subset='half', query=None, gallery=None, recall_k=[5, 1000],
                             checkpoint='~/x.ckpt')
    result = system.evaluate()
    assert list(result['recall']) == ['1', '5'] and result['recall']['5'] == 1
    first = [max((j for j in range(6) if j != i), key=lambda j: embeddings[i] @ embeddings[j] / np.linalg.norm(
        embeddings[j])) for i in range(6)]
    truth = np.mean([first[i] // 2 == i // 2 for i in range(6)])
    assert 0 < truth < 1 and result['accuracy'] == pytest.approx(truth)
    assert f"result: {{'acc': {truth:.3f}}} ckpt=~/x.ckpt\n" in capsys.readouterr().out


def test_errors_of_metric_learning_name_the_flag():
    recipe = EasyDict(COMMON, **RECIPES['SOP', 'softmax', 'published'])
    with pytest.raises(InputError, match='--dataset_path is missing'):
        MetricLearning(EasyDict(recipe, dataset_path=None), Place('CPU', 0, 0, 1))
    with pytest.raises(InputError, match='--validation=seen_images: choose one of seen_classes'):
        MetricLearning(create_recipe(parse_args('train', ['--dataset_path=D', '--validation=seen_images'])),
                       Place('CPU', 0, 0, 1))
    system = MetricLearning.__new__(MetricLearning)
    system.place, system.labels = Place('CPU', 0, 0, 1), np.repeat(np.arange(4), 3)
    system.recipe = EasyDict(recipe, loss_name='npairs', batch_size=9, samples_each_class=3)
    with pytest.raises(InputError, match='--samples_each_class=3: npairs compares 2 images a class'):
        system._create_sampler()
    system.recipe = EasyDict(recipe, query='/no/query.txt', gallery='/no/gallery.txt')
    with pytest.raises(InputError, match='--query=/no/query.txt: no such'):
        system.evaluate()
