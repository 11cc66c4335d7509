"""The training objective (section 3.2): Wasserstein losses, the gradient penalty and the drift term, in float32.

Scores are `[batch]`. Every mean is over the examples at hand: over a replica's share of the batch, if there are any.
"""

import tensorflow as tf


def wasserstein_estimate(real_scores, fake_scores):
    """mean D(real) - mean D(fake), the critic's estimate of the Wasserstein distance (Arjovsky et al., 2017)."""
    return tf.reduce_mean(real_scores) - tf.reduce_mean(fake_scores)


def drift(real_scores):
    """mean D(real)^2, which keeps the scores from wandering off (section 3.2; Karras et al., 2018, appendix A.1)."""
    return tf.reduce_mean(tf.square(real_scores))


def gradient_norms(critic, real, fake, mix, epsilon=1e-12):
    """|grad D| at one point between each real example and its generated one (Gulrajani et al., 2017, algorithm 1).

    Args:
      critic: `[batch, block, band, channel]` to scores `[batch]`.
      real, fake: amplitudes as D sees them, `[batch, block, band, channel]`, noise included.
      mix: uniform in 0..1, `[batch]`: how far from the fake towards the real.
      epsilon: added inside the root, so that the gradient of the norm is finite where the critic is flat.

    Returns: norms `[batch]`.
    """
    mix = mix[:, None, None, None]
    between = mix * real + (1.0 - mix) * fake
    with tf.GradientTape() as tape:
        tape.watch(between)
        scores = critic(between)
    gradient = tf.cast(tape.gradient(scores, between), tf.float32)
    return tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + epsilon)


def gradient_penalty(norms):
    """mean (|grad D| - 1)^2, of `gradient_norms`."""
    return tf.reduce_mean(tf.square(norms - 1.0))


def generator_loss(fake_scores):
    """-mean D(fake)."""
    return -tf.reduce_mean(fake_scores)
