"""python -m mp3net.aot.tpu_compiler TOPOLOGY FILE: what a program takes on one device of a TPU that is not here.

TOPOLOGY is a `Chip.topology` (chips.py), FILE holds `stablehlo.plain` text. Prints one line of JSON: `figures` or
`out_of_memory`, below. Needs jax and libtpu; it is a process of its own, for they and TensorFlow get on badly in one,
and it ends when the process that started it does.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time

GIB = 2**30
_UNITS = {"": 1 / GIB, "K": 2**10 / GIB, "M": 2**20 / GIB, "G": 1, "T": 2**10}
_WANTED = re.compile(r"total memory required[^(]*\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)")
# The compiler knows no time of these calls and counts each as -1 s: those that split and join 64-bit integers, which a
# TPU has not, at a program's edge, and those that see pieces of memory as one.
_UNTIMED = re.compile(r'custom_call_target="(?:X64SplitLow|X64SplitHigh|X64Combine|ConcatBitcast)"')


def main(topology_name, path):
    """Compiles and prints; the exit status is 0 whether or not the program fits."""
    os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")  # no TPU is asked for, none is taken
    from jax.errors import JaxRuntimeError

    from mp3net.aot import xla

    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    with open(path) as file:
        text = file.read()
    begun = time.monotonic()
    try:
        with _quiet():
            found = figures(xla.load(text, _device(topology_name)), xla)
    except JaxRuntimeError as error:  # one type for everything: the message says what
        found = out_of_memory(str(error))
        if found is None:
            raise
    print(json.dumps({**found, "compile_s": round(time.monotonic() - begun, 1)}))


def figures(program, xla):
    """Of a compiled program: sizes in GiB, TFLOP, GB moved, and the compiler's estimate of its seconds.

    `estimate_s` is None where the compiler's figure is not above 0 after its untimed calls are put right.
    """
    memory, counts = program.get_compiled_memory_stats(), xla.counts(program)
    return {
        "fits": True,
        "temporaries_gib": memory.temp_size_in_bytes / GIB,
        "arguments_gib": memory.argument_size_in_bytes / GIB,
        "outputs_gib": memory.output_size_in_bytes / GIB,
        "aliased_gib": memory.alias_size_in_bytes / GIB,
        "tflop": counts["flops"] / 1e12,
        "gb_moved": counts["bytes accessed"] / 1e9,
        "estimate_s": estimate_s(counts.get("optimal_seconds"), program.hlo_modules()[0].to_string()),
    }


def estimate_s(optimal_seconds, hlo):
    """The compiler's estimate without the -1 s for each untimed call of the compiled program; None for none."""
    if optimal_seconds is None:
        return None
    seconds = optimal_seconds + len(_UNTIMED.findall(hlo))
    return seconds if seconds > 1e-7 else None


def out_of_memory(message):
    """What a program wanted of how much HBM, from the compiler's refusal of it; None if that is of something else."""
    found = _WANTED.search(message)
    if found is None:
        return None
    wanted, unit, there, there_unit = found.groups()
    return {"fits": False, "wanted_gib": float(wanted) * _UNITS[unit], "hbm_gib": float(there) * _UNITS[there_unit]}


def end_with(parent):
    """Ends this process once it is an orphan: else a compilation whose asker was killed goes on for minutes."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _device(topology_name):
    """The first device of "v2:2x2", or of "v4:2x2x1/megacore": what follows the stroke is the chip's configuration."""
    from jax.experimental import topologies

    name, _, configuration = topology_name.partition("/")
    options = {"chip_config_name": configuration} if configuration else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices[0]


@contextlib.contextmanager
def _quiet():
    """Keeps from a person's screen what libtpu says of a machine without a TPU; another process may want its end."""
    if not sys.stderr.isatty():
        yield
        return
    with tempfile.TemporaryFile() as chatter:
        screen = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
