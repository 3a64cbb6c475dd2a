"""Run by test_ascend_graphs.py: compile the graphs of all recipes in Ascend's precision on this CPU, saved to FOLDER.

    python tests/ascend/compile_recipes.py FOLDER

For every recipe: the training step, evaluation and what is exported. Of networks of images the small one of four blocks,
once for each combination of backbone, head and optimizer; the losses, all of them, behind a layer of 8 units: what they
compile to does not hang on the network.
"""
import os
import sys
from pathlib import Path
from types import SimpleNamespace

if __name__ == '__main__':
    # Of the 148 files of a graph the one after all optimisations that do not hang on the device.
    os.environ.update(MS_DEV_SAVE_GRAPHS='1', MS_DEV_SAVE_GRAPHS_PATH=sys.argv[1], MS_DEV_DUMP_IR_PASSES='validate')

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402
from mindspore import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.losses import LOSSES, create_loss, loss_class, loss_kind  # noqa: E402
from src.losses.references import WithReferences  # noqa: E402
from src.networks import create_network, head_class  # noqa: E402
from src.networks.heads import ImageNetwork  # noqa: E402
from src.networks.mobilenet_v2 import MobileNetV2  # noqa: E402
from src.networks.resnet import ResNet  # noqa: E402
from src.networks.resnet_ibn import ResNet50IbnA  # noqa: E402
from src.recipes.recipe import RECIPES, Recipe, make_recipe  # noqa: E402
from src.training.precision import mixed_precision  # noqa: E402
from src.training.train_step import create_step  # noqa: E402

ASCEND = SimpleNamespace(target='Ascend', device_id=0, rank=0, size=1)
ROWS, SIDE, UNITS, CLASSES = 12, 32, 8, 4
STOP, LR = Tensor(0, ms.int32), np.full(5, 1e-3, np.float32)
PICTURES = Tensor(np.zeros((ROWS, 3, SIDE, SIDE)), ms.uint8)
LABELS = {'triplet': [0, 0, 1, 2, 2, 3] * 2, 'pairs': [0, 0, 1, 1, 2, 2] * 2}


class SmallResNet(ResNet):
    blocks = (1, 1, 1, 1)


class SmallResNetIbnA(ResNet50IbnA):
    blocks = (1, 1, 1, 1)


def small(backbone, options):
    """A backbone of its kind with few channels; MobileNetV2 has few."""
    if backbone == 'mobilenet_v2':
        return MobileNetV2(**options)
    return (SmallResNetIbnA if backbone == 'resnet50_ibn_a' else SmallResNet)(**{**options, 'width': 8})


class Units(nn.Cell):
    """A layer, given as often as the loss wants it."""

    new_layers = ()
    out_channels = UNITS

    def __init__(self, outputs):
        super().__init__()
        self.dense = nn.Dense(3, UNITS)
        self.outputs = outputs

    def construct(self, x):
        x = self.dense(x)
        return (x,) * self.outputs


def loss_of(recipe, width):
    """The loss of a recipe, and the columns of a batch that it gets."""
    kind = loss_class(recipe.loss_name)
    known = {'num_classes': CLASSES, 'embedding_size': width, 'num_instances': 4}
    loss = create_loss(recipe.loss_name, **{need: known[need] for need in kind.needs}, **recipe.loss_options)
    if recipe.memory:
        loss = WithReferences(loss, width, recipe.memory, recipe.memory_warm_up)
    labels = Tensor(LABELS.get(kind.batch, np.repeat([0, 1, 2], 4)), ms.int32)
    return loss, (labels, Tensor(np.ones(ROWS), ms.float32)) if kind.batch == 'identities' else (labels,)


def recipes(*systems):
    """(name, recipe) of all entries for these systems; a recipe for a kind of losses, with the first of that kind."""
    first = {'element': 'softmax', 'pair': 'supcon'}
    for dataset, choice, name in RECIPES:
        recipe = make_recipe(dataset, first.get(choice, choice), name)
        if recipe['system'] in systems:
            # A replayed step is several graphs, called from Python; what they hold is in those of a whole step.
            yield f'{dataset} {choice} {name}', Recipe({**recipe, 'chunk_size': 0} if 'chunk_size' in recipe else recipe)


