"""Adam against its algorithm, written out."""

import numpy as np
import tensorflow as tf
from helpers import assert_close

from mp3net.model.optimizer import Adam


def adam_by_hand(x, gradients, rate, betas, epsilon):
    """Kingma and Ba, section 2:

    Bias corrections in the step size, epsilon hat. `betas`: (beta1, beta2) of each step.
    """
    m = v = np.zeros_like(x)
    for t, (gradient, (beta_1, beta_2)) in enumerate(zip(gradients, betas, strict=True), 1):
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        x = x - rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)
    return x


def test_updates_are_adams_also_when_beta_1_changes():
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=5), random.normal(size=(6, 5))
    variable = tf.Variable(start.astype(np.float32))
    adam = Adam([variable], beta_2=0.9, epsilon=1e-7)
    betas = [0.5] * 3 + [0.0] * 3
    for gradient, beta_1 in zip(gradients, betas, strict=True):
        adam.apply([tf.constant(gradient, tf.float32)], [variable], 0.01, beta_1)
    expected = adam_by_hand(start, gradients, 0.01, [(beta_1, 0.9) for beta_1 in betas], 1e-7)
    assert_close(variable, expected, rtol=1e-5)


def test_only_the_variables_given_move():
    moving, frozen = tf.Variable([1.0, 2.0]), tf.Variable([3.0])
    adam = Adam([frozen, moving])
    adam.apply([tf.constant([1.0, -1.0])], [moving], 0.1, 0.5)
    assert_close(frozen, [3.0], rtol=0, atol=0)
    assert_close(moving, [0.9, 2.1])  # the first step is the sign of the gradient times the rate
    assert_close(adam.first_moments[0], [0.0], rtol=0, atol=0)
