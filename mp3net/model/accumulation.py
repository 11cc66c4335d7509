"""Gradients of a batch by parts, where a replica's share of it does not fit at once."""

import tensorflow as tf


def mean_of_parts(function, inputs, parts, loops):
    """The mean of `function` over equal parts of a batch, one part at a time.

    Args:
      function: takes a part of each of `inputs`, and returns (list of gradients, float32 scalars by name, booleans by
        name).
      inputs: tensors `[batch, ...]`.
      parts: how many; it divides the batch.
      loops: whether `function` may run inside a graph's loop. Where it may not, the parts follow one another by control
        dependencies, in a graph as many times larger.

    Returns: what `function` returns: gradients and scalars averaged, booleans true where all are.
    """
    if parts == 1:
        return function(*inputs)
    inputs = [tf.reshape(each, [parts, -1, *each.shape[1:]]) for each in inputs]
    names = {}

    def flat(part):
        gradients, scalars, checks = function(*[each[part] for each in inputs])
        names.update(scalars=list(scalars), checks=list(checks))
        return gradients, tf.stack(list(scalars.values())), tf.stack(list(checks.values()))

    total = _looped(flat, parts) if loops else _unrolled(flat, parts)
    gradients, scalars, checks = total
    scalars = dict(zip(names["scalars"], tf.unstack(scalars / parts), strict=True))
    return [each / parts for each in gradients], scalars, dict(zip(names["checks"], tf.unstack(checks), strict=True))


def _add(total, part):
    return [a + b for a, b in zip(total[0], part[0], strict=True)], total[1] + part[1], total[2] & part[2]


def _unrolled(flat, parts):
    total = flat(0)
    for part in range(1, parts):
        with tf.control_dependencies(total[0]):
            total = _add(total, flat(part))
    return total


def _looped(flat, parts):
    # Traced apart for its shapes alone, for a loop must be told of what it begins with.
    one = tf.function(flat, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int32)).structured_outputs
    nothing = tf.nest.map_structure(lambda spec: tf.cast(tf.fill(spec.shape, spec.dtype == tf.bool), spec.dtype), one)
    body = lambda part, total: (part + 1, _add(total, flat(part)))  # noqa: E731
    start = (tf.constant(0), (list(nothing[0]), nothing[1], nothing[2]))
    return tf.while_loop(lambda part, _: part < parts, body, start, parallel_iterations=1)[1]
