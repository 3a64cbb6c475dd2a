"""A deprecated call of MindSpore from a line of ours fails the test that makes it."""
import logging

import pytest
from mindspore.log import _get_logger

from tests.conftest import ROOT, Deprecations


def test_calls_of_ours_are_errors_and_those_of_others_are_not():
    said = "'Pad' is deprecated from version 2.0"
    record = logging.LogRecord('MindSpore', logging.WARNING, 'log.py', 1, said, None, None)
    # By name: pytest imports conftest.py a second time.
    handler, = [one for one in _get_logger().handlers if type(one).__name__ == Deprecations.__name__]
    handler.emit(record)
    ours = compile('emit(record)', str(ROOT / 'src' / 'networks' / 'some.py'), 'exec')
    with pytest.raises(DeprecationWarning, match=r"some.py:1: 'Pad' is deprecated"):
        exec(ours, {'emit': handler.emit, 'record': record})
    record.msg = 'a network without parameters'
    exec(ours, {'emit': handler.emit, 'record': record})
