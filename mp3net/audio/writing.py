"""Writing audio files so that no half a file is ever left, and clipping is counted rather than wrapped."""

import errno
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
        if (self._format, self._subtype) == ("wav", "PCM_16"):
            self._file = open(self._partial, "wb")
            self._file.write(riff.pcm16_header(self._rate_hz, self._channels, 0))
        else:
            open(self._partial, "wb").close()  # soundfile's own error would not say what the system refused
            self._file = soundfile.SoundFile(
                self._partial, "w", self._rate_hz, self._channels, self._subtype, format=self._format.upper()
            )
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
        if isinstance(self._file, soundfile.SoundFile):
            self._soundfile_call(self._file.write, block)
        elif self.frames * self._channels * 2 > riff.MAX_DATA_BYTES:
            raise AudioFileError(self.path, "too long: a WAV file holds 4 GiB")
        else:
            self._file.write(np.ascontiguousarray(block))

    def discard(self):
        """Gives up what was written: the file will not appear under its name."""
        self._kept = False

    def __exit__(self, kind, error, trace):
        try:
            if kind is None and not isinstance(self._file, soundfile.SoundFile):
                self._file.seek(0)
                self._file.write(riff.pcm16_header(self._rate_hz, self._channels, self.frames))
            self._soundfile_call(self._file.close)
            if kind is None and self._kept:
                os.replace(self._partial, self.path)
        except OSError as refused:
            if kind is None:
                raise OSError(refused.errno, refused.strerror, self.path) from refused
        finally:
            if os.path.exists(self._partial):
                os.unlink(self._partial)
        if isinstance(error, OSError) and error.filename is None and error.errno:  # a failed write names no file
            raise OSError(error.errno, error.strerror, self.path) from error

    def _soundfile_call(self, call, *arguments):
        try:
            call(*arguments)
        except (soundfile.LibsndfileError, AssertionError) as error:  # a short write fails soundfile's own assertion
            reason = str(error) or "No space left on device"
            if os.strerror(errno.ENOSPC) in reason:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path) from error
            raise AudioFileError(self.path, f"could not be written ({reason})") from error


def partial_name(path):
    """The hidden name, in the same folder, under which this process writes `path` until it is complete."""
    folder, name = os.path.split(os.fspath(path))
    return os.path.join(folder, f".{name}.{os.getpid()}.partial")
