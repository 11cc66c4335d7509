"""Times the MDCT and the masking threshold of a 95 s stereo song against the least that such work could cost.

Run as `python benchmarks/signals.py`. The MDCT is set against one bare product of its folded size, [blocks x channels,
bands] by [bands, bands]; the threshold against one logarithm and one exponential of as many numbers.
(This file is no `signal.py`, which would shadow Python's own module.)
"""

import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import tensorflow as tf

from mp3net.audio.mdct import MDCT
from mp3net.audio.psychoacoustics import PsychoacousticModel

RATE_HZ, BLOCKS, BANDS, CHANNELS = 22_016, 16_384, 128, 2
RUNS = 15


def bare_product(rows, table):
    return tf.matmul(rows, table)


def log_and_exp(amplitudes):
    return tf.math.log(amplitudes), tf.math.exp(amplitudes)


def medians_s(cases):
    """The median seconds of each named (function, arguments); they take turns, so that all see the same machine."""
    graphs = {name: (tf.function(function), arguments) for name, (function, arguments) in cases.items()}
    seconds = {name: [] for name in cases}
    for run in range(RUNS + 2):
        for name, (graph, arguments) in graphs.items():
            start_s = time.perf_counter()
            for tensor in tf.nest.flatten(graph(*arguments)):
                # One number fetched: on an accelerator, the call itself returns before the work is done.
                tf.reshape(tensor, [-1])[-1].numpy()
            if run >= 2:  # the first traces, the second finds its memory
                seconds[name].append(time.perf_counter() - start_s)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main():
    mdct, model = MDCT(BANDS), PsychoacousticModel(RATE_HZ, BANDS)
    waveform = tf.random.stateless_uniform([1, (BLOCKS + 1) * BANDS, CHANNELS], [1, 2], -1.0, 1.0)
    amplitudes = mdct.forward(waveform)
    positive = tf.abs(amplitudes) + 1e-3
    rows = tf.reshape(amplitudes, [BLOCKS * CHANNELS, BANDS])
    table = tf.random.stateless_normal([BANDS, BANDS], [3, 4])
    threshold = model.threshold(amplitudes)
    seconds = medians_s(
        {
            "bare product": (bare_product, [rows, table]),
            "MDCT forward": (mdct.forward, [waveform]),
            "MDCT inverse": (mdct.inverse, [amplitudes]),
            "log and exp": (log_and_exp, [positive]),
            "threshold": (model.threshold, [amplitudes]),
            "noise": (model.add_noise, [amplitudes, threshold, tf.constant([5, 6])]),
        }
    )
    print(f"{BLOCKS} blocks x {BANDS} bands x {CHANNELS} channels, {RUNS} runs, medians")
    for name, against in (
        ("bare product", "bare product"),
        ("MDCT forward", "bare product"),
        ("MDCT inverse", "bare product"),
        ("log and exp", "log and exp"),
        ("threshold", "log and exp"),
        ("noise", "log and exp"),
    ):
        print(f"{name:14s} {1000 * seconds[name]:8.2f} ms {seconds[name] / seconds[against]:6.2f} x {against}")


if __name__ == "__main__":
    main()
