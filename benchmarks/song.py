"""Seconds and memory of one 95-second song, against the machine's own float32 matrix product.

    python benchmarks/song.py [--gin 95s]

The weights are random: what a song costs does not depend on what it sounds like. Medians of several runs, the product
measured before each.
"""

import argparse
import resource
import statistics

from common import matmul_gflops, seconds_of, tensorflow

tf = tensorflow()

from mp3net import cli, configuration  # noqa: E402 (after TensorFlow, so that its chatter is silenced)
from mp3net.model.layers import recording  # noqa: E402
from mp3net.training.sampling import Sampler  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gin", default="95s")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    system = configuration.load([options.gin])[0].system.build_generator()
    sampler = Sampler(system)
    with recording() as layers:
        sampler.song(0)  # builds the graph
    gflop = 2 * sum(layer.multiply_adds for layer in layers) / 1e9
    pairs = [(matmul_gflops(), seconds_of(lambda: sampler.song(0))) for _ in range(options.runs)]
    bound, song_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    share = statistics.median(gflop / seconds / rate for rate, seconds in pairs)
    print(f"{options.gin}: {system.sizes.seconds:.2f} s of music in {song_s:.2f} s ({gflop:.0f} GFLOP)")
    print(f"matrix product: {bound:.0f} GFLOP/s; a song runs at {100 * share:.0f} % of it")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB")


if __name__ == "__main__":
    cli.run(main)
