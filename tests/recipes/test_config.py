"""Which recipe commands choose, that it is never changed in silence, and that no flag is without effect."""
import copy
import shlex

import pytest

from src.common.errors import InputError
from src.networks import BACKBONES
from src.recipes.command_line import parse_args
from src.recipes.recipe import RECIPES, Change, Recipe, create_recipe, describe, list_recipes, make_recipe


def command(line):
    door, *flags = shlex.split(line)
    return parse_args(door, flags)


def recipe(line, saved=None):
    return use_recipe(command(line), saved) if saved else make_recipe(command(line))[0]


def saved(dataset, choice, name, **more):
    table = 'lists' if dataset == 'Market1501' else dataset
    return {**make_recipe(table, choice, name), 'dataset': dataset, 'loss_name': choice, **more}


def difference(one, other):
    return {name for name in set(one) | set(other) if one.get(name) != other.get(name)}


def test_commands_of_paddle():
    element = recipe('train --recipe=paddle --model=ResNet50 --train_batch_size=256 --test_batch_size=50 --lr=0.01 '
                     '--total_iter_num=30000 --use_gpu=True --pretrained_model=weights.ckpt '
                     '--model_save_dir=output --loss_name=arcmargin '
                     '--arc_scale=80.0 --arc_margin=0.15 --arc_easy_margin=False')
    assert (element.backbone, element.subset, element.batch_size, element.lr_max) == ('resnet50', 'full', 256, 0.01)
    assert element.loss_options == {'scale': 80.0, 'margin': 0.15, 'easy_margin': False}
    assert (element.total_iter_num, element.lr_steps, element.pretrained) == (30000, [15000, 25000], 'weights.ckpt')
    assert element.dataset_path == 'data/Stanford_Online_Products' and element.eval_transform == 'center_crop'
    pair = recipe('train --recipe=paddle --model=ResNet50 --train_batch_size=160 --test_batch_size=50 --lr=0.0001 '
                  '--total_iter_num=100000 --use_gpu=True --pretrained_model=weights.ckpt '
                  '--model_save_dir=output --loss_name=eml --samples_each_class=2')
    assert (pair.loss_name, pair.batch_size, pair.lr_max, pair.total_iter_num) == ('eml', 160, 1e-4, 100000)


def test_commands_of_metric_learn_and_dem():
    assert recipe('export --ckpt_file X').backbone == 'resnet50'
    assert recipe('export --ckpt_file X --model=ResNet101').backbone == 'resnet101'
    for loss, batch in (('softmax', 80), ('triplet', 60), ('quadruplet', 60)):
        used = recipe(f'train --dataset_path=D --ckpt_path=X --loss_name={loss} --run_distribute=True --run_eval=True')
        assert (used.batch_size, used.subset, used.backbone_options.padding) == (batch, 'half', 'same')
        assert (used.interpolation, used.last_batch, used.keep_checkpoint_max) == ('bicubic', 'wrap', 1)
    for dataset, mode in (('AwA', 'att'), ('AwA', 'word'), ('AwA', 'fusion'), ('CUB', 'att')):
        for door in ('train', 'eval', 'export'):
            used = recipe(f'{door} --save_ckpt=O --dataset={dataset} --train_mode={mode}')
            assert used.network == f'{dataset}_{mode}'.lower() and used.validation == 'none'


def test_public_parameters_of_ctl():
    used = command("train --dataset=lists GPU_IDS [2] DATASETS.NAMES dukemtmcreid DATASETS.ROOT_DIR /data SOLVER.MAX_EPOCHS 5 "
                   'SOLVER.IMS_PER_BATCH 8 TEST.IMS_PER_BATCH 32 SOLVER.BASE_LR 1e-3 OUTPUT_DIR out')
    made = make_recipe(used)[0]
    assert (used.options.device_id, used.options.save_ckpt) == (2, 'out')
    assert (made.dataset, made.data_path, made.epoch_size, made.lr_max) == ('DukeMTMC-reID', '/data', 5, 1e-3)
    # Identities, of 4 images each.
    assert (made.batch_size, made.test_batch_size) == (32, 32)
    with pytest.raises(InputError, match='SOLVER.MAX_EPOCHS: needs a value'):
        command('train SOLVER.MAX_EPOCHS')


