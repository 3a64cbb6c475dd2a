"""Recipes: every hyper-parameter of every system in one table, and how one of them is chosen."""
import ast
import copy
import inspect
import math
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from src.common.errors import InputError
from src.networks import BACKBONES

# Where PaddleCV has its data, whose commands name no folder.
SOP_FOLDER = 'data/Stanford_Online_Products'

# What every recipe has unless it says otherwise.
COMMON = dict(
    seed=1,
    optimizer='momentum', momentum=0.9, weight_decay=0.0, decay='weights', loss_scale=1.0, clip_norm=0.0, chunk_size=0,
    # Factor on the learning rate of the loss's own parameters; epochs in which new layers and the loss train alone.
    loss_lr_factor=1.0, head_first_epochs=0,
    # Learning rate, see src.training.get_lr: `steps` falls at fractions of all steps, at lr_epochs or at lr_steps.
    lr_mode='const', lr_max=1e-4, lr_init=0.0, lr_end=0.0, lr_epochs=[], lr_steps=[], warmup_epochs=0, warmup='step',
    distributed_lr_factor=1,
    # Iterations, where given, go before epochs. pretrain_epoch_size: epochs of the schedule that were trained elsewhere.
    # interval_step: steps from one loss line to the next, 0: one an epoch.
    epoch_size=100, pretrain_epoch_size=0, total_iter_num=0, interval_step=0,
    save_checkpoint=True, save_checkpoint_epochs=10, save_iter_step=0, keep_checkpoint_max=2,
    validation='none', validation_epochs=1, validation_fraction=0.1, test_iter_step=0, run_eval=False,
)

_DEM = dict(
    system='zero_shot', optimizer='adam', weight_decay=0.0, clip_norm=0.2, distributed_lr_factor=5,
    # The published code hands Adam its weight decay where beta1 stands, so this is what its results were trained with:
    # beta1 0.01 (words: 0.001) and no decay. The recipes called `paper` have the paper's own.
    beta1=0.01,
    epoch_size=100, interval_step=100, run_eval=True,
    network_options={}, loss_name='mse', loss_options={}, feature_scaling='none', semantics_scaling='none',
    dropout=None, validation_fraction=0.05, data_path=None,
)
_AWA = dict(_DEM, dataset='AwA', batch_size=64)
_CUB = dict(_DEM, dataset='CUB', batch_size=100)
_AWA_ATT = dict(_AWA, train_mode='att', network='awa_att', metric='euclidean', lr_max=1e-5)
_AWA_WORD = dict(_AWA, train_mode='word', network='awa_word', metric='cosine', lr_max=1e-4, beta1=0.001)
_AWA_FUSION = dict(_AWA, train_mode='fusion', network='awa_fusion', metric='cosine', lr_max=1e-4)
_CUB_ATT = dict(_CUB, train_mode='att', network='cub_att', metric='euclidean', lr_max=1e-5)
_CUB_WORD = dict(_CUB, train_mode='word', network='cub_word', metric='cosine', lr_max=1e-4, beta1=0.001)
_CUB_FUSION = dict(_CUB, train_mode='fusion', network='cub_fusion', metric='cosine', lr_max=1e-4)
# Found on held-out seen classes; what each choice contributes is in docs/RESULTS.md. The network maps all seen classes
# in every step and is trained to rank them by the cosine that classifies.
_RANKED = dict(
    loss_name='prototype_softmax', metric='cosine', beta1=0.9, clip_norm=0.0, batch_size=200, lr_mode='cosine',
    lr_max=2e-4, interval_step=20, feature_scaling='centred',
)
_RANKED_AWA = dict(_RANKED, loss_options={'scale': 20.0, 'label_smoothing': 0.1}, semantics_scaling='centred',
                   epoch_size=2)
_RANKED_CUB = dict(_RANKED, loss_options={'scale': 30.0, 'label_smoothing': 0.1}, semantics_scaling='root_centred',
                   dropout=[0.2, 0.5], epoch_size=6)
_ONE_LAYER = {'output_relu': False, 'sigmas': [0.001]}
_TWO_LAYERS = {'hidden_dim': 700, 'output_relu': False, 'sigmas': [0.01, 0.001]}
_FUSED_LAYERS = {'output_relu': False, 'sigmas': [0.01, 0.01, 0.001]}
# The benchmark 'the good, the bad and the ugly'. candidates: from each list the change that does best on the benchmark's
# val classes is kept, when it is better than none; kernel_candidates: the same before any training, by kernel ridge
# regression alone; see src.systems.generalised. The recipe was chosen on the val classes of CUB alone.
_GBU = dict(_DEM, system='generalised', dataset='GBU', train_mode='att', network='semantic', features='res101.mat',
            splits='att_splits.mat', kernel_candidates=[], candidates=[], kernel_options={}, batch_size=200)
