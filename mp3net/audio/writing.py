"""Writing audio files so that no half a file is ever left, and clipping is counted rather than wrapped."""

import contextlib
import io
import os

import numpy as np
import soundfile

from mp3net.audio import riff
from mp3net.audio.riff import AudioFileError

_SUBTYPES = {"wav": ("PCM_16", "FLOAT"), "flac": ("PCM_16",), "ogg": ("VORBIS",)}


def write(path, waveform, rate_hz, format=None, subtype=None):
    """Writes `[sample, channel]` floats in -1..1 and returns how many samples lay outside and were clipped.

    `format` is "wav", "flac" or "ogg" (None: from the path's ending); `subtype` "PCM_16" or, for wav only, "FLOAT",
    which clips nothing. The file appears under its name only when complete.
    Raises `AudioFileError` for a format that does not fit or NaN, `OSError` where the disk refuses.
    """
    waveform = np.asarray(waveform)
    with Writer(path, rate_hz, waveform.shape[1], format, subtype) as writer:
        for start in range(0, len(waveform), rate_hz):  # libsndfile's Vorbis encoder overflows the stack on long writes
            writer.write(waveform[start : start + rate_hz])
    return writer.clipped


class Writer:
    """Writes an audio file block by block, as a context manager: `with Writer(...) as writer: writer.write(block)`.

    Goes to a hidden `.partial` file beside `path`, renamed at the end; removed where the block raised.
    `clipped` counts samples outside -1..1, `loudest` is the largest absolute sample before clipping and rounding,
    `frames` counts samples per channel. Arguments as of `write`.
    """

    def __init__(self, path, rate_hz, channels, format=None, subtype=None):
        self.path = os.fspath(path)
        self.clipped, self.frames, self.loudest = 0, 0, 0.0
        self._format = (format or os.path.splitext(self.path)[1].lstrip(".")).lower()
        if self._format not in _SUBTYPES:
            raise AudioFileError(path, f"cannot write '{self._format}' files; use {', '.join(_SUBTYPES)}")
        self._subtype = subtype or _SUBTYPES[self._format][0]
        if self._subtype not in _SUBTYPES[self._format]:
            raise AudioFileError(path, f"{self._format} files are written as {_SUBTYPES[self._format]}, not {subtype}")
        self._rate_hz, self._channels = rate_hz, channels
        self._kept = True
        self._partial = partial_name(self.path)

    def __enter__(self):
        self._file = open(self._partial, "wb")
        if (self._format, self._subtype) == ("wav", "PCM_16"):
            self._sound = None
            self._file.write(riff.pcm16_header(self._rate_hz, self._channels, 0))
        else:  # encoded in memory, since libsndfile does not say why a write to the disk failed, or that it did
            self._encoded = io.BytesIO()
            arguments = self._rate_hz, self._channels, self._subtype
            self._sound = soundfile.SoundFile(self._encoded, "w", *arguments, format=self._format.upper())
        return self

    def write(self, block):
        """Appends `[sample, channel]` floats."""
        block = np.asarray(block)
        loudest = max(float(block.max(initial=0)), -float(block.min(initial=0)))  # NaN where one sample is NaN
        if not np.isfinite(loudest):
            raise AudioFileError(self.path, "not written: the waveform holds NaN or infinity")
        if loudest > 1 and self._subtype != "FLOAT":
            self.clipped += int(np.count_nonzero(np.abs(block) > 1))
            block = np.clip(block, -1, 1)
        if self._subtype == "PCM_16":  # rounded here: libsndfile scales by 32767 on writing and 32768 on reading
            block = np.rint(block * np.float32(32768)).clip(-32768, 32767).astype("<i2")
        elif self._subtype == "FLOAT":
            block = block.astype(np.float32)
        self.loudest = max(self.loudest, loudest)
        self.frames += len(block)
        if self._sound:
            self._sound.write(block)
        elif self.frames * self._channels * 2 > riff.MAX_DATA_BYTES:
            raise AudioFileError(self.path, "too long: a WAV file holds 4 GiB")
        else:
            self._file.write(np.ascontiguousarray(block))

    def discard(self):
        """Gives up what was written: the file will not appear under its name."""
        self._kept = False

    def __exit__(self, kind, error, trace):
        try:
            if kind is None and self._kept:
                self._finish()
                os.replace(self._partial, self.path)
        except OSError as refused:
            raise OSError(refused.errno, refused.strerror, self.path) from refused
        finally:
            with contextlib.suppress(OSError):  # bytes that the disk refused once are refused again
                self._file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._partial)
        if isinstance(error, OSError) and error.filename is None and error.errno:  # a failed write names no file
            raise OSError(error.errno, error.strerror, self.path) from error

    def _finish(self):
        if self._sound:
            self._sound.close()
            self._file.write(self._encoded.getbuffer())
        else:
            self._file.seek(0)
            self._file.write(riff.pcm16_header(self._rate_hz, self._channels, self.frames))
        self._file.close()


def partial_name(path):
    """The hidden name, in the same folder, under which this process writes `path` until it is complete."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.join(folder, f".{name}.{os.getpid()}.partial")
