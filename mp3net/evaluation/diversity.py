"""Are the songs different from one another, and from what they were learnt from?"""

import numpy as np

_CLOSE = 0.5  # of the usual distance to the nearest real window: nearer than that is a copy
_ROWS = 2048  # of a table of distances at once


def pairwise(songs):
    """The mean distance between songs, each standardised features `[window, feature]`, of which mean and spread count;
    None for fewer than 2.
    """
    if len(songs) < 2:
        return None
    points = np.stack([np.concatenate([each.mean(axis=0), each.std(axis=0)]) for each in songs])
    distances = np.sqrt(_squared_distances(points, points))
    return float(distances[np.triu_indices(len(points), k=1)].mean())


def nearest(songs, others):
    """Of each song the mean, over its windows, of the distance to the nearest window of `others`: `[song]`."""
    windows = np.concatenate(others)
    return np.array([_nearest(song, windows).mean() for song in songs])


def nearest_apart(songs):
    """`nearest` of each song among the rest: what is usual for songs that are no copies."""
    return np.array([nearest([song], songs[:i] + songs[i + 1 :])[0] for i, song in enumerate(songs)])


def copies(distances, usual):
    """Which of `nearest` distances are those of copies, as bools: below half of the median of `usual`."""
    return np.asarray(distances) < _CLOSE * np.median(usual)


def _nearest(windows, others):
    parts = (windows[i : i + _ROWS] for i in range(0, len(windows), _ROWS))
    return np.concatenate([np.sqrt(_squared_distances(part, others).min(axis=1)) for part in parts])


def _squared_distances(first, second):
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * first @ second.T, 0.0)