_GBU_RANKED = {**_GBU, **_RANKED_CUB, 'total_iter_num': 210, 'network_options': _TWO_LAYERS}
_GBU_CHOSEN = dict(
    _GBU_RANKED, network='ensemble', network_options={'hidden_dim': 700, 'members': 3, 'sigmas': [0.01, 0.001]},
    feature_scaling='root_principal', lr_max=1e-3,
    # shrinkage: of the whitening, None for none; width: of the kernel, 0 for the linear one; ridge; share of the whole.
    kernel_options={'shrinkage': 1.0, 'width': 0.3, 'ridge': 0.1, 'share': 0.5},
    kernel_candidates=[
        [{'feature_scaling': 'principal'}], [{'semantics_scaling': 'centred'}], [{'kernel_options.shrinkage': None}],
        [{'kernel_options.width': 0.0}, {'kernel_options.width': 0.1}, {'kernel_options.width': 1.0}],
        [{'kernel_options.ridge': 0.03}, {'kernel_options.ridge': 0.3}, {'kernel_options.ridge': 1.0}]],
    candidates=[[{'dropout': None}], [{'feature_scaling': 'principal'}, {'feature_scaling': 'root_principal'}],
                [{'semantics_scaling': 'centred'}, {'semantics_scaling': 'root_centred'}]])
_GBU_NORMALISED = dict(
    _GBU_RANKED, network='class_normalised', network_options={'hidden_dim': 1024}, loss_options={'scale': 25.0},
    feature_scaling='none', semantics_scaling='unit', dropout=None, batch_size=256, lr_mode='steps', lr_max=5e-4,
    weight_decay=1e-4, total_iter_num=0, epoch_size=50, lr_epochs=[25])
_PAPER_FUSION = dict(beta1=0.9, weight_decay={'fc1': 1e-3, 'fc2': 1e-2, 'fc3': 1e-2})

# What evaluation of images is asked for beside its figures. A checkpoint may be older than an entry.
EVALUATION: Dict[str, Any] = dict(picture=None, rerank=False, mirror=False, turned=False, false_match_rate=0.0)

# What the systems of images share. backbone_options: what weights that it starts from bring goes before them.
_IMAGES: Dict[str, Any] = dict(
    backbone='resnet50', backbone_options={}, head='none', head_options={}, loss_options={}, pretrained=None,
    num_workers=8, query=None, gallery=None, interpolation='bilinear',
    # Batches are those the loss needs unless a sampler is named; small_classes: None for the sampler's own way.
    sampler=None, small_classes=None, last_batch='drop', **EVALUATION,
)
# ResNet50 on Stanford Online Products, as the published metric_learn trains it: the half set on 8 devices.
_METRIC = dict(
    _IMAGES, system='metric_learning', dataset='SOP', dataset_path=None, subset='half', class_num=0,
    backbone_options={'padding': 'same', 'bn_eps': 1e-4}, samples_each_class=2,
    image_size=224, train_transform='random_resized_crop', eval_transform='resize', flip=0.0, bgr=False,
    augmentation={}, turned_classes=False, test_batch_size=50, recall_k=[1, 10, 100, 1000],
    weight_decay=1e-4, loss_scale=1024.0, epoch_size=30,
)
_METRIC_LEARN = dict(_METRIC, interpolation='bicubic', last_batch='wrap', lr_init=0.01, lr_end=1e-4,
                     keep_checkpoint_max=1)
_METRIC_ELEMENT = dict(_METRIC_LEARN, batch_size=80, lr_mode='steps', lr_max=0.3)
_METRIC_PAIR = dict(_METRIC_LEARN, batch_size=60, lr_max=1e-4)
# The published code differentiates the sum over the triplets of a batch; its learning rate relies on that.
_METRIC_TRIPLET = {'margin': 0.1, 'reduction': 'sum'}

# PaddleCV: the full set, two stages, counted in iterations; its weights were trained with symmetric padding.
_PADDLE = dict(_METRIC, subset='full', dataset_path=SOP_FOLDER,
               backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5},
               flip=0.5, eval_transform='center_crop', loss_scale=1.0, lr_mode='steps', interval_step=20,
               save_iter_step=10000)
