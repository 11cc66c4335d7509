"""Measures of sets of songs, on waveforms alone, so that any system can be scored."""

import numpy as np
import tensorflow as tf

from mp3net.audio.mdct import MDCT
from mp3net.audio.psychoacoustics import PsychoacousticModel

_FLOOR_POWER = 1e-10  # of MDCT amplitudes, -100 dB: silence is far from music, but not infinitely far


class SpectralMeasures:
    """What short-range quality shows in: tonality, and the average spectrum. Songs are added one at a time, in bounded
    memory.

    Args:
      rate_hz: of the songs.
      bands: of the MDCT that they are seen through.
    """

    def __init__(self, rate_hz, bands):
        self._mdct, self._model = MDCT(bands), PsychoacousticModel(rate_hz, bands)
        self._bands = bands
        self._blocks, self._tonality, self._level_db = 0, 0.0, np.zeros(bands)

    def add(self, waveform):
        """Takes a song `[sample, channel]`; samples beyond a whole number of blocks are left out."""
        whole = waveform[: len(waveform) // self._bands * self._bands]
        amplitudes = self._mdct.forward(tf.constant(whole, tf.float32)[None])
        tonality = self._model.tonality(amplitudes).numpy()
        level_db = 10 * np.log10(np.square(amplitudes.numpy(), dtype=np.float64) + _FLOOR_POWER)
        blocks = amplitudes.shape[1]
        self._tonality += blocks * float(np.mean(tonality))
        self._level_db += level_db[0].sum(axis=0).mean(axis=-1)
        self._blocks += blocks

    @property
    def tonality(self):
        """Mean over all blocks and channels of equation 13: near 0 for noise, 1 for a pure tone (section 4.3.1)."""
        return self._tonality / self._blocks

    @property
    def spectrum_db(self):
        """Mean level of each band in dB, `[band]`."""
        return self._level_db / self._blocks


def log_spectral_distance(first, second):
    """The root mean square over the bands of the difference of two sets' average spectra, dB."""
    return float(np.sqrt(np.mean(np.square(first.spectrum_db - second.spectrum_db))))
