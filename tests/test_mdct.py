"""The MDCT against equation 2 written out in float64, and against what the paper says of it: it is lossless."""

import math

import numpy as np
import pytest
import tensorflow as tf

from mp3net.audio.mdct import MDCT, vorbis_window


def assert_close(actual, expected, atol):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert actual.size > 0
    assert np.max(np.abs(actual - expected)) <= atol  # False for NaN too


def random_waveform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def plain_mdct(samples, bands):
    """Equations 2 and 6 as the paper prints them, times 1 / (sqrt(2) N), for one channel: [block, band]."""
    blocks = len(samples) // bands - 1
    amplitudes = np.zeros([blocks, bands])
    for m in range(blocks):
        for k in range(bands):
            for n in range(2 * bands):
                w_n = math.sin(math.pi / 2 * math.sin(math.pi / (2 * bands) * (n + 1 / 2)) ** 2)
                cosine = math.cos(math.pi / bands * (n + 1 / 2 + bands / 2) * (k + 1 / 2))
                amplitudes[m, k] += samples[m * bands + n] * w_n * cosine / (math.sqrt(2) * bands)
    return amplitudes


def plain_matrix(bands, blocks):
    """The whole transform of one channel, [block x band, sample], from the plain one of each unit impulse."""
    samples = (blocks + 1) * bands
    return np.stack([plain_mdct(row, bands).ravel() for row in np.eye(samples)], axis=1)


@pytest.mark.parametrize(
    ("bands", "blocks", "batch", "channels"), [(2, 1, 1, 1), (8, 5, 3, 2), (12, 3, 2, 5), (64, 3, 1, 2)]
)
def test_forward_is_equation_2(bands, blocks, batch, channels):
    waveform = random_waveform(batch, (blocks + 1) * bands, channels)
    amplitudes = MDCT(bands).forward(tf.constant(waveform, tf.float32))
    expected = np.zeros([batch, blocks, bands, channels])
    for b in range(batch):
        for c in range(channels):
            expected[b, :, :, c] = plain_mdct(waveform[b, :, c], bands)
    assert amplitudes.dtype == tf.float32
    assert_close(amplitudes, expected, atol=1e-6)


