"""Thresholds, re-ranking and galleries through the doors, on an untrained network's embeddings."""
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
from src.inference import Embedder
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
    assert f'at most {stored["bound"]:.4f} with 95 %' in work.said and ' of 50 other classes: false matches ' in work.said
    with Image.open(work.root / 'threshold.png') as picture:
        assert picture.format == 'PNG' and min(picture.size) > 300


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


def test_images_are_searched_and_mirrored(work, folder, said):
    shutil.copytree(work.root / 'pictures' / 'class 07', folder / 'more' / 'class 07')
    shutil.copytree(work.root / 'pictures' / 'class 08', folder / 'more' / 'new')
    out = said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=more.npy')
    assert '8 embeddings of 16 values' in out
    gallery = EmbeddingFile('more.npy')
    assert gallery.images.labels.tolist() == [0] * 4 + [1] * 4 and gallery.classes == {0: 'class 07', 1: 'new'}
    np.testing.assert_allclose(gallery.vectors(gallery.images, np.arange(8)), work.embeddings[28:36], rtol=1e-3, atol=1e-4)
    assert gallery.model == work.models[0]
    out = said('infer', f'--model_file={work.root}/late.onnx', '--query=more/new', '--gallery=gallery.npy', '--top_k=2',
               f'--threshold={work.root}/late.onnx.json')
    rows = [line.split('\t') for line in out.splitlines()]
    assert len(rows) == 8 and all(len(row) == 4 for row in rows)    # nothing but neighbours on standard output
    assert all('class 08' in row[2] for row in rows[::2])

    said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=mirror.npy', '--mirror')
    both = (gallery.vectors(gallery.images, np.arange(8)) + expected(work.network, gallery.images.paths, True)) / 2
    np.testing.assert_allclose(np.load('mirror.npy'), both, rtol=1e-3, atol=1e-4)
    assert EmbeddingFile('mirror.npy').model == identity(work.network, mirror=True)
    # An exported network that was trained to be used so says it beside itself.
    shutil.copy(work.root / 'late.onnx', 'mirror.onnx')
    facts = json.loads((work.root / 'late.onnx.json').read_text())
    assert facts['mirror'] is False and facts['turned'] is False
    Path('mirror.onnx.json').write_text(json.dumps({**facts, 'mirror': True, 'turned': True}))
    said('infer', '--model_file=mirror.onnx', '--images=more', '--output=exported.npy')

    said('infer', f'--save_ckpt={work.root}/training', '--images=more', '--output=turned.npy', '--mirror', '--turned')
    four = [(expected(work.network, gallery.images.paths, False, turn)
             + expected(work.network, gallery.images.paths, True, turn)) / 2 for turn in range(4)]
    four = np.concatenate([one / np.linalg.norm(one, axis=1, keepdims=True) for one in four], axis=1)
    for name in ('turned', 'exported'):
        np.testing.assert_allclose(np.load(f'{name}.npy'), four, rtol=1e-3, atol=1e-4)
        assert EmbeddingFile(f'{name}.npy').model == identity(work.network, mirror=True, turned=True)
    assert EmbeddingFile('turned.npy').model.endswith('+mirror+turned')


