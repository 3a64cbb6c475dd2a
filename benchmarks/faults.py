"""Bad input of every kind at every door, each case a process: what becomes of it.

    python benchmarks/faults.py [--only=WORD] [--part=1/1] [--seconds=300] [--fork] [--files=FOLDER]

A case passes if bad input ends with exit code 2, a line on standard error that names the file or flag, and nothing new or
changed in its folder; or if good input ends with exit code 0. Prints the other cases with their output, and the counts:

    refused, right   bad input was refused, good input was taken
    traceback        ended in a traceback
    silent           bad input was taken
    vague            the refusal of a door has another exit code, names neither file nor flag, or stands among more than
                     three lines (device, engine and progress not counted)
    left             files were left or changed by a refused command
    crash, hang      ended by a signal, or not within --seconds
    wrongly refused  good input was refused

Exit code 1 unless all cases are refused or right. A SIGTERM ends it after the counts so far. --only: cases with WORD in their
names; --part=2/4: every fourth case from the second on. With --fork cases are forked from one process that has imported
MindSpore, which takes a tenth of the time. --files: a folder for the files that the cases begin with, made there if it does
not exist.
"""
import importlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io
import tools
from PIL import Image

from src.common.run import run
from src.retrieval.embedding_file import EmbeddingFile
from src.retrieval.thresholds import KeptThreshold, write_threshold

GOOD = 'good'   # instead of a word that the refusal holds
DOORS = ('train', 'eval', 'export', 'infer')
MEMORY = 24 * 2 ** 30   # address space of a case
SMALL = ['--set=backbone_options.width=8', '--set=head=embedding', '--set=head_options.embedding_size=8', '--model=resnet18',
         '--image_size=32']


class Case(NamedTuple):
    """One case: its name, the words of its command (the first a door, a module or a program), the word that the refusal must
    hold or GOOD, what is done to its folder before, and what its environment has besides."""
    name: str
    words: list
    expected: str
    harm: object = None
    environment: dict = {}


def call(*words, cwd=None):
    """Run a door or module that must succeed."""
    words = [f'{tools.ROOT}/{words[0]}.py' if words[0] in DOORS else words[0], *map(str, words[1:])]
    if words[0].startswith('src.'):
        words.insert(0, '-m')
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(tools.ROOT)})
    assert done.returncode == 0, done.stderr


def make_files(home):
    """Data, trainings, exported models, galleries: what the cases begin with, each in a copy of this folder."""
    call('src.samples.image_sample', 'products', home / 'products')
    call('src.samples.dem_sample', home / 'dem')
    shutil.rmtree(home / 'dem' / 'AwA_data')
    lines = [f'products/{line.split()[3]} {line.split()[1]}'
             for line in (home / 'products' / 'Ebay_train.txt').read_text().splitlines()[1:97]]
    listed = {line.split()[0] for line in lines}
    for path in (home / 'products').rglob('*.JPG'):
        if str(path.relative_to(home)) not in listed:
            path.unlink()
    (home / 'list.txt').write_text('\n'.join(lines) + '\n')
    (home / 'few.txt').write_text('\n'.join(lines[::4]) + '\n')
    call('train', '--dataset_path=list.txt', '--loss_name=softmax', '--recipe=small', *SMALL, '--batch_size=12',
         '--total_iter_num=4', '--save_iter_step=2', '--save_ckpt=net', '--device_target=CPU', cwd=home)
    call('train', '--dataset=CUB', '--data_path=dem', '--total_iter_num=2', '--save_ckpt=zero', '--device_target=CPU',
        cwd=home)
    call('export', '--save_ckpt=net', '--file_name=net.mindir', '--device_target=CPU', cwd=home)
    call('export', '--save_ckpt=net', '--file_name=net.onnx', '--device_target=CPU', '--file_format=ONNX', '--batch_size=0',
        cwd=home)
    for end in ('npy', 'npz'):
        call('infer', '--dataset_path=list.txt', '--ckpt_file=net', f'--output=gallery.{end}', '--device_target=CPU', cwd=home)
    write_threshold(str(home / 'net/train.ckpt'), KeptThreshold(0.5, EmbeddingFile(str(home / 'gallery.npy')).model))
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 20)
    described = rng.normal(size=(13, 10))
    test = np.arange(240) % 20 >= 16
    names = np.empty((12, 1), object)
    names[:, 0] = [f'class {i}' for i in range(12)]
    (home / 'gbu').mkdir()
    scipy.io.savemat(home / 'gbu' / 'res101.mat', {'features': (described[labels] @ rng.normal(size=(10, 16))).T,
                                                   'labels': labels[:, None] + 1})
    scipy.io.savemat(home / 'gbu' / 'att_splits.mat', {
        'att': described[:12].T, 'allclasses_names': names,
        **{name: (np.flatnonzero(mask) + 1)[:, None] for name, mask in (
            ('trainval_loc', (labels < 9) & ~test), ('test_seen_loc', (labels < 9) & test), ('test_unseen_loc', labels >= 9),
            ('train_loc', labels < 6), ('val_loc', (labels >= 6) & (labels < 9)))}})
    call('train', '--dataset=GBU', '--data_path=gbu', '--recipe=ranked', '--batch_size=24', '--total_iter_num=4',
         '--save_ckpt=named', '--device_target=CPU', '--set=network_options.hidden_dim=8', '--set=candidates=[]', cwd=home)
    (home / 'own.csv').write_text(''.join(f'{label},{",".join(map(str, rng.random(10)))}\n'
                                          for label in sorted({line.split()[1] for line in lines})))
    (home / 'unseen.txt').write_text('\n'.join(sorted({line.split()[1] for line in lines})[:3]))
    call('src.datasets.own_classes', 'gallery.npy', 'own.csv', 'unseen.txt', 'mine', '--by=label', cwd=home)
    call('train', '--dataset=GBU', '--data_path=mine', '--recipe=ranked', '--batch_size=12', '--total_iter_num=4',
         '--save_ckpt=own', '--device_target=CPU', '--set=network_options.hidden_dim=8', '--set=candidates=[]', cwd=home)
    np.save(home / 'features.npy', rng.normal(size=(4, 16)).astype(np.float32))
    (home / 'features.npy.txt').write_text('a.jpg\nb.jpg\nc.jpg\nd.jpg\n')
    (home / 'added.csv').write_text('gnu,' + ','.join(['0.5'] * 10) + '\n')


# What is done to the folder of a case before it runs.

def edit(path, **entries):
    """Change entries of a JSON file; a value of `...` removes the entry."""
    def harm(home):
        values = json.loads((home / path).read_text())
        values.update(entries)
        (home / path).write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    return harm


def write(path, content):
    """Write a file of the user's."""
    def harm(home):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return harm


def cut(path, keep=0.6):
    """Cut a file short."""
    return lambda home: (home / path).write_bytes((home / path).read_bytes()[:int(keep * (home / path).stat().st_size)])


def flip(path, at=0.5):
    """Change a byte."""
    def harm(home):
        raw = bytearray((home / path).read_bytes())
        raw[int(at * len(raw))] ^= 255
        (home / path).write_bytes(raw)
    return harm


def record(path, part=None, **entries):
    """Change entries of the record in a checkpoint, or of its part recipe, found or run; `...` removes one."""
    def harm(home):
        import mindspore as ms
        values = ms.load_checkpoint(str(home / path))
        facts = json.loads(values.pop('facts'))
        table = facts[part] if part else facts
        table.update(entries)
        for name in [name for name, value in table.items() if value is ...]:
            del table[name]
        ms.save_checkpoint([{'name': name, 'data': value} for name, value in values.items()], str(home / path),
                           append_dict={'facts': json.dumps(facts)}, crc_check=True)
    return harm


