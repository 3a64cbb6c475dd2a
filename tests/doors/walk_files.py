"""The files that the walks of CONTRIBUTING.md add, by path."""

FILES = {}
FILES['pair'] = '''"""Squared distances within a class."""
from src.losses.loss import Loss
from src.losses.pairs import same_class, squared_distances


class MyLoss(Loss):
    batch = 'groups'

    def __init__(self, power: float = 1.0):
        super().__init__()
        self.power = power

    def construct(self, embeddings, labels):
        return ((squared_distances(embeddings, len(labels)) * same_class(labels, len(labels))) ** self.power).mean()
'''
FILES['element'] = '''"""A linear classifier whose logits are multiplied."""
import mindspore as ms
from mindspore import Parameter, ops
from mindspore.common.initializer import Normal, initializer

from src.losses.loss import Loss
from src.losses.pairs import masked_mean, real_rows
from src.losses.softmax import cross_entropy


class MyLoss(Loss):
    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')
    takes_mask = True

    def __init__(self, num_classes: int, embedding_size: int, heat: float = 2.0):
        super().__init__()
        self.weight = Parameter(initializer(Normal(0.01), (num_classes, embedding_size), ms.float32), name='weight')
        self.heat = heat

    def construct(self, embeddings, labels, mask=None):
        losses = cross_entropy(self.heat * ops.matmul(embeddings, self.weight.T), labels)
        return masked_mean(losses, real_rows(embeddings, mask))
'''
FILES['backbone'] = '''"""One convolution."""
from mindspore import mint, nn

from src.networks.backbone import Backbone


class MyBackbone(Backbone):
    out_channels = 8
    mean, deviation = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, stride: int = 4):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride, pad_mode='valid', has_bias=True)

    def construct(self, images):
        return mint.nn.functional.relu(self.conv(images))
'''
FILES['head'] = '''"""The global average, centred on that of the training images."""
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from src.networks.heads import Head, average_pool


class MyHead(Head):
    fitted = True
    new_layers = ('centre',)

    def __init__(self, in_channels: int, share: float = 1.0):
        super().__init__()
        self.out_channels, self.share = in_channels, share
        self.centre = Parameter(np.zeros(in_channels, np.float32), 'centre', requires_grad=False)

    def construct(self, x):
        return average_pool(x) - self.share * self.centre

    def reset(self):
        ops.assign(self.centre, Tensor(np.zeros(self.out_channels), ms.float32))

    def fit(self, embeddings, labels):
        ops.assign(self.centre, Tensor(embeddings.mean(0), ms.float32))
'''
FILES['augmentation'] = '''def _mine(size, chance=0.5):
    """Upside down with a probability."""
    def augment(picture, rng):
        picture = picture.resize((size[1], size[0]))
        return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if rng.random() < chance else picture
    return augment


'''
FILES['mode'] = '''def mine(plan):
    """Every other step half."""
    return plan.lr_max * np.where(plan.step % 2, 0.5, 1.0)


'''
FILES['measure'] = '''"""The share of right images among the first half of the R nearest."""
import numpy as np

from src.accuracy.retrieval import Retrieval


def mine(retrieval: Retrieval):
    shares = [(right[:, :-(-right.shape[1] // 2)].sum(1) / np.ceil(counts / 2)) for counts, right in retrieval.first_r()]
    return {'half R-precision': float(np.mean(np.concatenate(shares).clip(0, 1)))}
'''
FILES['reid'] = '''"""Persons of a shop."""
import re

from src.datasets.reid import ReidFolders


class Mine(ReidFolders):
    """A shop with eight cameras."""

    folders = ('shop',)
    file_name = re.compile(r'person(\\d+)-camera(\\d+)')
    file_example = 'person0005-camera2-0.jpg'
    splits = {'train': 'train', 'query': 'query', 'gallery': 'gallery'}
'''
FILES['system'] = '''"""A square matrix on embeddings of a frozen network, learnt by any loss of metric learning."""
import os
from dataclasses import dataclass

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.accuracy import Retrieval, measure
from src.datasets.samplers import create_sampler
from src.losses import create_loss, loss_class
from src.retrieval.embedding_file import EmbeddingFile
from src.training.system import System

PER_CLASS = 4


@dataclass(frozen=True)
class ProjectionFound:
    """width: of an embedding."""
    width: int = 0


class Square(nn.Cell):
    """Embeddings (N, D) float32 -> (N, D); in the beginning they stay as they are."""

    new_layers = ()

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.matrix = Parameter(np.eye(width, dtype=np.float32), 'matrix')

    def construct(self, rows):
        return ops.matmul(rows, self.matrix)


class Projection(System):
    """Trains on train.npz of --data_path and is measured on test.npz, both of infer.py."""

    Found = ProjectionFound
    measure = 'Recall@1'
    measures = ('recall', 'map_at_r')

    def _read(self, part):
        file = EmbeddingFile(os.path.join(self.recipe.data_path or '', f'{part}.npz'))
        rows = np.concatenate([block for _, block in file.blocks()])
        return rows, np.unique(file.images.labels, return_inverse=True)[1]

    @classmethod
    def build_network(cls, recipe, found):
        return Square(found.width)

    @classmethod
    def input_shapes(cls, network, size):
        return [(network.width,)]

    def prepare(self, found=None):
        recipe, process = self.recipe, self.process
        self.rows, self.labels = self._read('train')
        self.found = ProjectionFound(self.rows.shape[1])
        self.network = self.build_network(recipe, self.found)
        kind = loss_class(recipe.loss_name)
        filled = {'num_classes': int(self.labels.max()) + 1, 'embedding_size': self.found.width, 'num_instances': PER_CLASS,
                  'device_num': process.size}
        self.loss = create_loss(recipe.loss_name, **{name: filled[name] for name in kind.needs}, **recipe.loss_options)
        self.sampler = create_sampler(kind.batch, self.labels, batch_size=recipe.batch_size, seed=recipe.seed,
                                      rank=process.rank, size=process.size, instances=PER_CLASS)
        self.steps_per_epoch = self.sampler.steps_per_epoch

    def batches(self, epoch, skip):
        for numbers in self.sampler.epoch(epoch)[0][skip:]:
            yield Tensor(self.rows[numbers]), Tensor(self.labels[numbers].astype(np.int32))

    def _figures(self):
        rows, labels = self._read('test')
        return measure(self.measures, Retrieval(self.network(Tensor(rows)).asnumpy(), labels))

    def validate(self):
        return self._figures()['Recall@1']

    def evaluate(self, checkpoint):
        figures = self._figures()
        print(checkpoint, *(f'{name} = {value:.5f}' for name, value in figures.items()), sep='\\n')
        return {'accuracy': figures['Recall@1'], 'measures': figures}
'''
FILES['recipes'] = '''"""Recipes of projections, by (dataset, loss, name)."""
from typing import Any, Dict, Tuple

PROJECTED = dict(batch_size=32, optimizer='adam', lr_max=1e-3, epoch_size=10, run_eval=True)

RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {
    ('features', 'element', 'projected'): PROJECTED,
    ('features', 'pair', 'projected'): PROJECTED,
}
'''
