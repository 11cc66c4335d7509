"""A song as the measures see it: amplitudes, spectra, chroma and onsets, each computed once."""

import functools

import numpy as np
import tensorflow as tf

from mp3net.audio.bark import bark_edges, bark_to_hz
from mp3net.audio.mdct import MDCT

BARK_BANDS = 24
FLOOR_DB = -100.0  # of levels: silence is far below music, but not infinitely far
_LONG_S, _SHORT_S = 0.186, 0.046  # windows: for pitch, and for time
_LOWEST_OCTAVE_HZ = 110.0
_LOWEST_HZ, _HIGHEST_HZ = 55.0, 2000.0  # of chroma: above, harmonics outnumber the notes


class Song:
    """One song.

    Args:
      name: for messages.
      waveform: float `[sample, channel]`, finite.
      rate_hz: its rate.
      bands: of the MDCT that the paper's measures look through.
    """

    def __init__(self, name, waveform, rate_hz, bands=128):
        self.name, self.rate_hz, self.bands = name, rate_hz, bands
        self.waveform = np.asarray(waveform, np.float32)
        self.seconds = len(self.waveform) / rate_hz

    @functools.cached_property
    def mono(self):
        """The mean of the channels, `[sample]`."""
        return self.waveform.mean(axis=1)

    @functools.cached_property
    def amplitudes(self):
        """MDCT amplitudes `[block, band, channel]`; samples beyond a whole number of blocks are left out."""
        whole = self.waveform[: len(self.waveform) // self.bands * self.bands]
        return _mdct(self.bands).forward(tf.constant(whole)[None])[0].numpy()

    @functools.cached_property
    def chroma(self):
        """The share of each pitch class, C first, 0 in silence: `[frame, 12]`, every `frame_s` seconds."""
        power = _spectrogram(self.mono, self._long, self._long // 4) @ _chroma_table(self.rate_hz, self._long)
        total = power.sum(axis=1, keepdims=True)
        return np.where(total > 1e-12, power / np.maximum(total, 1e-12), 0.0)

    @functools.cached_property
    def levels_db(self):
        """The level of each Bark band in each frame, dB relative to full scale: `[frame, BARK_BANDS]`."""
        power = _spectrogram(self.mono, self._long, self._long // 4)
        return _db(power @ _bark_table(self.rate_hz, self._long))

    @property
    def frame_s(self):
        """Seconds from a frame of `chroma` and `levels_db` to the next."""
        return self._long // 4 / self.rate_hz

    @functools.cached_property
    def quick_levels_db(self):
        """As `levels_db`, with windows short enough to see notes begin: every `quick_s` seconds."""
        return _db(self._quick_power @ _bark_table(self.rate_hz, self._short))

    @functools.cached_property
    def octave_levels_db(self):
        """The level of each whole octave from 110 Hz up, as often as `quick_levels_db`: `[frame, octave]`."""
        return _db(self._quick_power @ _octave_table(self.rate_hz, self._short))

    @functools.cached_property
    def _quick_power(self):
        return _spectrogram(self.mono, self._short, self._short // 4)

    @property
    def quick_s(self):
        """Seconds from a frame of `quick_levels_db`, `octave_levels_db` and `onsets` to the next."""
        return self._short // 4 / self.rate_hz

    @functools.cached_property
    def onsets(self):
        """How much the bands' levels rise from a frame to the next, dB, the mean over those above silence: `[frame]`.

        What is 60 dB below the song's loudest band does not count: noise rises and falls too.
        """
        levels = np.maximum(self.quick_levels_db, self.quick_levels_db.max(initial=FLOOR_DB) - 60.0)
        rises = np.maximum(np.diff(levels, axis=0, prepend=levels[:1]), 0.0)
        return rises.mean(axis=1)

    @property
    def _long(self):
        return _power_of_two(_LONG_S * self.rate_hz)

    @property
    def _short(self):
        return _power_of_two(_SHORT_S * self.rate_hz)


def bark_edges_hz(rate_hz):
    """The edges of the Bark bands of `levels_db`, Hz: `[BARK_BANDS + 1]`."""
    return bark_to_hz(bark_edges(rate_hz, BARK_BANDS))


@functools.cache
def _mdct(bands):
    return MDCT(bands)


def _power_of_two(count):
    return max(64, 2 ** round(np.log2(count)))


def _spectrogram(mono, size, hop):
    """Power `[frame, size // 2 + 1]` of Hann windows, 1 at the peak of a full-scale sine; short songs are padded."""
    if len(mono) < size:
        mono = np.pad(mono, (0, size - len(mono)))
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    parts = [np.fft.rfft(frames[i : i + 512] * window) for i in range(0, len(frames), 512)]  # bounds the memory
    return np.concatenate([np.square(np.abs(part)).astype(np.float32) for part in parts]) / np.square(size / 4)


def _db(power):
    return 10 * np.log10(power + 10 ** (FLOOR_DB / 10))


@functools.cache
def _bark_table(rate_hz, size):
    """Which Bark band each bin of a spectrum is in: `[bin, BARK_BANDS]`."""
    hz = np.arange(size // 2 + 1) * rate_hz / size
    band = np.clip(np.searchsorted(bark_edges_hz(rate_hz), hz, side="right") - 1, 0, BARK_BANDS - 1)
    return np.eye(BARK_BANDS, dtype=np.float32)[band]


@functools.cache
def _octave_table(rate_hz, size):
    """Which octave from `_LOWEST_OCTAVE_HZ` each bin is in: `[bin, octave]`."""
    hz = np.arange(size // 2 + 1) * rate_hz / size
    octave = np.floor(np.log2(np.maximum(hz, 1.0) / _LOWEST_OCTAVE_HZ)).astype(int)
    whole = max(1, int(np.log2(rate_hz / 2 / _LOWEST_OCTAVE_HZ)))
    return (octave[:, None] == np.arange(whole)).astype(np.float32)


@functools.cache
def _chroma_table(rate_hz, size):
    """Which pitch class each bin is of, equal temperament at A = 440 Hz: `[bin, 12]`."""
    hz = np.arange(size // 2 + 1) * rate_hz / size
    heard = (hz >= _LOWEST_HZ) & (hz <= min(_HIGHEST_HZ, rate_hz / 2))
    pitch = np.round(12 * np.log2(np.maximum(hz, 1.0) / 440.0)).astype(int) + 9  # A is the ninth above C
    return (np.eye(12)[pitch % 12] * heard[:, None]).astype(np.float32)
