"""Kill a training at random moments, resume it each time, and compare it with a training that was never killed.

    python benchmarks/kill_and_resume.py [--kills=20] [--rounds=1] [--seed=0] [--only=WORD] [--fork]

DEM (CUB, attributes) and a narrow ResNet18 (32 x 32 pixels, triplet and softmax) on generated data. Prints for each round how
many kills hit it and how many parameters differ in a bit; exit code 1 when one differs. tests/doors/test_resume.py uses the
same functions with fewer kills. With --fork the processes that are killed are forked from one that has imported MindSpore,
which takes a third of the time.
"""
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tools

from src.common.run import run


def dem_flags(data, steps):
    """Flags of a training with epochs of 28 steps, validation, a best.ckpt, and a state every third step."""
    return ['--dataset=CUB', '--recipe=published', '--validation=seen_images', f'--data_path={data}',
            '--device_target=CPU', f'--total_iter_num={steps}', '--save_iter_step=3', '--test_iter_step=10',
            '--interval_step=1']


def resnet_flags(data, loss, steps):
    """Flags of a training on few pictures of 32 x 32 pixels in batches of 12."""
    return [f'--dataset_path={data}', '--recipe=small', f'--loss_name={loss}', '--device_target=CPU', '--image_size=32',
            '--model=resnet18', '--set=backbone_options.width=8', '--batch_size=12',
            f'--total_iter_num={steps}', '--save_iter_step=1', '--interval_step=1']


class Training:
    """train.py as a process that writes to a folder; its output is read line by line."""

    def __init__(self, flags, folder, *more):
        self.began = time.perf_counter()
        self.process = self.start([*flags, f'--save_ckpt={folder}', *more], folder.parent)
        self.lines = []

    @staticmethod
    def start(flags, home):
        """Start the process."""
        return subprocess.Popen([sys.executable, '-u', tools.ROOT / 'train.py', *flags], cwd=home, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def read_until(self, word):
        """Seconds from the start to a line with this word; None where the output ends first."""
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if word in line:
                return time.perf_counter() - self.began
        return None

    def end(self, expected=0):
        """Wait for the end, with the expected exit code or one of several; returns the text of standard error."""
        rest, errors = self.process.communicate(timeout=1800)
        self.lines += rest.splitlines()
        assert self.process.returncode in np.atleast_1d(expected), '\n'.join([*self.lines, errors])
        return errors

    def end_by(self, number, after):
        """Send a signal after some seconds; returns whether the training was still running."""
        time.sleep(after)
        if self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        return True


class Forked(Training):
    """The same in a process forked from this one."""

    @staticmethod
    def start(flags, home):
        return _Fork(flags, home)


class _Fork:
    """What Training uses of subprocess.Popen; standard error goes to standard output."""

    def __init__(self, flags, home):
        reading, writing = os.pipe()
        self.id, self.returncode = os.fork(), None
        if not self.id:
            self._train(flags, home, writing)
        os.close(writing)
        self.stdout = os.fdopen(reading)

    @staticmethod
    def _train(flags, home, writing):
        code = 1
        try:
            os.chdir(home)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, 'w', 1) for number in (1, 2))
            sys.argv = ['train.py', *flags]
            run(importlib.import_module('train').main)
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)

    def poll(self):
        if self.returncode is None:
            ended, status = os.waitpid(self.id, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number):
        os.kill(self.id, number)

    def communicate(self, timeout=None):
        with self.stdout:
            rest = self.stdout.read()
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        return rest, ''


def train_whole(flags, folder):
    """Train without a kill: (seconds to the start of the training, to its first step, to its end)."""
    training = Training(flags, folder)
    start, first = training.read_until('Starting Training'), training.read_until('step: 1,')
    training.end()
    return start, first, time.perf_counter() - training.began


def train_killed(flags, folder, kills, rng, seconds, kind=Training):
    """Kill a training at `kills` moments, resume it each time, then let it end.

    Most moments are drawn from the first step of a resumed training and its share of the other steps, so that steps are
    taken between kills; every fifth moment may lie in its start as well. kind: Training or Forked.

    Returns:
        int, how many kills hit a running training.
    """
    start, first, end = seconds
    share = 0.9 * (end - first) / kills
    hits = 0
    for turn in range(kills):
        training = kind(flags, folder, '--resume')
        wait = first - start + share
        if turn % 5 == 4:
            wait += start
        else:
            training.read_until('Starting Training')
        hits += training.end_by(signal.SIGKILL, rng.uniform(0, wait))
        training.process.communicate()
    kind(flags, folder, '--resume').end()
    return hits


def parameters(path):
    """The arrays of a checkpoint by name, and what its training recorded (facts)."""
    import mindspore as ms
    values = ms.load_checkpoint(str(path))
    facts = json.loads(values.pop('facts'))
    return {name: value.asnumpy() for name, value in values.items()}, facts


def differences(folder, other):
    """Names of the files, parameters and facts in which the checkpoints of two trainings differ in a bit."""
    found = []
    names, theirs = ({path.name for path in f.glob('*.ckpt')} for f in (folder, other))
    found += sorted(names ^ theirs)
    for name in sorted(names & theirs):
        (mine, facts), (yours, other_facts) = parameters(folder / name), parameters(other / name)
        found += [f'{name}: {key}' for key in sorted(set(mine) | set(yours))
                  if key not in mine or key not in yours or mine[key].tobytes() != yours[key].tobytes()]
        for taken in (facts.get('run', {}), other_facts.get('run', {})):
            for clock in ('seconds', 'timed_steps'):
                taken.pop(clock, None)
        found += [f'{name}: facts'] * (facts != other_facts)
    return found


def main():
    args = tools.parser(__doc__, kills=20, rounds=1, seed=0, only=('', 'train only those whose name holds this word'),
                        fork=False).parse_args()
    kind = Forked if args.fork else Training
    if args.fork:
        import src.systems.trained
        import src.training.loop  # noqa: F401 - for the children
    rng = random.Random(args.seed)
    failed = False
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        for words in (['dem_sample', home / 'dem'], ['image_sample', 'products', home / 'products']):
            subprocess.run([sys.executable, '-m', f'src.samples.{words[0]}', *words[1:]], cwd=tools.ROOT, check=True)
        for name, flags in (('DEM CUB att', dem_flags(home / 'dem', 20 * args.kills)),
                            ('ResNet18 triplet', resnet_flags(home / 'products', 'triplet', 2 * args.kills)),
                            ('ResNet18 softmax', resnet_flags(home / 'products', 'softmax', 2 * args.kills))):
            if args.only not in name:
                continue
            folder = home / name
            folder.mkdir()
            seconds = train_whole(flags, folder / 'whole')
            print(f'{name}: {seconds[2]:.1f} s never killed', flush=True)
            for number in range(args.rounds):
                began = time.perf_counter()
                hits = train_killed(flags, folder / str(number), args.kills, rng, seconds, kind)
                print(f'{name}: killed {hits} of {args.kills} times and resumed, {time.perf_counter() - began:.0f} s',
                      flush=True)
        # Not before: loading checkpoints starts threads, which a fork would lose.
        for whole in sorted(home.glob('*/whole')):
            count = sum(len(parameters(path)[0]) for path in whole.glob('*.ckpt'))
            for number in range(args.rounds):
                found = differences(whole, whole.with_name(str(number)))
                print(f'{whole.parent.name}: {len(found)} of {count} parameters differ', *found[:5], sep='\n  ', flush=True)
                failed |= bool(found)
    sys.exit(failed)


if __name__ == '__main__':
    main()
