"""A training step of one replica as StableHLO: the D update and the G update of a system that is built."""

import contextlib
import dataclasses
from dataclasses import dataclass

import tensorflow as tf

from mp3net.aot import stablehlo


@dataclass(frozen=True)
class Program:
    """One update of one replica, or a round of them.

    `text` takes `batches` batches of real examples, with what else makes its first `inputs` arguments, and then the
    variables that it reads or changes; it returns results and then the changed variables. `variables` are those that it
    takes, in that order, `others` the rest of the system's.
    """

    text: str
    inputs: int
    batches: int
    variables: tuple
    others: tuple


UPDATES = ("d_step", "g_step")  # the larger one first
ROUND = "round"  # all updates of `System.train_step` as one program


def lower(system, stage, batch, parts=1, updates=UPDATES):
    """Updates of a system that was built for XLA, a replica's `batch` taken in `parts` one after another.

    Args:
      system: an `MP3net`, built at a `Place` of its own with `xla`.
      stage: one of its stages.
      batch: examples that one replica takes.
      parts: divides `batch`.
      updates: which of them; also `ROUND`.

    Returns: `Program`s by update.
    """

    def d_step(real, examples):
        return system.update_discriminator(stage.settings, real, examples, parts)

    def g_step(examples):
        return system.update_generator(stage.settings, examples, parts)

    def whole_round(batches, examples):
        return system.train_step(dataclasses.replace(stage, micro_batches=parts), batches, examples)

    def taken(batches):
        """Real examples and their places: of one batch, or of several, stacked."""
        shape = [*batches, batch]
        return [tf.TensorSpec([*shape, *system.sizes.output_shape], tf.float32), tf.TensorSpec(shape, tf.int64)]

    count = system.steps_per_round
    known = {
        "d_step": (d_step, taken([]), 1),
        "g_step": (g_step, taken([])[1:], 0),
        ROUND: (whole_round, taken([count]), count),
    }
    return {update: _program(system, *known[update]) for update in updates}


def variables(system):
    """All variables of a system: weights, optimizers, and the average if there is one."""
    items = system.checkpoint_items().values()
    every = (v for item in items for v in ([item] if isinstance(item, tf.Variable) else item.variables))
    return list({v.ref(): v for v in every}.values())


def state_bytes(system):
    """Bytes of all `variables`."""
    return sum(v.shape.num_elements() * v.dtype.size for v in variables(system))


def _program(system, step, specs, batches):
    known = variables(system)
    text, taken = lowered(step, specs, known)
    references = {variable.ref() for variable in taken}
    others = tuple(variable for variable in known if variable.ref() not in references)
    return Program(text, len(specs), batches, taken, others)


def lowered(step, specs, known):
    """`step`, a function of tensors of `specs`, as StableHLO text, and those of the variables `known` that it takes.

    The text's arguments are the tensors, then the variables in that order; its results are those of `step`, then the
    variables that it changes.
    """
    # One flat function: what a nested one captures would become constants of the program, all weights among them.
    function = tf.function(step, jit_compile=True, autograph=False)
    by_handle = {id(variable.handle): variable for variable in known}
    with _float32_products():
        handles = [id(handle) for handle in function.get_concrete_function(*specs).graph.external_captures]
        text = stablehlo.plain(function.experimental_get_compiler_ir(*specs)(stage="stablehlo"))
    return text, tuple(by_handle[handle] for handle in handles)


def tensor_type(variable):
    """(shape, dtype) of a variable, as stablehlo.py has them."""
    return tuple(variable.shape), {tf.float32: "f32", tf.int64: "i64"}[variable.dtype]


@contextlib.contextmanager
def _float32_products():
    """Has float32 products lowered in full precision, as training has them made wherever it runs."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
