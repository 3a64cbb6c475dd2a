"""DEM: a network maps class semantics into the space of visual features (arXiv 1611.05088)."""
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from src.accuracy import accuracy, knn_classify, per_class_accuracy
from src.checkpoints.weights import Weights
from src.common.errors import InputError
from src.datasets import dem
from src.datasets.scaling import Scale, fit_scaling
from src.datasets.zero_shot_batches import Epoch, image_batches, prototype_batches, steps_per_epoch
from src.datasets.zero_shot_data import EvalPart, ZeroShotData, describe_equal_classes, hold_out
from src.losses import create_loss, loss_class
from src.networks import create_network
from src.page import check_page, evaluation_page
from src.recipes.recipe import Recipe
from src.training.system import System

# Values of --validation that hold out images, and how they are drawn.
HELD_OUT = {'seen_images': 'images', 'seen_classes': 'classes'}
# Inputs of the network, named by the option that gives their width.
WIDTHS = {'att': 'attribute_dim', 'word': 'word_dim'}


@dataclass(frozen=True)
class ZeroShotFound:
    """Facts found in the data.

    network_options: widths of its semantics and features, by option of the network. contents: digest of the data to train on.
    """
    network_options: Dict[str, Any] = field(default_factory=dict)
    contents: str = ''


def check_told_apart(part: EvalPart, path: str, seen: Sequence[NDArray[Any]] = ()) -> None:
    """Raise InputError, naming the path of the data, if there is one class, or if all classes or all images are alike; print
    which classes are. seen: semantics of the training classes, if they are of another numbering."""
    if len(part.class_ids) < 2:
        raise InputError(f'{path}: one unseen class, so that every answer is right; a test needs two')
    if all((rows == rows[0]).all() for rows in part.semantics):
        raise InputError(f'{path}: all {len(part.class_ids)} unseen classes are described by the same numbers')
    if (part.features == part.features[0]).all():
        raise InputError(f'{path}: all {len(part.labels)} images of unseen classes have the same features')
    rows = np.concatenate(part.semantics, 1)
    same = describe_equal_classes(part.class_ids.tolist(), rows)
    if same:
        print(path + same)
    trained = {row.tobytes() for row in np.concatenate(seen, 1)} if seen else set()
    leaked = sum(row.tobytes() in trained for row in rows)
    if leaked:
        print(f'{path}: {leaked} of {len(rows)} unseen classes have the numbers of a training class: of unseen classes the '
              'figures say nothing')


def say_measured(part: EvalPart, answers: NDArray[np.int64]) -> Dict[str, int]:
    """Print and return the numbers of images, classes, and classes without images, which count in no mean; print if all
    answers are one class."""
    images, empty = len(part.labels), len(np.setdiff1d(part.class_ids, part.labels))
    classes = len(part.class_ids) - empty
    print(f'measured: {images} images of {classes} classes'
          + f'; {empty} more classes have no image, and may be answers' * bool(empty)
          + '; all images got the same answer: has the training collapsed? Lower --lr' * bool((answers == answers[0]).all()))
    return {'images': images, 'classes': classes, 'classes_without_images': empty}


