"""Long trainings whose resident memory, threads and open files must not grow.

    python benchmarks/soak.py [--steps=10000] [--only=dem|images]

DEM (CUB, attributes) and a narrow ResNet18 (32 x 32 pixels, batches of 12) on generated data, as processes of train.py. After
every 100 steps the process is looked at in /proc. Prints what it had after step 500 and the most that it had later; exit code 1
if memory grows by more than 5 % and 20 MB, or threads or files at all.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import tools
from kill_and_resume import Training, dem_flags, resnet_flags

FROM, EVERY = 500, 100


def look(process):
    """(resident MB, threads, open files) of a process."""
    status = dict(line.split(':', 1) for line in Path(f'/proc/{process}/status').read_text().splitlines())
    return (int(status['VmRSS'].split()[0]) / 1024, int(status['Threads']), len(list(Path(f'/proc/{process}/fd').iterdir())))


def soak(name, flags, folder):
    """Run one training; returns whether anything grew."""
    training = Training(flags, folder)
    seen = []
    while training.read_until('loss is') is not None:
        try:
            seen.append(look(training.process.pid))
        except OSError:  # it has just ended
            break
    training.end()
    first, later = seen[FROM // EVERY - 1], seen[FROM // EVERY:]
    most = [max(column) for column in zip(*later)]
    print(f'{name}, {EVERY * len(seen)} steps: after step {FROM} {first[0]:.0f} MB, {first[1]} threads, {first[2]} files; '
          f'later at most {most[0]:.0f} MB, {most[1]} threads, {most[2]} files; at the end {seen[-1][0]:.0f} MB', flush=True)
    return most[0] > max(1.05 * first[0], first[0] + 20) or most[1] > first[1] or most[2] > first[2] + 2


def main():
    options = tools.parser(__doc__, steps=10000, only='').parse_args()
    grown = False
    with tempfile.TemporaryDirectory() as home:
        for name, words, flags in (('dem', ['dem_sample'], lambda data: dem_flags(data, options.steps)),
                                   ('images', ['image_sample', 'products'], lambda data: resnet_flags(
                                       data, 'triplet', options.steps))):
            if options.only in ('', name):
                data = Path(home) / f'{name}_data'
                subprocess.run([sys.executable, '-m', f'src.samples.{words[0]}', *words[1:], data], cwd=tools.ROOT, check=True)
                own = {'--save_iter_step': 1000, '--interval_step': EVERY, '--test_iter_step': 1000}
                given = [flag.partition('=') for flag in flags(data)]
                grown |= soak(name, [f'{flag}={own.get(flag, value)}' for flag, _, value in given], Path(home) / name)
    sys.exit(grown)


if __name__ == '__main__':
    main()
