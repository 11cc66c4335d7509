"""Songs from a system's weights: the one path that previews and `generate` share."""

import tensorflow as tf


class Sampler:
    """Makes songs one at a time: a seed gives the same song to the bit whatever else is made, in bounded memory.

    Args:
      system: a `System` whose `generation_items` are made and restored.
      truncation: bounds |z|; None for no bound.
    """

    def __init__(self, system, truncation=None):
        one = tf.TensorSpec([1], tf.int64)

        @tf.function(autograph=False, input_signature=[one])
        def song(seeds):
            return system.sample(seeds, truncation)[0]

        @tf.function(autograph=False, input_signature=[one, one, tf.TensorSpec([], tf.float32)])
        def between(first, second, fraction):
            return system.interpolate(first, second, fraction, truncation)[0]

        self._song, self._between = song, between

    def song(self, seed):
        """The song of `seed`: float32 array `[sample, channel]`."""
        return self._song(tf.constant([seed], tf.int64)).numpy()

    def between(self, first, second, fraction):
        """The song at `fraction` of the way from seed `first` to seed `second`: float32 array `[sample, channel]`."""
        ends = (tf.constant([seed], tf.int64) for seed in (first, second))
        return self._between(*ends, tf.constant(fraction, tf.float32)).numpy()
