"""The discriminator: MDCT amplitudes to a score, an octave removed per block (section 3, figure 4)."""

import tensorflow as tf

from mp3net.model import time_split
from mp3net.model.execution import PLAIN
from mp3net.model.layers import Convolution, Dense, minibatch_stddev
from mp3net.model.recompute import recomputed


class DiscriminatorBlock(tf.Module):
    """Figure 3 turned round: 2N bands x 4M blocks of `features[2]` to N bands x M blocks of `features[0]`.

    The upper half of the bands is folded, as an octave of half the width, onto the upper half of the lower ones. The
    balance follows the strided convolution, "just before the downsampled highest octave is summed with the lower
    octaves" (section 3.1).
    """

    def __init__(self, title, features, initializer, slope, extra_inputs=0):
        super().__init__()
        outputs, middle, inputs = features

        def layer(part, *sizes, activation=slope, **options):
            return Convolution(f"{title}/{part}", *sizes, initializer, slope=activation, **options)

        self.both = layer("both", inputs + extra_inputs, inputs)
        self.both_down = layer("both down", inputs, middle, strides=(2, 1))
        self.low = layer("low", middle, middle)
        self.low_down = layer("low down", middle, outputs, strides=(2, 1))
        self.low_balance = layer("low balance", outputs, outputs, kernel=1, activation=None)
        self.high = layer("high", middle, middle)
        self.high_down = layer("high down", middle, outputs, strides=(2, 2))
        self.high_balance = layer("high balance", outputs, outputs, kernel=1, activation=None)

    def __call__(self, x, segments=1):
        """`[batch, 4M, 2N, features[2] (+ extra_inputs)]` to `[batch, M, N, features[0]]`; songs may be held as
        `segments` rows.
        """
        s = segments
        both = self.both_down(self.both(x, s), s)  # [batch, 2M, 2N, mid]
        half = both.shape[2] // 2
        low = self.low_balance(self.low_down(self.low(both[:, :, :half], s), s))  # [batch, M, N, out]
        high = self.high_balance(self.high_down(self.high(both[:, :, half:], s), s))  # [batch, M, N/2, out]
        octave = low.shape[2] // 2
        return tf.concat([low[:, :, :octave], low[:, :, octave:] + high], axis=2)


class Discriminator(tf.Module):
    """Figure 4, right. The minibatch standard deviation enters "just before the last model block", as in the paper.

    Differs: the released code puts it after that block.
    """

    def __init__(self, architecture, initializer, cross_replica_mean=tf.identity, execution=PLAIN):
        super().__init__()
        a = self.architecture = architecture
        self.precision, self.segments = execution.precision, execution.segments_of(a)
        self.recompute = execution.recompute
        self.cross_replica_mean = cross_replica_mean
        slope = a.leaky_slope
        shallowest = a.features(a.model_blocks - 1)[2]
        self.from_channels = Convolution("from channels", a.channels, shallowest, initializer, kernel=1, slope=slope)
        self.model_blocks = [
            DiscriminatorBlock(f"block {i}", a.features(i), initializer, slope, extra_inputs=int(i == 0))
            for i in reversed(range(a.model_blocks))
        ]
        flat = a.base[0] * a.base[1] * a.features(0)[0]
        self.dense = Dense("dense", flat, a.head_features, initializer, slope=slope)
        self.score = Dense("score", a.head_features, 1, initializer)

    def __call__(self, amplitudes, groups=1):
        """Amplitudes `[groups x batch, block, band, channel]` to scores `[groups x batch]`, float32.

        `groups` is as of `minibatch_stddev`.
        """
        held = self.segments[0]
        x = self.from_channels(time_split.hold(tf.cast(amplitudes, self.precision), 1, held))
        for block, segments in zip(self.model_blocks[:-1], self.segments, strict=False):
            x = time_split.hold(x, held, segments)
            x = recomputed(block, x, segments) if self.recompute else block(x, segments)
            held = segments
        x = time_split.hold(x, held, 1)
        x = minibatch_stddev(x, self.cross_replica_mean, groups, self.architecture.stddev_epsilon)
        deepest = self.model_blocks[-1]
        x = recomputed(deepest, x, 1) if self.recompute else deepest(x)
        x = self.dense(tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]]))
        return tf.squeeze(self.score(tf.cast(x, tf.float32)), axis=-1)

    def shallow_variables(self, blocks):
        """The variables of the `blocks` shallowest blocks and of the 1 x 1 from the channels (the hum phase, section
        4.3.1).
        """
        parts = [self.from_channels, *self.model_blocks[:blocks]]
        return tuple(variable for part in parts for variable in part.trainable_variables)
