"""Goes on with the training that this folder holds, on what JAX sees: needs Python 3.10, NumPy and JAX, no TensorFlow.

    python run.py --minutes 10              # again to go on
    python run.py --device cpu              # gpu, tpu, cpu; else what JAX prefers

State and metrics go to state/ beside this file (--out elsewhere), in files of at most 15 MiB. Where TensorFlow is,
`python -m mp3net.train --import FOLDER --workdir W` makes an ordinary checkpoint of the newest. What this file imports
of mp3net lies beside it.
"""

import argparse
import json
import os
import pathlib
import sys
import time

try:
    import jax
    import numpy as np
except ImportError as error:
    sys.exit(f"error: {error.name} is not installed here: pip install jax, with [cuda12] or [tpu] for such a device")

from mp3net.data.crops import CropPlan
from mp3net.errors import UserError
from mp3net.pjrt import programs
from mp3net.pjrt.ahead import Ahead
from mp3net.portable import sound, state
from mp3net.training.interruption import Interruption
from mp3net.training.progress import Averages, Clock, Statistics, progress_line

HERE = pathlib.Path(__file__).resolve().parent
KEEP = 2  # states


def main(arguments=None):
    """Reads flags, and trains; returns the exit status."""
    options = _parser().parse_args(arguments)
    run = _manifest()
    try:
        mesh = _mesh(options.device, run["replicas"])
    except RuntimeError as error:
        raise UserError(f"--device {options.device}: {str(error).splitlines()[0]}") from None
    out = pathlib.Path(options.out or HERE / "state")
    out.mkdir(parents=True, exist_ok=True)
    programs.keep_compiled(options.cache or HERE / "compiled")
    print(f"jax {jax.__version__} on {mesh.replicas} x {mesh.kind} ({mesh.platform})", flush=True)
    return train(run, mesh, out, options.minutes)


def train(run, mesh, out, minutes):
    """Trains from the newest state to the last step, or for so many minutes.

    Args:
      run: what run.json holds.
      mesh: a `programs.Mesh`.
      out: the folder of states.
      minutes: of training, compiling and saving included; None for no limit.
    """
    ends_at = time.monotonic() + 60 * minutes if minutes else float("inf")
    values, step, averages = _state(run, mesh, out)
    saved_at, saved_step = time.monotonic(), step
    _drop_rows_after(step, out)
    recordings = [
        sound.read(HERE / "recordings" / recording["file"], recording["frames"], run["channels"])
        for recording in run["recordings"]
    ]

    def save():
        nonlocal saved_at, saved_step
        if step != saved_step:
            record = {"step": step, "averages": averages.state, "device": f"JAX {mesh.platform.upper()}"}
            state.write(out / f"step-{step:08d}", [np.asarray(values[name]) for name in run["names"]], record)
            state.keep_last(out, KEEP)
            print(f"saved {out / f'step-{step:08d}'}", flush=True)
        saved_at, saved_step = time.monotonic(), step

    with Interruption() as interruption:
        for stage in run["stages"]:
            if step >= stage["last_step"]:
                continue
            call, data = _call(run, stage, mesh), _data(run, stage, mesh, recordings, step)
            clock, statistics = Clock(stage["audio_s"], run["steps_per_round"]), Statistics(**stage["statistics"])
            used, element, compiled = stage["rounds"], None, False
            while step < stage["last_step"] and not interruption.signal and time.monotonic() < ends_at:
                with clock.waiting():
                    if used == stage["rounds"]:
                        element, used = next(data), 0
                count = min(stage["rounds"] - used, _rounds_until_row(run, stage, step))
                inputs = *element, *(mesh.share(np.int32(number)) for number in (used, count))
                if not compiled:
                    print(f"stage {stage['name']}: {call.compile(inputs, values)}", flush=True)
                    compiled = True
                rows = np.asarray(call(inputs, values)[0])[:count]
                used += count
                for row in rows.tolist():
                    step += run["steps_per_round"]
                    scalars, bad = statistics.of(row)
                    if bad is not None:
                        raise UserError(f"step {step}: not a finite number; the first bad tensor is: {bad}")
                    averages.add(scalars)
                clock.called(count)
                if _row_due(run, step):
                    row = {**averages.take(), **clock.take()}
                    with open(out / "metrics.jsonl", "a") as file:
                        file.write(json.dumps({"step": step, **row}) + "\n")
                    eta_s = (run["steps"] - step) / row["steps_per_second"]
                    print(progress_line(step, run["steps"], row, run["headline"], eta_s), flush=True)
                if time.monotonic() - saved_at >= 60 * run["save_every_minutes"]:
                    save()
            data.close()
        save()
    _report_memory(mesh)
    done = step >= run["steps"]
    print("Done." if done else f"Stopped at step {step} of {run['steps']}. The same command goes on from here.")
    return 0 if done or not interruption.signal else 128 + interruption.signal


