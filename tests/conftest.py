"""Quietens TensorFlow, and says at the end which system packages some tests went without."""

import gc
import os
import signal

import pytest

# A shell's background job ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_MARK = "system package missing"


def pytest_terminal_summary(terminalreporter):
    """Names each missing package once, with how to get it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if _MARK in reason:
            terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)


# Those of the longest files come first: where two files run at a time, one of them at the end would run alone.
_LONGEST = (
    "test_devices",
    "test_hosts",
    "test_pjrt",
    "test_portable",
    "test_card",
    "test_train_command",
    "test_tpu_compiler",
    "test_lock",
    "test_prepare",
    "test_notebooks",
)


def pytest_collection_modifyitems(items):
    """Sorts the files of tests, the longest first; within a file the order stays."""
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.fixture(autouse=True, scope="module")
def _collected():
    """Lets go of a file's graphs at its end: TensorFlow traces slower and slower among those of all files before."""
    yield
    gc.collect()
