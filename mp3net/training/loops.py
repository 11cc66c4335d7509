"""A loop of rounds in one graph."""

import tensorflow as tf


def repeat(function, first, count, limit):
    """Stacks `function(i)`, float32 `[statistic]`, for `count` indices from `first` on: `[limit, statistic]`."""
    if limit == 1:
        return function(first)[None]
    # Traced apart for its shape alone, for XLA must know what a loop begins with.
    shape = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32)).output_shapes

    def body(done, rows):
        row = function(first + done)
        return done + 1, tf.tensor_scatter_nd_update(rows, [[done]], row[None])

    start = (tf.constant(0), tf.zeros([limit, *shape]))
    return tf.while_loop(lambda done, _: done < count, body, start, parallel_iterations=1)[1]
