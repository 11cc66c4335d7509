"""Spectrograms as PNG pictures, on one scale for all songs so that they can be compared: Hz by Bark, and dB.

Written with zlib alone, so that a page of songs needs no plotting library.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from mp3net.audio import bark

RANGE_DB = (-90.0, -15.0)  # of what the colours tell apart; a full-scale sine is at 0 dB
_COLOURS = 64  # more than the eye tells apart here, and few enough to compress well
_WIDTH, _HEIGHT = 800, 160  # pixels, whatever the song's length: about two for each on the screen
_WINDOW_S = (0.046, 0.093)  # of short songs and of long ones
# From silence to loud, of even steps in lightness: ink, plum, brick, sand, cream.
_STOPS = ((16, 16, 20), (44, 28, 54), (98, 38, 76), (162, 57, 70), (211, 98, 62), (236, 158, 88), (250, 222, 160))
_TICKS_HZ = (200, 500, 1000, 2000, 5000, 10000, 20000)
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


@dataclass(frozen=True)
class Picture:
    """A PNG of a song: `seconds` wide, 0 to `top_hz` high."""

    png: bytes
    seconds: float
    top_hz: float

    @property
    def ticks_hz(self):
        """Where to write which frequency: `[(Hz, share of the height from the bottom)]`."""
        whole = bark.hz_to_bark(self.top_hz)
        return [(hz, float(bark.hz_to_bark(hz) / whole)) for hz in _TICKS_HZ if hz < 0.9 * self.top_hz]

    @property
    def ticks_s(self):
        """Where to write which second: `[(seconds, share of the width)]`, six of them at most."""
        step = next((step for step in _STEPS_S if self.seconds / step < 5.5), _STEPS_S[-1])
        return [(i * step, i * step / self.seconds) for i in range(int(0.97 * self.seconds / step) + 1)]


def spectrogram(waveform, rate_hz):
    """The `Picture` of a finite waveform `[sample, channel]`: its power over channels, by FFT."""
    return Picture(png(_indices(waveform, rate_hz), palette()), len(waveform) / rate_hz, rate_hz / 2)


def signed(amplitudes):
    """The PNG of MDCT amplitudes `[block, band]`, as figure 1 has them, the highest band on top.

    Grey is none, lighter is positive and darker negative, in dB; a column that holds several blocks shows the largest.
    """
    each = max(1, len(amplitudes) // _WIDTH)
    groups = amplitudes[: len(amplitudes) // each * each].reshape(-1, each, amplitudes.shape[1])
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    low_db, high_db = RANGE_DB
    level = np.clip((20 * np.log10(np.abs(largest) + 1e-10) - low_db) / (high_db - low_db), 0, 1)
    shades = np.rint(128 + 127 * np.sign(largest) * level).astype(np.uint8)
    return png(shades.T[::-1], np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))


def _indices(waveform, rate_hz):
    """The palette's colour of each pixel, the highest frequency on top."""
    low_db, high_db = RANGE_DB
    shade = np.clip((levels_db(waveform, rate_hz) - low_db) / (high_db - low_db), 0, 1)
    return np.rint(shade * (_COLOURS - 1)).astype(np.uint8)[::-1]


def levels_db(waveform, rate_hz, width=_WIDTH, height=_HEIGHT):
    """What a spectrogram shows: dB `[height, width]`, the lowest frequency first, rows of equal width in Bark.

    A full-scale sine is at 0 dB where a row holds all of it and no more; the floor is at -200 dB.
    """
    power = np.mean(np.square(np.abs(_frames(waveform, rate_hz, width))), axis=1)  # [width, frequency]
    between = (power[:, 1:] + power[:, :-1]) / 2  # bands that begin at 0 Hz, from bins that are centred there
    shares = bark.overlap_hz(rate_hz, between.shape[1], height)
    rows = between @ (shares / shares.sum(axis=0)).astype(np.float32)
    return 10 * np.log10(rows.T + 1e-20)


def _frames(waveform, rate_hz, width):
    """FFTs of mono frames around the middle of each column, and of more where those would miss some of it:
    `[width, frame and channel, frequency]`, a full-scale sine being 1.
    """
    samples, channels = waveform.shape
    window_s = np.clip(samples / rate_hz / 30, *_WINDOW_S)
    size = max(16, 2 ** round(np.log2(window_s * rate_hz)))
    each = max(1, round(samples / width / (size / 2)))
    starts = ((np.arange(width * each) + 0.5) * samples / (width * each)).astype(int)
    padded = np.pad(np.asarray(waveform, np.float32), ((size // 2, size), (0, 0)))
    window = np.hanning(size).astype(np.float32)
    window *= 2 / window.sum()
    spectra = []
    for channel in range(channels):
        frames = np.lib.stride_tricks.sliding_window_view(padded[:, channel], size)[starts] * window
        spectra.append(np.fft.rfft(frames).astype(np.complex64).reshape(width, each, -1))
    return np.concatenate(spectra, axis=1)


def palette():
    """The colours from silence to loud: uint8 `[colour, (red, green, blue)]`."""
    places = np.linspace(0, len(_STOPS) - 1, _COLOURS)
    stops = np.asarray(_STOPS, np.float64)
    columns = [np.interp(places, np.arange(len(_STOPS)), column) for column in stops.T]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8)


def png(indices, colours):
    """The bytes of a PNG: uint8 `[row, column]` into a palette `[colour, 3]`."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1).tobytes()  # 0: no filter
    parts = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
