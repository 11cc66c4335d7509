"""A Frechet distance on this project's own features. It is not FAD: figures of the two cannot be compared."""

import numpy as np

_SUBSETS, _DRAWS = 8, 4  # drawn of each size
_SIZES = 5


class Moments:
    """Count, sum and sum of products of a song's features: those of any set of songs are their sums."""

    def __init__(self, features):
        features = np.asarray(features, np.float64)
        self.count, self.sum, self.products = len(features), features.sum(axis=0), features.T @ features

    @staticmethod
    def gaussian(songs):
        """(mean, covariance) of the features of all songs together."""
        count = sum(song.count for song in songs)
        mean = sum(song.sum for song in songs) / count
        return mean, sum(song.products for song in songs) / count - np.outer(mean, mean)


def distance(first, second):
    """Between two Gaussians, each (mean, covariance): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau,
    1982).
    """
    (first_mean, first_covariance), (second_mean, second_covariance) = first, second
    root = _root(first_covariance)
    # The root of C1 C2 has the trace of that of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues are real.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second_covariance @ root), 0.0)).sum()
    traces = np.trace(first_covariance) + np.trace(second_covariance)
    return float(np.square(first_mean - second_mean).sum() + max(0.0, traces - 2 * cross))


def extrapolated(first, second, seed=0):
    """The distance between two sets of songs, without the bias of their number.

    Of few songs it comes out too large, by about a constant over their number: so it is taken of subsets of several
    sizes, and the line through them over 1/n is read at 0 (Chong and Forsyth, 2020, for FID).

    Args:
      first, second: lists of `Moments`, a song each.
      seed: of the subsets.

    Returns: (distance at infinitely many songs, its standard error, distance of all there are), or None with fewer than
    4 songs in a set.
    """
    most = min(len(first), len(second))
    if most < 4:
        return None
    random = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(most / 2, most, _SIZES).round().astype(int))
    whole = distance(Moments.gaussian(first), Moments.gaussian(second))
    intercepts = []
    for _ in range(_SUBSETS):
        # Each draw is of songs with repetition at the largest size: so their spread is that of other songs, too.
        pools = [[songs[i] for i in random.integers(len(songs), size=most)] for songs in (first, second)]
        # Of several draws of subsets, else the spread of these would count as that of songs.
        intercepts.append(np.mean([_intercept(pools, sizes, random) for _ in range(_DRAWS)]))
    plain = np.mean([_intercept((first, second), sizes, random) for _ in range(_SUBSETS)])
    return float(plain), float(np.std(intercepts, ddof=1)), whole


def _intercept(pools, sizes, random):
    """The line over 1/n through the distances of a subset of each size, at 0."""
    found = []
    for size in sizes:
        subsets = [[pool[i] for i in random.permutation(len(pool))[:size]] for pool in pools]
        found.append(distance(*(Moments.gaussian(subset) for subset in subsets)))
    return np.polyfit(1 / sizes, found, 1)[1]


def _root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