def weights(path, **changes):
    """Save the values of net/train.ckpt in another format, after changing those of names that begin so."""
    def harm(home):
        import mindspore as ms
        from safetensors.numpy import save_file
        values = ms.load_checkpoint(str(home / 'net/train.ckpt'))
        values.pop('facts')
        arrays = {name: value.asnumpy() for name, value in values.items()}
        for name, change in changes.items():
            for key in [key for key in arrays if name == 'all' or name in key]:
                arrays[key] = change(arrays[key].copy())
        if path.endswith('.ckpt'):
            ms.save_checkpoint([{'name': name, 'data': ms.Tensor(value)} for name, value in arrays.items()], str(home / path))
        elif path.endswith('.pdparams'):
            (home / path).write_bytes(pickle.dumps(arrays, 2))
        else:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, str(home / path))
    return harm


def filled(value):
    """A change of weights: the first is this value."""
    def change(array):
        array.reshape(-1)[:1] = value
        return array
    return change


def mat(path, save=scipy.io.savemat, **variables):
    """Write a MATLAB file."""
    return lambda home: save(home / path, variables)


def cut_mat(path, change):
    """Change the one variable of a MATLAB file."""
    def harm(home):
        values = {name: value for name, value in scipy.io.loadmat(home / path).items() if name[0] != '_'}
        scipy.io.savemat(home / path, {name: change(value) for name, value in values.items()})
    return harm


def mat_with(path, **variables):
    """Change variables of a MATLAB file."""
    def harm(home):
        values = {name: value for name, value in scipy.io.loadmat(home / path).items() if name[0] != '_'}
        scipy.io.savemat(home / path, {**values, **variables})
    return harm


def declares(path, variable):
    """A file of version 7.3 that declares 5 GB."""
    def harm(home):
        with h5py.File(home / path, 'w') as file:
            file.create_dataset(variable, (25000, 25000), 'f8', chunks=(1000, 1000))
    return harm


