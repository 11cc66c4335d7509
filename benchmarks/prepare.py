"""`python benchmarks/prepare.py`: how fast one core prepares recordings, against soxr alone, and in how much memory.

The bound is soxr resampling the same samples, which lie in memory, in one thread of this process. What a worker does on
top is reading, mixing, measuring the peak, rounding to 16 bits and writing.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time

import numpy as np
import soundfile
import soxr

from mp3net.data.conversion import Settings, convert

RATE_HZ = 44100
MINUTES = 10


def generate(path, duration_s):
    """Writes stereo noise at a level that needs no second pass, second by second."""
    second = np.random.default_rng(0).integers(-8000, 8000, (RATE_HZ, 2), np.int16)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_16") as sound:
        for _ in range(duration_s):
            sound.write(second)


def elapsed_s(call, *arguments):
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def peak_memory_mb(source, target):
    """The most memory that a fresh worker holds while it converts."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_mb, (source, target))


def _memory_mb(source, target):
    convert(source, target, Settings())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    if "tensorflow" in sys.modules:
        raise AssertionError("a worker imported TensorFlow")
    return kilobytes / 1024


def main():
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--hours", type=int, default=2, help="length of the file for the memory figure (2)")
    flags.add_argument("--rounds", type=int, default=5, help="timings, of which the median counts (5)")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "source.wav"), os.path.join(folder, "target.wav")
        # First, as Linux counts what the parent held when it started the worker.
        generate(source, asked.hours * 3600)
        memory_mb = peak_memory_mb(source, target)
        generate(source, MINUTES * 60)
        samples = soundfile.read(source, dtype="float32")[0]
        bound, ours = [], []
        for _ in range(asked.rounds):  # in turns, so that what else the machine does falls on both
            bound.append(elapsed_s(soxr.resample, samples, RATE_HZ, 22016))
            ours.append(elapsed_s(convert, source, target, Settings()))
    bound_s, ours_s = statistics.median(bound), statistics.median(ours)
    audio_s = MINUTES * 60
    print(f"{'44.1 kHz stereo to 22,016 Hz, one core':42s}{'x real time':>12s}{'seconds':>10s}")
    print(f"{'soxr HQ alone, in memory (the bound)':42s}{audio_s / bound_s:12.0f}{bound_s:10.2f}")
    print(f"{'prepare: file to file':42s}{audio_s / ours_s:12.0f}{ours_s:10.2f}")
    print(f"{'share of the bound':42s}{bound_s / ours_s:12.0%}")
    print(f"{f'peak memory of a worker, {asked.hours} h file':42s}{memory_mb:9.0f} MB")


if __name__ == "__main__":
    main()
