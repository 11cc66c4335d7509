"""Writes a folder from which a run can be trained where there is no TensorFlow: programs, recordings, script.

DIR/run.py  DIR/run.json            the script, and all that it needs to know
DIR/*.stablehlo                     a call of rounds and the encoding of each stage, and the initial state
DIR/recordings/                     at the model's rate, as 16-bit WAV, FLAC or Ogg, whichever fits
DIR/initial/                        the state, where it is not that of a run that begins
DIR/mp3net/                         the parts of this package that the script imports, none of which needs TensorFlow
"""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

import mp3net
from mp3net.aot import lowering
from mp3net.errors import UserError
from mp3net.portable import recordings, state
from mp3net.stage import share_of
from mp3net.training.lowered import lower_call, lower_encoding, lower_initial, place_of
from mp3net.training.rounds import round_of

FORMAT = 1  # of run.json
_MIB = 2**20
_CHECKED_CROPS = 64  # of each stage, which the script compares with its own
_PACKAGE = pathlib.Path(mp3net.__file__).parent
_CARRIED = (
    "__init__", "errors", "data/__init__", "data/crops", "pjrt/__init__", "pjrt/ahead", "pjrt/programs",
    "portable/__init__", "portable/sound", "portable/state", "training/__init__", "training/interruption",
    "training/progress",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """What the run will be trained on: "CPU", "GPU" or "TPU", and how many devices."""

    platform: str
    replicas: int

    @property
    def place(self):
        """The `Place` to build a system at."""
        return place_of(self.platform, self.replicas)

    @property
    def name(self):
        """For people."""
        return f"{self.replicas} x {self.platform}"


def initial_program(training, target):
    """Builds the system of a new run at a `Target`; returns the `Lowered` program of the state that it begins with."""
    return lower_initial(training.system, target.place, training.seed)


def export(folder, training, target, pipeline, record, initial, first, limit_mib, log=print):
    """Writes the export of a run whose system is built at `target.place`, with the weights that it goes on from.

    Args:
      folder: which is made; it must be new or empty.
      training: a `Training`.
      target: a `Target`.
      pipeline: a `Pipeline` of the recordings.
      record: as of trainer.py.
      initial: the `initial_program` of a new run; None writes the state of the system's variables.
      first: {"step": where it goes on, "averages": the running means there, as `Averages` keeps them}.
      limit_mib: what all of the folder may take, in MiB.
      log: takes lines of progress.

    Raises `UserError` where the folder is in use, or where state and programs alone take more.
    """
    folder = pathlib.Path(folder)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    system, step, variables = training.system, first["step"], lowering.variables(training.system)
    run = _run(training, target, record, variables, step)
    copy_package(folder)
    shutil.copy(_PACKAGE / "portable" / "run.py", folder / "run.py")
    if initial is not None:
        run["initial"] = write_program(folder, "initial", initial)
    else:
        state.write(folder / "initial", [variable.numpy() for variable in variables], first)
    first_step = 0
    for stage in system.stages(training.steps):
        first_step += stage.steps
        if step < first_step:
            log(f"stage {stage.name}: lowering a call")
            run["stages"].append(_stage(folder, training, target, stage, first_step, variables))
    left = limit_mib * _MIB - _size(folder)
    if left <= 0:
        raise UserError(
            f"--export {folder}: state and programs alone take {_size(folder) / _MIB:.0f} MiB, and --export_mib allows "
            f"{limit_mib:g}. Raise it, or export a new run, whose state is made where it trains."
        )
    kept = recordings.write(folder / "recordings", pipeline, left, log)
    _add_recordings(run, system, pipeline, kept)
    (folder / "run.json").write_text(json.dumps(run))
    log(f"{folder}: {_size(folder) / _MIB:.1f} MiB. There: python {folder.name}/run.py --minutes 10")


def check_folder(folder):
    """Raises `UserError` unless `folder` is new or empty."""
    folder = pathlib.Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--export {folder} is there, and not empty: give a new folder, or delete it.")


def _run(training, target, record, variables, step):
    system = training.system
    return {
        "format": FORMAT,
        "release": mp3net.__version__,
        "numpy": np.__version__,
        "platform": target.platform,
        "replicas": target.replicas,
        "seed": training.seed,
        "steps": training.steps,
        "first_step": step,
        "steps_per_round": system.steps_per_round,
        "log_every": training.log_every,
        "save_every_minutes": training.save_every_minutes,
        "headline": list(system.headline),
        "channels": system.channels,
        "configuration": record["configuration"],
        "settings": record["settings"],
        "architecture": system.architecture(),
        "names": [str(i) for i in range(len(variables))],
        "variables": [[list(variable.shape), variable.dtype.name] for variable in variables],
        "stages": [],
    }


def _stage(folder, training, target, stage, last_step, variables):
    """A stage as run.json has it; its programs are written."""
    system = training.system
    share, parts = share_of(stage.batch_size, target.replicas, target.name, training.micro_batch)
    round_bytes = 4 * share * stage.crop_samples * system.channels * system.steps_per_round
    rounds = training.rounds_per_call or target.place.rounds_per_call(round_bytes)
    waves = [rounds, system.steps_per_round, share, stage.crop_samples, system.channels]
    encoding = lower_encoding(system.representation.encode, tf.TensorShape(waves))
    encoded = [*waves[:3], *encoding.signature.results[0][0][1:]]
    specs = [tf.TensorSpec(encoded), tf.TensorSpec(waves[:3], tf.int64)]
    function, statistics = round_of(system, dataclasses.replace(stage, micro_batches=parts))
    call = lower_call(function, rounds, specs, variables, target.place.cross_replica_mean)
    name = f"stage-{last_step}"
    return {
        "name": stage.name,
        "last_step": last_step,
        "batch_size": stage.batch_size,
        "rounds": rounds,
        "audio_s": stage.batch_size * stage.crop_samples / system.rate_hz,
        "crop_samples": stage.crop_samples,
        "statistics": dataclasses.asdict(statistics),
        "call": f"{name}-call",
        "signature": write_program(folder, f"{name}-call", call),
        "encoding": f"{name}-encoding",
        "encoding_signature": write_program(folder, f"{name}-encoding", encoding),
    }


def _add_recordings(run, system, pipeline, kept):
    """Completes `run` by the recordings that were written, and what is read of them."""
    chosen = pipeline.of([recording for recording, *_ in kept])
    run["data"] = chosen.identity
    run["recordings"] = [
        {"file": name, "name": recording.audio_filename, "frames": frames, "gain": pipeline.gain(recording)}
        for recording, name, frames in kept
    ]
    for stage in run["stages"]:
        plan = chosen.plan(stage["crop_samples"])
        stage["plan"] = {
            name: getattr(plan, name) for name in ("crop_samples", "overlap", "slicing", "seed", "rate_hz")
        }
        stage["first_crops"] = [list(plan.crop(position)) for position in range(_CHECKED_CROPS)]


def write_program(folder, name, lowered):
    """Writes a `Lowered` program to NAME.stablehlo; returns its signature, plain."""
    (folder / f"{name}.stablehlo").write_bytes(lowered.artifact)
    return dataclasses.asdict(lowered.signature)


def copy_package(folder):
    """Copies to `folder` the parts of this package that run without TensorFlow."""
    for name in _CARRIED:
        target = folder / "mp3net" / f"{name}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_PACKAGE / f"{name}.py", target)


def _size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
