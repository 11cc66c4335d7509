"""The piano's timbre as the paper describes it: "all harmonics start at exactly the same time and the higher harmonics
fade out faster than the lower harmonics" (section 4.3.1).

Measured on the notes that stand apart: from each onset to the next, by octaves.
"""

import numpy as np

_APART_S, _AROUND_S, _LONGEST_S = 0.2, 0.06, 1.0
_CLEAR_DB = 4.0  # by which the mean band rises within `_WITHIN_S` where a note begins
_WITHIN_S = 0.06  # for harmonics that begin one after another are a note too
_RISE_DB = 10.0  # of an octave that begins with the others
_FAINT_DB = 45.0  # below the song's loudest octave: no longer followed
_FEWEST_NOTES, _FEWEST_OCTAVES = 3, 3


def timbre(song):
    """Of a `Song`: {"onset_spread_ms", "decay_tilt"}, each None where fewer than 3 notes show it.

    `onset_spread_ms` is how far apart the octaves of a note begin, their standard deviation in ms; `decay_tilt` how
    much faster each octave fades than the one below, dB/s per octave: above 0 for a struck string. Medians over notes.
    """
    levels = song.octave_levels_db
    spreads, tilts = [], []
    starts = _onsets(song)
    for start, end in zip(starts, [*starts[1:], len(levels)], strict=False):
        spreads.append(_spread_s(levels, start, song.quick_s))
        tilts.append(_tilt(levels, start, min(end, start + round(_LONGEST_S / song.quick_s)), song.quick_s))
    return {"onset_spread_ms": _median(spreads, 1000.0), "decay_tilt": _median(tilts)}


def _onsets(song):
    """Frames at which notes begin that stand at least `_APART_S` from the one before, and from the next."""
    levels = np.maximum(song.quick_levels_db, song.quick_levels_db.max() - 60.0).mean(axis=1)
    half, apart = max(1, round(_WITHIN_S / 2 / song.quick_s)), round(_APART_S / song.quick_s)
    if len(levels) <= 2 * half:
        return []
    rises = np.zeros(len(levels))
    rises[half : len(levels) - half] = levels[2 * half :] - levels[: len(levels) - 2 * half]
    peaks = [
        i
        for i in np.flatnonzero(rises >= _CLEAR_DB)
        if rises[i] >= rises[i : i + apart // 2].max() and rises[i] > rises[max(0, i - apart // 2) : i].max(initial=0.0)
    ]
    return [i for i, before, after in zip(peaks, [-apart, *peaks], [*peaks[1:], len(levels)], strict=False)
            if i - before >= apart and after - i >= apart]  # fmt: skip


def _spread_s(levels, start, frame_s):
    """The standard deviation of when those octaves that begin at an onset are half way up; None for too few."""
    around = round(_AROUND_S / frame_s)
    amplitudes = 10 ** (levels[max(0, start - around) : start + around + 1] / 20)
    low, high = amplitudes[0], amplitudes.max(axis=0)
    times = []
    for octave in np.flatnonzero(
        (high > low * 10 ** (_RISE_DB / 20)) & (high > 10 ** ((levels.max() - _FAINT_DB) / 20))
    ):
        half = (low[octave] + high[octave]) / 2
        i = int(np.argmax(amplitudes[:, octave] >= half))
        before, after = amplitudes[i - 1 : i + 1, octave]
        times.append(i - (after - half) / (after - before))  # finer than a frame
    return float(np.std(times) * frame_s) if len(times) >= _FEWEST_OCTAVES else None


def _tilt(levels, start, end, frame_s):
    """How much faster each octave fades than the one below, dB/s; None where too few can be followed."""
    begin, least = start + round(0.03 / frame_s), round(0.12 / frame_s)
    slopes = {}
    for octave in range(levels.shape[1]):
        faint = np.flatnonzero(levels[begin:end, octave] < levels.max() - _FAINT_DB)
        stop = begin + faint[0] if len(faint) else end
        if stop - begin >= least:
            slopes[octave] = np.polyfit(np.arange(stop - begin) * frame_s, levels[begin:stop, octave], 1)[0]
    if len(slopes) < _FEWEST_OCTAVES:
        return None
    return float(-np.polyfit(list(slopes), list(slopes.values()), 1)[0])


def _median(values, factor=1.0):
    known = [value for value in values if value is not None]
    return factor * float(np.median(known)) if len(known) >= _FEWEST_NOTES else None
