"""Stateless draws: who depends on what, and that they follow the distributions they are named after."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close
from scipy import stats

from mp3net.model import randomness
from mp3net.model.layers import Initializer
from mp3net.model.randomness import Purpose


def pairs(examples, purpose=Purpose.D_LATENT, seed=0):
    return randomness.seeds(seed, purpose, tf.constant(examples, tf.int64))


def test_no_two_draws_share_a_seed():
    found = [tuple(pair) for seed in (0, 1) for purpose in Purpose for pair in pairs(range(50), purpose, seed).numpy()]
    assert len(found) == len(set(found)) == 2 * len(Purpose) * 50


def test_initial_weights_share_no_stream_with_the_latents_of_a_run():
    """One stream drawn as uniforms and as normals would show in the radius of Box and Muller."""
    for seed in (0, 1):
        weights = Initializer(seed).glorot_uniform([512], 1, 1).numpy()
        for purpose in (Purpose.D_LATENT, Purpose.G_LATENT, Purpose.SAMPLE_LATENT):
            for example in (0, 1):
                latents = randomness.latents(pairs([example], purpose, seed), 512).numpy()[0]
                assert abs(stats.spearmanr(weights[::2], latents[::2] ** 2 + latents[1::2] ** 2).statistic) < 0.3


def test_an_example_draws_the_same_whatever_batch_it_is_in():
    together = randomness.latents(pairs([7, 8, 9]), 16).numpy()
    assert_close(randomness.latents(pairs([9, 7]), 16), together[[2, 0]], rtol=0, atol=0)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_latents_are_normal_and_uniforms_uniform():
    z = randomness.latents(pairs(range(4)), 5000).numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(z)[0, 1]) < 0.05
    u = randomness.uniforms(pairs(range(500), Purpose.MIX)).numpy()
    assert stats.kstest(u, "uniform").pvalue > 0.01


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_truncated_latents_follow_the_truncated_normal(limit):
    z = randomness.truncated_latents(pairs(range(4)), 5000, limit).numpy()
    assert np.abs(z).max() < limit
    assert stats.kstest(z.ravel(), stats.truncnorm(-limit, limit).cdf).pvalue > 0.01


def test_slerp_runs_along_the_arc():
    """Two vectors of length 2, 60 degrees apart: a quarter of the way is 15 degrees on, as far from the origin."""

    def at(degrees):
        return 2 * np.array([[np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0]], np.float32)

    first, second = tf.constant(at(0)), tf.constant(at(60))
    for fraction in (0.0, 0.25, 0.5, 1.0):
        assert_close(randomness.slerp(first, second, fraction), at(60 * fraction), atol=1e-5)
    assert_close(randomness.slerp(first, first, 0.3), first)
