"""The entries of recipes: each is declared here once, with its type, its default and what it is for.

What checks them, --help, --set, --config_path and the resuming of a training need to know of an entry is in its line of
ENTRIES. The options of a component (`loss_options.margin`) are declared by the component's constructor instead.
"""
import math
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping

from src.accuracy.reranking import Rerank
from src.common.errors import InputError
from src.losses import LOSSES
from src.networks import BACKBONES, HEADS, NETWORKS
from src.recipes.types import (
    Refused,
    Type,
    anything,
    boolean,
    either,
    encoding,
    one_of,
    real,
    settings,
    several,
    size,
    table,
    text,
    whole,
)
from src.training.learning_rate import LR_MODES


@dataclass(frozen=True)
class Entry:
    """One entry of a recipe.

    type: what it may be. default: what a recipe has that says nothing of it. purpose: one line for --help.
    of: which recipes have it: 'all', 'images' (systems whose network takes images), 'arrays' (the others), or names of
    systems. run: whether it says how to run a training (paths, threads, files) rather than what to learn; these may
    change when a training is resumed. network: whether it says what the network is, so that a checkpoint's cannot change.
    implies: entries that it sets too, unless they are set themselves.
    """
    type: Type
    default: Any
    purpose: str
    of: str = 'all'
    run: bool = False
    network: bool = False
    implies: Mapping[str, Any] = field(default_factory=dict)


SHARE = Type('a number from 0 to 1', lambda value: real(0, math.nextafter(1, 2)).convert(value))
NATURAL, POSITIVE, RATE, OPTIONS = whole(), whole(1), real(), table(anything)


def _rerank(value: Any) -> Dict[str, Any]:
    said = settings('k1', 'k2', 'weight').read(value)
    try:
        Rerank(**said).check()
    except InputError as error:
        raise Refused(str(error)) from error
    return dict(said)


RERANK = Type('k1=NUMBER,k2=NUMBER,weight=NUMBER or some of them', _rerank, textual=True)
LISTS = {'train_list': None, 'query': None, 'gallery': None}
METRIC, REID, GBU, SEMANTICS, IMAGES = 'metric_learning', 'reid', 'generalised', 'zero_shot generalised', 'images'