_PADDLE_ELEMENT = dict(_PADDLE, batch_size=256, lr_max=0.01, total_iter_num=30000, lr_steps=[15000, 25000])
_PADDLE_PAIR = dict(_PADDLE, batch_size=160, lr_max=1e-4, total_iter_num=100000, lr_steps=[100000])
_ARCMARGIN = {'scale': 80.0, 'margin': 0.15, 'easy_margin': False}

# From scratch on few small pictures, on a CPU: 64 px, resized to 72 and cropped.
_SMALL = dict(_METRIC, image_size=64, train_transform='resize_crop', flip=0.5, subset='full', num_workers=2,
              recall_k=[1, 5, 10], loss_scale=1.0, lr_mode='steps', epoch_size=15, weight_decay=5e-4)
_SMALL_ELEMENT = dict(_SMALL, batch_size=32, lr_max=0.05)
# Few steps at a low rate: more of either forget what the first stage learnt (docs/RESULTS.md).
_SMALL_PAIR = dict(_SMALL, batch_size=60, lr_max=1e-3, epoch_size=4)
# Losses of embeddings that are not normalised: their gradient grows with the embeddings' norms.
_SMALL_RAW_PAIR = dict(_SMALL_PAIR, lr_max=1e-4)
# PaddleCV's 80 and 0.15 are for 11,318 classes.
_SMALL_ARCMARGIN = {'scale': 30.0, 'margin': 0.3, 'easy_margin': False}

# From scratch on small pictures of many classes with few images each, as Stanford Online Products has them. Chosen with
# benchmarks on held-out classes of the training list of drawings (docs/RESULTS.md).
_MANY = dict(
    _SMALL, backbone='resnet18', backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'width': 48, 'stages': 2},
    loss_options={'temperature': 0.1}, batch_size=128, samples_each_class=4, small_classes='repeat',
    optimizer='adamw', beta1=0.9, weight_decay=0.05, lr_mode='one_cycle', lr_max=4e-3,
    turned_classes=True, mirror=True, turned=True, epoch_size=30, head='whitened', head_options={'shrinkage': 0.1},
    train_transform='resize',
    augmentation={'affine': {'rotation': 15.0, 'scale': [0.75, 1.25], 'shift': 0.1},
                  'colour': {'brightness': 0.3, 'contrast': 0.3, 'tint': 0.15, 'grey': 0.1}},
)
# What few_classes was chosen with.
_LITTLE_AUGMENTATION = {'affine': {'rotation': 10.0, 'scale': [0.85, 1.15], 'shift': 0.07},
                        'colour': {'brightness': 0.2, 'contrast': 0.2, 'tint': 0.1, 'grey': 0.05}}

# The same for few classes of many images. Chosen on held-out classes of the training list of groceries, searched for across
# shooting sessions (docs/RESULTS.md).
_FEW = dict(_MANY, augmentation=_LITTLE_AUGMENTATION, sampler='groups', loss_lr_factor=10.0, epoch_size=9)
# A pair loss after it, --pretrained=FIRST/train.ckpt.
_FEW_PAIR = dict(_FEW, loss_options={}, sampler=None, loss_lr_factor=1.0, lr_max=5e-4, epoch_size=2)

# ResNet50 from ImageNet weights (--pretrained=resnet50-19c8e357.pth) on Stanford Online Products. Not run by us: rates,
# batches and epochs are their sources', the head and the batches of few super-classes what most of the best published
# recipes share. Recall@K may also follow the normalised softmax (--pretrained=FIRST/train.ckpt), whose head it has.
_PRETRAINED: Dict[str, Any] = dict(
    _METRIC, subset='full', backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'frozen_batch_norm': True},
    head='embedding', head_options={'embedding_size': 512, 'pool': 'gem', 'layer_norm': True, 'unit_length': True},
    train_transform='resize_crop', eval_transform='center_crop', flip=0.5, small_classes='repeat',
    head_first_epochs=1, lr_mode='steps',
)
# Zhai and Wu, github.com/azgo14/classification_metric_learning: SGD 0.01, 75 images of 15 classes, 15 epochs and 15 at a
# tenth; 79.5 with averaged features (2048-d) and no linear layer.
_PRETRAINED_NORM = dict(
    _PRETRAINED, sampler='super_classes', batch_size=75, samples_each_class=5, lr_max=0.01, lr_epochs=[16], epoch_size=31,
    loss_options={'temperature': 0.05})
# Kim et al., github.com/tjddus9597/Proxy-Anchor-CVPR2020: AdamW 6e-4, batches of 180 drawn from all images, proxies times
# 100, new layers alone for 1 of 60 epochs, BatchNorm not frozen; 79.2 with Inception-BN. There the rate falls to a
# quarter every 20 epochs, here by a cosine.
_PRETRAINED_PROXY = dict(
    _PRETRAINED, batch_size=180, optimizer='adamw', beta1=0.9, lr_mode='cosine', lr_max=6e-4, epoch_size=60,
    backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5},
    head_options={'embedding_size': 512, 'pool': 'average_max', 'layer_norm': False, 'unit_length': True})
