"""README.md and README_CN.md say the same, and what they and docs/ name exists; the README's commands run."""
import re
import shlex
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest

from src.accuracy import recall_at_k
from src.common.arrays import unit_rows
from src.recipes.command_line import parse_args
from src.recipes.flags import DOORS, FLAGS
from src.samples.dem_sample import make_dem_sample
from src.samples.image_sample import make_products, make_reid
from tests.conftest import ROOT, SHARED_DATA
from tests.doors.test_published_pages import IMAGES, PERSONS, Checkout, save_published
from tests.processes import free_port

ENGLISH, CHINESE = (ROOT / name for name in ('README.md', 'README_CN.md'))
PAGES = [ENGLISH, CHINESE, ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
# Programs of others that the pages name, published files that have no namesake here, what the walks of
# CONTRIBUTING.md add (tests/doors/test_walks.py), and the flag that every parser has.
OTHERS = {'hccl_tools.py', 'set_env.sh', 'mindspore/run_check/_check_version.py', 'config.py', 'set_parser.py', '--mine',
          '--help',
          'src/networks/my_head.py', 'src/systems/projection.py', 'src/recipes/projection.py',
          *(f'src/{room}/mine.py' for room in ('losses', 'networks', 'accuracy', 'datasets'))}
FENCE = re.compile(r'^( *)```(\w*)\n(.*?)^\1```', re.M | re.S)


def blocks(path, language=None):
    """The fenced blocks of a page, or those of one language."""
    return [text for _, name, text in FENCE.findall(path.read_text(encoding='utf-8')) if language in (None, name)]


def sections(path):
    """What stands below each heading, without blocks: [(level, heading, text)]."""
    parts = re.split(r'^(#+) (.*)\n', FENCE.sub('', path.read_text(encoding='utf-8')), flags=re.M)
    return [(len(level), heading, text) for level, heading, text in zip(parts[1::3], parts[2::3], parts[3::3])]


def slug(heading):
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def numbers(text):
    return Counter(re.findall(r'(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?', re.sub(r'\]\([^)]*\)|`[^`]*`', ' ', text),
                              re.ASCII))


def test_both_languages_have_the_same_headings_and_blocks():
    assert [level for level, *_ in sections(ENGLISH)] == [level for level, *_ in sections(CHINESE)]
    assert blocks(ENGLISH) == blocks(CHINESE)
    # Line by line, so that a change of one shows its place in the other.
    assert [bool(line) for line in ENGLISH.read_text(encoding='utf-8').split('\n')] == [
        bool(line) for line in CHINESE.read_text(encoding='utf-8').split('\n')]


def test_both_languages_say_the_same_numbers_and_names():
    for (_, heading, english), (_, _, chinese) in zip(sections(ENGLISH), sections(CHINESE)):
        assert numbers(english) == numbers(chinese), heading
        assert Counter(re.findall('`[^`\n]+`', english)) == Counter(re.findall('`[^`\n]+`', chinese)), heading
        assert len(re.findall(r'^ *\|', english, re.M)) == len(re.findall(r'^ *\|', chinese, re.M)), heading
        outside = [re.findall(r'\]\((http[^)]*|[\w/.]+\.(?:svg|md))\)', text) for text in (english, chinese)]
        assert Counter(outside[0]) - Counter(['README_CN.md']) == Counter(outside[1]) - Counter(['README.md']), heading


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    text = re.sub(r'^converter_lite .*', '', page.read_text(encoding='utf-8'), flags=re.M)
    flags = {name for row in FLAGS for name in row.names}
    programs = ''.join(path.read_text() for folder in ('benchmarks', 'scripts', 'src', 'src/samples')
                       for path in (ROOT / folder).iterdir() if path.is_file())
    for flag in set(re.findall(r'(?<![\w-])--[a-z]\w*(?![\w-])', text, re.ASCII)) - OTHERS:
        # pytest's and git's are not ours; launchers read some of their own; benchmarks give theirs to tools.parser.
        assert flag in flags or flag in programs or f' {flag[2:]}=' in programs, flag
    for name in set(re.findall(r'(?<![\w/.-])(?:\.\./|\./)?\w[\w/-]*\.(?:py|sh)\b', text, re.ASCII)) - OTHERS:
        plain = name.replace('../', '').replace('./', '')
        there = [ROOT / folder / plain for folder in ('', 'scripts', 'data', 'benchmarks', 'src', 'src/recipes',
                                                 'src/training', 'src/systems')]
        assert any(path.is_file() for path in there), name
    anchors = {slug(heading) for _, heading, _ in sections(page)}
    for target in re.findall(r'\]\(([^)]*)\)', text):
        path, _, anchor = target.partition('#')
        if path.startswith('http'):
            continue
        assert not path or (page.parent / path).is_file(), target
        if anchor:
            known = anchors if not path else {slug(heading) for _, heading, _ in sections(page.parent / path)}
            assert anchor in known, target


def doors_commands(page):
    """The commands of the doors in a page's bash blocks and in its text, without comments."""
    text = '\n'.join(blocks(page, 'bash')) + '\n' + '\n'.join(re.findall('`(python [^`]*)`', page.read_text()))
    for line in re.sub(r'\\\n', ' ', text).splitlines():
        if re.match(r' *python \w+\.py ', line):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize('page', [ENGLISH, *(page for page in PAGES if page.parent.name == 'docs')],
                         ids=lambda page: page.name)
def test_the_doors_understand_every_command(page):
    for program, *words in doors_commands(page):
        door = program[:-3]
        if door in ('train_elem', 'train_pair'):
            loss = 'softmax' if door == 'train_elem' else 'eml'
            door, words = 'train', ['--dataset=SOP', '--recipe=paddle', f'--loss_name={loss}', *words]
        assert door in DOORS, program
        if '--help' in words:
            continue
        # Choices written as [a|b], and the shell's variables, stand for one of them.
        words = [re.sub(r'\$\w+', lambda match: VARIABLES[match[0]], re.sub(r'\[([^]|]*)\|[^]]*\]', r'\1', word))
                 for word in words]
        read = parse_args(door, [word for word in words if word])
        if door == 'train':
            read.make_recipe()


VARIABLES = {'$element': 'softmax', '$pair': 'triplet', '$loss': 'ctl', '$FLAGS': ''}
# What is added to a command of the README that begins so, to make it short.
SHORT = {
    'python train.py --data_path=/data/DEM_data': '--epoch_size=1',
    'sh run_standalone_train_ascend.sh': '--epoch_size=1',
    'sh run_distributed_train_ascend.sh': '--epoch_size=1',
    'sh scripts/run_distributed_train_ascend.sh': '--epoch_size=1',
    'python train.py --dataset_path=/data/SOP': IMAGES,
    'python train.py --dataset_path=/data/photos': '--total_iter_num=1 --batch_size=6 --num_workers=1',
    'python train_elem.py': IMAGES,
    'python train_pair.py': IMAGES,
    'bash run_standalone_train.sh': IMAGES,
    'bash run_distribute_train.sh': IMAGES,
    'bash ./test/': PERSONS,
    'python train.py --dataset=DukeMTMC-reID': PERSONS,
}
# Commands that are run elsewhere, by a part of them.
ELSEWHERE = {
    'scripts/quickstart.sh': 'test_the_quick_start_prints_what_the_page_shows',
    '/data/xlsa17': 'tests/doors/test_gbu_door.py',
    # They need more pictures than are drawn here.
    '--false_match_rate': 'tests/doors/test_search_doors.py',
    '--threshold': 'tests/doors/test_search_doors.py',
}


@pytest.mark.slow
def test_the_python_page_runs(tmp_path, monkeypatch, capsys):
    """Its examples in their order and word for word, but for the folder of images."""
    examples = blocks(ROOT / 'docs' / 'PYTHON.md', 'python')
    assert len(examples) == 8
    make_products(tmp_path / 'SOP', classes=24, images_per_class=8, size=48)
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in examples:
        capsys.readouterr()
        exec(compile(example.replace('/data/SOP', str(tmp_path / 'SOP')), 'README.md', 'exec'), names)
        assert capsys.readouterr().out, example
    assert names['result']['recipe']['backbone'] == 'resnet18' and names['trained'].recipe.mirror
    assert names['embeddings'].shape == (len(names['images']), 512)
    # The first neighbour of an image of the gallery is the image.
    assert names['found'].rows[:, 0].tolist() == list(range(len(names['images'])))
    unit = unit_rows(names['embeddings'])
    assert names['one'] @ names['other'] == pytest.approx(unit[0] @ unit[1], abs=1e-4)
    # The five nearest at least are linked where they are close; a group holds nothing else than chains of such links.
    near = np.argsort(-(unit @ unit.T), axis=1)[:, :5]
    links = [(row, one) for row, line in enumerate(near.tolist()) for one in line if unit[row] @ unit[one] >= 0.95]
    assert all(names['group'][row] == names['group'][one] for row, one in links)
    assert names['count'] >= len(unit) - sum(row != one for row, one in links)
    assert names['figures']['measures']['Recall@1'] == recall_at_k(names['embeddings'], names['images'].labels)[1]


@pytest.mark.by_hand
def test_the_commands_run(tmp_path):
    """Block by block from the project's folder, on drawn data, two processes for eight devices."""
    made = Checkout(tmp_path)
    make_dem_sample(made.home / 'DEM_data')
    make_reid(made.home, 'duke', identities=8)
    save_published(made.home / 'small.ckpt', width=8)
    photo = next(path for path in made.products.rglob('*') if path.suffix.lower() in ('.jpg', '.png'))
    for part in ('train', 'test'):  # one folder per class
        for line in (made.products / f'Ebay_{part}.txt').read_text().splitlines()[1:]:
            _, label, _, path = line.split()
            folder = made.home / 'photos' / part / f'class{label}'
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(made.products / path, folder)
    places = {'/data/photos': f'{made.home}/photos', 'mobilenet_v2-b0353104.pth': f'{SHARED_DATA}/weights/mobilenet_v2.pth',
              '/data/described': f'{made.home}/described',
              '/data/DEM_data': f'{made.home}/DEM_data', '/data/SOP': str(made.products), '=/data': f'={made.home}',
              'hccl_8p.json': '-', 'resnet50-19c8e357.pth': f'{made.home}/small.ckpt',
              '=resnet50.ckpt': f'={made.home}/small.ckpt', 'photo.jpg': str(photo),
              '/7/auto_parallel-120_11.ckpt': '/1/auto_parallel-1_*.ckpt'}
    for block in blocks(ENGLISH, 'bash'):
        lines = ['set -e']
        for line in re.sub(r'\\\n', ' ', block).splitlines():
            line = re.sub(r'\s*#.*', '', line)
            if any(part in line for part in ELSEWHERE):
                continue
            bare = re.sub(r'^([A-Z_]+=\S+ )+', '', line)
            line += ' ' + next((more for start, more in SHORT.items() if bare.startswith(start)), '')
            for old, new in places.items():
                line = line.replace(old, new)
            # msrun's scheduler of an earlier command may still hold its port.
            lines.append(f'export MASTER_PORT={free_port()}')
            lines.append(line)
        done = subprocess.run(['bash', '-c', '\n'.join(lines)], cwd=made.root, text=True, capture_output=True, env=made.env,
                              timeout=7200)
        assert done.returncode == 0, f'{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'


@pytest.mark.by_hand
def test_the_quick_start_prints_what_the_page_shows(tmp_path):
    done = subprocess.run(['bash', 'scripts/quickstart.sh', str(tmp_path / 'quick')], cwd=ROOT, text=True,
                          capture_output=True, timeout=5400)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = next(block for block in blocks(ENGLISH, 'text') if 'before training' in block)
    # Numbers differ between machines, and with them the widths of columns.
    printed = {re.sub(r'[\d -]+', ' ', line) for line in done.stdout.splitlines()}
    for line in shown.splitlines():
        assert re.sub(r'[\d -]+', ' ', line) in printed, line
    for name in ('dem', 'softmax', 'triplet', 'arcmargin', 'npairs', 'ctl'):
        assert {'train.ckpt', 'result.json', 'curves.png'} <= {path.name for path in (tmp_path / 'quick' / name).iterdir()}
    assert {'dem.html', 'products.html', 'persons.html', 'names.html'} <= {path.name for path in (tmp_path / 'quick').iterdir()}
