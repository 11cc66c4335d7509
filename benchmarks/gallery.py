"""Seconds and bytes of a gallery of 95-second songs, their generation apart: sound, picture, scores and page.

    python benchmarks/gallery.py [--n 16] [--seconds 95.25] [--format ogg|mp3]

The songs are random: tones in noise, of which a codec makes more bytes than of a piano. A page of N songs of each of
the three kinds is three times as much.
"""

import argparse
import os
import tempfile
import time

from common import tensorflow

tensorflow()

import numpy as np  # noqa: E402 (after TensorFlow, so that its chatter is silenced)

from mp3net import cli  # noqa: E402
from mp3net.evaluation import exhibits, page  # noqa: E402
from mp3net.gallery import Gallery  # noqa: E402
from mp3net.model.mp3net import MP3net  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=95.25)
    parser.add_argument("--format", choices=exhibits.FORMATS, default="ogg")
    options = parser.parse_args()
    system = MP3net()  # of the paper's sizes; no weights are made
    gallery = Gallery(system, None, options.format)
    songs = [(f"Seed {i}", "random", song(i, options.seconds, system.rate_hz)) for i in range(options.n)]
    with tempfile.TemporaryDirectory() as folder:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        gallery.add("Random", "Tones in noise.", songs)
        made = gallery.page("Random songs", [])
        size = os.path.getsize(page.write(made, folder))
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    shown = made.groups[0].songs
    sound = sum(len(each.sound) for each in shown) / len(shown)
    picture = sum(len(each.picture.png) for each in shown) / len(shown)
    print(f"{options.n} songs of {options.seconds:g} s: {took:.1f} s, of which {cpu:.1f} s on a processor")
    rate = 8e-3 * sound / options.seconds
    print(f"a song: sound {sound / 1e6:.2f} MB ({rate:.0f} kbit/s), picture {picture / 1e6:.2f} MB")
    print(f"the page: {size / 1e6:.1f} MB")


def song(seed, seconds, rate_hz):
    """Decaying chords, a new one every half second, and noise 40 dB below: `[sample, 2]`."""
    random = np.random.default_rng(seed)
    count, length = round(seconds * rate_hz), rate_hz // 2
    time_s = np.arange(length) / rate_hz
    parts = []
    for _ in range(-(-count // length)):
        notes_hz = 110 * 2 ** random.uniform(0, 4, 4)
        chord = sum(np.sin(2 * np.pi * k * hz * time_s) / k**2 for hz in notes_hz for k in range(1, 7))
        parts.append(0.1 * chord * np.exp(-3 * time_s))
    mono = np.concatenate(parts)[:count, None]
    return (mono * random.uniform(0.6, 1, 2) + 0.001 * random.standard_normal((count, 2))).astype(np.float32)


if __name__ == "__main__":
    cli.run(main)
