"""Measures on sounds whose measures are known."""

import numpy as np
import pytest

from mp3net.evaluation.metrics import SpectralMeasures, log_spectral_distance

RATE_HZ, BANDS = 8000, 32


def measures(*songs):
    made = SpectralMeasures(RATE_HZ, BANDS)
    for song in songs:
        made.add(song)
    return made


def noise(seed, level=0.1, samples=32000):
    return level * np.random.default_rng(seed).uniform(-1, 1, size=(samples, 2))


def tone(hz, samples=32000):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE_HZ)
    return np.stack([wave, wave], axis=1)


def test_noise_has_next_to_no_tonality_and_a_tone_has_all():
    assert measures(noise(0)).tonality < 0.1
    assert measures(tone(440.0)).tonality > 0.8
    assert measures(noise(0), tone(440.0)).tonality == pytest.approx(
        (measures(noise(0)).tonality + measures(tone(440.0)).tonality) / 2, abs=1e-6
    )


def test_half_the_level_is_six_decibels_away_in_every_band():
    assert log_spectral_distance(measures(noise(0, 0.2)), measures(noise(0, 0.1))) == pytest.approx(6.02, abs=0.02)
    assert log_spectral_distance(measures(noise(0)), measures(noise(0))) == 0.0


def test_noise_of_another_seed_is_near_and_silence_is_far():
    assert log_spectral_distance(measures(noise(0)), measures(noise(1))) < 0.5
    silence = measures(np.zeros((32000, 2)))
    np.testing.assert_allclose(silence.spectrum_db, -100.0)
    assert log_spectral_distance(silence, measures(noise(0))) > 40
