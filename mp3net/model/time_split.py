"""Convolutions over a long block axis as a batch of short ones, exactly (section 4.2.1: "split convolutions over
activations with large block length ... along the batch dimension").

A song of M blocks is held as `segments` rows of M / segments blocks: a TPU's tiles are 128 numbers wide, and the rows
fill what a single song with few features would leave empty. Each row is convolved as if nothing stood beside it, and
what a kernel 3 blocks wide takes from over the seam, one block of the neighbouring row, is convolved apart and added to
the first or last block. Nothing is padded or copied for it: XLA adds it while it writes the convolution.
"""

import tensorflow as tf


def hold(x, before, after):
    """Songs held as `before` rows each, `[batch x before, block, band, feature]`, as `after` rows each."""
    _, blocks, bands, features = x.shape
    return x if before == after else tf.reshape(x, [-1, blocks * before // after, bands, features])


def convolve(x, kernel, strides, transposed, segments):
    """A convolution, padded as TensorFlow's SAME (stride 2: none before, one after), of songs held as `segments` rows.

    Args:
      x: `[batch x segments, block, band, inputs]`, blocks and bands even where the stride is 2.
      kernel: `[3, 3, inputs, outputs]` or `[1, 1, ...]`; `[..., outputs, inputs]` where `transposed`.
      strides: of (block, band), each 1 or 2; of blocks 2 where `transposed`.
      transposed: whether it is the transpose of the convolution of those strides, blocks and bands multiplied by them.

    Returns: `[batch x segments, block', band', outputs]`.
    """
    y = _alone(x, kernel, strides, transposed)
    if segments == 1 or kernel.shape[0] == 1:
        return y
    first, last, along = kernel[:1], kernel[2:], (1, strides[1])
    if transposed:
        # Input block i makes output blocks 2i, 2i + 1 and 2i + 2: the last one reaches over the seam.
        return y + _at(0, _alone(_block_before(x, segments), last, along, True), y)
    # Output block i takes input blocks 2i, 2i + 1 and 2i + 2, or i - 1, i and i + 1 at stride 1.
    y += _at(-1, _alone(_block_after(x, segments), last, along, False), y)
    if strides[0] == 1:
        y += _at(0, _alone(_block_before(x, segments), first, along, False), y)
    return y


def _alone(x, kernel, strides, transposed):
    """The convolution of rows with nothing but zeros around them."""
    if not transposed:
        return tf.nn.conv2d(x, kernel, strides, "SAME")
    shape = [tf.shape(x)[0], x.shape[1] * strides[0], x.shape[2] * strides[1], kernel.shape[2]]
    return tf.nn.conv2d_transpose(x, kernel, shape, strides, "SAME")


def _block_before(x, segments):
    """The last block of the row before each, zeros at the start of a song: `[batch x segments, 1, band, feature]`."""
    lasts = tf.reshape(x[:, -1:], [-1, segments, *x.shape[2:]])
    return tf.reshape(tf.pad(lasts[:, :-1], [[0, 0], [1, 0], [0, 0], [0, 0]]), [-1, 1, *x.shape[2:]])


def _block_after(x, segments):
    """The first block of the row after each, zeros at the end of a song: `[batch x segments, 1, band, feature]`."""
    firsts = tf.reshape(x[:, :1], [-1, segments, *x.shape[2:]])
    return tf.reshape(tf.pad(firsts[:, 1:], [[0, 0], [0, 1], [0, 0], [0, 0]]), [-1, 1, *x.shape[2:]])


def _at(place, block, like):
    """`block`, `[row, 1, band, feature]`, at the first (0) or last (-1) of the blocks of `like`, zeros elsewhere."""
    blocks = like.shape[1]
    # A product with ones and zeros, not a padding or a scatter: XLA makes no tensor of it.
    return block * tf.reshape(tf.one_hot(place % blocks, blocks, dtype=like.dtype), [1, blocks, 1, 1])
