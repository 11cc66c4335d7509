"""Compiles StableHLO text through JAX, for a device at hand or for one that is only described. Needs no TensorFlow."""

import numpy as np

# What JAX compiles its own functions by: for a program from elsewhere it has no public way.
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jaxlib.mlir import ir


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
