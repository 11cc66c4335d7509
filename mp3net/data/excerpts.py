"""Excerpts of recordings as long as songs, and at their level: what songs are compared with, by measure and by ear."""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from mp3net.audio import files
from mp3net.audio.resample import output_frames


@functools.cache
def gain(recording, peak, rate_hz, channels, upmix=False):
    """What brings a `Recording` to `peak` (None: 1); one whose corpus does not say its peak is read through, once."""
    if peak is None:
        return 1.0
    found = recording.peak
    if found is None:
        found = files.peak(recording.path, rate_hz, channels, upmix)
    return peak / found if found > 0 else 1.0


@dataclass(frozen=True)
class Excerpt:
    """`seconds` of a `Recording` from `start_s` on."""

    recording: object
    start_s: float
    seconds: float

    @property
    def name(self):
        """Which it is, for a person."""
        return f"{self.recording.audio_filename} at {self.start_s:.1f} s"

    def read(self, rate_hz, channels, peak=None):
        """(the waveform `[sample, channel]`, at the level that `peak` gives its recording; what full scale became).

        Of `channels` at most: a recording with fewer keeps its own, one with more than 2 is mixed down.
        """
        own = self.recording.channels
        channels = min(channels, own) if own <= 2 else 1
        whole = output_frames(self.recording.frames, self.recording.rate_hz, rate_hz)
        start = min(round(self.start_s * rate_hz), whole - 1)
        count = min(round(self.seconds * rate_hz), whole - start)
        scale = gain(self.recording, peak, rate_hz, channels)
        return scale * files.read_crop(self.recording.path, start, count, rate_hz, channels), scale


def excerpts(recordings, seconds, whole_too=False):
    """Excerpts of `seconds`, in a fixed order, one of each recording in turn until none is left.

    Args:
      recordings: `Recording`s.
      seconds: of each.
      whole_too: takes recordings that are shorter, whole; else they are left out.

    Returns: (those that do not overlap, the ends of recordings, each of which overlaps with the last one before it).
    """
    slices, ends = [], []
    for i in np.random.default_rng(0).permutation(len(recordings)):
        recording = recordings[i]
        count = int(recording.duration_s / seconds)
        if count == 0 and whole_too:
            slices.append([Excerpt(recording, 0.0, recording.duration_s)])
        if count:
            places = np.random.default_rng([1, int(i)]).permutation(count)
            slices.append([Excerpt(recording, float(place * seconds), seconds) for place in places])
            if recording.duration_s - count * seconds > 0.01 * seconds:
                ends.append(Excerpt(recording, recording.duration_s - seconds, seconds))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*slices))
    return [each for each in turns if each is not None], ends