def npz(path, change):
    """Change the arrays of an .npz."""
    def harm(home):
        with np.load(home / path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(home / path, **arrays)
    return harm


def card_of(change):
    """Change the JSON of classes.npz."""
    def inner(arrays):
        card = json.loads(str(arrays['facts']))
        change(card)
        arrays['facts'] = np.array(json.dumps(card))
    return npz('named/classes.npz', inner)


def tables(word, function, rows):
    """Cases of one command: rows (name, expected word, harm)."""
    return [Case(f'{word}: {name}', function, expected, harm) for name, expected, harm in rows]


EVAL = ['eval', '--dataset_path=few.txt', '--save_ckpt=net', '--device_target=CPU']
EVAL_DEM = ['eval', '--dataset=CUB', '--data_path=dem', '--save_ckpt=zero', '--device_target=CPU']
TRAIN = ['train', '--dataset_path=list.txt', '--loss_name=softmax', '--recipe=small', *SMALL, '--batch_size=12',
         '--total_iter_num=2', '--save_ckpt=out', '--device_target=CPU']
RESUME = [*TRAIN[:-3], '--total_iter_num=4', '--save_iter_step=2', '--save_ckpt=net', '--device_target=CPU', '--resume']
TRAIN_DEM = ['train', '--dataset=CUB', '--data_path=dem', '--total_iter_num=2', '--save_ckpt=out', '--device_target=CPU']
TRAIN_GBU = ['train', '--dataset=GBU', '--data_path=gbu', '--recipe=ranked', '--batch_size=24', '--total_iter_num=2',
             '--save_ckpt=out', '--device_target=CPU', '--set=network_options.hidden_dim=8', '--set=candidates=[]']
EXPORT = ['export', '--save_ckpt=net', '--file_name=made', '--device_target=CPU']
EMBED = ['infer', '--dataset_path=few.txt', '--output=e.npy', '--device_target=CPU']
SEARCH = ['infer', '--query=few.txt', '--gallery=gallery.npy', '--ckpt_file=net', '--device_target=CPU', '--top_k=3']
NAME = ['infer', '--classes=named', '--query=features.npy', '--device_target=CPU', '--top_k=3']


def flag_cases():
    """Flags of each door: misspelt, out of range, of another type, empty."""
    for base, flags in (
            (TRAIN, '--epoch_sise=3 --epoch-size=3 -epoch_size=1 --save_ckpt= --pretrained= --lr=1e300 --lr=fast --lr=nan '
             '--lr=-1 '
             '--lr=1_5 --weight_decay=1e300 --loss_scale=1e300 --loss_scale=0 --set=flip=7 --set=chunk_size=5 '
              '--set=chunk_size=-1 '
             '--epoch_size=0 --epoch_size=1000000000000 --total_iter_num=1000000000000000 --total_iter_num=2000000000 '
             '--image_size=1000000 --image_size=0 --image_size=64,64,64 --embedding_size=10000000000 --embedding_size=-1 '
             '--device_id=99999999999999999999 --device_id=² --seed=1e3 --seed=-1 --batch_size=0 --batch_size=1_000 '
             '--batch_size=0x10 --batch_size=2147483648 --batch_size=100000 --loss_name=tripplet --model=resnet5O '
              '--recipe=smal '
             '--lr_mode=cosin --lr_steps=5,x --set=optimizer=adamm --set=decay=none --set=warmup=never --set=last_batch=keep '
             '--set=small_classes=drop --set=sampler=rand --set=train_transform=blur --set=head=tail --set=momentum=2 '
             '--set=loss_options.margin=x --set=nothing=1 --set=epoch_size --set= --set=loss_options=5 '
              '--set=augmentation={"x":{}} '
             '--set=backbone_options.width=0 --set=backbone_options.width=1000000000 --set=backbone_options.stem=x '
             '--validation=train --validation_fraction=1.5 --warmup_epochs=-3 --distribute=maybe --distribute=True '
              '--device_num=0 '
             '--class_num=3 --config_path=none.yaml --config_path= --checkpoint=none --checkpoint= --pretrained=none.ckpt '
             '--samples_each_class=0 --keep_checkpoint_max=0 --interval_step=-1 --num_workers=0 --profile=list.txt/x '
             '--save_ckpt=list.txt --save_ckpt=/proc/x --dataset_path=none --dataset_path= --train_list=list.txt'),
            (EVAL, '--save_ckpt= --save_ckpt=none.ckpt --save_ckpt=products --save_ckpt=list.txt --result_file= '
             '--result_file=products --recall_k=0 --recall_k=x --false_match_rate=0 --false_match_rate=2 --picture=a.txt '
             '--picture=products --model=resnet50 --embedding_size=4 --query=few.txt --gallery=few.txt --test_batch_size=0 '
             '--image_size=big --dataset=CUB --dataset=AwA --train_mode=att --dataset_path=none.txt --resalt_file=x '
             '--set=test_batch_sise=3 --set=eval_transform=x --set=mirror=perhaps --set=backbone=resnet50'),
            (EXPORT, '--height=1000000 --height=0 --width=-1 --batch_size=-1 --batch_size=x --file_format=TFLITE '
             '--file_format=AIR --file_name= --file_name=products --file_name=list.txt/x --save_ckpt=none --save_ckpt='),
            ([*EMBED, '--ckpt_file=net'], '--output=e.txt --output= --output=products --ckpt_file=none.ckpt '
             '--ckpt_file=list.txt '
             '--engine=torch --eval_transform=x --dataset_path=none --query=list.txt --remove=list.txt --top_k=3 '
             '--threshold=x --amp_level=O9 --add_classes=added.csv --classes=named --image_size=0'),
            (SEARCH, '--top_k=0 --top_k=x --threshold=none.json --index=tree --gallery=none.npy --gallery=list.txt '
             '--query=none.txt '
             '--query=none.npy --picture=a.bmp --picture=products --output=e.npy'),
            (NAME, '--classes=none --classes=products --add_classes=none.csv --query=none.npy --query=gallery.npy --top_k=0')):
        for flag in flags.split():
            word = flag.partition('=')[0].lstrip('-').partition('.')[0].split('_')[0]
            if flag.startswith('--set='):
                word = flag[6:].partition('=')[0].partition('.')[0]
            words = f'{word}|{flag.rpartition("=")[2] or word}'
            if base[0] == 'infer':  # flags that do not go together: one of the base may be named
                words += '|--output:|--top_k:|--classes:'
            yield Case(f'{base[0]} {flag}', [*base, flag], words)
    yield Case('OUTPUT_DIR without a value', ['train', '--dataset_path=list.txt', 'OUTPUT_DIR', '--epoch_size=1'],
        'OUTPUT_DIR')
    for value in ('1' * 20, '²', 'first', '-1', ''):
        yield Case(f'DEVICE_ID={value}', TRAIN_DEM, 'DEVICE_ID', None, {'DEVICE_ID': value})
    for entry, words in (('candidates=[1]', 'candidates'), ("candidates=[[{'nothing':1}]]", 'nothing'),
                         ("kernel_candidates=[[{'nothing':1}]]", 'nothing'), ('kernel_options.width=-1', 'width'),
                         ('kernel_options.ridge=x', 'ridge'), ('network_options.hidden_dim=0', 'width'),
                         ('network_options.sigmas=x', 'sigmas'), ('feature_scaling=x', 'feature_scaling'),
                         ('metric=x', 'metric')):
        yield Case(f'GBU --set={entry}', [*TRAIN_GBU, f'--set={entry}'], words)


def relisted(change):
    """Change the lines of few.txt: change(list of [path, label]) -> text or bytes."""
    def harm(home):
        rows = [line.split() for line in (home / 'few.txt').read_text().splitlines()]
        text = change(rows)
        (home / 'few.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
    return harm


def lines_of(rows):
    return ''.join(' '.join(row) + '\n' for row in rows)


def list_cases():
    """Lists: labels, cameras, tables, encodings, and images that tell nothing."""
    def first(*words):
        return lambda rows: lines_of([[rows[0][0], *words], *rows[1:]])

    def table(header, *cells):
        return lambda rows: f'{header}\n' + ''.join(','.join([*row, *cells]) + '\n' for row in rows)
    named = {'eval': EVAL, 'train': [*TRAIN, '--dataset_path=few.txt'], 'embed': [*EMBED, '--ckpt_file=net']}
    for door, command in named.items():
        for name, change in (
                ('1_0', first('1_0')), ('1.5', first('1.5')), ('+3', first('+3')), ('nan', first('nan')), ('-2', first('-2')),
                ('a name among numbers', first('pear')), ('30 digits', first('9' * 30)), ('empty', lambda rows: ''),
                ('blank', lambda rows: '\n \n'), ('a NUL', lambda rows: lines_of(rows).replace(' ', '\0', 1)),
                ('a missing picture', lambda rows: 'none.jpg 0\n' + lines_of(rows)),
                ('200 kB in a line', lambda rows: lines_of(rows) + 'x' * 200000 + ' 1\n'),
                ('UTF-16', lambda rows: lines_of(rows).encode('utf-16')),
                ('Latin-1', lambda rows: lines_of(rows).encode() + 'Bär.jpg 1\n'.encode('latin-1')),
                ('a picture', lambda rows: b'\xff\xd8\xff\xe0' + bytes(range(256)) * 4),
                ('a nearly right column', table('path,lable')), ('two columns of one name', table('path,path')),
                ('open quotes', lambda rows: 'path,label\n"' + table('', '')(rows))):
            yield Case(f'list, {door}: {name}', command, 'few.txt|none.jpg', relisted(change))
    for name, change, more in (
            ('junk', first('-1'), ()), ('names', lambda rows: lines_of([path, f'n{label}'] for path, label in rows), ()),
            ('a byte-order mark', lambda rows: b'\xef\xbb\xbf' + lines_of(rows).encode(), ()),
            ('Windows', lambda rows: lines_of(rows).replace('\n', '\r\n'), ()), ('a table', table('path,label'), ()),
            ('more columns', table('path,label,weather', 'sunny'), ()),
            ('UTF-16 as said', lambda rows: lines_of(rows).encode('utf-16'), ('--encoding=utf-16',)),
            ('lines twice', lambda rows: lines_of(rows * 2), ())):
        yield Case(f'list, eval: {name}', [*EVAL, *more], GOOD, relisted(change))
        yield Case(f'list, train: {name}', [*named['train'], *more], GOOD, relisted(change))
    yield Case('list, eval: an unknown encoding', [*EVAL, '--encoding=utf-99'], 'encoding')
    one = relisted(lambda rows: lines_of([path, '1'] for path, _ in rows))
    single = relisted(lambda rows: lines_of([path, str(i)] for i, (path, _) in enumerate(rows)))
    for door in ('eval', 'train'):
        yield Case(f'list, {door}: one class', named[door], 'few.txt', one)
    yield Case('list, eval: a class for each picture', EVAL, 'few.txt', single)
    yield Case('list, train: a class for each picture, triplets', [*named['train'], '--loss_name=triplet'], 'triplets need',
               single)
    yield Case('list, eval: the query is the gallery', [*EVAL[:1], '--query=few.txt', '--gallery=few.txt', *EVAL[2:]], GOOD)


def image_bytes(mode, format, size=(40, 30), value=128, **options):
    """The bytes of a picture of one colour."""
    out = io.BytesIO()
    Image.new(mode, size, value).save(out, format, **options)
    return out.getvalue()


def picture_cases():
    """The first picture of few.txt, damaged, or good and of a rare kind."""
    def change(content):
        def harm(home):
            path = home / (home / 'few.txt').read_text().split()[0]
            path.write_bytes(content(path.read_bytes()) if callable(content) else content)
        return harm
    doors = {'eval': EVAL, 'train': [*TRAIN, '--dataset_path=few.txt'], 'embed': [*EMBED, '--ckpt_file=net'], 'search': SEARCH}
    jpeg = {mode: image_bytes(mode, 'JPEG', value=0) for mode in ('L', 'CMYK')}
    broken = {
        'empty': b'', 'a text': b'hello' * 99, 'cut to 300 bytes': lambda raw: raw[:300],
        'cut to half': lambda raw: raw[:len(raw) // 2],
        'grey, cut before its scan': jpeg['L'][:jpeg['L'].index(b'\xff\xda')],
        'CMYK, cut before its scan': jpeg['CMYK'][:jpeg['CMYK'].index(b'\xff\xda')],
        'progressive, cut': image_bytes('RGB', 'JPEG', value=0, progressive=True)[:-60],
        'a PNG without its end': image_bytes('RGB', 'PNG', value=0)[:60],
        '200 megapixels': image_bytes('1', 'PNG', (20000, 10000), 0), 'floats': image_bytes('F', 'TIFF', value=0)}
    for door, command in doors.items():
        for name, content in broken.items():
            yield Case(f'picture, {door}: {name}', command, 'JPG', change(content))
    good = {
        'PNG': image_bytes('RGB', 'PNG', value=0), 'transparent': image_bytes('RGBA', 'PNG', value=0),
        'palette': image_bytes('P', 'GIF'), 'grey': jpeg['L'], 'CMYK': jpeg['CMYK'],
        '16 bits': image_bytes('I;16', 'PNG', value=9999),
        'WebP': image_bytes('RGB', 'WEBP', value=0), '1 pixel': image_bytes('RGB', 'BMP', (1, 1), 0),
        'narrow': image_bytes('RGB', 'PNG', (3, 2000), 0)}
    for name, content in good.items():
        for door in ('eval', 'embed'):
            yield Case(f'picture, {door}: {name}', doors[door], GOOD, change(content))
    for door in ('eval', 'train', 'embed'):
        yield Case(f'picture, {door}: skipped', [*doors[door], '--skip_broken=0.1'], GOOD, change(broken['cut to half']))
        yield Case(f'picture, {door}: too many to skip', [*doors[door], '--skip_broken=0.01'], 'JPG',
                   change(broken['cut to half']))


def record_cases():
    """Records: of checkpoints, training states, cards, thresholds, classes."""
    ckpt = 'net/train.ckpt'
    wrong = dict(system=None, dataset=5, backbone='vgg', image_size='big', test_batch_size=0, recall_k='x', head=7,
                 backbone_options=[1], head_options={'wings': 2}, loss_name='lifted', mirror='perhaps', eval_transform=5,
                 interpolation='cubic', batch_size=-1, seed='x', weight_decay='x', unknown=1)
    for name, value in wrong.items():
        word = {'system': 'no recipe', 'dataset': 'no recipe', 'head_options': 'wings'}.get(name, name)
        yield Case(f'recipe of a checkpoint: {name}={value}', EVAL, word, record(ckpt, 'recipe', **{name: value}))
    for value in (None, 0, -32, [64, 64, 64], 32.5, [0, 32], True, {}):
        yield Case(f'recipe of a checkpoint: image_size={value}', EVAL, 'image_size', record(ckpt, 'recipe', image_size=value))
    for name, entries in (('recipe a text', {'recipe': 'x'}), ('recipe a list', {'recipe': []}),
        ('found a list', {'found': []}),
                          ('found unknown', {'found': {'x': 1}}), ('found typed', {'found': {'class_num': 'x'}}),
                          ('conventions', {'found': {'conventions': {'padding': 7}}}), ('device_num', {'device_num': 0}),
                          ('unknown', {'wings': 1}), ('run a list', {'run': []})):
        yield Case(f'record of a checkpoint: {name}', EVAL, 'net/train.ckpt|padding', record(ckpt, **entries))
    for door in (EXPORT, [*EMBED, '--ckpt_file=net']):
        for name in ('backbone', 'image_size', 'backbone_options', 'unknown'):
            yield Case(f'{door[0]}, recipe: {name}', door, name, record(ckpt, 'recipe', **{name: wrong[name]}))
    for name, value in dict(network='deep', train_mode='sound', network_options=[1], metric=7, unknown=1).items():
        yield Case(f'recipe of DEM: {name}={value}', EVAL_DEM, name, record('zero/train.ckpt', 'recipe', **{name: value}))
    for name, value in dict(attribute_dim='312', word_dim=-1, gamma='x').items():
        yield Case(f'found of DEM: {name}={value}', EVAL_DEM, 'zero/train.ckpt',
            record('zero/train.ckpt', 'found', **{name: value}))
    for name, value in dict(gamma='x', attribute_dim=0, visual_dim=None, choice=5).items():
        yield Case(f'found of GBU: {name}={value}', ['eval', '--data_path=gbu', '--save_ckpt=named', '--device_target=CPU'],
                   'named/train.ckpt', record('named/train.ckpt', 'found', **{name: value}))
    state = 'net/train-1_4.ckpt'
    for name, entries in (('without run', {'run': ...}), ('run a list', {'run': []}), ('unknown', {'wings': 1}),
                          ('found null', {'found': None}), ('recipe a text', {'recipe': 'x'}),
                          ('steps', {'steps_per_epoch': 0}),
                          ('other steps', {'steps_per_epoch': 5})):
        yield Case(f'state: {name}', RESUME, state, record(state, **entries))
    for name, value in dict(step=-3, history=None, losses='x', seconds='x', best=[1], skipped=-1, wings=1).items():
        yield Case(f'run of a state: {name}={value}', RESUME, state, record(state, 'run', **{name: value}))
    for value in ('2', 10 ** 9, 3):
        yield Case(f'run of a state: step={value}', RESUME, state, record(state, 'run', step=value))
    yield from tables('state', RESUME, (
        ('cut short', state, cut(state)), ('a byte', state, flip(state)), ('empty', state, write(state, '')),
        ('of 20 digits', GOOD, write('net/train-99999999999999999999_1.ckpt', 'x')),
        ('a link to nothing', GOOD, lambda home: (home / 'net/x.ckpt').symlink_to('/nothing'))))
    for path in ('net.mindir', 'net.onnx'):
        embed, card = [*EMBED, f'--ckpt_file={path}'], f'{path}.json'
        for name, value in dict(eval_transform=5, interpolation=7, model=5, bgr='no', mirror='false', turned=[1],
            image_size='big',
                                mean=[1], deviation=[1, 0, 1], wings=1, threshold=5, checksum='0' * 32, recipe=[]).items():
            yield Case(f'card of {path}: {name}={value}', embed, card, edit(card, **{name: value}))
        for name, harm in (('cut short', cut(card)), ('a list', write(card, '[]')), ('deep', write(card, '[' * 100000)),
                           ('Latin-1', write(card, b'{"recipe": "\xff"}')), ('empty', write(card, ''))):
            yield Case(f'card of {path}: {name}', embed, card, harm)

        def alone(change, card=card):
            def harm(home):
                (home / card).unlink()
                change(home)
            return harm
        yield Case(f'{path} alone', embed, GOOD, alone(lambda home: None))
        for at in (0.1, 0.3, 0.5, 0.7, 0.995):
            yield Case(f'{path} alone, a byte at {at}', embed, path, alone(flip(path, at)))
        yield Case(f'{path} alone, cut short', embed, path, alone(cut(path)))
        yield Case(f'{path} empty', embed, path, alone(write(path, '')))
    kept = 'net/train.threshold.json'
    for name, harm in (('similarity a text', edit(kept, similarity='x')), ('true', edit(kept, similarity=True)),
                       ('2', edit(kept, similarity=2)), ('searched many', edit(kept, searched='many')),
                       ('searched a list', edit(kept, searched=[])), ('another model', edit(kept, model='x')),
                       ('unknown', edit(kept, wings=1)), ('without similarity', edit(kept, similarity=...)),
                       ('deep', write(kept, '[' * 100000)), ('empty', write(kept, '')), ('a list', write(kept, '[1]'))):
        yield Case(f'threshold: {name}', [*SEARCH, f'--threshold={kept}'], kept, harm)
    yield Case('threshold', [*SEARCH, f'--threshold={kept}'], GOOD)
    note = 'gallery.npy.json'
    for name, value in dict(model=5, classes=[], wings=1, width='x', identity=None).items():
        yield Case(f'card of a gallery: {name}={value}', SEARCH, 'gallery.npy', edit(note, **{name: value}))
    yield from tables('gallery', SEARCH, (
        ('cut short', 'gallery.npy', cut('gallery.npy')), ('header', 'gallery.npy', flip('gallery.npy', 0.001)),
        ('no paths', 'gallery.npy', lambda home: (home / 'gallery.npy.txt').unlink()),
        ('empty', 'gallery.npy', write('gallery.npy', '')),
        ('paths cut', 'gallery.npy', cut('gallery.npy.txt'))))
    whole = 'named/classes.npz'
    for name, harm in (
            ('gamma a text', card_of(lambda card: card.update(gamma='x'))),
            ('gamma NaN', card_of(lambda card: card.update(gamma=np.nan))),
            ('a name too few', card_of(lambda card: card['names'].pop())),
            ('a name twice', card_of(lambda card: card['names'].__setitem__(0, card['names'][1]))),
            ('metric', card_of(lambda card: card.update(metric='x'))),
            ('scale', card_of(lambda card: card.update(features=5))),
            ('prototypes NaN', npz(whole, lambda arrays: arrays['prototypes'].__setitem__((0, 0), np.nan))),
            ('prototypes of another width', npz(whole, lambda arrays: arrays.update(prototypes=arrays['prototypes'][:, :3]))),
            ('unseen as numbers', npz(whole, lambda arrays: arrays.update(unseen=arrays['unseen'].astype(float)))),
            ('no prototypes', npz(whole, lambda arrays: arrays.pop('prototypes'))),
            ('no JSON', npz(whole, lambda arrays: arrays.update(facts=np.array('x')))),
            ('whitening', npz(whole, lambda arrays: arrays.update(whitening=np.eye(3, dtype=np.float32)))),
            ('cut short', cut(whole)), ('a byte', flip(whole, 0.3)), ('empty', write(whole, ''))):
        yield Case(f'classes: {name}', NAME, 'classes.npz', harm)
    numbers = ','.join(['0.5'] * 10)
    for name, text in (('a bad number', f'gnu,{numbers}\nyak,x{numbers[1:]}\n'),
        ('the first bad', f'gnu,{numbers[:-3]}x\nyak,{numbers}\n'),
                       ('infinite', f'gnu,inf{numbers[3:]}\n'), ('1e39', f'gnu,1e39{numbers[3:]}\n'),
                       ('NaN', f'gnu,nan{numbers[3:]}\n'),
                       ('1_5', f'gnu,1_5{numbers[3:]}\n'), ('a tab', f'"g\tnu",{numbers}\n'),
                       ('a line break', f'"g\nnu",{numbers}\n'),
                       ('no name', f',{numbers}\n'), ('a NUL', f'g\0nu,{numbers}\n'), ('too few', 'gnu,1,2\n'), ('empty', ''),
                       ('a known name', f'class 1,{numbers}\n'), ('twice', f'gnu,{numbers}\n' * 2),
                       ('UTF-16', f'gnu,{numbers}\n'.encode('utf-16')),
                       ('200 kB', 'gnu,' + '1' * 200000 + '\n')):
        yield Case(f'added classes: {name}', [*NAME, '--add_classes=added.csv'], 'added.csv', write('added.csv', text))
    yield Case('added classes', [*NAME, '--add_classes=added.csv'], GOOD)
    yield Case('classes', NAME, GOOD)
    own = ['infer', '--classes=own', '--query=few.txt', '--ckpt_file=net', '--device_target=CPU', '--top_k=3']
    yield Case('classes of own images', own, GOOD)
    yield Case('classes of own images, embedded', [*own[:2], '--query=gallery.npy', *own[4:]], GOOD)
    yield Case('classes of own images, another size', [*own, '--image_size=48'], 'classes')
    yield Case('classes of own images, evaluated on others', ['eval', '--data_path=mine', '--save_ckpt=own',
                                                              '--device_target=CPU'], 'mine',
               mat_with('mine/res101.mat', image_model=np.array([['other+32x32']], object)))


def weight_cases():
    """Weights: as people have them, and damaged."""
    start = [*TRAIN, '--pretrained']
    nan, negative = filled(np.nan), filled(-1)
    for path in ('w.ckpt', 'w.safetensors', 'w.pdparams'):
        command = [*TRAIN, f'--pretrained={path}']
        for name, expected, harm in (
                ('float32', GOOD, weights(path)), ('float16', GOOD, weights(path, all=lambda a: a.astype(np.float16))),
                ('float64', GOOD, weights(path, all=lambda a: a.astype(np.float64))),
                ('NaN', 'NaN', weights(path, conv1=nan)), ('Inf', 'infinite', weights(path, gamma=filled(np.inf))),
                ('negative variance', 'negative variances', weights(path, moving_variance=negative)),
                ('integers', 'no floating-point', weights(path, all=lambda a: a.astype(np.int32))),
                ('booleans', 'no floating-point', weights(path, all=lambda a: a > 0)),
                ('another shape', 'of another shape', weights(path, conv1=lambda a: a[..., :1])),
                ('cut short', path, lambda home, path=path: (weights(path)(home), cut(path)(home))),
                ('empty', path, write(path, '')), ('a text', path, write(path, 'hello\n' * 50))):
            yield Case(f'{path}: {name}', command, expected, harm)
    nested = b''.join([b'\x80\x02', b')', *[b'2\x86'] * 45]) + b'K\x01}q\x00h\x0001s.'
    for suffix in ('.pth', '.pt', '.pth.tar', '.pdparams', '.ckpt'):
        for name, raw in (('doubling tuples', nested), ('os.system',
            b'\x80\x02cos\nsystem\nX\x05\x00\x00\x00touchq\x00\x85R.'),
                          ('a list', b'\x80\x02]q\x00.'), ('random', bytes(range(256)) * 8),
                          ('PK', b'PK\x03\x04' + b'x' * 99)):
            yield Case(f'{suffix}: {name}', [*TRAIN, f'--pretrained=w{suffix}'], f'w{suffix}', write(f'w{suffix}', raw))

    def bomb(home):
        with zipfile.ZipFile(home / 'w.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('archive/data.pkl', b'}' * 10 ** 8)
    yield Case('a zip bomb', [*TRAIN, '--pretrained=w.pth'], 'w.pth', bomb)
    yield Case('NaN in a checkpoint: eval', [*EVAL[:-2], '--save_ckpt=w.ckpt', '--device_target=CPU', *SMALL[:4]], 'NaN',
               weights('w.ckpt', conv1=nan))
    yield Case('NaN in a checkpoint: export', ['export', '--save_ckpt=w.ckpt', *SMALL[:4], '--file_name=made',
                                               '--device_target=CPU'], 'NaN', weights('w.ckpt', conv1=nan))
    for name in ('train.ckpt', 'train-1_4.ckpt'):
        yield Case(f'a byte of {name}: eval', [*EVAL[:2], f'--save_ckpt=net/{name}', '--device_target=CPU'], name,
            flip(f'net/{name}'))
    yield Case('a folder of others', [*start[:-1], '--pretrained=products'], 'products')
    yield Case('a missing folder', [*start[:-1], '--pretrained=no/w.pth'], 'no/w.pth')


def mat_cases():
    """MATLAB files of DEM and of the benchmark."""
    features = 'dem/CUB_data/train_cub_googlenet_bn.mat'
    for command in (TRAIN_DEM, EVAL_DEM):
        for name, harm in (
                ('missing', lambda home: (home / features).unlink()), ('cut short', cut(features)),
                ('empty', write(features, '')),
                ('a text', write(features, 'x' * 9999)), ('5 GB', declares(features, 'train_cub_googlenet_bn')),
                ('another variable', mat(features, x=np.ones((9, 9)))),
                ('NaN', cut_mat(features, lambda a: np.where(a == a[17, 3], np.nan, a))),
                ('text inside', mat(features, train_cub_googlenet_bn='hello')),
                ('complex', cut_mat(features, lambda a: a + 1j)), ('rows too few', cut_mat(features, lambda a: a[:-3])),
                ('1e300', cut_mat(features, lambda a: a.astype(float) + 1e300)), ('a byte', flip(features)),
                ('no rows', mat(features, train_cub_googlenet_bn=np.zeros((0, 1024))))):
            yield Case(f'{command[0]} .mat: {name}', command,
                'train_cub_googlenet_bn.mat' if name != 'rows too few' else '.mat', harm)
    for name, path, change in (
            ('labels from 0', 'res101.mat', {'labels': lambda a: a * 0}),
            ('labels fractions', 'res101.mat', {'labels': lambda a: a + 0.5}),
            ('labels too few', 'res101.mat', {'labels': lambda a: a[:-1]}),
            ('labels huge', 'res101.mat', {'labels': lambda a: a * 1e15}),
            ('features of one', 'res101.mat', {'features': lambda a: a[:, :1]}),
            ('places of 0', 'att_splits.mat', {'trainval_loc': lambda a: a * 0}),
            ('places beyond', 'att_splits.mat', {'test_unseen_loc': lambda a: a + 10 ** 6}),
            ('attributes too few', 'att_splits.mat', {'att': lambda a: a[:, :-1]}),
            ('attributes NaN', 'att_splits.mat', {'att': lambda a: a * np.nan}),
            ('attributes equal', 'att_splits.mat', {'att': lambda a: a * 0 + 1})):
        def harm(home, path=path, change=change):
            values = {name: value for name, value in scipy.io.loadmat(home / 'gbu' / path).items() if name[0] != '_'}
            scipy.io.savemat(home / 'gbu' / path, {**values, **{key: one(values[key]) for key, one in change.items()}})
        yield Case(f'GBU: {name}', TRAIN_GBU, 'gbu', harm)


def output_cases():
    """What belongs to the user, outputs that cannot be written, and standard files."""
    mine = write('mine.json', '{"mine": 1}')
    yield Case('--result_file: a checkpoint', [*EVAL, '--result_file=net/train.ckpt'], 'result_file')
    yield Case('--result_file: my JSON', [*EVAL, '--result_file=mine.json'], 'result_file', mine)
    yield Case('--result_file: a new file', [*EVAL, '--result_file=new/result.json'], GOOD)
    yield Case('--picture: my picture', [*SEARCH, '--picture=mine.png'], 'picture', write('mine.png', b'\x89PNG mine'))
    yield Case('--output: my .npy', [*EMBED, '--ckpt_file=net', '--output=mine.npy'], 'output', write('mine.npy', b'mine'))
    yield Case('--output: the gallery again', [*EMBED, '--ckpt_file=net', '--output=gallery.npy'], GOOD)
    yield Case('--centroids: the gallery itself', ['infer', '--gallery=gallery.npy', '--centroids=gallery.npy'], 'centroids')
    yield Case('--centroids', ['infer', '--gallery=gallery.npy', '--centroids=means.npy'], GOOD)
    yield Case('export over my model', [*EXPORT, '--file_name=mine'], 'file_name', write('mine.mindir', b'mine'))
    yield Case('export over its own', [*EXPORT, '--file_name=net.mindir'], GOOD)
    for name in ('my models/net', "a'b/net", '用户/net', 'a b.c/net.mindir'):
        yield Case(f'export to {name}', [*EXPORT, f'--file_name={name}'], GOOD)
    yield Case('a training beside foreign weights', TRAIN, GOOD, write('out/resnet50.ckpt', b'theirs'))
    for name in ('train.ckpt', 'result.json', 'curves.png', 'train-1_2.ckpt'):
        yield Case(f'a training over a foreign {name}', TRAIN, name, write(f'out/{name}', b'theirs'))
    yield Case('a training over a training', [*TRAIN[:-2], '--save_ckpt=net', '--device_target=CPU'], GOOD)
    yield Case('resume', RESUME, GOOD)
    yield Case('resume with another rate', [*RESUME, '--lr=0.5'], 'lr_max')
    yield Case('resume with more steps', [*RESUME, '--total_iter_num=6', '--lr_mode=const'], 'lr_mode')
    yield Case('dem_sample over data', ['src.samples.dem_sample', 'dem'], 'dem')
    yield Case('image_sample over data', ['src.samples.image_sample', 'products', 'products'], 'products')
    yield Case('310 inputs over my .bin', ['src.ascend310', 'inputs', 'out', *EVAL[1:3]], '.bin',
        write('out/inputs/mine.bin', b'x'))
    yield Case('310 without a folder', ['src.ascend310', 'inputs'], 'inputs')
    yield Case('310 accuracy without inputs', ['src.ascend310', 'accuracy', 'out', *EVAL[1:3]], 'inputs.json')
    yield Case('report of nothing', ['src.report', 'none'], 'none')
    yield Case('report: train.log a folder', ['src.report', 'net'], GOOD, lambda home: (home / 'net/train.log').mkdir())
    yield Case('a working folder that is gone', ['sh', '-c', f'mkdir gone && cd gone && rmdir ../gone && {sys.executable} '
                                                 f'{tools.ROOT}/eval.py --save_ckpt=x'], 'working folder')
    for name, shell, expected in (
            ('closed output', '>&-', GOOD), ('full output', '>/dev/full', 'standard output'), ('closed errors', '2>&-', GOOD),
            ('closed input', '<&-', GOOD)):
        yield Case(name, ['sh', '-c', f'{sys.executable} {tools.ROOT}/{SEARCH[0]}.py {" ".join(SEARCH[1:])} {shell}'],
            expected)
    for variables in ({'PYTHONIOENCODING': 'ascii'}, {'PYTHONIOENCODING': 'latin-1'}, {'LC_ALL': 'POSIX'}, {'LC_ALL': 'C'}):
        def harm(home):
            shutil.copytree(home / 'products', home / '用户')
            for name in ('list.txt', 'few.txt'):
                (home / name).write_text((home / name).read_text().replace('products/', '用户/'), encoding='utf-8')
        yield Case(f'unicode paths, {variables}', EVAL, GOOD, harm, variables)
        yield Case(f'unicode paths, search, {variables}', SEARCH, GOOD, harm, variables)
    full = {'FSIZE': '65536'}
    for command in (TRAIN, EXPORT, [*EMBED, '--ckpt_file=net']):
        yield Case(f'a full disk: {command[0]}', command, GOOD if command[0] == 'infer' else 'cannot write', None, full)
    for script in ('run_standalone_train.sh', 'run_distribute_train.sh', 'run_eval.sh', 'run_standalone_train_ascend.sh',
                   'run_distributed_train_ascend.sh', 'run_standalone_eval_ascend.sh', 'train_full_8p.sh',
                   'train_performance_1p.sh', 'train_performance_8p.sh'):
        yield Case(f'{script} without arguments', ['sh', f'{tools.ROOT}/scripts/{script}'], script)
    for script in ('download_sop.sh', 'download_dem.sh', 'download_gbu.sh'):
        for word in ('-x', '-'):
            yield Case(f'{script} {word}', ['sh', f'{tools.ROOT}/scripts/{script}', word], script)
    result = 'net/result.json'
    for name, text in (('a text', 'x'), ('a list', '[]'), ('no recipe', '{"history": [{}]}'), ('empty', '')):
        yield Case(f'compare.py: result.json {name}', ['benchmarks/compare.py', '.', 'net: --loss_name=softmax --recipe=small',
                   'b: --loss_name=softmax --recipe=small', '--all=--dataset_path=list.txt', '--seeds=1'], 'result.json',
                   lambda home, text=text: ((home / 'net/1').mkdir(), (home / 'net/1/result.json').write_text(text),
                       (home / result).unlink()))
    for name, words, expected in (('no model', ['none.onnx', 'out'], 'none.onnx'),
        ('no onnx', ['list.txt', 'out'], 'list.txt'),
                                  ('a text', ['bad.onnx', 'out'], 'bad.onnx')):
        yield Case(f'run_310.py: {name}', ['scripts/run_310.py', *words], expected, lambda home: (
            write('out/inputs/00000.bin', bytes(400))(home), write('bad.onnx', 'x' * 99)(home)))


def people_cases():
    """Data as people have it, found wrong by cases that were not in the list above."""
    names = ('caf\u00e9', 'cafe\u0301')

    def folders(*parts):
        def harm(home):
            for part in parts:
                for name in ('bicycle_final', 'fan_final', 'sofa_final'):
                    shutil.copytree(home / 'products' / name, home / 'f' / part / name)
        return harm

    def listed(line):
        """few.txt with other lines, of (path, label)."""
        return lambda home: (home / 'few.txt').write_text('\n'.join(
            line(*text.rsplit(None, 1)) for text in (home / 'few.txt').read_text().splitlines()) + '\n')

    def gbu(path, name, change):
        def harm(home):
            values = {key: value for key, value in scipy.io.loadmat(home / 'gbu' / path).items() if key[0] != '_'}
            scipy.io.savemat(home / 'gbu' / path, {**values, name: change(values[name])})
        return harm

    def pictures(home):
        (home / 'f').mkdir()
        for i in range(4):
            Image.new('RGB', (40, 40), (60 * i, 0, 0)).save(home / f'f/{i}.bmp')
        cut('f/1.bmp')(home)

    def odd_name(home):
        pictures(home)
        Image.new('RGB', (40, 40)).save(home / 'f/1.bmp')
        os.rename(home / 'f/2.bmp', home / 'f/2\n.bmp')

    def linked(home):
        folders('')(home)
        (home / 'f/fan_final/all').symlink_to(home / 'f')
    embed = [*EMBED[:1], '--dataset_path=f', '--output=e.npy', '--ckpt_file=net.onnx']
    own = ['src.datasets.own_classes', 'gallery.npy', 'c.csv', 'u.txt']
    classes = 'name;a;b\n' + ''.join(f'{i};{i};{i * i}\n' for i in range(1, 13))
    written = write('c.csv', classes), write('u.txt', '2\n')
    yield Case('list: a header of two words', EVAL, 'line 1', lambda home: (home / 'few.txt').write_text(
        'image class\n' + (home / 'few.txt').read_text()))
    yield Case('list: backslashes', EVAL, 'with /', listed(lambda path, label: path.replace('/', '\\') + f' {label}'))
    yield Case('list: a workbook', EVAL, 'workbook', write('few.txt', b'PK\x03\x04\xff'))
    yield Case('list: a mark and --encoding=U8', [*EVAL, '--encoding=U8'], GOOD, lambda home: (home / 'few.txt').write_text(
        (home / 'few.txt').read_text(), encoding='utf-8-sig'))
    yield Case('list: a pipe', [*EVAL[:1], '--dataset_path=/dev/null', *EVAL[2:]], 'neither a file')
    yield Case('list: names that look the same', EVAL, 'of one class', listed(
        lambda path, label: f'{path} {names[int(label) % 2]}'))
    yield Case('folder: Train and Test', [*EVAL[:1], '--dataset_path=f', *EVAL[2:]], 'no test', folders('Train', 'Test'))
    yield Case('folder: a link to itself', embed, GOOD, linked)
    yield Case('pictures: 32 bits', embed, '32 bits', lambda home: (pictures(home), Image.fromarray(
        np.ones((40, 40), np.int32)).save(home / 'f/1.tif'), (home / 'f/1.bmp').unlink()))
    yield Case('pictures: HEIC', embed, 'HEIC', lambda home: (pictures(home), write('f/1.bmp', b'\0\0\0\x18ftypheic')(home)))
    yield Case('pictures: damage inside, --skip_broken', [*embed, '--skip_broken=0.5'], GOOD, pictures)
    yield Case('pictures: a line break in a name', embed, 'e.npy', odd_name)
    yield Case('gallery: paths sorted', SEARCH, 'another order', lambda home: (home / 'gallery.npy.txt').write_text(
        ''.join(sorted((home / 'gallery.npy.txt').read_text().splitlines(True), reverse=True))))
    yield Case('gallery: 1e300', SEARCH, 'gallery.npy', lambda home: (
        np.save(home / 'gallery.npy', np.full((96, 8), 1e300)), (home / 'gallery.npy.json').unlink()))
    yield Case('own classes: semicolons', [*own, 'made', '--by=label'], GOOD, lambda home: [one(home) for one in written])
    yield Case('own classes: over a benchmark', [*own, 'gbu', '--by=label'], 'att_splits.mat',
               lambda home: [one(home) for one in written])
    yield Case('own classes: without --by', [*own, 'made'], '--by')
    yield Case('report: --help', ['src.report', '--help'], GOOD)
    for name, path, entry, change, word in (
            ('a name twice', 'att_splits.mat', 'allclasses_names', lambda a: a[[1, *range(1, 12)]], 'allclasses_names'),
            ('an image twice', 'att_splits.mat', 'test_seen_loc', lambda a: a[[0, *range(len(a))]], 'test_seen_loc'),
            ('features of another width', 'res101.mat', 'features', lambda a: a[:8], 'features')):
        command = ['eval', '--dataset=GBU', '--data_path=gbu', '--save_ckpt=named', '--device_target=CPU']
        yield Case(f'GBU: {name}', command, word, gbu(path, entry, change))
    attributes, features = 'dem/CUB_data/train_attr.mat', 'dem/CUB_data/train_cub_googlenet_bn.mat'
    yield Case('DEM: images of one class', TRAIN_DEM, 'one class', cut_mat(attributes, lambda a: a * 0 + a[:1]))
    yield Case('DEM: equal features', TRAIN_DEM, 'same features', cut_mat(features, lambda a: a * 0))
    for value in (0, 1e30):
        command = [*EVAL[:2], '--save_ckpt=w.ckpt', '--device_target=CPU', *SMALL]
        yield Case(f'weights of {value:g}', command, 'weights are damaged',
                   weights('w.ckpt', conv=lambda a, value=value: a * np.float32(value)))
    for option in ('supcon temperature=-1', 'supcon temperature=0', 'arcmargin scale=0', 'triplet margin=-1'):
        loss, entry = option.split()
        yield Case(f'loss: {option}', [*TRAIN, f'--loss_name={loss}', f'--set=loss_options.{entry}'], 'a finite number')
    yield Case('--pretrained=FOLDER of a training', [*TRAIN, '--pretrained=net'], GOOD)
    shown = [*TRAIN, '--show_recipe', '--config_path=c.yaml']
    yield Case('config: 1e-3 in YAML', shown, GOOD, write('c.yaml', 'lr_max: 1e-3\n'))
    yield Case('config: a switch that is a text', shown, 'true or false', write('c.yaml', 'resume: maybe\n'))
    for name, words, word in (('a file as its folder', ['few.txt', 'a: --lr=1'], 'few.txt'),
                              ('an open quote', ['out', "a: --lr='1"], 'quotes')):
        yield Case(f'compare.py: {name}', ['benchmarks/compare.py', *words, '--seeds=1', '--all=--dataset_path=list.txt'], word)
    yield Case('export: a long name', [*EXPORT[:2], f'--file_name={"y" * 254}'], 'too long')
    yield Case('a web page as weights', [*TRAIN, '--pretrained=w.pth'], 'web page', write('w.pth', '<!DOCTYPE html>'))
    yield Case('weights: two tables of the same', [*TRAIN, '--pretrained=w.pdparams'], 'several tables', lambda home: (
        weights('w.pdparams')(home), (home / 'w.pdparams').write_bytes(pickle.dumps(
            dict.fromkeys(('model', 'model_ema'), pickle.loads((home / 'w.pdparams').read_bytes())), 2))))
    yield Case('train: --lr=0', [*TRAIN, '--lr=0'], 'lr')
    for name, path, entry, change, word in (
            ('val classes of the test', 'att_splits.mat', 'val_loc', lambda a: np.arange(181, 241)[:, None], 'val_loc'),
            ('names as numbers', 'att_splits.mat', 'allclasses_names', lambda a: np.arange(12.0), 'cellstr'),
            ('a name that cannot be shown', 'att_splits.mat', 'allclasses_names', lambda a: np.concatenate([[['\x07']], a[1:]]),
             'printable'),
            ('features of 1e20', 'res101.mat', 'features', lambda a: a * 1e20, 'too large'),
            ('features of 1e-30', 'res101.mat', 'features', lambda a: a * 1e-30, 'too small'),
            ('two seen classes', 'att_splits.mat', 'trainval_loc', lambda a: np.r_[1:17, 21:37][:, None], 'trainval_loc'),
            ('single numbers', 'res101.mat', 'features', lambda a: a.astype(np.float32), GOOD),
            ('whole numbers', 'res101.mat', 'features', lambda a: (a * 100).astype(np.int16), GOOD)):
        yield Case(f'GBU: {name}', TRAIN_GBU, word, gbu(path, entry, change))
    yield Case('DEM: test features of another scale', TRAIN_DEM, 'scale both', cut_mat(features, lambda a: a * 1000))
    yield Case('DEM: attributes of another scale', EVAL_DEM, 'scale both', cut_mat(attributes, lambda a: a * 100))
    table = 'path,{}\n'
    for name, header, cell, word in (
            ('a column called class', 'class', '{1}', 'label'), ('a camera called camid', 'label,camid', '{1},1', 'camera'),
            ('parts under another name', 'label,partition', '{1},train', 'partition'),
            ('semicolons and all in quotes', 'label', '"{1}"', GOOD)):
        yield Case(f'table: {name}', EVAL, word, lambda home, header=header, cell=cell: (home / 'few.txt').write_text(
            table.format(header) + ''.join('{0},'.format(*row) + cell.format(*row) + '\n' for row in (
                line.split() for line in (home / 'few.txt').read_text().splitlines()))))
    yield Case('list: of products, with tabs', EVAL, GOOD, lambda home: (home / 'few.txt').write_text(
        'image_id\tclass_id\tsuper_class_id\tpath\n' + ''.join('1\t{1}\t1\t{0}\n'.format(*line.split()) for line in (
            home / 'few.txt').read_text().splitlines())))
    yield Case('gallery: some lines without a class', SEARCH, 'path alone', lambda home: (home / 'gallery.npy.txt').write_text(
        '\n'.join(line.split()[0] if i % 2 == 0 else line for i, line in enumerate(
            (home / 'gallery.npy.txt').read_text().splitlines())) + '\n'))
    for name, rows, word in (('in columns', np.asfortranarray(np.ones((96, 8), np.float32)), 'ascontiguousarray'),
                             ('zeros', np.zeros((96, 8)), 'are zero'), ('1e25', np.full((96, 8), 1e25), 'too large'),
                             ('float16', np.eye(96, 8, dtype=np.float16) + np.float16(1), GOOD)):
        yield Case(f'gallery: {name}', SEARCH, word, lambda home, rows=rows: (
            np.save(home / 'gallery.npy', rows), (home / 'gallery.npy.json').unlink()))
    yield Case('gallery: .npz of other names', [*SEARCH[:2], '--gallery=g.npz', *SEARCH[3:]], 'called embeddings',
               lambda home: np.savez(home / 'g.npz', features=np.ones((9, 8), np.float32)))
    yield Case('pictures: 16 bits of which 8 are used', embed, 'below 256', lambda home: (
        pictures(home), Image.fromarray(np.full((40, 40), 99, np.uint16)).save(home / 'f/1.png'), (home / 'f/1.bmp').unlink()))


def snapshot(home):
    """{path: size and time} of the files and folders below a folder."""
    found = {}
    for path in home.rglob('*'):
        if path.name.endswith('.checked.json'):  # what was found about a list's pictures is kept, whatever follows
            continue
        status = path.lstat()
        found[str(path.relative_to(home))] = 0 if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


def start(case, home, forked):
    """Start the process of a case in its folder: (process id or Popen, files of its output)."""
    out, err = (open(home.with_name(f'{home.name}.{name}'), 'w+') for name in ('out', 'err'))  # noqa: SIM115 - read later
    words = [str(word) for word in case.words]
    environment = {**os.environ, 'PYTHONPATH': str(tools.ROOT), **case.environment}

    def limits():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if 'FSIZE' in case.environment:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(case.environment['FSIZE']),) * 2)
    if forked and words[0] in DOORS and not case.environment:
        child = os.fork()
        if child:
            return child, out, err
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.chdir(home)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            limits()
            sys.argv = [f'{words[0]}.py', *words[1:]]
            sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
            run(importlib.import_module(words[0]).main)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
    if words[0] in DOORS:
        words[0] = f'{tools.ROOT}/{words[0]}.py'
    if words[0].startswith('src.'):
        words.insert(0, '-m')
    elif words[0].endswith('.py') and not words[0].startswith('/'):
        words[0] = f'{tools.ROOT}/{words[0]}'
    command = words if words[0] == 'sh' else [sys.executable, *words]
    return subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
                            preexec_fn=limits), out, err


