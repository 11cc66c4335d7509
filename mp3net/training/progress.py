"""How a run goes: its numbers, their means, its speed, and the line that it prints. Needs no TensorFlow."""

import contextlib
import math
import time
from dataclasses import dataclass, field


@dataclass
class Statistics:
    """What the numbers of a round are, as it hands them back: names of its scalars, then of its checks."""

    scalars: list = field(default_factory=list)
    checks: list = field(default_factory=list)

    def of(self, row):
        """(floats by name, the name of the first tensor that was not finite or None) of a row, a list of floats."""
        values, good = row[: len(self.scalars)], row[len(self.scalars) :]
        bad = [name for name, share in zip(self.checks, good, strict=True) if not share >= 1.0]
        bad += [name for name, value in zip(self.scalars, values, strict=True) if not math.isfinite(value)]
        return dict(zip(self.scalars, values, strict=True)), bad[0] if bad else None


class Averages:
    """Means of the scalars of the rounds since the last row. Its `state` is plain, and is resumed from."""

    def __init__(self, state=None):
        self.state = state or {"rounds": 0, "sums": {}}

    def add(self, scalars):
        """Takes the scalars of a round, floats by name."""
        self.state["rounds"] += 1
        for name, value in scalars.items():
            self.state["sums"][name] = self.state["sums"].get(name, 0.0) + value

    def take(self):
        """The means, and an empty start."""
        means = {name: total / self.state["rounds"] for name, total in self.state["sums"].items()}
        self.state = {"rounds": 0, "sums": {}}
        return means


class Clock:
    """How fast a stage goes, since the last row.

    Its first call, which builds the graph, is left out where there are others.

    Args:
      audio_s: seconds of audio that a step takes.
      steps_per_round: steps of each round that it is told of.
    """

    def __init__(self, audio_s, steps_per_round):
        self._steps, self._audio_s = steps_per_round, audio_s
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

    @contextlib.contextmanager
    def aside(self):
        """Time spent in this context counts as none."""
        begun = time.monotonic()
        yield
        self._begun += time.monotonic() - begun

    def called(self, rounds):
        """Counts the rounds of a call."""
        self._rounds += rounds
        if self._first:
            self._first, self._first_rounds, self._first_s = False, rounds, time.monotonic() - self._begun
            self._restart()

    def take(self):
        """Speeds since the last call, floats by name."""
        seconds, rounds = time.monotonic() - self._begun, self._rounds
        if rounds == 0:
            seconds, rounds = self._first_s, self._first_rounds
        speed = rounds * self._steps / max(seconds, 1e-9)
        wait = min(1.0, self._waited / max(seconds, 1e-9))
        self._restart()
        return {"steps_per_second": speed, "audio_seconds_per_second": speed * self._audio_s, "data_wait": wait}


def duration(seconds):
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min, 10 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def progress_line(step, steps, row, headline, eta_s):
    """The line that a run prints, with those scalars of a row that `headline` names."""
    scalars = "  ".join(f"{name} {row[name]:.4g}" for name in headline)
    return (
        f"step {step}/{steps}  {scalars}  "
        f"{row['steps_per_second']:.3g} D it/s  {row['audio_seconds_per_second']:.4g} s audio/s  "
        f"waiting for data {100 * row['data_wait']:.0f} %  ETA {duration(eta_s)}"
    )
