"""What changes how a step is computed must not change what it computes: precision, recomputation, accumulation, XLA."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close

from mp3net.model.accumulation import mean_of_parts
from mp3net.model.architecture import Architecture
from mp3net.model.execution import Execution
from mp3net.model.layers import leaky_relu
from mp3net.model.mp3net import MP3net
from mp3net.model.recompute import _forgetful
from mp3net.stage import Place

SIZES = Architecture(
    model_blocks=2, base=(2, 2), latent_size=8, shallowest_features=4, max_features=8, head_features=8, rate_hz=4000
)
REAL = 0.1 * tf.random.stateless_normal([2, 4, *SIZES.output_shape], [5, 5])
EXAMPLES = tf.reshape(tf.range(8, dtype=tf.int64), [2, 4])


def gradients_of(execution=None, place=None, jit=False):
    """Scalars and gradients of D's and of G's update on one batch, before anything is updated."""
    system = MP3net(SIZES, batch_size=4, execution=execution).build(*([place] if place else []), seed=1)
    d, g = system.discriminator.trainable_variables, system.generator.trainable_variables

    @tf.function(autograph=False, jit_compile=jit)
    def both():
        first, scalars, _ = system._discriminator_gradients(d, REAL[0], EXAMPLES[0])
        second, others, _ = system._generator_gradients(g, EXAMPLES[1])
        return first + second, {**scalars, **others}

    gradients, scalars = both()
    return {name: float(value) for name, value in scalars.items()}, [gradient.numpy() for gradient in gradients]


def cosine(mine, theirs):
    a, b = (np.concatenate([each.ravel() for each in some]).astype(np.float64) for some in (mine, theirs))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.fixture(scope="module")
def reference():
    return gradients_of()


@pytest.mark.parametrize("execution", [Execution(recompute=True), Execution(segments=(4,), recompute=True)])
def test_recomputation_changes_nothing(reference, execution):
    scalars, gradients = gradients_of(execution)
    assert scalars == pytest.approx(reference[0], rel=1e-4, abs=1e-7)
    for mine, theirs in zip(gradients, reference[1], strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=5e-4 * np.abs(theirs).max() + 1e-9)


def test_recomputation_computes_activations_anew_for_each_gradient():
    """Counted: `steps` products in a row keep their inputs; recomputed, each is computed again for each gradient."""
    calls = []

    def product(x, weight):
        calls.append(1)
        return leaky_relu(tf.matmul(x, weight), 0.2)

    def second(function, x, weight):
        with tf.GradientTape() as outer:
            outer.watch(weight)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.square(function(x, weight))
            total = tf.reduce_sum(tf.square(inner.gradient(y, x)))
        return outer.gradient(total, weight)

    x, weight = (tf.random.stateless_normal([4, 4], [0, i]) for i in (1, 2))
    plain = second(product, x, weight)
    assert len(calls) == 1
    calls.clear()
    again = second(_forgetful(product, 2), x, weight)
    assert len(calls) > 2
    assert_close(again, plain, rtol=1e-5)


def test_bfloat16_stays_near_float32(reference):
    """Half a percent of a loss, and the gradient's direction within 6 degrees: 8 bits of mantissa, 20 layers.

    How they are summed is the processor's own: 2.5 degrees on one, 2.8 with Intel's matrix units.
    """
    scalars, gradients = gradients_of(Execution("bfloat16"))
    assert scalars["d_loss"] == pytest.approx(reference[0]["d_loss"], rel=5e-3)
    assert scalars["gradient_penalty"] == pytest.approx(reference[0]["gradient_penalty"], rel=5e-3)
    assert scalars["d_loss"] != reference[0]["d_loss"]  # it is in force
    assert cosine(gradients, reference[1]) > 0.995
    assert all(gradient.dtype == np.float32 for gradient in gradients)


def test_in_bfloat16_what_must_be_is_float32():
    system = MP3net(SIZES, batch_size=4, execution=Execution("bfloat16")).build(seed=1)
    assert {v.dtype for item in system.checkpoint_items().values() for v in item.variables} == {tf.float32, tf.int64}
    fake = system.generator(tf.random.stateless_normal([2, 8], [0, 1]))
    assert fake.dtype == tf.float32 and system.discriminator(fake).dtype == tf.float32
    kept = []
    system.discriminator.model_blocks[0].both, plain = (
        (lambda x, s: kept.append(x) or plain(x, s)),
        (system.discriminator.model_blocks[0].both),
    )
    system.discriminator(fake)
    assert kept[0].dtype == tf.bfloat16


def test_inside_xla_the_same_step_comes_out(reference):
    """But for latents, mixes and noise, which another generator draws there: so losses are near, and repeat."""
    place = Place("CPU", xla=True)
    scalars, gradients = gradients_of(place=place, jit=True)
    assert np.isfinite(list(scalars.values())).all() and all(np.isfinite(each).all() for each in gradients)
    assert scalars["d_loss"] == pytest.approx(reference[0]["d_loss"], rel=0.05)
    again, _ = gradients_of(place=place, jit=True)
    assert again == scalars


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_gradients_of_parts_are_the_mean_over_the_batch(parts, loops):
    weight = tf.Variable([1.0, 2.0])
    x = tf.random.stateless_normal([4, 2], [0, 1])
    seen = []

    def step(part, marks):
        seen.append(part.shape[0])
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.reduce_sum(weight * part, axis=1) ** 2)
        return tape.gradient(loss, [weight]), {"loss": loss}, {"small": tf.reduce_max(marks) < 3}

    run = tf.function(lambda: mean_of_parts(step, [x, tf.range(4)], parts, loops), autograph=False)
    (gradient,), scalars, checks = run()
    dot = x.numpy() @ weight.numpy()
    assert_close(gradient, (2 * dot[:, None] * x.numpy()).mean(axis=0), rtol=1e-5)
    assert float(scalars["loss"]) == pytest.approx(np.square(dot).mean(), rel=1e-5)
    assert not bool(checks["small"]) and set(seen) == {4 // parts}


def test_a_round_in_parts_takes_the_same_gradients_but_for_the_minibatch_statistic():
    def updated(parts):
        system = MP3net(SIZES, batch_size=4, critic_steps=1).build(seed=1)
        # Without the statistic's feature, a mean of parts is the mean over the batch.
        kernel = system.discriminator.model_blocks[-1].both.kernel
        kernel.assign(tf.concat([kernel[:, :, :-1], tf.zeros_like(kernel[:, :, -1:])], axis=2))
        stage = dataclasses.replace(system.stages(60)[0], micro_batches=parts)
        scalars, finite = tf.function(lambda: system.train_step(stage, REAL[:1], EXAMPLES[:1]), autograph=False)()
        assert int(system.generator_adam.iterations) == int(system.discriminator_adam.iterations) == 1
        assert all(bool(each) for each in finite.values())
        # After one update the first moment is 1 - beta1 times the gradient.
        moments = {
            variable.ref(): moment.numpy()
            for variable, moment in zip(
                system.discriminator.trainable_variables, system.discriminator_adam.first_moments, strict=True
            )
        }
        moments[kernel.ref()] = moments[kernel.ref()][:, :, :-1]
        return scalars, list(moments.values())

    (whole, gradients), (parts, of_parts) = updated(1), updated(2)
    for name in ("wasserstein", "drift", "gradient_penalty"):
        assert float(parts[name]) == pytest.approx(float(whole[name]), rel=1e-3, abs=1e-6)
    assert len(gradients) > 20
    for mine, theirs in zip(of_parts, gradients, strict=True):
        assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max() + 1e-10)