class ZeroShot(System):
    """Training on seen classes, nearest prototype among the unseen ones."""

    Found: type = ZeroShotFound
    # Feature scales already fitted to the same data, by name.
    fitted: Optional[Dict[str, Scale]] = None

    @classmethod
    def build_network(cls, recipe: Recipe, found: Any) -> nn.Cell:
        return create_network(recipe.network, **{**recipe.network_options, **found.network_options})

    @classmethod
    def input_shapes(cls, network: nn.Cell, size: Optional[Tuple[int, int]]) -> List[Tuple[int, ...]]:
        return [(width,) for width in network.input_widths]

    @classmethod
    def found_in_weights(cls, recipe: Recipe, weights: Weights) -> Any:
        """Layer widths of published weights, which are those of their training data."""
        shapes = {name: value.shape for name, value in weights.values.items()}
        first = {'att': 'fc2' if recipe.train_mode == 'fusion' else 'fc1', 'word': 'fc1'}
        last = max((name for name in shapes if name.startswith('fc') and name.endswith('.weight')), default=None)
        layers = {WIDTHS[kind]: f'{first[kind]}.weight' for kind in dem.SEMANTICS[recipe.train_mode]}
        if last is None or not set(layers.values()) <= set(shapes):
            return cls.Found()  # load_weights says what does not fit
        return cls.Found({**{width: shapes[name][1] for width, name in layers.items()}, 'visual_dim': shapes[last][0]})

    def prepare(self, found: Any = None) -> None:
        recipe = self.recipe
        data = dem.load_dem(recipe.data_path, recipe.dataset, recipe.train_mode)
        self.held_out = data.test
        check_told_apart(data.test, str(recipe.data_path), data.seen_prototypes)
        if recipe.validation in HELD_OUT:
            data, self.held_out = hold_out(data, recipe.validation_fraction, recipe.seed, HELD_OUT[recipe.validation])
        self._train_on(data)
        self.found = replace(self.found, contents=self._contents(data, found))

    def _contents(self, data: ZeroShotData, found: Any) -> str:
        """Digest of the data to train on. Raises InputError if it is not that of the training to resume."""
        digest = data.contents
        # States of earlier versions do not store it.
        if found is not None and found.contents not in ('', digest):
            raise InputError(f'{self.recipe.data_path}: the features, labels or descriptions to train on have changed since '
                             'this training began; restore them, or train in another folder')
        return digest

    def _train_on(self, data: ZeroShotData) -> None:
        """Set up the training, from unscaled data."""
        recipe = self.recipe
        if len(data.seen_class_ids) < 2 or (data.train_features == data.train_features[0]).all():
            raise InputError(f'{recipe.data_path}: all {len(data.train_labels)} training images are of one class, or have the '
                             'same features; nothing can be learnt from them')
        self.scaling = fit_scaling(data, recipe.feature_scaling, recipe.semantics_scaling, self.fitted)
        self.train = self.scaling.train(data)
        names = [WIDTHS[kind] for kind in dem.SEMANTICS[recipe.train_mode]]
        self.found = self.Found({
            **{name: rows.shape[1] for name, rows in zip(names, self.train.train_semantics)},
            'visual_dim': self.train.train_features.shape[1], **self._more_options()})
        self.network = self.build_network(recipe, self.found)
        together = loss_class(recipe.loss_name).batch == 'prototypes'
        if recipe.dropout is not None and not (self.network.hidden_width and together):
            raise InputError(f'--set dropout={list(recipe.dropout)}: is for a network with one path and a hidden layer, and '
                             f'loss prototype_softmax; these are network {recipe.network} and loss {recipe.loss_name}')
        self.loss = create_loss(recipe.loss_name, **recipe.loss_options)
        self.network_columns = len(names) + (recipe.dropout is not None)
        self.steps_per_epoch = steps_per_epoch(len(self.train.train_labels), recipe.batch_size, self.process.size)

    def _more_options(self) -> Dict[str, Any]:
        """Additional options of the network that depend on the data."""
        return {}

    def batches(self, epoch: int, skip: int) -> Iterator[Tuple[Tensor, ...]]:
        """(semantics..., feature), or for prototype_softmax (semantics of all classes..., dropout of the hidden layer if
        any, feature, label)."""
        recipe = self.recipe
        which = Epoch(recipe.seed, epoch, self.process.rank, self.process.size, skip)
        if loss_class(recipe.loss_name).batch == 'prototypes':
            batches = prototype_batches(self.train, recipe.batch_size, which, recipe.dropout, self.network.hidden_width)
        else:
            batches = image_batches(self.train, recipe.batch_size, which)
        for columns in batches:
            yield tuple(map(Tensor, columns))

    def prototypes(self, semantics: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Outputs (C, V) float32 of the network for scaled semantics, each (C, A)."""
        training = self.network.training
        self.network.set_train(False)
        try:
            rows: NDArray[np.float32] = self.network(*map(Tensor, semantics)).asnumpy()
            return rows
        finally:
            self.network.set_train(training)

    def classify(self, part: EvalPart) -> NDArray[np.int64]:
        """Predicted class of every image of a scaled EvalPart: (M,) int64."""
        return knn_classify(part.features, self.prototypes(part.semantics), part.class_ids, self.recipe.metric)

    def validate(self) -> float:
        """Accuracy on the held-out images."""
        part = self.scaling.part(self.held_out)
        return accuracy(self.classify(part), part.labels)

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """Accuracy on the unseen classes, over all images and as the mean over classes; printed as published."""
        recipe = self.recipe
        check_page(recipe.report)
        test = self.test_part()
        predicted = self.classify(test)
        result: Dict[str, Any] = {'accuracy': accuracy(predicted, test.labels),
                  'per_class_accuracy': per_class_accuracy(predicted, test.labels, test.class_ids)}
        result['measures'] = {'accuracy': result['accuracy'], 'mean accuracy of the classes': result['per_class_accuracy']}
        print('============== Starting Evaluating ==============')
        print(f'accuracy _ {recipe.dataset} _ {recipe.train_mode} = {result["accuracy"]:.5f}')
        print(f'mean accuracy of the {len(np.unique(test.labels))} classes = {result["per_class_accuracy"]:.5f}')
        result['test'] = say_measured(test, predicted)
        if recipe.report:
            page = evaluation_page('Zero-shot learning', recipe, checkpoint, result['measures'], {
                'images': len(test.labels), 'unseen classes': len(test.class_ids)})
            page.add_classification((test.labels, predicted, predicted), dict(zip(
                test.class_ids.tolist(), (f'class {number}' for number in test.class_ids))), test.features,
                self.prototypes(test.semantics))
            page.write(recipe.report)
        return result

    def run_on_test(self) -> None:
        self.prototypes(self.test_part().semantics)

    def test_part(self) -> EvalPart:
        """EvalPart of the unseen classes, scaled as in training."""
        recipe = self.recipe
        data = dem.load_dem(recipe.data_path, recipe.dataset, recipe.train_mode)
        check_told_apart(data.test, str(recipe.data_path), data.seen_prototypes)
        # The recipe tells to which part of the data the scale was fitted in training.
        if recipe.validation in HELD_OUT and {recipe.feature_scaling, recipe.semantics_scaling} != {'none'}:
            data = hold_out(data, recipe.validation_fraction, recipe.seed, HELD_OUT[recipe.validation])[0]
        test = fit_scaling(data, recipe.feature_scaling, recipe.semantics_scaling).part(data.test)
        self._check_widths(test)
        return test

    def _check_widths(self, part: EvalPart) -> None:
        """Raise InputError unless a scaled part has the widths of the training."""
        given = [rows.shape[1] for rows in part.semantics]
        if given != list(self.network.input_widths):
            raise InputError(f'--data_path={self.recipe.data_path}: a class is described by {given} numbers, the network '
                             f'takes {list(self.network.input_widths)}')
        width = self.found.network_options.get('visual_dim', part.features.shape[1])
        if part.features.shape[1] != width:
            raise InputError(f'--data_path={self.recipe.data_path}: an image has {part.features.shape[1]} features, those of '
                             f'the training had {width}')
