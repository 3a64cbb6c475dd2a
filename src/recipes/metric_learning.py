"""Recipes of metric learning on Stanford Online Products or any list or folder of images, by (dataset, loss, name).

The first recipe of a loss is its default. A loss without a recipe here takes the recipe of its kind, `element` or `pair`,
with its constructor's defaults.
"""
from typing import Any, Dict, Tuple

SYMMETRIC = {'padding': 'symmetric', 'bn_eps': 1e-5}
# ResNet50 on Stanford Online Products, as the published metric_learn trains it: the half set on 8 devices.
METRIC_LEARN = dict(
    subset='half', backbone_options={'padding': 'same', 'bn_eps': 1e-4}, recall_k=[1, 10, 100, 1000], weight_decay=1e-4,
    loss_scale=1024.0, epoch_size=30, interpolation='bicubic', last_batch='wrap', lr_init=0.01, lr_end=1e-4,
    keep_checkpoint_max=1)
METRIC_ELEMENT = dict(METRIC_LEARN, batch_size=80, lr_mode='steps', lr_max=0.3)

# PaddleCV: the full set, two stages, counted in iterations; its weights were trained with symmetric padding.
PADDLE = dict(
    dataset_path='data/Stanford_Online_Products', backbone_options=SYMMETRIC, recall_k=[1, 10, 100, 1000], weight_decay=1e-4,
    epoch_size=30, flip=0.5, eval_transform='center_crop', lr_mode='steps', interval_step=20, save_iter_step=10000)
PADDLE_ELEMENT = dict(PADDLE, batch_size=256, lr_max=0.01, total_iter_num=30000, lr_steps=[15000, 25000])
PADDLE_PAIR = dict(PADDLE, batch_size=160, total_iter_num=100000, lr_steps=[100000])

# From scratch on few small pictures, on a CPU: 64 px, resized to 72 and cropped.
SMALL = dict(
    image_size=64, train_transform='resize_crop', flip=0.5, num_workers=2, recall_k=[1, 5, 10],
    backbone_options={'padding': 'same', 'bn_eps': 1e-4}, lr_mode='steps', epoch_size=15, weight_decay=5e-4)
SMALL_ELEMENT = dict(SMALL, batch_size=32, lr_max=0.05)
# Few steps at a low rate: otherwise the network forgets the first stage (docs/RESULTS.md).
SMALL_PAIR = dict(SMALL, lr_max=1e-3, epoch_size=4)
# PaddleCV's scale 80 and margin 0.15 are for 11,318 classes.
SMALL_ARCMARGIN = {'scale': 30.0, 'margin': 0.3, 'easy_margin': False}

# From scratch in a minute on a CPU, on calm drawings (scripts/quickstart.sh). Chosen on classes drawn with another seed
# (docs/RESULTS.md).
QUICK = dict(
    image_size=48, train_transform='resize', flip=0.5, num_workers=2, recall_k=[1, 5, 10], backbone='resnet18',
    backbone_options={**SYMMETRIC, 'width': 16}, batch_size=64, optimizer='adamw', weight_decay=0.05, lr_mode='one_cycle')
QUICK_ELEMENT = dict(QUICK, lr_max=4e-3, epoch_size=10)
QUICK_PAIR = dict(QUICK, lr_max=1e-3, epoch_size=3)

