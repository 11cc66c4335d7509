"""What a configuration costs: shapes, parameters, FLOP and memory, counted from the layers as they are traced."""

import tensorflow as tf

from mp3net.model.discriminator import Discriminator
from mp3net.model.generator import Generator
from mp3net.model.layers import Initializer, recording

_FLOAT_BYTES = 4
# Three forward passes (real, generated, mixed), the gradient of the last, which the penalty is differentiated through,
# and what the executor holds on the way: measured on a CPU (benchmarks/memory.py).
_KEPT = 7.5


def layer_records(sizes):
    """`LayerRecord`s of both networks of an `Architecture`, in the order of a pass, by network; nothing is computed."""
    inputs = {
        "generator": (Generator, [1, sizes.latent_size]),
        "discriminator": (Discriminator, [1, *sizes.output_shape]),
    }
    found = {}
    for name, (network, shape) in inputs.items():
        with recording() as records:
            tf.function(network(sizes, Initializer(0)), autograph=False).get_concrete_function(tf.TensorSpec(shape))
        found[name] = records
    return found


def training_cost(records, batch_size):
    """FLOP and memory of the updates of one batch, as plain JSON.

    A pass and its gradient by input and by weights cost one pass each. A D update runs G once, D with its gradients on
    real and on generated (3 + 3), and for the penalty D, its gradient by the input, and the gradient of that one along
    both of its ways (1 + 1 + 4): G + 12 D. A G update: 3 G + 2 D.

    The activations are counted in outputs of all of D's layers, of which a D update holds the worth of `_KEPT` at its
    peak.
    """
    pass_flop = {name: 2 * sum(record.multiply_adds for record in layers) for name, layers in records.items()}
    parameters = sum(record.parameters for layers in records.values() for record in layers)
    outputs = sum(_elements(record.output_shape) for record in records["discriminator"])
    return {
        "d_step_tflop": batch_size * (pass_flop["generator"] + 12 * pass_flop["discriminator"]) / 1e12,
        "g_step_tflop": batch_size * (3 * pass_flop["generator"] + 2 * pass_flop["discriminator"]) / 1e12,
        "state_gib": 4 * parameters * _FLOAT_BYTES / 2**30,
        "activations_gib": _KEPT * batch_size * outputs * _FLOAT_BYTES / 2**30,
    }


def _elements(shape):
    count = 1
    for size in shape:
        count *= size
    return count
