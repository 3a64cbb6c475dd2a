"""What several files of this folder need."""
import subprocess

import pytest

from src.datasets import augmentation_processes


@pytest.fixture
def started(monkeypatch):
    """The processes that augment, as they are started."""
    processes, start = [], subprocess.Popen

    def popen(*arguments, **options):
        processes.append(start(*arguments, **options))
        return processes[-1]
    monkeypatch.setattr(augmentation_processes.subprocess, 'Popen', popen)
    return processes