def networks_of_images():
    """Training, evaluation and export of every backbone, head and optimizer."""
    seen = set()
    listed = list(recipes('metric_learning', 'reid'))
    # No recipe has it.
    ibn = next(recipe for name, recipe in listed if name == 'lists ctl published').changed({'backbone': 'resnet50_ibn_a'})
    for name, recipe in [*listed, ('lists ctl resnet50_ibn_a', ibn)]:
        # Whether weights decay, and how much, is one graph; so are resnets of all depths.
        parts = {'backbone': recipe.backbone.strip('1234580'), 'backbone_options': recipe.backbone_options,
                 'head': recipe.head, 'head_options': recipe.head_options, 'optimizer': recipe.optimizer, 'decay': recipe.decay}
        if str(parts) in seen:
            continue
        seen.add(str(parts))

        def build(recipe=recipe, parts=parts):
            body = small(recipe.backbone, parts['backbone_options'])
            for _, cell in body.cells_and_names():
                if hasattr(cell, 'by_products'):
                    cell.by_products = False
            return ImageNetwork(body, head_class(recipe.head)(body.out_channels, **recipe.head_options))

        network = build()
        loss, others = loss_of(recipe, network.out_channels)
        step = create_step(mixed_precision(network, 'O2'), loss, 1, recipe, LR, ASCEND)
        yield f'train {name}', step.set_train(), (STOP, PICTURES, *others)
        normalised = Tensor(np.zeros(PICTURES.shape), ms.float32)
        yield f'evaluate {name}', mixed_precision(build(), 'O2').set_train(False), (normalised,)
        yield f'export {name}', build().set_train(False), (normalised[:1],)


def losses_of_images():
    """The step of every loss with the options of every recipe."""
    options = {(recipe.loss_name, f'{recipe.loss_options} {recipe.memory}'): recipe
               for _, recipe in recipes('metric_learning', 'reid')}
    plain = next(iter(options.values()))
    named = {name for name, _ in options}
    for name in LOSSES:
        if name not in named and loss_kind(name) != 'semantic':
            options[name, '{}'] = Recipe({**plain, 'loss_name': name, 'loss_options': {}, **LOSSES[name].entries})
    for (name, _), recipe in options.items():
        network = Units(2 if loss_class(name).uses_neck else 1)
        loss, others = loss_of(recipe, UNITS)
        step = create_step(mixed_precision(network, 'O2'), loss, 1, recipe, LR, ASCEND)
        yield f'loss {name}', step.set_train(), (STOP, Tensor(np.zeros((ROWS, 3)), ms.float32), *others)


def zero_shot():
    """DEM's networks, and those the benchmark's candidates have; they stay in float32 on every device."""
    for name, recipe in recipes('zero_shot', 'generalised'):
        variants = [recipe] + [Recipe({**recipe, **change}) for changes in recipe.get('candidates', [])
                               for change in changes if 'network' in change or 'dropout' in change]
        for recipe in variants:
            network = create_network(recipe.network, **{**recipe.network_options, 'visual_dim': UNITS})
            network.new_layers = ()
            hidden = recipe.network_options.get('hidden_dim', 0) * recipe.network_options.get('members', 1)
            rows = 5 if recipe.loss_name == 'prototype_softmax' else ROWS
            inputs = [Tensor(np.zeros((rows, width)), ms.float32) for width in network.input_widths]
            keep = [] if recipe.dropout is None else [Tensor(np.zeros((rows, hidden)), ms.float32)]
            targets = [Tensor(np.zeros((ROWS, UNITS)), ms.float32)]
            if recipe.loss_name == 'prototype_softmax':
                targets.append(Tensor(np.zeros(ROWS), ms.int32))
            loss = create_loss(recipe.loss_name, **recipe.loss_options)
            step = create_step(network, loss, len(inputs) + len(keep), recipe, LR, ASCEND)
            yield f'train {name}', step.set_train(), (STOP, *inputs, *keep, *targets)
            alone = create_network(recipe.network, **{**recipe.network_options, 'visual_dim': UNITS}).set_train(False)
            yield f'evaluate and export {name}', alone, inputs


def main():
    """Prints what was compiled, one line each."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device('CPU')
    ms.set_recursion_limit(10000)
    for graphs in (losses_of_images, zero_shot, networks_of_images):
        for name, cell, columns in graphs():
            cell.compile(*columns)
            print(name, flush=True)


if __name__ == '__main__':
    main()
