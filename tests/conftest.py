"""Shared by all tests: the device, and where the real data is."""
import os
import sys
from pathlib import Path

import mindspore as ms
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SHARED_DATA = Path(os.environ.get('SHARED_DATA', ROOT.parent / 'shared' / 'data'))


@pytest.fixture(scope='session', autouse=True)
def device():
    """MindSpore takes no device once it has computed: the doors' tests would fail after others in the same process."""
    ms.set_device('CPU')


@pytest.fixture(scope='session')
def shared_data():
    """The folder of real data for tests; its absence skips the test, visibly."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no real data: {SHARED_DATA} does not exist')
    return SHARED_DATA


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What is run by hand is slow too: `-m "not slow"` leaves both out."""
    for item in items:
        if item.get_closest_marker('by_hand'):
            item.add_marker('slow')
