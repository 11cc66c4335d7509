"""Are the songs different from one another, and from what they were learnt from?"""

import numpy as np

_CLOSE = 0.5  # of the usual distance to the nearest real window: nearer than that is a copy


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
    """How near each of `songs` comes to `others`, all standardised features `[window, feature]`.

    Returns: the mean over its windows of the distance to the nearest window of all `others`, `[song]`; and which of
    these comes nearest alone, `[song]`.
    """
    means, closest = [], []
    for song in songs:
        best, alone = np.full(len(song), np.inf), []
        for other in others:
            distances = np.sqrt(_squared_distances(song, other).min(axis=1))
            alone.append(distances.mean())
            np.minimum(best, distances, out=best)
        means.append(best.mean())
        closest.append(int(np.argmin(alone)))
    return np.array(means), np.array(closest)


def nearest_apart(songs, rest=()):
    """`nearest` of each song among the other songs and the `rest`: how near songs come that are no copies, `[song]`."""
    return np.array([nearest([song], [*songs[:i], *songs[i + 1 :], *rest])[0][0] for i, song in enumerate(songs)])


def copies(distances, usual):
    """Which of `nearest` distances are those of copies, as bools: below half of the median of `usual`."""
    return np.asarray(distances) < _CLOSE * np.median(usual)


def _squared_distances(first, second):
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * first @ second.T, 0.0)
