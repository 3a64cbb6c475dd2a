"""Check this machine item by item, print a table, and write an archive to send: see docs/ASCEND.md.

    python -m src.acceptance [DEVICES]      (called by scripts/accept_ascend.sh; DEVICE_TARGET of the environment)

Items run in processes, one a stage: an item that ends its process or does not come to an end is a finding like others, and the
items after it run in a new process, once. Exit code 1 if an item failed.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from glob import glob
from pathlib import Path
from typing import List, Optional, Sequence

from src.acceptance.archive import write_archive
from src.acceptance.environment import DEVICES
from src.acceptance.items import FAILED, ITEMS, SKIPPED, STAGES, Finding, Item, Node, check, table
from src.common.errors import InputError
from src.common.run import run
from src.report import machine

LIMIT = 300  # seconds of one item
# A device on which every process hangs must not take hours.
PROCESSES = 2


def find_node(folder: Path, argv: Sequence[str]) -> Node:
    """The machine: the devices that are asked for, else all NPUs, or two processes of a CPU.

    Raises:
        InputError: DEVICES is no number from 1 on, or DEVICE_TARGET no target.
    """
    target = os.environ.get('DEVICE_TARGET') or ('Ascend' if glob(DEVICES) else 'CPU')
    if target not in ('Ascend', 'GPU', 'CPU'):
        raise InputError(f'DEVICE_TARGET={target} in the environment: choose Ascend, GPU or CPU')
    if len(argv) > 1 or not all(word.isdigit() and int(word) for word in argv):
        raise InputError(f'{" ".join(argv)}: give the number of devices, or nothing')
    return Node(folder, target, int(argv[0]) if argv else len(glob(DEVICES)) or 2)


def run_stage(node: Node, items: Sequence[Item], findings: Path) -> None:
    """Check items in this process; each finding becomes a line of a file at once."""
    for item in items:
        print(f'=== {item.name}', flush=True)
        with open(findings, 'a', encoding='utf-8') as file:
            file.write(json.dumps(asdict(check(item, node))) + '\n')


def follow_stage(node: Node, items: List[Item]) -> List[Finding]:
    """Check the items of one stage in other processes; prints each row as it is known."""
    found: List[Finding] = []
    for number in range(PROCESSES):
        if len(found) < len(items):
            found += _follow(node, items[len(found):], node.folder / f'{items[0].stage}.{number}.jsonl')
    return found + [_shown(Finding(item.name, item.wanted, f'not tried: {PROCESSES} processes of this stage came to a bad end',
                                   FAILED, 0)) for item in items[len(found):]]


def _follow(node: Node, items: List[Item], findings: Path) -> List[Finding]:
    """Check items in a new process, until all are done, or one has ended the process or takes too long and is FAILED."""
    found: List[Finding] = []
    log = node.folder / f'{items[0].stage}.log'
    command = [sys.executable, '-m', 'src.acceptance', '--stage', str(node.folder), node.target, str(node.devices)]
    with open(log, 'a', encoding='utf-8') as output:
        process = subprocess.Popen([*command, str(findings), *(item.name for item in items)], stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    began = time.perf_counter()
    try:
        while len(found) < len(items) and time.perf_counter() - began < LIMIT:
            ended = process.poll() is not None
            lines = findings.read_text().split('\n')[len(found):-1] if findings.exists() else []
            for line in lines:
                found.append(_shown(Finding(**json.loads(line))))
                began = time.perf_counter()
            if ended and not lines:
                break
            time.sleep(0.1)
    finally:
        ended_with = process.poll()
        # Ranks have groups of their own, which their launcher ends at the second signal.
        _end(process, [signal.SIGTERM] * 2 * (len(found) < len(items)) + [signal.SIGKILL])
    if len(found) < len(items):
        item, last = items[len(found)], (log.read_text(errors='replace').splitlines() or ['no word'])[-1]
        why = f'no end after {LIMIT} s' if ended_with is None else f'its process ended with {ended_with}'
        found.append(_shown(Finding(item.name, item.wanted, f'{why}; last: {last}', FAILED,
                                    round(time.perf_counter() - began, 1))))
    return found


def _shown(finding: Finding) -> Finding:
    print(next(table([finding], head=False)), flush=True)
    return finding


def _end(process: 'subprocess.Popen[bytes]', signals: Sequence[int]) -> None:
    """Send signals to a process and to what it has started, two seconds apart."""
    for number in signals:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        time.sleep(2 * (number != signal.SIGKILL))
    process.wait()


def summary(findings: Sequence[Finding]) -> str:
    """One line on all findings."""
    failed = [one.item for one in findings if one.verdict == FAILED]
    skipped = sum(one.verdict == SKIPPED for one in findings)
    said = f'{len(failed)} of {len(findings)} items failed' + ': ' * bool(failed) + '; '.join(failed)
    return f'{said} ({skipped} skipped, {sum(one.seconds for one in findings):.0f} s)'


def main(argv: Optional[List[str]] = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    if words in (['-h'], ['--help']):
        return print(__doc__)
    if words[:1] == ['--stage']:
        folder, target, devices, findings, *names = words[1:]
        run_stage(Node(Path(folder), target, int(devices)), [item for item in ITEMS if item.name in names], Path(findings))
        return
    with tempfile.TemporaryDirectory(prefix='accept_') as temporary:
        node = find_node(Path(temporary), words)
        print(f'{node.target}, {node.devices} {"processes" if node.target == "CPU" else "devices"}')
        print(*table([]), flush=True)
        found = [one for stage in STAGES for one in follow_stage(node, [item for item in ITEMS if item.stage == stage])]
        print(summary(found))
        archive = Path(f'accept_{node.target.lower()}_{time.strftime("%Y%m%d_%H%M%S")}.tar.gz').absolute()
        write_archive(archive, {
            'table.txt': '\n'.join([*table(found), summary(found)]) + '\n',
            'findings.json': json.dumps([asdict(one) for one in found], indent=1) + '\n',
            'machine.txt': ''.join(f'{name}: {value}\n' for name, value in machine())}, node.folder)
        print(f'send {archive}')
    if any(one.verdict == FAILED for one in found):
        sys.exit(1)


if __name__ == '__main__':
    run(main)