# Patel et al., github.com/yash0307/RecallatK_surrogate: Adam 2e-4, L2 4e-4 on all, 1,000 classes x 4 a batch, embedded 200
# at a time; 82.8 (with similarity mixup). There the rate falls to 0.3 after 25 and 50 of 55 epochs, here to a tenth.
_PRETRAINED_RECALL = dict(
    _PRETRAINED, batch_size=4000, chunk_size=200, samples_each_class=4, optimizer='adam', beta1=0.9, weight_decay=4e-4,
    decay='all', lr_max=2e-4, lr_epochs=[25, 50], epoch_size=55, head_first_epochs=0)

# CTL: 16 identities x 4 images, 256 x 128, from ImageNet weights (--pretrained), as published for DukeMTMC-reID.
_REID = dict(
    _IMAGES, system='reid', data_path=None, train_list=None, head='neck',
    backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'last_stride': 1, 'stem_relu': False},
    samples_each_class=4,
    image_size=[256, 128], train_transform='reid', flip=0.5, batch_size=64, test_batch_size=128, run_eval=True,
    optimizer='adam', beta1=0.9, weight_decay=5e-4, decay='all', loss_scale=1024.0,
    lr_mode='steps', lr_max=3.5e-4, lr_epochs=[40, 70], warmup_epochs=10, warmup='epoch', epoch_size=120,
)
# From scratch on few small pictures, on a CPU. Padding of 10 and erasing would leave little of them.
_REID_SMALL = dict(_REID, image_size=[64, 64], train_transform='resize_crop', num_workers=2, loss_scale=1.0,
                   lr_epochs=[12, 16], warmup_epochs=2, epoch_size=20)