@pytest.mark.parametrize('more', ['--total_iter_num=2', '--use_gpu=False', '--model=resnet101'])
def test_a_flag_changes_its_entry_alone(more):
    plain, changed = (recipe(f'train --dataset_path=D --loss_name=triplet {flags}') for flags in ('', more))
    assert difference(plain, changed) <= {{'--total_iter_num': 'total_iter_num', '--use_gpu': '',
                                           '--model': 'backbone'}[more.split('=')[0]]}


def test_every_start_says_which_recipe_and_why():
    assert make_recipe(command('train --dataset_path=D'))[1] == (
        'recipe published of SOP softmax: the first for SOP softmax')
    assert make_recipe(command('train --dataset=CUB --recipe=ranked'))[1] == (
        'recipe ranked of CUB att: as --recipe says')
    used, why = make_recipe(command('train --dataset_path=D --loss_name=multi_similarity --recipe=small'))
    assert (used.loss_name, used.loss_options, used.recipe) == ('multi_similarity', {}, 'small') and 'as --recipe says' in why
    assert 'kind pair' in make_recipe(command('train --dataset_path=D --loss_name=multi_similarity'))[1]
    # A loss with recipes of its own has those of its kind too.
    second = make_recipe(command('train --dataset_path=D --loss_name=npairs --recipe=few_classes'))[0]
    assert (second.recipe, second.loss_name, second.loss_options) == ('few_classes', 'npairs', {})
    assert make_recipe(command('train --dataset_path=D --loss_name=npairs'))[0].recipe == 'paddle'


def test_the_first_recipe_of_a_loss_is_the_default():
    assert recipe('train --dataset_path=D --loss_name=eml').recipe == 'paddle'
    assert recipe('train --dataset_path=D --loss_name=triplet').recipe == 'published'


def test_a_recipe_cannot_be_changed():
    made = recipe('train --dataset=CUB')
    for change in (lambda: setattr(made, 'seed', 2), lambda: made.update(seed=2), lambda: made.pop('seed'),
                   lambda: made.network_options.__setitem__('x', 1)):
        with pytest.raises(TypeError, match='not changed'):
            change()
    assert isinstance(made, Recipe) and copy.deepcopy(made) is made
    with pytest.raises(AttributeError, match='no entry wings'):
        made.wings  # noqa: B018


def test_making_recipes_leaves_the_table_alone():
    before = copy.deepcopy(RECIPES)
    recipe('train --dataset_path=D --loss_name=triplet --margin=3 --embedding_size=8 --set recall_k=[2]')
    assert before == RECIPES


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
    line = 'train --recipe=paddle --test_iter_step=100'
    assert recipe(line).validation == 'test_classes'
    assert recipe(line + ' --validation=seen_classes').validation == 'seen_classes'


def test_set_reaches_every_entry_with_its_type():
    used = recipe('train --dataset_path=D --loss_name=triplet --recipe=small --set loss_options.margin=1 '
                  '--set recall_k=2,4 --set image_size=[32,48] --set flip=0 --set dataset_path=elsewhere '
                  '--set backbone_options.stem_relu=False')
    assert used.loss_options.margin == 1.0 and isinstance(used.loss_options.margin, float)
    assert (used.recall_k, used.image_size, used.flip, used.dataset_path) == ([2, 4], [32, 48], 0.0, 'elsewhere')
    assert used.backbone_options.stem_relu is False
    used = recipe('train --dataset_path=D --recipe=pretrained --loss_name=recall_at_k --set loss_options.k=1,2 '
                  '--set lr_epochs=9 --set dataset_path=2026 --set small_classes=None --set backbone_options={} '
                  """--set 'weight_decay={"conv1":0.1}'""")
    assert (used.loss_options.k, used.lr_epochs, used.dataset_path, used.small_classes) == ([1, 2], [9], '2026', None)
    assert (used.weight_decay, used.backbone_options) == ({'conv1': 0.1}, {})
    used = recipe('train --dataset=GBU --set kernel_options.shrinkage=None --set dropout=0.1,0.2 '
                  """--set 'candidates=[[{"dropout":None}]]'""")
    assert (used.kernel_options.shrinkage, used.dropout, used.candidates) == (None, [0.1, 0.2], [[{'dropout': None}]])


