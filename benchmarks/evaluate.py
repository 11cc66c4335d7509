"""How long scoring takes: songs of 95 s, generated and real, both already audio.

    python benchmarks/evaluate.py [--songs 64]

Asked: 64 songs against 64 in under 5 minutes on 2 cores, in under 3 GB.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile

RATE_HZ, SECONDS = 22016, 95.25


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=64, help="of each side (64)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = [pathlib.Path(folder, side) for side in ("generated", "real")]
        for number, side in enumerate(sides):
            side.mkdir()
            for i in range(options.songs):
                soundfile.write(side / f"{i:03d}.wav", song(number * options.songs + i), RATE_HZ)
        line = [sys.executable, "-m", "mp3net.evaluate", "--generated", sides[0], "--real", sides[1], "--out", folder]
        begun = time.monotonic()
        subprocess.run([*map(str, line), "--n", str(options.songs)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"{options.songs} songs of {SECONDS} s against {options.songs}: {seconds:.0f} s, {memory_gb:.2f} GB")


def song(seed):
    """Decaying notes at random, stereo: `[sample, 2]`."""
    random = np.random.default_rng(seed)
    wave = np.zeros((round(SECONDS * RATE_HZ), 2))
    time_s = np.arange(RATE_HZ) / RATE_HZ
    for start in random.integers(0, len(wave) - RATE_HZ, size=300):
        hz, level = 110 * 2 ** (random.integers(0, 36) / 12), random.uniform(0.02, 0.1)
        note = sum(np.exp(-(2 + h) * time_s) * np.sin(2 * np.pi * h * hz * time_s) / h for h in range(1, 7))
        wave[start : start + RATE_HZ] += level * note[:, None]
    return np.clip(wave, -1, 1)


if __name__ == "__main__":
    main()
