"""Recipes of re-identification, by (`lists`, loss, name), for all its datasets without recipes of their own.

CTL is compared with the loss `baseline`. A loss without a recipe here takes the recipe of its kind.
"""
from typing import Any, Dict, Tuple

# CTL: 16 identities x 4 images, 256 x 128, from ImageNet weights (--pretrained), as published for DukeMTMC-reID.
CTL = dict(
    head='neck', backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'last_stride': 1, 'stem_relu': False},
    samples_each_class=4, image_size=[256, 128], interpolation='antialias', train_transform='reid', flip=0.5, batch_size=64,
    test_batch_size=128, run_eval=True, optimizer='adam', epsilon_hat=False, weight_decay=5e-4, decay='all',
    loss_scale=1024.0, lr_mode='steps', lr_max=3.5e-4, lr_epochs=[40, 70], warmup_epochs=10, warmup='epoch', epoch_size=120)
# From scratch on few small pictures, on a CPU. Padding of 10 and erasing would leave little of them.
SMALL = dict(CTL, image_size=[64, 64], train_transform='resize_crop', num_workers=2, loss_scale=1.0, lr_epochs=[12, 16],
             warmup_epochs=2, epoch_size=20)
# MobileNetV2 from ImageNet weights (--pretrained=mobilenet_v2.pth) on small square pictures; see metric_learning.PRETRAINED.
# Groceries of the other session, seed 1: CTL instance mAP 64.9, centroid 93.4; baseline 62.4, 93.3; three minutes each.
PRETRAINED = dict(CTL, image_size=128, train_transform='resize_crop', num_workers=2, loss_scale=1.0, mirror=True,
                  backbone='mobilenet_v2', backbone_options={'frozen_layers': 7}, lr_mode='one_cycle', warmup_epochs=0,
                  epoch_size=3)
MARGIN = {'margin': 0.5}
# From scratch in a minute on a CPU, on drawn persons (scripts/quickstart.sh). Chosen on persons drawn with another seed.
QUICK = dict(
    head='neck', backbone='resnet18', backbone_options={'padding': 'symmetric', 'bn_eps': 1e-5, 'width': 16},
    samples_each_class=4, image_size=[64, 32], train_transform='resize', flip=0.5, num_workers=2, batch_size=64,
    run_eval=True, optimizer='adamw', weight_decay=0.05, lr_mode='one_cycle', lr_max=4e-3, epoch_size=25)

RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {
    ('lists', 'ctl', 'published'): dict(CTL, loss_options=MARGIN),
    ('lists', 'baseline', 'published'): dict(CTL, loss_options=MARGIN),
    ('lists', 'ctl', 'small'): dict(SMALL, loss_options=MARGIN),
    ('lists', 'baseline', 'small'): dict(SMALL, loss_options=MARGIN),
    ('lists', 'ctl', 'quick'): dict(QUICK, loss_options=MARGIN),
    ('lists', 'ctl', 'pretrained'): dict(PRETRAINED, loss_options=MARGIN),
    ('lists', 'baseline', 'pretrained'): dict(PRETRAINED, loss_options=MARGIN),
    ('lists', 'element', 'published'): CTL,
    ('lists', 'pair', 'published'): CTL,
    ('lists', 'element', 'small'): SMALL,
    ('lists', 'pair', 'small'): SMALL,
}