@pytest.mark.parametrize('text, message', [
    ('flip=much', 'expected a value like 0.5'), ('wings=2', '--set=wings=2: is not for SOP'), ('flip', 'ENTRY=VALUE'),
    ('loss_options.wings=2', 'loss_options.wings=2: is not for --loss_name=triplet; its options are'),
    ('loss_options={"wings":2}', 'its options are'), ('flip.a=1', 'has no options'),
    ('false_match_rate=2', 'below 1'), ('augmentation.a=1', 'its options are none'), ('dataset=CUB', 'give --dataset'),
    ('batch_size=None', 'expected a value like 60'), ('seed=True', 'expected a value like 1'),
    ('batch_size=[8]', 'expected a value like 60'), ('batch_size=1.5', 'expected a value like 60'),
    ('batch_size=0', 'finite number above 0'), ('lr_max=-1', 'finite number of at least 0'), ('lr_max=1e999', 'finite'),
    ('loss_options.margin=1e999', 'finite'), ('lr_epochs=["a"]', 'expected a value like'), ('recall_k=0', 'above 0'),
    ('image_size=[8,8,8]', 'height and width'), ('subset=most', 'choose one of full'), ('lr_mode=up', 'choose one of const')])
def test_set_refuses_what_is_no_entry_and_no_value_of_it(text, message):
    with pytest.raises(InputError, match=message) as raised:
        recipe(f'train --dataset_path=D --loss_name=triplet --recipe=small --set {shlex.quote(text)}')
    assert '\n' not in str(raised.value) and '--set' in str(raised.value)


def test_options_are_those_of_the_backbone_that_another_flag_names(monkeypatch):
    monkeypatch.setitem(BACKBONES, 'other', 'others.Other')
    model = Change('--model=other', {'backbone': 'other'})
    base = make_recipe('SOP', 'softmax', 'small')
    assert create_recipe(base, [model]).backbone_options == {}
    with pytest.raises(ImportError):    # of the other backbone, not of the recipe's
        create_recipe(base, [Change('--set', {'backbone_options.depth': '8'}, checked=False), model])


def test_a_head_that_has_a_width_keeps_all_else_of_it():
    used = recipe('train --dataset_path=D --loss_name=norm_softmax --recipe=pretrained --embedding_size=64')
    assert used.head == 'embedding' and used.head_options == {'embedding_size': 64, 'pool': 'gem', 'layer_norm': True,
                                                              'unit_length': True}
    assert recipe('train --dataset_path=D --embedding_size=64').head == 'linear'
    none = recipe('train --dataset_path=D --embedding_size=64 --embedding_size=0')
    assert (none.head, none.head_options) == ('none', {})
    whitened = recipe('train --dataset_path=D --loss_name=supcon --recipe=many_classes --embedding_size=0')
    assert whitened.head == 'whitened' and whitened.head_options == {'shrinkage': 0.1}
    few = recipe('train --dataset_path=D --loss_name=arcmargin --recipe=few_classes')
    assert all(used[name] for used in (whitened, few) for name in ('turned_classes', 'turned', 'mirror'))


def test_identities_are_of_as_many_images_as_another_flag_says():
    assert recipe('train --dataset=Market1501 SOLVER.IMS_PER_BATCH 8 --samples_each_class=2').batch_size == 16


def test_what_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        command('train --help')
    general = capsys.readouterr().out
    assert end.value.code == 0 and 'metric learning' in general and '--loss_name' in general
    with pytest.raises(SystemExit):
        command('train --dataset=CUB --recipe=ranked --help')
    assert '[0.0002]' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command('train --list_recipes')
    assert capsys.readouterr().out == list_recipes() + '\n'
    assert 'loss_options' in describe(recipe('train --dataset_path=D'))
    assert all(name in list_recipes() for *_, name in RECIPES)


def test_flags_of_the_page_that_a_door_does_not_need_are_taken_and_said(capsys):
    recipe('train --dataset=CUB --file_format=AIR')
    recipe('export --save_ckpt=X --dataset=CUB --data_path=D --interval_step=5 --distribute=False --epoch_size=3')
    recipe('eval --save_ckpt=X --dataset=CUB --data_path=D --interval_step=5 --batch_size=7')
    said = capsys.readouterr().out
    assert '--file_format: without effect in train.py' in said and '--data_path: without effect in export.py' in said
    assert '--interval_step: without effect in eval.py' in said and '--test_batch_size: without effect for CUB' in said