def test_classes_are_listed_and_become_centroids(work, folder, capfd):
    infer.main(['--gallery=gallery.npy', '--centroids=classes.npy', '--list'])
    out = capfd.readouterr().out.splitlines()
    assert out[:3] == ['classes.npy: 100 classes', 'gallery.npy: 400 images of 100 classes, 16 values each', 'class 00\t4']
    assert len(out) == 102
    infer.main(['--query=gallery.npy', '--gallery=classes.npy', '--top_k=1'])
    found = [Path(row[2]).parent.name for row in lines(capfd)]
    x = work.embeddings
    means = x.reshape(CLASSES, EACH, WIDTH).mean(1)
    nearest = (x @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    assert found == [f'class {label:02}' for label in nearest]


def test_re_ranking_by_flag(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    rows = (np.repeat(rng.standard_normal((300, 12)), 4, 0) + 0.6 * rng.standard_normal((1200, 12))).astype(np.float32)
    write_embeddings('many.npy', [rows], ImageList([f'/{i}.png' for i in range(1200)], np.arange(1200) // 4))
    write_embeddings('query.npy', [rows[:40] + 0.1], ImageList([f'/q{i}.png' for i in range(40)], None))
    search, found = ['--query=query.npy', '--gallery=many.npy', '--top_k=4'], {}
    for flags, rerank in (([], None), (['--rerank'], Rerank()), (['--rerank_options=k1=9,weight=0.5'], Rerank(9, 6, 0.5))):
        infer.main([*search, *flags])
        found[rerank] = {(row[0], row[2]) for row in lines(capfd)}
        assert len(found[rerank]) == 160 and len(set(map(tuple, map(sorted, found.values())))) == len(found)
        if rerank:
            truth = rerank.search(np.load('query.npy'), np.load('many.npy')).scores(slice(None))
            expected = {(f'/q{i}.png', f'/{j}.png') for i, row in enumerate(truth)
                        for j in np.argsort(-row, kind='stable')[:4]}
            assert len(found[rerank] & expected) >= 0.99 * 160


def test_a_gallery_in_milvus_answers_as_the_file(work, folder, here, said, refused):
    pytest.importorskip('milvus_lite')
    assert said('infer', '--gallery=gallery.npy', '--output=g.db').startswith('g.db: 400 images now; gallery.npy loaded in ')
    listed = said('infer', '--gallery=gallery.npy', '--list').replace('gallery.npy', 'g.db')
    assert said('infer', '--gallery=g.db', '--list') == listed
    said_of_it = said('infer', '--gallery=g.db', '--threshold=train.threshold.json', '--centroids=mine.npy')
    assert said_of_it == f'g.db: keeps the threshold {work.result["threshold"]["similarity"]:.4f}\nmine.npy: 100 classes\n'
    said('infer', '--gallery=gallery.npy', '--centroids=theirs.npy')
    np.testing.assert_allclose(np.load('mine.npy'), np.load('theirs.npy'), rtol=1e-5, atol=1e-6)

    strange = np.random.default_rng(1).standard_normal((9, WIDTH)).astype(np.float32)
    write_embeddings('query.npy', [np.concatenate([work.embeddings[:9], strange])],
                     ImageList([f'/{i}.png' for i in range(18)], None), model=work.models[0])
    for flags in ([], ['--top_k=3', '--rerank'], ['--threshold=train.threshold.json']):
        theirs = here('infer', '--query=query.npy', '--gallery=gallery.npy', *flags)[1]
        kept = ['--threshold=gallery' if 'threshold' in flag else flag for flag in flags]
        mine = here('infer', '--query=query.npy', '--gallery=g.db', *kept)[1]
        assert mine == theirs and ('unknown' in mine) == ('threshold' in str(flags))
    where = ['--query=query.npy', '--gallery=g.db', '--where=class_name in ["class 03", "class 04"]']
    rows = [line.split('\t') for line in said('infer', *where).splitlines()]
    assert len(rows) == 18 * 8 and {Path(row[2]).parent.name for row in rows} == {'class 03', 'class 04'}
    assert 'holds 8 images where class_name in' in refused(*where, '--top_k=9')
    assert 'g.db: Milvus refuses: ' in refused(*where[:2], '--where=class_name = = 3')

    Path('one.txt').write_text(f'{EmbeddingFile("gallery.npy").images.paths[28]}\n')
    out = said('infer', '--gallery=g.db', '--remove=one.txt', '--index=HNSW,M=8', '--list')
    assert out.startswith('g.db: 399 images\nindex of g.db: HNSW, M 8, efConstruction 200, ef 64; ')
    assert '\nclass 07\t3\n' in out and 'g.db: has no image' in refused('--gallery=g.db', '--remove=one.txt')
    write_embeddings('other.npy', [work.embeddings[:3]], ImageList(['/a.png', '/b.png', '/c.png'], None),
                     model=work.models[1])
    for flags in (['--query=other.npy', '--gallery=g.db'], ['--gallery=other.npy', '--output=g.db']):
        assert 'g.db: was written with another network' in refused(*flags)
    assert '--output=g.db: is the same file as --gallery' in refused('--gallery=g.db', '--output=g.db')
    assert 'is a gallery in Milvus; give images' in refused('--query=g.db', '--gallery=gallery.npy')


def test_pictures_are_added_to_a_gallery_in_milvus(work, folder, here, said, refused):
    pytest.importorskip('milvus_lite')
    embed = ['infer', f'--save_ckpt={work.root}/training', f'--images={work.root}/pictures/class 07', '--output=g.db#few']
    for _ in range(2):
        assert said(*embed).split(' in ')[0].endswith('g.db#few: 4 embeddings of 16 values')
    assert said('infer', '--gallery=g.db#few', '--output=g.db#copy').startswith('g.db#copy: 4 images now; g.db#few loaded')
    assert 'g.db#copy keeps none; keep one with' in refused('--query=gallery.npy', '--gallery=g.db#copy', '--threshold=gallery')
    code, _, err = here(*embed, '--image_size=24')
    assert code == 2 and 'g.db#few: was written with another network than these embeddings' in err and '24x24' in err
    assert said('infer', '--gallery=g.db#few', '--list') == 'g.db#few: 4 images of unknown classes, 16 values each\n'


def test_milvus_that_is_not_installed_is_one_line(folder, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pymilvus', None)
    for flags in (['--gallery=gallery.npy', '--output=g.db'], ['--query=gallery.npy', '--gallery=http://localhost:19530']):
        assert 'needs pymilvus (import of pymilvus halted' in refused(*flags)
    assert not Path('g.db').exists()


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


def test_what_cannot_be_used_is_refused_before_anything_is_embedded(work, folder, here, monkeypatch):
    query = ['infer', f'--query={work.root}/pictures/class 07', '--gallery=gallery.npy']
    Path('bad.json').write_text('{"similarity": 2}')
    for name in ('none.json', 'bad.json'):  # before the network is loaded
        code, _, err = here(*query, f'--threshold={name}', '--save_ckpt=none.ckpt')
        assert code == 2 and f'{name}: ' in err
    monkeypatch.setattr(Embedder, 'embed', lambda *_: pytest.fail('embedded'))
    values = json.loads(Path('train.threshold.json').read_text())
    Path('other.threshold.json').write_text(json.dumps({**values, 'model': work.models[1]}))
    for flags, words in ((['--threshold=other.threshold.json'], 'other.threshold.json: is the threshold of another network'),
                         (['--mirror'], 'gallery.npy: was written with another network or other preprocessing')):
        code, _, err = here(*query, f'--save_ckpt={work.root}/training', *flags)
        assert code == 2 and words in err


def test_files_of_a_change_are_read_before_the_first_change(folder, here, said, refused):
    pytest.importorskip('milvus_lite')
    paths = [f'苹果/{i}.png' for i in range(3)]
    write_embeddings('names.npy', [np.eye(3, 4, dtype=np.float32)], ImageList(paths, None))
    said('infer', '--gallery=names.npy', '--output=g.db')
    Path('gone.txt').write_bytes(f'{paths[1]}\n'.encode('gbk'))
    assert 'gone.txt: is not text in utf-8' in refused('--gallery=g.db', '--remove=gone.txt')
    assert 'none.json: ' in refused('--gallery=g.db', '--remove=gone.txt', '--encoding=gbk', '--threshold=none.json')
    assert said('infer', '--gallery=g.db', '--remove=gone.txt', '--encoding=gbk') == 'g.db: 2 images\n'


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


def test_gallery_changed_since_is_refused(work, folder, refused):
    np.save('gallery.npy', work.embeddings[::-1])    # of the same shape, by another program
    for flags in (SEARCH, ['--gallery=gallery.npy', '--centroids=c.npy'], ['--gallery=gallery.npy', '--output=g.db'],
                  ['--gallery=gallery.npy', '--list']):
        assert 'gallery.npy.json: describes another file than gallery.npy' in refused(*flags)


@pytest.mark.parametrize('flags, words', [
    ('--threshold=t.json', '--threshold: is for a search'), ('--index=FLAT', '--index: is for a gallery'),
    ('--rerank', '--rerank: is for a search'), ('--remove=a.txt', '--remove: '), ('--centroids=c.npy', '--centroids: '),
    ('--list', '--list: is for a gallery'), ('--gallery=gallery.npy --list --where=x', '--where: is for a search'),
    ('--gallery=gallery.npy --centroids=c.csv', '--centroids=c.csv'),
    ('--gallery=gallery.npy --centroids=./gallery.npy', '--centroids=./gallery.npy: is the gallery itself'),
    ('--gallery=gallery.npy --remove=gallery.npy.txt', 'gallery.npy: is not a gallery of Milvus'),
    ('--gallery=gallery.npy --index=FLAT', 'gallery.npy: is not a gallery of Milvus'),
    ('--gallery=gallery.npy --threshold=train.threshold.json', 'gallery.npy: is not a gallery of Milvus'),
    ('--gallery=gallery.npy --output=a.npy', '--output=a.npy: --gallery can only be loaded into a Milvus gallery'),
    ('--gallery=gallery.npy', '--query and --gallery: give both'), ('--append', 'unrecognized arguments: --append'),
    ('--gallery=gallery.npy --output=g.db --list', '--output: is for the embeddings'),
    ('--top_k=3', '--top_k: is for a search or for --classes'), ('--picture=a.png', '--picture: is for a search'),
    ('--add_classes=a.csv', '--add_classes: is for --classes'),
    ('--query=gallery.npy --gallery=gallery.npy --output=a.npy', '--output: is for the embeddings'),
    ('--query=gallery.npy --gallery=gallery.npy --images=pictures', '--dataset_path: is for images to embed'),
    ('--query=gallery.npy --gallery=gallery.npy --remove=a.txt', '--query: is for a search or'),
    ('--query=gallery.npy --gallery=gallery.npy --threshold=gallery', '--threshold=gallery: gallery.npy keeps none'),
    ('--query=gallery.npy --gallery=gallery.npy --rerank_options=k1=0', 're-ranking: k1 0'),
    ('--query=gallery.npy --gallery=gallery.npy --rerank_options=k3=1', '--rerank_options=k3=1: expected k1=NUMBER,k2='),
    ('--query=gallery.npy --gallery=gallery.npy --where=label==3', 'gallery.npy is an embedding file, which has no filters'),
    ('--classes=a --query=gallery.npy --gallery=gallery.npy', '--gallery: is not for --classes')])
def test_flags_that_do_not_go_together(folder, refused, flags, words):
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
    listed = (ImageList([f'/{i}.png' for i in rows], ids[rows], cameras[rows]) for rows in sides)
    system.test = MeasuredImages(*listed, by_camera=True)
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
    ('--dataset_path=a --rerank_options=k2=9,k1=3', '--rerank_options=k2=9,k1=3: re-ranking: k2 9 is not'),
    ('--dataset=AwA --false_match_rate=0.1', '--false_match_rate')])
def test_flags_of_eval_that_are_refused(flags, words):
    with pytest.raises(InputError, match=words):
        parse_args('eval', flags.split()).make_recipe()


def test_settings_of_re_ranking_re_rank():
    recipe = parse_args('eval', ['--dataset_path=a', '--rerank_options=k1=9,weight=0.5']).make_recipe()
    assert recipe.rerank and recipe.rerank_options == {'k1': 9, 'weight': 0.5}