# By (dataset; mode or loss; name of the recipe). Of those for one dataset and mode or loss the first is the default. A
# loss takes the recipes that it does not have here from its kind, `element` or `pair`, with its constructor's defaults.
# A dataset of re-identification that is not here takes the recipes of `lists`.
RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {
    # DEM.
    ('AwA', 'att', 'published'): _AWA_ATT,
    ('AwA', 'word', 'published'): _AWA_WORD,
    ('AwA', 'fusion', 'published'): _AWA_FUSION,
    ('CUB', 'att', 'published'): _CUB_ATT,
    ('CUB', 'word', 'published'): _CUB_WORD,
    ('CUB', 'fusion', 'published'): _CUB_FUSION,
    ('CUB', 'att', 'ranked'): {**_CUB_ATT, **_RANKED_CUB, 'network_options': _TWO_LAYERS},
    ('AwA', 'att', 'ranked'): {**_AWA_ATT, **_RANKED_AWA, 'network_options': _TWO_LAYERS},
    ('AwA', 'word', 'ranked'): {**_AWA_WORD, **_RANKED_AWA, 'network_options': _ONE_LAYER},
    ('AwA', 'fusion', 'ranked'): {**_AWA_FUSION, **_RANKED_AWA, 'network_options': _FUSED_LAYERS},
    ('AwA', 'att', 'paper'): dict(_AWA_ATT, beta1=0.9, weight_decay=1e-2),
    ('AwA', 'word', 'paper'): dict(_AWA_WORD, beta1=0.9, weight_decay=1e-3),
    ('AwA', 'fusion', 'paper'): dict(_AWA_FUSION, **_PAPER_FUSION),
    ('CUB', 'att', 'paper'): dict(_CUB_ATT, beta1=0.9, weight_decay=1e-2),
    ('CUB', 'word', 'paper'): dict(_CUB_WORD, beta1=0.9, weight_decay=1e-3),
    ('CUB', 'fusion', 'paper'): dict(_CUB_FUSION, **_PAPER_FUSION),
    # Generalised zero-shot learning.
    ('GBU', 'att', 'chosen'): _GBU_CHOSEN,
    ('GBU', 'att', 'ranked'): _GBU_RANKED,
    ('GBU', 'att', 'normalised'): _GBU_NORMALISED,
    ('GBU', 'att', 'published'): dict(_GBU, network_options={'sigmas': [0.0008, 0.0012]}, metric='euclidean', lr_max=1e-5,
                                      batch_size=100),
    # Metric learning on Stanford Online Products or any list or folder of images.
    ('SOP', 'element', 'published'): _METRIC_ELEMENT,
    ('SOP', 'pair', 'published'): _METRIC_PAIR,
    ('SOP', 'softmax', 'published'): _METRIC_ELEMENT,
    ('SOP', 'triplet', 'published'): dict(_METRIC_PAIR, loss_options=_METRIC_TRIPLET),
    ('SOP', 'quadruplet', 'published'): dict(_METRIC_PAIR, loss_options={'margin': 0.1}),
    ('SOP', 'element', 'paddle'): _PADDLE_ELEMENT,
    ('SOP', 'pair', 'paddle'): _PADDLE_PAIR,
    ('SOP', 'softmax', 'paddle'): _PADDLE_ELEMENT,
    ('SOP', 'arcmargin', 'paddle'): dict(_PADDLE_ELEMENT, loss_options=_ARCMARGIN),
    ('SOP', 'triplet', 'paddle'): dict(_PADDLE_PAIR, loss_options={'margin': 0.1}, batch_size=120),
    ('SOP', 'quadruplet', 'paddle'): dict(_PADDLE_PAIR, loss_options={'margin': 0.1}),
    ('SOP', 'eml', 'paddle'): _PADDLE_PAIR,
    ('SOP', 'npairs', 'paddle'): dict(_PADDLE_PAIR, loss_options={'reg_lambda': 0.01}),
    ('SOP', 'element', 'small'): _SMALL_ELEMENT,
    ('SOP', 'pair', 'small'): _SMALL_PAIR,
    ('SOP', 'softmax', 'small'): _SMALL_ELEMENT,
    ('SOP', 'arcmargin', 'small'): dict(_SMALL_ELEMENT, loss_options=_SMALL_ARCMARGIN),
    ('SOP', 'triplet', 'small'): dict(_SMALL_PAIR, loss_options={'margin': 0.5, 'reduction': 'sum'}),
    ('SOP', 'quadruplet', 'small'): dict(_SMALL_PAIR, loss_options={'margin': 0.1}, batch_size=24),
    ('SOP', 'eml', 'small'): _SMALL_RAW_PAIR,
    ('SOP', 'npairs', 'small'): dict(_SMALL_RAW_PAIR, loss_options={'reg_lambda': 0.01}),
    ('SOP', 'supcon', 'many_classes'): _MANY,
    ('SOP', 'arcmargin', 'few_classes'): dict(_FEW, loss_options=_SMALL_ARCMARGIN),
    ('SOP', 'norm_softmax', 'few_classes'): _FEW,
    ('SOP', 'supcon', 'few_classes'): dict(_FEW_PAIR, loss_options={'temperature': 0.1}),
    ('SOP', 'triplet', 'few_classes'): dict(_FEW_PAIR, batch_size=126),
    ('SOP', 'npairs', 'few_classes'): dict(_FEW_PAIR, samples_each_class=2),
    ('SOP', 'pair', 'few_classes'): _FEW_PAIR,
    ('SOP', 'norm_softmax', 'pretrained'): _PRETRAINED_NORM,
    ('SOP', 'proxy_anchor', 'pretrained'): _PRETRAINED_PROXY,
    ('SOP', 'recall_at_k', 'pretrained'): _PRETRAINED_RECALL,
    # Re-identification; `lists` are three of `path label camera`. The baseline is what CTL is compared with.
    ('lists', 'ctl', 'published'): dict(_REID, loss_options={'margin': 0.5}),
    ('lists', 'baseline', 'published'): dict(_REID, loss_options={'margin': 0.5}),
    ('lists', 'ctl', 'small'): dict(_REID_SMALL, loss_options={'margin': 0.5}),
    ('lists', 'baseline', 'small'): dict(_REID_SMALL, loss_options={'margin': 0.5}),
    ('lists', 'element', 'published'): _REID,
    ('lists', 'pair', 'published'): _REID,
    ('lists', 'element', 'small'): _REID_SMALL,
    ('lists', 'pair', 'small'): _REID_SMALL,
}
# What each name stands for.
PURPOSES = {
    'published': 'what the published code really did',
    'paper': "DEM as its paper says: beta1 0.9 and L2 regularisation",
    'chosen': "networks as ranked's and kernel ridge regression, mixed as the benchmark's val classes ask",
    'normalised': 'class normalisation (Skorokhodov and Elhoseiny) as published',
    'ranked': 'DEM trained to rank the seen classes by the cosine that classifies',
    'paddle': "PaddleCV's: the full set, two stages, counted in iterations",
    'small': 'from scratch on small pictures on a CPU, few classes of many images',
    'many_classes': 'from scratch on small pictures on a CPU, many classes of few images',
    'pretrained': 'ResNet50 from ImageNet weights on all of SOP, as the sources of newer losses train it; not run by us',
    'few_classes': 'the same for few classes of many images; a pair loss as its second stage gains nothing there',
}
ZERO_SHOT_DATASETS = tuple(dict.fromkeys(dataset for (dataset, *_), recipe in RECIPES.items()
                                         if recipe['system'] in ('zero_shot', 'generalised')))
