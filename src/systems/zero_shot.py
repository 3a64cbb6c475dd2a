"""DEM: class semantics mapped into the space of visual features (arXiv 1611.05088)."""
from contextlib import nullcontext

import numpy as np
from mindspore import Tensor

from src.accuracy import accuracy, knn_classify, per_class_accuracy
from src.datasets import dem
from src.losses import create_loss
from src.networks import create_network


class ZeroShot:
    """Training on seen classes, nearest prototype among the unseen ones.

    Args:
        recipe (EasyDict): dataset, train_mode, data_path, network, network_options, loss_name, loss_options,
            dropout, batch_size, feature_scaling, semantics_scaling, metric, validation ('seen_images',
            'seen_classes', 'test_classes' or 'none') with validation_fraction, seed. Its network_options get the widths
            of the data.
        place (Place): which share of the batches is this process's.
        training (bool): False holds nothing out.

    Raises:
        InputError: see src.datasets.dem.load_dem.
    """

    def __init__(self, recipe, place, training=True):
        self.recipe = recipe
        self.place = place
        self.train = dem.load_dem(recipe.data_path, recipe.dataset, recipe.train_mode)
        self.test = self.held_out = self.train.test
        if training and recipe.validation == 'seen_images':
            self.train, self.held_out = dem.hold_out_images(self.train, recipe.validation_fraction, recipe.seed)
        elif training and recipe.validation == 'seen_classes':
            self.train, self.held_out = dem.hold_out_classes(self.train, recipe.validation_fraction, recipe.seed)
        features, semantics = recipe.feature_scaling, recipe.semantics_scaling
        self.held_out = dem.scale_part(self.train, self.held_out, features, semantics)
        self.test = dem.scale_part(self.train, self.test, features, semantics)
        self.train = dem.scale_train(self.train, features, semantics)
        widths = dict(zip(self.input_names(recipe), (rows.shape[1] for rows in self.test.semantics)))
        recipe.network_options.update(widths, visual_dim=self.test.features.shape[1])
        self.network = create_network(recipe.network, **recipe.network_options)
        self.loss = create_loss(recipe.loss_name, **recipe.loss_options)
        self.inputs = len(widths) + (recipe.dropout is not None)

    @staticmethod
    def input_names(recipe):
        """The network's inputs, named by the option that gives their width."""
        widths = {'att': 'attribute_dim', 'word': 'word_dim'}
        return [widths[kind] for kind in dem.SEMANTICS[recipe.train_mode]]

    @staticmethod
    def input_shapes(network, args):
        """Shapes of the network's inputs without the batch."""
        return [(width,) for width in network.input_widths]

    @property
    def steps_per_epoch(self):
        return dem.steps_per_epoch(len(self.train.train_features), self.recipe.batch_size, self.place.size)

    def train_dataset(self, epoch, skip):
        """The batches of one epoch, without its first `skip` steps: (semantics..., feature), or for prototype_softmax
        (semantics of all classes..., dropout of the hidden layer if any, feature, label)."""
        recipe = self.recipe
        common = (recipe.batch_size, recipe.seed, epoch, self.place.rank, self.place.size, skip)
        if recipe.loss_name == 'prototype_softmax':
            hidden_dim = recipe.network_options.get('hidden_dim', 0)
            return dem.create_prototype_dataset(self.train, *common, recipe.dropout, hidden_dim)
        return dem.create_train_dataset(self.train.train_features, self.train.train_semantics, *common)

    def reading(self):
        """Around a loop over train_dataset: names what cannot be read. Here all is in memory."""
        return nullcontext()

    def classify(self, part):
        """The class of every image of an EvalPart: int64 (M,)."""
        training = self.network.training
        self.network.set_train(False)
        prototypes = self.network(*(Tensor(rows) for rows in part.semantics)).asnumpy()
        self.network.set_train(training)
        return knn_classify(part.features, prototypes, part.class_ids, self.recipe.metric)

    def validate(self):
        """Share of the held-out images that are classified right."""
        return accuracy(self.classify(self.held_out), self.held_out.labels)

    def evaluate(self):
        """Accuracy on the unseen classes, over all images and as the mean over classes; printed as published."""
        predicted = self.classify(self.test)
        result = {'accuracy': accuracy(predicted, self.test.labels),
                  'per_class_accuracy': per_class_accuracy(predicted, self.test.labels, self.test.class_ids)}
        print('============== Starting Evaluating ==============')
        print(f'accuracy _ {self.recipe.dataset} _ {self.recipe.train_mode} = {result["accuracy"]:.5f}')
        print(f'mean accuracy of the {len(np.unique(self.test.labels))} classes = {result["per_class_accuracy"]:.5f}')
        return result
