"""Measure every speed, each benchmark in a process of its own, and write it into docs/SPEED.md with command and machine.

    python benchmarks/all.py                      # 20 minutes on two cores
    python benchmarks/all.py --only dem_step recall

A benchmark replaces its own block of the page. Where the cost grows with a size, three sizes are measured.
"""
import re
import subprocess
import sys
import time
from datetime import date

import tools

from src.common.files import replacing

SPEED = tools.ROOT / 'docs' / 'SPEED.md'
BEGIN, END = '<!-- benchmarks/all.py: {} -->', '<!-- end of {} -->'
# Name -> command lines after `python benchmarks/`.
BENCHMARKS = {
    'dem_step': [f'dem_step.py --width={width}' for width in (1024, 2048, 4096)],
    'recall': ['recall.py --images=5000', 'recall.py --images=20000 --width=1024 --classes=4000', 'recall.py --images=60502'],
    'resnet_step': [f'resnet_step.py --image_size={size}{forward}' for size in ('64', '224 --batch_size=8')
                    for forward in ('', ' --forward')],
    'engine': ['infer.py --images=0', 'infer.py --images=0 --image_size=224 --batch_size=8'],
    'image_pipeline': [f'image_pipeline.py --workers={workers}' for workers in (1, 2)],
    'knn': ['knn.py'],
    'rerank': ['rerank.py --queries=500 --gallery=4000', 'rerank.py', 'rerank.py --queries=0 --gallery=20000 --width=512'],
    'centroids': ['centroids.py'],
    'growth': [*(f'growth.py --classes={classes}' for classes in (1_000, 5_184, 11_318)),
               *(f'growth.py --processes={processes}' for processes in (1, 2, 4))],
    'large_gallery': [f'large_gallery.py --rows={rows}' for rows in (10_000, 100_000, 1_000_000)],
}


def measure(command):
    """Run one benchmark; returns its command line and what it printed."""
    began = time.perf_counter()
    print(f'python benchmarks/{command}', flush=True)
    done = subprocess.run([sys.executable, *f'benchmarks/{command}'.split()], cwd=tools.ROOT, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f'{command}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed"}')
    print(f'{done.stdout.rstrip()}\n{time.perf_counter() - began:.0f} s\n', flush=True)
    return f'$ python benchmarks/{command}\n{done.stdout.rstrip()}'


def insert(text, name, block):
    """The page with the block of one benchmark replaced, or added at its end."""
    begin, end = BEGIN.format(name), END.format(name)
    whole = f'{begin}\n{block}\n{end}'
    if begin in text:
        return re.sub(f'{re.escape(begin)}.*?{re.escape(end)}', lambda _: whole, text, flags=re.S)
    return f'{text.rstrip()}\n\n{whole}\n'


def main():
    parser = tools.parser(__doc__)
    parser.add_argument('--only', nargs='+', choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar='NAME',
                        help=f'some of {", ".join(BENCHMARKS)}')
    for name in parser.parse_args().only:
        shown = '\n'.join(measure(command) for command in BENCHMARKS[name])
        block = f'{name}, {date.today()}, {tools.machine()}:\n\n```text\n{shown}\n```'
        page = SPEED.read_text(encoding='utf-8')
        with replacing(SPEED) as temporary:
            temporary.write_text(insert(page, name, block), encoding='utf-8')


if __name__ == '__main__':
    main()
