"""The time split: the same convolution, its gradient and the gradient of that, at every seam and at both ends."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close

from mp3net.errors import UserError
from mp3net.model import time_split
from mp3net.model.architecture import Architecture
from mp3net.model.discriminator import Discriminator
from mp3net.model.execution import Execution
from mp3net.model.generator import Generator
from mp3net.model.layers import Initializer

CASES = [(False, (1, 1)), (False, (2, 1)), (False, (2, 2)), (True, (2, 1)), (True, (2, 2))]
SIZES = Architecture(
    model_blocks=3, base=(2, 2), latent_size=8, shallowest_features=4, max_features=16, head_features=8, rate_hz=4000
)


def tensors(transposed, blocks=16):
    random = np.random.default_rng(1)
    x = random.normal(size=(2, blocks, 8, 3)).astype(np.float32)
    kernel = random.normal(size=(3, 3, 5, 3) if transposed else (3, 3, 3, 5)).astype(np.float32)
    return tf.constant(x), tf.constant(kernel)


def plain(x, kernel, strides, transposed):
    """TensorFlow's own convolution of whole songs."""
    if not transposed:
        return tf.nn.conv2d(x, kernel, strides, "SAME")
    shape = [x.shape[0], x.shape[1] * strides[0], x.shape[2] * strides[1], kernel.shape[2]]
    return tf.nn.conv2d_transpose(x, kernel, shape, strides, "SAME")


def split(x, kernel, strides, transposed, segments):
    """Ours, on songs held as rows."""
    y = time_split.convolve(time_split.hold(x, 1, segments), kernel, strides, transposed, segments)
    return time_split.hold(y, segments, 1)


def derivatives(convolve, x, kernel):
    """y, the gradients of a function of it that no two elements enter alike, and the gradients of one of those."""
    with tf.GradientTape() as outer:
        outer.watch([x, kernel])
        with tf.GradientTape() as inner:
            inner.watch([x, kernel])
            y = convolve(x, kernel)
            weights = tf.reshape(tf.linspace(0.5, 2.0, y.shape.num_elements()), y.shape)
            value = tf.reduce_sum(weights * tf.sin(y))
        first = inner.gradient(value, [x, kernel])
        again = tf.reduce_sum(tf.square(first[0])) + tf.reduce_sum(tf.sin(first[1]))
    return [y, *first, *outer.gradient(again, [x, kernel])]


@pytest.mark.parametrize("segments", [2, 4, 8])
@pytest.mark.parametrize("transposed, strides", CASES)
def test_it_equals_the_plain_convolution_to_the_second_derivative(transposed, strides, segments):
    x, kernel = tensors(transposed)
    expected = derivatives(lambda x, k: plain(x, k, strides, transposed), x, kernel)
    found = derivatives(lambda x, k: split(x, k, strides, transposed, segments), x, kernel)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(tf.reduce_max(tf.abs(theirs))))


@pytest.mark.parametrize("transposed, strides", CASES)
def test_rows_convolved_apart_would_differ_at_the_seams_alone(transposed, strides):
    """That the test above can fail: without what crosses the seams, blocks next to them are wrong, and no others."""
    x, kernel = tensors(transposed)
    whole = plain(x, kernel, strides, transposed).numpy()
    rows = plain(time_split.hold(x, 1, 4), kernel, strides, transposed)
    wrong = np.abs(time_split.hold(rows, 4, 1).numpy() - whole).max(axis=(0, 2, 3)) > 1e-3
    length = whole.shape[1] // 4
    seams = {m for m in range(whole.shape[1]) if m % length in (0, length - 1)}
    assert wrong.any() and set(np.flatnonzero(wrong)) <= seams


def test_a_kernel_of_one_needs_nothing_from_its_neighbours():
    x, _ = tensors(False)
    kernel = tf.random.stateless_normal([1, 1, 3, 5], [0, 1])
    assert_close(split(x, kernel, (1, 1), False, 4), plain(x, kernel, (1, 1), False))


def networks(segments):
    execution = Execution("float32", segments)
    return Generator(SIZES, Initializer(0), execution), Discriminator(SIZES, Initializer(1), execution=execution)


@pytest.mark.parametrize("segments", [(4,), (8, 4), (16, 2, 2)])
def test_both_networks_with_it_equal_both_without(segments):
    (g, d), (g_split, d_split) = networks(()), networks(segments)
    latents = tf.random.stateless_normal([3, 8], [0, 2])
    amplitudes = g(latents)
    assert float(tf.reduce_max(tf.abs(amplitudes))) > 1e-3
    assert_close(g_split(latents), amplitudes, rtol=1e-4, atol=1e-6)

    def penalty_and_gradients(critic, x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                scores = critic(x)
            slope = inner.gradient(scores, x)
            value = tf.reduce_sum(tf.square(slope)) + tf.reduce_sum(scores)
        return [scores, slope, *outer.gradient(value, critic.trainable_variables)]

    x = tf.random.stateless_normal([3, *SIZES.output_shape], [0, 3])
    for mine, theirs in zip(penalty_and_gradients(d_split, x), penalty_and_gradients(d, x), strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * float(tf.reduce_max(tf.abs(theirs))) + 1e-8)


@pytest.mark.parametrize(
    "sizes, expected",
    [
        (Architecture(), (128, 128, 8, 8)),  # 95s
        (Architecture(model_blocks=5, base=(1, 4), shallowest_features=128), (8, 8)),  # 5s
        (Architecture(base=(31, 2)), (128, 128, 8, 8)),
        (Architecture(model_blocks=1, base=(1, 2)), ()),
    ],
)
def test_on_a_tpu_rows_fill_its_tiles_and_divide_the_blocks(sizes, expected):
    execution = Execution().on("TPU", sizes)
    assert execution.segments == expected and execution.precision == "bfloat16"
    assert execution.segments_of(sizes) == expected + (1,) * (sizes.model_blocks - len(expected))
    for platform in ("CPU", "GPU"):
        assert Execution().on(platform, sizes) == Execution("float32", ())
    assert Execution("float32", (4,)).on("TPU", sizes) == Execution("float32", (4,))


@pytest.mark.parametrize(
    "wrong, word",
    [({"segments": (3,)}, "divide"), ({"segments": (1,) * 4}, "4 entries"), ({"segments": (0,)}, "at least 1")],
)
def test_segments_that_do_not_fit_are_told(wrong, word):
    with pytest.raises(UserError, match=word):
        Execution(**wrong).segments_of(SIZES)


@pytest.mark.parametrize("wrong, word", [({"precision": "float16"}, "bfloat16"), ({"segments": 128}, "a list")])
def test_executions_that_do_not_exist_are_told(wrong, word):
    with pytest.raises(UserError, match=word):
        Execution(**wrong)
