"""Scales of hearing and the tables made of them: the paper's section 2.2, equations 8, 9 and 11. NumPy, float64."""

import numpy as np

QUIET_LEVEL_RANGE_DB = (-20.0, 120.0)  # equation 9 leaves every scale at both ends: at 0 Hz it is infinite


def hz_to_bark(frequency_hz):
    """The critical-band rate of a frequency, z(f) = 6 asinh(f / 600 Hz) (Schroeder, Atal and Hall, 1979)."""
    return 6.0 * np.arcsinh(np.asarray(frequency_hz) / 600.0)


def bark_to_hz(bark):
    """The frequency whose critical-band rate is `bark`."""
    return 600.0 * np.sinh(np.asarray(bark) / 6.0)


def quiet_threshold_db(frequency_hz):
    """The level in dB SPL below which a tone is not heard in silence, kept within -20 and 120."""
    # Equation 9, in kHz. At 0 Hz the first term is infinite, and the clip takes it.
    f = np.maximum(np.asarray(frequency_hz, dtype=np.float64) / 1000.0, 1e-9)
    level_db = 3.64 * f**-0.8 - 6.5 * np.exp(-0.6 * (f - 3.3) ** 2) + 1e-3 * f**4
    return np.clip(level_db, *QUIET_LEVEL_RANGE_DB)


def spreading_db(distance_bark):
    """How far below a masker, in dB, its masking lies at `distance_bark` = z(maskee) - z(masker); 0 dB at no distance.

    It falls by 10 dB a Bark above the masker and by 25 below (Schroeder, Atal and Hall, 1979). The paper prints i - j,
    masker less maskee, which would turn that round.
    """
    # Equation 11.
    shifted_bark = np.asarray(distance_bark) + 0.474
    return 15.81 + 7.5 * shifted_bark - 17.5 * np.sqrt(1.0 + shifted_bark**2)


def bark_edges(rate_hz, bark_bands):
    """The edges, in Bark, of bands of equal Bark width from 0 to the Nyquist frequency: [bark_bands + 1]."""
    return np.linspace(0.0, hz_to_bark(rate_hz / 2), bark_bands + 1)


def overlap_hz(rate_hz, bands, bark_bands):
    """How many Hz each MDCT band (equation 3) shares with each Bark band: [bands, bark_bands].

    Each row adds up to the width of an MDCT band, each column to that of its Bark band.
    """
    # Equation 3.
    mdct_edges_hz = np.linspace(0.0, rate_hz / 2, bands + 1)
    bark_edges_hz = bark_to_hz(bark_edges(rate_hz, bark_bands))
    low_hz = np.maximum(mdct_edges_hz[:-1, np.newaxis], bark_edges_hz[np.newaxis, :-1])
    high_hz = np.minimum(mdct_edges_hz[1:, np.newaxis], bark_edges_hz[np.newaxis, 1:])
    return np.maximum(high_hz - low_hz, 0.0)
