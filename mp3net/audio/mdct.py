"""The modified discrete cosine transform: the paper's section 2.1, equations 1 to 6.

The transform is linear, and a block of amplitudes is a weighted sum of two consecutive blocks of samples. So equation 2
is written as what it is: a convolution over blocks, two wide, whose kernel is the windowed cosine; the inverse is its
transpose. Channels share a row with the bands, and the kernel keeps them apart by zeros: multiplying by those costs
less than the passes over memory that a fold, its reversal and two transpositions take (`benchmarks/signals.py`).
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
    """

    def __init__(self, bands, window=None):
        if bands < 1:
            raise ValueError(f"an MDCT needs at least 1 band, not {bands}")
        self.bands = bands
        self._table = cosine_table(bands, vorbis_window(bands) if window is None else np.asarray(window))
        self._kernels = {}

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
        samples, channels = waveform.shape[1], waveform.shape[2]
        if samples is not None and (samples % self.bands or samples < 2 * self.bands):
            raise ValueError(
                f"an MDCT of {self.bands} bands takes a multiple of {self.bands} samples, at least {2 * self.bands}, "
                f"not {samples}"
            )
        # Equation 1: x((mN + n) t0) is blocks[m, n].
        blocks = self._rows(waveform, channels, blocks=None if samples is None else samples // self.bands)
        # Equation 2.
        amplitudes = tf.nn.conv1d(blocks, self._kernel(channels), stride=1, padding="VALID")
        return tf.reshape(amplitudes, [_size(amplitudes, 0), _size(amplitudes, 1), self.bands, channels])

    def inverse(self, amplitudes, trim=False):
        """The waveform that `forward` made the amplitudes from, or would have.

        Args:
            amplitudes: [batch, block, band, channel] of M blocks.
            trim: drop the first and the last N samples. They lie under one block only, not two, so that their
                aliasing stays: a song is what lies between them.

        Returns:
            float32 [batch, sample, channel] of (M + 1) x N samples; trimmed, (M - 1) x N.
        """
        channels = amplitudes.shape[3]
        if amplitudes.shape[2] != self.bands:
            raise ValueError(f"an MDCT of {self.bands} bands takes amplitudes of as many, not {amplitudes.shape[2]}")
        rows = self._rows(amplitudes, channels, blocks=amplitudes.shape[1])
        batch, blocks = _size(rows, 0), _size(rows, 1)
        # With equations 4 and 5, the rows of equation 2 are orthogonal, and at this scale 1 / sqrt(4N) long: 4N times
        # the transpose is the inverse.
        waveform = tf.nn.conv1d_transpose(
            rows,
            4 * self.bands * self._kernel(channels),
            output_shape=[batch, blocks + 1, self.bands * channels],
            strides=1,
            padding="VALID",
        )
        waveform = tf.reshape(waveform, [batch, (blocks + 1) * self.bands, channels])
        return waveform[:, self.bands : -self.bands] if trim else waveform

    def _rows(self, tensor, channels, blocks):
        """Any tensor whose last axis is the channel, as float32 [batch, block, band or sample x channel]."""
        rows = tf.reshape(tensor, [_size(tensor, 0), -1 if blocks is None else blocks, self.bands * channels])
        return tf.cast(rows, tf.float32)

    def _kernel(self, channels):
        """The table of equation 2 as a convolution's kernel: float32 [2, N x channel (n, c), N x channel (k, c)]."""
        if channels not in self._kernels:
            halves = np.split(self._table, 2)
            kernel = np.stack([np.kron(half, np.eye(channels)) for half in halves])
            self._kernels[channels] = kernel.astype(np.float32)
        return self._kernels[channels]


def _size(tensor, axis):
    """The length of an axis: a number where it is known when the graph is made, a tensor where it is not."""
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size
