"""The generator: latent vectors to MDCT amplitudes, an octave added per block (section 3, figures 3 and 4)."""

import tensorflow as tf

from mp3net.model import time_split
from mp3net.model.execution import PLAIN
from mp3net.model.layers import Convolution, Dense
from mp3net.model.recompute import recomputed


class GeneratorBlock(tf.Module):
    """Figure 3: N bands x M blocks of `features[0]` to 2N bands x 4M blocks of `features[2]`.

    All N bands carry on as the lower half of the output; the top octave, bands N/2 to N-1, is doubled into the octave
    above it (equation 23). Each is balanced by a 1 x 1 convolution without activation before they are concatenated.
    """

    def __init__(self, title, features, initializer, slope):
        super().__init__()
        inputs, middle, outputs = features

        def layer(part, *sizes, activation=slope, **options):
            return Convolution(f"{title}/{part}", *sizes, initializer, slope=activation, **options)

        self.low_up = layer("low up", inputs, middle, strides=(2, 1), transposed=True)
        self.low = layer("low", middle, middle)
        self.low_balance = layer("low balance", middle, middle, kernel=1, activation=None)
        self.high_up = layer("high up", inputs, middle, strides=(2, 2), transposed=True)
        self.high = layer("high", middle, middle)
        self.high_balance = layer("high balance", middle, middle, kernel=1, activation=None)
        self.both_up = layer("both up", middle, outputs, strides=(2, 1), transposed=True)
        self.both = layer("both", outputs, outputs)

    def __call__(self, x, segments=1):
        """`[batch, M, N, features[0]]` to `[batch, 4M, 2N, features[2]]`; songs may be held as `segments` rows."""
        s = segments
        octave = x[:, :, x.shape[2] // 2 :]
        low = self.low_balance(self.low(self.low_up(x, s), s))  # [batch, 2M, N, mid]
        high = self.high_balance(self.high(self.high_up(octave, s), s))  # [batch, 2M, N, mid]
        both = tf.concat([low, high], axis=2)  # [batch, 2M, 2N, mid]
        return self.both(self.both_up(both, s), s)  # [batch, 4M, 2N, out]


class Generator(tf.Module):
    """Figure 4, left: z ~ N(0, 1) of `latent_size` to MDCT amplitudes within -1..1."""

    def __init__(self, architecture, initializer, execution=PLAIN):
        super().__init__()
        a = self.architecture = architecture
        self.precision, self.segments = execution.precision, execution.segments_of(a)
        self.recompute = execution.recompute
        deepest = a.features(0)[0]
        self.dense = Dense("dense", a.latent_size, a.base[0] * a.base[1] * deepest, initializer, slope=a.leaky_slope)
        self.model_blocks = [
            GeneratorBlock(f"block {i}", a.features(i), initializer, a.leaky_slope) for i in range(a.model_blocks)
        ]
        shallowest = a.features(a.model_blocks - 1)[2]
        self.to_channels = Convolution("to channels", shallowest, a.channels, initializer, kernel=1)

    def __call__(self, latents):
        """`[batch, latent_size]` to amplitudes `[batch, block, band, channel]`, float32."""
        x = self.dense(tf.cast(latents, self.precision))
        x = tf.reshape(x, [-1, *self.architecture.base, self.architecture.features(0)[0]])
        held = 1
        for block, segments in zip(self.model_blocks, reversed(self.segments), strict=True):
            x = time_split.hold(x, held, segments)
            x = recomputed(block, x, segments) if self.recompute else block(x, segments)
            held = segments
        x = time_split.hold(self.to_channels(x), held, 1)
        return tf.tanh(tf.cast(x, tf.float32))

    def shallow_variables(self, blocks):
        """The variables of the `blocks` shallowest blocks and of the 1 x 1 to the channels (the hum phase, section
        4.3.1).
        """
        parts = [*self.model_blocks[len(self.model_blocks) - blocks :], self.to_channels]
        return tuple(variable for part in parts for variable in part.trainable_variables)
