"""A sentence when training goes wrong, with what to try: training a GAN for days blind is what everyone regrets.

What it looks at are a run's rows. Each thing is said when it begins, and again only after it has passed.
"""

import statistics
from collections import deque

_ROWS = 10  # of the past that a row is compared with
_STARTED = 20  # rows that a run is given to begin with
_PREVIEWS = 8  # that count, at most, where few songs make a number uncertain: each is of other ones
_FEWEST_PREVIEWS = 4


class Watch:
    """Looks at the rows of a run as they come."""

    def __init__(self):
        self._rows, self._standing, self._count = deque(maxlen=_ROWS), set(), 0
        self._held_out = deque(maxlen=_PREVIEWS)
        self._first = []  # the wasserstein estimates of the rows after those that a run begins with

    def look(self, row):
        """The sentences that a row, floats by name, gives rise to: those that were not true of the row before."""
        self._count += 1
        self._held_out.extend([row["held_out_standing"]] if "held_out_standing" in row else [])
        found = {name: sentence for name, check in _CHECKS.items() if (sentence := check(row, self))}
        # What a row does not measure may still be so: previews come with few rows.
        silent = {name for name in self._standing if name in _OF_PREVIEWS and not _OF_PREVIEWS[name] <= set(row)}
        new = [sentence for name, sentence in found.items() if name not in self._standing]
        self._standing = set(found) | silent
        self._rows.append(row)
        if self.started and len(self._first) < _ROWS and "wasserstein" in row:
            self._first.append(row["wasserstein"])
        return new

    @property
    def started(self):
        """Whether the run has had time to begin with."""
        return self._count > _STARTED

    @property
    def held_out(self):
        """Where held-out music stands for the critic (previews.py): (mean, its standard error) by the last previews;
        None while they are few.
        """
        count = len(self._held_out)
        if count < _FEWEST_PREVIEWS:
            return None
        return statistics.fmean(self._held_out), statistics.stdev(self._held_out) / count**0.5

    @property
    def first_gap(self):
        """The median of the wasserstein estimate once the run had begun; None before."""
        return statistics.median(self._first) if len(self._first) == _ROWS else None

    def usual(self, name):
        """The median of a number over the last rows, None while they are few."""
        values = sorted(row[name] for row in self._rows if name in row)
        return values[len(values) // 2] if len(values) >= _ROWS // 2 else None


def _penalty(row, watch):
    penalty, usual = row.get("gradient_penalty"), watch.usual("gradient_penalty")
    if penalty is not None and usual is not None and penalty > max(1.0, 10 * usual):
        return (
            f"the gradient penalty has risen from {usual:.2g} to {penalty:.2g}: the critic is running away. If it does "
            "not come back by itself, resume from an earlier checkpoint with half of MP3net.learning_rate, or raise "
            "MP3net.penalty_weight."
        )
    return None


def _strong(row, watch):
    gap, usual = row.get("wasserstein"), watch.usual("wasserstein")
    if watch.started and gap is not None and usual is not None and usual > 0 and gap > 5 * usual:
        return (
            f"the critic has grown far ahead (wasserstein {usual:.3g} before, {gap:.3g} now): G learns little from it. "
            "Try MP3net.critic_steps = 1, or a lower learning rate."
        )
    first = watch.first_gap
    if first is not None and usual is not None and 0 < 5 * first < usual:
        return (
            f"the critic has drawn far ahead over time (wasserstein {first:.3g} at first, {usual:.3g} now): G learns "
            "little from it. Try MP3net.critic_steps = 1, or a lower learning rate."
        )
    return None


def _weak(row, watch):
    gap, usual = row.get("wasserstein"), watch.usual("wasserstein")
    if watch.started and gap is not None and usual is not None and gap <= 0 and usual <= 0:
        return (
            "the critic does not tell generated songs from real ones (wasserstein is not above 0), which is more "
            "likely its fault than G's merit. Try more critic_steps, or a lower MP3net.drift_weight."
        )
    return None


def _waiting(row, watch):
    share = row.get("data_wait")
    if watch.started and share is not None and share > 0.25:
        return (
            f"{100 * share:.0f} % of the time goes into waiting for data. Prepare the corpus (python -m mp3net."
            "prepare), bring it to a local disk, or raise data.threads."
        )
    return None


def _memory(row, watch):
    standing, error = watch.held_out or (1.0, 0.0)
    if watch.started and standing + 2 * error < 0.5:
        return (
            f"the critic scores held-out music like generated songs (at {standing:.2f} +- {error:.2f}, where 0 is "
            "these and 1 what it is trained on): it knows the recordings by heart, and G learns to copy them. Stop "
            "here, or train on more of them; data.slicing = 'random' makes more of what there is."
        )
    return None


def _collapse(row, watch):
    diversity = row.get("diversity")
    if watch.started and diversity is not None and diversity < 0.15:
        return (
            f"the songs are nearly all the same (diversity {diversity:.2f} of the real ones'): G has collapsed. Go "
            "back to a checkpoint before it, with a larger batch or a lower learning rate; micro-batches of 1 switch "
            "off the minibatch statistic that is there against it."
        )
    return None


def _silence(row, watch):
    share = row.get("silent_share")
    if watch.started and share is not None and share >= 0.5:
        return (
            f"{100 * share:.0f} % of the songs are silent. Where it lasts, try Architecture.amplitude_scale = 8, or "
            "see whether the recordings are silent too (previews/real)."
        )
    return None


def _hum(row, watch):
    hum, real = row.get("hum_db_generated"), row.get("hum_db_real")
    if watch.started and hum is not None and real is not None and hum > max(-25.0, real + 10.0):
        return (
            f"the songs hum: {hum:.0f} dB of their energy repeats every few blocks, {real:.0f} dB of the recordings'. "
            "It often fades with training; if not, train the two shallowest blocks alone for 10,000 to 20,000 steps "
            "(a phase, as configs/95s.gin shows)."
        )
    return None


_CHECKS = {
    "penalty": _penalty, "strong": _strong, "weak": _weak, "waiting": _waiting, "collapse": _collapse,
    "silence": _silence, "hum": _hum, "memory": _memory,
}  # fmt: skip
_OF_PREVIEWS = {"collapse": {"diversity"}, "silence": {"silent_share"}, "hum": {"hum_db_generated"}}
