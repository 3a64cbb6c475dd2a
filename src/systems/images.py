"""What the systems that learn from images share."""
import inspect
from typing import Any, Dict, Tuple

from mindspore import amp

from src.checkpoints.weights import conventions, load_classifier, load_weights, read_weights
from src.common.errors import InputError
from src.datasets.image_batches import reading, train_dataset
from src.datasets.samplers import GroupSampler, Sampler, TripletSampler, create_sampler
from src.losses import create_loss, loss_class
from src.networks import create_image_network
from src.pictures import check_picture
from src.recipes.config import Recipe
from src.retrieval.embedding import check_turned, embed
from src.systems.system import System


def for_device(network, target):
    """The network in float16, with BatchNorm in float32, on Ascend; elsewhere as it is."""
    return amp.auto_mixed_precision(network, 'O2') if target == 'Ascend' else network


# Entries that say how images are embedded, beside their size: what somebody with the network alone must know.
EMBEDDING = ('eval_transform', 'bgr', 'interpolation', 'mirror', 'turned')


def embedding_options(recipe: Recipe) -> Dict[str, Any]:
    """How the images of an evaluation are given to a network, as src.retrieval.embedding.embed_batches takes it."""
    return dict(image_size=recipe.image_size, transform=recipe.get('eval_transform', 'resize'), bgr=recipe.get('bgr', False),
                interpolation=recipe.interpolation, mirror=recipe.mirror, turned=recipe.turned, num_workers=recipe.num_workers)


class ImageSystem(System):
    """The base of MetricLearning and Reid, which open the images and measure.

    found: class_num, and conventions, the options of the backbone that go with the weights it started from.
    """

    # What --validation may be.
    validations: Tuple[str, ...] = ()
    # Entries of the recipe that go to train_dataset as they are.
    train_options: Tuple[str, ...] = ('image_size', 'flip', 'num_workers', 'interpolation')

    @classmethod
    def build_network(cls, recipe, found):
        """The network with the padding and BatchNorm's epsilon that its weights were trained with: the same weights give
        other outputs under others."""
        options = {**recipe.backbone_options, **found['conventions']}
        return create_image_network(recipe.backbone, recipe.head, backbone_options=options,
                                    head_options=recipe.head_options)

    @classmethod
    def found_in_weights(cls, recipe, weights):
        known = conventions(recipe.backbone, weights)
        if weights.source == 'mindspore' and not weights.recorded:
            # Of a .ckpt of unknown origin the recipe knows more, where it says anything.
            known = {name: value for name, value in known.items() if name not in recipe.backbone_options}
        return {'conventions': known}

    @classmethod
    def input_shapes(cls, network, size):
        return [(3, *size)]

    def open_training_images(self):
        """Set images and labels (0..C-1) to train on, and held_out where the recipe holds classes out."""
        raise NotImplementedError

    def check_evaluation(self):
        """Raise InputError where an evaluation could not end well, before anything is computed."""
        check_picture(self.recipe.picture)

    def test_images(self):
        """The images that evaluation embeds: lists of images, the queries before their gallery if there is one."""
        raise NotImplementedError

    def prepare(self, found=None):
        recipe, process = self.recipe, self.process
        if recipe.validation not in self.validations:
            raise InputError(f'--validation={recipe.validation}: choose one of {", ".join(self.validations)}')
        # Here, not after the last step.
        check_turned(recipe.image_size, recipe.turned)
        if recipe.run_eval:
            self.check_evaluation()
        self.open_training_images()
        start = read_weights(recipe.pretrained) if recipe.pretrained else None
        self.found = {'class_num': int(self.labels.max()) + 1,
                      **(self.found_in_weights(recipe, start) if start else {'conventions': {}})}
        network = self.build_network(recipe, self.found)
        kind = loss_class(recipe.loss_name)
        if network.head.gives_feature is not None:
            network.head.gives_feature = kind.uses_neck
        elif kind.uses_neck:
            raise InputError(f'--loss_name={recipe.loss_name}: needs a head with a neck, this is {recipe.head}; give '
                             '--set head=neck')
        self.loss = self._create_loss(network.out_channels)
        if start:
            report = load_weights(network, start, network.new_layers)
            # The classifier goes on too where it is of the same classes.
            goes_on = load_classifier(self.loss, start)
            if process.rank == 0:
                print(f'starting from {start.path}: {report}' + ', but the classifier goes on' * goes_on)
        self.head = network.head
        self.network = for_device(network, process.target)
        self.sampler = create_sampler(
            recipe.sampler or kind.batch, self.labels, batch_size=recipe.batch_size,
            seed=recipe.seed, rank=process.rank, size=process.size, last_batch=recipe.last_batch,
            instances=recipe.samples_each_class, small_classes=recipe.small_classes, super_labels=self.images.super_labels)
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self._check_batches(kind)

    def _check_batches(self, kind):
        """Raise InputError where a named sampler gives other batches than the loss is made for."""
        recipe = self.recipe
        # In the other batches the order of the rows means nothing.
        ordered = {'triplet': TripletSampler, 'pairs': GroupSampler, 'identities': GroupSampler}.get(kind.batch, Sampler)
        if not isinstance(self.sampler, ordered) or kind.batch == 'pairs' and self.sampler.instances != 2:
            raise InputError(f'sampler={recipe.sampler}: --loss_name={recipe.loss_name} needs batches of {kind.batch}; leave '
                             'the sampler at its default')
        self.loss.check_batch(recipe.batch_size)
        mask = self.sampler.epoch(0)[1]
        if mask is not None and 'mask' not in inspect.signature(kind.construct).parameters:
            raise InputError(f'--loss_name={recipe.loss_name}: counts all images of a batch, and these have a mask; leave '
                             'sampler and small_classes at their defaults')

    def _create_loss(self, embedding_size):
        recipe = self.recipe
        filled = {'num_classes': self.found['class_num'], 'embedding_size': embedding_size,
                  'num_instances': recipe.samples_each_class, 'device_num': self.process.size}
        needs = {name: filled[name] for name in loss_class(recipe.loss_name).needs}
        return create_loss(recipe.loss_name, **needs, **recipe.loss_options)

    def batches(self, epoch, skip):
        recipe, process = self.recipe, self.process
        indices, mask = self.sampler.epoch(epoch)
        dataset = train_dataset(self.images, self.labels, indices, mask, seed=recipe.seed * 1_000_003 + epoch, skip=skip,
                                rank=process.rank, size=process.size, transform=recipe.train_transform, as_uint8=True,
                                **{name: recipe[name] for name in self.train_options})
        iterator = dataset.create_tuple_iterator(num_epochs=1, do_copy=False)
        while True:
            # Only what reading raises is about an image.
            with reading(self.images):
                try:
                    columns = next(iterator)
                except StopIteration:
                    return
            yield tuple(columns)

    def before_measuring(self, hurried=False):
        """Let a head that wants to look at the embeddings of the training images, turned ones too, without augmentation.

        hurried: it forgets what it found for earlier weights, and does not look.
        """
        if not self.head.fitted:
            return
        self.head.reset()
        if not hurried:
            self.head.fit(self.embed(self.images, mirror=False, turned=False), self.labels)

    def embed(self, images, show_progress=False, **changed):
        """Embeddings (N, D) float32 of an ImageList, given to the network as the recipe says but for what is changed."""
        return embed(self.network, images, self.recipe.test_batch_size, show_progress, target=self.process.target,
                     **{**embedding_options(self.recipe), **changed})
