"""Seconds of a training step on a GPU that has JAX and no TensorFlow: the programs travel, this checkout and numbers.

    python benchmarks/gpu.py --export step --gin 95s --batch 8 --precision bfloat16     # here, with TensorFlow
    python benchmarks/gpu.py --time step                                                # there, with jax and numpy

`--export` writes the D and the G update of one device as StableHLO, and what they take. `--time` runs them on the first
device that JAX sees: weights and inputs are made there at the scale that they have at the start of training, and each
call's outputs become the next one's state. Medians; TFLOP are those that `describe` counts.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # a checkout is enough there

UPDATES = {"d_step": "D update", "g_step": "G update"}
# Measured rates of large bfloat16 matrix products, TFLOP/s; others are measured in the same run.
_KNOWN_TFLOPS = {("H200", "bfloat16"): 790.0}
_WARM_UP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--export", metavar="DIR", help="write the programs")
    what.add_argument("--time", metavar="DIR", help="run them")
    parser.add_argument("--gin", default="95s")
    parser.add_argument("--batch", type=int, default=8, help="examples that the device takes at once")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each program")
    parser.add_argument("--alone", choices=UPDATES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        export(pathlib.Path(options.export), options.gin, options.batch, options.precision)
    elif options.alone:
        print(json.dumps(timed(pathlib.Path(options.time), options.alone, options.rounds)))
    else:
        time_all(pathlib.Path(options.time), options.rounds)


def export(folder, gin, batch, precision):
    """Writes d_step.mlir, g_step.mlir and step.json to `folder`, which is made."""
    from common import tensorflow

    tensorflow()
    import dataclasses

    from mp3net import configuration
    from mp3net.aot import lowering, stablehlo
    from mp3net.model.cost import layer_records, training_cost
    from mp3net.stage import Place

    training = configuration.load([gin], [f"MP3net.batch_size = {batch}"])[0]
    system = training.system
    system.execution = dataclasses.replace(system.execution, precision=precision)
    system.build(Place("GPU", xla=True), training.seed)
    print(f"tracing {gin}, batch {batch}, {precision}", flush=True)
    stage = max(system.stages(training.steps), key=lambda each: each.steps)
    cost = training_cost(layer_records(system.sizes), batch)
    folder.mkdir(parents=True, exist_ok=True)
    step = {
        "gin": gin,
        "batch": batch,
        "precision": precision,
        "critic_steps": system.steps_per_round,
        "song_s": system.sizes.seconds,
        "state_gib": lowering.state_bytes(system) / 2**30,
    }
    for name, program in lowering.lower(system, stage, batch).items():
        (folder / f"{name}.mlir").write_text(program.text)
        spreads = [0.05] * program.inputs + [float(v.numpy().std()) for v in program.variables]
        arguments = stablehlo.arguments(program.text)
        step[name] = {
            "tflop": cost[f"{name}_tflop"],
            "arguments": [[*each, spread] for each, spread in zip(arguments, spreads, strict=True)],
        }
    (folder / "step.json").write_text(json.dumps(step, indent=1))
    print(f"{folder}: {', '.join(f'{name}.mlir' for name in UPDATES)}, step.json")


def time_all(folder, rounds):
    """Runs each program in a process of its own, prints a table, and writes time.json beside the programs."""
    step = json.loads((folder / "step.json").read_text())
    found = {}
    for name, title in UPDATES.items():
        print(f"{title}: compiling", flush=True)
        line = [sys.executable, __file__, "--time", str(folder), "--alone", name, "--rounds", str(rounds)]
        found[name] = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    seconds = found["d_step"]["seconds"] + found["g_step"]["seconds"] / step["critic_steps"]
    found |= {name: step[name] for name in ("gin", "batch", "precision", "critic_steps", "song_s")}
    found |= {"d_iterations_per_second": 1 / seconds}
    found |= {"audio_s_per_s": step["batch"] * step["song_s"] / seconds}
    (folder / "time.json").write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found):
    """`time.json` as Markdown."""
    first = found["d_step"]
    lines = [
        f"`{found['gin']}`, batch {found['batch']}, {found['precision']}, on {first['device']} "
        f"(jax {first['jax']}); medians of {first['rounds']} calls.",
        "",
        "| | s | TFLOP by count | TFLOP/s | share of the matrix product's | peak memory, GiB | finite |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in UPDATES.items():
        each = found[name]
        rate = each["tflop"] / each["seconds"]
        lines.append(
            f"| {title} | {each['seconds']:.4f} | {each['tflop']:.4g} | {rate:.4g} "
            f"| {rate / each['peak_tflops']:.0%} of {each['peak_tflops']:.4g} ({each['peak_is']}) "
            f"| {each['memory_gib']:.2f} ({each['memory_is']}) | {'yes' if each['finite'] else 'NO'} |"
        )
    speed = f"{found['d_iterations_per_second']:.3g} D iterations a second, of {found['audio_s_per_s']:.4g} s of music"
    return "\n".join([*lines, "", f"{speed}, each with 1/{found['critic_steps']} of a G update."])


def timed(folder, name, rounds):
    """Seconds and memory of one program on JAX's first device: plain JSON."""
    import jax

    from mp3net.aot import stablehlo, xla

    jax.config.update("jax_enable_x64", True)  # counters and the numbers of examples are int64
    step, text = json.loads((folder / "step.json").read_text()), (folder / f"{name}.mlir").read_text()
    device = jax.devices()[0]
    begun = time.perf_counter()
    program = xla.load(text, device)
    compile_s = time.perf_counter() - begun
    print(f"{UPDATES[name]}: compiled in {compile_s:.0f} s, running {rounds} times", file=sys.stderr, flush=True)
    arguments = made(step[name]["arguments"], device)
    state, seconds = stablehlo.aliases(text), []
    for _ in range(_WARM_UP + rounds):
        begun = time.perf_counter()
        outputs = [shards[0] for shards in program.execute_sharded(arguments).disassemble_into_single_device_arrays()]
        jax.block_until_ready(outputs)
        seconds.append(time.perf_counter() - begun)
        for output, argument in state.items():
            arguments[argument] = outputs[output]
    memory_gib, memory_is = peak_memory(device)
    peak_tflops, peak_is = peak(device, step["precision"])
    return {
        "seconds": statistics.median(seconds[_WARM_UP:]),
        "fastest_s": min(seconds[_WARM_UP:]),
        "rounds": rounds,
        "compile_s": compile_s,
        "tflop": step[name]["tflop"],
        "device": device.device_kind,
        "jax": jax.__version__,
        "finite": all(bool(output) for output in outputs if output.dtype == bool),  # the step's own checks
        "memory_gib": memory_gib,
        "memory_is": memory_is,
        "peak_tflops": peak_tflops,
        "peak_is": peak_is,
    }


