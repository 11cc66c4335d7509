"""Stateless random numbers, keyed by (seed of the run, purpose, example).

An example is its place in the endless sequence that training reads (step x batch + j), so what it draws depends neither
on the batch around it nor on how many replicas share that batch, and a resumed run draws what the first one would have
drawn.
"""

import enum

import tensorflow as tf


class Purpose(enum.IntEnum):
    """What a draw is for: the same example draws different numbers for each.

    The values are part of every run: never renumber them.
    """

    D_LATENT = 0
    G_LATENT = 1
    REAL_NOISE = 2
    D_FAKE_NOISE = 3
    G_FAKE_NOISE = 4
    MIX = 5
    SAMPLE_LATENT = 6
    INITIAL_WEIGHTS = 7


_PURPOSES = 64
# Named, for the default differs by device, and with it the numbers. XLA makes of philox a loop over memory, and
# threefry, which is plain arithmetic there, exists nowhere else.
ALGORITHM, XLA_ALGORITHM = "philox", "threefry"


def key(run_seed, purpose):
    """The first of the two numbers that seed a stream; the second tells the streams of one purpose apart."""
    return run_seed * _PURPOSES + int(purpose)


def seeds(run_seed, purpose, examples):
    """A pair of int64 for each of `examples`, int64 `[batch]`: `[batch, 2]`, no two alike over purposes."""
    first = tf.fill(tf.shape(examples), tf.constant(key(run_seed, purpose), tf.int64))
    return tf.stack([first, examples], axis=1)


def per_example(draw, pairs):
    """Stacks `draw(pair)` over the rows of `pairs` `[batch, 2]`: one stream of random numbers for each example."""
    if pairs.shape[0] is None:
        raise ValueError("The number of examples must be known when the graph is built.")
    return tf.stack([draw(pairs[i]) for i in range(pairs.shape[0])])


def latents(pairs, size, algorithm=ALGORITHM):
    """z ~ N(0, 1): `[batch, size]`."""
    return per_example(lambda pair: tf.random.stateless_normal([size], pair, alg=algorithm), pairs)


def uniforms(pairs, algorithm=ALGORITHM):
    """Uniform in 0..1: `[batch]`."""
    return per_example(lambda pair: tf.random.stateless_uniform([], pair, alg=algorithm), pairs)


def uniform(shape, pair, limit):
    """Uniform between -`limit` and `limit`: float32 of `shape`, the same to the bit with and without XLA.

    `tf.random.stateless_uniform` is not: both make the same bits, but take other ones of them for the fraction, and XLA
    rounds a product and a sum at once. Here the sum is exact.
    """
    bits = tf.random.stateless_uniform(shape, pair, None, None, tf.uint32, alg=ALGORITHM)
    one = tf.constant(0x3F800000, tf.uint32)  # the exponent of 1.0, whose mantissa the lowest 23 bits are
    fraction = tf.bitcast(tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(bits, 0x007FFFFF), one), tf.float32) - 1.0
    return tf.constant(limit, tf.float32) * (2.0 * fraction - 1.0)


def truncated_latents(pairs, size, limit):
    """z ~ N(0, 1) given |z| < `limit`: `[batch, size]` (Brock et al., 2019, section 3.1)."""
    # By the inverse of the normal distribution, from uniforms of its part between -limit and limit.
    low = 0.5 * tf.math.erfc(tf.constant(limit / 2**0.5, tf.float64))

    def draw(pair):
        uniform = tf.random.stateless_uniform([size], pair, dtype=tf.float64, alg=ALGORITHM)
        return tf.cast(tf.math.ndtri(low + uniform * (1.0 - 2.0 * low)), tf.float32)

    return per_example(draw, pairs)


def slerp(first, second, fraction):
    """The point at `fraction` of the great arc from `first` to `second`, `[n, size]` (White, 2016).

    It is as likely a latent as its ends; a point of the straight line is not.
    """
    unit_first, unit_second = tf.linalg.l2_normalize(first, axis=1), tf.linalg.l2_normalize(second, axis=1)
    cosine = tf.clip_by_value(tf.reduce_sum(unit_first * unit_second, axis=1, keepdims=True), -1.0, 1.0)
    angle = tf.acos(cosine)
    straight = tf.sin(angle) < 1e-6  # one and the same seed: there is no arc
    sine = tf.where(straight, 1.0, tf.sin(angle))
    from_first = tf.where(straight, 1.0 - fraction, tf.sin((1.0 - fraction) * angle) / sine)
    from_second = tf.where(straight, fraction, tf.sin(fraction * angle) / sine)
    return from_first * first + from_second * second
