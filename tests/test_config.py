"""Which recipe the documented commands choose, and that no flag is without effect."""
import shlex

import pytest

from src.config import COMMON, RECIPES, create_recipe
from src.errors import InputError
from src.set_parser import parse_args


def recipe(command, saved=None):
    door, *flags = shlex.split(command)
    return create_recipe(parse_args(door, flags), saved)


def saved(*key):
    return {**COMMON, **RECIPES[key]}


def test_commands_of_paddle():
    element = recipe('train --model=ResNet50 --train_batch_size=256 --test_batch_size=50 --lr=0.01 '
                     '--total_iter_num=30000 --use_gpu=True --pretrained_model=weights.ckpt '
                     '--model_save_dir=output --loss_name=arcmargin '
                     '--arc_scale=80.0 --arc_margin=0.15 --arc_easy_margin=False')
    assert (element.network, element.subset, element.batch_size, element.lr_max) == ('resnet50', 'full', 256, 0.01)
    assert element.loss_options == {'scale': 80.0, 'margin': 0.15, 'easy_margin': False}
    assert (element.total_iter_num, element.lr_steps, element.pretrained) == (30000, [15000, 25000], 'weights.ckpt')
    assert element.dataset_path == 'data/Stanford_Online_Products' and element.eval_transform == 'center_crop'
    pair = recipe('train --model=ResNet50 --train_batch_size=160 --test_batch_size=50 --lr=0.0001 '
                  '--total_iter_num=100000 --use_gpu=True --pretrained_model=weights.ckpt '
                  '--model_save_dir=output --loss_name=eml '
                  '--samples_each_class=2')
    assert (pair.loss_name, pair.batch_size, pair.lr_max, pair.total_iter_num) == ('eml', 160, 1e-4, 100000)
    for door in ('eval', 'infer'):
        used = recipe(f'{door} --model=ResNet50 --batch_size=50 --pretrained_model=weights.ckpt')
        assert used.test_batch_size == 50 and used.network_options.padding == 'symmetric'
        assert used.dataset_path == 'data/Stanford_Online_Products'


def test_commands_of_metric_learn_and_dem():
    assert recipe('export --ckpt_file X').network == 'resnet50'
    assert recipe('export --ckpt_file X --model=ResNet101').network == 'resnet101'
    for loss, batch in (('softmax', 80), ('triplet', 60), ('quadruplet', 60)):
        used = recipe(f'train --dataset_path=D --ckpt_path=X --loss_name={loss} --run_distribute=True --run_eval=True')
        assert (used.batch_size, used.subset, used.network_options.padding) == (batch, 'half', 'same')
    for dataset, mode in (('AwA', 'att'), ('AwA', 'word'), ('AwA', 'fusion'), ('CUB', 'att')):
        for door in ('train', 'eval', 'export'):
            assert recipe(f'{door} --save_ckpt=O --dataset={dataset} --train_mode={mode}').network == (
                f'{dataset}_{mode}'.lower())


def test_flags_go_before_what_the_recipe_says_in_another_unit():
    used = recipe('train --dataset_path=D --recipe=paddle --epoch_size=2 --save_checkpoint_epochs=1')
    assert (used.total_iter_num, used.epoch_size, used.save_iter_step) == (0, 2, 0)
    used = recipe('train --dataset_path=D --recipe=paddle --epoch_size=2 --total_iter_num=7')
    assert used.total_iter_num == 7
    used = recipe('train --dataset=Market1501 --lr_steps=30,60')
    assert (used.lr_epochs, used.lr_steps) == ([], [30, 60])
    assert recipe('train --dataset_path=D --loss_name=triplet --lr_steps=30').lr_mode == 'steps'
    # Two epochs of a recipe whose warm-up takes ten: the published performance runs.
    assert recipe('train --dataset=DukeMTMC-reID --epoch_size=2').warmup_epochs == 10


def test_tests_at_intervals_are_on_the_test_classes_unless_flags_say_otherwise():
    command = 'train --model=ResNet50 --test_iter_step=100'
    assert recipe(command).validation == 'test_classes'
    assert recipe(command + ' --validation=seen_classes').validation == 'seen_classes'
    assert recipe('train --dataset=CUB --test_iter_step=100').validation == 'seen_images'


@pytest.mark.parametrize('command, message', [
    ('train --dataset=CUB --loss_name=triplet', '--loss_name=triplet: is not for CUB'),
    ('train --dataset=CUB --pretrained=X', '--pretrained: is not for CUB'),
    ('train --dataset=Market1501 --subset=half', '--subset: is not for Market1501'),
    ('train --dataset=Market1501 --bgr=True', '--bgr: is not for'),
    ('train --dataset=SOP --train_list=X', '--train_list: is not for SOP'),
    ('train --dataset_path=D --train_mode=att', '--train_mode: is not for SOP'),
    ('train --dataset=CUB --model=ResNet50', '--model: is for metric learning'),
    ('train --dataset_path=D --margin=1', '--margin: is for'),
    ('train --dataset_path=D --lr_mode=cosine --lr_steps=3', '--lr_steps: is for --lr_mode=steps'),
    ('train --data_path=D --save_ckpt=O', 'which system?'),
    ('train --save_ckpt=O', 'which system?'),
    ('eval --data_path=D --save_ckpt=X', 'which system?'),
    ('train --dataset_path=D --lr_steps=5,-1', '--lr_steps'),
    ('eval --save_ckpt=X --recall_k=0', '--recall_k'),
    ('export --ckpt_file=X --batch_size=-1', '--batch_size'),
])
def test_flags_that_would_do_nothing_are_refused(command, message):
    with pytest.raises(InputError, match=message.replace('?', r'\?')) as raised:
        recipe(command)
    assert len(str(raised.value).splitlines()) == 1


def test_a_checkpoint_is_used_for_what_it_was_trained_for():
    metric, persons = saved('SOP', 'eml', 'small'), saved('Market1501', 'ctl', 'small')
    dem = saved('CUB', 'att', 'paper')
    listed = {**persons, 'train_list': 't.txt', 'query': 'q.txt', 'gallery': 'g.txt'}
    for given, lists in (('', ['t.txt', 'q.txt', 'g.txt']), (' --data_path=D', [None] * 3),
                         (' --data_path=D --query=a --gallery=b', ['t.txt', 'a', 'b'])):
        used = recipe('eval --save_ckpt=X' + given, listed)
        assert [used.train_list, used.query, used.gallery] == lists
    assert recipe('eval --save_ckpt=X --dataset_path=D', {**metric, 'query': 'q.txt', 'gallery': 'g.txt'}).query is None
    assert recipe('eval --save_ckpt=X --dataset=SOP --dataset_path=D', metric).recall_k == [1, 5, 10]
    assert recipe('eval --save_ckpt=X --dataset=DukeMTMC-reID --data_path=D', persons).dataset == 'DukeMTMC-reID'
    assert recipe('eval --save_ckpt=X --dataset=CUB --train_mode=att --batch_size=9', dem).network == 'cub_att'
    for given, trained in (('--dataset=CUB', metric), ('--dataset=SOP', persons), ('--dataset=AwA', dem),
                           ('--train_mode=word', dem)):
        with pytest.raises(InputError, match=f'{given}: the checkpoint was trained for'):
            recipe(f'eval --save_ckpt=X {given}', trained)
