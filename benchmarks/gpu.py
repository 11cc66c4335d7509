"""Seconds of a training step on a card that has JAX and no TensorFlow: the programs travel, and numbers come back.

    python benchmarks/gpu.py --export step --gin 95s --batch 8 --precision bfloat16     # here, with TensorFlow
    python step/gpu.py --time step                                                      # there, with jax and numpy

`--export` writes the D and the G update of one device, what makes their initial state, this file, and the parts of the
package that it takes. `--time` runs them on the first device that JAX sees, each call's outputs the next one's state.
Medians; TFLOP are those that `describe` counts. A whole run is exported by `python -m mp3net.train --export`.
"""

import argparse
import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

UPDATES = {"d_step": "D update", "g_step": "G update"}
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
    """Writes the programs and step.json to `folder`, which is made."""
    from common import tensorflow

    tf = tensorflow()
    import dataclasses

    from mp3net import configuration
    from mp3net.aot import lowering
    from mp3net.model.cost import layer_records, training_cost
    from mp3net.portable.export import copy_package, write_program
    from mp3net.training.lowered import lower, lower_initial, place_of

    training = configuration.load([gin], [f"MP3net.batch_size = {batch}"])[0]
    system = training.system
    system.execution = dataclasses.replace(system.execution, precision=precision)
    print(f"tracing {gin}, batch {batch}, {precision}", flush=True)
    initial = lower_initial(system, place_of("GPU", 1), training.seed)
    phase = max(system.stages(training.steps), key=lambda stage: stage.steps).settings
    variables, cost = lowering.variables(system), training_cost(layer_records(system.sizes), batch)
    real, examples = tf.TensorSpec([batch, *system.sizes.output_shape]), tf.TensorSpec([batch], tf.int64)
    steps = {
        "d_step": (lambda real, examples: system.update_discriminator(phase, real, examples), [real, examples]),
        "g_step": (lambda examples: system.update_generator(phase, examples), [examples]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    copy_package(folder)
    shutil.copy(__file__, folder / "gpu.py")
    step = {
        "gin": gin,
        "batch": batch,
        "precision": precision,
        "critic_steps": system.steps_per_round,
        "song_s": system.sizes.seconds,
        "state_gib": lowering.state_bytes(system) / 2**30,
        "initial": write_program(folder, "initial", initial),
    }
    for name, (function, specs) in steps.items():
        signature = write_program(folder, name, lower(function, specs, variables))
        step[name] = {"tflop": cost[f"{name}_tflop"], "signature": signature}
    (folder / "step.json").write_text(json.dumps(step))
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def time_all(folder, rounds):
    """Runs each program in a process of its own, prints a table, and writes time.json beside the programs."""
    step = json.loads((folder / "step.json").read_text())
    found = {}
    for name, title in UPDATES.items():
        print(f"{title}: compiling", flush=True)
        line = [sys.executable, __file__, "--time", str(folder), "--alone", name, "--rounds", str(rounds)]
        found[name] = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    seconds = found["d_step"]["seconds"] + found["g_step"]["seconds"] / step["critic_steps"]
    found |= {name: step[name] for name in ("gin", "batch", "precision", "critic_steps", "song_s", "state_gib")}
    found |= {"d_iterations_per_second": 1 / seconds}
    found |= {"audio_s_per_s": step["batch"] * step["song_s"] / seconds}
    (folder / "time.json").write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def table(found):
    """`time.json` as Markdown."""
    first = found["d_step"]
    lines = [
        f"`{found['gin']}`, batch {found['batch']}, {found['precision']}, on {first['device']} "
        f"(jax {first['jax']}); medians of {first['rounds']} calls; matrix products in this run.",
        "",
        "| | s | TFLOP by count | TFLOP/s | share of the matrix product's | peak memory, GiB | finite |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in UPDATES.items():
        update = found[name]
        rate = update["tflop"] / update["seconds"]
        lines.append(
            f"| {title} | {update['seconds']:.4f} | {update['tflop']:.4g} | {rate:.4g} "
            f"| {rate / update['peak_tflops']:.0%} of {update['peak_tflops']:.4g} "
            f"| {update['memory_gib']:.2f} ({update['memory_is']}) | {'yes' if update['finite'] else 'NO'} |"
        )
    speed = f"{found['d_iterations_per_second']:.3g} D iterations a second, of {found['audio_s_per_s']:.4g} s of music"
    return "\n".join([*lines, "", f"{speed}, each with 1/{found['critic_steps']} of a G update."])


def timed(folder, name, rounds):
    """Seconds and memory of one program on JAX's first device: plain JSON."""
    import jax
    import numpy as np

    from mp3net.pjrt import programs

    step, mesh = json.loads((folder / "step.json").read_text()), programs.Mesh(jax.devices()[:1])

    def read(program, signature):
        artifact = (folder / f"{program}.stablehlo").read_bytes()
        return programs.Lowered(artifact, programs.Signature.from_json(signature))

    initial = mesh.spread(programs.call_of(read("initial", step["initial"])), [False, False])
    state = {str(i): value for i, value in enumerate(initial(mesh.share(np.int64(0))))}
    signature, random = step[name]["signature"], np.random.default_rng(0)
    inputs = []
    for shape, dtype in signature["arguments"][: signature["inputs"]]:
        noise = 0.05 * random.standard_normal([1, *shape], np.float32)
        inputs.append(mesh.split(noise if dtype == "f32" else np.arange(shape[0])[None]))
    program = programs.Program(mesh, read(name, signature), [True] * len(inputs))
    compilation = program.compile(inputs, state)
    print(f"{UPDATES[name]}: {compilation}; running {rounds} times", file=sys.stderr, flush=True)
    seconds, finite = [], True
    for _ in range(_WARM_UP + rounds):
        begun = time.perf_counter()
        results = jax.block_until_ready(program(inputs, state))
        seconds.append(time.perf_counter() - begun)
        finite = finite and all(bool(result) for result in results if result.dtype == bool)  # the step's own checks
    memory_gib, memory_is = peak_memory(mesh.devices[0])
    return {
        "seconds": statistics.median(seconds[_WARM_UP:]),
        "fastest_s": min(seconds[_WARM_UP:]),
        "rounds": rounds,
        "compile_s": compilation.seconds,
        "tflop": step[name]["tflop"],
        "device": mesh.kind,
        "jax": jax.__version__,
        "finite": finite,
        "memory_gib": memory_gib,
        "memory_is": memory_is,
        "peak_tflops": peak_tflops(mesh.devices[0], step["precision"]),
    }


def peak_memory(device):
    """(GiB, what they are): of the device where it says so, else of this process."""
    found = device.memory_stats() or {}
    if "peak_bytes_in_use" in found:
        return found["peak_bytes_in_use"] / 2**30, "of the device"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "of the process"


def peak_tflops(device, precision):
    """TFLOP/s of large matrix products in `precision`."""
    import jax
    import jax.numpy as jnp

    size = 8192 if device.platform == "gpu" else 2048
    matrix = jax.device_put(jnp.ones([size, size], precision), device)
    product = jax.jit(lambda a: a @ a)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds[1:]) / 1e12


if __name__ == "__main__":
    main()
