"""Which recipe commands choose, that it is never changed in silence, and that no flag is without effect."""
import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from src import __version__
from src.common.errors import InputError
from src.networks import BACKBONES
from src.recipes.command_line import parse_args
from src.recipes.entries import REMOVED
from src.recipes.flags import DOORS
from src.recipes.infer_modes import infer_mode
from src.recipes.recipe import RECIPES, Recipe, describe, differences, list_recipes, make_recipe, read_recipe

ROOT = Path(__file__).resolve().parents[2]


def command(line):
    door, *flags = shlex.split(line)
    return parse_args(door, flags)


def recipe(line, saved=None):
    used = command(line)
    return used.recipe_for(read_recipe(saved, 'X'), '', {}) if saved else used.make_recipe()


def saved(dataset, choice, name, **more):
    return {**make_recipe(dataset, choice, name), **more}


def difference(one, other):
    return {name for name in set(one) | set(other) if one.get(name) != other.get(name)}


@pytest.mark.parametrize('door', DOORS)
def test_every_door_prints_the_version(door, capsys):
    with pytest.raises(SystemExit) as end:
        command(f'{door} --version')
    assert (end.value.code, capsys.readouterr().out) == (0, __version__ + '\n')


def test_the_version_stands_in_one_place():
    # Citation and changelog repeat it for those who do not run the code.
    assert f'\nversion: {__version__}\n' in (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    newest = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.M)
    assert newest and newest[1] == __version__


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
    made = used.make_recipe()
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
    assert command('train --dataset_path=D').why() == (
        'recipe published of SOP softmax: the default for SOP softmax')
    assert command('train --dataset=CUB --recipe=ranked').why() == (
        'recipe ranked of CUB att: given by --recipe')
    asked = command('train --dataset_path=D --loss_name=multi_similarity --recipe=small')
    used, why = asked.make_recipe(), asked.why()
    assert (used.loss_name, used.loss_options, used.recipe) == ('multi_similarity', {}, 'small') and 'given by --recipe' in why
    assert 'kind pair' in command('train --dataset_path=D --loss_name=multi_similarity').why()
    # A loss with recipes of its own has those of its kind too.
    second = recipe('train --dataset_path=D --loss_name=npairs --recipe=pretrained')
    assert (second.recipe, second.loss_name, second.loss_options) == ('pretrained', 'npairs', {})
    assert recipe('train --dataset_path=D --loss_name=npairs').recipe == 'paddle'


def test_the_first_recipe_of_a_loss_is_the_default():
    assert recipe('train --dataset_path=D --loss_name=eml').recipe == 'paddle'
    assert recipe('train --dataset_path=D --loss_name=triplet').recipe == 'published'


def test_a_recipe_cannot_be_changed():
    made = recipe('train --dataset=CUB')
    for change in (lambda: setattr(made, 'seed', 2), lambda: made.update(seed=2), lambda: made.pop('seed'),
                   lambda: made.network_options.__setitem__('x', 1)):
        with pytest.raises(TypeError, match='immutable'):
            change()
    assert isinstance(made, Recipe) and copy.deepcopy(made) is made
    with pytest.raises(AttributeError, match='no entry wings'):
        made.wings  # noqa: B018


def test_making_recipes_leaves_the_table_alone():
    before = copy.deepcopy(RECIPES)
    recipe('train --dataset_path=D --loss_name=triplet --margin=3 --embedding_size=8 --set recall_k=[2]')
    assert before == RECIPES


def test_flags_go_before_what_the_recipe_says_in_another_unit(capsys):
    used = recipe('train --dataset_path=D --recipe=paddle --epoch_size=2 --save_checkpoint_epochs=1')
    assert (used.total_iter_num, used.epoch_size, used.save_iter_step) == (0, 2, 0)
    used = recipe('train --dataset_path=D --recipe=paddle --epoch_size=2 --total_iter_num=7')
    assert used.total_iter_num == 7
    assert '--epoch_size=2: has no effect: --total_iter_num=7 overrides it' in capsys.readouterr().out
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
    used = recipe('train --dataset_path=D --recipe=newer --loss_name=recall_at_k --set loss_options.k=1,2 '
                  '--set lr_epochs=9 --set dataset_path=2026 --set small_classes=None --set backbone_options={} '
                  """--set 'weight_decay={"conv1":0.1}'""")
    assert (used.loss_options.k, used.lr_epochs, used.dataset_path, used.small_classes) == ([1, 2], [9], '2026', None)
    assert (used.weight_decay, used.backbone_options) == ({'conv1': 0.1}, {})
    used = recipe('train --dataset=GBU --set kernel_options.shrinkage=None --set dropout=0.1,0.2 '
                  """--set 'candidates=[[{"dropout":None}]]'""")
    assert (used.kernel_options.shrinkage, used.dropout, used.candidates) == (None, [0.1, 0.2], [[{'dropout': None}]])


