"""What a worker of `mp3net.prepare` does: one recording to one 16-bit WAV. Imports neither TensorFlow nor gin."""

import multiprocessing
import os
import threading
from dataclasses import dataclass

import numpy as np

from mp3net.audio.files import Writer, stream

# A recording is scaled down only where its resampled peak would exceed this.
CEILING = 0.999

_stop = None


@dataclass(frozen=True)
class Settings:
    """How recordings are converted: the rate and the channels of the result, and whether mono may become stereo."""

    rate_hz: int = 22016
    channels: int = 2
    upmix: bool = False


@dataclass(frozen=True)
class Converted:
    """A written file: samples per channel, its peak, and the gain (1.0 or less) that made it from the recording."""

    frames: int
    peak: float
    gain: float


class Stopped(Exception):
    """The parent asked the workers to stop."""


def start_worker(stop):
    """The initializer of a worker. `stop` is an event that ends its work; so does the death of the parent."""
    global _stop
    _stop = stop
    threading.Thread(target=_leave_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _leave_with(parent):
    parent.join()  # returns even when the parent was killed with -9, after which the pool would wait for ever
    os._exit(1)


def convert(source, target, settings):
    """Writes `target`, a WAV, from the recording `source`, and returns what came out as `Converted`.

    Raises `AudioFileError` where the recording is at fault, `OSError` where the disk is, `Stopped` where asked to.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with Writer(target, settings.rate_hz, settings.channels) as writer:
        for block in _blocks(source, settings):
            writer.write(block)
        if writer.loudest > CEILING:
            writer.discard()
    if writer.loudest <= CEILING:
        return Converted(writer.frames, _rounded(writer.loudest), 1.0)
    gain = np.float32(CEILING / writer.loudest)
    with Writer(target, settings.rate_hz, settings.channels) as writer:
        for block in _blocks(source, settings):
            writer.write(block * gain)
    return Converted(writer.frames, _rounded(writer.loudest), float(gain))


def _rounded(peak):
    """What a 16-bit file holds of a peak below 1."""
    return round(peak * 32768) / 32768


def _blocks(source, settings):
    for block in stream(source, settings.rate_hz, settings.channels, settings.upmix):
        if _stop is not None and _stop.is_set():
            raise Stopped
        yield block
