"""The training loop: any `System`, from its last checkpoint to its last step."""

import contextlib
from dataclasses import dataclass
from typing import Any

from mp3net.errors import UserError, check_number
from mp3net.training import checkpoints
from mp3net.training.interruption import Interruption
from mp3net.training.previews import Previews
from mp3net.training.progress import Averages, Clock, progress_line
from mp3net.training.rounds import Rounds
from mp3net.training.saves import Saves
from mp3net.training.summaries import Summaries
from mp3net.training.watch import Watch


@dataclass(frozen=True)
class Training:
    """How long a run is and what it keeps: `train` in the configurations.

    `steps` counts D iterations. A row is written every `log_every` steps; a checkpoint every `save_every_steps` and
    every `save_every_minutes`, and the last `keep` of them are kept. `seed` fixes weights, data order and every random
    draw. Every `preview_every_minutes`, and in 2 % of the time at most, `preview_songs` songs are made and measured
    beside as many real ones; 0 makes none. A replica takes at most `micro_batch` examples at once and accumulates their
    gradients; None takes its share whole. `rounds_per_call` of training are one call of the device; None takes one on a
    CPU and several elsewhere.
    """

    system: Any
    steps: int
    seed: int = 0
    log_every: int = 100
    save_every_steps: int = 5000
    save_every_minutes: float = 20.0
    keep: int = 3
    preview_songs: int = 4
    preview_every_minutes: float = 30.0
    micro_batch: int | None = None
    rounds_per_call: int | None = None

    def __post_init__(self):
        for name in ("steps", "log_every", "save_every_steps", "keep"):
            check_number(f"train.{name}", getattr(self, name), low=1, whole=True)
        for name in ("micro_batch", "rounds_per_call"):
            check_number(f"train.{name}", getattr(self, name), low=1, whole=True, optional=True)
        for name in ("save_every_minutes", "preview_every_minutes"):
            check_number(f"train.{name}", getattr(self, name), low=0)
        check_number("train.preview_songs", self.preview_songs, low=0, whole=True)
        check_number("train.seed", self.seed, low=0, high=2**31 - 1, whole=True)


def train(training, devices, data, workdir, record, resumed=None, log=print):
    """Trains `training.system`, already built, to its last step.

    Args:
      training: a `Training`.
      devices: where, see devices.py.
      data: has `dataset(stage, first_step, steps_per_round, rounds, replicas, first_replica, count, encoded)`,
        `examples`, `held_out` and `error`, as data/pipeline.py has.
      workdir: folder of checkpoints, metrics and TensorBoard events, the same for all hosts.
      record: {"configuration": text, "data", "place" and "settings": plain JSON}, what the run is of, and where; saved
        with each checkpoint.
      resumed: the `Checkpoint` whose weights the system holds, or None for a new run.
      log: takes each line for the terminal.

    Returns: the signal that ended the run early, whichever host got it, or None.
    Raises: `UserError` at a number that is not finite, at a recording that cannot be read, and `HostLost` where another
    host has left; the checkpoints stay as they were.
    """
    system = training.system
    stages, per_round = system.stages(training.steps), system.steps_per_round
    step = resumed.step if resumed else 0
    averages = Averages(resumed.host_state.get("averages") if resumed else None)
    summaries = Summaries(workdir, step) if devices.chief else None
    saves = Saves(training, devices, workdir, record, averages, step, log)
    previews = Previews(training, stages[0], data, workdir, summaries, log, step) if devices.chief else None
    watch = Watch()

    def row_due(step):
        return step % training.log_every < per_round or step == training.steps

    def heard():
        """The signal that any host has got, or 0. Where by any host's clock it is time, all save."""
        number, late = devices.largest([interruption.signal or 0, saves.late(step)])
        if late:
            saves.save(step)
        return int(number)

    whole = True  # whether the weights are those of `step`: not within a call, nor after one that went wrong
    ended_by = stage_end = 0
    with contextlib.ExitStack() as exits:
        interruption = exits.enter_context(Interruption())
        exits.callback(devices.close)
        # However the loop is left, what was learnt is kept: a closed terminal or a bad recording costs nothing.
        exits.callback(lambda: whole and saves.save(step))
        for stage in stages:
            stage_end += stage.steps
            if step >= stage_end:
                continue
            if ended_by or (ended_by := heard()):
                break

            # ---- this stage's graph and data
            rounds = Rounds(system, stage, devices, data, step, training)
            log(f"stage {stage.name}: steps {step} to {stage_end}, {rounds.description}")
            audio_s = stage.batch_size * stage.crop_samples / system.rate_hz
            clock = Clock(audio_s, per_round)

            while step < stage_end and not (ended_by := heard()):
                # ---- step: as many rounds as one call may run before something is due
                ends = range(step + per_round, stage_end + 1, per_round)
                most = next(i for i, end in enumerate(ends, 1) if end == stage_end or row_due(end) or saves.due(end))
                with clock.waiting():
                    rounds.fetch()
                whole = False
                results = rounds.run(most)
                for scalars, bad in results:
                    step += per_round
                    if bad is not None:
                        raise _not_finite(step, bad, workdir)
                    averages.add(scalars)
                whole = True
                clock.called(len(results))

                # ---- log
                if row_due(step):
                    measures = {}
                    if devices.chief and previews.due:
                        with clock.aside():
                            devices.bring_back()
                            measures = previews.make(step)
                    row = {**averages.take(), **clock.take(), **measures}
                    if devices.chief:
                        summaries.write(step, row)
                    eta_s = (training.steps - step) / row["steps_per_second"]
                    log(progress_line(step, training.steps, row, system.headline, eta_s))
                    for sentence in watch.look(row):
                        log(f"watch: {sentence}")
                        if devices.chief:
                            summaries.write_text(step, "watch", sentence)

                # ---- save
                if saves.due(step):
                    saves.save(step)
    return ended_by if ended_by and step < training.steps else None


def _not_finite(step, bad, workdir):
    good = checkpoints.every(workdir)
    last = f"The last good checkpoint is {good[-1].path}" if good else "There is no checkpoint yet"
    return UserError(
        f"step {step}: not a finite number; the first bad tensor is: {bad}. {last}. "
        "If it is of real audio, a recording is bad; else lower the learning rate or choose another train.seed."
    )
