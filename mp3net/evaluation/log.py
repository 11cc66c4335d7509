"""A run's log, metrics.jsonl, as curves."""

import json
import math
import os

import numpy as np

from mp3net.audio import riff
from mp3net.errors import UserError


def path_of(workdir):
    """Where a run's log is."""
    return os.path.join(os.fspath(workdir), "metrics.jsonl")


def curves(workdir, names):
    """Some of the numbers that a run has logged.

    A row that lacks one is no point of its curve; a last line without its end is left out: a run that goes on, or was
    killed, leaves one.

    Returns: ({name: (steps, values)}, float64 arrays, by step; warnings, a sentence each).
    Raises: `UserError` where there is no log, or it is damaged.
    """
    path = path_of(workdir)
    try:
        with riff.open_binary(path) as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        what = "has no metrics.jsonl" if os.path.isdir(workdir) else "is no folder"
        raise UserError(f"{workdir} {what}: give the working directory of a run of mp3net.train.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    warnings = ["its last line is not complete, and left out"] if lines.pop().strip() else []
    found = {name: {} for name in names}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, names, f"{path}, line {number}")
            for name, points in found.items():
                if math.isfinite(row.get(name, math.nan)):
                    points[row["step"]] = row[name]
    arrays = {name: np.array(sorted(points.items()), float).reshape(-1, 2).T for name, points in found.items()}
    return {name: tuple(each) for name, each in arrays.items()}, warnings


def _row(line, names, where):
    """The step and the named numbers of a row of a log, as floats. Raises `UserError`."""
    try:
        row = json.loads(line)
        row = {name: row[name] for name in {"step", *names} & {"step", *row}}
        if not all(isinstance(number, int | float) for number in row.values()) or not math.isfinite(row["step"]):
            raise ValueError(row)
        return {name: float(number) for name, number in row.items()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError(
            f"{where}: damaged, no row of a log. Delete that line and run the same command again."
        ) from None