@pytest.mark.parametrize('text, message', [
    ('flip=much', 'expected a number from 0 to 1'),
    ('wings=2', '--set=wings=2: no recipe has an entry'), ('flip', 'ENTRY=VALUE'),
    ('seed=1_0', 'expected a whole number'), ('epoch_size=0x10', 'expected a whole'), ('epoch_size=', 'is empty'),
    ('epoch_size=3000000000', 'is too large'), ('lr_max=1e300', 'is too large for float32'),
    ('epoch_sise=2', 'did you mean epoch_size?'), ('flip=7', 'expected a number from 0 to 1'),
    ('loss_options.wings=2', 'loss_options.wings=2: is not an option of --loss_name=triplet; its options are'),
    ('loss_options={"wings":2}', 'its options are'), ('loss_options={"margin":"x"}', 'expected a finite number'),
    ('loss_options=[1]', 'expected a dict'), ('flip.a=1', 'has no options'),
    ('false_match_rate=2', 'below 1'), ('augmentation.a=1', 'its options are none'), ('dataset=CUB', 'give --dataset'),
    ('batch_size=None', 'expected a whole number of at least 1'), ('seed=True', 'expected a whole number'),
    ('batch_size=[8]', 'expected a whole number'), ('batch_size=1.5', 'expected a whole number'),
    ('batch_size=0', 'at least 1'), ('lr_max=-1', 'finite number above 0'), ('lr_max=0', 'above 0'), ('lr_max=1e999', 'finite'),
    ('loss_options.margin=1e999', 'finite'), ('lr_epochs=["a"]', 'expected a list'), ('recall_k=0', 'at least 1'),
    ('weight_decay={"conv1":"x"}', 'expected a finite number'), ('embedding_size=3', 'give --embedding_size'),
    ('image_size=[8,8,8]', 'height and width'), ('image_size=1000000', 'height and width'),
    ('subset=most', 'expected one of full'), ('lr_mode=up', 'expected one of const'), ('chunk_size=-1', 'of at least 0'),
    ('optimizer=sgdx', 'expected one of momentum, adam'), ('decay=some', 'expected one of weights, all'),
    ('warmup=day', 'expected one of step, epoch'), ('sampler=random', 'expected one of shuffle, triplet'),
    ('small_classes=all', 'expected one of leave_out'), ('last_batch=keep', 'expected one of drop, wrap')])
def test_set_refuses_what_is_no_entry_and_no_value_of_it(text, message):
    with pytest.raises(InputError, match=message) as raised:
        recipe(f'train --dataset_path=D --loss_name=triplet --recipe=small --set {shlex.quote(text)}')
    assert '\n' not in str(raised.value) and '--set' in str(raised.value)


@pytest.mark.parametrize('flags, message', [
    ('supcon --set loss_options.temperature=0', 'finite number above 0'),
    ('supcon --set loss_options.temperature=-1', 'above 0'),
    ('arcmargin --arc_scale=0', '--arc_scale=0: expected a finite number above 0'), ('triplet --margin=-1', 'of at least 0'),
    ('softmax --set loss_options.label_smoothing=1', 'below 1'),
    ('softmax --set backbone_options.bn_eps=0', 'above 0')])
def test_options_that_would_learn_nothing_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        recipe(f'train --dataset_path=D --recipe=small --loss_name={flags}')


def test_options_are_those_of_the_backbone_that_another_flag_names(monkeypatch):
    monkeypatch.setitem(BACKBONES, 'other', 'convolution.Convolution')
    used = make_recipe('SOP', 'softmax', 'small', {'backbone_options.padding': 'same', 'backbone': 'other'})
    assert used.backbone_options == {'padding': 'same'}
    with pytest.raises(InputError, match='is not an option of backbone other'):
        make_recipe('SOP', 'softmax', 'small', {'backbone_options.width': 8, 'backbone': 'other'})


