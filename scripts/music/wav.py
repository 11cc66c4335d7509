"""16-bit WAV files that appear whole or not at all, and that remember what they were made from."""

import os
import pathlib
import struct

import numpy as np
import soundfile

LARGEST_BYTES = 2**32 - 4096
PARTIAL = ".part"


def write_whole(path, *pieces):
    """Writes bytes under a temporary name beside `path`, then renames: a killed run leaves no half file."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write(path, waveform, rate_hz, mark):
    """Writes float [sample, 2] within +-1 as 16-bit PCM, with the text `mark` in the file's comment."""
    pcm = np.clip(np.round(waveform * 32767.0), -32768, 32767).astype("<i2").tobytes()
    comment = mark.encode() + b"\0" * (2 - len(mark.encode()) % 2)
    comment = b"INFO" + b"ICMT" + struct.pack("<I", len(comment)) + comment
    form = struct.pack("<HHIIHH", 1, 2, rate_hz, rate_hz * 4, 4, 16)
    body = b"WAVE" + _chunk(b"fmt ", form) + b"data" + struct.pack("<I", len(pcm))
    # The comment comes last: readers that expect samples at byte 44 find them, and a file cut short has no mark.
    tail = _chunk(b"LIST", comment)
    size = len(body) + len(pcm) + len(tail)
    write_whole(path, b"RIFF" + struct.pack("<I", size), body, pcm, tail)


def _chunk(name, data):
    return name + struct.pack("<I", len(data)) + data


def made_from(path):
    """(mark, seconds) of a WAV written by `write`; (None, 0) where there is none or it cannot be read."""
    try:
        with soundfile.SoundFile(path) as file:
            return file.comment, file.frames / file.samplerate
    except (OSError, soundfile.LibsndfileError):
        return None, 0.0
