"""How far a run has come: tonality and log-spectral distance of its songs, beside untrained weights and the corpus
itself.

    python benchmarks/demo.py --workdir demo/run --data demo/corpus

Real crops are drawn twice, as training draws them, so that the first line says what a perfect model would reach.
"""

import argparse

from common import tensorflow

tf = tensorflow()

from mp3net import cli, recorded, systems  # noqa: E402 (after TensorFlow, so that its chatter is silenced)
from mp3net.data.pipeline import Pipeline  # noqa: E402
from mp3net.evaluation.metrics import SpectralMeasures, log_spectral_distance  # noqa: E402
from mp3net.training import checkpoints  # noqa: E402
from mp3net.training.sampling import Sampler  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="of a run, or one of its checkpoints")
    parser.add_argument("--data", required=True, help="the corpus that it was trained on")
    parser.add_argument("--songs", type=int, default=64, help="how many songs, and how many real crops in each half")
    options = parser.parse_args()
    checkpoint = checkpoints.find(options.workdir)
    settings, seed = recorded.settings_of(checkpoint)
    untrained_system = systems.for_training(checkpoint.architecture, checkpoint.path)
    real, other = real_measures(untrained_system, settings, seed, options)
    trained = songs_measures(systems.for_sampling(checkpoint), options.songs)
    untrained = songs_measures(untrained_system, options.songs)
    print(f"{'':<24}{'tonality':>10}{'log-spectral distance to the corpus, dB':>44}")
    rows = {"corpus, other crops": other, "untrained weights": untrained, f"trained, step {checkpoint.step}": trained}
    for name, measures in rows.items():
        print(f"{name:<24}{measures.tonality:>10.3f}{log_spectral_distance(measures, real):>44.1f}")
    seconds = untrained_system.sizes.seconds
    print(f"{options.songs} songs of {seconds:.2f} s; tonality of the corpus itself {real.tonality:.3f}")


def real_measures(system, settings, seed, options):
    """`SpectralMeasures` of two draws of crops, at the level that training sees them."""
    overlap = system.representation.overlap
    pipeline = Pipeline(options.data, settings, system.rate_hz, system.channels, tf.identity, overlap, seed)
    halves = [SpectralMeasures(system.rate_hz, system.sizes.bands) for _ in range(2)]
    stage = system.stages(system.steps_per_round)[0]
    crops = pipeline.dataset(stage, 0, 1).unbatch().unbatch().unbatch().take(2 * options.songs)
    for i, (waveform, _) in enumerate(crops):
        halves[i % 2].add(waveform.numpy())
    return halves


def songs_measures(system, count):
    """`SpectralMeasures` of the songs of seeds 0 to `count` - 1."""
    measures, sampler = SpectralMeasures(system.rate_hz, system.sizes.bands), Sampler(system)
    for seed in range(count):
        measures.add(sampler.song(seed))
    return measures


if __name__ == "__main__":
    cli.run(main)
