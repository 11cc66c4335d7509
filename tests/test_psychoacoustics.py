"""The psychoacoustic model against the paper's equations in plain float64 loops, with the corrections they need."""

import math

import numpy as np
import pytest
import tensorflow as tf

from mp3net.audio.bark import bark_edges, overlap_hz
from mp3net.audio.mdct import MDCT
from mp3net.audio.psychoacoustics import (
    PsychoacousticModel,
    bark_to_hz,
    hz_to_bark,
    quiet_threshold_db,
    spreading_db,
)

RATE_HZ = 22_016
MODEL = PsychoacousticModel(RATE_HZ, 128)


def assert_close(actual, expected, rtol=0.0, atol=0.0):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert actual.size > 0
    assert np.all(np.abs(actual - expected) <= atol + rtol * np.abs(expected))  # False for NaN too


def plain_tonality(amplitudes):
    """Equation 13 for one block of one channel."""
    powers = [max(float(a) ** 2, 1e-14) for a in amplitudes]
    geometric = math.exp(sum(math.log(p) for p in powers) / len(powers))
    arithmetic = sum(powers) / len(powers)
    return min(1.0, 10 / -60 * math.log10(geometric / arithmetic))


def plain_edges_hz(rate_hz, bark_bands):
    top_bark = 6 * math.asinh(rate_hz / 2 / 600)
    return [600 * math.sinh(top_bark * j / bark_bands / 6) for j in range(bark_bands + 1)]


def plain_quiet_power(frequency_hz, full_scale_db):
    f = frequency_hz / 1000
    level_db = 3.64 * f**-0.8 - 6.5 * math.exp(-0.6 * (f - 3.3) ** 2) + 1e-3 * f**4
    return 10 ** ((min(max(level_db, -20), 120) - full_scale_db) / 10)


def plain_threshold(amplitudes, rate_hz=RATE_HZ, bark_bands=24, alpha=0.6, full_scale_db=120.0):
    """Equations 8 to 12 for one block of one channel, and back to amplitudes."""
    bands, edges_hz = len(amplitudes), plain_edges_hz(rate_hz, bark_bands)
    width_hz, top_bark = rate_hz / 2 / bands, 6 * math.asinh(rate_hz / 2 / 600)

    def shared_hz(k, j):
        return max(0.0, min((k + 1) * width_hz, edges_hz[j + 1]) - max(k * width_hz, edges_hz[j]))

    tau = plain_tonality(amplitudes)
    centres_bark = [top_bark * (j + 0.5) / bark_bands for j in range(bark_bands)]
    threshold_powers = []
    for j in range(bark_bands):
        total = 0.0
        for i in range(bark_bands):
            power = sum(float(amplitudes[k]) ** 2 * shared_hz(k, i) / width_hz for k in range(bands))
            distance = centres_bark[j] - centres_bark[i] + 0.474
            f_ij = 15.81 + 7.5 * distance - 17.5 * math.sqrt(1 + distance**2)
            o_j = tau * (14.5 + centres_bark[j]) + (1 - tau) * 5.5
            total += power**alpha * 10 ** (alpha / 10 * (f_ij - o_j))
        quiet = plain_quiet_power(600 * math.sinh(centres_bark[j] / 6), full_scale_db)
        threshold_powers.append(max(total ** (1 / alpha), quiet))
    return np.array(
        [
            math.sqrt(
                sum(threshold_powers[j] * shared_hz(k, j) / (edges_hz[j + 1] - edges_hz[j]) for j in range(bark_bands))
            )
            for k in range(bands)
        ]
    )


def spectra(bands, seed=0):
    """[batch 2, block 3, band, channel 2] from dull to bright, tonal to noisy, loud to barely heard."""
    random = np.random.default_rng(seed)
    slope = random.uniform(0, 8, [2, 3, 1, 2])
    level = 10 ** random.uniform(-5, -0.5, [2, 3, 1, 2])
    band = np.arange(bands).reshape([1, 1, -1, 1]) / bands
    return (level * np.exp(-slope * band) * random.normal(0, 0.3, [2, 3, bands, 2])).astype(np.float32)


def over_blocks(function, amplitudes, **options):
    """A function of one block of one channel, applied to all: [batch, block, ..., channel]."""
    return np.stack(
        [
            [[function(block[:, c], **options) for block in example] for example in amplitudes]
            for c in range(amplitudes.shape[3])
        ],
        axis=-1,
    )


# Scales


