"""Recordings of an export: as 16-bit WAV where they fit, else as FLAC, else as Ogg, as many as fit."""

import os
import pathlib
import shutil
import time

import numpy as np
import soundfile

from mp3net.audio import files
from mp3net.errors import UserError
from mp3net.portable import sound

_FORMATS = ("wav", "flac", "ogg")  # the larger first; the first two lose nothing
_TELL_EVERY_S = 10.0


def write(folder, pipeline, limit_bytes, log):
    """Writes a pipeline's recordings at its rate, in one format for all, so that they take `limit_bytes` at most.

    Where not even Ogg holds all, the first of a fixed shuffle that fit are kept, and `log` is told how many hours.

    Returns: (`Recording`, name of the file, samples per channel) of each that was kept, in the corpus's order.
    Raises `UserError` where none fits.
    """
    folder = pathlib.Path(folder)
    order = np.random.default_rng(0).permutation(len(pipeline.recordings))
    if pipeline.resamples:
        log(f"{pipeline.resamples} recordings are resampled and kept at 16 bits, so crops of them differ by rounding")
    for ending in _FORMATS:
        limit = limit_bytes - (0 if ending == "wav" else os.path.getsize(_decoder()))
        kept, used = _write_as(folder, ending, pipeline, order, limit, log)
        if len(kept) == len(order) or ending == _FORMATS[-1]:
            break
    if not kept:
        raise UserError("No recording fits the room that --export_mib leaves. Raise it, or give shorter recordings.")
    if ending != "wav":
        shutil.copy(_decoder(), folder / sound.LIBRARY)
    hours, whole = (sum(pipeline.recordings[i].duration_s for i in some) / 3600 for some in (kept, order))
    log(f"{hours:.2f} of {whole:.2f} h of recordings, {len(kept)} of {len(order)}, as {ending}, {used / 2**20:.1f} MiB")
    if ending == "ogg":
        log("Ogg loses what is hardly heard: crops differ by that from those that train reads here")
    return [(pipeline.recordings[i], name, frames) for i, (name, frames) in sorted(kept.items())]


def _write_as(folder, ending, pipeline, order, limit, log):
    """({index of a recording: (file, samples per channel)}, bytes) of those before the first that does not fit."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept, used, last_line = {}, 0, time.monotonic()
    for index in order:
        recording, name = pipeline.recordings[index], f"{index:05d}.{ending}"
        with files.Writer(folder / name, pipeline.rate_hz, pipeline.channels, ending) as writer:
            blocks = files.stream(recording.path, pipeline.rate_hz, pipeline.channels, pipeline.settings.upmix)
            for block in blocks:
                writer.write(block)
        size = os.path.getsize(folder / name)
        if used + size > limit:
            os.remove(folder / name)
            return kept, used
        kept[int(index)], used = (name, writer.frames), used + size
        if time.monotonic() - last_line >= _TELL_EVERY_S:
            last_line = time.monotonic()
            log(f"writing recordings as {ending}: {len(kept)} of {len(order)}, {used / 2**20:.1f} MiB")
    return kept, used


def _decoder():
    """The libsndfile that the soundfile package brings."""
    folder = pathlib.Path(soundfile.__file__).parent / "_soundfile_data"
    libraries = sorted(folder.glob("libsndfile*.so")) or sorted(folder.glob("libsndfile*"))
    if not libraries:
        raise UserError(
            "The recordings do not fit as WAV, and this soundfile package brings no decoder to take along: raise "
            "--export_mib, or pip install --force-reinstall soundfile."
        )
    return libraries[0]