def made(arguments, device):
    """Arrays on `device` for [shape, dtype, standard deviation]: normal values for floats, 0, 1, 2 ... for integers."""
    import jax
    import numpy as np

    arrays, random = [], np.random.default_rng(0)
    for shape, dtype, spread in arguments:
        if dtype == "f32":
            array = np.float32(spread) * random.standard_normal(shape, np.float32)
        else:
            array = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        arrays.append(jax.device_put(array, device))
    return arrays


def peak_memory(device):
    """(GiB, what they are): of the device where it says so, else of this process."""
    found = device.memory_stats() or {}
    if "peak_bytes_in_use" in found:
        return found["peak_bytes_in_use"] / 2**30, "of the device"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "of the process"


def peak(device, precision):
    """(TFLOP/s, where they are from) of large matrix products in `precision`."""
    import jax
    import jax.numpy as jnp

    for (kind, of), tflops in _KNOWN_TFLOPS.items():
        if kind in device.device_kind and of == precision:
            return tflops, "known"
    size = 8192 if device.platform == "gpu" else 2048
    matrix = jax.device_put(jnp.ones([size, size], precision), device)
    product = jax.jit(lambda a: a @ a)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds[1:]) / 1e12, "measured in this run"


if __name__ == "__main__":
    from mp3net import cli

    cli.run(main)