def test_bark_scale_by_hand():
    # 600 sinh(1) = 705.120716 is at 6 Bark; asinh(1) = ln(1 + sqrt 2) = 0.881374 puts 600 Hz at 5.288241.
    assert_close(hz_to_bark([0.0, 705.120716, 600.0]), [0.0, 6.0, 5.288241], atol=1e-6)
    assert_close(bark_to_hz(hz_to_bark([0.0, 100.0, 1000.0, 11008.0])), [0.0, 100.0, 1000.0, 11008.0], rtol=1e-12)
    assert_close(MODEL.centres_bark[[0, -1]], [0.45, 21.17], atol=0.01)
    assert_close(np.diff(bark_edges(RATE_HZ, 24)), np.full(24, 0.9008), atol=2e-4)


def test_quiet_threshold_by_hand():
    # 1 kHz: 3.64 - 6.5 x 0.041836 + 0.001. 3.3 kHz: 3.64 x 0.384759 - 6.5 + 0.118592.
    assert_close(quiet_threshold_db([1000.0, 3300.0]), [3.36907, -4.98088], atol=1e-4)
    assert_close(quiet_threshold_db([0.0, 1.0, 20_000.0]), [120.0, 120.0, 120.0])


def test_spreading_by_hand():
    # Distance 1: 15.81 + 11.055 - 17.5 x 1.781201. Distance -1: 15.81 - 3.945 - 17.5 x 1.129901.
    assert_close(spreading_db([0.0, 1.0, -1.0]), [-0.001389, -4.306013, -7.908265], atol=1e-6)
    # Ten dB a Bark up, twenty-five down.
    assert_close(spreading_db([40.0, -39.0]) - spreading_db([39.0, -40.0]), [-10.0, 25.0], atol=0.02)


@pytest.mark.parametrize(("rate_hz", "bands", "bark_bands"), [(22_016, 128, 24), (44_100, 256, 30), (16_000, 16, 24)])
def test_overlap_covers_each_band_once(rate_hz, bands, bark_bands):
    shared_hz = overlap_hz(rate_hz, bands, bark_bands)
    assert_close(shared_hz.sum(axis=1), np.full(bands, rate_hz / 2 / bands), rtol=1e-9)
    assert_close(shared_hz.sum(axis=0), np.diff(plain_edges_hz(rate_hz, bark_bands)), rtol=1e-9)


# Tonality


def test_tonality_is_equation_13():
    amplitudes = spectra(128)
    tonality = MODEL.tonality(tf.constant(amplitudes))
    assert tonality.shape == [2, 3, 1, 2]
    expected = over_blocks(plain_tonality, amplitudes)[:, :, np.newaxis]
    assert 0.05 < expected.min() < 0.3 < expected.max() < 1
    assert_close(tonality, expected, atol=1e-5)


