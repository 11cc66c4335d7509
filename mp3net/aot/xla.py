"""Compiles StableHLO text through JAX, for a device at hand or for one that is only described. Needs no TensorFlow."""

import jax
import numpy as np

# What JAX compiles its own functions by: for a program from elsewhere it has no public way.
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jaxlib.mlir import ir

from mp3net.aot import stablehlo

_PORTABLE = "1.9.0"  # the version of StableHLO that is written: that of jax 0.6, whatever is installed


def load(text, device):
    """The program of `stablehlo.plain` text for one JAX device, compiled: an executable of JAX's runtime."""
    options = compiler.get_compile_options(
        num_replicas=1, num_partitions=1, device_assignment=np.array([[device.id]], dtype=np.int32)
    )
    devices = xla_client.DeviceList((device,))
    with mlir.make_ir_context():
        return compiler.backend_compile_and_load(device.client, ir.Module.parse(text), devices, options, [])


def counts(program):
    """The compiler's own count of a program: {"flops", "bytes accessed", "optimal_seconds", ...}."""
    found = program.cost_analysis()
    return found if isinstance(found, dict) else found[0]


def arithmetic(text):
    """FLOP of a program, each loop's body counted once, without compiling it."""
    from mp3net.pjrt import programs

    signature = programs.Signature(0, stablehlo.arguments(text), stablehlo.results(text), (), {})
    call = programs.call_of(programs.Lowered(serialised(text), signature))
    types = [jax.ShapeDtypeStruct(tuple(shape), programs.DTYPES[dtype]) for shape, dtype in signature.arguments]
    return jax.jit(call).lower(*types).cost_analysis()["flops"]


def serialised(text):
    """`stablehlo.plain` text in the form that JAX's exports hold, which releases of JAX years apart can read."""
    from jaxlib.mlir.dialects import stablehlo  # has no public name

    return stablehlo.serialize_portable_artifact_str(text, _PORTABLE)
