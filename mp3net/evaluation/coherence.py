"""Long-range coherence, the paper's headline (section 4.3.2): does a song end in the tempo and the key it began in?

Each measure compares the first third of a song with its last, and is to be read against the same comparison between
different real songs ("shuffled"): there, what is alike is alike by chance.
"""

import numpy as np

SHORTEST_S = 12.0  # of a song: below, a third of it holds too few beats
_SLOWEST_S, _FASTEST_S = 1.5, 0.25  # from a beat to the next: 40 to 240 a minute


def rhythm(song):
    """The rhythm of the first and of the last third of a `Song`: `[2, lag]`, autocorrelations of its onsets over the
    periods of 40 to 240 beats a minute. None for songs under `SHORTEST_S`, or without onsets.
    """
    if song.seconds < SHORTEST_S:
        return None
    first, last = round(_FASTEST_S / song.quick_s), round(_SLOWEST_S / song.quick_s)
    found = []
    for third in _ends(song.onsets):
        third = third - third.mean()
        energy = np.square(third).sum()
        if energy < 1e-6:
            return None
        spectrum = np.square(np.abs(np.fft.rfft(third, 2 * len(third))))
        correlation = np.fft.irfft(spectrum)[first:last] / energy
        # Seen through a window of 40 ms, for people do not play to the frame.
        width = max(1, round(0.04 / song.quick_s))
        found.append(np.convolve(correlation, np.hanning(width + 2)[1:-1], mode="same"))
    return np.stack(found)


def harmony(song):
    """The mean chroma of the first and of the last third of a `Song`: `[2, 12]`; None as of `rhythm`, or in silence."""
    if song.seconds < SHORTEST_S:
        return None
    found = np.stack([third.mean(axis=0) for third in _ends(song.chroma)])
    return found if np.all(found.sum(axis=1) > 0.1) else None


def constancy(pairs):
    """How alike the two ends of each song are, -1..1: the mean correlation over songs' `[2, n]`; None for no songs."""
    return _mean([_correlation(first, last) for first, last in pairs])


def shuffled(pairs, recordings):
    """The same between the beginning of each song and the end of every other that is of another recording; None where
    there is none.
    """
    return _mean([
        _correlation(first, last)
        for i, (first, _) in enumerate(pairs)
        for j, (_, last) in enumerate(pairs)
        if recordings[i] != recordings[j]
    ])  # fmt: skip


def self_similarity(features, spread):
    """How alike any two moments of a song are, `[window, window]` in -1..1.

    Cosines of features `[window, feature]` less the song's own mean, else a song that is dull throughout would seem
    alike throughout; in units of `spread` `[feature]`, half a dB at least: what never moves says nothing.
    """
    features = (features - features.mean(axis=0)) / np.maximum(spread, 0.05)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-9)
    return unit @ unit.T


def far_similarity(features, spread):
    """Whether a song comes back to what it was: of each moment the best `self_similarity` with those half a song or
    more away, and of these the mean; None for fewer than 4 windows.
    """
    count = len(features)
    if count < 4:
        return None
    apart = np.abs(np.arange(count)[:, None] - np.arange(count)) >= count // 2
    return float(np.where(apart, self_similarity(features, spread), -1.0).max(axis=1).mean())


def _ends(frames):
    third = len(frames) // 3
    return frames[:third], frames[-third:]


def _correlation(first, second):
    first, second = first - first.mean(), second - second.mean()
    scale = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / scale) if scale > 1e-12 else 0.0


def _mean(values):
    return float(np.mean(values)) if values else None