def test_tonality_by_hand():
    # Powers of 1 and 1e-4: flatness 1e-2 / 0.50005, -16.99013 dB of -60. Of 1 and silence: 1e-7 / 0.5, -66.99, clipped.
    two_bands = PsychoacousticModel(RATE_HZ, 2)
    amplitudes = tf.reshape(tf.constant([[1.0, -0.01], [1.0, 0.0], [0.3, -0.3], [0.0, 0.0]]), [1, 4, 2, 1])
    assert_close(two_bands.tonality(amplitudes)[0, :, 0, 0], [0.283169, 1.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("frequency_hz", [440.0, 1000.0, 3520.0])
def test_pure_tone_is_tonal(frequency_hz):
    time_s = np.arange(101 * 128) / RATE_HZ
    sine = 0.9 * np.sin(2 * np.pi * frequency_hz * time_s)[np.newaxis, :, np.newaxis]
    tonality = MODEL.tonality(MDCT(128).forward(tf.constant(sine, tf.float32)))
    assert tonality.shape == [1, 100, 1, 1]
    assert np.mean(tonality) == pytest.approx(1.0, abs=0.005)


def test_white_noise_is_not():
    noise = np.random.default_rng(0).uniform(-1, 1, [1, 301 * 128, 2])
    tonality = MODEL.tonality(MDCT(128).forward(tf.constant(noise, tf.float32)))
    assert 0.05 < np.mean(tonality) < 0.1


# Threshold


@pytest.mark.parametrize(
    ("bands", "options"),
    [
        (128, {}),
        (128, {"alpha": 1.0}),
        (128, {"full_scale_db": 96.0}),
        (32, {"rate_hz": 44_100, "bark_bands": 20, "alpha": 0.45}),
    ],
)
def test_threshold_is_equations_8_to_12(bands, options):
    amplitudes = spectra(bands)
    options = {"rate_hz": RATE_HZ, **options}
    threshold = PsychoacousticModel(bands=bands, **options).threshold(tf.constant(amplitudes))
    expected = np.moveaxis(over_blocks(plain_threshold, amplitudes, **options), -2, 2)
    assert threshold.dtype == tf.float32
    assert_close(threshold, expected, rtol=1e-4)
    assert_not_close(expected, np.moveaxis(over_blocks(plain_threshold, 0 * amplitudes, **options), -2, 2))


def assert_not_close(actual, expected):
    assert np.max(np.abs(actual / expected - 1)) > 0.5


def test_silence_is_at_the_quiet_threshold_by_hand():
    threshold = MODEL.threshold(tf.zeros([1, 2, 128, 2])).numpy()
    # 1 kHz lies in MDCT band 11, and in Bark band 8: 906.886 to 1081.002 Hz, of which the band is 86 / 174.116. In its
    # middle, at 991.150 Hz, the ear's threshold is 3.4016 dB SPL: the root of 10^((3.4016 - 120) / 10) x 0.493923.
    assert_close(threshold[:, :, 11], np.full([1, 2, 2], 1.03970e-6), rtol=1e-4)
    # 3.3 kHz lies in Bark band 16, 3287.163 to 3827.854 Hz, as do MDCT bands 39 to 43, 86 / 540.691 of it each. In its
    # middle, at 3547.508 Hz, the threshold is -4.7853 dB SPL.
    assert_close(threshold[:, :, 39:44], np.full([1, 2, 5, 2], 2.29886e-7), rtol=1e-4)
    assert_close(threshold[0, 1, :, 0], plain_threshold(np.zeros(128)), rtol=1e-4)
    # It spreads over bands without loss.
    centres_hz = 600 * np.sinh(MODEL.centres_bark / 6)
    quiet_power = [plain_quiet_power(f, 120.0) for f in centres_hz]
    assert np.sum(threshold[0, 0, :, 0].astype(np.float64) ** 2) == pytest.approx(np.sum(quiet_power), rel=1e-5)


def mask_level_db(masker_band, level=0.5):
    """The mask of one MDCT band alone in the middle of each Bark band, with nothing quiet in its way: [bark band]."""
    # One MDCT band per Bark band or less keeps levels apart: 2048 bands, each read at a Bark band's middle.
    model = PsychoacousticModel(RATE_HZ, 2048, full_scale_db=150.0)
    amplitudes = np.zeros([1, 1, 2048, 1], np.float32)
    amplitudes[0, 0, masker_band] = level
    threshold = model.threshold(tf.constant(amplitudes)).numpy()[0, 0, :, 0].astype(np.float64)
    edges_hz = np.array(plain_edges_hz(RATE_HZ, 24))
    middle = (600 * np.sinh(model.centres_bark / 6) / (RATE_HZ / 2 / 2048)).astype(int)
    # Undo the even spread: the power of the whole Bark band.
    width_bands = np.diff(edges_hz) / (RATE_HZ / 2 / 2048)
    return 10 * np.log10(threshold[middle] ** 2 * width_bands), model.centres_bark


def test_masking_peaks_at_the_masker_and_reaches_further_up():
    masker = 12  # Bark band
    frequency_hz = 600 * math.sinh(MODEL.centres_bark[masker] / 6)
    level_db, centres_bark = mask_level_db(int(frequency_hz / (RATE_HZ / 2 / 2048)))
    assert np.argmax(level_db) == masker
    for lag, least_db in ((1, 0.5), (2, 8.0), (3, 15.0)):
        assert level_db[masker + lag] > level_db[masker - lag] + least_db
    # The exact levels: the masker's power, the spreading, and the offset of a pure tone at the maskee.
    for lag in (-2, -1, 0, 1, 2, 4):
        j = masker + lag
        shifted_bark = lag * (centres_bark[1] - centres_bark[0]) + 0.474
        f_ij = 15.81 + 7.5 * shifted_bark - 17.5 * math.sqrt(1 + shifted_bark**2)
        expected_db = 20 * math.log10(0.5) + f_ij - (14.5 + centres_bark[j])
        assert level_db[j] == pytest.approx(expected_db, abs=0.02)


def test_channels_and_blocks_do_not_mask_each_other():
    amplitudes = spectra(128)
    threshold = MODEL.threshold(tf.constant(amplitudes)).numpy()
    alone = MODEL.threshold(tf.constant(amplitudes[1:, 2:, :, 1:])).numpy()
    assert_close(alone, threshold[1:, 2:, :, 1:], rtol=1e-5)


def test_bfloat16_is_cast_up_first():
    rounded = tf.cast(spectra(128), tf.bfloat16)
    threshold = MODEL.threshold(rounded)
    assert threshold.dtype == MODEL.tonality(rounded).dtype == tf.float32
    assert_close(threshold, MODEL.threshold(tf.cast(rounded, tf.float32)))
    for used in (MODEL.add_noise(rounded, threshold, [1, 2]), MODEL.project(rounded, threshold)):
        assert used.dtype == tf.float32


def threshold_and_noise(amplitudes, seed):
    threshold = MODEL.threshold(amplitudes)
    return threshold, MODEL.add_noise(tf.zeros_like(amplitudes), threshold, seed)


def test_inside_a_graph_of_unknown_size():
    amplitudes, seeds = spectra(128), tf.constant([[1, 2], [3, 4]])
    signature = [tf.TensorSpec([None, None, 128, 2], tf.float32), tf.TensorSpec([None, 2], tf.int32)]
    graph = tf.function(threshold_and_noise, input_signature=signature)
    for actual, expected in zip(graph(amplitudes, seeds), threshold_and_noise(amplitudes, seeds), strict=True):
        assert_close(actual, expected, rtol=1e-5)


def test_inside_xla():
    amplitudes, seeds = spectra(128), tf.constant([[1, 2], [3, 4]])
    graph = tf.function(threshold_and_noise, jit_compile=True)
    threshold, noise = graph(amplitudes, seeds)
    assert_close(threshold, MODEL.threshold(amplitudes), rtol=1e-4)
    # XLA draws other numbers from the same seed; each example's are still its own.
    assert np.std(noise / threshold) == pytest.approx(1 / 6, rel=0.1)
    assert_close(graph(amplitudes[1:], seeds[1:])[1], noise[1:], rtol=1e-5)


# Uses


def test_noise_has_the_size_of_equation_15():
    amplitudes = tf.fill([1, 1000, 128, 2], 0.25)
    threshold = tf.fill([1, 1000, 128, 2], 0.6)
    noise = (MODEL.add_noise(amplitudes, threshold, [1, 2]) - amplitudes).numpy().astype(np.float64)
    assert noise.size == 256_000
    assert np.mean(noise) == pytest.approx(0, abs=1e-3)
    assert np.std(noise) == pytest.approx(0.1, rel=0.01)
    assert np.mean(np.abs(noise) > 0.2) == pytest.approx(0.0455, abs=0.003)  # a Gaussian's, beyond two deviations
    louder = PsychoacousticModel(RATE_HZ, 128, noise_factor=0.5).add_noise(amplitudes, threshold, [1, 2])
    assert_close(louder - amplitudes, 3 * noise, atol=1e-5)


def test_noise_depends_on_the_examples_own_seed_alone():
    amplitudes, seeds = tf.constant(spectra(128)), tf.constant([[7, 1], [7, 2]])
    threshold = tf.ones_like(amplitudes)
    both = MODEL.add_noise(amplitudes, threshold, seeds)
    assert_close(MODEL.add_noise(amplitudes[1:], threshold[1:], seeds[1:]), both[1:])
    swapped = MODEL.add_noise(amplitudes[::-1], threshold, seeds[::-1])
    assert_close(swapped[::-1], both)
    noise = (both - amplitudes).numpy()
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(noise[0, 0].ravel(), noise[0, 1].ravel())[0, 1]) < 0.25
    # One seed for the batch: examples differ, calls do not.
    batch = MODEL.add_noise(amplitudes, threshold, [7, 1])
    assert_close(MODEL.add_noise(amplitudes, threshold, [7, 1]), batch)
    noise = (batch - amplitudes).numpy()
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.2


def test_noise_lets_the_gradient_through_the_threshold():
    amplitudes, threshold = tf.constant(spectra(128)), tf.fill([2, 3, 128, 2], 0.5)
    with tf.GradientTape() as tape:
        tape.watch([amplitudes, threshold])
        noised = MODEL.add_noise(amplitudes, threshold, [3, 4])
    to_amplitudes, to_threshold = tape.gradient(noised, [amplitudes, threshold])
    assert_close(to_amplitudes, np.ones([2, 3, 128, 2]))
    assert_close(to_threshold, (noised - amplitudes) / 0.5, atol=1e-5)


def test_projection_by_hand():
    amplitudes = tf.reshape(tf.constant([0.0, 0.1, -0.1, 0.5, -0.5, 0.8, -0.8]), [1, 1, 7, 1])
    threshold = tf.fill([1, 1, 7, 1], 0.5)
    with tf.GradientTape() as tape:
        tape.watch(amplitudes)
        projected = MODEL.project(amplitudes, threshold, slope=0.2)
    assert_close(tf.reshape(projected, [-1]), [0.0, 0.02, -0.02, 0.1, -0.1, 0.4, -0.4], atol=1e-6)
    slopes = tf.reshape(tape.gradient(projected, amplitudes), [-1]).numpy()
    assert_close(slopes[[0, 1, 2, 5, 6]], [0.2, 0.2, 0.2, 1.0, 1.0], atol=1e-6)
    assert_close(MODEL.project(amplitudes, threshold, slope=1.0), amplitudes)


def test_quantiser_by_hand():
    amplitudes = tf.reshape(tf.constant([0.0, 0.4, -0.2, 0.6, -1.3, 0.9]), [1, 1, 6, 1])
    threshold = tf.reshape(tf.constant([0.5, 0.5, 0.5, 0.5, 0.5, 0.4]), [1, 1, 6, 1])
    with tf.GradientTape() as tape:
        tape.watch([amplitudes, threshold])
        quantised = MODEL.quantise(amplitudes, threshold)
    assert_close(tf.reshape(quantised, [-1]), [0.0, 0.5, 0.0, 0.5, -1.5, 0.8], atol=1e-6)
    to_amplitudes, to_threshold = tape.gradient(quantised, [amplitudes, threshold])
    assert_close(to_amplitudes, np.ones([1, 1, 6, 1]))
    assert to_threshold is None


def test_quantising_error_is_equation_15():
    amplitudes = tf.constant(spectra(128))
    threshold = MODEL.threshold(amplitudes)
    steps_off = (MODEL.quantise(amplitudes, threshold) - amplitudes) / threshold
    assert 0.45 < np.max(np.abs(steps_off)) < 0.501


# Gradients


def edge_cases():
    one_band = np.zeros([1, 1, 128, 2], np.float32)
    one_band[0, 0, 12] = [1.0, -1.0]
    mixed = spectra(128)[:1, :1]
    mixed[0, 0, ::3] = 0.0
    return {
        "silence": np.zeros([1, 2, 128, 2], np.float32),
        "full scale": np.ones([1, 2, 128, 2], np.float32),
        "one band": one_band,
        "denormal": np.full([1, 2, 128, 2], 1e-40, np.float32),
        "at the floor": np.full([1, 2, 128, 2], 1e-7, np.float32),
        "squares to a denormal": np.full([1, 2, 128, 2], 1e-20, np.float32),
        "partly silent": mixed,
    }


@pytest.mark.parametrize("case", edge_cases())
@pytest.mark.parametrize("use", ["threshold", "tonality", "noise", "projection"])
def test_values_and_gradients_are_finite(case, use):
    function = {
        "threshold": MODEL.threshold,
        "tonality": MODEL.tonality,
        "noise": lambda a: MODEL.add_noise(a, MODEL.threshold(a), [1, 2]),
        "projection": lambda a: MODEL.project(a, MODEL.threshold(a)),
    }[use]
    amplitudes = tf.constant(edge_cases()[case])
    with tf.GradientTape() as outer:
        outer.watch(amplitudes)
        with tf.GradientTape() as inner:
            inner.watch(amplitudes)
            value = function(amplitudes)
        first = inner.gradient(value, amplitudes)
        penalty = tf.reduce_sum(first**2)
    second = outer.gradient(penalty, amplitudes)
    assert len(amplitudes.numpy()) > 0
    for tensor in (value, first, second):
        assert np.all(np.isfinite(tensor))


def test_gradient_through_the_threshold():
    random = np.random.default_rng(5)
    amplitudes = spectra(128, seed=3)[:1, :1, :, :1] + np.float32(0.01)
    weights = random.uniform(0.5, 1.5, 128)
    with tf.GradientTape() as tape:
        values = tf.constant(amplitudes)
        tape.watch(values)
        logs = tf.math.log(MODEL.threshold(values))
        weighted = tf.reduce_sum(logs[0, 0, :, 0] * weights.astype(np.float32))
    gradient = tape.gradient(weighted, values).numpy()[0, 0, :, 0].astype(np.float64)
    one_block = amplitudes[0, 0, :, 0].astype(np.float64)
    assert 0 < plain_tonality(one_block) < 1  # so that the slope through it counts
    for direction in random.normal(size=[3, 128]) * np.abs(one_block):
        step = 1e-4
        above, below = (np.log(plain_threshold(one_block + s * direction)) @ weights for s in (step, -step))
        assert gradient @ direction == pytest.approx((above - below) / (2 * step), rel=1e-3)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="128 bands.*not 64"):
        MODEL.threshold(tf.zeros([1, 2, 64, 2]))
    with pytest.raises(ValueError, match="above 0, not 22016, 0, 24, 0.6"):
        PsychoacousticModel(RATE_HZ, 0)
