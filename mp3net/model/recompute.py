"""Model blocks that keep their input alone for the backward pass, and compute the rest again there (Chen et al., 2016).

`tf.recompute_grad` does so for one gradient; the gradient penalty is the gradient of a gradient, so this does it for
both.
"""

import tensorflow as tf

from mp3net.model.layers import reading


def recomputed(block, x, segments):
    """`block(x, segments)`, whose first and second gradients compute its activations anew instead of keeping them."""
    variables = block.trainable_variables

    def forward(x, *values):
        with reading(variables, values):
            return block(x, segments)

    return _forgetful(forward, gradients=2)(x, *[tf.convert_to_tensor(variable) for variable in variables])


def _forgetful(function, gradients):
    """`function` of (x, others...) to one tensor or several, which for that many gradients keeps its inputs alone."""

    @tf.custom_gradient
    def wrapped(x, *others):
        def gradient(*upstream):
            # Apart for x and for the others: the penalty takes x's alone, and differentiates no more than it takes.
            parts = []
            for chosen in (slice(0, 1), slice(1, None)):
                part = _gradient_of(function, len(upstream), chosen)
                parts += (_forgetful(part, gradients - 1) if gradients > 1 else part)(x, *upstream, *others)
            return parts

        return function(x, *others), gradient

    return wrapped


def _gradient_of(function, outputs, chosen):
    """Of (x, `outputs` upstream gradients, others...), the gradients by those `chosen` of x and the others."""

    def gradient(x, *rest):
        upstream, others = rest[:outputs], rest[outputs:]
        inputs = [_after(upstream[0], x), *others]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(y, inputs[chosen], upstream if outputs > 1 else upstream[0], unconnected_gradients=zero)

    return gradient


def _after(upstream, x):
    """`x`, but not to be had before `upstream`: else a compiler would see the same sum twice, and keep the first."""
    element = tf.cast(tf.reshape(upstream, [-1])[0], x.dtype)
    return x + tf.where(tf.equal(element, element), tf.zeros([], x.dtype), element)
