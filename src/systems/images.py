"""Base of the systems that learn from images."""
import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from src.checkpoints.weights import Weights, conventions, load_classifier, load_weights, read_weights
from src.common.errors import InputError
from src.common.registry import check_choice
from src.common.values import height_width
from src.datasets.broken import contents, last_changed, without_broken
from src.datasets.image_batches import EpochOptions, ImageOptions, reading, train_dataset
from src.datasets.image_list import ImageList, class_list
from src.datasets.same_pictures import of_several_classes, picture_numbers
from src.datasets.samplers import GroupSampler, Sampler, TripletSampler, create_sampler
from src.losses import create_loss, loss_class
from src.losses.loss import Loss
from src.losses.references import WithReferences
from src.networks import create_image_network
from src.page import check_page
from src.pictures import check_picture
from src.recipes.recipe import Recipe, make_recipe
from src.retrieval.embedding import EmbeddingOptions, embed
from src.systems.measured import MeasuredImages
from src.training.precision import level_for, mixed_precision
from src.training.system import System


@dataclass(frozen=True)
class ImageFound:
    """Facts found in the images and in the weights that the training started from.

    class_num: classes of the training list, 0 if unknown. conventions: options of the backbone that its weights were
    trained with. class_names: names of the classes in the order of the classifier, empty if they have numbers.
    classes: hash of the names or numbers. images: hash of the labels of the training images, in the order of their list.
    contents: digest of the training images, see src.datasets.broken.contents.
    """
    class_num: int = 0
    conventions: Dict[str, Any] = field(default_factory=dict)
    class_names: List[str] = field(default_factory=list)
    classes: str = ''
    images: str = ''
    contents: str = ''


