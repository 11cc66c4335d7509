"""Seconds of the small training step, D and G, against the machine's own float32 matrix product.

    python benchmarks/step.py

The step is that of 3 blocks, shallowest 16, cap 128, base 4 x 2, batch 4. A straightforward version of it took 0.36 s
(D) and 0.16 s (G) where the matrix product ran at 149 GFLOP/s; printed is the share of that time which it takes here,
both scaled by the matrix product. Medians, all measured in turn.
"""

import statistics

from common import matmul_gflops, seconds_of, tensorflow

tf = tensorflow()

from mp3net import cli  # noqa: E402 (after TensorFlow, so that its chatter is silenced)
from mp3net.model.architecture import Architecture  # noqa: E402
from mp3net.model.mp3net import MP3net  # noqa: E402

_PLAIN_S = {"D update": 0.36, "G update": 0.16}
_PLAIN_GFLOPS = 149
_ROUNDS = 15


def main():
    sizes = Architecture(model_blocks=3, base=(4, 2), shallowest_features=16, max_features=128)
    system = MP3net(sizes, batch_size=4).build(seed=0)
    phase = system.stages(2)[0].settings
    real = 0.05 * tf.random.stateless_normal([4, *sizes.output_shape], [0, 0])
    examples = tf.range(4, dtype=tf.int64)
    updates = {
        "D update": tf.function(lambda: system.update_discriminator(phase, real, examples), autograph=False),
        "G update": tf.function(lambda: system.update_generator(phase, examples), autograph=False),
    }
    for update in updates.values():
        update()
        update()
    rounds = [
        {"rate": matmul_gflops(repeats=3), **{name: seconds_of(update) for name, update in updates.items()}}
        for _ in range(_ROUNDS)
    ]
    print(f"matrix product: {statistics.median(r['rate'] for r in rounds):.0f} GFLOP/s")
    for name in updates:
        seconds = statistics.median(r[name] for r in rounds)
        share = statistics.median(r[name] * r["rate"] / (_PLAIN_S[name] * _PLAIN_GFLOPS) for r in rounds)
        print(f"{name}: {seconds:.3f} s, {share:.2f} of the straightforward version (at most 0.8 is asked)")


if __name__ == "__main__":
    cli.run(main)
