"""Layers against sums written out in numpy."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close

from mp3net.model.layers import Convolution, Dense, Initializer, leaky_relu, minibatch_stddev, recording

RANDOM = np.random.default_rng(0)


def correlate(x, kernel, strides):
    """A strided 3 x 3 (or 1 x 1) correlation of `[block, band, in]`:

    SAME, so one before at stride 1 and none at stride 2.
    """
    size = kernel.shape[0]
    before = [(0 if stride == 2 else 1) if size == 3 else 0 for stride in strides]
    blocks, bands = x.shape[0] // strides[0], x.shape[1] // strides[1]
    y = np.zeros((blocks, bands, kernel.shape[3]))
    for m in range(blocks):
        for k in range(bands):
            for i in range(size):
                for j in range(size):
                    row, column = m * strides[0] + i - before[0], k * strides[1] + j - before[1]
                    if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                        y[m, k] += x[row, column] @ kernel[i, j]
    return y


@pytest.mark.parametrize("size, strides", [(3, (1, 1)), (3, (2, 1)), (3, (2, 2)), (1, (1, 1))])
def test_convolution_is_the_written_out_sum(size, strides):
    layer = Convolution("layer", 3, 5, Initializer(0), kernel=size, strides=strides)
    layer.bias.assign(RANDOM.normal(size=5).astype(np.float32))
    x = RANDOM.normal(size=(2, 6, 4, 3)).astype(np.float32)
    expected = [correlate(example, layer.kernel.numpy(), strides) + layer.bias.numpy() for example in x]
    assert_close(layer(tf.constant(x)), expected, atol=1e-5)


@pytest.mark.parametrize("strides", [(2, 1), (2, 2)])
def test_transposed_convolution_is_the_transpose_of_the_convolution(strides):
    layer = Convolution("layer", 3, 5, Initializer(0), strides=strides, transposed=True)
    y = RANDOM.normal(size=(1, 3, 4, 3)).astype(np.float32)
    x = RANDOM.normal(size=(3 * strides[0], 4 * strides[1], 5))
    forward = correlate(
        x, layer.kernel.numpy().astype(np.float64), strides
    )  # kernel [.., out, in] takes 5 features to 3
    assert_close(np.sum(layer(tf.constant(y)).numpy()[0] * x), np.sum(forward * y[0]), rtol=1e-4)


def test_dense_is_a_matrix_product():
    layer = Dense("layer", 4, 3, Initializer(1), slope=0.2)
    x = RANDOM.normal(size=(5, 4)).astype(np.float32)
    linear = x @ layer.kernel.numpy() + layer.bias.numpy()
    assert_close(layer(tf.constant(x)), np.where(linear > 0, linear, 0.2 * linear))


def test_glorot_weights_fill_their_interval_and_depend_on_the_seed():
    kernel = Convolution("layer", 32, 64, Initializer(3)).kernel.numpy()
    limit = np.sqrt(6 / (9 * 32 + 9 * 64))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert_close(kernel.var(), limit**2 / 3, rtol=0.02)  # of a uniform distribution
    assert_close(Convolution("layer", 32, 64, Initializer(3)).kernel, kernel)
    assert not np.allclose(Convolution("layer", 32, 64, Initializer(4)).kernel, kernel)


def test_leaky_relu_and_both_its_derivatives():
    x = tf.constant([-2.0, -0.5, 0.5, 2.0])
    weight = tf.constant([1.0, 2.0, 3.0, 4.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = leaky_relu(x, 0.2)
            total = tf.reduce_sum(weight * tf.square(y))
        first = inner.gradient(total, x)
        again = tf.reduce_sum(tf.square(first))
    assert_close(y, [-0.4, -0.1, 0.5, 2.0])
    assert_close(first, [2 * 1 * 0.04 * -2.0, 2 * 2 * 0.04 * -0.5, 2 * 3 * 0.5, 2 * 4 * 2.0])
    slopes = np.array([2 * 1 * 0.04, 2 * 2 * 0.04, 6, 8])  # first = slopes x, so d sum(first^2) / dx = 2 slopes^2 x
    assert_close(outer.gradient(again, x), 2 * slopes**2 * x.numpy())


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_minibatch_stddev_is_that_of_each_group(groups):
    x = RANDOM.normal(size=(groups * 4, 3, 2, 5)).astype(np.float32)
    y = minibatch_stddev(tf.constant(x), tf.identity, groups).numpy()
    assert y.shape == (groups * 4, 3, 2, 6)
    assert_close(y[..., :5], x)
    for group in range(groups):
        part = slice(4 * group, 4 * group + 4)
        assert_close(y[part, ..., 5], np.full((4, 3, 2), np.std(x[part], axis=0).mean()), rtol=1e-5)


def test_minibatch_stddev_reduces_over_replicas():
    batch = RANDOM.normal(size=(6, 3, 2, 5)).astype(np.float32)
    halves = batch[:3], batch[3:]
    overall = batch.mean(axis=0)
    other = iter([halves[1].mean(axis=0)[None, None], np.square(halves[1] - overall).mean(axis=0)[None]])
    y = minibatch_stddev(tf.constant(halves[0]), lambda mine: (mine + next(other)) / 2)
    assert_close(y[..., 5], np.full((3, 3, 2), np.std(batch, axis=0).mean()), rtol=1e-5)


def test_minibatch_stddev_of_equal_examples_is_the_root_of_epsilon_and_has_a_gradient():
    x = tf.ones([4, 2, 2, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = minibatch_stddev(x, tf.identity, epsilon=1e-8)
    assert_close(y[..., 3], np.full((4, 2, 2), 1e-4))
    assert np.all(np.isfinite(tape.gradient(y, x)))


def test_records_count_parameters_and_multiply_adds():
    plain = Convolution("plain", 3, 5, Initializer(0), strides=(2, 1))
    turned = Convolution("turned", 5, 3, Initializer(0), strides=(2, 2), transposed=True)
    with recording() as records:
        turned(plain(tf.zeros([1, 8, 4, 3])))
    plain(tf.zeros([1, 8, 4, 3]))  # outside: not recorded
    assert [(r.title, r.output_shape, r.parameters, r.multiply_adds) for r in records] == [
        ("plain", (4, 4, 5), 9 * 15 + 5, 4 * 4 * 9 * 15),
        ("turned", (8, 8, 3), 9 * 15 + 3, 4 * 4 * 9 * 15),
    ]
