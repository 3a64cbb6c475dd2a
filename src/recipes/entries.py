"""The entries of recipes, each declared once with its type, default and purpose.

A line says all that checks, --help, --set, --config_path and resuming need to know of an entry. The options of a
component (`loss_options.margin`) are declared by the component's constructor instead.
"""
import math
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from src.accuracy.reranking import Rerank
from src.common.arrays import METRICS
from src.common.errors import InputError
from src.datasets.images import is_sop, reads_list
from src.datasets.samplers import LAST_BATCH, SAMPLERS, SMALL_CLASSES
from src.datasets.scaling import FEATURE_SCALING, SEMANTICS_SCALING
from src.losses import LOSSES
from src.networks import BACKBONES, HEADS, NETWORKS
from src.recipes.systems import SYSTEMS
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

# Values of other entries with which an entry has an effect: all but those of OFF.
ON: Sequence[Any] = ()
OFF: Sequence[Any] = (0, None, False, [])
# Entries and options of infer.py that name images.
SOURCES = ('dataset_path', 'data_path', 'train_list', 'query', 'gallery')


class About(NamedTuple):
    """The images that an entry is about: a test of a path of SOURCES, and its words for errors."""
    test: Callable[[str], bool]
    words: str


@dataclass(frozen=True)
class Entry:
    """One entry of a recipe.

    type: the type of its values. default: its value in recipes that do not set it. purpose: one line for --help.
    of: which recipes have it: 'all', 'images' (systems whose network takes images), 'arrays' (the other systems), or names
    of systems. run: whether it says how to run a training (paths, threads, files) rather than what to learn; such entries
    may change when a training is resumed. network: whether it defines the network, so that it is fixed for a checkpoint.
    implies: values of other entries that it sets, unless they are set themselves. needs: values of other entries without
    which it has no effect. overridden_by: entry that takes its place if that is set. about: the images that it is about.
    """
    type: Type
    default: Any
    purpose: str
    of: str = 'all'
    run: bool = False
    network: bool = False
    implies: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    overridden_by: str = ''
    about: Optional[About] = None

    def why_idle(self, entries: Mapping[str, Any]) -> str:
        """Why the entry has no effect beside the other entries of a recipe (or options that name images); '' if it has one."""
        for name, values in self.needs.items():
            now = entries.get(name)
            if values is ON and now in OFF:
                return f'{name} is {now}; give {name} too, or leave this out'
            if values is OFF and now not in OFF:
                return f'{name} is {now}; leave one of them out'
            if values is not ON and values is not OFF and now not in values:
                return f'{name} is {now}; it is for {" and ".join(map(str, values))}'
        paths = [path for path in map(entries.get, SOURCES) if self.about and path and os.path.exists(path)]
        if self.about and paths and not any(map(self.about.test, paths)):
            return f'it is for {self.about.words}, and {paths[0]} is none'
        return ''


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
ADAM, STEPS, ENSEMBLE = {'optimizer': ('adam', 'adamw')}, {'lr_mode': ('steps',)}, {'network': ('ensemble',)}
VALIDATES = {'validation': ('seen_images', 'seen_classes', 'test_classes')}
METRIC, REID, GBU, SEMANTICS, IMAGES = 'metric_learning', 'reid', 'generalised', 'zero_shot generalised', 'images'

