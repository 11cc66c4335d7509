"""What a run is made of, lowered for PJRT: a call of some rounds, and the encoding of its audio."""

import copy

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from mp3net.aot import lowering, stablehlo, xla
from mp3net.pjrt.programs import Lowered, Signature
from mp3net.stage import Place
from mp3net.training.loops import repeat


def place_of(platform, replicas):
    """The `Place` of a run on PJRT: XLA, and means over `replicas` by an all-reduce in the program."""
    return Place(platform, True, _mean_over(replicas) if replicas > 1 else lambda tensors: tensors)


def lower_call(round_of, rounds, specs, variables, cross_replica_mean):
    """A call of at most `rounds` rounds: (data, first, count) to float32 `[rounds, statistic]`, means over replicas.

    Args:
      round_of: as of `Devices.compile`.
      specs: of a replica's data of the call.
      variables: that it may take; one is named by its place among them.
    """

    def one(data, i):
        return cross_replica_mean(round_of(tuple(tensor[i] for tensor in data)))

    def call(*inputs):
        *data, first, count = inputs
        return repeat(lambda i: one(data, i), first, count, rounds)

    number = tf.TensorSpec([], tf.int32)
    return lower(call, [*specs, number, number], variables)


def lower_encoding(encode, shape):
    """`encode` of the waveforms `[..., sample, channel]` of a call, as `[n, sample, channel]`."""
    count = tf.TensorShape(shape[:-2]).num_elements()
    return lower(encode, [tf.TensorSpec([count, *shape[-2:]], tf.float32)], [])


def lower_initial(system, place, seed):
    """Builds `system`; returns what its variables begin with as a program of the run's seed, int64 `[]`."""
    made, values = [], {}

    def note(following, **arguments):
        made.append(following(**arguments))
        return made[-1]

    with tf.variable_creator_scope(note):
        system.build(place, seed)

    # A seed that is known would have the compiler draw the weights, and hold them: 0.5 GB of program for 95s.
    def initial(seed):
        again = iter(made)

        def draw(_, **arguments):
            variable, value = next(again), arguments["initial_value"]
            values[variable.ref()] = tf.convert_to_tensor(value() if callable(value) else value, variable.dtype)
            return variable

        with tf.variable_creator_scope(draw):
            copy.copy(system).build(place, seed)
        return [values[variable.ref()] for variable in lowering.variables(system)]

    return lower(initial, [tf.TensorSpec([], tf.int64)], [])


def lower(step, specs, variables):
    """`step`, a function of tensors of `specs`, which may take and change `variables`, named by their places."""
    text, taken = lowering.lowered(step, specs, variables)
    place = {variable.ref(): str(i) for i, variable in enumerate(variables)}
    names = tuple(place[variable.ref()] for variable in taken)
    aliases = {result: names[argument - len(specs)] for result, argument in stablehlo.aliases(text).items()}
    signature = Signature(len(specs), stablehlo.arguments(text), stablehlo.results(text), names, aliases)
    return Lowered(xla.serialised(stablehlo.over_devices(text)), signature)


def _mean_over(replicas):
    """The mean over replicas of a tensor or of each of a list, with its gradients, as an all-reduce of StableHLO."""
    groups = [list(range(replicas))]

    @tf.custom_gradient
    def mean(tensor):
        total = gen_xla_ops.xla_all_reduce(
            input=tensor, group_assignment=tf.constant(groups), reduce_op="Add", mode="CrossReplica"
        )
        # Every replica's mean takes this one's share, and a replica's loss is its share of the whole: a mean again.
        return total / replicas, mean

    return lambda tensors: tf.nest.map_structure(mean, tensors)
