"""One pass over a song: the few numbers that stand for it in every measure of a set, so that none is held whole."""

from dataclasses import dataclass, field

import numpy as np

from mp3net.evaluation import coherence, hum, loudness, timbre, tonality
from mp3net.evaluation.song import Song

_WINDOW_S, _HOP_S = 1.0, 0.25


@dataclass
class Description:
    """What is kept of a song. Where a song is too short or too quiet for something, that is None."""

    name: str
    seconds: float
    recording: str | None = field(default=None, kw_only=True)  # which it is an excerpt of
    loudness: dict
    silent: bool
    tonality: float | None = None
    tonality_noised: float | None = None
    octaves: list = field(default_factory=list)
    hum_db: dict | None = None
    timbre: dict = field(default_factory=dict)
    rhythm: np.ndarray | None = None
    harmony: np.ndarray | None = None
    features: np.ndarray | None = None


def describe(name, waveform, rate_hz, bands=128, with_noise=False, full_scale=1.0):
    """The `Description` of a waveform `[sample, channel]`.

    `with_noise` also takes the tonality under the psychoacoustic noise. What is silent, below -60 dB RMS, has its
    loudness described and no more. `full_scale` is what it became where the waveform was scaled.
    """
    heard = loudness.loudness(waveform, rate_hz, full_scale)
    silent = heard["rms_db"] < loudness.SILENT_DB
    found = Description(name, len(waveform) / rate_hz, heard, silent)
    if silent or len(waveform) < 2 * bands:
        return found
    song = Song(name, waveform, rate_hz, bands)
    found.tonality = tonality.tonality(song.amplitudes, rate_hz)
    found.octaves = tonality.by_octave(song.amplitudes, rate_hz)
    found.tonality_noised = tonality.noised(song.amplitudes, rate_hz) if with_noise else None
    found.hum_db = hum.hum_db(song.amplitudes)
    found.timbre = timbre.timbre(song)
    found.rhythm, found.harmony = coherence.rhythm(song), coherence.harmony(song)
    found.features = features(song)
    return found


def features(song):
    """What a window of a second sounds like, every quarter of one: `[window, 36]`, float32.

    24 levels of Bark bands in tens of dB, then the shares of 12 pitch classes in tenths: so that both weigh alike.
    """
    frames = np.concatenate([song.levels_db / 10.0, song.chroma * 10.0], axis=1)
    width = max(1, min(len(frames), round(_WINDOW_S / song.frame_s)))
    hop = round(hop_s(song) / song.frame_s)
    sums = np.cumsum(np.pad(frames, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    starts = np.arange(0, len(frames) - width + 1, hop)
    return ((sums[starts + width] - sums[starts]) / width).astype(np.float32)


def hop_s(song):
    """Seconds from a window of `features` to the next: a whole number of frames."""
    return max(1, round(_HOP_S / song.frame_s)) * song.frame_s