def _state(run, mesh, out):
    """(arrays on the devices by name, step, `Averages`): the newest of `out`, or what the export began from."""
    folder = state.newest(out) or (HERE / "initial" if (HERE / "initial").is_dir() else None)
    if folder is not None:
        arrays, record = state.read(folder, run["variables"])
        print(f"resuming {folder} at step {record['step']}", flush=True)
        values = {name: mesh.share(array) for name, array in zip(run["names"], arrays, strict=True)}
        return values, record["step"], Averages(record["averages"])
    initial = mesh.spread(programs.call_of(_program("initial", run["initial"])), [False, False])
    values = initial(mesh.share(np.int64(run["seed"])))
    return dict(zip(run["names"], values, strict=True)), run["first_step"], Averages()


def _call(run, stage, mesh):
    return programs.Program(mesh, _program(stage["call"], stage["signature"]), programs.CALL)


def _program(name, signature):
    try:
        artifact = (HERE / f"{name}.stablehlo").read_bytes()
    except OSError:
        raise UserError(f"{HERE / name}.stablehlo is missing. Copy the folder again.") from None
    return programs.Lowered(artifact, programs.Signature.from_json(signature))


def _data(run, stage, mesh, recordings, step):
    """An `Ahead` over the data of calls from `step` on: the crops that `mp3net.train` would read, in its order."""
    names, lengths = zip(*((recording["name"], recording["frames"]) for recording in run["recordings"]), strict=True)
    plan = CropPlan(names, lengths, **stage["plan"])
    if [list(plan.crop(position)) for position in range(len(stage["first_crops"]))] != stage["first_crops"]:
        raise UserError(f"NumPy {np.__version__} draws other numbers than the one that wrote this. Use {run['numpy']}.")
    rounds, per_round, share = stage["rounds"], run["steps_per_round"], stage["batch_size"] // mesh.replicas
    shape = [mesh.replicas, rounds, per_round, share, plan.crop_samples, run["channels"]]
    encode = programs.encoder(mesh, _program(stage["encoding"], stage["encoding_signature"]), shape[1:])

    def numbers():
        first = step
        while True:
            steps = first + np.arange(rounds * per_round).reshape(rounds, per_round, 1)
            yield np.stack([steps * stage["batch_size"] + r * share + np.arange(share) for r in range(mesh.replicas)])
            first += rounds * per_round

    def put(elements):
        examples = elements[0]
        waves = np.empty(shape, np.float32).reshape(-1, *shape[-2:])
        for wave, example in zip(waves, examples.reshape(-1), strict=True):
            index, start = plan.crop(example)
            wave[:] = recordings[index][start : start + len(wave)]
            wave *= np.float32(1 / 32768)
            wave *= np.float32(run["recordings"][index]["gain"])
        return encode(mesh.split(waves.reshape(shape))), mesh.split(examples)

    return Ahead(numbers(), 1, put)


def _row_due(run, step):
    return step % run["log_every"] < run["steps_per_round"] or step == run["steps"]


def _rounds_until_row(run, stage, step):
    ends = range(step + run["steps_per_round"], stage["last_step"] + 1, run["steps_per_round"])
    return next(i for i, end in enumerate(ends, 1) if end == stage["last_step"] or _row_due(run, end))


def _drop_rows_after(step, out):
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    path.with_suffix(".partial").write_text("".join(kept))
    os.replace(path.with_suffix(".partial"), path)


def _report_memory(mesh):
    peak = (mesh.devices[0].memory_stats() or {}).get("peak_bytes_in_use")
    if peak:
        print(f"peak memory of a device: {peak / 2**30:.2f} GiB")


def _mesh(device, replicas):
    if device:
        jax.config.update("jax_platforms", {"gpu": "cuda,cpu", "cpu": "cpu", "tpu": "tpu,cpu"}[device])
    if replicas > 1:
        jax.config.update("jax_num_cpu_devices", replicas)  # without effect on the others
    there = jax.devices()
    if len(there) < replicas:
        raise UserError(f"This run is for {replicas} devices, and JAX sees {len(there)}. Export it for as many.")
    return programs.Mesh(there[:replicas])


def _manifest():
    try:
        return json.loads((HERE / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{HERE / 'run.json'} is missing or damaged ({error}). Copy the folder again.") from None


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so many, and save")
    parser.add_argument("--device", choices=["cpu", "gpu", "tpu"], help="in place of what JAX prefers")
    parser.add_argument("--out", metavar="DIR", help="for states and metrics (state/ beside this file)")
    parser.add_argument("--cache", metavar="DIR", help="for compiled programs (compiled/ beside this file)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except jax.errors.JaxRuntimeError as error:  # out of memory, above all
        sys.exit(f"error: JAX fails: {str(error).splitlines()[0][:300]}. States that were saved are whole.")