def wait(process, seconds):
    """The exit code, negative for a signal; None if it takes longer, and is killed."""
    if isinstance(process, subprocess.Popen):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(process, 9)
    os.waitpid(process, 0)
    return None


def judge(case, code, errors, before, after):
    """What became of a case."""
    lines = [line for line in errors.splitlines() if line.strip() and not line.startswith(('device: ', 'engine: '))
             and ' images/s' not in line]
    if code is None:
        return 'hang'
    if 'Traceback' in errors:
        return 'traceback'
    if code < 0 or code > 128:
        return 'crash'
    if case.expected is GOOD:
        return 'right' if code == 0 else 'wrongly refused'
    if code == 0:
        return 'silent'
    if before != after:
        return 'left'
    if code != 2 and (case.words[0] in DOORS or case.words[0].startswith('src.')):
        return 'vague'
    named = lines and any(word in lines[-1] for word in case.expected.split('|'))
    return 'refused' if named and len(lines) <= 3 else 'vague'


def main():
    options = tools.parser(__doc__, only='', part='1/1', seconds=300, fork=False, files='').parse_args()
    part, parts = map(int, options.part.split('/'))
    makers = (flag_cases, list_cases, picture_cases, record_cases, weight_cases, mat_cases, output_cases,
              people_cases)
    cases = [case for make in makers for case in make() if options.only in case.name][part - 1::parts]
    counts = Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole, home = Path(options.files or Path(folder) / 'whole').absolute(), Path(folder) / 'case'
        if not whole.exists():
            whole.mkdir(parents=True)
            make_files(whole)
        if options.fork:
            import src.inference
            import src.systems.trained
            import src.training.loop  # noqa: F401 - for the children
        signal.signal(signal.SIGTERM, lambda *_: cases.clear())
        while cases:
            case = cases.pop(0)
            shutil.copytree(whole, home, symlinks=True)
            if case.harm:
                case.harm(home)
            before = snapshot(home)
            process, out, err = start(case, home, options.fork)
            code = wait(process, options.seconds)
            for file in (out, err):
                file.seek(0)
            said, errors = out.read(), err.read()
            found = judge(case, code, errors, before, snapshot(home))
            counts[found] += 1
            if found not in ('refused', 'right'):
                new = sorted({*before.items()} ^ {*snapshot(home).items()}, key=str)[:3]
                print(f'{found:16}{case.name} (code {code}): {" | ".join(errors.splitlines()[-2:])[-400:]} '
                      f'{new * (found == "left")} {said[-150:] * (found in ("silent", "crash"))!r}', flush=True)
            shutil.rmtree(home)
    print(f'{sum(counts.values())} cases: ' + ', '.join(f'{count} {name}' for name, count in counts.most_common()))
    sys.exit(bool(set(counts) - {'refused', 'right'}))


if __name__ == '__main__':
    main()