# Entries that identify the recipe; flags choose them.
_CHOICE: Dict[str, Entry] = {
    'system': Entry(text, None, 'the system, which the dataset chooses', network=True),
    'dataset': Entry(text, None, 'the dataset'),
    'recipe': Entry(text, None, 'name of the recipe'),
    'loss_name': Entry(one_of(LOSSES), None, 'loss'),
    'train_mode': Entry(one_of(('att', 'word', 'fusion')), 'att', 'class semantics', SEMANTICS, network=True),
}
# Entries that only a training uses: learning, batches, progress, saving and validation.
_TRAINING: Dict[str, Entry] = {
    'seed': Entry(whole(0, 2 ** 32), 1, 'random seed'),
    'batch_size': Entry(POSITIVE, 60, 'batch size on each device'),
    'epoch_size': Entry(POSITIVE, 100, 'number of epochs', implies={'total_iter_num': 0}, overridden_by='total_iter_num'),
    'total_iter_num': Entry(NATURAL, 0, 'number of iterations; if given, overrides the epochs'),
    'pretrain_epoch_size': Entry(NATURAL, 0, 'epochs of the schedule that were already trained elsewhere',
                                 needs={'total_iter_num': OFF}),
    'optimizer': Entry(one_of(('momentum', 'adam', 'adamw')), 'momentum', 'optimizer'),
    'momentum': Entry(real(0, 1), 0.9, 'momentum of the momentum optimizer', needs={'optimizer': ('momentum',)}),
    'beta1': Entry(real(0, 1), 0.9, 'beta1 of adam and adamw', needs=ADAM),
    'epsilon_hat': Entry(boolean, True, 'True: adam and adamw add epsilon before the bias correction, as MindSpore and '
                         'TensorFlow do; False: after it, as PyTorch does', needs=ADAM),
    'weight_decay': Entry(either(RATE, table(RATE)), 0.0, 'weight decay, or a dict of weight decays by layer'),
    'decay': Entry(one_of(('weights', 'all')), 'weights', 'decayed parameters; weights: all but gamma and beta of '
                   'normalisations', needs={'weight_decay': ON}),
    'loss_scale': Entry(real(positive=True), 1.0, 'loss scale for mixed precision; dynamic on Ascend'),
    'clip_norm': Entry(RATE, 0.0, 'largest global norm of the gradients, 0 for no clipping'),
    'chunk_size': Entry(NATURAL, 0, 'rows of a batch to embed at once, 0 for all'),
    'loss_lr_factor': Entry(RATE, 1.0, "factor on the learning rate of the loss's parameters"),
    'head_first_epochs': Entry(NATURAL, 0, 'first epochs, in which only new layers and the loss are trained'),
    'lr_mode': Entry(one_of(LR_MODES), 'const', 'learning rate schedule'),
    'lr_max': Entry(real(positive=True), 1e-4, 'highest learning rate'),
    'lr_init': Entry(RATE, 0.0, 'learning rate at the start of the warm-up', needs={'warmup_epochs': ON}),
    'lr_end': Entry(RATE, 0.0, 'final learning rate of linear, poly and cosine',
                    needs={'lr_mode': ('linear', 'poly', 'cosine')}),
    'lr_epochs': Entry(several(NATURAL), [], 'epochs at which the learning rate is divided by 10', needs=STEPS),
    'lr_steps': Entry(several(POSITIVE), [], 'iterations at which the learning rate is divided by 10',
                      implies={'lr_epochs': [], 'lr_mode': 'steps'}, needs={**STEPS, 'lr_epochs': OFF}),
    'warmup_epochs': Entry(NATURAL, 0, 'epochs of learning rate warm-up'),
    'warmup': Entry(one_of(('step', 'epoch')), 'step', 'when the warm-up raises the rate: every step or epoch',
                    needs={'warmup_epochs': ON}),
    'distributed_lr_factor': Entry(RATE, 1.0, 'factor on the learning rate if there are several devices'),
    'loss_options': Entry(OPTIONS, {}, 'options of the loss'),
    'gather': Entry(boolean, False, 'let pair losses compare the images of all devices, not of each device alone', IMAGES),
    'memory': Entry(NATURAL, 0, 'embeddings of past steps to which a pair loss compares each batch; implies gather', IMAGES),
    'memory_warm_up': Entry(NATURAL, 1000, 'number of first steps whose embeddings are not remembered', IMAGES,
                            needs={'memory': ON}),
    'interval_step': Entry(NATURAL, 0, 'steps between loss lines, 0 for one line per epoch', run=True),
    'save_checkpoint': Entry(boolean, True, 'save training states; False: save only the final network'),
    'save_checkpoint_epochs': Entry(POSITIVE, 10, 'epochs between training states', implies={'save_iter_step': 0},
                                    needs={'save_checkpoint': ON}, overridden_by='save_iter_step'),
    'save_iter_step': Entry(NATURAL, 0, 'steps between training states; if given, overrides the epochs',
                            needs={'save_checkpoint': ON}),
    'keep_checkpoint_max': Entry(POSITIVE, 2, 'number of training states to keep', run=True),
    'validation': Entry(one_of(('seen_images', 'seen_classes', 'test_classes', 'none')), 'none',
                        'validation set on which best.ckpt is chosen'),
    'validation_epochs': Entry(POSITIVE, 1, 'epochs between validations', needs=VALIDATES, overridden_by='test_iter_step'),
    'validation_fraction': Entry(real(0, 1, positive=True), 0.1, 'fraction of the seen images or classes to hold out',
                                 needs={'validation': ('seen_images', 'seen_classes')}),
    'test_iter_step': Entry(NATURAL, 0, 'steps between validations, on the test classes unless --validation says '
                            'otherwise', implies={'validation': 'test_classes'}, needs=VALIDATES),
    'run_eval': Entry(boolean, False, 'evaluate on the test classes at the end', run=True),
    'dropout': Entry(several(real(0, 1), 2).or_none(), None, 'dropout rates of the semantics and the hidden units', SEMANTICS),
    'kernel_candidates': Entry(several(several(OPTIONS)), [], 'lists of changes; of each list, the one best on the val '
                               'classes by kernel ridge regression alone is kept', GBU, needs=ENSEMBLE),
    'candidates': Entry(several(several(OPTIONS)), [], 'lists of changes; of each list, the one best on the val classes after '
                        'a training is kept', GBU),
    'pretrained': Entry(text.or_none(), None, 'pretrained weights to start from', IMAGES),
    'sampler': Entry(one_of(SAMPLERS).or_none(), None, 'sampler of batches; None for the one that the loss needs', IMAGES),
    'samples_each_class': Entry(POSITIVE, 2, 'images per class in a batch', IMAGES),
    'small_classes': Entry(one_of(SMALL_CLASSES).or_none(), None, 'handling of classes with fewer images; None for the '
                           "sampler's default", IMAGES),
    'last_batch': Entry(one_of(LAST_BATCH), 'drop', "handling of an epoch's last short batch", IMAGES),
    'class_num': Entry(NATURAL, 0, 'expected number of classes in the training list, 0 for no check', METRIC),
    'train_transform': Entry(text, 'random_resized_crop', 'cropping of training images', IMAGES),
    'flip': Entry(SHARE, 0.0, 'probability of a horizontal flip', IMAGES),
    'augmentation': Entry(OPTIONS, {}, 'augmentations by name, with their options', METRIC),
}
# Networks, and how zero-shot data is scaled for them.
_NETWORK: Dict[str, Entry] = {
    'backbone': Entry(one_of(BACKBONES), 'resnet50', 'backbone', IMAGES, network=True),
    'backbone_options': Entry(OPTIONS, {}, 'options of the backbone; the ones that its weights require override these',
                              IMAGES),
    'head': Entry(one_of(HEADS), 'none', 'head that turns feature maps into embeddings', IMAGES, network=True),
    'head_options': Entry(OPTIONS, {}, 'options of the head', IMAGES),
    'network': Entry(one_of(NETWORKS), 'semantic', 'network that maps class semantics to features', SEMANTICS, network=True),
    'network_options': Entry(OPTIONS, {}, 'options of the network', SEMANTICS),
    'kernel_options': Entry(OPTIONS, {}, 'kernel ridge regression of the network `ensemble`: shrinkage of the whitening (None '
                            'for no whitening), kernel width (0 for linear), ridge, weight in the ensemble', GBU,
                            needs=ENSEMBLE),
    'metric': Entry(one_of(METRICS), 'euclidean', 'distance for classifying', SEMANTICS),
    'feature_scaling': Entry(one_of(FEATURE_SCALING), 'none', 'scaling of the features', SEMANTICS),
    'semantics_scaling': Entry(one_of(SEMANTICS_SCALING), 'none', 'scaling of the class semantics', SEMANTICS),
}
# Data of a training and its evaluation.
_DATA: Dict[str, Entry] = {
    'data_path': Entry(text.or_none(), None, 'folder that holds AwA_data and CUB_data, or DukeMTMC-reID or market1501; of '
                       'GBU: folder that holds res101.mat', 'arrays reid', run=True, implies=LISTS,
                       needs=dict.fromkeys(LISTS, OFF)),
    'features': Entry(text, 'res101.mat', 'GBU: file with the features and labels', GBU),
    'splits': Entry(text, 'att_splits.mat', 'GBU: file with the semantics and splits', GBU),
    'dataset_path': Entry(text.or_none(), None, 'folder of Stanford Online Products, a list of images, or a folder with one '
                          'sub-folder per class', METRIC, run=True, implies=LISTS),
    'subset': Entry(one_of(('full', 'half', 'tiny')), 'full', 'subset of Stanford Online Products', METRIC,
                    about=About(is_sop, 'folders of Stanford Online Products')),
    'train_list': Entry(text.or_none(), None, 'list of `path label camera`, with --query and --gallery of the same kind', REID,
                        run=True),
    'query': Entry(text.or_none(), None, 'list or folder of query images for --gallery, instead of leave-one-out', IMAGES,
                   run=True),
    'gallery': Entry(text.or_none(), None, 'list or folder of gallery images', IMAGES, run=True),
    'encoding': Entry(encoding, 'utf-8', 'encoding of lists, e.g. gbk or latin-1', IMAGES, run=True,
                      about=About(reads_list, 'lists')),
    'skip_broken': Entry(real(0, 1), 0.0, 'largest fraction of unreadable images to skip', IMAGES, run=True),
}
# How images become embeddings.
_EMBEDDING: Dict[str, Entry] = {
    'image_size': Entry(size, 224, 'side of the images in pixels, or height,width', IMAGES),
    'interpolation': Entry(one_of(('antialias', 'bilinear', 'bicubic')), 'bilinear', 'interpolation of crops and resizing; '
                           "antialias is torchvision's bilinear", IMAGES),
    'bgr': Entry(boolean, False, 'feed BGR images normalised by RGB statistics, as the published checkpoints expect', METRIC),
    'eval_transform': Entry(text, 'resize', 'cropping of evaluation images', METRIC),
    'mirror': Entry(boolean, False, 'average each embedding with that of the mirrored image', IMAGES),
    'turned': Entry(boolean, False, 'concatenate the embeddings of the image turned by 0, 90, 180 and 270 degrees: four '
                    'times as wide', IMAGES),
}
# How a network runs.
_RUNNING: Dict[str, Entry] = {
    'amp_level': Entry(one_of(('auto', 'O0', 'O2', 'bfloat16')), 'auto', 'O0: float32; O2: float16 with BatchNorm in '
                       'float32; bfloat16: as O2 with bfloat16; auto: O2 on Ascend, else O0', IMAGES),
    'num_workers': Entry(POSITIVE, 8, 'threads that read images', IMAGES, run=True),
    'test_batch_size': Entry(POSITIVE, 50, 'batch size of evaluation and inference', IMAGES, run=True),
}
# Measuring.
_MEASURING: Dict[str, Entry] = {
    'recall_k': Entry(several(POSITIVE), [1], 'values of K for Recall@K, beside 1; values above the gallery size are skipped',
                      METRIC, run=True),
    'rerank': Entry(boolean, False, 'also measure with k-reciprocal re-ranking', IMAGES, run=True),
    'rerank_options': Entry(RERANK, {}, 're-ranking: neighbours, neighbours averaged, weight of the original distance, '
                            'e.g. k1=20,k2=6,weight=0.3', IMAGES, run=True, implies={'rerank': True}),
    'false_match_rate': Entry(real(0, 1), 0.0, 'find the similarity threshold at which at most this share of unknown images '
                              'is answered, and save it beside the checkpoint; 0 for none', IMAGES, run=True),
    'picture': Entry(text.or_none(), None, 'draw to this file: the threshold of --false_match_rate; without that, the results '
                     'of re-identification queries', IMAGES, run=True),
    'report': Entry(text.or_none(), None, 'write results, curves, best and worst queries, confusions and a map to this .html '
                    'page', run=True),
}
ENTRIES: Dict[str, Entry] = {**_CHOICE, **_TRAINING, **_NETWORK, **_DATA, **_EMBEDDING, **_RUNNING, **_MEASURING}
# Entries that each door uses; train.py uses all. `exported`: infer.py with an exported model.
USED: Dict[str, FrozenSet[str]] = {
    'train': frozenset(ENTRIES),
    'eval': frozenset([*_NETWORK, *_DATA, *_EMBEDDING, *_MEASURING, 'num_workers', 'test_batch_size', 'seed']),
    'export': frozenset([*_NETWORK, *_EMBEDDING]),
    'infer': frozenset([*_NETWORK, *_EMBEDDING, *_RUNNING]),
    'exported': frozenset([*_EMBEDDING, 'num_workers', 'test_batch_size'])}
# Entries and options of earlier versions: the value at which they did nothing, and the last version that had them.
REMOVED: Dict[str, Tuple[Any, str]] = {
    'backbone_options.stages': (1, '0.4'),
    'backbone_options.stem': ('imagenet', '0.4'),
    'turned_classes': (False, '0.4'),
}


def entries_of(system: str) -> Dict[str, Entry]:
    """Entries of the recipes of a system, a key of SYSTEMS, by name."""
    kinds = {'all', system, 'images' if SYSTEMS[system].images else 'arrays'}
    return {name: entry for name, entry in ENTRIES.items() if kinds & set(entry.of.split())}


def without_removed(values: Mapping[str, Any], where: str) -> Dict[str, Any]:
    """Copy of a stored recipe without entries of REMOVED.

    Raises:
        InputError: one of them did something; the message names `where` and the version to use.
    """
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    for name, (idle, version) in REMOVED.items():
        entry, _, option = name.partition('.')
        table, key = (kept.get(entry), option) if option else (kept, entry)
        if not isinstance(table, dict) or key not in table:
            continue
        value = table.pop(key)
        if value != idle:
            raise InputError(f'{where}: was trained with {name}={value}, which versions after {version} do not have; use '
                             f'version {version}')
    return kept
