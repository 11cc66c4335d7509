"""Checkpoints: each one a folder that holds everything a run resumes from, and everything `generate` needs.

    WORKDIR/checkpoints/00012000/
      weights.*          every trackable of the system, as `tf.train.Checkpoint` writes it
      architecture.json  plain numbers to rebuild the networks from: loading a checkpoint runs no code of its own
      config.gin         the configuration in force
      state.json         step, running sums, and the size of each file here; written last

A folder without `state.json` is not a checkpoint, so a save that dies half way hides nothing.
"""

import json
import os
import re
from dataclasses import dataclass

import tensorflow as tf

from mp3net.errors import UserError

_STATE, _ARCHITECTURE, _CONFIGURATION, _WEIGHTS = "state.json", "architecture.json", "config.gin", "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: where it is, the step it was saved at, and what was saved beside the weights."""

    path: str
    step: int
    host_state: dict

    @property
    def architecture(self):
        """What the system said of itself."""
        return _read_json(os.path.join(self.path, _ARCHITECTURE))

    @property
    def configuration(self):
        """The text of its gin configuration."""
        with tf.io.gfile.GFile(os.path.join(self.path, _CONFIGURATION)) as file:
            return file.read()

    def restore(self, items):
        """Sets every variable of `items`, trackables by name; raises `UserError` where they are not in it."""
        try:
            status = tf.train.Checkpoint(**items).read(os.path.join(self.path, _WEIGHTS))
            status.assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise UserError(
                f"{self.path} does not fit: it is damaged or of another configuration ({_reason(error)}). "
                "Use another checkpoint, or the configuration saved in it."
            ) from None


def save(workdir, step, items, architecture, configuration, host_state):
    """Writes a checkpoint of `step`; returns its folder. The ones before it stay as they are, whatever happens."""
    path = os.path.join(_root(workdir), f"{step:08d}")
    try:
        if tf.io.gfile.exists(path):
            _remove(path)
        tf.io.gfile.makedirs(path)
        tf.train.Checkpoint(**items).write(os.path.join(path, _WEIGHTS))
        _write(os.path.join(path, _ARCHITECTURE), json.dumps(architecture, indent=2))
        _write(os.path.join(path, _CONFIGURATION), configuration)
        sizes = {name: tf.io.gfile.stat(os.path.join(path, name)).length for name in sorted(tf.io.gfile.listdir(path))}
        state = json.dumps({"step": step, "host_state": host_state, "sizes": sizes}, indent=2)
        _write(os.path.join(path, _STATE + ".partial"), state)
        tf.io.gfile.rename(os.path.join(path, _STATE + ".partial"), os.path.join(path, _STATE), overwrite=True)
    except (tf.errors.OpError, OSError) as error:
        if tf.io.gfile.exists(path):
            _remove(path)
        raise UserError(
            f"The checkpoint of step {step} could not be written to {path}: {_reason(error)}. "
            "Those before it are untouched; free some space or mend the folder, then run the same command again."
        ) from None
    return path


def keep_last(workdir, count):
    """Removes all but the `count` newest checkpoints, and what an interrupted save has left."""
    complete = [found.path for found in every(workdir)]
    for name in _folders(workdir):
        path = os.path.join(_root(workdir), name)
        if path not in complete[-count:]:
            _remove(path)


def every(workdir):
    """The complete checkpoints of a run, oldest first. Raises `UserError` where the newest is damaged."""
    names = _folders(workdir)
    found = []
    for name in names:
        try:
            found.append(_open(os.path.join(_root(workdir), name)))
        except UserError:
            if name == names[-1]:
                raise
    return sorted((each for each in found if each is not None), key=lambda checkpoint: checkpoint.step)


def latest(workdir):
    """The newest complete checkpoint of a run, or None.

    Raises `UserError` where files of it are missing or cut short.
    """
    complete = every(workdir)
    if not complete:
        return None
    _check_sizes(complete[-1], complete[-2].path if len(complete) > 1 else None)
    return complete[-1]


def find(path):
    """The checkpoint that `path`, a working directory or a checkpoint itself, stands for."""
    path = str(path).rstrip("/")
    if not tf.io.gfile.exists(path):
        raise UserError(f"{path} does not exist. Give a working directory of training, or one of its checkpoints.")
    checkpoint = _open(path)
    if checkpoint is not None:
        _check_sizes(checkpoint, None)
        return checkpoint
    checkpoint = latest(path)
    if checkpoint is None:
        raise UserError(
            f"{path} holds no complete checkpoint. Give a working directory of training, or one of its checkpoints."
        )
    return checkpoint


def _root(workdir):
    return os.path.join(str(workdir), "checkpoints")


def _folders(workdir):
    root = _root(workdir)
    names = tf.io.gfile.listdir(root) if tf.io.gfile.isdir(root) else []
    return sorted(name.rstrip("/") for name in names if name.rstrip("/").isdigit())


def _open(path):
    """The checkpoint in the folder `path`, or None where there is none or only a part of one."""
    if not tf.io.gfile.exists(os.path.join(path, _STATE)):
        return None
    state = _read_json(os.path.join(path, _STATE))
    kinds = {"step": int, "host_state": dict, "sizes": dict}
    if not isinstance(state, dict) or not all(isinstance(state.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{os.path.join(path, _STATE)} is damaged. Delete {path} to go on without it.")
    return Checkpoint(path, state["step"], state["host_state"])


def _check_sizes(checkpoint, before):
    advice = f"Delete it to go on from {before}." if before else "It cannot be used; give another."
    for name, size in _read_json(os.path.join(checkpoint.path, _STATE))["sizes"].items():
        path = os.path.join(checkpoint.path, name)
        if not tf.io.gfile.exists(path):
            raise UserError(f"{checkpoint.path} is damaged: {name} is missing. {advice}")
        if tf.io.gfile.stat(path).length != size:
            raise UserError(f"{checkpoint.path} is damaged: {name} is not the {size} bytes that were saved. {advice}")


def _read_json(path):
    try:
        with tf.io.gfile.GFile(path) as file:
            return json.loads(file.read())
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"{path} is damaged or missing ({_reason(error)}). Delete its folder to go on without it."
        ) from None


def _write(path, text):
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)


def _remove(path):
    """Takes away the mark of completeness first, so that a half-removed checkpoint is none."""
    state = os.path.join(path, _STATE)
    if tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)
    tf.io.gfile.rmtree(path)


def _reason(error):
    """What went wrong, of an `OSError` or of an error of TensorFlow, which puts graph nodes and paths before it."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error) or type(error).__name__
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", text).strip().partition("\n")[0]
    return (text.rpartition("; ")[2] or text).strip()[:200]
