"""All measurements of speed, each in a process of its own, written into docs/RESULTS.md with command and machine.

    python benchmarks/all.py                      # 20 minutes on two cores
    python benchmarks/all.py --only dem_step recall

What is measured again replaces what stood there; the rest stays. A row of several sizes shows how the cost grows.
"""
import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.common.files import replacing  # noqa: E402

RESULTS = ROOT / 'docs' / 'RESULTS.md'
BEGIN, END = '<!-- benchmarks/all.py: {} -->', '<!-- end of {} -->'
# Name -> command lines after `python benchmarks/`; three sizes where the cost grows with something.
BENCHMARKS = {
    'dem_step': [f'dem_step.py --width={width}' for width in (1024, 2048, 4096)],
    'recall': ['recall.py --images=5000', 'recall.py --images=20000 --width=1024 --classes=4000', 'recall.py --images=60502'],
    'resnet_step': ['resnet_step.py', 'resnet_step.py --image_size=224 --batch_size=8', 'resnet_step.py --layers'],
    'engine': ['infer.py --images=0', 'infer.py --images=0 --image_size=224 --batch_size=8'],
    'image_pipeline': [f'image_pipeline.py --workers={workers}' for workers in (1, 2)],
    'knn': ['knn.py'],
    'rerank': ['rerank.py --queries=500 --gallery=4000', 'rerank.py', 'rerank.py --queries=0 --gallery=20000 --width=512'],
    'centroids': ['centroids.py'],
    'growth': [*(f'growth.py --classes={classes}' for classes in (1_000, 5_184, 11_318)),
               *(f'growth.py --processes={processes}' for processes in (1, 2, 4))],
    'large_gallery': [f'large_gallery.py --rows={rows}' for rows in (10_000, 100_000, 1_000_000)],
}


def machine():
    """The processor and how many cores this process may use."""
    found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text()) if os.path.exists('/proc/cpuinfo') else None
    return (f'{found[1] if found else platform.processor()}, {len(os.sched_getaffinity(0))} core(s), '
            f'Python {platform.python_version()}')


def measure(command):
    """-> what one benchmark printed, below its command line."""
    began = time.perf_counter()
    print(f'python benchmarks/{command}', flush=True)
    done = subprocess.run([sys.executable, *f'benchmarks/{command}'.split()], cwd=ROOT, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f'{command}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed"}')
    print(f'{done.stdout.rstrip()}\n{time.perf_counter() - began:.0f} s\n', flush=True)
    return f'$ python benchmarks/{command}\n{done.stdout.rstrip()}'


def insert(text, name, block):
    """A page with the block of one benchmark replaced, or added before the end of the section on speed."""
    begin, end = BEGIN.format(name), END.format(name)
    whole = f'{begin}\n{block}\n{end}'
    if begin in text:
        return re.sub(f'{re.escape(begin)}.*?{re.escape(end)}', lambda _: whole, text, flags=re.S)
    head, speed, rest = text.partition('\n# Speed\n')
    section, more, after = rest.partition('\n# ')
    return f'{head}{speed}{section.rstrip()}\n\n{whole}\n{more}{after}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar='NAME',
                        help=f'some of {", ".join(BENCHMARKS)}')
    for name in parser.parse_args().only:
        shown = '\n'.join(measure(command) for command in BENCHMARKS[name])
        block = f'{name}, {date.today()}, {machine()}:\n\n```text\n{shown}\n```'
        page = RESULTS.read_text(encoding='utf-8')
        with replacing(RESULTS) as temporary:
            temporary.write_text(insert(page, name, block), encoding='utf-8')


if __name__ == '__main__':
    main()
