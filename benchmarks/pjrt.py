"""What training through JAX adds to the program that it runs: seconds a round, in `train`'s way and bare.

    python benchmarks/pjrt.py [--gin demo] [--rounds 30]

Both are medians of the same program on the same batch size, one after the other, on the device that --device names.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
from common import tensorflow

WARM_UP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gin", default="demo")
    parser.add_argument("--device", default="jax:cpu")
    parser.add_argument("--batch", type=int, default=2, help="examples of a step")
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds of each")
    options = parser.parse_args()
    tensorflow()
    from mp3net import configuration
    from mp3net.data.pipeline import DataSettings, Pipeline
    from mp3net.training import devices as where
    from mp3net.training.rounds import Rounds

    devices = where.choose(options.device)
    training, _ = configuration.load([options.gin], [f"MP3net.batch_size = {options.batch}"])
    with devices.scope():
        system = training.system.build(devices.place, 0)
    stage = system.stages(training.steps)[0]
    with tempfile.TemporaryDirectory() as folder:
        write_noise(pathlib.Path(folder), stage.crop_samples, system)
        encode, overlap = system.representation.encode, system.representation.overlap
        settings = DataSettings(slicing="random")
        data = Pipeline(folder, settings, system.rate_hz, system.channels, encode, overlap, 0)
        rounds = Rounds(system, stage, devices, data, 0, training)
        loop = [seconds(lambda: (rounds.fetch(), rounds.run(1))) for _ in range(WARM_UP + options.rounds)]
        rounds.fetch()
        bare_call = devices.bare(rounds._element)
        bare = [seconds(bare_call) for _ in range(WARM_UP + options.rounds)]
        devices.close()
    whole_s, bare_s = (statistics.median(times[WARM_UP:]) for times in (loop, bare))
    print(f"{options.gin}, batch {options.batch}, {devices.name}: {whole_s:.4f} s a round, bare {bare_s:.4f} s")
    print(f"overhead {whole_s / bare_s - 1:.1%}")


def seconds(function):
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def write_noise(folder, samples, system):
    import soundfile

    wave = 0.1 * np.random.default_rng(0).standard_normal([4 * samples, system.channels])
    soundfile.write(folder / "noise.wav", wave, system.rate_hz, subtype="PCM_16")


if __name__ == "__main__":
    from mp3net import cli

    cli.run(main)
