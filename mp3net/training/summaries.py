"""What a run writes for people: `metrics.jsonl`, and TensorBoard's scalars, sounds and pictures."""

import contextlib
import json
import os
import struct

import tensorflow as tf
from tensorboard.plugins.audio import metadata as audio
from tensorboard.plugins.image import metadata as image


class Summaries:
    """Writes the rows of a run in `workdir`.

    Rows after `step`, from a run that was killed after its last checkpoint, are dropped from `metrics.jsonl`.
    """

    def __init__(self, workdir, step):
        self._path = os.path.join(str(workdir), "metrics.jsonl")
        kept = [line for line in self._lines() if _step(line) is not None and _step(line) <= step]
        tf.io.gfile.makedirs(str(workdir))
        partial = self._path + ".partial"
        with tf.io.gfile.GFile(partial, "w") as file:
            file.write("".join(kept))
        tf.io.gfile.rename(partial, self._path, overwrite=True)
        self._folder = os.path.join(str(workdir), "tensorboard")
        self._writer = tf.summary.create_file_writer(self._folder)

    def write(self, step, row):
        """Appends a row: `step` and floats by name."""
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write(json.dumps({"step": step, **row}) + "\n")
        with self._writer.as_default(step=step):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def write_preview(self, step, sounds, pictures, numbers):
        """For TensorBoard: sounds, the bytes of WAV files, pictures, those of PNG files, and numbers `[n]`, by name.

        Into a file of its own, which is closed: on gs:// each flush of a file writes all of it anew.
        """
        kind = audio.create_summary_metadata(None, None, encoding=audio.Encoding.Value("WAV"))
        values = {name: ([[wav, b""]], kind) for name, wav in sounds.items()}
        for name, png in pictures.items():
            size = (str(pixels).encode() for pixels in struct.unpack(">II", png[16:24]))  # as its header has them
            values[name] = [*size, png], image.create_summary_metadata(None, None)
        writer = tf.summary.create_file_writer(os.path.join(self._folder, "previews"))
        with contextlib.closing(writer), writer.as_default(step=step):
            # Encoded already: TensorFlow's own way there goes through operations that some processors complain of.
            for name, (value, metadata) in values.items():
                tf.summary.write(name, tf.constant(value, tf.string), metadata=metadata)
            for name, each in numbers.items():
                tf.summary.histogram(name, each)

    def write_text(self, step, name, text):
        """A sentence, for TensorBoard."""
        with self._writer.as_default(step=step):
            tf.summary.text(name, text)
        self._writer.flush()

    def _lines(self):
        if not tf.io.gfile.exists(self._path):
            return []
        with tf.io.gfile.GFile(self._path) as file:
            return file.read().splitlines(keepends=True)


def _step(line):
    """The step of a row, or None where a killed run has left half a line."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else None
    except (ValueError, KeyError, TypeError):
        return None
