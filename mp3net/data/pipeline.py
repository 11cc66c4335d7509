"""From a corpus to batches of encoded audio: a `tf.data` pipeline that is a function of (seed, step).

In order: position -> crop -> read (a seek, where the corpus is prepared; resampled on the fly, where not) -> level ->
encode -> batch -> the steps of a round -> prefetch.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from mp3net.audio import files
from mp3net.audio.resample import output_frames
from mp3net.data.corpus import open_corpus
from mp3net.data.crops import CropPlan
from mp3net.data.excerpts import gain
from mp3net.errors import UserError, check_number

READERS = ("soxr", "tensorflow-io")


@dataclass(frozen=True)
class DataSettings:
    """Which recordings are read, and how: `data` in the configurations.

    `years` and `splits` keep some of a corpus that has metadata. `slicing` is "fixed" or "random" (see `CropPlan`).
    `peak` is what each recording's largest sample is scaled to, all channels by one factor; None leaves levels alone.
    `upmix` doubles mono where stereo is asked. `reader` is "soxr", or "tensorflow-io" for its backend in the graph
    (extra `[tfio]`). `threads` reads and encodes in parallel; None lets `tf.data` choose.
    """

    years: tuple | None = None
    splits: tuple | None = None
    slicing: str = "fixed"
    peak: float | None = 0.999
    upmix: bool = False
    reader: str = "soxr"
    threads: int | None = None

    def __post_init__(self):
        if self.reader not in READERS:
            raise UserError(f"data.reader is {self.reader!r}; it is one of {', '.join(READERS)}.")
        check_number("data.peak", self.peak, above=0, high=1, optional=True)
        check_number("data.threads", self.threads, low=1, whole=True, optional=True)
        for name in ("years", "splits"):
            chosen = getattr(self, name)
            if not isinstance(chosen, tuple | list | None):
                raise UserError(f"data.{name} is {chosen!r}; it is a list, or None for all.")
            object.__setattr__(self, name, None if chosen is None else tuple(chosen))


class Pipeline:
    """Batches of a corpus for the stages of a system.

    Args:
      folder: a prepared corpus, or any folder of recordings.
      settings: `DataSettings`.
      rate_hz, channels: of the audio that the system takes.
      encode: `[batch, sample, channel]` to the tensor that the networks see.
      overlap: samples that a crop takes beyond those that the next slice begins after.
      seed: of the shuffle.
    """

    def __init__(self, folder, settings, rate_hz, channels, encode, overlap, seed):
        self.settings, self.rate_hz, self.channels = settings, rate_hz, channels
        self.encode, self.overlap, self.seed = encode, overlap, seed
        self.corpus = open_corpus(folder, settings.years, settings.splits, channels, settings.upmix)
        self.recordings = self.corpus.recordings
        self._error = None
        self._load = self._load_by_tensorflow_io if settings.reader == "tensorflow-io" else self._load_by_soxr
        if settings.reader == "tensorflow-io":
            from mp3net.data import tfio_reader

            tfio_reader.check(self.recordings)

    @property
    def resamples(self):
        """How many recordings are not at the model's rate, and so are resampled crop by crop."""
        return sum(recording.rate_hz != self.rate_hz for recording in self.recordings)

    @property
    def identity(self):
        """That of the corpus."""
        return self.corpus.identity

    def of(self, recordings):
        """The same, of some of its recordings alone."""
        some = copy.copy(self)
        some.corpus, some.recordings = replace(self.corpus, recordings=recordings), recordings
        return some

    def plan(self, crop_samples):
        """The `CropPlan` of a stage."""
        lengths = tuple(output_frames(each.frames, each.rate_hz, self.rate_hz) for each in self.recordings)
        names = tuple(recording.audio_filename for recording in self.recordings)
        return CropPlan(names, lengths, crop_samples, self.overlap, self.settings.slicing, self.seed, self.rate_hz)

    def held_out(self, crop_samples):
        """A `Pipeline` of what `data.splits` leaves out of training; None where there is no crop of that length."""
        if not self.corpus.other_splits:
            return None
        settings = replace(self.settings, splits=self.corpus.other_splits)
        rest = self.rate_hz, self.channels, self.encode, self.overlap, self.seed
        try:
            found = Pipeline(self.corpus.folder, settings, *rest)
            found.plan(crop_samples)
        except UserError:  # none of them can be read, or is long enough
            return None
        return found

    def examples(self, stage, count, first=0):
        """Examples `first` to `first + count` of a run that begins with `stage`, encoded: `[count, ...]`.

        Raises `UserError` where one cannot be read.
        """
        plan = self.plan(stage.crop_samples)
        try:
            return tf.stack([self._example(plan, tf.constant(first + i, tf.int64)) for i in range(count)])
        except tf.errors.OpError as error:
            told, self._error = self._error, None  # told by now: `error` is that of datasets
            raise told or error from None

    def _example(self, plan, example, encoded=True):
        waveform = tf.ensure_shape(self._load(plan, example), [plan.crop_samples, self.channels])
        return self.encode(waveform[None])[0] if encoded else waveform

    def dataset(self, stage, first_step, steps_per_round, rounds=1, replicas=1, first_replica=0, count=1, encoded=True):
        """What the replicas of one host take from `first_step` on: an endless `tf.data.Dataset`.

        Consecutive elements are for consecutive replicas, `first_replica` to `first_replica + count - 1` of `replicas`,
        then for the same ones again. Each is (encoded `[rounds, steps_per_round, share, ...]`, examples int64 `[rounds,
        steps_per_round, share]`), a share being batch / replicas. Where not `encoded`, waveforms stand in place of
        encoded audio. An error in it is told by `error`.
        """
        plan = self.plan(stage.crop_samples)
        calls = self.settings.threads or tf.data.AUTOTUNE
        share = stage.batch_size // replicas
        per_replica = rounds * steps_per_round * share

        def example_of(index):
            """The place, in the endless sequence, of the `index`-th example that this host reads."""
            element, within = index // per_replica, index % per_replica
            step = first_step + (element // count) * rounds * steps_per_round + within // share
            return step * stage.batch_size + (first_replica + element % count) * share + within % share

        def load(index):
            example = example_of(index)
            return self._example(plan, example, encoded), example

        examples = tf.data.Dataset.counter(0, dtype=tf.int64)  # endless, and known to be: hosts need not ask each other
        loaded = examples.map(load, num_parallel_calls=calls, deterministic=True)
        steps = loaded.batch(share, drop_remainder=True).batch(steps_per_round, drop_remainder=True)
        return steps.batch(rounds, drop_remainder=True).prefetch(2)

    @property
    def error(self):
        """The `UserError` for which a dataset failed, if that is why: tf.data passes on no more than its text."""
        return self._error

    def _load_by_soxr(self, plan, example):
        def read(position):
            index, start = plan.crop(position)
            recording = self.recordings[index]
            rate, channels = self.rate_hz, self.channels
            crop = files.read_crop(recording.path, start, plan.crop_samples, rate, channels, self.settings.upmix)
            return crop * np.float32(self.gain(recording))

        return tf.numpy_function(self._noting_errors(read), [example], tf.float32, stateful=False)

    def _load_by_tensorflow_io(self, plan, example):
        from mp3net.data import tfio_reader

        def choose(position):
            index, start = plan.crop(position)
            return np.int64(index), np.int64(start), np.float32(self.gain(self.recordings[index]))

        kinds = [tf.int64, tf.int64, tf.float32]
        index, start, gain = tf.numpy_function(self._noting_errors(choose), [example], kinds, stateful=False)
        return gain * tfio_reader.read_crop(
            self.recordings, index, start, plan.crop_samples, self.rate_hz, self.channels
        )

    def gain(self, recording):
        """The factor that brings a `Recording`'s samples, as they are in its file, to the level of `data.peak`."""
        return gain(recording, self.settings.peak, self.rate_hz, self.channels, self.settings.upmix)

    def _noting_errors(self, function):
        """`function`, whose `UserError` is kept for `error`."""

        def noting(*arguments):
            try:
                return function(*arguments)
            except UserError as error:
                self._error = error
                raise

        return noting
