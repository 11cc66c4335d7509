"""Losses by hand: linear and quadratic critics, whose gradients are known."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close

from mp3net.model import losses
from mp3net.model.architecture import Architecture
from mp3net.model.discriminator import Discriminator
from mp3net.model.layers import Initializer

RANDOM = np.random.default_rng(0)
SHAPE = (3, 4, 2, 2)


def example():
    return tf.constant(RANDOM.normal(size=SHAPE).astype(np.float32))


def test_scalars_by_hand():
    real, fake = tf.constant([1.0, 3.0]), tf.constant([-2.0, 4.0])
    assert_close(losses.wasserstein_estimate(real, fake), 1.0)
    assert_close(losses.drift(real), 5.0)
    assert_close(losses.generator_loss(fake), -1.0)
    assert_close(losses.gradient_penalty(tf.constant([0.0, 1.0, 3.0])), (1 + 0 + 4) / 3)


def test_the_penalty_of_a_linear_critic_is_that_of_its_weights():
    weights = RANDOM.normal(size=SHAPE[1:]).astype(np.float32)
    norms = losses.gradient_norms(
        lambda x: tf.reduce_sum(x * weights, axis=[1, 2, 3]), example(), example(), tf.constant([0.1, 0.5, 0.9])
    )
    norm = np.sqrt(np.sum(np.square(weights)))
    assert_close(norms, [norm] * 3)
    assert_close(losses.gradient_penalty(norms), (norm - 1) ** 2)


def test_the_norm_is_taken_at_the_mix_which_leans_to_the_real():
    """The gradient of |x|^2 / 2 is x itself."""
    real, fake, mix = example(), example(), np.array([0.0, 0.25, 1.0], np.float32)
    norms = losses.gradient_norms(
        lambda x: tf.reduce_sum(tf.square(x), axis=[1, 2, 3]) / 2, real, fake, tf.constant(mix)
    )
    between = mix[:, None, None, None] * real.numpy() + (1 - mix[:, None, None, None]) * fake.numpy()
    assert_close(norms, np.sqrt(np.square(between).sum(axis=(1, 2, 3))))


def test_a_flat_critic_has_a_finite_gradient():
    weight = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        norms = losses.gradient_norms(
            lambda x: weight * tf.reduce_sum(x, axis=[1, 2, 3]), example(), example(), tf.ones([3])
        )
        penalty = losses.gradient_penalty(norms)
    assert_close(penalty, 1.0, rtol=1e-4)
    assert np.isfinite(tape.gradient(penalty, weight))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_of_the_penalty_by_the_weights_agrees_with_finite_differences(seed):
    """Through the minibatch standard deviation too, whose second derivative is not zero.

    At slope 1, for with LeakyReLU the norm jumps wherever an activation changes sign, and a difference across jumps
    says nothing.
    """
    sizes = Architecture(
        model_blocks=2, base=(2, 2), shallowest_features=3, max_features=6, head_features=6, leaky_slope=1.0
    )
    critic = Discriminator(sizes, Initializer(seed))
    real, fake = (tf.random.stateless_normal([3, *sizes.output_shape], [seed, i]) for i in (1, 2))
    mix, variables = tf.constant([0.2, 0.5, 0.8]), critic.trainable_variables
    directions = [tf.random.stateless_normal(v.shape, [seed, i]) for i, v in enumerate(variables)]

    def penalty():
        return losses.gradient_penalty(30 * losses.gradient_norms(critic, real, fake, mix))

    def moved(by):
        before = [tf.identity(v) for v in variables]
        for variable, direction in zip(variables, directions, strict=True):
            variable.assign_add(by * direction)
        value = float(penalty())
        for variable, old in zip(variables, before, strict=True):
            variable.assign(old)
        return value

    with tf.GradientTape() as tape:
        value = penalty()
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradients, directions, strict=True))
    step = 1e-3
    assert slope == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=0.02)
    assert abs(slope) > 1e-3
