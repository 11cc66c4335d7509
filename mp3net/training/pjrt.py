"""Training on PJRT, the runtime under JAX: rounds that TensorFlow has lowered, on whatever devices JAX drives."""

import contextlib
import os
import time

import jax
import numpy as np
import tensorflow as tf

from mp3net import hardware
from mp3net.aot import cache
from mp3net.errors import UsageError, UserError
from mp3net.pjrt import programs
from mp3net.pjrt.ahead import Ahead
from mp3net.stage import Share, share_of
from mp3net.training.lowered import lower_call, lower_encoding, place_of

NAMES = "jax, jax:cpu, jax:gpu or jax:tpu, each also with :N for N devices"
_PLATFORMS = ("cpu", "gpu", "tpu")
_FIX = {
    "cpu": "pip install --upgrade jax jaxlib.",
    "gpu": "nvidia-smi must answer; then: pip install 'mp3net[cpu,jax-cuda]'.",
    "tpu": "On a TPU VM: pip install 'mp3net[cpu,jax-tpu]'.",
}


class PjrtDevices:
    """Devices that JAX drives, with all that the trainer asks of `devices.Devices`.

    The values of a system's variables live there, from the first call on; `bring_back` sets TensorFlow's by them.

    Args:
      mesh: a `programs.Mesh`.
      log: takes a line for each compilation.
    """

    hosts, chief, encodes = 1, True, True

    def __init__(self, mesh, log=print):
        self._mesh, self._log, self.replicas = mesh, log, mesh.replicas
        platform = mesh.platform.upper()
        kind = "" if platform == "CPU" else f" ({mesh.kind})"
        self.name = f"JAX {platform}{kind}" if self.replicas == 1 else f"{self.replicas} JAX {platform}s{kind}"
        self.place = place_of(platform, self.replicas)
        self._values, self._variables, self._changed, self._ahead = {}, [], set(), None

    def scope(self):
        """The context in which variables are made: TensorFlow's, on the host."""
        return tf.device("CPU")

    def split(self, batch_size, micro_batch=None):
        """As `Devices.split`."""
        return share_of(batch_size, self.replicas, self.name, micro_batch)

    def feed(self, dataset_of, encode):
        """An iterator over what the calls take, on the devices before it is asked for: (encoded, examples), a part for
        each replica.

        Args:
          dataset_of: as of `Devices.feed`, of waveforms in place of encoded audio.
          encode: `[n, sample, channel]` to what the networks see; the devices do it.
        """
        dataset = dataset_of(Share(self.replicas, 0, self.replicas))
        shape = dataset.element_spec[0].shape
        encoder = programs.encoder(self._mesh, lower_encoding(encode, shape), shape)

        def put(elements):
            waves, examples = (self._mesh.split(np.stack(parts)) for parts in zip(*elements, strict=True))
            return encoder(waves), examples

        self.close()
        self._ahead = Ahead(dataset.as_numpy_iterator(), self.replicas, put)
        return self._ahead

    def compile(self, round_of, rounds, variables):
        """As `Devices.compile`; the program is lowered and compiled when it is first called."""
        program = None

        def call(data, first, count):
            nonlocal program
            inputs = self._inputs(data, first, count)
            if program is None:
                program = self._program = self._compiled(round_of, rounds, variables, inputs)
            rows = program(inputs, self._values)[0]
            self._changed.update(program.changed)
            return rows

        return call

    def bare(self, data):
        """A function that runs the last compiled program alone, one round of `data`: for benchmarks."""
        inputs = self._inputs(data, 0, 1)
        return lambda: np.asarray(self._program(inputs, self._values)[0])

    def _inputs(self, data, first, count):
        return *data, *(self._mesh.share(np.int32(number)) for number in (first, count))

    def _compiled(self, round_of, rounds, variables, inputs):
        begun = time.monotonic()
        specs = [tf.TensorSpec(part.shape[1:], tf.as_dtype(part.dtype)) for part in inputs[:-2]]
        lowered = lower_call(round_of, rounds, specs, variables, self.place.cross_replica_mean)
        self._log(f"program of {rounds} round{'s' * (rounds > 1)}: lowered in {time.monotonic() - begun:.1f} s")
        self._variables = variables
        for name in set(lowered.signature.names) - self._values.keys():
            self._values[name] = self._mesh.share(variables[int(name)].numpy())
        program = programs.Program(self._mesh, lowered, programs.CALL)
        self._log(f"program for {self.name}: {program.compile(inputs, self._values)}")
        return program

    def bring_back(self):
        """Sets TensorFlow's variables to what calls have made of them."""
        for name in self._changed:
            self._variables[int(name)].assign(np.asarray(self._values[name]))
        self._changed.clear()

    def watched(self):
        """As `Devices.watched`; there is no other host to lose."""
        return contextlib.nullcontext()

    def largest(self, numbers):
        """As `Devices.largest`, of one host."""
        return numbers

    def close(self):
        """Ends the thread that fetches data."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


def choose(name, which):
    """The `PjrtDevices` of `--device NAME`, which is "jax:" and `which`. Must be called before JAX has run anything.

    Raises `UsageError` where there is no such name, `UserError` where there is no such device.
    """
    platform, count = parsed(name, which)
    devices = _devices(platform or _platform_here(), count, name)
    programs.keep_compiled(cache.folder().parent / "jax")
    return PjrtDevices(programs.Mesh(devices))


def parsed(name, which):
    """(platform or "", number of devices or None) of `--device NAME`, which is "jax:" and `which`."""
    platform, _, number = which.partition(":") if not which.isdigit() else ("", "", which)
    if platform not in (*_PLATFORMS, "") or (number and not (number.isdigit() and int(number))):
        raise UsageError(f"--device {name}: there is no such device. It is {NAMES}.")
    return platform, int(number) if number else None


def _platform_here():
    return "tpu" if hardware.tpu_chips() else "gpu" if hardware.nvidia_gpus() else "cpu"


def _devices(platform, count, name):
    """The first `count` devices of a platform; None for all, but of a CPU one."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")  # of a GPU: JAX's own 0.75 is for shared ones
    if platform == "cpu" and count:
        jax.config.update("jax_num_cpu_devices", count)
    if platform != "gpu" or hardware.nvidia_gpus():
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}[platform])
    try:
        there = jax.devices(platform)
    except RuntimeError as error:
        raise UserError(
            f"--device {name}: JAX sees no {platform.upper()} ({_first_line(error)}). {_FIX[platform]}"
        ) from None
    if count and count > len(there):
        raise UserError(f"--device {name}: JAX sees {len(there)} of these devices.")
    return there[:count]


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