def test_a_head_that_has_a_width_keeps_all_else_of_it():
    used = recipe('train --dataset_path=D --loss_name=norm_softmax --recipe=newer --embedding_size=64')
    assert used.head == 'embedding' and used.head_options == {'embedding_size': 64, 'pool': 'gem', 'layer_norm': True,
                                                              'unit_length': True}
    assert recipe('train --dataset_path=D --embedding_size=64').head == 'linear'
    none = recipe('train --dataset_path=D --embedding_size=64 --embedding_size=0')
    assert (none.head, none.head_options) == ('none', {})
    whitened = recipe('train --dataset_path=D --loss_name=softmax --recipe=pretrained --embedding_size=0')
    assert whitened.head == 'whitened' and whitened.head_options == {'shrinkage': 0.1}


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
    assert '--file_format: has no effect in train.py' in said and '--data_path: has no effect in export.py' in said
    assert '--interval_step: has no effect in eval.py' in said and '--batch_size: has no effect for CUB' in said


def test_entries_about_lists_and_subsets_are_refused_for_other_images(tmp_path, capsys):
    for name, text in (('list.txt', 'a.jpg 1'), ('SOP/Ebay_train.txt', ''), ('folder/1/a.jpg', '')):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    for words, idle in (('--subset=tiny --dataset_path=list.txt', True), ('--subset=tiny --dataset_path=SOP', False),
                        ('--subset=tiny --dataset_path=folder', True), ('--encoding=gbk --dataset_path=folder', True),
                        ('--encoding=gbk --dataset_path=SOP', False), ('--encoding=gbk --dataset_path=list.txt', False),
                        ('--encoding=gbk --dataset_path=none', False)):
        words = words.replace('path=', f'path={tmp_path}/')
        for use in (lambda: recipe(f'train {words}'), lambda: infer_mode(command(f'infer --ckpt_file=X {words}'))):  # noqa: B023
            if idle:
                with pytest.raises(InputError, match=f'{words.split()[0]}: would have no effect'):
                    use()
            else:
                use()
    capsys.readouterr()
    # As in the recipe.
    recipe(f'train --subset=half --dataset_path={tmp_path}/list.txt')
    assert '--subset=half: has no effect: it is for folders of Stanford' in capsys.readouterr().out


def test_the_recipe_of_weights_cannot_be_named_anew():
    with pytest.raises(InputError, match='--recipe=paddle: has no effect: the weights were trained with recipe small'):
        recipe('eval --save_ckpt=X --recipe=paddle', saved('SOP', 'eml', 'small'))


def test_flags_of_the_network_are_refused_for_an_exported_model():
    used = command('infer --ckpt_file=X.onnx --amp_level=O2')
    with pytest.raises(InputError, match='--amp_level=O2: has no effect on an exported model'):
        used.recipe_for(None, '', {'image_size': [32, 32]})


