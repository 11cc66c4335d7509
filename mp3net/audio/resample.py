"""Resampling by pieces, so that a crop is the same as that part of the whole file.

soxr rounds the ratio of rates such as 44,100 : 22,016 and drifts by 0.0005 samples in ten minutes, so that a crop which
began elsewhere would differ. Hence the output is cut into segments of 8 s, each resampled from a fresh start at a place
where samples of both rates coincide.
"""

import math
from dataclasses import dataclass

import numpy as np
import soxr

SEGMENT_S = 8
# Of samples at the lower rate, on either side: soxr HQ's filter has died away below 1e-6 after a quarter of that.
_MARGIN = 512


@dataclass(frozen=True)
class Piece:
    """Output samples `skip` to `skip + count` of resampling the source from `source_start` to `source_stop`."""

    source_start: int
    source_stop: int
    skip: int
    count: int


def output_frames(frames, rate_in_hz, rate_out_hz):
    """Samples per channel that `frames` of them become."""
    return round(frames * rate_out_hz / rate_in_hz)


def pieces(start, count, rate_in_hz, rate_out_hz):
    """Yields the `Piece`s that make up `count` output samples from `start` on.

    Sources overlap; `source_stop` may lie beyond the end of the source, where zeros are to be put.
    """
    if rate_in_hz == rate_out_hz:
        grid_in = grid_out = 1
        margin = 0
    else:
        divisor = math.gcd(rate_in_hz, rate_out_hz)
        grid_in, grid_out = rate_in_hz // divisor, rate_out_hz // divisor
        margin = math.ceil(_MARGIN * max(1, rate_in_hz / rate_out_hz))
    segment = SEGMENT_S * rate_out_hz
    position, end = start, start + count
    while position < end:
        stop = min(end, (position // segment + 1) * segment)
        cell = max(0, position // grid_out - math.ceil(margin / grid_in))
        source_stop = math.ceil(stop * rate_in_hz / rate_out_hz) + margin
        yield Piece(cell * grid_in, source_stop, position - cell * grid_out, stop - position)
        position = stop


def resample_piece(source, piece, rate_in_hz, rate_out_hz):
    """float32 `[piece.count, channel]` from `source`, float32 `[sample, channel]` from `piece.source_start` on.

    Where `source` is shorter than the piece asks for, zeros follow it.
    """
    missing = piece.source_stop - piece.source_start - len(source)
    if missing > 0:
        source = np.pad(source, ((0, missing), (0, 0)))
    if rate_in_hz != rate_out_hz:
        source = soxr.resample(source, rate_in_hz, rate_out_hz, quality="HQ")
    return source[piece.skip : piece.skip + piece.count]
