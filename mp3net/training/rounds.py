"""Rounds of a stage as calls of one graph, with the data they take."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

from mp3net.aot.lowering import variables
from mp3net.training.progress import Statistics


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

        function, self._statistics = round_of(system, dataclasses.replace(stage, micro_batches=parts))

        def dataset_of(host):
            share = host.replicas, host.first, host.count
            return data.dataset(stage, first_step, self._steps, self._limit, *share, encoded=not devices.encodes)

        self._call = devices.compile(function, self._limit, variables(system))
        self._iterator = devices.feed(dataset_of, system.representation.encode)
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
            rows = np.asarray(self._call(self._element, tf.constant(self._used), tf.constant(count)))[:count]
        self._used += count
        return [self._statistics.of(row) for row in rows.tolist()]

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


def round_of(system, stage):
    """(a function of a replica's data of one round to float32 `[statistic]`, the `Statistics` that these are).

    The latter are empty until the function has been traced.
    """
    statistics = Statistics()

    def one(round_data):
        scalars, finite = system.train_step(stage, *round_data)
        statistics.scalars, statistics.checks = list(scalars), list(finite)
        return tf.stack([*scalars.values(), *(tf.cast(check, tf.float32) for check in finite.values())])

    return one, statistics


def _description(system, stage, devices, share, parts):
    text = f"{stage.batch_size} examples each on {devices.name}"
    if devices.replicas > 1:
        text += f", {share} a replica"
    if parts > 1:
        text += f", in {parts} parts of {share // parts} whose gradients are accumulated"
        note = system.note_on_parts(stage.batch_size // parts)
        text += f"; {note}" if note else ""
    return text