PER_LOSS = ('element', 'pair')
SYSTEM_WORDS = {'zero_shot': 'zero-shot learning', 'generalised': 'generalised zero-shot learning',
                'metric_learning': 'metric learning', 'reid': 're-identification'}
# What the network of a checkpoint is.
FIXED = ('train_mode', 'backbone', 'head', 'network')
# Numbers that cannot be 0; none of the others is below it.
POSITIVE = ('batch_size', 'test_batch_size', 'epoch_size', 'samples_each_class', 'num_workers', 'image_size', 'loss_scale',
            'save_checkpoint_epochs', 'keep_checkpoint_max', 'validation_epochs', 'recall_k')
# Entries that are of either type.
EITHER: Dict[str, Tuple[type, ...]] = {'image_size': (int, list), 'weight_decay': (float, dict)}


class Recipe(dict):
    """Hyper-parameters of a training by name, as keys and as attributes; it cannot be changed."""

    def __init__(self, entries: Dict[str, Any]):
        super().__init__({name: Recipe(value) if isinstance(value, dict) else value
                          for name, value in entries.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'the recipe has no entry {name}') from None

    def _refuse(self, *_, **__):
        raise TypeError('a recipe is not changed after it was made: make another one')

    __setattr__ = __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = _refuse

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return type(self), (dict(self),)


class Chosen(NamedTuple):
    """A recipe of the table: its key, and in a few words why it was taken."""
    key: Tuple[str, str, str]
    why: str


def choose(dataset: str, choice: str, name: Optional[str] = None, kind: Optional[str] = None,
           datasets: Tuple[str, ...] = ()) -> Chosen:
    """The recipe of the table: the one called `name`, else the first for this dataset and this mode or loss.

    Args:
        dataset: AwA, SOP, lists ...
        choice: mode of zero-shot learning, or name of a loss.
        name: --recipe, None for the default.
        kind: 'element' or 'pair', of a loss: what it has no entry of its own for is its kind's.
        datasets: those that take the recipes of `lists`.

    Raises:
        InputError: there is none; the line says which there are.
    """
    table = 'lists' if dataset in datasets else dataset
    entries = [key for key in RECIPES if key[:2] == (table, choice)]
    whose = f'{dataset} {choice}'
    if not entries and kind:
        whose = f'{dataset} and losses of kind {kind}, as {choice} is'
    own = {key[2] for key in entries}
    entries += [key for key in RECIPES if key[:2] == (table, kind) and key[2] not in own]
    if not entries:
        there = dict.fromkeys(other for one, other, _ in RECIPES if one == table and other not in PER_LOSS)
        what = 'train_mode' if table in ZERO_SHOT_DATASETS else 'loss_name'
        raise InputError(f'--{what}={choice}: for {dataset} there are {", ".join(there)}')
    for key in entries:
        if name in (None, key[2]):
            return Chosen(key, f'the first for {whose}' if name is None else 'as --recipe says')
    raise InputError(f'--recipe={name}: for {whose} there are {", ".join(key[2] for key in entries)}')


def entries_of(key: Tuple[str, str, str]) -> Dict[str, Any]:
    """All entries of a recipe of the table, with COMMON's."""
    return {**COMMON, **RECIPES[key], 'recipe': key[2]}


class Change(NamedTuple):
    """What one flag does to a recipe.

    flag: as it was written, with its value. entries: name or DICT.OPTION -> value, or a function of the recipe so far that
    gives them. implied: entries it sets too, unless another flag sets them. systems: those it is for, empty for all that
    have the entries. optional: whether a recipe without the entry leaves it alone. checked: whether the value's type is
    known to be right (False for --set).
    """
    flag: str
    entries: Any
    implied: Dict[str, Any] = {}
    systems: Tuple[str, ...] = ()
    optional: bool = False
    checked: bool = True


def create_recipe(base: Dict[str, Any], changes: Sequence[Change], saved: bool = False) -> Recipe:
    """A recipe with the changes that flags ask for.

    Args:
        base: all entries, of entries_of or of a checkpoint.
        changes: in the order they are made, options after the entry that says whose they are.
        saved: whether base is a checkpoint's; then what the network is cannot change.

    Raises:
        InputError: a flag for another system, an entry or option that there is not, or a value of another type.
    """
    entries = copy.deepcopy({name: dict(value) if isinstance(value, dict) else value for name, value in base.items()})
    given, implied = {}, {}
    for change in sorted(changes, key=lambda change: not callable(change.entries) and '.' in ''.join(change.entries)):
        if change.systems and entries['system'] not in change.systems:
            raise InputError(f'{change.flag.split("=")[0]}: is for {" and ".join(SYSTEM_WORDS[s] for s in change.systems)}'
                             f', and this is {entries["dataset"]}')
        wanted = change.entries(entries) if callable(change.entries) else change.entries
        for path, value in wanted.items():
            if path.partition('.')[0] not in entries:
                if change.optional:
                    print(f'{change.flag.split("=")[0]}: without effect for {entries["dataset"]}')
                    continue
                raise InputError(f'{_flag(change)}: is not for {entries["dataset"]} with this recipe; leave it out')
            if saved and path in FIXED and entries[path] != value:
                raise InputError(f'{change.flag}: the checkpoint was trained for {entries[path]}')
            _set(entries, path, value, change)
            given[path] = change.flag
        implied.update({path: value for path, value in change.implied.items() if path in entries})
    for path, value in implied.items():
        if path not in given:
            entries[path] = value
    _check(entries, given, base)
    return Recipe(entries)


def _set(entries, path, value, change):
    name, _, option = path.partition('.')
    if not option:
        if not change.checked:
            value = _typed(value, _example(name, entries[name]), change.flag, name in _OPTIONAL, EITHER.get(name, ()))
            for one in value if name.endswith('_options') else ():
                _default_of(name, one, entries, change)
        # Backbones of one file have the same options; another's would refuse them.
        if name == 'backbone' and _file_of(value) != _file_of(entries[name]):
            entries['backbone_options'] = {}
        if name == 'head' and value != entries[name]:
            entries['head_options'] = {}
        entries[name] = value
        return
    if not isinstance(entries[name], dict):
        raise InputError(f'{change.flag}: {name} has no options')
    default = _default_of(name, option, entries, change)
    entries[name][option] = value if change.checked else _typed(value, default, change.flag,
                                                                default is None or path in _OPTIONAL)


def _default_of(name, option, entries, change):
    """What an option is without the change; InputError when there is no such option."""
    if option in entries[name]:
        return entries[name][option]
    # Reading a constructor imports MindSpore: only for options that the recipe leaves at their defaults.
    known = _options_of(name, entries)
    if option not in known:
        raise InputError(f'{_flag(change)}: is not for {_owner(name, entries)}; its options are '
                         f'{", ".join({**known, **entries[name]}) or "none"}')
    return known[option]


def _flag(change):
    """The flag without its value, which of --set names the entry."""
    return change.flag.split('=')[0] if change.checked else change.flag


def _example(name, value):
    """A value of an entry that some recipe has in the place of None or of an empty list."""
    others = (recipe[name] for recipe in RECIPES.values() if recipe.get(name) not in (None, []))
    return next(others, '' if value is None else value) if value in (None, []) else value


# Entries, and options as DICT.OPTION, that may be None: that are in some recipe, or one of its candidates.
_OPTIONAL = {name for recipe in RECIPES.values() for name, value in recipe.items() if value is None} | {
    path for recipe in RECIPES.values() for entry in ('candidates', 'kernel_candidates') for changes in recipe.get(entry, ())
    for change in changes for path, value in change.items() if value is None}


def _file_of(backbone):
    return BACKBONES.get(backbone, backbone).partition('.')[0]


def _owner(name, entries):
    kind = name[:-len('_options')]
    return f'--loss_name={entries["loss_name"]}' if kind == 'loss' else f'{kind} {entries[kind]}' if kind in entries else name


def _options_of(name, entries):
    """Options with defaults that the constructor has to which these options go, or that its name brings: {option: default}."""
    named = {}
    if name == 'loss_options':
        from src.losses import loss_class
        constructor = loss_class(entries['loss_name'])
    elif name == 'network_options':
        from src.networks import NETWORKS, network_class
        constructor = network_class(entries['network'])
        named = NETWORKS[entries['network']].options
    elif name == 'backbone_options':
        from src.networks import backbone_class
        constructor = backbone_class(entries['backbone'])
    elif name == 'head_options':
        from src.networks import head_class
        constructor = head_class(entries['head'])
    else:
        return {}
    parameters = inspect.signature(constructor).parameters.values()
    return {**{p.name: p.default for p in parameters if p.default is not p.empty}, **named}


def _typed(text, like, flag, optional, types=()):
    """A --set value in the type of what it takes the place of, or in one of `types`; None where that is allowed."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if like is None or value is None and optional:
        return value
    types = [list if kind is tuple else kind for kind in types or [type(like)]]
    if types == [str]:
        return text
    if isinstance(value, tuple):
        value = list(value)
    if _is_number(value) and int not in types:
        value = float(value) if float in types else [value]
    likes, values = (one if isinstance(one, (list, tuple)) else [one] for one in (like, value))
    mixed = isinstance(value, list) and all(map(_is_number, likes)) and not all(map(_is_number, values))
    if type(value) not in types or mixed:
        raise InputError(f'{flag}: expected a value like {list(like) if isinstance(like, tuple) else like!r}')
    return value


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _sides(size):
    return size if isinstance(size, list) else [size, size]


def _check(entries, given, base):
    """What entries say alone and together; given: of entries and options that flags set, the flag; base: without flags."""
    for path, flag in given.items():
        name, _, option = path.partition('.')
        value = entries[name][option] if option else entries[name]
        numbers = [one for one in (value if isinstance(value, list) else [value]) if _is_number(one)]
        least = 'above 0' if path in POSITIVE else 'of at least 0'
        # An option may be below 0.
        if not all(abs(one) < math.inf and (option or one > 0 or one == 0 and path not in POSITIVE) for one in numbers):
            raise InputError(f'{flag}: expected a finite number' + f' {least}' * (not option))
    if 'seed' in given and entries['seed'] >= 2 ** 32:
        raise InputError(f'{given["seed"]}: expected a number below 2^32')
    for name in ('momentum', 'beta1', 'false_match_rate'):
        if name in given and entries[name] >= 1:
            raise InputError(f'{given[name]}: expected a number below 1')
    if 'image_size' in given and [type(side) for side in _sides(entries['image_size'])] != [int, int]:
        raise InputError(f'{given["image_size"]}: expected one side, or height and width')
    if given.get('dropout') and entries['dropout'] is not None and (
            len(entries['dropout']) != 2 or not all(0 <= share < 1 for share in entries['dropout'])):
        raise InputError(f'{given["dropout"]}: expected two shares from 0 to below 1, of the semantics and of the hidden '
                         'units that are dropped')
    if 'warmup_epochs' in given and not entries['total_iter_num'] and entries['warmup_epochs'] > entries['epoch_size']:
        raise InputError(f'--warmup_epochs={entries["warmup_epochs"]}: the whole training has {entries["epoch_size"]} '
                         'epochs')
    if 'lr_steps' in given and entries['lr_mode'] != 'steps':
        raise InputError(f'--lr_steps: is for --lr_mode=steps, not {entries["lr_mode"]}')
    if 0 < entries['epoch_size'] <= entries['pretrain_epoch_size']:
        raise InputError(f'--pretrain_epoch_size={entries["pretrain_epoch_size"]}: the whole training has '
                         f'{entries["epoch_size"]} epochs')
    for name, idle, why in (
            ('momentum', entries['optimizer'] != 'momentum', f'the optimizer is {entries["optimizer"]}'),
            ('lr_init', not entries['warmup_epochs'], 'there is no warm-up; give --warmup_epochs'),
            ('lr_end', entries['lr_mode'] in ('const', 'steps', 'one_cycle'), f'--lr_mode is {entries["lr_mode"]}'),
            ('pretrain_epoch_size', entries['total_iter_num'], 'the training counts iterations; give --epoch_size'),
            ('validation_fraction', entries['validation'] not in ('seen_images', 'seen_classes'),
             f'--validation is {entries["validation"]}')):
        # The published configuration, given in full, says what the recipe says.
        if name in given and entries[name] != base[name] and entries[name] and idle:
            raise InputError(f'{given[name]}: would be without effect, {why}')


def describe(recipe: Recipe) -> str:
    """All entries of a recipe, one a line, in alphabetical order."""
    return '\n'.join(f'{name} = {value!r}' for name, value in sorted(recipe.items()))


def list_recipes() -> str:
    """The names of the recipes with their purpose and what they are for."""
    lines = []
    for name, purpose in PURPOSES.items():
        lines.append(f'{name:14}{purpose}')
        for table in dict.fromkeys(key[0] for key in RECIPES):
            choices = [choice for dataset, choice, other in RECIPES if dataset == table and other == name]
            if choices:
                lines.append(f'{"":14}{table}: {", ".join(choices)}')
    return '\n'.join(lines)
