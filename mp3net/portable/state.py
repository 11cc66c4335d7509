"""The state of a run, as files that are small enough to carry: part-000.bin and so on, then state.json. Needs NumPy.

A folder without state.json is not a state, so one that was cut short hides nothing.
"""

import json
import os
import pathlib
import shutil
import zlib

import numpy as np

from mp3net.errors import UserError

PART_BYTES = 15 * 2**20  # of a file
_STATE = "state.json"


def write(folder, values, record):
    """Writes arrays, in order, and what else is to be known of them, plain JSON, to `folder`, which is made anew."""
    folder = pathlib.Path(folder)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    parts = []
    for part in _cut(values):
        (folder / f"part-{len(parts):03d}.bin").write_bytes(part)
        parts.append([len(part), zlib.crc32(part)])
    partial = folder / (_STATE + ".partial")
    partial.write_text(json.dumps({**record, "parts": parts}, indent=1))
    os.replace(partial, folder / _STATE)


def read(folder, variables):
    """(arrays, record) that `write` has written, of `variables`, [shape, dtype of NumPy].

    Raises `UserError` where a file is missing, cut short or damaged, or where they are of other variables.
    """
    folder = pathlib.Path(folder)
    record = _record(folder)
    content = b"".join(_part(folder / f"part-{i:03d}.bin", *part) for i, part in enumerate(record["parts"]))
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in variables]
    if sum(sizes) != len(content):
        raise UserError(f"{folder} is the state of another model: it has {len(content)} bytes, not {sum(sizes)}.")
    values, at = [], 0
    for (shape, dtype), size in zip(variables, sizes, strict=True):
        values.append(np.frombuffer(content, dtype, size // np.dtype(dtype).itemsize, at).reshape(shape))
        at += size
    return values, record


def newest(folder):
    """The newest complete state among the step-... folders of `folder`, or None."""
    folder = pathlib.Path(folder)
    steps = sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file()) if folder.is_dir() else []
    return steps[-1] if steps else None


def keep_last(folder, count):
    """Removes all but the `count` newest complete states of `folder`, and what an interrupted one has left."""
    complete = sorted(path for path in pathlib.Path(folder).glob("step-*") if (path / _STATE).is_file())
    for path in pathlib.Path(folder).glob("step-*"):
        if path not in complete[-count:]:
            (path / _STATE).unlink(missing_ok=True)
            shutil.rmtree(path)


def _cut(values):
    """The bytes of arrays, one after another, in pieces of `PART_BYTES`."""
    held = bytearray()
    for value in values:
        held += np.ascontiguousarray(value).tobytes()
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)


def _record(folder):
    try:
        record = json.loads((folder / _STATE).read_text())
        fits = isinstance(record["step"], int) and isinstance(record["averages"], dict)
        fits = fits and all(isinstance(number, int) for part in record["parts"] for number in part)
    except OSError:
        raise UserError(f"{folder} holds no state: {_STATE} is missing.") from None
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise UserError(f"{folder / _STATE} is damaged. Copy the folder again, or delete it to go on without it.")
    return record


def _part(path, size, checksum):
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path} is missing. Copy the folder again, or delete it to go on from an older one.") from None
    if len(content) != size or zlib.crc32(content) != checksum:
        raise UserError(
            f"{path} is cut short or damaged: {len(content)} bytes of {size}. Copy the folder again, or delete it to "
            "go on from an older one."
        )
    return content
