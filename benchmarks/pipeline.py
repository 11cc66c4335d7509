"""Crops a second that the pipeline reads, scales, transforms and batches, from a prepared corpus.

    python benchmarks/pipeline.py

The corpus is noise at 22,016 Hz in stereo, written to a temporary folder, and so in the system's cache. The bound is
the bare matrix product of the MDCT's folded size for as many crops, measured in the same run.
"""

import pathlib
import statistics
import tempfile

import numpy as np
import soundfile
from common import seconds_of, tensorflow

tf = tensorflow()

from mp3net import cli  # noqa: E402 (after TensorFlow, so that its chatter is silenced)
from mp3net.audio.mdct import MDCT  # noqa: E402
from mp3net.data.pipeline import DataSettings, Pipeline  # noqa: E402
from mp3net.stage import Stage  # noqa: E402

_RATE_HZ, _BANDS = 22016, 128
_CASES = {"95 s": (16384, 4, 8), "5 s": (1024, 64, 150)}  # blocks, batch, crops a second that are asked


def main():
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (_RATE_HZ * 300, 2)).astype(np.float32)
        for i in range(4):
            soundfile.write(pathlib.Path(folder, f"noise-{i}.wav"), noise, _RATE_HZ, subtype="PCM_16")
        for name, (blocks, batch, asked) in _CASES.items():
            speed = crops_per_second(folder, blocks, batch)
            ratio = bound(blocks) / speed
            print(f"{name}: {speed:.1f} crops/s (at least {asked} are asked), {ratio:.1f} times the bare product")


def crops_per_second(folder, blocks, batch, batches=12):
    """Speed over several batches, after the first few."""
    encode = MDCT(_BANDS).forward
    pipeline = Pipeline(folder, DataSettings(peak=0.999), _RATE_HZ, 2, encode, _BANDS, seed=0)
    stage = Stage("main", 1000, batch, (blocks + 1) * _BANDS)
    iterator = iter(pipeline.dataset(stage, 0, 1))
    for _ in range(3):
        next(iterator)
    return batch * batches / seconds_of(lambda: [next(iterator) for _ in range(batches)])


def bound(blocks):
    """Crops a second of the bare matrix product alone."""
    rows = tf.random.stateless_normal([blocks * 2, _BANDS], [0, 0])
    table = tf.random.stateless_normal([_BANDS, _BANDS], [0, 1])
    product = tf.function(lambda: tf.linalg.matmul(rows, table), autograph=False)
    product()
    return 1 / statistics.median(seconds_of(product) for _ in range(9))


if __name__ == "__main__":
    cli.run(main)