# MobileNetV2 from ImageNet weights (--pretrained=mobilenet_v2.pth): first a classifier, then a pair loss
# (--pretrained=FIRST/train.ckpt). Chosen on held-out classes of the training list of groceries, searched for across shooting
# sessions. Recall@1 on the groceries of the other session, mean of three seeds: before training 68.6, normalised softmax 89.5
# (four minutes of one core), then batch-hard triplet 89.9; softmax 89.3 (six minutes), then eml 89.7, npairs 89.2 (two
# minutes; established for MAP@R alone). Drawings, norm_softmax with --epoch_size=10: 70.3 for 41.3 (two seeds, seven minutes).
# Tried on held-out classes alone: triplet, quadruplet; other losses: not run. The frozen layers, whose maps are largest, take
# half of a step; training three of them gained nothing.
PRETRAINED = dict(
    image_size=128, interpolation='antialias', train_transform='resize', flip=0.5, num_workers=2, recall_k=[1, 5, 10],
    backbone='mobilenet_v2', backbone_options={'frozen_layers': 7}, head='whitened', head_options={'shrinkage': 0.1},
    mirror=True, batch_size=64, lr_mode='one_cycle', weight_decay=1e-4,
    augmentation={'affine': {'rotation': 10.0, 'scale': [0.85, 1.15], 'shift': 0.07},
                  'colour': {'brightness': 0.2, 'contrast': 0.2, 'tint': 0.1, 'grey': 0.05}})
PRETRAINED_ELEMENT = dict(PRETRAINED, lr_max=0.01, epoch_size=6)
PRETRAINED_PAIR = dict(PRETRAINED, backbone_options={'frozen_layers': 7, 'frozen_batch_norm': True},
                       head_options={'shrinkage': 0.1, 'unit_length': True}, samples_each_class=4, small_classes='repeat',
                       optimizer='adam', lr_max=3e-5, epoch_size=2)

# ResNet50 from ImageNet weights (--pretrained=resnet50-19c8e357.pth) on Stanford Online Products. Not run by us: rates,
# batches and epochs are from the cited sources; the head and the batches of few super-classes are common to most of the
# best published recipes. Recall@K may also follow the normalised softmax (--pretrained=FIRST/train.ckpt), whose head it has.
NEWER = dict(
    backbone_options={**SYMMETRIC, 'frozen_batch_norm': True}, head='embedding',
    head_options={'embedding_size': 512, 'pool': 'gem', 'layer_norm': True, 'unit_length': True},
    recall_k=[1, 10, 100, 1000], loss_scale=1024.0, train_transform='resize_crop', eval_transform='center_crop', flip=0.5,
    small_classes='repeat', weight_decay=1e-4, head_first_epochs=1, lr_mode='steps')

RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {
    ('SOP', 'element', 'published'): METRIC_ELEMENT,
    ('SOP', 'pair', 'published'): METRIC_LEARN,
    ('SOP', 'softmax', 'published'): METRIC_ELEMENT,
    # The published code differentiates the sum over the triplets of a batch; its learning rate relies on that.
    ('SOP', 'triplet', 'published'): dict(METRIC_LEARN, loss_options={'margin': 0.1, 'reduction': 'sum'}),
    ('SOP', 'quadruplet', 'published'): dict(METRIC_LEARN, loss_options={'margin': 0.1}),
    ('SOP', 'element', 'paddle'): PADDLE_ELEMENT,
    ('SOP', 'pair', 'paddle'): PADDLE_PAIR,
    ('SOP', 'softmax', 'paddle'): PADDLE_ELEMENT,
    ('SOP', 'arcmargin', 'paddle'): dict(PADDLE_ELEMENT, loss_options={'scale': 80.0, 'margin': 0.15, 'easy_margin': False}),
    ('SOP', 'triplet', 'paddle'): dict(PADDLE_PAIR, loss_options={'margin': 0.1}, batch_size=120),
    ('SOP', 'quadruplet', 'paddle'): dict(PADDLE_PAIR, loss_options={'margin': 0.1}),
    ('SOP', 'eml', 'paddle'): PADDLE_PAIR,
    ('SOP', 'npairs', 'paddle'): dict(PADDLE_PAIR, loss_options={'reg_lambda': 0.01}),
    ('SOP', 'element', 'small'): SMALL_ELEMENT,
    ('SOP', 'pair', 'small'): SMALL_PAIR,
    ('SOP', 'softmax', 'small'): SMALL_ELEMENT,
    ('SOP', 'arcmargin', 'small'): dict(SMALL_ELEMENT, loss_options=SMALL_ARCMARGIN),
    ('SOP', 'triplet', 'small'): dict(SMALL_PAIR, loss_options={'margin': 0.5, 'reduction': 'sum'}),
    ('SOP', 'quadruplet', 'small'): dict(SMALL_PAIR, loss_options={'margin': 0.1}, batch_size=24),
    # The gradient of these two losses grows with the norms of the embeddings, which are not normalised.
    ('SOP', 'eml', 'small'): dict(SMALL_PAIR, lr_max=1e-4),
    ('SOP', 'npairs', 'small'): dict(SMALL_PAIR, lr_max=1e-4, loss_options={'reg_lambda': 0.01}),
    ('SOP', 'element', 'quick'): QUICK_ELEMENT,
    ('SOP', 'pair', 'quick'): QUICK_PAIR,
    ('SOP', 'arcmargin', 'quick'): dict(QUICK_ELEMENT, loss_options=SMALL_ARCMARGIN),
    ('SOP', 'triplet', 'quick'): dict(QUICK_PAIR, batch_size=60, lr_max=3e-4, loss_options={'margin': 0.5, 'reduction': 'sum'}),
    ('SOP', 'npairs', 'quick'): dict(QUICK_PAIR, loss_options={'reg_lambda': 0.01}),
    ('SOP', 'element', 'pretrained'): PRETRAINED_ELEMENT,
    ('SOP', 'norm_softmax', 'pretrained'): dict(
        PRETRAINED_ELEMENT, loss_options={'temperature': 0.1}, loss_lr_factor=10.0, epoch_size=4),
    ('SOP', 'softmax', 'pretrained'): dict(PRETRAINED_ELEMENT, loss_options={'label_smoothing': 0.1}),
    ('SOP', 'pair', 'pretrained'): PRETRAINED_PAIR,
    ('SOP', 'triplet', 'pretrained'): dict(PRETRAINED_PAIR, batch_size=63),
    ('SOP', 'npairs', 'pretrained'): dict(PRETRAINED_PAIR, samples_each_class=2),
    ('SOP', 'batch_hard_triplet', 'pretrained'): dict(PRETRAINED_PAIR, loss_options={'margin': 0.2}),
    # Zhai and Wu, github.com/azgo14/classification_metric_learning: SGD 0.01, 75 images of 15 classes, 15 epochs and 15 at a
    # tenth; 79.5 with averaged features (2048-d) and no linear layer.
    ('SOP', 'norm_softmax', 'newer'): dict(
        NEWER, sampler='super_classes', batch_size=75, samples_each_class=5, lr_max=0.01, lr_epochs=[16], epoch_size=31,
        loss_options={'temperature': 0.05}),
    # Kim et al., github.com/tjddus9597/Proxy-Anchor-CVPR2020: AdamW 6e-4, batches of 180 drawn from all images, proxies times
    # 100, new layers alone for 1 of 60 epochs, BatchNorm not frozen; 79.2 with Inception-BN. There the rate falls to a
    # quarter every 20 epochs, here by a cosine.
    ('SOP', 'proxy_anchor', 'newer'): dict(
        NEWER, batch_size=180, optimizer='adamw', epsilon_hat=False, lr_mode='cosine', lr_max=6e-4, epoch_size=60,
        backbone_options=SYMMETRIC,
        head_options={'embedding_size': 512, 'pool': 'average_max', 'layer_norm': False, 'unit_length': True}),
    # Patel et al., github.com/yash0307/RecallatK_surrogate: Adam 2e-4, L2 4e-4 on all, 1,000 classes x 4 a batch, embedded
    # 200 at a time, the query ranked among its results; 82.8 (with similarity mixup). There the rate falls to 0.3 after 25
    # and 50 of 55 epochs, here to a tenth.
    ('SOP', 'recall_at_k', 'newer'): dict(
        NEWER, batch_size=4000, chunk_size=200, samples_each_class=4, optimizer='adam', epsilon_hat=False,
        loss_options={'counts_query': True}, weight_decay=4e-4, decay='all', lr_max=2e-4, lr_epochs=[25, 50], epoch_size=55,
        head_first_epochs=0),
}
