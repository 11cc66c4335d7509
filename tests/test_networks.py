"""Both networks: the paper's shapes and parameter counts, and which band depends on which."""

import numpy as np
import pytest
import tensorflow as tf

from mp3net.errors import UserError
from mp3net.model.architecture import Architecture
from mp3net.model.cost import layer_records, training_cost
from mp3net.model.discriminator import Discriminator, DiscriminatorBlock
from mp3net.model.generator import Generator, GeneratorBlock
from mp3net.model.layers import Initializer

# Sizes, output (block, band, channel), parameters of G and of D, GFLOP of a pass of G, seconds.
# The paper says 59 M, 64 M, 95 s, 5 s.
PAPER = {
    "95s": (Architecture(), (16384, 128, 2), (58_981_762, 59_088_737), 408, 95.25),
    "5s": (
        Architecture(model_blocks=5, base=(1, 4), shallowest_features=128),
        *((1024, 128, 2), (63_901_698, 64_299_777), 419, 5.95),
    ),
}
SMALL = Architecture(model_blocks=2, base=(2, 4), latent_size=8, shallowest_features=4, max_features=8, head_features=8)


def parameters(module):
    return sum(variable.shape.num_elements() for variable in module.trainable_variables)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_sizes(name):
    sizes, shape, (generator, discriminator), gflop, seconds = PAPER[name]
    records = layer_records(sizes)
    assert (
        sizes.output_shape == shape == records["generator"][-1].output_shape == records["discriminator"][0].input_shape
    )
    assert sum(record.parameters for record in records["generator"]) == generator
    assert sum(record.parameters for record in records["discriminator"]) == discriminator
    assert 2 * sum(record.multiply_adds for record in records["generator"]) / 1e9 == pytest.approx(gflop, abs=0.5)
    assert sizes.seconds == pytest.approx(seconds, abs=0.005)
    # One round: two D updates and one G update cost about 31 generator passes an example.
    cost = training_cost(records, 1)
    assert (2 * cost["d_step_tflop"] + cost["g_step_tflop"]) * 1e3 / gflop == pytest.approx(31, abs=0.3)


def test_features_double_towards_the_deepest_and_stop_at_the_cap():
    assert [Architecture().features(i) for i in (5, 4, 3, 2, 0)] == [
        (64, 32, 16), (256, 128, 64), (512, 512, 256), (512, 512, 512), (512, 512, 512)
    ]  # fmt: skip


def test_networks_made_for_real_have_the_counted_parameters_and_take_any_batch():
    generator, discriminator = Generator(SMALL, Initializer(0)), Discriminator(SMALL, Initializer(1))
    records = layer_records(SMALL)
    assert parameters(generator) == sum(record.parameters for record in records["generator"]) > 0
    assert parameters(discriminator) == sum(record.parameters for record in records["discriminator"]) > 0
    for batch in (1, 3):
        amplitudes = generator(tf.random.stateless_normal([batch, 8], [0, batch]))
        assert amplitudes.shape == (batch, *SMALL.output_shape) and amplitudes.dtype == tf.float32
        assert np.abs(amplitudes).max() < 1
        assert discriminator(amplitudes).shape == (batch,)


def changed_bands(block, shape, bands):
    """Which output bands move when the input moves in `bands`."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    moved = x.copy()
    moved[:, :, bands] += 1.0
    difference = np.abs(block(tf.constant(moved)).numpy() - block(tf.constant(x)).numpy())
    return set(np.flatnonzero(difference.max(axis=(0, 1, 3)) > 1e-7))


def test_a_generator_block_makes_its_new_octave_from_the_top_octave():
    """32 bands to 64: band k >= 16 stands for k and for 2k, and convolutions carry each a few bands further."""
    block = GeneratorBlock("block", (6, 5, 4), Initializer(2), 0.2)
    shape = (1, 4, 32, 6)
    assert block(tf.zeros(shape)).shape == (1, 16, 64, 4)
    reach = 5
    low = changed_bands(block, shape, [4])
    assert low and max(low) <= 4 + reach
    high = changed_bands(block, shape, [28])
    near, octave = set(range(28 - reach, 32 + 3)), set(range(2 * 28 - 2 * reach, 64))
    assert high <= near | octave
    assert 28 in high and 2 * 28 in high


def test_a_discriminator_block_folds_the_top_octave_onto_the_one_below():
    """64 bands to 32: band k >= 32 is added at k / 2, band k < 32 stays where it is."""
    block = DiscriminatorBlock("block", (6, 5, 4), Initializer(2), 0.2)
    shape = (1, 16, 64, 4)
    assert block(tf.zeros(shape)).shape == (1, 4, 32, 6)
    reach = 5
    assert changed_bands(block, shape, [8]) <= set(range(8 - reach, 8 + reach + 1))
    high = changed_bands(block, shape, [56])
    assert high <= set(range(28 - reach, 28 + reach + 1)) and 28 in high


def test_every_output_depends_on_the_latent_and_every_input_moves_the_score():
    generator, discriminator = Generator(SMALL, Initializer(0)), Discriminator(SMALL, Initializer(1))
    latents = tf.constant(np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32))
    difference = np.abs(generator(latents).numpy() - generator(-latents).numpy())
    assert difference.min(axis=-1).min() > 0
    x = tf.random.stateless_normal([1, *SMALL.output_shape], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        score = discriminator(x)
    assert np.all(np.abs(tape.gradient(score, x).numpy()) > 0)


def test_scores_of_groups_do_not_mix():
    """Reals and generated in one pass score as they do apart, for each is a minibatch of its own."""
    discriminator = Discriminator(SMALL, Initializer(1))
    first, second = (tf.random.stateless_normal([3, *SMALL.output_shape], [0, i]) for i in (1, 2))
    together = discriminator(tf.concat([first, 5 * second], axis=0), groups=2).numpy()
    apart = np.concatenate([discriminator(first), discriminator(5 * second)])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)
    assert not np.allclose(together, discriminator(tf.concat([first, 5 * second], axis=0)), atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_shallow_variables_are_those_of_the_blocks_next_to_the_audio(blocks):
    generator, discriminator = Generator(SMALL, Initializer(0)), Discriminator(SMALL, Initializer(1))
    expected = [*generator.model_blocks[-blocks:], generator.to_channels]
    assert {v.ref() for v in generator.shallow_variables(blocks)} == {
        v.ref() for part in expected for v in part.trainable_variables
    }
    shallow = {v.ref() for v in discriminator.shallow_variables(blocks)}
    assert discriminator.from_channels.kernel.ref() in shallow and discriminator.dense.kernel.ref() not in shallow
    assert (discriminator.model_blocks[1].both.kernel.ref() in shallow) == (blocks == 2)


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"model_blocks": 0}, "model_blocks"),
        ({"base": (4, 3)}, "even"),
        ({"base": (0, 2)}, "base[0]"),
        ({"latent_size": 1.5}, "latent_size"),
        ({"leaky_slope": 0.0}, "leaky_slope"),
    ],
)
def test_impossible_sizes_are_refused(wrong, word):
    with pytest.raises(UserError, match=word.replace("[", r"\[")):
        Architecture(**wrong)


def test_json_gives_the_same_architecture_back():
    assert Architecture(**SMALL.to_json()) == SMALL
