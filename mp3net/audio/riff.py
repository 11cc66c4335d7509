"""16-bit PCM WAV files by seek and read, on local disks and on what `tf.io.gfile` reaches (gs://)."""

import contextlib
import functools
import os
import struct
from dataclasses import dataclass

import numpy as np

from mp3net.errors import UserError

_PCM, _EXTENSIBLE = 1, 0xFFFE
_HEADER_BYTES = 44
MAX_DATA_BYTES = 2**32 - 1 - _HEADER_BYTES


class AudioFileError(UserError):
    """An audio file that cannot be used; the message names the file, `reason` says why."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason

    def __reduce__(self):  # the default would call the constructor with the message alone, in another process
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class WavHeader:
    """Where a WAV's samples lie. `data_bytes` is what the header promises, `file_bytes` what the file has."""

    is_pcm16: bool
    rate_hz: int
    channels: int
    frame_bytes: int
    data_offset: int
    data_bytes: int
    file_bytes: int

    @property
    def frames(self):
        """Samples per channel that are really there."""
        return min(self.data_bytes, self.file_bytes - self.data_offset) // self.frame_bytes

    @property
    def promised_frames(self):
        """Samples per channel that the header says there are."""
        return self.data_bytes // self.frame_bytes


def is_remote(path):
    """Whether `path` is a URL, such as gs://, that only `tf.io.gfile` opens."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def open_binary(path):
    """Opens `path` for reading bytes, in a `with`; remote ones through `tf.io.gfile`, imported only then.

    Raises `OSError` as `open` does; for remote files `AudioFileError`.
    """
    if not is_remote(path):
        with open(path, "rb") as file:
            yield file
        return
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            yield file
    except tf.errors.OpError as error:
        raise AudioFileError(path, f"cannot be read ({error.message})") from None


def read_header(path):
    """The `WavHeader` of a file, or None where it is no RIFF WAV (RF64 included) or has no fmt or data chunk.

    Parsed once for each version of a file. Raises `OSError` as `open` does.
    """
    if is_remote(path):
        return _parse(os.fspath(path), None, None)
    stat = os.stat(path)
    return _parse(os.fspath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)
def _parse(path, file_bytes, _version):
    with open_binary(path) as file:
        if file_bytes is None:
            file_bytes = file.size()
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        form, position = None, 12
        while position + 8 <= file_bytes:
            file.seek(position)
            name, size = struct.unpack("<4sI", file.read(8))
            if name == b"fmt " and size >= 16:
                form = file.read(min(size, 40))
            elif name == b"data" and form:
                return _header(form, position + 8, size, file_bytes)
            position += 8 + size + size % 2
    return None


def _header(form, data_offset, data_bytes, file_bytes):
    if len(form) < 16:
        return None
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack("<H", form[24:26])[0]
    if frame_bytes == 0 or channels == 0 or rate_hz == 0:
        return None
    if data_bytes in (0, 0xFFFFFFFF) and file_bytes > data_offset:  # written to a pipe: the length was never known
        data_bytes = file_bytes - data_offset
    pcm16 = tag == _PCM and bits == 16 and frame_bytes == 2 * channels
    return WavHeader(pcm16, rate_hz, channels, frame_bytes, data_offset, data_bytes, file_bytes)


def read_pcm16(path, header, start, count):
    """float32 `[sample, channel]` of `count` samples from `start` on of a 16-bit PCM WAV: one seek, one read.

    Raises `AudioFileError` where the file ends before.
    """
    with open_binary(path) as file:
        file.seek(header.data_offset + start * header.frame_bytes)
        data = file.read(count * header.frame_bytes)
    if len(data) < count * header.frame_bytes:
        raise AudioFileError(path, f"ends before sample {start + count}; it was cut short, prepare or copy it again")
    samples = np.frombuffer(data, "<i2").reshape(count, header.channels)
    return np.multiply(samples, np.float32(1 / 32768), dtype=np.float32)


def pcm16_header(rate_hz, channels, frames):
    """The 44 bytes that go before `frames` interleaved 16-bit samples per channel."""
    size = frames * channels * 2
    rates = (rate_hz, rate_hz * channels * 2, channels * 2, 16)
    return struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", size + _HEADER_BYTES - 8, b"WAVEfmt ", 16, _PCM, channels, *rates, b"data", size
    )
