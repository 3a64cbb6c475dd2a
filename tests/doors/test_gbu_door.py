"""The benchmark's protocol through the doors: choose on val classes, train what was chosen, report, repeat by eval.py, resume,
export, and name images of seen, unseen and added classes."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.io

import eval as eval_door
import export as export_door
import infer as infer_door
import train as train_door
from src.checkpoints.checkpoint import read_checkpoint, read_recorded
from src.common.errors import InputError
from src.datasets.gbu import open_gbu
from src.datasets.image_list import ImageList
from src.recipes.recipe import Recipe
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.retrieval.naming import NamedClasses
from src.systems.generalised import Generalised, GeneralisedFound
from src.training.states import TrainingStates

CLASSES, EACH = 12, 20
# More features than half of the training images, so that the recipe `chosen` projects them.
FEATURES = 80
FLAGS = ['--dataset=GBU', '--device_target=CPU']
# Of the recipe `chosen`, with fewer candidates and steps.
QUICK = ['--batch_size=24', '--total_iter_num=60', '--lr=0.003', '--set', 'candidates=[]', '--set',
         "kernel_candidates=[[{'kernel_options.width': 0.0}]]", '--set', 'network_options.hidden_dim=32']
# Constant, so that the history's lr is the recipe's lr_max.
RANKED = ['--recipe=ranked', '--batch_size=24', '--total_iter_num=60', '--save_iter_step=20', '--keep_checkpoint_max=9',
          '--set', 'network_options.hidden_dim=32', '--set', 'lr_mode=const']


def names(count=CLASSES):
    return [f'class {chr(97 + i)}' for i in range(count)]


@pytest.fixture(scope='module')
def benchmark(tmp_path_factory):
    """12 classes of 20 images whose features follow from their attributes; 3 unseen, 3 val."""
    folder = tmp_path_factory.mktemp('data') / 'TOY'
    folder.mkdir()
    rng = np.random.default_rng(0)
    attributes, count = rng.normal(size=(CLASSES + 1, 10)), CLASSES * EACH
    mix = rng.normal(size=(10, FEATURES))
    labels = np.repeat(np.arange(CLASSES), EACH)
    features = attributes[labels] @ mix + 0.5 * rng.standard_normal((count, FEATURES))
    test = np.arange(count) % EACH >= 16
    cells = np.empty((CLASSES, 1), object)
    cells[:, 0] = names()

    def places(mask):
        return (np.flatnonzero(mask) + 1).astype(np.uint8)[:, None]
    scipy.io.savemat(folder / 'res101.mat', {'features': features.T, 'labels': labels[:, None] + 1})
    scipy.io.savemat(folder / 'att_splits.mat', {
        'att': attributes[:CLASSES].T, 'allclasses_names': cells, 'trainval_loc': places((labels < 9) & ~test),
        'test_seen_loc': places((labels < 9) & test), 'test_unseen_loc': places(labels >= 9),
        'train_loc': places(labels < 6), 'val_loc': places((labels >= 6) & (labels < 9))})
    # Images of a thirteenth class, which the files do not know, and of two unseen ones.
    labels = np.repeat([12, 9, 11], 8)
    write_embeddings(str(folder / 'more.npz'), [(attributes[labels] @ mix + 0.5 * rng.standard_normal((24, FEATURES)))
                                                .astype(np.float32)],
                     ImageList([f'/none/{names(13)[i]}/{n}.jpg' for n, i in enumerate(labels)], None))
    (folder / 'new.csv').write_text('name,' + ','.join(f'a{i}' for i in range(10)) + '\n' + names(13)[12] + ','
                                    + ','.join(map(str, attributes[12])) + '\n')
    return folder


@pytest.fixture(scope='module')
def trained(benchmark, tmp_path_factory):
    """The result of a training with the default recipe, and its folder."""
    folder = tmp_path_factory.mktemp('trained')
    return train_door.main([*FLAGS, f'--data_path={benchmark}', *QUICK, f'--save_ckpt={folder}']), folder


def test_the_protocol_is_one_command(benchmark, trained, capsys):
    result, folder = trained
    assert 0.6 < result['T1'] <= 1 and 0 < result['u'] <= 1 and 0 < result['s'] <= 1
    assert result['H'] == pytest.approx(2 * result['u'] * result['s'] / (result['u'] + result['s']))
    assert result['found']['chosen_on']['unseen'] == 3 and result['gamma'] == result['found']['gamma']
    assert {one['by'] for one in result['found']['chosen_on']['tried']} == {'regression', 'training'}
    assert json.loads((folder / 'result.json').read_text())['AUSUC'] == result['AUSUC']
    assert (folder / 'gzsl_curve.png').stat().st_size > 1000
    again = eval_door.main([*FLAGS, f'--data_path={benchmark}', f'--save_ckpt={folder}'])
    assert 'skewness of N_1' in capsys.readouterr().out
    for name in ('T1', 'u', 's', 'H', 'AUSUC', 'gamma'):
        assert again[name] == pytest.approx(result[name], abs=1e-6), name


def test_the_end_product_names_unseen_and_added_classes(benchmark, trained, tmp_path):
    exported = export_door.main(['--device_target=CPU', f'--save_ckpt={trained[1]}', f'--file_name={tmp_path / "net"}'])
    query = ['--device_target=CPU', f'--query={benchmark / "more.npz"}', '--top_k=2']
    by_export = infer_door.main([*query, f'--classes={exported}'])
    assert by_export == infer_door.main([*query, f'--classes={trained[1]}'])
    assert all(len(best) == 2 and best[0][1] >= best[1][1] for _, best in by_export)
    right = [best[0] for path, best in by_export if best[0][0] == path.split('/')[2]]
    assert len(right) > 8 and all(unseen for _, _, unseen in right)
    for product in (exported, trained[1]):
        added = infer_door.main([*query, f'--classes={product}', f'--add_classes={benchmark / "new.csv"}'])
        assert sum(best[0][0] == names(13)[12] for path, best in added[:8]) > 4
    with pytest.raises(InputError, match='is among the classes already'):
        (tmp_path / 'again.csv').write_text(f'{names()[0]},' + ','.join('1' * 10) + '\n')
        infer_door.main([*query, f'--classes={exported}', f'--add_classes={tmp_path / "again.csv"}'])
    with pytest.raises(InputError, match='3 numbers per class, the network takes 10'):
        (tmp_path / 'short.csv').write_text('x,1,2,3\n')
        infer_door.main([*query, f'--classes={exported}', f'--add_classes={tmp_path / "short.csv"}'])
    write_embeddings(str(tmp_path / 'wide.npz'), [np.ones((2, FEATURES + 1), np.float32)], ImageList(['a.jpg', 'b.jpg'], None))
    words = f'embeddings of {FEATURES + 1} values, the classes were learnt on features of {FEATURES}'
    with pytest.raises(InputError, match=words):
        infer_door.main(['--device_target=CPU', f'--query={tmp_path / "wide.npz"}', f'--classes={exported}'])
    shutil.copy(f'{exported}.classes.npz', tmp_path / 'other.classes.npz')
    (tmp_path / 'net.mindir.classes.npz').write_bytes(b'no archive')
    with pytest.raises(InputError, match='damaged, or not a file of classes'):
        infer_door.main([*query, f'--classes={exported}'])


def test_features_of_another_width_are_refused(benchmark, trained, tmp_path):
    """Compared are the features that the network is for: 72 of the 80, half of the 144 training images."""
    shutil.copytree(benchmark, tmp_path / 'NARROW')
    features = scipy.io.loadmat(benchmark / 'res101.mat')
    scipy.io.savemat(tmp_path / 'NARROW' / 'res101.mat', {'features': features['features'][:60], 'labels': features['labels']})
    with pytest.raises(InputError, match='NARROW: an image has 60 features, those of the training had 72'):
        eval_door.main([*FLAGS, f'--data_path={tmp_path}/NARROW', f'--save_ckpt={trained[1]}'])


def test_another_image_network_is_refused(benchmark, trained, tmp_path, monkeypatch):
    """By its name, where classes and images both say which network made their features."""
    (folder := tmp_path / 'named').mkdir()
    NamedClasses.load(trained[1] / 'classes.npz').save(folder / 'classes.npz')
    shutil.copy(trained[1] / 'train.ckpt', folder)
    classes = replace(NamedClasses.load(folder / 'classes.npz'), image_model='m+32x32+resize')
    classes.save(folder / 'classes.npz')
    file = EmbeddingFile(str(benchmark / 'more.npz'))
    rows = np.concatenate([block for _, block in file.blocks()])
    for model in ('m+32x32+resize', None, 'm+32x32+crop', 'n+32x32+resize'):
        write_embeddings(str(tmp_path / 'q.npz'), [rows], file.images, model=model)
        flags = ['--device_target=CPU', f'--query={tmp_path / "q.npz"}', f'--classes={folder}']
        if model in (None, classes.image_model):
            assert len(infer_door.main(flags)) == 24
            continue
        with pytest.raises(InputError, match='--classes: learnt on .* another image network.*32x32 resize and 32x32 '):
            infer_door.main(flags)
    # The data of a training and that of its evaluation or resume.
    found = GeneralisedFound(image_model='m+32x32+resize')
    system, bench = Generalised(Recipe({'data_path': benchmark}), None), open_gbu(benchmark)
    for model in (None, found.image_model):
        assert system._final(replace(bench, image_model=model), found).names == bench.names
    with pytest.raises(InputError, match='TOY: holds embeddings of another image network.*32x32 resize and 48x48 resize'):
        system._final(replace(bench, image_model='m+48x48+resize'), found)
    with pytest.raises(InputError, match='all 3 unseen classes are described by the same numbers'):
        system._final(replace(bench, semantics=bench.semantics * 0), found)


@pytest.mark.slow
def test_resumed_training_goes_on_with_what_was_chosen(benchmark, trained, tmp_path):
    flags = [*FLAGS, f'--data_path={benchmark}', *QUICK, '--save_iter_step=20', '--keep_checkpoint_max=9']
    whole = train_door.main([*flags, f'--save_ckpt={tmp_path / "a"}'])
    (tmp_path / 'b').mkdir()
    states = sorted((tmp_path / 'a').glob('train-*.ckpt'), key=lambda path: path.stat().st_mtime)
    shutil.copy(states[0], tmp_path / 'b')
    resumed = train_door.main([*flags, f'--save_ckpt={tmp_path / "b"}', '--resume'])
    for name in ('T1', 'u', 's', 'H', 'AUSUC', 'gamma', 'found'):
        assert resumed[name] == whole[name], name


def weights(path):
    """(name -> values of a checkpoint, what its training recorded)."""
    values = read_checkpoint(path)
    recorded = read_recorded(values.pop('facts'), path)
    return {name: value.asnumpy() for name, value in values.items()}, recorded


def assert_same_weights(folder, other):
    values, others = (weights(one / 'train.ckpt')[0] for one in (folder, other))
    assert values.keys() == others.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, others[name], name)


@pytest.fixture(scope='module', params=[(1e-6, 0.01), (0.01, 1e-6)], ids=['candidate is better', 'flag is better'])
def chosen(benchmark, tmp_path_factory, request):
    """Flags that leave one entry, lr_max, to the val classes; the result of the training; its folder."""
    folder, (lr, candidate) = tmp_path_factory.mktemp('chosen'), request.param
    flags = [*FLAGS, f'--data_path={benchmark}', *RANKED, f'--lr={lr}', '--set', f"candidates=[[{{'lr_max': {candidate}}}]]"]
    result = train_door.main([*flags, f'--save_ckpt={folder}'])
    # 60 steps of 1e-6 train nothing. Both outcomes must be seen here.
    assert result['found']['choice'] == ({} if lr > candidate else {'lr_max': candidate})
    return flags, result, folder


def test_what_was_chosen_is_what_is_stored_and_trained(benchmark, chosen, tmp_path):
    _, result, folder = chosen
    stored = json.loads((folder / 'result.json').read_text())
    assert stored['recipe']['lr_max'] == result['recipe']['lr_max'] == 0.01 and stored['recipe']['candidates'] == []
    assert len(stored['history']) > 1
    for row in stored['history']:
        assert row['lr'] == pytest.approx(0.01, rel=1e-6)
    states = sorted(folder.glob('train-*.ckpt'))
    assert len(states) == 3
    for path in [*states, folder / 'train.ckpt']:
        recorded = weights(path)[1]
        assert recorded.recipe == stored['recipe'] and recorded.found == stored['found']
    direct = train_door.main([*FLAGS, f'--data_path={benchmark}', *RANKED, '--lr=0.01', '--set', 'candidates=[]',
                              f'--save_ckpt={tmp_path}'])
    assert_same_weights(folder, tmp_path)
    assert direct['recipe'] == result['recipe'] and direct['gamma'] == result['gamma']


@pytest.mark.slow
def test_result_json_repeats_the_training(chosen, tmp_path):
    _, result, folder = chosen
    again = train_door.main([f'--config_path={folder / "result.json"}', '--device_target=CPU', f'--save_ckpt={tmp_path}'])
    assert_same_weights(folder, tmp_path)
    for name in ('recipe', 'T1', 'u', 's', 'H', 'AUSUC', 'gamma'):
        assert again[name] == result[name], name


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_training_resumes_with_what_was_chosen(chosen, tmp_path, monkeypatch):
    flags, result, folder = chosen

    def kill(*_):
        raise Killed
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(TrainingStates, 'prune', kill)    # called when the first state is in place
        train_door.main([*flags, f'--save_ckpt={tmp_path}'])
    assert len(list(tmp_path.glob('*.ckpt'))) == 1
    monkeypatch.setattr(Generalised, '_choose', kill)    # not chosen again
    resumed = train_door.main([*flags, f'--save_ckpt={tmp_path}', '--resume'])
    assert_same_weights(folder, tmp_path)
    for name in ('recipe', 'found', 'T1', 'u', 's', 'H', 'AUSUC', 'gamma'):
        assert resumed[name] == result[name], name


@pytest.mark.slow
@pytest.mark.parametrize('recipe', ['ranked', 'normalised'])
def test_the_other_recipes(benchmark, tmp_path, recipe):
    result = train_door.main([*FLAGS, f'--data_path={benchmark}', f'--recipe={recipe}', '--batch_size=24', '--lr=0.003',
                              '--total_iter_num=120', f'--save_ckpt={tmp_path}'])
    assert result['T1'] > 0.6
    export_door.main(['--device_target=CPU', f'--save_ckpt={tmp_path}', f'--file_name={tmp_path / "net"}'])
    named = infer_door.main(['--device_target=CPU', f'--query={benchmark / "more.npz"}', f'--classes={tmp_path}'])
    assert len(named) == 24
