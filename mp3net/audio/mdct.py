"""The modified discrete cosine transform: the paper's section 2.1, equations 1 to 6.

The transform is linear, and a block of amplitudes is a weighted sum of two consecutive blocks of samples. So equation 2
is written as what it is: a convolution over blocks, two wide, whose kernel is the windowed cosine, for each channel
apart; the inverse is its transpose. That is twice the arithmetic of a fold into one block, and less time: a fold and
its reversal pass over memory more often (`benchmarks/signals.py`).
"""

import math

import numpy as np
import tensorflow as tf


def vorbis_window(bands):
    """The window of equation 6, which the Vorbis codec uses: float64 [2 x bands]."""
    n = np.arange(2 * bands)
    # Equation 6.
    return np.sin(np.pi / 2 * np.sin(np.pi / (2 * bands) * (n + 0.5)) ** 2)


def cosine_table(bands, window):
    """What equation 2 multiplies the samples by, times 1 / (sqrt(2) x bands): float64 [2 x bands (n), bands (k)]."""
    n = np.arange(2 * bands)[:, np.newaxis]
    k = np.arange(bands)[np.newaxis, :]
    # Equation 2. The paper gives no scale: this one is the released code's, and keeps |A| < 1 (0.55) wherever |x| <= 1.
    cosine = np.cos(np.pi / bands * (n + 0.5 + bands / 2) * (k + 0.5))
    return window[:, np.newaxis] * cosine / (math.sqrt(2) * bands)


class MDCT:
    """Waveforms to MDCT amplitudes and back, without loss: float32, differentiable, any number of channels.

    A GPU may round float32 products to TF32, and a TPU to bfloat16, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` was called; a CPU never does.

    Args:
        bands: N, the number of bands and of samples per block.
        window: float64 [2 x bands]; None is the Vorbis window. Reconstruction needs equations 4 and 5 of it.
        xla: whether it must run inside XLA, which knows no faster way to take two channels apart.
    """

    def __init__(self, bands, window=None, xla=False):
        if bands < 1:
            raise ValueError(f"an MDCT needs at least 1 band, not {bands}")
        self.bands, self._xla = bands, xla
        table = cosine_table(bands, vorbis_window(bands) if window is None else np.asarray(window))
        # As a convolution's kernel: [2, N (n), N (k)].
        self._kernel = np.stack(np.split(table, 2)).astype(np.float32)

    def forward(self, waveform):
        """The amplitudes A_k(m) of a waveform.

        Args:
            waveform: [batch, sample, channel], within -1..1; a whole number of blocks, at least two. None is added.

        Returns:
            float32 [batch, block, band, channel] within -0.55..0.55; (M + 1) x N samples give M blocks.

        Raises:
            ValueError: the number of samples does not fit. Known at run time only, one that is no multiple of N raises
                `tf.errors.InvalidArgumentError` instead.
        """
        samples = waveform.shape[1]
        if samples is not None and (samples % self.bands or samples < 2 * self.bands):
            raise ValueError(
                f"an MDCT of {self.bands} bands takes a multiple of {self.bands} samples, at least {2 * self.bands}, "
                f"not {samples}"
            )
        shape = [_size(waveform, 0), -1 if samples is None else samples // self.bands, self.bands]
        amplitudes = []
        for channel in self._apart(waveform):
            # Equation 1: x((mN + n) t0) is blocks[m, n].
            blocks = tf.reshape(channel, shape)
            # Equation 2.
            amplitudes.append(tf.nn.conv1d(blocks, self._kernel, stride=1, padding="VALID"))
        return self._together(amplitudes)

    def inverse(self, amplitudes, trim=False):
        """The waveform that `forward` made the amplitudes from, or would have.

        Args:
            amplitudes: [batch, block, band, channel] of M blocks.
            trim: drop the first and the last N samples. They lie under one block only, not two, so that their
                aliasing stays: a song is what lies between them.

        Returns:
            float32 [batch, sample, channel] of (M + 1) x N samples; trimmed, (M - 1) x N.
        """
        if amplitudes.shape[2] != self.bands:
            raise ValueError(f"an MDCT of {self.bands} bands takes amplitudes of as many, not {amplitudes.shape[2]}")
        batch, blocks = _size(amplitudes, 0), _size(amplitudes, 1)
        waveforms = []
        for channel in self._apart(amplitudes):
            # With equations 4 and 5, the rows of equation 2 are orthogonal, and at this scale 1 / sqrt(4N) long: 4N
            # times the transpose is the inverse.
            kernel, shape = 4 * self.bands * self._kernel, [batch, blocks + 1, self.bands]
            overlapped = tf.nn.conv1d_transpose(channel, kernel, shape, strides=1, padding="VALID")
            waveforms.append(tf.reshape(overlapped, [batch, (blocks + 1) * self.bands]))
        waveform = self._together(waveforms)
        return waveform[:, self.bands : -self.bands] if trim else waveform

    def _apart(self, tensor):
        """A tensor whose last axis is the channel, as a list of float32 tensors without it."""
        tensor = tf.cast(tensor, tf.float32)
        pair = tensor.shape[-1] == 2 and not self._xla
        return list(_apart_two(tensor)) if pair else tf.unstack(tensor, axis=-1)

    def _together(self, tensors):
        """The tensor that `_apart` took apart."""
        return _together_two(*tensors) if len(tensors) == 2 and not self._xla else tf.stack(tensors, axis=-1)


# Two interleaved channels lie in memory as complex numbers do, and TensorFlow takes those apart many times faster than
# it unstacks. It knows no gradient of that view, so each way is given as the other's.
@tf.custom_gradient
def _apart_two(tensor):
    pairs = tf.bitcast(tensor, tf.complex64)
    return (tf.math.real(pairs), tf.math.imag(pairs)), _together_two


@tf.custom_gradient
def _together_two(first, second):
    return tf.bitcast(tf.complex(first, second), tf.float32), _apart_two


def _size(tensor, axis):
    """The length of an axis: a number where it is known when the graph is made, a tensor where it is not."""
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size
