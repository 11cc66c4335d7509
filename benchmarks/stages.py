"""What parts of a training sound like: the same seeds from its checkpoints, beside recordings, with their scores.

    python benchmarks/stages.py --workdir demo/run --data demo/corpus --steps 90 900 9000 --out docs/demo

writes a sound (the songs one after another), a spectrogram of it and scores.json, and prints a table in Markdown. A run
keeps its last 3 checkpoints unless told otherwise: train it with --gin_param 'train.keep = 100', stopping it at each of
the steps by --gin_param 'train.steps = N'.
"""

import argparse
import json
import os

from common import tensorflow

tensorflow()

import numpy as np  # noqa: E402 (after TensorFlow, so that its chatter is silenced)

from mp3net import cli, evaluate, systems  # noqa: E402
from mp3net.audio import writing  # noqa: E402
from mp3net.errors import UserError  # noqa: E402
from mp3net.evaluation import drawing, plots, views  # noqa: E402
from mp3net.gallery import real_songs  # noqa: E402
from mp3net.training import checkpoints  # noqa: E402
from mp3net.training.sampling import Sampler  # noqa: E402

SCORES = ("tonality", "hum_db", "rms_db", "diversity", "frechet_distance", "frechet_distance_error", "nearest_training")
_PAUSE_S = 0.25


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="of a run")
    parser.add_argument("--data", required=True, help="the corpus that it was trained on")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="which of its checkpoints")
    parser.add_argument("--songs", type=int, default=6, help="to hear of each: seeds 0 to N-1 (6)")
    parser.add_argument("--n", type=int, default=64, help="songs to score of each (64)")
    parser.add_argument("--out", required=True, help="folder for sounds, pictures and scores.json")
    options = parser.parse_args()
    found = {checkpoint.step: checkpoint for checkpoint in checkpoints.every(options.workdir)}
    missing = [step for step in options.steps if step not in found]
    if missing:
        raise UserError(f"{options.workdir} has no checkpoint of step {missing[0]}; it has {sorted(found)}.")
    os.makedirs(options.out, exist_ok=True)
    for step in options.steps:
        system = systems.for_sampling(found[step])
        sampler = Sampler(system)
        show(options.out, f"step-{step}", [sampler.song(seed) for seed in range(options.songs)], system)
    crops = real_songs(found[options.steps[-1]], system, options.data, options.songs, print)
    show(options.out, "recordings", [crop for _, _, crop in crops], system)
    paths = [found[step].path for step in options.steps]
    evaluate.main(["--ckpt", *paths, "--data", options.data, "--n", str(options.n), "--out", options.out])
    with open(os.path.join(options.out, "scores.json")) as file:
        print("\n" + table(json.load(file)))


def show(folder, name, songs, system):
    """Writes songs one after another as NAME.ogg, and their spectrogram as NAME.png."""
    pause = np.zeros((round(_PAUSE_S * system.rate_hz), system.channels), np.float32)
    joined = np.concatenate([part for song in songs for part in (song, pause)])[: -len(pause)]
    path = os.path.join(folder, name)
    writing.write(f"{path}.ogg", np.clip(joined, -1, 1), system.rate_hz, "ogg")
    amplitudes = views.amplitudes(joined.mean(axis=1), system.sizes.bands)
    figure = plots.spectrogram(amplitudes, system.rate_hz, title=name.replace("-", " "))
    drawing.save(figure, f"{path}.png", dpi=80)  # a page shows several
    print(f"{path}.ogg and .png: {len(songs)} songs", flush=True)


def table(rows):
    """The rows of scores.json as a table in Markdown, and a last row for the recordings."""
    lines = ["| | " + " | ".join(SCORES) + " |", "|---" * (len(SCORES) + 1) + "|"]
    for row in rows:
        lines.append(_line(f"step {row['step']}", [row.get(f"{name}_generated", row.get(name)) for name in SCORES]))
    lines.append(_line("recordings", [rows[-1].get(f"{name}_real") for name in SCORES]))
    return "\n".join(lines)


def _line(name, values):
    return f"| {name} | " + " | ".join("" if value is None else f"{value:.3g}" for value in values) + " |"


if __name__ == "__main__":
    cli.run(main)