def test_forward_of_an_impulse_by_hand():
    # N = 2: w = 0.228013, 0.973658; cos(3 pi / 8) = 0.382683, cos(9 pi / 8) = -0.923880; 1 / (2 sqrt 2) = 0.353553.
    waveform = np.zeros([1, 8, 2])
    waveform[0, 2, 1] = 1.0  # the third sample is n = 0 of block 1 and n = 2 of block 0
    expected = np.zeros([1, 3, 2, 2])
    expected[0, 1, :, 1] = [0.030850, -0.074478]
    # n = 2: w = 0.973658, cos(7 pi / 8) = -0.923880, cos(21 pi / 8) = -0.382683.
    expected[0, 0, :, 1] = [-0.318038, -0.131736]
    assert_close(MDCT(2).forward(tf.constant(waveform, tf.float32)), expected, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bands", [2, 8, 12, 128, 256])
@pytest.mark.parametrize("batch", [1, 4])
def test_reconstruction_is_perfect(bands, channels, batch):
    mdct = MDCT(bands)
    waveform = random_waveform(batch, 6 * bands, channels)
    amplitudes = mdct.forward(tf.constant(waveform, tf.float32))
    whole, song = mdct.inverse(amplitudes), mdct.inverse(amplitudes, trim=True)
    assert amplitudes.shape == [batch, 5, bands, channels]
    assert whole.shape == [batch, 6 * bands, channels]
    assert_close(song, waveform[:, bands:-bands], atol=5e-6)
    assert_close(whole[:, bands:-bands], song, atol=0)
    # The ends lie under one block only: their aliasing is there, which is why a song leaves them out.
    assert np.max(np.abs(whole[:, :bands] - waveform[:, :bands])) > 0.05


def reconstruction_error(window):
    bands = len(window) // 2
    mdct = MDCT(bands, window=window)
    waveform = random_waveform(1, 6 * bands, 2)
    song = mdct.inverse(mdct.forward(tf.constant(waveform, tf.float32)), trim=True)
    return np.max(np.abs(song - waveform[:, bands:-bands]))


def test_reconstruction_needs_the_conditions_on_the_window():
    n = np.arange(32)
    sine = np.sin(np.pi / 32 * (n + 0.5))
    assert reconstruction_error(sine) < 5e-6  # equations 4 and 5 hold
    assert reconstruction_error(vorbis_window(16)) < 5e-6
    assert reconstruction_error(np.ones(32)) > 0.1  # 5 does not
    assert reconstruction_error(sine**2) > 0.1
    lopsided = np.concatenate([np.full(16, 0.6), np.full(16, 0.8)])
    assert reconstruction_error(lopsided) > 0.1  # 5 holds, 4 does not


def test_window_keeps_equations_4_and_5():
    window = vorbis_window(128)
    assert_close(window, window[::-1], atol=1e-14)
    assert_close(window[:128] ** 2 + window[128:] ** 2, np.ones(128), atol=1e-14)


def test_energy_is_that_of_the_samples_over_4n():
    bands = 16
    waveform = random_waveform(2, 20 * bands, 2)
    waveform[:, :bands] = waveform[:, -bands:] = 0  # samples under one block only would lose some of theirs
    amplitudes = MDCT(bands).forward(tf.constant(waveform, tf.float32)).numpy()
    for c in range(2):
        expected = np.sum(waveform[..., c] ** 2)
        assert 4 * bands * np.sum(amplitudes[..., c].astype(np.float64) ** 2) == pytest.approx(expected, rel=1e-6)


def test_inverse_is_4n_times_the_transpose():
    bands, blocks = 8, 4
    matrix = plain_matrix(bands, blocks)
    # Orthogonal rows of length 1 / sqrt(4N), without which there would be no such inverse.
    assert_close(4 * bands * matrix @ matrix.T, np.eye(blocks * bands), atol=1e-12)
    amplitudes = random_waveform(blocks * bands)
    waveform = MDCT(bands).inverse(tf.reshape(tf.constant(amplitudes, tf.float32), [1, blocks, bands, 1]))
    assert_close(waveform[0, :, 0], 4 * bands * matrix.T @ amplitudes, atol=1e-5)


def test_gradients_are_the_transposes():
    bands, blocks, mdct = 8, 4, MDCT(8)
    matrix = plain_matrix(bands, blocks)
    upstream = random_waveform(1, blocks, bands, 2, seed=1)
    waveform = tf.constant(random_waveform(1, (blocks + 1) * bands, 2), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(waveform)
        amplitudes = mdct.forward(waveform)
        product = tf.reduce_sum(amplitudes * upstream.astype(np.float32))
        energy = tf.reduce_sum(mdct.inverse(amplitudes) ** 2) / 2
    for c in range(2):
        expected = matrix.T @ upstream[0, ..., c].ravel()
        assert_close(tape.gradient(product, waveform)[0, :, c], expected, atol=1e-6)
        projection = 4 * bands * matrix.T @ matrix
        expected = projection.T @ projection @ waveform.numpy()[0, :, c].astype(np.float64)
        assert_close(tape.gradient(energy, waveform)[0, :, c], expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_second_gradients_are_those_of_a_quadratic_form(channels):
    """Of |Kx|^2 / 2 it is K^T K; as K K^T = 1 / 4N, K of what it makes of a vector is K of the vector over 4N."""
    mdct = MDCT(4)
    waveform, vector = (tf.constant(random_waveform(1, 20, channels), tf.float32) for _ in range(2))
    with tf.GradientTape() as outer:
        outer.watch(waveform)
        with tf.GradientTape() as inner:
            inner.watch(waveform)
            energy = tf.reduce_sum(tf.square(mdct.forward(waveform))) / 2
        product = tf.reduce_sum(inner.gradient(energy, waveform) * vector)
    second = outer.gradient(product, waveform)
    assert_close(mdct.forward(second), mdct.forward(vector) / 16, atol=1e-6)


def test_amplitudes_of_full_scale_stay_below_056():
    mdct, bands = MDCT(128), 128
    # For each band the loudest waveform there is: the sign of what equation 2 multiplies it by, the inverse's too.
    one_band = tf.reshape(tf.eye(bands), [bands, 1, bands, 1])
    loudest = tf.sign(mdct.inverse(one_band))
    peaks = tf.linalg.diag_part(mdct.forward(loudest)[:, 0, :, 0]).numpy()
    assert peaks.shape == (bands,)
    assert 0.54 < peaks.max() < 0.56
    assert np.abs(mdct.forward(loudest)).max() == pytest.approx(peaks.max())


def test_linear():
    one, two = (tf.constant(random_waveform(1, 64, 2, seed=s), tf.float32) for s in (1, 2))
    mdct = MDCT(8)
    assert_close(mdct.forward(2 * one - 3 * two), 2 * mdct.forward(one) - 3 * mdct.forward(two), atol=1e-6)


def test_bfloat16_is_cast_up_first():
    waveform = tf.cast(random_waveform(2, 64, 2), tf.bfloat16)
    mdct = MDCT(8)
    amplitudes = mdct.forward(waveform)
    assert amplitudes.dtype == tf.float32
    assert_close(amplitudes, mdct.forward(tf.cast(waveform, tf.float32)), atol=0)
    rounded = tf.cast(amplitudes, tf.bfloat16)
    assert mdct.inverse(rounded).dtype == tf.float32
    assert_close(mdct.inverse(rounded), mdct.inverse(tf.cast(rounded, tf.float32)), atol=0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_inside_a_graph_of_unknown_or_compiled_size(jit_compile):
    mdct = MDCT(8, xla=jit_compile)
    shape = [2, 64, 2] if jit_compile else [None, None, 2]
    both = tf.function(
        lambda waveform: (mdct.forward(waveform), mdct.inverse(mdct.forward(waveform), trim=True)),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
        jit_compile=jit_compile,
    )
    waveform = tf.constant(random_waveform(2, 64, 2), tf.float32)
    amplitudes, song = both(waveform)
    assert_close(amplitudes, MDCT(8).forward(waveform), atol=1e-6)
    assert_close(song, waveform[:, 8:-8], atol=5e-6)
    if not jit_compile:
        for samples in (65, 12):
            with pytest.raises(tf.errors.InvalidArgumentError):
                both(tf.zeros([2, samples, 2]))


@pytest.mark.parametrize("samples", [0, 8, 12, 17])
def test_lengths_that_do_not_fit_are_named(samples):
    with pytest.raises(ValueError, match=rf"8 bands.*at least 16, not {samples}$"):
        MDCT(8).forward(tf.zeros([1, samples, 2]))


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="8 bands.*not 9"):
        MDCT(8).inverse(tf.zeros([1, 4, 9, 2]))
    with pytest.raises(ValueError, match="at least 1 band, not 0"):
        MDCT(0)