def _hash(words: Sequence[str]) -> str:
    return hashlib.blake2b('\0'.join(words).encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()


class ImageSystem(System):
    """Base type of MetricLearning and Reid, which open the images and measure."""

    Found = ImageFound
    # Allowed values of --validation.
    validations: Tuple[str, ...] = ()
    # The training images, and their labels 0..C-1; set by open_training_images.
    images: ImageList
    labels: NDArray[np.int64]

    @classmethod
    def build_network(cls, recipe: Recipe, found: ImageFound) -> nn.Cell:
        """Build the network with the padding and BatchNorm epsilon that its weights were trained with, on which their
        outputs depend."""
        options = {**recipe.backbone_options, **found.conventions}
        return create_image_network(recipe.backbone, recipe.head, backbone_options=options,
                                    head_options=recipe.head_options)

    @classmethod
    def found_in_weights(cls, recipe: Recipe, weights: Weights) -> ImageFound:
        known = conventions(recipe.backbone, weights)
        if weights.source == 'mindspore' and not weights.recorded:
            # For a .ckpt of unknown origin the recipe's options, if any, take precedence.
            known = {name: value for name, value in known.items() if name not in recipe.backbone_options}
        return ImageFound(conventions=known)

    @classmethod
    def input_shapes(cls, network: nn.Cell, size: Optional[Tuple[int, int]]) -> List[Tuple[int, ...]]:
        assert size is not None  # the recipe of images has one
        return [(3, *size)]

    def open_training_images(self) -> None:
        """Set images and labels (0..C-1) to train on, and held_out if the recipe holds classes out."""
        raise NotImplementedError

    def check_evaluation(self) -> None:
        """Raise InputError if an evaluation is bound to fail, before anything is computed."""
        check_picture(self.recipe.picture)
        check_page(self.recipe.report)

    def _open_test(self) -> MeasuredImages:
        """Open the images that evaluation measures."""
        raise NotImplementedError

    @cached_property
    def test(self) -> MeasuredImages:
        """Test images, opened on first use."""
        return self._open_test()

    def run_on_test(self) -> None:
        for images in self.test.lists:
            self.embed(images, True)

    def readable(self, images: ImageList) -> ImageList:
        """Remove broken images from a list. Raises InputError, naming them, if they exceed the recipe's skip_broken."""
        return without_broken(images, self.recipe.skip_broken, show_progress=self.process.rank == 0)

    def prepare(self, found: Any = None) -> None:
        recipe, process = self.recipe, self.process
        check_choice(self.validations, recipe.validation, '--validation')
        # An evaluation that would fail after the last step is refused before the first.
        self.options = EmbeddingOptions.of_recipe(recipe)
        if recipe.run_eval:
            self.check_evaluation()
        frozen = recipe.backbone_options.get('frozen_layers')
        if frozen and not recipe.pretrained:
            raise InputError(f'--recipe={recipe.recipe}: the first {frozen} layers of {recipe.backbone} are not trained and '
                             'need weights: give --pretrained=FILE, or --set backbone_options.frozen_layers=0')
        self.open_training_images()
        contradicted = of_several_classes(picture_numbers([self.images])[0], self.labels)
        if contradicted and process.rank == 0:
            print(f'{contradicted} pictures are listed under several classes')
        start = read_weights(recipe.pretrained) if recipe.pretrained else None
        classes = class_list(self.images)
        if len(classes) < 2:
            raise InputError(f'{self.images.source}: all {len(self.images)} training images are of one class, '
                             f'{classes[0]}; nothing can be learnt from one')
        self.found = replace(
            self.found_in_weights(recipe, start) if start else ImageFound(), class_num=len(classes),
            class_names=classes if self.images.class_names else [], classes=_hash(classes),
            images=_hash([*classes, *map(str, self.labels.tolist())]), contents=contents(self.images))
        # States of earlier versions do not store it.
        if found is not None and found.images and found.images != self.found.images:
            raise InputError(f'{self.images.source}: the training images or their labels have changed since this training '
                             'began; resume with the list it was started with, or train in another folder')
        if found is not None and found.contents not in ('', self.found.contents):
            raise InputError(f'{self.images.source}: pictures have changed since this training began, the last of them '
                             f'{last_changed(self.images)}; restore them, or train in another folder')
        network = self.build_network(recipe, self.found)
        norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
        if recipe.chunk_size and any(norm.use_batch_statistics is not False for norm in norms):
            raise InputError(f'chunk_size={recipe.chunk_size}: BatchNorm would see chunks instead of batches; give --set '
                             'backbone_options.frozen_batch_norm=True too, or leave it at 0')
        kind = loss_class(recipe.loss_name)
        self.head = network.head
        if self.head.gives_feature is not None:
            self.head.gives_feature = kind.uses_neck
        elif kind.uses_neck:
            raise InputError(f'--loss_name={recipe.loss_name}: needs a head with a neck, this is {recipe.head}; give '
                             '--set head=neck')
        self.loss = self._create_loss(network.out_channels)
        if start:
            self._start_from(start, network)
        self.network = mixed_precision(network, level_for(recipe.amp_level, process.target))
        self.sampler = create_sampler(
            recipe.sampler or kind.batch, self.labels, batch_size=recipe.batch_size,
            seed=recipe.seed, rank=process.rank, size=process.size, last_batch=recipe.last_batch,
            instances=recipe.samples_each_class, small_classes=recipe.small_classes, super_labels=self.images.super_labels)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        named = make_recipe(recipe.dataset, recipe.loss_name, recipe.recipe)
        for name in ('samples_each_class', 'small_classes'):
            if recipe[name] != named[name] and not isinstance(self.sampler, GroupSampler) and process.rank == 0:
                print(f'{name}={recipe[name]}: has no effect: {recipe.loss_name} takes batches of {kind.batch}')
        if self.sampler.never_drawn and process.rank == 0:
            print(f'{self.sampler.never_drawn} of {len(classes)} classes have fewer than {self.sampler.instances} images and '
                  'are never drawn (--samples_each_class)')
        self._check_batches(kind)

    def _start_from(self, start: Weights, network: nn.Cell) -> None:
        report = load_weights(network, start, network.new_layers)
        # The classifier is kept if it is of the same classes. Weights of other projects do not name their classes.
        theirs = start.recorded.found.get('classes') if start.recorded else None
        kept = theirs in (None, '', self.found.classes) and load_classifier(self.loss, start)
        if self.process.rank == 0:
            print(f'starting from {start.path}: {report}' + ', but the classifier is kept' * kept)

    def _check_batches(self, kind: Any) -> None:
        """Raise InputError if a named sampler gives batches for which the loss is not made."""
        recipe = self.recipe
        # In other kinds of batches the order of the rows has no meaning.
        ordered = {'triplet': TripletSampler, 'pairs': GroupSampler, 'identities': GroupSampler}.get(kind.batch, Sampler)
        if not isinstance(self.sampler, ordered) or kind.batch == 'pairs' and self.sampler.instances != 2:
            raise InputError(f'sampler={recipe.sampler}: --loss_name={recipe.loss_name} needs batches of {kind.batch}; leave '
                             'the sampler at its default')
        if isinstance(self.sampler, GroupSampler) and self.sampler.per_batch < 2:
            raise InputError(f'--batch_size={recipe.batch_size}: holds images of only one class, {self.sampler.instances} of '
                             'it; give at least twice as many')
        if isinstance(self.sampler, GroupSampler) and self.sampler.counts.max() < 2:
            raise InputError(f'{self.images.source}: the {len(self.images)} training images are all of different '
                             f'classes; --loss_name={recipe.loss_name} needs two images of a class')
        if self.sampler.epoch(0)[1] is not None and not kind.takes_mask:
            raise InputError(f'--loss_name={recipe.loss_name}: counts all images of a batch, but the sampler masks some; leave '
                             'sampler and small_classes at their defaults')

    def _create_loss(self, embedding_size: int) -> Loss:
        recipe = self.recipe
        filled = {'num_classes': self.found.class_num, 'embedding_size': embedding_size,
                  'num_instances': recipe.samples_each_class}
        needs = {name: filled[name] for name in loss_class(recipe.loss_name).needs}
        loss = create_loss(recipe.loss_name, **needs, **recipe.loss_options)
        if not (recipe.memory or recipe.gather):
            return loss
        rows = recipe.batch_size * self.process.size
        if 0 < recipe.memory < rows:
            raise InputError(f'memory={recipe.memory}: must hold the {rows} rows of a step; raise it, or lower --batch_size')
        return WithReferences(loss, embedding_size, recipe.memory, recipe.memory_warm_up, self.process.rank, self.process.size)

    def batches(self, epoch: int, skip: int) -> Iterator[Tuple[Tensor, ...]]:
        recipe, process = self.recipe, self.process
        indices, mask = self.sampler.epoch(epoch)
        # As uint8: the network normalises on the device by its backbone's statistics.
        options = ImageOptions(height_width(recipe.image_size), recipe.train_transform, recipe.interpolation,
                               recipe.get('bgr', False), as_uint8=True, num_workers=recipe.num_workers)
        dataset = train_dataset(self.images, self.labels, indices, mask, options, EpochOptions(
            recipe.seed * 1_000_003 + epoch, recipe.flip, recipe.get('augmentation', {}), skip, process.rank, process.size))
        iterator = dataset.create_tuple_iterator(num_epochs=1, do_copy=False)
        while True:
            # Only errors of reading concern an image.
            with reading(self.images):
                try:
                    columns = next(iterator)
                except StopIteration:
                    return
            yield tuple(columns)

    def before_measuring(self, hurried: bool = False) -> None:
        """Fit the head (e.g. whitening) to the embeddings of the unaugmented training images; hurried: only reset
        the head."""
        if not self.head.fitted:
            return
        self.head.reset()
        if not hurried:
            self.head.fit(self.embed(self.images, options=replace(self.options, mirror=False, turned=False)), self.labels)

    def embed(self, images: ImageList, show_progress: bool = False, options: Optional[EmbeddingOptions] = None
              ) -> NDArray[np.float32]:
        """Embeddings (N, D) float32 of images, with the preprocessing of the recipe or of the given options."""
        return embed(images, self.network, options or EmbeddingOptions.of_recipe(self.recipe), show_progress=show_progress,
                     target=self.process.target)