@pytest.mark.parametrize('line, message', [
    ('train --dataset=CUB --loss_name=triplet', '--loss_name=triplet: is not for CUB'),
    ('train --dataset=CUB --pretrained=X', '--pretrained: is not for CUB'),
    ('train --dataset=Market1501 --subset=half', '--subset: is not for Market1501'),
    ('train --dataset=Market1501 --bgr=True', '--bgr: is not for'),
    ('train --dataset=SOP --train_list=X', '--train_list: is not for SOP'),
    ('train --dataset_path=D --train_mode=att', '--train_mode: is not for SOP'),
    ('train --dataset=CUB --model=ResNet50', '--model: is not for CUB'),
    ('train --dataset=Market1501 --embedding_size=8', '--embedding_size: is for metric learning'),
    ('train --dataset_path=D --margin=1', '--margin: is not for --loss_name=softmax'),
    ('train --dataset_path=D --lr_mode=cosine --lr_steps=3', '--lr_steps: is for --lr_mode=steps'),
    ('train --data_path=D --save_ckpt=O', 'which system?'),
    ('train --save_ckpt=O', 'which system?'),
    ('eval --data_path=D --save_ckpt=X', 'which system?'),
    ('train --dataset_path=D --lr_steps=5,-1', '--lr_steps'),
    ('train --dataset=CUB --momentum=0.5', '--momentum=0.5: would be without effect, the optimizer is adam'),
    ('train --dataset_path=D --lr_init=0.1', '--lr_init=0.1: would be without effect, there is no warm-up'),
    ('train --dataset_path=D --lr_end=0.1', '--lr_end=0.1: would be without effect, --lr_mode is steps'),
    ('train --recipe=paddle --pretrain_epoch_size=1', '--pretrain_epoch_size=1: would be without effect'),
    ('train --dataset_path=D --validation_fraction=0.2', '--validation_fraction=0.2: would be without effect'),
    ('train --dataset_path=D --loss_scale=0', '--loss_scale=0.0: expected a finite number above 0'),
    ('train --dataset=CUB --recipe=ranked --set dropout=[0.1,1]', 'to below 1'),
    ('train --dataset_path=D --recipe=ranked', '--recipe=ranked: for SOP softmax there are published'),
    ('train --dataset_path=D --pretrain_epoch_size=30', '--pretrain_epoch_size=30'),
    ('eval --save_ckpt=X --recall_k=0', '--recall_k'),
    ('export --ckpt_file=X --batch_size=-1', '--batch_size'),
])
def test_flags_that_would_do_nothing_are_refused(line, message):
    with pytest.raises(InputError, match=message.replace('?', r'\?')) as raised:
        recipe(line)
    assert len(str(raised.value).splitlines()) == 1


def test_a_checkpoint_is_used_for_what_it_was_trained_for():
    metric, persons = saved('SOP', 'eml', 'small'), saved('Market1501', 'ctl', 'small')
    dem = make_recipe('CUB', 'att', 'paper')
    listed = {**persons, 'train_list': 't.txt', 'query': 'q.txt', 'gallery': 'g.txt'}
    for given, lists in (('', ['t.txt', 'q.txt', 'g.txt']), (' --data_path=D', [None] * 3),
                         (' --data_path=D --query=a --gallery=b', [None, 'a', 'b'])):
        used = recipe('eval --save_ckpt=X' + given, listed)
        assert [used.train_list, used.query, used.gallery] == lists
    assert recipe('eval --save_ckpt=X --dataset_path=D', {**metric, 'query': 'q.txt', 'gallery': 'g.txt'}).query is None
    assert recipe('eval --save_ckpt=X --dataset=SOP --dataset_path=D', metric).recall_k == [1, 5, 10]
    assert recipe('eval --save_ckpt=X --dataset=DukeMTMC-reID --data_path=D', persons).dataset == 'DukeMTMC-reID'
    assert recipe('eval --save_ckpt=X --dataset=CUB --train_mode=att --batch_size=9', dem).network == 'cub_att'
    for given, trained in (('--dataset=CUB', metric), ('--dataset=SOP', persons), ('--dataset=AwA', dem),
                           ('--train_mode=word', dem), ('--model=resnet101', metric)):
        with pytest.raises(InputError, match=f'{given}: the checkpoint was trained for'):
            recipe(f'eval --save_ckpt=X {given}', trained)


def test_create_recipe_needs_no_parser():
    assert create_recipe(make_recipe('CUB', 'att', 'published'), []) == recipe('train --dataset=CUB --recipe=published')
