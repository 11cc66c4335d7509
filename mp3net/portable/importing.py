"""Makes an ordinary checkpoint of the newest state of an export that was trained elsewhere. Nothing of it is run."""

import json
import os
import pathlib

import tensorflow as tf

import mp3net
from mp3net import systems
from mp3net.aot import lowering
from mp3net.errors import UserError
from mp3net.portable import export, state
from mp3net.training import checkpoints
from mp3net.training.summaries import Summaries


def checkpoint_of(folder, workdir, log=print):
    """Writes the checkpoint of the newest state of the export in `folder` to `workdir`, and its metrics.

    Args:
      log: takes lines of progress.

    Returns: its step. Raises `UserError` where the export is of another release or damaged, where it has not been
    trained, and where the working directory holds a run of another architecture, or has got as far.
    """
    folder = pathlib.Path(folder)
    run = _manifest(folder / "run.json")
    newest = state.newest(folder / "state")
    if newest is None:
        raise UserError(f"{folder} has not been trained: it holds no state. python {folder / 'run.py'} trains it.")
    arrays, record = state.read(newest, run["variables"])
    step = record["step"]
    _check_workdir(workdir, run, step)
    system = systems.for_training(run["architecture"], folder / "run.json")
    variables = lowering.variables(system)
    mine = [[list(variable.shape), variable.dtype.name] for variable in variables]
    if mine != run["variables"]:
        raise UserError(f"{folder / 'run.json'} is damaged: its state is not that of its architecture.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    averages = record["averages"]
    place = {"device": record.get("device", "JAX"), "xla": True}
    host_state = {"averages": averages, "data": run["data"], "place": place, "settings": run["settings"]}
    _add_rows(folder / "state" / "metrics.jsonl", workdir, run["first_step"], step)
    items = system.checkpoint_items()
    path = checkpoints.save(workdir, step, items, system.architecture(), run["configuration"], host_state)
    with tf.io.gfile.GFile(os.path.join(str(workdir), "config.gin"), "w") as file:
        file.write(run["configuration"])
    log(f"saved {path}, from {newest}")
    return step


def _manifest(path):
    """What run.json holds, whose kinds are checked. Raises `UserError` where it is not one of this release."""
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}). Give the folder that --export wrote.") from None
    version = (run.get("format"), run.get("release")) if isinstance(run, dict) else (None, None)
    if version != (export.FORMAT, mp3net.__version__):
        raise UserError(
            f"{path} is of mp3net {version[1]}, and this is {mp3net.__version__}. Import it with that release: pip "
            f"install 'mp3net=={version[1]}'; its checkpoint then goes on with any."
        )
    kinds = {
        "variables": list,
        "architecture": dict,
        "configuration": str,
        "data": dict,
        "settings": dict,
        "first_step": int,
    }
    fits = all(isinstance(run.get(name), kind) for name, kind in kinds.items())
    if not fits or not all(_is_variable(variable) for variable in run["variables"]):
        raise UserError(f"{path} is damaged. Copy the folder again.")
    return run


def _is_variable(variable):
    if not isinstance(variable, list) or len(variable) != 2 or variable[1] not in ("float32", "int64"):
        return False
    return isinstance(variable[0], list) and all(isinstance(size, int) and size >= 0 for size in variable[0])


def _check_workdir(workdir, run, step):
    there = checkpoints.latest(workdir)
    if there is None:
        return
    if there.architecture != run["architecture"]:
        raise UserError(f"{workdir} holds a run of another architecture. Give another --workdir.")
    if there.step >= step:
        raise UserError(
            f"{workdir} is at step {there.step}, and this state is of step {step}: there is nothing new in it."
        )


def _add_rows(path, workdir, first_step, step):
    """Appends the rows up to `step` that training elsewhere has written to those of `workdir` up to `first_step`."""
    summaries = Summaries(workdir, first_step)
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        try:
            row = json.loads(line)
            number = row.pop("step")
            good = first_step < number <= step and all(isinstance(value, float | int) for value in row.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line
        if good:
            summaries.write(number, row)
