"""The training loop: any `System`, from its last checkpoint to its last step."""

import contextlib
import math
import signal
import time
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from mp3net.errors import UserError, check_number
from mp3net.training import checkpoints
from mp3net.training.summaries import Averages, Summaries, progress_line


@dataclass(frozen=True)
class Training:
    """How long a run is and what it keeps: `train` in the configurations.

    `steps` counts D iterations. A row is written every `log_every` steps; a checkpoint every `save_every_steps` and
    every `save_every_minutes`, and the last `keep` of them are kept. `seed` fixes weights, data order and every random
    draw.
    """

    system: Any
    steps: int
    seed: int = 0
    log_every: int = 100
    save_every_steps: int = 5000
    save_every_minutes: float = 20.0
    keep: int = 3

    def __post_init__(self):
        for name in ("steps", "log_every", "save_every_steps", "keep"):
            check_number(f"train.{name}", getattr(self, name), low=1, whole=True)
        check_number("train.save_every_minutes", self.save_every_minutes, low=0)
        check_number("train.seed", self.seed, low=0, high=2**31 - 1, whole=True)


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interruption:
    """Notes SIGTERM, SIGHUP and Ctrl-C, for the loop to save before it leaves; a second one ends the process."""

    def __init__(self):
        self.signal = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.signal = number
        print(f"\n{signal.Signals(number).name}: saving, then stopping (once more to stop at once)", flush=True)
        signal.signal(number, signal.SIG_DFL)


def train(training, devices, batches, workdir, record, resumed=None, log=print):
    """Trains `training.system`, already built, to its last step.

    Args:
      training: a `Training`.
      devices: where, see devices.py.
      batches: `batches(stage, first_step, steps_per_round)` iterates over what `System.train_step` takes.
      workdir: folder of checkpoints, metrics and TensorBoard events.
      record: {"configuration": text, "data": plain JSON}, what the run is of; saved with each checkpoint.
      resumed: the `Checkpoint` whose weights the system holds, or None for a new run.
      log: takes each line for the terminal.

    Returns: the signal that ended the run early, or None.
    Raises: `UserError` at a number that is not finite; the checkpoints stay as they were.
    """
    system = training.system
    stages = system.stages(training.steps)
    step = resumed.step if resumed else 0
    averages = Averages(resumed.host_state.get("averages") if resumed else None)
    summaries = Summaries(workdir, step)
    saved_step, saved_at = step, time.monotonic()

    def save():
        nonlocal saved_step, saved_at
        host_state = {"averages": averages.state, "data": record["data"]}
        items, architecture = system.checkpoint_items(), system.architecture()
        path = checkpoints.save(workdir, step, items, architecture, record["configuration"], host_state)
        checkpoints.keep_last(workdir, training.keep)
        saved_step, saved_at = step, time.monotonic()
        log(f"saved {path}")

    def leave():
        """However the loop is left, what was learnt is kept: a closed terminal or a bad recording costs nothing."""
        if whole and step > saved_step:
            save()

    whole = True  # whether the weights are those of `step`: not within a round, nor after one that went wrong
    with contextlib.ExitStack() as exits:
        interruption = exits.enter_context(Interruption())
        exits.callback(leave)
        stage_end = 0
        for stage in stages:
            stage_end += stage.steps
            if step >= stage_end or interruption.signal is not None:
                continue

            # ---- this stage's graph and data
            log(f"stage {stage.name}: steps {step} to {stage_end}, {stage.batch_size} examples each")
            round_step = Round(system, stage, devices)
            data = batches(stage, step, system.steps_per_round)
            clock = Clock(stage, system)

            while step < stage_end and interruption.signal is None:
                # ---- step
                with clock.waiting():
                    examples, keys = next(data)
                whole = False
                scalars, bad = round_step(examples, keys)
                if bad is not None:
                    raise _not_finite(step + system.steps_per_round, bad, workdir)
                step += system.steps_per_round
                averages.add(scalars)
                whole = True
                clock.round()

                # ---- log
                if step % training.log_every < system.steps_per_round or step == training.steps:
                    row = {**averages.take(), **clock.take()}
                    summaries.write(step, row)
                    log(progress_line(step, training.steps, row, (training.steps - step) / row["steps_per_second"]))

                # ---- save
                minutes = (time.monotonic() - saved_at) / 60
                if step - saved_step >= training.save_every_steps or minutes >= training.save_every_minutes:
                    save()
    return interruption.signal if step < training.steps else None


class Round:
    """`System.train_step` of one stage as one graph, which hands back two small tensors, whatever it reports."""

    def __init__(self, system, stage, devices):
        def step(examples, keys):
            scalars, finite = system.train_step(stage, examples, keys)
            self.traces += 1
            self._scalars, self._finite = list(scalars), list(finite)
            return tf.stack(list(scalars.values())), tf.stack(list(finite.values()))

        self.traces = 0
        self._step = devices.compile(step)

    def __call__(self, examples, keys):
        """One round: floats by name, and the name of the first tensor that was not finite, or None."""
        scalars, finite = (tensor.numpy() for tensor in self._step(examples, keys))
        bad = [name for name, good in zip(self._finite, finite, strict=True) if not good]
        bad += [name for name, value in zip(self._scalars, scalars, strict=True) if not math.isfinite(value)]
        return dict(zip(self._scalars, scalars.tolist(), strict=True)), bad[0] if bad else None


class Clock:
    """How fast a stage goes, since the last row.

    Its first round, which builds the graph, is left out where there are others.
    """

    def __init__(self, stage, system):
        self._steps = system.steps_per_round
        self._audio_s = stage.batch_size * stage.crop_samples / system.rate_hz
        self._first = True
        self._restart()

    def _restart(self):
        self._rounds, self._waited, self._begun = 0, 0.0, time.monotonic()

    @contextlib.contextmanager
    def waiting(self):
        """Time spent in this context is waiting for data."""
        begun = time.monotonic()
        yield
        self._waited += time.monotonic() - begun

    def round(self):
        """Counts a round."""
        self._rounds += 1
        if self._first:
            self._first, self._first_s = False, time.monotonic() - self._begun
            self._restart()

    def take(self):
        """Speeds since the last call, floats by name."""
        seconds, rounds = time.monotonic() - self._begun, self._rounds
        if rounds == 0:
            seconds, rounds = self._first_s, 1
        speed = rounds * self._steps / max(seconds, 1e-9)
        wait = min(1.0, self._waited / max(seconds, 1e-9))
        self._restart()
        return {"steps_per_second": speed, "audio_seconds_per_second": speed * self._audio_s, "data_wait": wait}


def _not_finite(step, bad, workdir):
    good = checkpoints.every(workdir)
    last = f"The last good checkpoint is {good[-1].path}" if good else "There is no checkpoint yet"
    return UserError(
        f"step {step}: not a finite number; the first bad tensor is: {bad}. {last}. "
        "If it is the real amplitudes, a recording is bad; else lower the learning rate or choose another train.seed."
    )
