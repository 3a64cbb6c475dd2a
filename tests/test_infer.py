"""infer.py on generated pictures, in this process where only what it does is asked, against the network and loops."""
import functools
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from easydict import EasyDict
from mindspore import Tensor
from PIL import Image

import infer
from src.checkpoints.checkpoint import Recorded, save_cell
from src.checkpoints.exported import export_network
from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.datasets.images import open_images
from src.inference import load_embedder
from src.networks import create_image_network, create_network
from src.recipes.command_line import parse_args
from src.recipes.recipe import make_recipe
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings

ROOT = Path(__file__).resolve().parents[1]
SIDE, WIDTH = 32, 8


def save_picture(path, height, width, rng):
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.BICUBIC).save(path)


def pixels(path):
    picture = np.asarray(Image.open(path).convert('RGB')) / 255
    normal = (picture - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return normal.transpose(2, 0, 1).astype(np.float32)


def expected(network, pictures):
    return network(Tensor(np.stack(pictures))).asnumpy()


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """Nine pictures of three classes, a checkpoint with its recipe, what is exported of it, and what it gives."""
    root = tmp_path_factory.mktemp('infer')
    rng = np.random.default_rng(0)
    paths = [root / 'pictures' / name / f'picture {i}.png' for name in ('apple', 'pear', 'plum') for i in range(3)]
    for path in paths:
        save_picture(path, SIDE, SIDE, rng)
    recipe = {**make_recipe('SOP', 'softmax', 'small'), 'loss_name': 'softmax', 'image_size': SIDE, 'backbone': 'resnet18',
              'backbone_options': {'width': 8}, 'head': 'linear', 'head_options': {'embedding_size': WIDTH}}
    ms.set_seed(3)
    network = create_image_network('resnet18', 'linear', backbone_options={'width': 8},
                                   head_options={'embedding_size': WIDTH}).set_train(False)
    (root / 'training').mkdir()
    save_cell(network, root / 'training' / 'train.ckpt', Recorded(recipe, {'class_num': 3, 'conventions': {}}))
    for name, file_format, batch in (('fixed', 'MINDIR', 4), ('fixed', 'ONNX', 4), ('any', 'MINDIR', 0)):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(root / name), file_format=file_format, batch_size=batch)
    embeddings = expected(network, [pixels(path) for path in paths])
    assert np.ptp(embeddings, axis=0).min() > 1e-3  # pictures differ, so that a mixed-up order is seen
    write_embeddings(str(root / 'gallery.npy'), [embeddings], ImageList([str(p) for p in paths],
                                                                        np.arange(9) // 3))
    return EasyDict(root=root, paths=[str(path) for path in paths], embeddings=embeddings)


def run(*flags, cwd):
    """Run infer.py as a user does, in a folder of its own."""
    return subprocess.run([sys.executable, str(ROOT / 'infer.py'), '--device_target=CPU', *map(str, flags)], cwd=cwd,
                          capture_output=True, text=True, timeout=300)


@pytest.fixture
def embed(here, tmp_path, monkeypatch):
    """Function (flags) -> exit code, standard output and standard error of infer.py run in this process, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(here, 'infer', '--device_target=CPU')


@pytest.mark.slow
def test_command_of_paddle_as_documented(tmp_path, embed):
    rng = np.random.default_rng(1)
    data = tmp_path / 'data' / 'Stanford_Online_Products'
    lines = ['image_id class_id super_class_id path']
    for i in range(3):
        save_picture(data / f'chair_final/{i}.png', 224, 336, rng)
        lines.append(f'{i + 1} {11319 + i // 2} 1 chair_final/{i}.png')
    (data / 'Ebay_test.txt').write_text('\n'.join(lines) + '\n')
    ms.set_seed(4)
    network = create_network('resnet50', padding='symmetric', bn_eps=1e-5).set_train(False)
    ms.save_checkpoint(network, str(tmp_path / 'backbone.ckpt'))
    code, out, err = embed('--model=ResNet50', '--batch_size=1', '--recipe=paddle', '--pretrained_model=backbone.ckpt')
    assert code == 0, err
    assert out.splitlines()[-1].startswith('embeddings.npy: 3 embeddings of 2048 values in ')
    assert out.endswith(' images/s\n')
    assert '3/3 images' in err and 'time left 00:00:00' in err
    crops = [pixels(data / f'chair_final/{i}.png')[:, :, 56:280] for i in range(3)]
    np.testing.assert_allclose(np.load(tmp_path / 'embeddings.npy'), expected(network, crops), rtol=1e-3, atol=1e-4)
    assert (tmp_path / 'embeddings.npy.txt').read_text().splitlines() == [
        f'{data}/chair_final/{i}.png {11319 + i // 2}' for i in range(3)]


def test_checkpoint_is_used_by_its_own_recipe_and_npz_holds_paths_and_labels(work, tmp_path, embed):
    code, _, err = embed(f'--save_ckpt={work.root}/training', f'--images={work.root}/pictures', '--batch_size=4',
                         '--output=new folder/all.npz')
    assert code == 0, err
    with np.load(tmp_path / 'new folder' / 'all.npz') as archive:
        assert sorted(archive.files) == ['card', 'embeddings', 'labels', 'paths']
        np.testing.assert_allclose(archive['embeddings'], work.embeddings, rtol=1e-3, atol=1e-4)
        assert archive['paths'].tolist() == work.paths
        assert archive['labels'].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert os.listdir(tmp_path / 'new folder') == ['all.npz']


@pytest.mark.parametrize('model', ['fixed.mindir', 'fixed.onnx', 'any.mindir'])
def test_exported_model_gives_what_the_network_gave(work, tmp_path, embed, model):
    """Nine images through a batch of four, which is the model's own, or of five."""
    if model.endswith('.onnx'):
        pytest.importorskip('onnxruntime')
    order = [8, 0, 3, 3, 7, 1, 2, 4, 6]
    (tmp_path / 'list.txt').write_text('\n'.join(os.path.relpath(work.paths[i], tmp_path) for i in order) + '\n\n')
    code, _, err = embed(f'--model_file={work.root}/{model}', '--dataset_path=list.txt', '--batch_size=5')
    assert code == 0, err
    np.testing.assert_allclose(np.load(tmp_path / 'embeddings.npy'), work.embeddings[order], rtol=1e-3, atol=1e-4)
    written = EmbeddingFile(str(tmp_path / 'embeddings.npy'))
    assert [os.path.realpath(path) for path in written.images.paths] == [os.path.realpath(work.paths[i])
                                                                         for i in order]
    assert written.images.labels is None


@pytest.mark.parametrize('model', ['training', 'any.mindir', 'fixed.mindir'])
def test_memory_is_reserved_for_no_more_images_than_there_are(work, model, monkeypatch):
    seen = []
    monkeypatch.setattr('src.inference.embed_batches', lambda images, run, options, _: seen.append(options.batch_size))
    command = parse_args('infer', ['--dataset_path=D', '--batch_size=100000'])
    load_embedder(f'{work.root}/{model}', command.recipe_for).embed(ImageList(work.paths, None))
    assert seen == [4 if model == 'fixed.mindir' else len(work.paths)]


def cosines(queries, gallery):
    return [[sum(a * b for a, b in zip(q, g)) / (sum(a * a for a in q) * sum(b * b for b in g)) ** 0.5
             for g in gallery.astype(float).tolist()] for q in queries.astype(float).tolist()]


def test_neighbours_of_query_images_are_printed_and_drawn(work, tmp_path, embed):
    code, out, err = embed(f'--save_ckpt={work.root}/training', f'--query={work.root}/pictures/pear',
                           f'--gallery={work.root}/gallery.npy', '--top_k=4', '--picture=near.png')
    assert code == 0, err
    rows = [line.split('\t') for line in out.splitlines() if '\t' in line]
    assert [(row[0], int(row[1])) for row in rows] == [(path, rank) for path in work.paths[3:6]
                                                       for rank in (1, 2, 3, 4)]
    for i, truth in enumerate(cosines(work.embeddings[3:6], work.embeddings)):
        found = rows[4 * i:4 * i + 4]
        assert [float(row[3]) for row in found] == pytest.approx(sorted(truth, reverse=True)[:4], abs=2e-4)
        assert [truth[work.paths.index(row[2])] for row in found] == pytest.approx(
            [float(row[3]) for row in found], abs=2e-4)
    with Image.open(tmp_path / 'near.png') as picture:
        assert picture.width > picture.height
    assert os.listdir(tmp_path) == ['near.png']


def test_what_is_said_of_the_network_is_not_among_the_neighbours(work, monkeypatch, capsys):
    def load_embedder(*_, **__):
        print('device: CPU (no --device_target given)')
        return EasyDict(subset='full', model=None, embed=lambda images: [work.embeddings[3:6]])
    monkeypatch.setattr('src.inference.load_embedder', load_embedder)
    infer.main([f'--query={work.root}/pictures/pear', f'--gallery={work.root}/gallery.npy', '--top_k=2'])
    told = capsys.readouterr()
    assert [len(line.split('\t')) for line in told.out.splitlines()] == [4] * 6 and told.err.startswith('device: CPU')


def test_a_reader_that_has_gone_is_no_error(work):
    """infer.py ... | head"""
    process = subprocess.Popen([sys.executable, str(ROOT / 'infer.py'), f'--query={work.root}/gallery.npy',
                                f'--gallery={work.root}/gallery.npy', '--top_k=9'], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(120)) == ('', 141)
    process.stderr.close()


@pytest.mark.parametrize('query_labels', [True, False])
def test_frames_tell_right_from_wrong_where_labels_are_known(work, tmp_path, monkeypatch, query_labels):
    seen = {}
    monkeypatch.setattr('src.inference.neighbours_picture', lambda *args: seen.update(right=args[2], near=args[1]))
    query = str(tmp_path / 'query.npz')
    write_embeddings(query, [work.embeddings[[4]]], ImageList(work.paths[4:5], np.array([1]) if query_labels else None))
    infer.main([f'--query={query}', f'--gallery={work.root}/gallery.npy', '--top_k=9', '--picture=near.png'])
    if query_labels:
        assert seen['right'] == [['pear' in path for path in seen['near'][0]]]
    else:
        assert seen['right'] is None


def test_frames_compare_the_names_of_folders_not_their_numbers(work, tmp_path, monkeypatch):
    """A gallery of three folders, and a query from a folder of one of them, which is number 0 there."""
    seen = {}
    monkeypatch.setattr('src.inference.neighbours_picture', lambda *args: seen.update(right=args[2], near=args[1]))
    query, named = str(tmp_path / 'query.npy'), str(tmp_path / 'named.npy')
    write_embeddings(query, [work.embeddings[[7]]], ImageList(work.paths[7:8], np.array([0])), classes={0: 'plum'})
    write_embeddings(named, [work.embeddings], ImageList(work.paths, np.arange(9) // 3),
                     classes=dict(enumerate(('apple', 'pear', 'plum'))))
    infer.main([f'--query={query}', f'--gallery={named}', '--top_k=9', '--picture=near.png'])
    assert seen['right'] == [['plum' in path for path in seen['near'][0]]]
    infer.main([f'--query={query}', f'--gallery={work.root}/gallery.npy', '--top_k=9', '--picture=near.png'])
    assert seen['right'] is None    # names on one side alone


def test_compressed_float16_of_another_program_is_read(tmp_path):
    rows = np.arange(12, dtype=np.float16).reshape(4, 3)
    path = str(tmp_path / 'other.npz')
    np.savez_compressed(path, embeddings=rows, paths=np.array(['a', 'b', 'c', 'd']))
    file = EmbeddingFile(path)
    (start, block), = file.blocks()
    assert (start, file.count, file.width, file.images.labels) == (0, 4, 3, None)
    assert block.dtype == np.float32 and (block == rows).all()


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    """256 MB of embeddings are written within 60 MB and read again within 160 MB."""
    code = '''
import resource, sys
import numpy as np
from src.datasets.image_list import ImageList
from src.datasets.images import open_images
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
count, path = 32768, sys.argv[1]
blocks = (np.full((64, 2048), i, np.float32) for i in range(count // 64))
assert write_embeddings(path, blocks, ImageList(['/picture.png'] * count, np.arange(count))) == 2048
written = peak()
total = sum(float(block[:, 0].sum(dtype=np.float64)) for _, block in EmbeddingFile(path).blocks())
assert total == 64 * sum(range(count // 64)), total
print(written - before, peak() - before)
'''
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path / f'large{suffix}')], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    written, read = map(int, done.stdout.split())
    assert written < 60_000 and read < 160_000


def test_images_of_a_folder_a_list_or_alone(work, tmp_path):
    plum = work.root / 'pictures' / 'plum'
    alone = open_images(str(plum), 'test', need_labels=False)
    assert alone.paths == work.paths[6:] and alone.labels is None
    assert open_images(work.paths[4], 'test', need_labels=False).paths == [work.paths[4]]
    (tmp_path / 'labelled.txt').write_text(f'{work.paths[0]} 7 2\n{work.paths[5]} 9 3\n')
    labelled = open_images(str(tmp_path / 'labelled.txt'), 'test', need_labels=False)
    assert labelled.labels.tolist() == [7, 9] and labelled.cameras.tolist() == [2, 3]


# Each: what is prepared in the folder, the flags, what the line must say.
BAD = {
    'no model': ('', '--images={pictures}', '--save_ckpt'),
    'absent model': ('', '--ckpt_file=absent.onnx --images={pictures}', 'absent.onnx: no such'),
    'unknown model': ('', '--ckpt_file={pictures}/pear/picture_0.tflite --images={pictures}', 'no such'),
    'unknown suffix of a model': ('model.tflite', '--ckpt_file=model.tflite --images={pictures}', '.onnx'),
    'damaged mindir': ('model.mindir', '--ckpt_file=model.mindir --images={pictures}', 'model.mindir: damaged'),
    'damaged onnx': ('model.onnx', '--ckpt_file=model.onnx --images={pictures}', 'model.onnx: damaged'),
    'DEM': ('', '--dataset=CUB --ckpt_file={fixed} --images={pictures}', 'no images'),
    'another size': ('', '--ckpt_file={fixed} --images={pictures} --image_size=64', '--image_size=64'),
    'no images': ('', '--ckpt_file={fixed} --images=nowhere', 'nowhere: no such'),
    'no data of Paddle': ('', '--ckpt_file={fixed}', 'data/Stanford_Online_Products: no such'),
    'missing image': ('a list.txt', '--ckpt_file={fixed} --images=a_list.txt', 'gone.jpg: no such image'),
    'suffix of the output': ('', '--ckpt_file={fixed} --images={pictures} --output=x.csv', '--output=x.csv'),
    'output is a folder': ('x.npy/', '--ckpt_file={fixed} --images={pictures} --output=x.npy', 'x.npy: it is a'),
    'output not writable': ('file', '--ckpt_file={fixed} --images={pictures} --output=file/x.npy', 'write'),
    'query alone': ('', '--query={pictures}/pear', '--query and --gallery'),
    'more than there are': ('', '{query} --gallery={gallery} --top_k=10', '--top_k=10'),
    'picture suffix': ('', '{query} --gallery={gallery} --top_k=1 --picture=x.doc', '--picture=x.doc'),
    'gallery of images': ('', '{query} --gallery={pictures}', 'not an embedding file'),
    'absent gallery': ('', '{query} --gallery=absent.npy', 'absent.npy: cannot be read'),
    'cut short': ('short.npy', '{query} --gallery=short.npy --top_k=1', 'short.npy: no embedding file, cut'),
    'cut archive': ('short.npz', '{query} --gallery=short.npz --top_k=1', 'short.npz: no embedding file, cut'),
    'changed archive': ('changed.npz', '{query} --gallery=changed.npz --top_k=1', 'changed.npz: '),
    'other width': ('other.npz', '{query} --gallery=other.npz --top_k=1', 'of 3 values, those of --query have 8'),
    'not a number': ('nan.npz', '{query} --gallery=nan.npz --top_k=1', 'row 1 (b)'),
    'integers': ('integers.npz', '{query} --gallery=integers.npz --top_k=1', 'found int'),
    'other paths': ('other.npy', '{query} --gallery=other.npy --top_k=1', '9 embeddings but 1 paths'),
    'no paths': ('alone.npy', '{query} --gallery=alone.npy --top_k=1', 'alone.npy.txt'),
}


def prepare(name, work, folder):
    path = folder / name
    three = np.ones((2, 3), np.float32)
    whole = (work.root / 'gallery.npy').read_bytes()
    if name.endswith('/'):
        path.mkdir()
    elif name == 'a list.txt':
        (folder / 'a_list.txt').write_text('gone.jpg\n')
    elif name == 'short.npy':
        path.write_bytes(whole[:-4])
        (folder / 'short.npy.txt').write_bytes((work.root / 'gallery.npy.txt').read_bytes())
    elif name == 'alone.npy':
        path.write_bytes(whole)
    elif name == 'other.npy':
        path.write_bytes(whole)
        (folder / 'other.npy.txt').write_text('one.png 1\n')
    elif name in ('short.npz', 'changed.npz'):
        np.savez(path, embeddings=work.embeddings, paths=np.array(work.paths))
        data = bytearray(path.read_bytes())
        data[200] ^= 255  # within the embeddings
        path.write_bytes(data[:-30] if name == 'short.npz' else data)
    elif name == 'nan.npz':
        np.savez(path, embeddings=np.array([[1] * WIDTH, [np.nan] * WIDTH], np.float32), paths=np.array(['a', 'b']))
    elif name == 'integers.npz':
        np.savez(path, embeddings=three.astype(int), paths=np.array(['a', 'b']))
    elif name == 'other.npz':
        np.savez(path, embeddings=three, paths=np.array(['a', 'b']))
    elif name:
        path.write_bytes(b'something else')


@pytest.mark.parametrize('case', BAD)
def test_bad_input_is_one_line_and_leaves_nothing(work, tmp_path, embed, case):
    if 'onnx' in case:
        pytest.importorskip('onnxruntime')
    name, flags, words = BAD[case]
    prepare(name, work, tmp_path)
    before = sorted(os.listdir(tmp_path))
    gallery = work.root / 'gallery.npy'
    where = dict(fixed=work.root / 'fixed.mindir', pictures=work.root / 'pictures', gallery=gallery,
                 query=f'--query={gallery}')
    code, _, err = embed(*(flag.format(**where) for flag in flags.split()))
    message, = err.splitlines()
    assert code == 2 and words in message
    assert sorted(os.listdir(tmp_path)) == before


def test_broken_image_is_named_and_an_earlier_file_stays(work, tmp_path):
    rng = np.random.default_rng(5)
    for i in range(7):
        save_picture(tmp_path / 'pictures' / f'{i}.png', SIDE, SIDE, rng)
    (tmp_path / 'pictures' / '5.png').write_bytes(b'no picture')
    write_embeddings(str(tmp_path / 'embeddings.npy'), [work.embeddings], ImageList(work.paths, None))
    before = {path: path.read_bytes() for path in tmp_path.glob('embeddings*')}
    done = run(f'--save_ckpt={work.root}/training', '--dataset_path=pictures', '--batch_size=2', cwd=tmp_path)
    assert done.returncode == 2
    assert f'1 of 7 pictures cannot be read: {tmp_path}/pictures/5.png (no picture' in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.glob('embeddings*')} == before
    assert len(os.listdir(tmp_path)) == len(before) + 1


def test_npz_is_a_sound_archive_of_plain_arrays(work, tmp_path):
    path = str(tmp_path / 'a.npz')
    write_embeddings(path, iter([work.embeddings[:5], work.embeddings[5:]]), ImageList(work.paths, None))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert (np.load(path)['embeddings'] == work.embeddings).all()


def test_failure_while_writing_leaves_no_file(work, tmp_path):
    def batches():
        yield work.embeddings[:4]
        raise InputError('an image is broken')
    for name in ('a.npy', 'a.npz'):
        with pytest.raises(InputError, match='an image is broken'):
            write_embeddings(str(tmp_path / name), batches(), ImageList(work.paths, None))
    assert os.listdir(tmp_path) == []
