"""Tonality, the paper's key figure for short-range quality (equation 13, section 4.3.1), whole and by octaves."""

import functools

import tensorflow as tf

from mp3net.audio.psychoacoustics import PsychoacousticModel

_FEWEST_BANDS = 8  # of an octave: with fewer, flatness says little


def octaves(bands):
    """Slices of the octaves of an MDCT, the highest first: the upper half of the bands, that of the rest, and so on."""
    found = []
    while bands // 2 >= _FEWEST_BANDS:
        found.append(slice(bands // 2, bands))
        bands //= 2
    return found


def tonality(amplitudes, rate_hz):
    """The mean over blocks and channels of amplitudes `[block, band, channel]`: near 0 for noise, 1 for a pure tone."""
    return float(tf.reduce_mean(_model(rate_hz, amplitudes.shape[1]).tonality(tf.constant(amplitudes)[None])))


def by_octave(amplitudes, rate_hz):
    """That of the bands of each of `octaves` alone, the highest first: a list. The paper finds the highest weak."""
    return [tonality(amplitudes[:, octave], rate_hz) for octave in octaves(amplitudes.shape[1])]


def noised(amplitudes, rate_hz, seed=0):
    """That of the amplitudes as D sees them, with the psychoacoustic noise, as the paper's 72-73 % were read."""
    model, batch = _model(rate_hz, amplitudes.shape[1]), tf.constant(amplitudes)[None]
    return tonality(model.add_noise(batch, model.threshold(batch), [seed, 0])[0].numpy(), rate_hz)


@functools.cache
def _model(rate_hz, bands):
    return PsychoacousticModel(rate_hz, bands)
