"""The hum of transposed convolutions, as a number: section 4.3.1, and Odena et al., 2016.

A checkerboard of a stride-2 layer repeats, in the amplitudes, every 2 blocks of that layer's output. Each model block
has two such layers, so the shallowest repeats every 2 and 4 blocks of the song, the next every 8 and 16. What repeats
exactly is a line in the spectrum along the blocks, and stands above its neighbours there however loud the music is.
"""

import numpy as np

PERIODS = (
    2,
    4,
    8,
    16,
)  # blocks: those of the two shallowest model blocks, which the paper trains alone to be rid of it
FLOOR_DB = -60.0
_LONGEST, _NEIGHBOURS = 1024, 6


def hum_db(amplitudes):
    """The share of the energy of amplitudes `[block, band, channel]` that repeats every so many blocks, dB.

    Returns: {period: dB}, each without what the shorter periods hold already, and "all", their sum; `FLOOR_DB` where
    there is none. None for less than 8 times the longest period.
    """
    length = min(_LONGEST, 2 ** int(np.log2(max(1, len(amplitudes)))))
    if length < 8 * max(PERIODS):
        return None
    segments = amplitudes[: len(amplitudes) // length * length].reshape(-1, length, *amplitudes.shape[1:])
    # One number for each rhythm, 0 to 1/2 cycles a block; all but the first and the last stand for two.
    spectrum = sum(np.square(np.abs(np.fft.rfft(segment, axis=0))).sum(axis=(1, 2)) for segment in segments)
    spectrum[1:-1] *= 2
    total, seen, found = spectrum.sum(), set(), {}
    for period in PERIODS:
        lines = {length * i // period for i in range(1, period // 2 + 1)} - seen
        seen |= lines
        found[period] = sum(_above_neighbours(spectrum, line) for line in lines) / max(total, 1e-30)
    found["all"] = sum(found.values())
    return {period: max(FLOOR_DB, 10 * np.log10(max(share, 1e-30))) for period, share in found.items()}


def _above_neighbours(spectrum, line):
    """What a line has beyond the median of those around it."""
    around = [i for i in range(line - _NEIGHBOURS, line + _NEIGHBOURS + 1) if i != line and 0 < i < len(spectrum) - 1]
    weight = 0.5 if line == len(spectrum) - 1 else 1.0  # the last stands for one only
    return spectrum[line] - weight * np.median(spectrum[around])
