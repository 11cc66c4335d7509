"""The layers of both networks: convolutions, dense layers, the octave split and the minibatch standard deviation.

Activations are `[batch, block, band, feature]`. Layers are plain `tf.Module`s that make their variables at once, so
that a network is complete, countable and restorable before it has seen any data.
"""

import contextlib
import contextvars
import math
from dataclasses import dataclass

import tensorflow as tf

from mp3net.model import randomness, time_split


@dataclass(frozen=True)
class LayerRecord:
    """What one layer did in one pass: shapes without the batch axis, parameters, and multiply-adds for one example."""

    title: str
    kind: str
    input_shape: tuple
    output_shape: tuple
    parameters: int
    multiply_adds: int


_records = contextvars.ContextVar("layer_records", default=None)


@contextlib.contextmanager
def recording():
    """Collects a `LayerRecord` for each layer called inside the context, in order: the table that `describe` prints."""
    token = _records.set([])
    try:
        yield _records.get()
    finally:
        _records.reset(token)


_values = contextvars.ContextVar("values", default=None)


@contextlib.contextmanager
def reading(variables, values):
    """Layers called inside the context take `values` in place of `variables`."""
    token = _values.set({variable.ref(): value for variable, value in zip(variables, values, strict=True)})
    try:
        yield
    finally:
        _values.reset(token)


def _value(variable, dtype):
    """What a layer takes for a variable of its own, as `dtype`."""
    values = _values.get()
    return tf.cast(variable if values is None else values[variable.ref()], dtype)


class Initializer:
    """Draws initial weights: Glorot uniform, the n-th draw a function of (seed of the run, n) alone.

    The seed is a whole number, or an int64 tensor where a program of the seed is made.
    """

    def __init__(self, seed):
        self._key, self._draws = randomness.key(seed, randomness.Purpose.INITIAL_WEIGHTS), 0

    def glorot_uniform(self, shape, fan_in, fan_out):
        """float32 of `shape`, uniform within sqrt(6 / (fan_in + fan_out)) of zero (Glorot and Bengio, 2010)."""
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        self._draws += 1
        pair = tf.stack([tf.cast(self._key, tf.int64), tf.constant(self._draws, tf.int64)])
        return randomness.uniform(shape, pair, limit)


def leaky_relu(x, slope):
    """LeakyReLU whose gradient keeps the output alone, so that the layer before it keeps nothing. `slope` > 0."""

    @tf.custom_gradient
    def rectified(x):
        y = tf.nn.leaky_relu(x, slope)
        # The output has the sign of the input, so the gradient needs only what the next layer keeps anyway. What it
        # tells apart by that sign is piecewise constant: without the stop, zeros would be carried back through the
        # network in second derivatives.
        sign = tf.stop_gradient(y)
        return y, lambda upstream: tf.raw_ops.LeakyReluGrad(gradients=upstream, features=sign, alpha=slope)

    return rectified(x)


class Layer(tf.Module):
    """A linear map with a bias, then LeakyReLU where `slope` is not None. Subclasses make `kernel` and `bias`."""

    def __init__(self, title, slope):
        super().__init__()
        self.title, self.slope = title, slope

    def _finish(self, x, y, kind, multiply_adds):
        y = tf.nn.bias_add(y, _value(self.bias, y.dtype))
        if self.slope is not None:
            y = leaky_relu(y, self.slope)
        records = _records.get()
        if records is not None:
            parameters = int(self.kernel.shape.num_elements() + self.bias.shape.num_elements())
            shapes = (tuple(x.shape[1:]), tuple(y.shape[1:]))
            records.append(LayerRecord(self.title, kind, *shapes, parameters, int(multiply_adds)))
        return y


class Convolution(Layer):
    """A convolution over (block, band), padded as TensorFlow's SAME (stride 2: none before, one after).

    `transposed` makes it the transpose of the convolution of those strides: blocks and bands are multiplied by them.
    """

    def __init__(self, title, inputs, outputs, initializer, kernel=3, strides=(1, 1), transposed=False, slope=None):
        super().__init__(title, slope)
        self.strides, self.transposed = tuple(strides), transposed
        shape = [kernel, kernel, outputs, inputs] if transposed else [kernel, kernel, inputs, outputs]
        taps = kernel * kernel
        self.kernel = tf.Variable(initializer.glorot_uniform(shape, taps * inputs, taps * outputs), name="kernel")
        self.bias = tf.Variable(tf.zeros([outputs]), name="bias")

    def __call__(self, x, segments=1):
        """`[batch, block, band, inputs]` to `[batch, block', band', outputs]`; songs may be held as `segments` rows."""
        kernel = _value(self.kernel, x.dtype)
        y = time_split.convolve(x, kernel, self.strides, self.transposed, segments)
        narrow = x if self.transposed else y
        places = narrow.shape[1] * segments * narrow.shape[2]
        size = f"{kernel.shape[0]}x{kernel.shape[1]}"
        kind = f"{'transposed ' if self.transposed else ''}{size}, stride {self.strides}"
        return self._finish(x, y, kind, places * kernel.shape.num_elements())


class Dense(Layer):
    """`[batch, inputs]` to `[batch, outputs]`."""

    def __init__(self, title, inputs, outputs, initializer, slope=None):
        super().__init__(title, slope)
        self.kernel = tf.Variable(initializer.glorot_uniform([inputs, outputs], inputs, outputs), name="kernel")
        self.bias = tf.Variable(tf.zeros([outputs]), name="bias")

    def __call__(self, x):
        """The map, then LeakyReLU if any."""
        kernel = _value(self.kernel, x.dtype)
        return self._finish(x, tf.linalg.matmul(x, kernel), "dense", kernel.shape.num_elements())


def minibatch_stddev(x, cross_replica_mean, groups=1, epsilon=1e-8):
    """Appends one feature that says how much the examples of a batch differ (section 3.2; Karras et al., 2018, section
    3).

    The standard deviation over the *global* batch of every element, `epsilon` inside its root; the mean of them all,
    tiled over the map.

    Args:
      x: `[groups x batch, block, band, feature]`; each group is a batch of its own (reals and generated in one pass,
        say).
      cross_replica_mean: the mean of a tensor over the replicas that share the global batch.
      groups: how many batches stand one after another in `x`.

    Returns: `[groups x batch, block, band, feature + 1]`.
    """
    _, blocks, bands, features = x.shape
    grouped = tf.reshape(tf.cast(x, tf.float32), [groups, -1, blocks, bands, features])
    mean = cross_replica_mean(tf.reduce_mean(grouped, axis=1, keepdims=True))
    variance = cross_replica_mean(tf.reduce_mean(tf.square(grouped - mean), axis=1))
    deviation = tf.reduce_mean(tf.sqrt(variance + epsilon), axis=[1, 2, 3])
    each = tf.repeat(deviation, tf.shape(x)[0] // groups)
    feature = tf.broadcast_to(each[:, None, None, None], [tf.shape(x)[0], blocks, bands, 1])
    return tf.concat([x, tf.cast(feature, x.dtype)], axis=-1)
