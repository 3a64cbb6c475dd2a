"""Pages of --report: whole, self-contained, escaped; what they say is recomputed; a browser shows them without an error."""
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import infer
from src.accuracy import OpenSet
from src.accuracy.gzsl import seen_unseen_curve
from src.common.errors import InputError
from src.page import Page, Shown, check_page

BROWSER = next((path for path in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')) if path), None)
EVIL = '<script>alert("1")</script>&\'$title'


class Tags(HTMLParser):
    """Counts tags, keeps what would be loaded, and checks that each one is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.loaded, self.words = [], {}, [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loaded += [value for name, value in attributes if name in ('src', 'href', 'xlink:href', 'srcset')]
        if tag not in ('meta', 'link', 'img', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope='module')
def shown(tmp_path_factory):
    """Twelve pictures of three classes, one called EVIL, along three axes; the first is of the second class."""
    folder = tmp_path_factory.mktemp('pictures') / 'a b'
    folder.mkdir()
    rng = np.random.default_rng(0)
    embeddings, paths, classes = [], [], []
    for number in range(12):
        paths.append(str(folder / f'{number} & <{number}>.jpg'))
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(paths[-1])
        embeddings.append(np.eye(4)[number % 3] + 0.1 * rng.random(4))
        classes.append((EVIL, 'b', 'c')[number % 3])
    classes[0] = 'b'
    return Shown(np.array(embeddings, np.float32), paths, np.array(classes, object))


def neighbours(embeddings):
    """By a plain loop: the other rows, by falling cosine."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -2)
    order = np.argsort(-similarities, axis=1, kind='stable')[:, :5]
    return order, np.take_along_axis(similarities, order, 1)


@pytest.fixture(scope='module')
def page(shown, tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'report.html'
    made = Page(f'Search {EVIL}', {'data': EVIL, 'nothing': None}, {'Recall@1': 0.75, 'images/s': 123.4})
    made.add_search(shown, shown, *neighbours(shown.embeddings))
    labels = np.array([0, 0, 1, 1, 2, 2])
    scores = np.random.default_rng(1).random((6, 3))
    made.add_seen_unseen(seen_unseen_curve(scores, labels, np.arange(3), np.array([True, True, False])), 0.1)
    made.add_classification((labels, np.array([0, 1, 1, 1, 2, 2]), labels), {0: EVIL, 1: 'b', 2: 'c'}, scores, np.eye(3))
    rng = np.random.default_rng(2)
    made.add_threshold(OpenSet(rng.random((30, 4)), np.arange(30) // 3), 0.9, 0.1)
    made.add_named(shown, [[(name, 0.5, False), ('d', 0.25, True)] for name in shown.classes])
    made.write(str(path))
    return path


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(page):
    tags = Tags(page.read_text())
    assert all(value.startswith('data:') for value in tags.loaded)
    assert 'script' not in tags.count and '@import' not in page.read_text() and 'url(' not in page.read_text()
    assert tags.count['img'] > 24 and tags.count['svg'] == 3
    assert [file.name for file in page.parent.iterdir()] == ['report.html']
    # A name is shown as it is, not filled in by the template.
    assert html.escape(EVIL) in page.read_text()
    assert '75.0 %' in tags.words and '123.4' in tags.words


def test_mistakes_and_confusions_are_those_of_a_plain_loop(page, shown):
    order, similarities = neighbours(shown.embeddings)
    first = shown.classes[order[:, 0]]
    wrong = [row for row in range(12) if first[row] != shown.classes[row]]
    assert wrong
    text = page.read_text()
    assert f'{len(wrong)} of 12 images have a wrong first answer' in text
    worst = max(wrong, key=lambda row: similarities[row, 0])
    after = text.split('Queries that went worst')[1].split('class="row"')[1]
    assert html.escape(f'{worst} & <{worst}>.jpg') in after and f'\u2717 {similarities[worst, 0]:.3f}' in after
    found = np.mean([(shown.classes[order[row]] == shown.classes[row]).any() for row in range(12)])
    assert re.search(f'<td>5</td><td class="n">{100 * found:.1f}</td>', text)


def test_without_labels_and_pictures_the_page_says_so(shown, tmp_path):
    blind = Shown(shown.embeddings, [*shown.paths[:-1], str(tmp_path / 'gone.jpg')], None)
    made = Page('Search', {})
    made.add_search(blind, blind, *neighbours(shown.embeddings))
    made.write(str(tmp_path / 'report.html'))
    text = (tmp_path / 'report.html').read_text()
    assert 'not known' in text and 'no picture' in text and 'tile right' not in text


def test_no_input_is_written_over(tmp_path, page):
    listed = tmp_path / 'list.html'
    listed.write_text('a.jpg 1\n')
    for name, words in ((listed, 'was not written by this project'), (tmp_path / 'report.txt', 'ends in .html')):
        with pytest.raises(InputError, match=f'--report={name}.*{words}'):
            check_page(str(name))
        with pytest.raises(InputError, match=words):
            infer.main([f'--query={listed}', f'--gallery={listed}', f'--report={name}'])
    check_page(str(page))
    check_page(None)
    assert listed.read_text() == 'a.jpg 1\n'


def test_the_page_of_a_search_through_the_door(shown, tmp_path, capsys):
    np.savez(tmp_path / 'gallery.npz', embeddings=shown.embeddings, paths=np.array(shown.paths),
             labels=np.arange(12) % 3)
    infer.main([f'--query={tmp_path}/gallery.npz', f'--gallery={tmp_path}/gallery.npz', '--top_k=4',
                f'--report={tmp_path}/report.html'])
    # Answers alone on standard output: a program may read them.
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 48 and 'report.html' not in said.out and 'report.html' in said.err
    assert 'Queries that went best' in (tmp_path / 'report.html').read_text()


@pytest.mark.skipif(not BROWSER, reason='no chromium on this machine')
@pytest.mark.slow
def test_a_browser_shows_it_without_an_error(page, tmp_path):
    """Pictures have a width, nothing is wider than a telephone, and the console holds no error."""
    probe = ('<script>window.onload = () => { document.title = JSON.stringify({'
             'broken: [...document.images].filter(i => { i.loading = "eager"; return i.complete && !i.naturalWidth }).length,'
             'images: document.images.length, wide: document.documentElement.scrollWidth, port: innerWidth}) }</script>')
    copy = tmp_path / 'probed.html'
    copy.write_text(page.read_text().replace('loading="lazy" ', '').replace('</body>', probe + '</body>'))
    done = subprocess.run(
        [BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--window-size=500,900',
         f'--user-data-dir={tmp_path}/profile', '--virtual-time-budget=10000', '--dump-dom', f'file://{copy}'],
        capture_output=True, text=True, timeout=300)
    assert 'CONSOLE' not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search('<title>(.*?)</title>', done.stdout)[1]))
    assert found['broken'] == 0 and found['images'] > 24 and found['wide'] <= found['port']


@pytest.mark.parametrize('text, words', [(None, ''), ('{"history": ', 'cannot be read'), ('{"history": 5}', 'cannot be read')])
def test_a_result_that_cannot_be_read_is_said(tmp_path, text, words):
    if text:
        (tmp_path / 'result.json').write_text(text)
    made = Page('Title', {})
    made.add_training(tmp_path)
    assert words in made.parts[-1] and ('Training' in made.parts[-1]) == bool(words)
