"""One round of training: who is updated, in what order, on what, and what of it is reported."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close

from mp3net.model.architecture import Architecture
from mp3net.model.mp3net import MP3net
from mp3net.model.perception import Perception
from mp3net.model.phases import Phase
from mp3net.stage import Place

SIZES = Architecture(
    model_blocks=2, base=(2, 2), latent_size=8, shallowest_features=4, max_features=8, head_features=8, rate_hz=4000
)


def build(**options):
    return MP3net(SIZES, **{"batch_size": 3, **options}).build(seed=1)


def round_of(system, first_example=0, phase=None):
    """The arguments of one `train_step`."""
    count = system.steps_per_round * system.batch_size
    batches = 0.1 * tf.random.stateless_normal([system.steps_per_round, system.batch_size, *SIZES.output_shape], [5, 5])
    examples = tf.reshape(tf.range(first_example, first_example + count, dtype=tf.int64), batches.shape[:2])
    stage = system.stages(60)[0]
    return (stage if phase is None else dataclasses.replace(stage, settings=phase)), batches, examples


def values(variables):
    return [variable.numpy() for variable in variables]


def moved(variables, before):
    return [bool(np.any(now != old)) for now, old in zip(values(variables), before, strict=True)]


class Spy:
    """Stands before a function and keeps what it was called with."""

    def __init__(self, function, log, name):
        self.function, self.log, self.name = function, log, name

    def __call__(self, *arguments, **options):
        self.log.append((self.name, arguments))
        return self.function(*arguments, **options)


@pytest.mark.parametrize("critic_steps", [1, 2, 3])
def test_d_is_updated_critic_steps_times_for_each_g_update(critic_steps):
    system, log = build(critic_steps=critic_steps), []
    system.discriminator_adam.apply = Spy(system.discriminator_adam.apply, log, "D")
    system.generator_adam.apply = Spy(system.generator_adam.apply, log, "G")
    system.train_step(*round_of(system))
    assert [name for name, _ in log] == ["D"] * critic_steps + ["G"]
    assert int(system.discriminator_adam.iterations) == critic_steps and int(system.generator_adam.iterations) == 1


def test_each_update_moves_all_of_its_own_network_and_nothing_of_the_other():
    system = build()
    stage, batches, examples = round_of(system)
    g, d = values(system.generator.trainable_variables), values(system.discriminator.trainable_variables)
    system.update_discriminator(stage.settings, batches[0], examples[0])
    assert not any(moved(system.generator.trainable_variables, g))
    assert all(moved(system.discriminator.trainable_variables, d)) and len(d) > 20
    d = values(system.discriminator.trainable_variables)
    system.update_generator(stage.settings, examples[0])
    assert all(moved(system.generator.trainable_variables, g)) and len(g) > 20
    assert not any(moved(system.discriminator.trainable_variables, d))


def test_nothing_reaches_d_without_noise_and_real_comes_before_generated():
    """The layer before D is replaced by one that adds 10 to whatever it sees, so D must see only values near 10."""
    system, log = build(), []
    system.perception = Spy(lambda amplitudes, seeds: amplitudes + 10.0, log, "noise")
    system.discriminator.from_channels = Spy(system.discriminator.from_channels, log, "D")
    stage, batches, examples = round_of(system)
    system.update_discriminator(stage.settings, batches[0], examples[0])
    (_, (shown, seeds)), (_, (together,)), (_, (mixed,)) = log
    assert_close(shown[:3], batches[0])
    assert len({tuple(pair) for pair in seeds.numpy()}) == 6  # fresh noise for each real and each generated example
    assert_close(together, shown + 10.0)
    assert mixed.shape == (3, *SIZES.output_shape) and float(tf.reduce_min(mixed)) > 9
    log.clear()
    system.update_generator(stage.settings, examples[0])
    assert [name for name, _ in log] == ["noise", "D"]
    assert float(tf.reduce_min(log[1][1][0])) > 9


def test_mixes_lie_between_real_and_generated():
    system, log = build(perception=Perception(layer="none")), []
    system.discriminator.from_channels = Spy(system.discriminator.from_channels, log, "D")
    stage, batches, examples = round_of(system)
    system.update_discriminator(stage.settings, batches[0], examples[0])
    (real, fake), mixed = tf.split(log[0][1][0], 2), log[1][1][0]
    share = tf.reduce_sum((mixed - fake) * (real - fake), axis=[1, 2, 3]) / tf.reduce_sum(
        tf.square(real - fake), axis=[1, 2, 3]
    )
    assert np.all((share > 0) & (share < 1)) and len(set(share.numpy())) == 3
    assert_close(mixed, fake + share[:, None, None, None] * (real - fake), atol=1e-5)


def test_the_loss_is_the_sum_of_its_reported_parts():
    system = build(penalty_weight=7.0, drift_weight=0.5)
    stage, batches, examples = round_of(system)
    system.discriminator.score.bias.assign([3.0])  # so that the drift weighs something
    for _ in range(3):  # away from the start, where the scores are all alike
        scalars, _ = system.update_discriminator(stage.settings, batches[0] * 20, examples[0])
    s = {name: float(value) for name, value in scalars.items()}
    assert abs(s["wasserstein"]) > 1e-4 and s["drift"] > 5
    assert s["wasserstein"] == pytest.approx(s["score_real"] - s["score_fake"], abs=1e-6)
    assert s["d_loss"] == pytest.approx(-s["wasserstein"] + 7.0 * s["gradient_penalty"] + 0.5 * s["drift"], rel=1e-5)


def test_d_learns_to_tell_a_fixed_batch_apart_and_g_to_raise_its_score():
    system = build(learning_rate=3e-3)
    stage, batches, examples = round_of(system)
    first = last = None
    for _ in range(15):
        scalars, _ = system.update_discriminator(stage.settings, batches[0], examples[0])
        last = float(scalars["d_loss"])
        first = last if first is None else first
    assert last < first - 0.1
    scores = [float(system.update_generator(stage.settings, examples[0])[0]["g_loss"]) for _ in range(15)]
    assert scores[-1] < scores[0]


@pytest.mark.parametrize("xla", [False, True])
def test_a_round_is_its_d_updates_one_after_another_then_that_of_g(xla):
    """Unrolled, and as the loop that XLA gets."""
    twin, system = build(), build()
    system.place = Place("CPU", xla)
    stage, batches, examples = round_of(system)
    apart = [twin.update_discriminator(stage.settings, batches[i], examples[i])[0]["d_loss"] for i in range(2)]
    last, _ = twin.update_generator(stage.settings, examples[1])
    step = tf.function(system.train_step, autograph=False)
    assert (
        len(
            [
                op
                for op in step.get_concrete_function(stage, batches, examples).graph.get_operations()
                if op.type == "While"
            ]
        )
        == xla
    )
    scalars, finite = step(stage, batches, examples)
    assert_close(scalars["d_loss"], np.mean(apart), rtol=1e-5)
    assert_close(scalars["g_loss"], last["g_loss"], rtol=1e-4)
    for network in ("generator", "discriminator"):
        pairs = zip(
            getattr(system, network).trainable_variables, getattr(twin, network).trainable_variables, strict=True
        )
        assert max(float(tf.reduce_max(tf.abs(mine - other))) for mine, other in pairs) < 1e-5
    assert {"d_loss", "g_loss", "wasserstein", "gradient_penalty", "drift"} <= set(scalars)
    assert all(bool(value) for value in finite.values())


def test_the_first_bad_tensor_is_the_first_that_was_computed():
    system = build()
    stage, batches, examples = round_of(system)
    broken = batches.numpy()
    broken[1, 0, 0, 0, 0] = np.nan
    _, finite = system.train_step(stage, tf.constant(broken), examples)
    bad = [name for name, good in finite.items() if not bool(good)]
    assert bad[0] == "real amplitudes (D updates)"
    assert any(name.startswith("gradient of D block 0/low kernel") for name in bad)


def test_a_phase_trains_the_shallow_blocks_alone():
    system = build()
    g, d = values(system.generator.trainable_variables), values(system.discriminator.trainable_variables)
    system.train_step(*round_of(system, phase=Phase("hum", last=10, trainable_blocks=1)))
    for network, before in ((system.generator, g), (system.discriminator, d)):
        shallow = {variable.ref() for variable in network.shallow_variables(1)}
        expected = [variable.ref() in shallow for variable in network.trainable_variables]
        assert moved(network.trainable_variables, before) == expected and any(expected) and not all(expected)


def test_a_phase_sets_the_rate_and_beta_1():
    system, log = build(), []
    system.discriminator_adam.apply = Spy(system.discriminator_adam.apply, log, "D")
    system.train_step(*round_of(system, phase=Phase("late", last=10, learning_rate=0.5, beta_1=0.0)))
    system.train_step(*round_of(system, phase=Phase("still", last=10, learning_rate=0.0)))
    system.train_step(*round_of(system))
    assert [arguments[2:] for _, arguments in log] == [(0.5, 0.0)] * 2 + [(0.0, 0.5)] * 2 + [(1e-4, 0.5)] * 2


def test_the_average_follows_the_weights():
    system = build(average_decay=0.9, learning_rate=0.01)
    before = values(system.average.trainable_variables)
    assert_close(before[0], system.generator.trainable_variables[0])
    system.train_step(*round_of(system))
    decay = min(0.9, 2 / 11)
    expected = decay * before[0] + (1 - decay) * system.generator.trainable_variables[0].numpy()
    assert_close(system.average.trainable_variables[0], expected)
    assert system.generation_items() == {"average": system.average}
    assert_close(system.songs(tf.ones([1, 8])), system.representation.decode(system.average(tf.ones([1, 8]))))


def test_the_same_seed_trains_to_the_same_bits():
    results = []
    for _ in range(2):
        system = build()
        step = tf.function(system.train_step, autograph=False)
        for i in range(2):
            scalars, _ = step(*round_of(system, 6 * i))
        results.append([scalars["d_loss"].numpy(), *values(system.generator.trainable_variables)])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_songs_are_decoded_amplitudes_without_their_aliased_ends():
    system = build()
    song = system.sample(tf.constant([3], tf.int64))
    assert song.shape == (1, SIZES.song_samples, SIZES.channels)
    amplitudes = system.generator(system.latents(tf.constant([3], tf.int64)))
    again = system.representation.encode(song)  # of blocks 1 to M - 2, which the clean samples give back whole
    assert_close(again, amplitudes[:, 1:-1], atol=1e-5)


@pytest.mark.parametrize("layer", ["noise", "projection", "quantiser", "none"])
def test_every_perception_layer_trains(layer):
    system = build(perception=Perception(layer=layer))
    scalars, finite = system.train_step(*round_of(system))
    assert all(bool(value) for value in finite.values()) and np.isfinite(float(scalars["d_loss"]))


def test_architecture_rebuilds_the_generator():
    system = build(average_decay=0.5)
    twin = MP3net.from_architecture(system.architecture()).build_generator()
    assert [v.shape for v in twin.average.trainable_variables] == [v.shape for v in system.average.trainable_variables]
    assert twin.sizes == SIZES and set(twin.generation_items()) == {"average"}


def test_a_scale_of_the_amplitudes_changes_neither_songs_nor_noise_only_what_the_networks_see():
    sizes = dataclasses.replace(SIZES, amplitude_scale=8.0)
    plain, scaled = MP3net(SIZES), MP3net(sizes)
    waveform = 0.3 * tf.random.stateless_normal([1, SIZES.crop_samples, 2], [0, 0])
    seen, as_is = scaled.representation.encode(waveform), plain.representation.encode(waveform)
    assert_close(seen, 8 * as_is)
    assert_close(scaled.representation.decode(seen), waveform[:, SIZES.bands : -SIZES.bands], atol=1e-5)
    seeds = tf.constant([[1, 2]], tf.int64)
    assert_close(scaled.perception(seen, seeds), 8 * plain.perception(as_is, seeds), rtol=1e-4)
