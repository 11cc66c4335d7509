"""The training loop: any `System`, from its last checkpoint to its last step."""

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import Any

from mp3net.errors import UserError, check_number
from mp3net.training import checkpoints
from mp3net.training.rounds import Clock, Rounds
from mp3net.training.summaries import Averages, Summaries, progress_line


@dataclass(frozen=True)
class Training:
    """How long a run is and what it keeps: `train` in the configurations.

    `steps` counts D iterations. A row is written every `log_every` steps; a checkpoint every `save_every_steps` and
    every `save_every_minutes`, and the last `keep` of them are kept. `seed` fixes weights, data order and every random
    draw. A replica takes at most `micro_batch` examples at once and accumulates their gradients; None takes its share
    whole. `rounds_per_call` of training are one call of the device; None takes one on a CPU and several elsewhere.
    """

    system: Any
    steps: int
    seed: int = 0
    log_every: int = 100
    save_every_steps: int = 5000
    save_every_minutes: float = 20.0
    keep: int = 3
    micro_batch: int | None = None
    rounds_per_call: int | None = None

    def __post_init__(self):
        for name in ("steps", "log_every", "save_every_steps", "keep"):
            check_number(f"train.{name}", getattr(self, name), low=1, whole=True)
        for name in ("micro_batch", "rounds_per_call"):
            check_number(f"train.{name}", getattr(self, name), low=1, whole=True, optional=True)
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


def train(training, devices, data, workdir, record, resumed=None, log=print):
    """Trains `training.system`, already built, to its last step.

    Args:
      training: a `Training`.
      devices: where, see devices.py.
      data: has `dataset(stage, first_step, steps_per_round, rounds, replicas, first_replica, count)` and `error`, as
        data/pipeline.py has.
      workdir: folder of checkpoints, metrics and TensorBoard events, the same for all hosts.
      record: {"configuration": text, "data": plain JSON}, what the run is of; saved with each checkpoint.
      resumed: the `Checkpoint` whose weights the system holds, or None for a new run.
      log: takes each line for the terminal.

    Returns: the signal that ended the run early, or None.
    Raises: `UserError` at a number that is not finite, at a recording that cannot be read, and `HostLost` where another
    host has left; the checkpoints stay as they were.
    """
    system = training.system
    stages = system.stages(training.steps)
    step = resumed.step if resumed else 0
    averages = Averages(resumed.host_state.get("averages") if resumed else None)
    summaries = Summaries(workdir, step) if devices.chief else None
    saved_step, saved_at = step, time.monotonic()

    def save():
        nonlocal saved_step, saved_at
        if devices.chief:
            host_state = {"averages": averages.state, "data": record["data"]}
            items, architecture = system.checkpoint_items(), system.architecture()
            path = checkpoints.save(workdir, step, items, architecture, record["configuration"], host_state)
            checkpoints.keep_last(workdir, training.keep)
            log(f"saved {path}")
        saved_step, saved_at = step, time.monotonic()

    def leave():
        """However the loop is left, what was learnt is kept: a closed terminal or a bad recording costs nothing."""
        if whole and step > saved_step:
            save()

    def due(step):
        """Whether a row is to be written, or a checkpoint, once `step` is reached."""
        return step % training.log_every < system.steps_per_round or step - saved_step >= training.save_every_steps

    whole = True  # whether the weights are those of `step`: not within a call, nor after one that went wrong
    with contextlib.ExitStack() as exits:
        interruption = exits.enter_context(Interruption())
        exits.callback(leave)
        stage_end = 0
        for stage in stages:
            stage_end += stage.steps
            if step >= stage_end or devices.any(interruption.signal is not None):
                continue

            # ---- this stage's graph and data
            rounds = Rounds(system, stage, devices, data, step, training)
            log(f"stage {stage.name}: steps {step} to {stage_end}, {rounds.description}")
            clock = Clock(stage, system)

            while step < stage_end and not devices.any(interruption.signal is not None):
                # ---- step: as many rounds as one call may run before something is due
                most = (stage_end - step) // system.steps_per_round
                ends = range(step + system.steps_per_round, stage_end, system.steps_per_round)
                most = next((i + 1 for i, end in enumerate(ends) if due(end)), most)
                with clock.waiting():
                    rounds.fetch()
                whole = False
                results = rounds.run(most)
                for scalars, bad in results:
                    step += system.steps_per_round
                    if bad is not None:
                        raise _not_finite(step, bad, workdir)
                    averages.add(scalars)
                whole = True
                clock.called(len(results))

                # ---- log
                if step % training.log_every < system.steps_per_round or step == training.steps:
                    row = {**averages.take(), **clock.take()}
                    if devices.chief:
                        summaries.write(step, row)
                    log(progress_line(step, training.steps, row, (training.steps - step) / row["steps_per_second"]))

                # ---- save
                minutes = (time.monotonic() - saved_at) / 60
                if step - saved_step >= training.save_every_steps or minutes >= training.save_every_minutes:
                    save()
    return interruption.signal if step < training.steps else None


def _not_finite(step, bad, workdir):
    good = checkpoints.every(workdir)
    last = f"The last good checkpoint is {good[-1].path}" if good else "There is no checkpoint yet"
    return UserError(
        f"step {step}: not a finite number; the first bad tensor is: {bad}. {last}. "
        "If it is the real amplitudes, a recording is bad; else lower the learning rate or choose another train.seed."
    )
