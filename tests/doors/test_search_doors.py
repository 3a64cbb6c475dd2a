"""Thresholds, re-ranking, indexes and changes of galleries through the doors, on an untrained network's embeddings."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from easydict import EasyDict
from PIL import Image

import infer
from src.accuracy import Images, OpenSet, Rerank, recall_at_k, reid_metrics
from src.checkpoints.checkpoint import Recorded, save_cell
from src.checkpoints.exported import export_network, network_identity, read_card
from src.common.device import Process
from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.datasets.images import open_images
from src.datasets.splits import held_out
from src.networks import create_image_network
from src.recipes.command_line import parse_args
from src.recipes.recipe import make_recipe
from src.retrieval.embedding import EmbeddingOptions, embedding_identity
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.systems.measured import MeasuredImages
from src.systems.metric_learning import MetricLearning
from src.systems.open_set import find_threshold
from src.systems.reid import Reid
from tests.conftest import trained_by

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CLASSES, EACH, SIDE, WIDTH, RATE = 100, 4, 16, 16, 0.1


def door(name, *flags, cwd):
    """Run a door as a user does; what it printed."""
    done = subprocess.run([sys.executable, str(ROOT / f'{name}.py'), '--device_target=CPU', *map(str, flags)], cwd=cwd,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(network, paths, flipped=False, turns=0):
    """Embeddings of pictures of the network's size, turned and then flipped, without this project's pipeline."""
    pixels = np.stack([np.asarray(Image.open(path).convert('RGB').rotate(90 * turns)) for path in paths]) / 255
    pixels = ((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2).astype(np.float32)
    return network(ms.Tensor(np.ascontiguousarray(pixels[..., ::-1]) if flipped else pixels)).asnumpy()


def identity(network, **changed):
    """Of its embeddings of pictures as the checkpoint's recipe gives them to it."""
    return embedding_identity(network_identity(network), EmbeddingOptions(**{'image_size': (SIDE, SIDE), **changed}))


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Pictures of many classes, a checkpoint, its gallery, its threshold found by eval.py, and the exported model."""
    root = tmp_path_factory.mktemp('search')
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        coarse = rng.integers(0, 256, (3, 3, 3))
        folder = root / 'pictures' / f'class {label:02}'
        folder.mkdir(parents=True)
        for i in range(EACH):
            noisy = np.clip(coarse + rng.normal(0, 25, coarse.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((SIDE, SIDE), Image.BICUBIC).save(folder / f'{i}.png')
    recipe = {**make_recipe('SOP', 'softmax', 'small'), 'loss_name': 'softmax', 'image_size': SIDE, 'backbone': 'resnet18',
              'backbone_options': {'width': 8}, 'head': 'linear', 'head_options': {'embedding_size': WIDTH}}
    for name in ('picture', 'rerank', 'mirror', 'turned', 'false_match_rate'):
        del recipe[name]    # as in a checkpoint from before there were any
    networks = []
    for seed, name in ((3, 'training'), (4, 'other')):
        (root / name).mkdir()
        ms.set_seed(seed)
        networks.append(create_image_network('resnet18', 'linear', backbone_options={'width': 8},
                                             head_options={'embedding_size': WIDTH}).set_train(False))
        save_cell(networks[-1], root / name / 'train.ckpt', Recorded(recipe, {'class_num': 3, 'conventions': {}}))
    images = open_images(str(root / 'pictures'), 'test')
    write_embeddings(str(root / 'gallery.npy'), [expected(networks[0], images.paths)], images,
                     model=identity(networks[0]), classes=dict(enumerate(images.class_names)))
    export_network(networks[0], [(3, SIDE, SIDE)], file_name=str(root / 'training' / 'early'), file_format='ONNX',
                   batch_size=0)
    said = door('eval', '--save_ckpt=training', '--dataset_path=pictures', f'--false_match_rate={RATE}', '--rerank',
                '--picture=threshold.png', '--result_file=result.json', cwd=root)
    door('export', '--save_ckpt=training', '--file_name=late', '--file_format=ONNX', '--batch_size=0', cwd=root)
    return EasyDict(root=root, network=networks[0], said=said, result=json.loads((root / 'result.json').read_text()),
                    embeddings=np.load(root / 'gallery.npy'), labels=np.repeat(np.arange(CLASSES), EACH),
                    models=[identity(network) for network in networks])


@pytest.fixture
def folder(work, tmp_path, monkeypatch):
    """A working folder with the gallery and the threshold to change."""
    for name in ('gallery.npy', 'gallery.npy.txt', 'gallery.npy.json', 'training/train.threshold.json'):
        shutil.copy(work.root / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here):
    """Function (flags of infer.py) -> its one line on standard error."""
    def call(*flags):
        code, out, err = here('infer', *flags)
        assert code == 2 and not out and err.count('\n') == 1 and ': error: ' in err, err
        return err
    return call


@pytest.fixture
def said(here):
    """Function (door, flags) -> what a door that does its work prints."""
    def call(name, *flags):
        code, out, err = here(name, '--device_target=CPU', *flags)
        assert code == 0, err
        return out
    return call


def lines(capfd):
    return [line.split('\t') for line in capfd.readouterr().out.splitlines()]


def test_eval_finds_the_threshold_on_one_half_and_reports_the_other(work):
    x, labels, result = work.embeddings, work.labels, work.result
    other = held_out(labels, 0.5, 1)
    chosen, report = OpenSet(x[~other], labels[~other]).threshold(RATE), OpenSet(x[other], labels[other])
    stored = json.loads((work.root / 'training' / 'train.threshold.json').read_text())
    assert stored == result['threshold'] and stored['model'] == work.models[0]
    assert stored['similarity'] == pytest.approx(chosen.similarity, abs=1e-4)
    assert stored['measured'] <= stored['bound'] <= RATE and stored['classes'] == CLASSES / 2
    measured, found, lost = report.at(stored['similarity'])
    assert stored['reported'] == pytest.approx(dict(queries=200, classes=50, measured=measured, found=found, lost=lost),
                                               abs=0.006)
    rate = OpenSet(x, labels).identification_rate(RATE)[0]
    assert result['identification']['rate'] == pytest.approx(rate, abs=0.003)
    assert f'open-set identification rate = {result["identification"]["rate"]:.5f}' in work.said
    line, = [line for line in work.said.splitlines() if line.startswith('threshold ')]
    assert f'at most {stored["bound"]:.4f} with 95 %' in line and ' of 50 other classes: false matches ' in line
    with Image.open(work.root / 'threshold.png') as picture:
        assert picture.format == 'PNG' and picture.width > picture.height > 300


def test_eval_prints_recall_of_the_re_ranked_lists(work):
    expected = recall_at_k(work.embeddings, work.labels, (1, 5, 10), rerank=Rerank())
    for k, share in expected.items():
        assert work.result['recall_reranked'][str(k)] == pytest.approx(share, abs=0.006)
        assert f'Recall@{k} re-ranked = {work.result["recall_reranked"][str(k)]:.5f}' in work.said


def test_threshold_goes_with_models_exported_before_and_after(work):
    stored = json.loads((work.root / 'training' / 'train.threshold.json').read_text())
    for name in ('training/early', 'late'):
        assert read_card(str(work.root / f'{name}.onnx')).threshold == stored
    assert 'kept: training/train.threshold.json, training/early.onnx.json\n' in work.said


def test_queries_below_the_threshold_are_unknown(work, folder, capfd):
    similarity = work.result['threshold']['similarity']
    rng = np.random.default_rng(1)
    strange = rng.standard_normal((20, WIDTH)).astype(np.float32)
    queries = np.concatenate([work.embeddings[:5], strange])
    write_embeddings('query.npy', [queries], ImageList([f'/{i}.png' for i in range(25)], None), model=work.models[0])
    unit, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, work.embeddings))
    best = (unit @ gallery.T).max(1)
    assert 0 < (best < similarity).sum() < 25
    for file, *more in (('train.threshold.json',), (str(work.root / 'late.onnx.json'), '--rerank')):
        infer.main(['--query=query.npy', '--gallery=gallery.npy', '--top_k=2', f'--threshold={file}', *more])
        told = capfd.readouterr()
        rows = [line.split('\t') for line in told.out.splitlines()]
        assert [row[1:] for row in rows if row[2] == 'unknown'] == [['1', 'unknown', f'{value:.4f}']
                                                                    for value in best if value < similarity]
        assert [row[0] for row in rows if row[2] != 'unknown'] == [f'/{i}.png' for i in range(25) if best[i] >= similarity
                                                                   for _ in range(2)]
        assert told.err.count('\n') == 1 and 'is for galleries of up to 196 images; among the 400 of gallery.npy' in told.err


def test_unknown_queries_have_no_neighbours_in_the_picture(work, folder, capfd, monkeypatch):
    paths = EmbeddingFile('gallery.npy').images.paths
    write_embeddings('query.npy', [np.stack([-work.embeddings.mean(0), work.embeddings[9]])],
                     ImageList([paths[0], paths[9]], np.array([0, 2])), model=work.models[0])
    infer.main(['--query=query.npy', '--gallery=gallery.npy', '--top_k=3', '--threshold=train.threshold.json',
                '--picture=near.png'])
    assert [row[2] == 'unknown' for row in lines(capfd)] == [True, False, False, False]
    with Image.open('near.png') as picture:
        assert picture.width > picture.height > 100


def test_images_are_searched_added_and_mirrored(work, folder, said):
    shutil.copytree(work.root / 'pictures' / 'class 07', folder / 'more' / 'class 07')
    shutil.copytree(work.root / 'pictures' / 'class 08', folder / 'more' / 'new')
    out = said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=gallery.npy', '--append')
    assert out.endswith('; 408 images now\n') and '8 embeddings of 16 values' in out
    gallery = EmbeddingFile('gallery.npy')
    # The label that its name has in the gallery, and the next free one.
    assert gallery.images.labels[400:].tolist() == [7] * 4 + [100] * 4 and gallery.classes[100] == 'new'
    np.testing.assert_allclose(gallery.take(np.arange(400, 404)), work.embeddings[28:32], rtol=1e-3, atol=1e-4)
    assert gallery.model == work.models[0]
    out = said('infer', f'--model_file={work.root}/late.onnx', '--query=more/new', '--gallery=gallery.npy', '--top_k=2',
               f'--threshold={work.root}/late.onnx.json')
    rows = [line.split('\t') for line in out.splitlines()]
    assert len(rows) == 8 and all(len(row) == 4 for row in rows)    # nothing but neighbours on standard output
    assert all('class 08' in row[2] or '/new/' in row[2] for row in rows)

    said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=mirror.npy', '--mirror')
    both = (gallery.take(np.arange(400, 408)) + expected(work.network, gallery.images.paths[400:], True)) / 2
    np.testing.assert_allclose(np.load('mirror.npy'), both, rtol=1e-3, atol=1e-4)
    assert EmbeddingFile('mirror.npy').model == identity(work.network, mirror=True)
    # An exported network that was trained to be used so says it beside itself.
    shutil.copy(work.root / 'late.onnx', 'mirror.onnx')
    facts = json.loads((work.root / 'late.onnx.json').read_text())
    assert facts['mirror'] is False and facts['turned'] is False
    Path('mirror.onnx.json').write_text(json.dumps({**facts, 'mirror': True, 'turned': True}))
    said('infer', '--model_file=mirror.onnx', '--images=more', '--output=exported.npy')

    said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=turned.npy', '--mirror', '--turned')
    four = [(expected(work.network, gallery.images.paths[400:], False, turn)
             + expected(work.network, gallery.images.paths[400:], True, turn)) / 2 for turn in range(4)]
    four = np.concatenate([one / np.linalg.norm(one, axis=1, keepdims=True) for one in four], axis=1)
    for name in ('turned', 'exported'):
        np.testing.assert_allclose(np.load(f'{name}.npy'), four, rtol=1e-3, atol=1e-4)
        assert EmbeddingFile(f'{name}.npy').model == identity(work.network, mirror=True, turned=True)
    assert EmbeddingFile('turned.npy').model.endswith('+mirror+turned')


def test_images_are_removed_and_classes_become_centroids(work, folder, capfd):
    paths = EmbeddingFile('gallery.npy').images.paths
    Path('gone.txt').write_text('\n'.join(paths[:EACH]) + '\n')
    size = Path('gallery.npy').stat().st_size
    infer.main(['--gallery=gallery.npy', '--remove=gone.txt', '--centroids=classes.npy'])
    assert capfd.readouterr().out == 'classes.npy: 99 classes\n' and Path('gallery.npy').stat().st_size == size
    infer.main(['--query=gallery.npy', '--gallery=classes.npy', '--top_k=1'])
    found = [Path(row[2]).parent.name for row in lines(capfd)]
    x = work.embeddings[EACH:]
    means = x.reshape(CLASSES - 1, EACH, WIDTH).mean(1)
    nearest = (x @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    assert found == [f'class {label + 1:02}' for label in nearest]
    Path('one.txt').write_text(paths[10] + '\n')
    infer.main(['--gallery=gallery.npy', '--remove=one.txt'])
    assert capfd.readouterr().out == 'gallery.npy: 395 images\n'


def test_index_and_re_ranking_by_flag(work, tmp_path, monkeypatch, capfd):
    pytest.importorskip('faiss')
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    rows = (np.repeat(rng.standard_normal((300, 12)), 4, 0) + 0.6 * rng.standard_normal((1200, 12))).astype(np.float32)
    write_embeddings('many.npy', [rows], ImageList([f'/{i}.png' for i in range(1200)], np.arange(1200) // 4))
    write_embeddings('query.npy', [rows[:40] + 0.1], ImageList([f'/q{i}.png' for i in range(40)], None))
    found = {}
    for name, *flags in (['exact'], ['built', '--index=ivf'], ['ivf', '--index=ivf'], ['re-ranked', '--rerank']):
        infer.main(['--query=query.npy', '--gallery=many.npy', '--top_k=4', *flags])
        told = capfd.readouterr()
        rows_of = [line.split('\t') for line in told.out.splitlines()]
        assert len(rows_of) == 160
        # Built the first time, and said so where no program reads neighbours.
        assert ('recall@10' in told.err) == (name == 'built')
        found[name] = {(row[0], row[2]) for row in rows_of}
    assert found['built'] == found['ivf'] and len(found['ivf'] & found['exact']) >= 0.95 * 160
    truth = Rerank().search(np.load('query.npy'), np.load('many.npy')).scores(slice(None))
    expected = {(f'/q{i}.png', f'/{j}.png') for i, row in enumerate(truth) for j in np.argsort(-row, kind='stable')[:4]}
    assert found['exact'] != expected and len(found['re-ranked'] & expected) >= 0.99 * 160


SEARCH = ['--query=gallery.npy', '--gallery=gallery.npy', '--top_k=1']


def test_threshold_of_another_checkpoint_is_refused(work, folder, refused):
    values = json.loads(Path('train.threshold.json').read_text())
    Path('other.threshold.json').write_text(json.dumps({**values, 'model': work.models[1]}))
    assert 'other.threshold.json: is the threshold of another network' in refused(*SEARCH,
                                                                                  '--threshold=other.threshold.json')
    # And where export.py would carry it on.
    shutil.copytree(work.root / 'other', folder / 'other')
    shutil.copy('train.threshold.json', 'other')
    with pytest.raises(InputError, match='other/train.threshold.json: is the threshold of another network'):
        trained_by('export', '--save_ckpt=other').card()


def test_threshold_for_embeddings_without_their_mirror_is_refused(work, folder, refused):
    note = json.loads(Path('gallery.npy.json').read_text())
    Path('gallery.npy.json').write_text(json.dumps({**note, 'model': identity(work.network, mirror=True)}))
    assert '16x16 resize bilinear and 16x16 resize bilinear mirror' in refused(*SEARCH, '--threshold=train.threshold.json')


def test_images_given_to_the_network_in_another_way_are_refused(work, folder, said, here):
    """Through the doors: what the flags change is told by the gallery, and asked of the queries and of the threshold."""
    query = [f'--images={work.root}/pictures/class 07', f'--save_ckpt={work.root}/training']
    for flags, changed in (([], {}), (['--image_size=24'], {'image_size': (24, 24)}),
                           (['--eval_transform=center_crop', '--bgr=True'], {'eval_transform': 'center_crop', 'bgr': True})):
        said('infer', *query, *flags, '--output=few.npy')
        assert EmbeddingFile('few.npy').model == identity(work.network, **changed)
        code, _, err = here('infer', '--query=few.npy', *SEARCH[1:], '--threshold=train.threshold.json')
        assert code == (2 if flags else 0), err
        assert not flags or 'gallery.npy: was written with' in err
    code, _, err = here('infer', *query, '--image_size=16,24', '--turned', '--output=wide.npy')
    assert code == 2 and 'images of 16 x 24 pixels, only square ones' in err and not Path('wide.npy').exists()
    code, _, err = here('export', f'--save_ckpt={work.root}/training', '--file_name=wide', '--height=24', '--set=turned=True')
    assert code == 2 and 'images of 24 x 16 pixels, only square ones' in err and not Path('wide.mindir').exists()
    said('export', f'--save_ckpt={work.root}/training', '--file_name=larger', '--height=24', '--width=24')
    assert read_card('larger.mindir').image_size == [24, 24]
    said('infer', '--model_file=larger.mindir', query[0], '--output=few.npy')
    assert EmbeddingFile('few.npy').model == identity(work.network, image_size=(24, 24))


@pytest.mark.parametrize('text', ['{"simil', '[]', '{"similarity": "high"}', '{"similarity": 7, "model": "m"}', '\0\xff'])
def test_damaged_threshold_is_refused(folder, refused, text):
    Path('train.threshold.json').write_text(text)
    assert 'train.threshold.json: ' in refused(*SEARCH, '--threshold=train.threshold.json')


def test_absent_threshold_and_embeddings_of_nobody_knows_what(work, folder, refused):
    assert 'absent.json: No such file or directory; find the threshold' in refused(*SEARCH, '--threshold=absent.json')
    Path('gallery.npy.json').unlink()
    assert 'say which network wrote them' in refused(*SEARCH, '--threshold=train.threshold.json')


def test_gallery_of_another_network_is_refused(work, folder, refused):
    write_embeddings('query.npy', [work.embeddings[:3]], ImageList(['/a.png', '/b.png', '/c.png'], None),
                     model=work.models[1])
    assert 'gallery.npy: was written with another network' in refused('--query=query.npy', *SEARCH[1:])


@pytest.mark.parametrize('rows', [1500, 1200])
def test_index_of_another_gallery_is_refused(tmp_path, monkeypatch, capfd, refused, rows):
    pytest.importorskip('faiss')
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    search = ['--query=query.npy', '--gallery=many.npy', '--top_k=1', '--index=ivf']
    for seed, count in enumerate((1200, rows)):
        x = rng.standard_normal((count, 8)).astype(np.float32)
        write_embeddings('many.npy', [x], ImageList([f'/{seed}/{i}.png' for i in range(count)], None))
        write_embeddings('query.npy', [x[:3]], ImageList(['/a.png', '/b.png', '/c.png'], None))
        if seed == 0:
            infer.main(search)
            assert Path('many.npy.ivf').is_file()
    assert 'many.npy.ivf: is the index of another gallery, or many.npy was written anew since' in refused(*search)
    Path('many.npy.ivf').write_bytes(b'something else')
    assert 'many.npy.ivf: damaged or cut short' in refused(*search)


def test_gallery_changed_since_is_refused(work, folder, refused):
    np.save('gallery.npy', work.embeddings[::-1])    # of the same shape, by another program
    for flags in (SEARCH, ['--gallery=gallery.npy', '--centroids=c.npy'],
                  ['--gallery=gallery.npy', '--remove=gallery.npy.txt']):
        assert 'gallery.npy.json: describes another file than gallery.npy' in refused(*flags)


@pytest.mark.parametrize('flags, words', [
    ('--threshold=t.json', '--threshold: is for a search'), ('--index=ivf', '--index: is for a search'),
    ('--rerank', '--rerank: is for a search'), ('--remove=a.txt', '--remove: '), ('--centroids=c.npy', '--centroids: '),
    ('--gallery=gallery.npy --centroids=c.csv', '--centroids=c.csv'),
    ('--gallery=gallery.npy --remove=absent.txt', 'absent.txt: cannot be read'),
    ('--gallery=gallery.npy --remove=stranger.txt', 'gallery.npy: has no image '),
    ('--gallery=gallery.npy --remove=gallery.npy.txt', 'no image would be left'),
    ('--gallery=gallery.npy --append', '--append: adds images to --output'),
    ('--top_k=3', '--top_k: is for a search or for --classes'), ('--picture=a.png', '--picture: is for a search'),
    ('--add_classes=a.csv', '--add_classes: is for --classes'),
    ('--query=gallery.npy --gallery=gallery.npy --output=a.npy', '--output: is for the embeddings'),
    ('--query=gallery.npy --gallery=gallery.npy --images=pictures', '--dataset_path: is for images to embed'),
    ('--query=gallery.npy --gallery=gallery.npy --remove=a.txt', '--query: is for a search or'),
    ('--classes=a --query=gallery.npy --gallery=gallery.npy', '--gallery: is not for --classes'),
    ('--append --output=absent.npy', 'absent.npy'), ('--index=hnsw', '--index'),
    ('--query=gallery.npy --gallery=gallery.npy --index=ivf', 'holds 400 images, among which the exact search')])
def test_flags_that_do_not_go_together(work, folder, refused, flags, words):
    Path('stranger.txt').write_text('/nowhere/stranger.png\n')
    if 'ivf' in flags:
        pytest.importorskip('faiss')
    assert words in refused(*flags.split())


@pytest.mark.parametrize('rate, classes, words', [
    (0.0001, CLASSES, r'--false_match_rate: 0.0001 .* takes about .* chosen on half of the test classes'),
    (0.1, 3, '--false_match_rate=0.1: needs two halves')])
def test_too_few_images_for_a_threshold(work, rate, classes, words):
    system = EasyDict(recipe=dict(false_match_rate=rate, seed=1, mirror=False, picture=None), network=work.network)
    rows = work.labels < classes
    with pytest.raises(InputError, match=words):
        find_threshold(system, work.root / 'other' / 'train.ckpt', work.embeddings[rows], work.labels[rows])
    assert not list((work.root / 'other').glob('*.json'))


def test_re_identification_is_re_ranked_and_takes_right_matches_of_other_cameras(work, tmp_path, monkeypatch, capfd):
    rng = np.random.default_rng(5)
    ids = np.repeat(np.arange(160), 6)
    x = (rng.standard_normal((160, 12))[ids] + 0.5 * rng.standard_normal((960, 12))).astype(np.float32)
    cameras = rng.integers(0, 3, 960)
    query = np.arange(960) % 6 == 0
    known = ids < 150    # the rest is in the gallery alone
    sides = [np.flatnonzero(query & known), np.flatnonzero(~query)]
    system = Reid(parse_args('eval', ['--dataset=lists', '--query=q', '--gallery=g', '--rerank',
                                                  '--false_match_rate=0.1', '--picture=threshold.png']).make_recipe(),
                  Process('CPU', 0, 0, 1))
    system.network = work.network
    system.test = MeasuredImages(*(ImageList([f'/{i}.png' for i in rows], ids[rows], cameras[rows]) for rows in sides),
                                 by_camera=True)
    both = [(x[rows], ids[rows], cameras[rows]) for rows in sides]
    parts = tuple(part for side in both for part in side)
    monkeypatch.setattr(system, '_embed_test', lambda show_progress: [Images('side', *side) for side in both])
    monkeypatch.chdir(tmp_path)
    result = system.evaluate(str(tmp_path / 'train.ckpt'))
    said = capfd.readouterr().out
    for kind in ('instance', 'centroid'):
        for name, rerank in (('', None), ('_reranked', Rerank())):
            truth = reid_metrics(*parts, centroids=kind == 'centroid', rerank=rerank)
            assert {part: result[kind + name][part] for part in ('mAP', 'mINP')} == {part: truth[part]
                                                                                     for part in ('mAP', 'mINP')}
            assert f'{kind}{name.replace("_re", " re-")}: mAP = {truth["mAP"]:.5f}, mINP = {truth["mINP"]:.5f}, ' in said
    pool = np.concatenate([sides[0], sides[1][known[sides[1]]]])
    other = held_out(ids[pool], 0.5, system.recipe.seed)
    threshold = OpenSet(*(part[pool][~other] for part in (x, ids, cameras))).threshold(0.1)
    assert result['threshold']['similarity'] == threshold.similarity and result['threshold']['found'] == threshold.found
    assert Path('threshold.png').is_file() and Path('train.threshold.json').is_file()


def test_picture_of_metric_learning_needs_a_threshold(work):
    recipe = parse_args('eval', [f'--dataset_path={work.root}/pictures', '--picture=a.png']).make_recipe()
    with pytest.raises(InputError, match='--picture=a.png: .*--false_match_rate'):
        MetricLearning(recipe, Process('CPU', 0, 0, 1)).evaluate('train.ckpt')


@pytest.mark.parametrize('flags, words', [
    ('--false_match_rate=0', '--false_match_rate'), ('--false_match_rate=1.5', '--false_match_rate'),
    ('--dataset=CUB --rerank', '--rerank: has no effect on recipe'),
    ('--dataset=AwA --false_match_rate=0.1', '--false_match_rate')])
def test_flags_of_eval(flags, words):
    with pytest.raises(InputError, match=words):
        parse_args('eval', flags.split()).make_recipe()
