"""When a run saves, and the saving. All hosts of a run must agree on the first: they train in step."""

import time

from mp3net.training import checkpoints


class Saves:
    """The checkpoints of one run.

    Args:
      training: a `Training`.
      devices: where the run is, see devices.py; its chief writes them.
      workdir, record: as of trainer.py.
      averages: `Averages` that a checkpoint takes along.
      step: of the checkpoint that the run began from.
      log: takes a line for each.
    """

    def __init__(self, training, devices, workdir, record, averages, step, log):
        self._training, self._devices, self._workdir, self._record = training, devices, workdir, record
        self._averages, self._log = averages, log
        self._step, self._at = step, time.monotonic()

    def due(self, step):
        """Whether one is due at `step` by the count of steps: the same on every host."""
        return step - self._step >= self._training.save_every_steps

    def late(self, step):
        """Whether one is due at `step` by this host's clock, which the others must hear of."""
        return step > self._step and time.monotonic() - self._at >= 60 * self._training.save_every_minutes

    def save(self, step):
        """Writes that of `step`, unless it is there."""
        if step == self._step:
            return
        if self._devices.chief:
            self._devices.bring_back()
            system = self._training.system
            host_state = {
                "averages": self._averages.state,
                "data": self._record["data"],
                "place": self._record["place"],
                "settings": self._record["settings"],
            }
            items, architecture = system.checkpoint_items(), system.architecture()
            path = checkpoints.save(self._workdir, step, items, architecture, self._record["configuration"], host_state)
            checkpoints.keep_last(self._workdir, self._training.keep)
            self._log(f"saved {path}")
        self._step, self._at = step, time.monotonic()
