"""Rounds of a stage as calls of one graph, with the data they take, and how fast they go."""

import contextlib
import dataclasses
import math
import time

import tensorflow as tf


class Rounds:
    """`System.train_step` of one stage: several rounds as one call of one graph, which hands back two small tensors.

    Args:
      system, stage, devices, data: as of trainer.py.
      first_step: where the data begin.
      training: a `Training`.
    """

    def __init__(self, system, stage, devices, data, first_step, training):
        share, parts = devices.split(stage.batch_size, training.micro_batch)
        self._devices, self._data, self._steps = devices, data, system.steps_per_round
        round_bytes = 4 * share * stage.crop_samples * system.channels * self._steps
        self._limit = training.rounds_per_call or devices.place.rounds_per_call(round_bytes)
        self.description = _description(system, stage, devices, share, parts)
        stage = dataclasses.replace(stage, micro_batches=parts)

        def one(round_data):
            batches, examples = round_data
            scalars, finite = system.train_step(stage, batches, examples)
            self._scalars, self._finite = list(scalars), list(finite)
            statistics = [*scalars.values(), *(tf.cast(each, tf.float32) for each in finite.values())]
            return tf.stack(statistics)

        self._call = devices.compile(one, self._limit)
        self._iterator = devices.feed(
            lambda host: data.dataset(
                stage, first_step, self._steps, self._limit, host.replicas, host.first, host.count
            )
        )
        self._element, self._used = None, self._limit

    def fetch(self):
        """Waits for the data of the next call, if there are none left."""
        if self._used == self._limit:
            with self._told():
                self._element, self._used = next(self._iterator), 0

    def run(self, most):
        """Runs at most `most` of the rounds whose data are there, in one call.

        Returns a list of (floats by name, the name of the first tensor that was not finite or None), one for each.
        """
        count = min(most, self._limit - self._used)
        with self._told():
            rows = self._call(self._element, tf.constant(self._used), tf.constant(count)).numpy()[:count]
        self._used += count
        return [self._told_apart(row) for row in rows.tolist()]

    def _told_apart(self, row):
        values, good = row[: len(self._scalars)], row[len(self._scalars) :]
        bad = [name for name, share in zip(self._finite, good, strict=True) if not share >= 1.0]
        bad += [name for name, value in zip(self._scalars, values, strict=True) if not math.isfinite(value)]
        return dict(zip(self._scalars, values, strict=True)), bad[0] if bad else None

    @contextlib.contextmanager
    def _told(self):
        """Turns what TensorFlow raises into the `UserError` behind it."""
        with self._devices.watched():
            try:
                yield
            except tf.errors.OpError:
                if self._data.error is not None:  # raised in a thread of tf.data, which passes on no more than its text
                    raise self._data.error from None
                raise


def _description(system, stage, devices, share, parts):
    text = f"{stage.batch_size} examples each on {devices.name}"
    if devices.replicas > 1:
        text += f", {share} a replica"
    if parts > 1:
        text += f", in {parts} parts of {share // parts} whose gradients are accumulated"
        note = system.note_on_parts(stage.batch_size // parts)
        text += f"; {note}" if note else ""
    return text


class Clock:
    """How fast a stage goes, since the last row.

    Its first call, which builds the graph, is left out where there are others.
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
