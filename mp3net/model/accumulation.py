"""Turns, never two at once: the parts of a batch that does not fit whole, and the D updates of a round."""

import tensorflow as tf


def mean_of_parts(function, inputs, parts, loops):
    """The mean of `function` over equal parts of a batch: `mean_of_turns` on inputs `[batch, ...]`, which `parts`
    divides.
    """
    if parts == 1:
        return function(*inputs)
    return mean_of_turns(function, [tf.reshape(each, [parts, -1, *each.shape[1:]]) for each in inputs], loops)


def mean_of_turns(function, inputs, loops):
    """The mean of `function` over the first axis of its inputs, one turn at a time.

    Args:
      function: takes one of each of `inputs`, and returns (list of tensors, float32 scalars by name, booleans by name).
      inputs: tensors `[turn, ...]`.
      loops: whether the turns are a graph's loop, which compiles once and holds the activations of one turn alone.
        Where `function` may not run inside a loop they follow one another by control dependencies, in a graph as many
        times larger.

    Returns: what `function` returns: tensors and scalars averaged, booleans true where all are.
    """
    turns = inputs[0].shape[0]
    names = {}

    def flat(turn):
        tensors, scalars, checks = function(*[each[turn] for each in inputs])
        names.update(scalars=list(scalars), checks=list(checks))
        return list(tensors), tf.stack(list(scalars.values())), tf.stack(list(checks.values()))

    tensors, scalars, checks = (_looped if loops else _unrolled)(flat, turns)
    scalars = dict(zip(names["scalars"], tf.unstack(scalars / turns), strict=True))
    return [each / turns for each in tensors], scalars, dict(zip(names["checks"], tf.unstack(checks), strict=True))


def _add(total, turn):
    return [a + b for a, b in zip(total[0], turn[0], strict=True)], total[1] + turn[1], total[2] & turn[2]


def _unrolled(flat, turns):
    total = flat(0)
    for turn in range(1, turns):
        with tf.control_dependencies(tf.nest.flatten(total)):
            total = _add(total, flat(turn))
    return total


def _looped(flat, turns):
    # Traced apart for its shapes alone, for a loop must be told of what it begins with.
    one = tf.function(flat, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32)).structured_outputs
    nothing = tf.nest.map_structure(lambda spec: tf.cast(tf.fill(spec.shape, spec.dtype == tf.bool), spec.dtype), one)
    body = lambda turn, total: (turn + 1, _add(total, flat(turn)))  # noqa: E731
    start = (tf.constant(0), (list(nothing[0]), nothing[1], nothing[2]))
    return tf.while_loop(lambda turn, _: turn < turns, body, start, parallel_iterations=1)[1]