@pytest.mark.parametrize('line, message', [
    ('train --dataset=CUB --loss_name=triplet', '--loss_name=triplet: has no effect for CUB'),
    ('train --dataset=CUB --pretrained=X', '--pretrained: has no effect on recipe `published` for CUB; remove it'),
    ('train --dataset=Market1501 --subset=half', '--subset: has no effect on recipe `published` for Market1501; remove it'),
    ('train --dataset=Market1501 --bgr=True', '--bgr: has no effect on recipe'),
    ('train --dataset=SOP --train_list=X', '--train_list: has no effect on recipe `published` for SOP; remove it'),
    ('train --dataset_path=D --train_mode=att', '--train_mode=att: has no effect for SOP'),
    ('train --dataset=CUB --model=ResNet50', '--model: has no effect on recipe `published` for CUB; remove it'),
    ('train --dataset=Market1501 --embedding_size=8', '--embedding_size: is for metric learning'),
    ('train --dataset_path=D --margin=1', '--margin: is not an option of --loss_name=softmax'),
    ('train --dataset_path=D --lr_mode=cosine --lr_steps=3', '--lr_steps=3: would have no effect: lr_mode is'),
    ('train --data_path=D --save_ckpt=O', 'which system?'),
    ('train --save_ckpt=O', 'which system?'),
    ('eval --data_path=D --save_ckpt=X', 'which system?'),
    ('train --dataset_path=D --lr_steps=5,-1', '--lr_steps'),
    ('train --dataset=CUB --momentum=0.5', '--momentum=0.5: would have no effect: optimizer is adam; it is for momentum'),
    ('train --dataset_path=D --lr_init=0.1', '--lr_init=0.1: would have no effect: warmup_epochs is 0; give'),
    ('train --dataset_path=D --lr_end=0.1', '--lr_end=0.1: would have no effect: lr_mode is'),
    ('train --recipe=paddle --pretrain_epoch_size=1', '--pretrain_epoch_size=1: would have no effect'),
    ('train --dataset_path=D --validation_fraction=0.2', '--validation_fraction=0.2: would have no effect'),
    ('train --dataset_path=D --save_checkpoint=False --save_iter_step=5', '--save_iter_step=5: would have no effect'),
    ('train --dataset_path=D --set validation_epochs=2', 'validation_epochs=2: would have no effect: validation is none'),
    ('train --dataset_path=D --set warmup=epoch', 'warmup=epoch: would have no effect'),
    ('train --dataset=Market1501 --data_path=D --query=q --gallery=g', '--data_path=D: would have no effect: query is q'),
    ('train --dataset=GBU --recipe=ranked --set kernel_candidates=[[{}]]', 'would have no effect: network is '),
    ('eval --save_ckpt=X --set epoch_size=3', '--set=epoch_size=3: has no effect in eval.py'),
    ('export --save_ckpt=X --set report=r.html', '--set=report=r.html: has no effect in export.py'),
    ('infer --ckpt_file=X --set loss_options.margin=1', 'has no effect in infer.py'),
    ('train --dataset_path=D --loss_name=triplet --arc_margin=1', '--arc_margin: is for --loss_name=arcmargin'),
    ('train --dataset_path=D --loss_scale=0', '--loss_scale=0: expected a finite number above 0'),
    ('train --dataset=CUB --recipe=ranked --set dropout=[0.1,1]', 'below 1'),
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
                         (' --query=a --gallery=b', ['t.txt', 'a', 'b'])):
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


def test_an_entry_removed_since_is_left_out_where_it_did_nothing(tmp_path):
    now = saved('SOP', 'softmax', 'small')
    for name, (idle, version) in REMOVED.items():
        entry, _, option = name.partition('.')
        for value in (idle, 2):
            then = {**now, entry: {**now[entry], option: value} if option else value}
            result = write(tmp_path, 'result.json', json.dumps({'recipe': then}))
            if value == idle:
                assert read_recipe(then, 'a.ckpt') == now and recipe(f'train {result}') == now
                continue
            for where, read in (('a.ckpt', lambda then=then: read_recipe(then, 'a.ckpt')),
                                (result, lambda result=result: recipe(f'train {result}'))):
                with pytest.raises(InputError) as refused:
                    read()
                assert str(refused.value) == (f'{where}: was trained with {name}=2, which versions after {version} do not '
                                              f'have; use version {version}')


def test_a_recipe_needs_no_parser():
    assert make_recipe('CUB', 'att', 'published') == recipe('train --dataset=CUB --recipe=published')
    changed = make_recipe('SOP', 'triplet', changes={'loss_options.margin': 1, 'epoch_size': 2})
    assert changed == recipe('train --dataset_path=D --loss_name=triplet --margin=1 --epoch_size=2 '
                             '--set dataset_path=None') and changed.changed({'seed': 4}).seed == 4


@pytest.mark.parametrize('flags, margin', [('--margin=0.4 --set loss_options.margin=0.3', 0.3),
                                           ('--set loss_options.margin=0.3 --margin=0.4', 0.4)])
def test_flags_act_in_the_order_in_which_they_are_written(flags, margin):
    assert recipe(f'train --dataset_path=D --loss_name=triplet {flags}').loss_options.margin == margin


@pytest.mark.parametrize('line, word', [
    ('train --dataset=CUB --ckpt_path=X', '--ckpt_path: '),
    ('train --dataset=CUB --pretrained_model=X', '--pretrained_model: '),
    ('train --dataset_path=D --train_batch_size=0', '--train_batch_size=0: '),
    ('train --dataset=Market1501 SOLVER.BASE_LR fast', 'SOLVER.BASE_LR=fast: '),
    ('train --dataset_path=D --lr_decay_mode=up', '--lr_decay_mode=up: '), ('eval --model_file=X', 'unrecognized'),
    ('train --dataset_path=D --save_ckpt=', '--save_ckpt=: is empty'),
    ('train --dataset=Market1501 OUTPUT_DIR --epoch_size=1', 'OUTPUT_DIR: needs a value'),
    ('train --dataset_path=D --total_iter_num=1000000000000000', '--total_iter_num=1000000000000000: is too large'),
    ('train --dataset_path=D --embedding_size=10000000000', '--embedding_size=10000000000: is too large'),
    ('export --save_ckpt=X --height=1000000', '--height=1000000: is too large'),
    ('train -epoch_size=1', '-epoch_size=1 (did you mean --epoch_size?)'),
    ('train --epoch_sise=1', '--epoch_sise=1 (did you mean --epoch_size?)'), ('train --LR=1', '(did you mean --lr?)'),
    ('train --recall_k=1', '(--recall_k is a flag of eval.py)')])
def test_errors_name_the_word_that_the_user_wrote(line, word):
    with pytest.raises(InputError) as raised:
        recipe(line)
    assert word in str(raised.value)


def test_what_says_how_to_run_is_apart_from_what_says_what_to_learn():
    then, now = make_recipe('SOP', 'softmax'), make_recipe('SOP', 'softmax', changes={
        'dataset_path': '/moved', 'num_workers': 3, 'picture': 'a.png', 'run_eval': True, 'false_match_rate': 0.1,
        'loss_options.label_smoothing': 0.1, 'lr_max': 0.2})
    assert list(differences(then, now)) == [('loss_options.label_smoothing', None, 0.1), ('lr_max', 0.3, 0.2)]
    older = {name: value for name, value in then.items() if name not in ('turned', 'beta1')}
    assert not list(differences(older, then)) and list(differences(older, then.changed({'turned': True}))) == [
        ('turned', False, True)]


@pytest.mark.parametrize('harm, message', [
    (None, 'holds no recipe'), ('text', 'holds no recipe'), ({'system': 'other'}, 'holds no recipe'),
    ({'dataset': 3}, 'no recipe'),
    ({'backbone': 5}, 'backbone'), ({'image_size': 'big'}, 'image_size'), ({'image_size': None}, 'image_size'),
    ({'image_size': -32}, 'image_size'), ({'image_size': [1, 2, 3]}, 'image_size'),
    ({'test_batch_size': '8'}, 'test_batch_size'),
    ({'test_batch_size': 0}, 'test_batch_size'), ({'recall_k': '1'}, 'recall_k'),
    ({'backbone_options': [1]}, 'backbone_options'),
    ({'backbone_options': {'width': 'x'}}, 'width'), ({'wings': 2}, 'unknown entry wings'), ({'mirror': 'x'}, 'mirror')])
def test_a_stored_recipe_that_was_edited_is_refused_by_its_entry(harm, message):
    good = json.loads(json.dumps(make_recipe('SOP', 'softmax', 'small')))
    assert read_recipe(good, 'X') == make_recipe('SOP', 'softmax', 'small')
    with pytest.raises(InputError, match=message) as raised:
        read_recipe({**good, **harm} if isinstance(harm, dict) else harm, 'folder/train.ckpt')
    assert str(raised.value).startswith('folder/train.ckpt: ')


def test_candidates_are_checked_before_anything_is_trained():
    for candidates, message in (([1], 'expected a list'), ([[{'wings': 2}]], 'no recipe has an entry wings'),
                                ([[{'lr_max': -1}]], 'lr_max=-1'),
                                ([[{'kernel_options.wings': 1}]], 'has no option wings')):
        with pytest.raises(InputError, match=message):
            make_recipe('GBU', changes={'candidates': candidates})
        with pytest.raises(InputError, match=message):
            make_recipe('GBU', changes={'kernel_candidates': candidates})


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return f'--config_path={tmp_path / name}'


def test_a_file_of_entries_and_flags_before_the_flags(tmp_path):
    yaml = write(tmp_path, 'a.yaml', 'loss_name: triplet\ndataset_path: D\nepoch_size: 3\nloss_options.margin: 0.7\n'
                                     'model: resnet18\nlr: 1e-3\nweight_decay: 1e-4\nsave_ckpt: here\n')
    used = command(f'train {yaml} --epoch_size=5')
    made = used.make_recipe()
    assert (made.loss_name, made.epoch_size, made.loss_options.margin, made.backbone, made.lr_max, used.options.save_ckpt) == (
        'triplet', 5, 0.7, 'resnet18', 1e-3, 'here')
    assert made.weight_decay == 1e-4  # a text in YAML
    for value in (False, True):
        assert command(f'train {write(tmp_path, "b.yaml", f"resume: {value}")} --dataset_path=D').options.resume == value
    # Words are kept as they are written.
    words = write(tmp_path, 'w.yaml', 'loss_name: triplet\nsave_ckpt: 012\nprofile: null\nresume: yes\npretrained: ~\n'
                                      'weight_decay: {a: 1e-4}\ndataset_path: 1.50\n')
    used = command(f'train {words}')
    assert (used.options.save_ckpt, used.options.profile, used.options.resume) == ('012', None, True)
    made = used.make_recipe()
    assert (made.dataset_path, made.pretrained, made.weight_decay) == ('1.50', None, {'a': 1e-4})
    # Before it on the command line too.
    assert recipe(f'train --epoch_size=5 {yaml}').epoch_size == 5
    paddle = write(tmp_path, 'p.json', '{"recipe": "paddle", "epoch_size": 2, "dataset": "SOP"}')
    assert (recipe(f'train {paddle}').total_iter_num, recipe(f'train {paddle}').epoch_size) == (0, 2)


@pytest.mark.parametrize('name, text, message', [
    ('a.yaml', 'save_ckpt: "a\\0b"', 'NUL'), ('a.yaml', 'resume: maybe', 'resume=maybe: expected true or false'),
    *(('a.yaml', f'seed: {word}', f'seed={word}: expected a whole number') for word in ('012', '1_2', '1:30', '0x10')),
    ('a.yaml', 'lr_steps: [30, 012]', 'expected a list of values'), ('a.yaml', 'run_eval: on', 'expected True or False'),
    ('a.yaml', 'seed: 1\nseed: 2', 'names seed twice'), ('a.json', '{"seed": 1, "seed": 2}', 'names seed twice'),
    ('a.yaml', 'epoch_sise: 3', 'epoch_sise: no such entry or flag; did you mean epoch_size?'),
    ('a.yaml', 'epoch_size: many', 'a.yaml: epoch_size=many: expected a whole number'),
    ('a.yaml', '- 1', 'expected a table of names and values'),
    ('a.yaml', 'a: [1', 'not valid YAML'), ('a.json', '{"epoch_size": 3', 'not valid JSON'),
    ('a.json', '[' * 100000, 'not valid JSON'),
    ('a.json', '"text"', 'expected a table of names and values'), ('a.yaml', '3: 4', '3: no such entry or flag')])
def test_a_bad_file_of_entries_is_one_line(tmp_path, name, text, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        recipe(f'train --dataset_path=D {write(tmp_path, name, text)}')
    assert '\n' not in str(raised.value) and name in str(raised.value)
    with pytest.raises(InputError, match='no.yaml: cannot be read'):
        recipe('train --dataset_path=D --config_path=no.yaml')


@pytest.mark.parametrize('line', [
    '--dataset=CUB --recipe=ranked', '--dataset_path=D --loss_name=arcmargin --recipe=quick',
                                  '--dataset=Market1501 --data_path=D --loss_name=triplet', '--dataset=GBU --seed=3'])
def test_a_training_s_result_given_back_is_its_recipe(tmp_path, line):
    made = recipe(f'train {line}')
    result = write(tmp_path, 'result.json', json.dumps({'loss': 0.1, 'recipe': made, 'found': {}}))
    assert recipe(f'train {result}') == made
    assert recipe(f'train {result} --seed=7') == made.changed({'seed': 7})


def test_showing_a_recipe_imports_no_mindspore():
    done = subprocess.run([sys.executable, '-X', 'importtime', 'train.py', '--dataset_path=D', '--loss_name=multi_similarity',
                           '--recipe=small', '--set=loss_options.alpha=3',
                           '--set=backbone_options.width=8', '--show_recipe'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and 'mindspore' not in done.stderr and "'alpha': 3.0" in done.stdout
