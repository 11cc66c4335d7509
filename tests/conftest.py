"""Quietens TensorFlow, and says at the end which system packages some tests went without."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_MARK = "system package missing"


def pytest_terminal_summary(terminalreporter):
    """Names each missing package once, with how to get it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if _MARK in reason:
            terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)
