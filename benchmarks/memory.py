"""Memory of a training round beside what `describe` and `--dry_run` say it takes.

    python benchmarks/memory.py [--gin lab] [--batches 2 8]

Each batch size is trained for two rounds on the CPU in a process of its own, whose peak memory is read; what a process
takes before it trains is subtracted.
"""

import argparse
import resource
import subprocess
import sys

from common import tensorflow


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gin", default="lab")
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        measure(options.gin, options.batches[0])
        return
    print(f"{options.gin}: GiB of a round, told and measured")
    for batch in options.batches:
        subprocess.run([sys.executable, __file__, "--gin", options.gin, "--batches", str(batch), "--alone"], check=True)


def measure(gin, batch):
    """Trains two rounds and prints what was told, and what the process took for them at its peak."""
    tf = tensorflow()
    from mp3net import configuration
    from mp3net.model.cost import layer_records, training_cost

    training, _ = configuration.load([gin], [f"MP3net.batch_size = {batch}"])
    system = training.system
    cost = training_cost(layer_records(system.sizes), batch)
    before = peak_gib()
    system.build()
    steps = system.steps_per_round
    real = 0.1 * tf.random.stateless_normal([steps, batch, *system.sizes.output_shape], [0, 0])
    examples = tf.reshape(tf.range(steps * batch, dtype=tf.int64), [steps, batch])
    stage = system.stages(training.steps)[0]
    step = tf.function(system.train_step, autograph=False)
    for _ in range(2):
        step(stage, real, examples)
    print(f"batch {batch}: {cost['state_gib'] + cost['activations_gib']:.2f} told, {peak_gib() - before:.2f} measured")


def peak_gib():
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