ENTRIES: Dict[str, Entry] = {
    # What the recipe is, which flags choose.
    'system': Entry(text, None, 'the system, which the dataset chooses', network=True),
    'dataset': Entry(text, None, 'the dataset'),
    'recipe': Entry(text, None, 'the name of the recipe'),
    'loss_name': Entry(one_of(LOSSES), None, 'the loss'),
    'train_mode': Entry(one_of(('att', 'word', 'fusion')), 'att', 'the class semantics', SEMANTICS, network=True),

    # Training.
    'seed': Entry(whole(0, 2 ** 32), 1, 'seed of everything that is random'),
    'batch_size': Entry(POSITIVE, 60, 'rows of a step on each device'),
    'epoch_size': Entry(POSITIVE, 100, 'epochs', implies={'total_iter_num': 0}),
    'total_iter_num': Entry(NATURAL, 0, 'iterations; where given, they go before epochs'),
    'pretrain_epoch_size': Entry(NATURAL, 0, 'epochs of the schedule that were trained elsewhere'),
    'optimizer': Entry(text, 'momentum', 'momentum, adam or adamw'),
    'momentum': Entry(real(0, 1), 0.9, 'momentum of the optimizer of that name'),
    'beta1': Entry(real(0, 1), 0.9, 'beta1 of adam and adamw'),
    'epsilon_hat': Entry(boolean, True, 'whether adam and adamw add epsilon to the uncorrected root, as MindSpore and '
                         'TensorFlow do; False: as PyTorch'),
    'weight_decay': Entry(either(RATE, table(RATE)), 0.0, 'weight decay, or a weight decay for each layer by name'),
    'decay': Entry(text, 'weights', "what is decayed: 'weights' spares gamma and beta of normalisations, 'all' does not"),
    'loss_scale': Entry(real(positive=True), 1.0, 'factor on the loss before differentiation; dynamic on Ascend'),
    'amp_level': Entry(one_of(('auto', 'O0', 'O2', 'bfloat16')), 'auto', 'O0 for float32, O2 for float16 with BatchNorm in '
                       'float32, bfloat16 for the same with bfloat16; auto: O2 on Ascend, else O0', IMAGES),
    'clip_norm': Entry(RATE, 0.0, 'bound on the global norm of the gradients, 0 for none'),
    'chunk_size': Entry(NATURAL, 0, 'rows of a batch that are embedded at once, 0 for all'),
    'loss_lr_factor': Entry(RATE, 1.0, "factor on the learning rate of the loss's parameters"),
    'head_first_epochs': Entry(NATURAL, 0, 'epochs in which new layers and the loss train alone'),
    'lr_mode': Entry(one_of(LR_MODES), 'const', 'course of the learning rate'),
    'lr_max': Entry(RATE, 1e-4, 'the highest learning rate'),
    'lr_init': Entry(RATE, 0.0, 'learning rate at the beginning of the warm-up'),
    'lr_end': Entry(RATE, 0.0, 'learning rate at the end of linear, poly and cosine'),
    'lr_epochs': Entry(several(NATURAL), [], 'epochs at which the learning rate falls to a tenth'),
    'lr_steps': Entry(several(POSITIVE), [], 'iterations at which the learning rate falls to a tenth',
                      implies={'lr_epochs': [], 'lr_mode': 'steps'}),
    'warmup_epochs': Entry(NATURAL, 0, 'epochs in which the learning rate rises'),
    'warmup': Entry(text, 'step', "whether the warm-up rises every 'step' or every 'epoch'"),
    'distributed_lr_factor': Entry(RATE, 1.0, 'factor on the learning rate of several devices'),
    'loss_options': Entry(OPTIONS, {}, 'options of the loss'),
    'gather': Entry(boolean, False, 'pair losses compare the images of all devices, instead of those of each', IMAGES),
    'memory': Entry(NATURAL, 0, 'rows of past steps that a pair loss compares each batch with; implies gather', IMAGES),
    'memory_warm_up': Entry(NATURAL, 1000, 'first steps whose rows are not remembered', IMAGES),

    # The course of a training.
    'interval_step': Entry(NATURAL, 0, 'steps from one loss line to the next, 0 for one an epoch', run=True),
    'save_checkpoint': Entry(boolean, True, 'False keeps the last network alone'),
    'save_checkpoint_epochs': Entry(POSITIVE, 10, 'epochs from one training state to the next', implies={'save_iter_step': 0}),
    'save_iter_step': Entry(NATURAL, 0, 'steps from one training state to the next; where given, they go before epochs'),
    'keep_checkpoint_max': Entry(POSITIVE, 2, 'how many training states stay', run=True),
    'validation': Entry(one_of(('seen_images', 'seen_classes', 'test_classes', 'none')), 'none',
                        'what best.ckpt is chosen on'),
    'validation_epochs': Entry(POSITIVE, 1, 'epochs from one validation to the next'),
    'validation_fraction': Entry(real(0, 1, positive=True), 0.1, 'share of the seen images or classes held out'),
    'test_iter_step': Entry(NATURAL, 0, 'steps from one validation to the next, on the test classes where --validation does '
                            'not say otherwise', implies={'validation': 'test_classes'}),
    'run_eval': Entry(boolean, False, 'evaluate on the test classes at the end', run=True),

    # Zero-shot learning.
    'network': Entry(one_of(NETWORKS), 'semantic', 'the network of class semantics', SEMANTICS, network=True),
    'network_options': Entry(OPTIONS, {}, 'options of the network', SEMANTICS),
    'metric': Entry(text, 'euclidean', 'what classifies: euclidean or cosine', SEMANTICS),
    'feature_scaling': Entry(text, 'none', 'scale of the features', SEMANTICS),
    'semantics_scaling': Entry(text, 'none', 'scale of the class semantics', SEMANTICS),
    'dropout': Entry(several(real(0, 1), 2).or_none(), None, 'shares of the semantics and of the hidden units that are '
                     'dropped in training', SEMANTICS),
    'data_path': Entry(text.or_none(), None, 'folder that holds AwA_data and CUB_data, or DukeMTMC-reID or market1501; GBU: '
                       'the one of res101.mat', 'arrays reid', run=True, implies=LISTS),
    'features': Entry(text, 'res101.mat', 'GBU: file of the features and labels', GBU),
    'splits': Entry(text, 'att_splits.mat', 'GBU: file of the semantics and splits', GBU),
    'kernel_options': Entry(OPTIONS, {}, 'kernel ridge regression of the network `ensemble`: shrinkage of the whitening (None '
                            'for none), width of the kernel (0 for the linear one), ridge, share of the whole', GBU),
    'kernel_candidates': Entry(several(several(OPTIONS)), [], 'lists of changes; from each the one is kept that does best '
                               'by kernel ridge regression alone', GBU),
    'candidates': Entry(several(several(OPTIONS)), [], 'lists of changes; from each the one is kept that does best on the '
                        'val classes after a training', GBU),

    # Networks of images.
    'backbone': Entry(one_of(BACKBONES), 'resnet50', 'the backbone', IMAGES, network=True),
    'backbone_options': Entry(OPTIONS, {}, 'options of the backbone; those that belong to its weights go before them', IMAGES),
    'head': Entry(one_of(HEADS), 'none', 'what follows the backbone', IMAGES, network=True),
    'head_options': Entry(OPTIONS, {}, 'options of the head', IMAGES),
    'pretrained': Entry(text.or_none(), None, 'weights to start from', IMAGES),
    'sampler': Entry(text.or_none(), None, 'the batches; None for those the loss is made for', IMAGES),
    'samples_each_class': Entry(POSITIVE, 2, 'images of a class in a batch', IMAGES),
    'small_classes': Entry(one_of(('leave_out', 'repeat', 'mask')).or_none(), None, 'what becomes of classes with fewer: '
                           "leave_out, repeat, mask, or None for the sampler's own way", IMAGES),
    'last_batch': Entry(text, 'drop', "what becomes of an epoch's last short batch: drop or wrap", IMAGES),

    # Images.
    'dataset_path': Entry(text.or_none(), None, 'folder of Stanford Online Products, a list of images, or a folder with one '
                          'folder a class', METRIC, run=True, implies=LISTS),
    'subset': Entry(one_of(('full', 'half', 'tiny')), 'full', 'subset of Stanford Online Products', METRIC),
    'class_num': Entry(NATURAL, 0, 'number of classes to compare with the training list; 0 for no comparison', METRIC),
    'train_list': Entry(text.or_none(), None, 'list of `path label camera`, with --query and --gallery of the same kind', REID,
                        run=True),
    'query': Entry(text.or_none(), None, 'list or folder of query images, with --gallery instead of leave-one-out', IMAGES,
                   run=True),
    'gallery': Entry(text.or_none(), None, 'list or folder of the images to find them in', IMAGES, run=True),
    'encoding': Entry(encoding, 'utf-8', 'encoding of lists, e.g. gbk or latin-1', IMAGES, run=True),
    'skip_broken': Entry(real(0, 1), 0.0, 'largest share of the pictures of a list that may be left out because they cannot be '
                         'read', IMAGES, run=True),
    'image_size': Entry(size, 224, 'side, or height,width', IMAGES),
    'interpolation': Entry(one_of(('antialias', 'bilinear', 'bicubic')), 'bilinear', 'interpolation of crops and resizing; '
                           "antialias is torchvision's bilinear", IMAGES),
    'bgr': Entry(boolean, False, 'feed BGR through the RGB statistics, as the published checkpoints were trained', METRIC),
    'train_transform': Entry(text, 'random_resized_crop', 'how training images are cropped', IMAGES),
    'eval_transform': Entry(text, 'resize', 'how the other images are cropped', METRIC),
    'flip': Entry(SHARE, 0.0, 'probability of a horizontal flip', IMAGES),
    'augmentation': Entry(OPTIONS, {}, 'augmentations by name, each with its options', METRIC),
    'turned_classes': Entry(boolean, False, 'whether images turned by 90, 180 and 270 degrees are classes of their own',
                            METRIC),
    'num_workers': Entry(POSITIVE, 8, 'threads that read images', IMAGES, run=True),

    # Measuring.
    'test_batch_size': Entry(POSITIVE, 50, 'images at once in evaluation', IMAGES, run=True),
    'mirror': Entry(boolean, False, 'average each embedding with that of the mirrored image', IMAGES),
    'turned': Entry(boolean, False, 'the embedding of each image beside those of it turned by 90, 180 and 270 degrees, four '
                    'times as wide', IMAGES),
    'recall_k': Entry(several(POSITIVE), [1], 'the K of Recall@K beside 1; those beyond the images compared with are left out',
                      METRIC, run=True),
    'rerank': Entry(boolean, False, 'k-reciprocal re-ranking: its figures beside the others', IMAGES, run=True),
    'rerank_options': Entry(RERANK, {}, 'its neighbours, averaged neighbours and weight of the original distance, as in '
                            'k1=20,k2=6,weight=0.3', IMAGES, run=True, implies={'rerank': True}),
    'false_match_rate': Entry(real(0, 1), 0.0, 'find the similarity from which two images show the same, for this share of '
                              'false matches, and keep it beside the checkpoint; 0 for none', IMAGES, run=True),
    'picture': Entry(text.or_none(), None, 'draw to this file: the threshold of --false_match_rate; without it, what was '
                     'found for queries of re-identification', IMAGES, run=True),
    'report': Entry(text.or_none(), None, 'write figures, curves, best and worst queries, confusions and a map to this page, '
                    'an .html', run=True),
}
# Which component the options of an entry belong to: `loss_options` to the loss that loss_name names, and so on.
COMPONENTS = {'loss_options': 'loss_name', 'network_options': 'network', 'backbone_options': 'backbone',
              'head_options': 'head'}


def entries_of(system: str, images: bool) -> Dict[str, Entry]:
    """The entries that recipes of a system have, by name.

    Args:
        system: a key of SYSTEMS. images: whether its network takes images.
    """
    kinds = {'all', system, 'images' if images else 'arrays'}
    return {name: entry for name, entry in ENTRIES.items() if kinds & set(entry.of.split())}
