"""StableHLO programs on the devices that JAX sees, and the state that they keep there: by JAX's public interfaces.

A program is written for one replica; every device of a `Mesh` runs it on its own share of the data, and its all-reduces
(stablehlo.py) join them. Weights and whatever else is changed from call to call stay on the devices.
"""

import dataclasses
import time

import jax
import jax.export
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_AXIS = "replica"
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f64": "float64", "i1": "bool", "i32": "int32", "i64": "int64"}
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a program takes and returns; plain, so that it travels as JSON.

    `arguments` and `results` are (shape, dtype as StableHLO names it); the first `inputs` arguments are tensors, the
    others the variables of those `names`. `aliases` tells, by the index of a result, which variable it is the new value
    of.
    """

    inputs: int
    arguments: tuple
    results: tuple
    names: tuple
    aliases: dict

    @classmethod
    def from_json(cls, signature):
        """The one that `dataclasses.asdict` made JSON of."""
        aliases = {int(result): name for result, name in signature["aliases"].items()}
        return cls(
            signature["inputs"], signature["arguments"], signature["results"], tuple(signature["names"]), aliases
        )


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program as it travels (`aot.xla.serialised`), and what it takes and returns."""

    artifact: bytes
    signature: Signature


class Mesh:
    """Some devices of one kind, each of which runs a replica."""

    def __init__(self, devices):
        jax.config.update("jax_enable_x64", True)  # counters, and the numbers of examples, are int64
        self.devices, self.replicas = list(devices), len(devices)
        self.mesh = jax.sharding.Mesh(np.array(self.devices), (_AXIS,))
        self._shared = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(_AXIS))

    @property
    def platform(self):
        """ "cpu", "gpu" or "tpu"."""
        return self.devices[0].platform

    @property
    def kind(self):
        """What the devices call themselves."""
        return self.devices[0].device_kind

    def share(self, array):
        """An array on every device."""
        return jax.device_put(array, self._shared)

    def split(self, array):
        """`[replica, ...]`, a part on each device."""
        return jax.device_put(array, self._split)

    def spread(self, function, split, donated=()):
        """`function` as each replica runs it, compiled when it is first called.

        Args:
          function: of arrays, which returns arrays.
          split: for each argument whether a replica takes its part of it, without the first axis, or the whole; last,
            the same of all results, which are otherwise the same on all.
          donated: arguments whose memory the results take over.
        """
        parts = [PartitionSpec(_AXIS) if one else PartitionSpec() for one in split]

        def replica(*arguments):
            own = [argument[0] if one else argument for argument, one in zip(arguments, split, strict=False)]
            results = function(*own)
            return jax.tree.map(lambda result: result[None], results) if split[-1] else results

        mapped = jax.shard_map(
            replica, mesh=self.mesh, in_specs=tuple(parts[:-1]), out_specs=parts[-1], check_vma=False
        )
        return jax.jit(mapped, donate_argnums=donated)


def call_of(program):
    """A `Lowered` program as a function of JAX, that takes and returns arrays."""
    signature = program.signature
    arguments, results = (
        [jax.ShapeDtypeStruct(tuple(shape), DTYPES[dtype]) for shape, dtype in types]
        for types in (signature.arguments, signature.results)
    )

    def alike(*_):
        return tuple(jax.numpy.zeros(result.shape, result.dtype) for result in results)

    # JAX makes an `Exported` of its own functions only: this is one with the same signature, whose body is replaced.
    exported = jax.export.export(jax.jit(alike, keep_unused=True))(*arguments)
    return dataclasses.replace(exported, mlir_module_serialized=program.artifact).call


class Program:
    """A program that changes variables, on a `Mesh`.

    Args:
      mesh: a `Mesh`.
      program: a `Lowered` one.
      split: for each of its inputs, whether a replica takes a part of it (`Mesh.spread`).
    """

    def __init__(self, mesh, program, split=()):
        signature = program.signature
        inputs, names, aliases = signature.inputs, signature.names, signature.aliases
        changed = set(aliases.values())
        self._kept = [name for name in names if name not in changed]
        self._changed = [name for name in names if name in changed]
        self._first = [index for index in range(len(signature.results)) if index not in aliases]
        result_of = {name: index for index, name in aliases.items()}
        call = call_of(program)

        def step(*arguments):
            kept, state = arguments[inputs:]
            values = dict(zip(self._kept, kept, strict=True)) | dict(zip(self._changed, state, strict=True))
            results = call(*arguments[:inputs], *[values[name] for name in names])
            return [results[i] for i in self._first], [results[result_of[name]] for name in self._changed]

        self._call = mesh.spread(step, [*split, False, False, False], donated=(inputs + 1,))
        self._compiled = None

    def compile(self, inputs, state):
        """Compiles for such `inputs` and `state`, or reads what was compiled before; returns a `Compilation`."""
        hits = []

        def note(event, **_):
            hits.extend([event] if event == _CACHE_HIT else [])

        jax.monitoring.register_event_listener(note)
        begun = time.monotonic()
        self._compiled = self._call.lower(*inputs, *self._taken(state)).compile()
        return Compilation.of(self._compiled, time.monotonic() - begun, bool(hits))

    def __call__(self, inputs, state):
        """Runs it on `inputs`, and puts the changed variables into `state`, arrays by name, whose own are used up.

        Returns: the other results, which may not be there yet.
        """
        results, changed = self._compiled(*inputs, *self._taken(state))
        state.update(zip(self._changed, changed, strict=True))
        return results

    @property
    def changed(self):
        """Names of the variables that it changes."""
        return tuple(self._changed)

    def _taken(self, state):
        return [state[name] for name in self._kept], [state[name] for name in self._changed]


CALL = (True, True, False, False)  # of a call of rounds a replica takes its data, and all of (first, count)


def encoder(mesh, program, shape):
    """A function of waveforms `[replica, *shape]`, `[..., sample, channel]`, to what the networks see of each.

    Args:
      program: the `Lowered` encoding of all of a replica's waveforms, `[n, sample, channel]`.
    """
    call = call_of(program)

    def encoded(waves):
        tensors = call(waves.reshape(-1, *shape[-2:]))[0]
        return tensors.reshape(*shape[:-2], *tensors.shape[1:])

    return mesh.spread(encoded, [True, True])


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What compiling took, in seconds, and what the program takes on one device, in bytes.

    `taken` is what it is given, the state among it; of what it returns, `copied` has no place in that.
    """

    seconds: float
    cached: bool
    taken: int
    copied: int
    temporaries: int

    @classmethod
    def of(cls, compiled, seconds, cached):
        """Of a compiled function of JAX."""
        memory = compiled.memory_analysis()
        copied = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return cls(seconds, cached, memory.argument_size_in_bytes, copied, memory.temp_size_in_bytes)

    def __str__(self):
        how = "read from the cache" if self.cached else "compiled"
        return (
            f"{how} in {self.seconds:.1f} s; a device holds {_size(self.taken)} of state and data, changed in place "
            f"(copied: {_size(self.copied)}), and {_size(self.temporaries)} of temporaries"
        )


def _size(count):
    unit, name = next((size, name) for size, name in _UNITS if count >= size or name == "KiB")
    return f"{count / unit:.2f} {name}"


def keep_compiled(folder):
    """Has JAX keep what it compiles in `folder`, and look there first."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
