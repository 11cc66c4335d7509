"""Every measure on sounds whose measure is known."""

import csv
import json

import numpy as np
import pytest
from helpers import assert_close

from mp3net.audio.mdct import MDCT
from mp3net.audio.psychoacoustics import PsychoacousticModel
from mp3net.evaluation import coherence, diversity, frechet, hum, loudness, scores, timbre, tonality
from mp3net.evaluation.description import describe, features
from mp3net.evaluation.song import FLOOR_DB, Song

RATE_HZ = 22016
MAJOR = (0, 2, 4, 5, 7, 9, 11)


def noise(seconds, seed=0, level=0.1):
    return level * np.random.default_rng(seed).normal(size=(round(seconds * RATE_HZ), 2)).astype(np.float32)


def tone(hz, seconds, level=0.5, rate_hz=RATE_HZ):
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.stack([wave, wave], axis=1).astype(np.float32)


def notes(starts_s, hz, seconds, fade=lambda harmonic: 20.0, delay_s=lambda harmonic: 0.0, harmonics=(1, 2, 4, 8, 16)):
    """Struck notes, `[sample, 2]`: each of `harmonics`, one to an octave, fades by `fade(h)` dB/s, begun `delay_s(h)`
    late.
    """
    wave = np.zeros(round(seconds * RATE_HZ))
    for start_s, pitch_hz in zip(starts_s, np.broadcast_to(hz, len(starts_s)), strict=True):
        for h in harmonics:
            begin = round((start_s + delay_s(h)) * RATE_HZ)
            time_s = np.arange(min(len(wave) - begin, RATE_HZ)) / RATE_HZ
            level = 0.05 / h * 10 ** (-fade(h) * time_s / 20)
            wave[begin : begin + len(time_s)] += level * np.sin(2 * np.pi * h * pitch_hz * time_s)
    return np.stack([wave, wave], axis=1).astype(np.float32)


def clicks(times_s, seconds):
    """A click track on a quiet floor of noise."""
    wave = 1e-4 * np.random.default_rng(1).normal(size=round(seconds * RATE_HZ))
    for start_s in times_s:
        begin = round(start_s * RATE_HZ)
        burst = np.random.default_rng(0).normal(size=600) * np.exp(-np.arange(600) / 100)
        wave[begin : begin + 600] += 0.3 * burst[: len(wave[begin : begin + 600])]
    return np.stack([wave, wave], axis=1).astype(np.float32)


def scale(root, seconds, seed=0):
    """Random notes of the major key of `root` (semitones above A), four a second."""
    random = np.random.default_rng(seed)
    starts_s = np.arange(0, seconds - 0.3, 0.25)
    hz = 220 * 2 ** ((root + random.choice(MAJOR, size=len(starts_s))) / 12)
    return notes(starts_s, hz, seconds, fade=lambda h: 60.0, harmonics=(1, 2, 3))


# Tonality


def test_tonality_is_1_of_a_tone_and_near_0_of_noise():
    assert tonality.tonality(Song("tone", tone(440, 4), RATE_HZ).amplitudes, RATE_HZ) == pytest.approx(1.0, abs=0.01)
    assert tonality.tonality(Song("noise", noise(4), RATE_HZ).amplitudes, RATE_HZ) < 0.1


def test_the_tonality_of_an_octave_is_of_its_bands_alone():
    """A tone in the third octave from the top, 1,376 to 2,752 Hz, under noise in the top one alone."""
    mdct = MDCT(128)
    amplitudes = Song("noise", noise(4), RATE_HZ).amplitudes.copy()
    amplitudes[:, :64] = 0.0
    hiss = mdct.inverse(amplitudes[None], trim=True)[0].numpy()
    song = Song("both", hiss + tone(2000, 10)[: len(hiss)], RATE_HZ)
    found = tonality.by_octave(song.amplitudes, RATE_HZ)
    assert len(found) == len(tonality.octaves(128)) == 4 and tonality.octaves(128)[0] == slice(64, 128)
    assert found[0] < 0.1 and found[2] > 0.5


def test_the_noise_takes_tonality_away_as_the_model_adds_it():
    song = Song("notes", scale(0, 4), RATE_HZ)
    plain, noised = tonality.tonality(song.amplitudes, RATE_HZ), tonality.noised(song.amplitudes, RATE_HZ)
    model = PsychoacousticModel(RATE_HZ, 128)
    threshold = model.threshold(song.amplitudes[None])
    power = np.maximum(
        np.square(model.add_noise(song.amplitudes[None], threshold, [0, 0])[0].numpy().astype(float)), 1e-14
    )
    flatness_db = 10 * np.log10(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1))
    assert noised == pytest.approx(np.clip(flatness_db / -60, 0, 1).mean(), abs=1e-3)
    assert abs(noised - plain) > 1e-3


# Timbre


@pytest.mark.parametrize("slower, faster", [(20.0, 0.0), (20.0, 15.0), (60.0, -10.0)])
def test_how_much_faster_each_octave_fades_is_found(slower, faster):
    """Harmonic h, log2(h) octaves up, fades by `faster` dB/s more for each octave."""
    found = timbre.timbre(
        Song("notes", notes(np.arange(0.2, 9, 0.9), 155, 10, lambda h: slower + faster * np.log2(h)), RATE_HZ)
    )
    assert found["decay_tilt"] == pytest.approx(faster, abs=2.0)


def test_harmonics_that_start_one_after_another_are_found():
    starts = np.arange(0.2, 9, 0.9)
    together = timbre.timbre(Song("notes", notes(starts, 155, 10), RATE_HZ))["onset_spread_ms"]
    apart = notes(starts, 155, 10, delay_s=lambda h: 0.01 * np.log2(h))  # each octave 10 ms after the one below
    apart = timbre.timbre(Song("notes", apart, RATE_HZ))["onset_spread_ms"]
    assert together < 4 and apart == pytest.approx(14.1, abs=2)  # the deviation of 0, 10, 20, 30 and 40 ms


def test_a_sound_without_notes_has_no_timbre():
    assert timbre.timbre(Song("noise", noise(3), RATE_HZ)) == {"onset_spread_ms": None, "decay_tilt": None}
    assert timbre.timbre(Song("tone", tone(440, 3), RATE_HZ))["decay_tilt"] is None


# Hum


@pytest.mark.parametrize("period", [2, 4, 8, 16])
@pytest.mark.parametrize("share_db", [-10.0, -25.0])
def test_a_hum_of_a_known_level_is_found_at_its_period(period, share_db):
    """A pattern over the blocks that repeats every `period` of them, of no shorter period, in white amplitudes."""
    random = np.random.default_rng(period)
    amplitudes = random.normal(size=(12000, 32, 2))
    wave = np.cos(2 * np.pi * np.arange(12000) / period)[:, None, None] * random.normal(size=(1, 32, 2))
    share = 10 ** (share_db / 10)
    wave *= np.sqrt(share / (1 - share) * np.square(amplitudes).mean() / np.square(wave).mean())
    found = hum.hum_db(amplitudes + wave)
    assert found[period] == pytest.approx(share_db, abs=0.7) and found["all"] == pytest.approx(share_db, abs=0.7)
    assert all(found[other] < share_db - 10 for other in hum.PERIODS if other != period)


def test_what_does_not_repeat_is_no_hum_and_what_is_short_is_not_measured():
    assert hum.hum_db(np.random.default_rng(0).normal(size=(12000, 32, 2)))["all"] < -30
    assert hum.hum_db(np.zeros((12000, 32, 2)))["all"] == hum.FLOOR_DB
    assert hum.hum_db(np.ones((127, 32, 2))) is None and hum.hum_db(np.zeros((0, 32, 2))) is None


# Frechet distance


def test_the_distance_of_gaussians_is_that_of_their_formula():
    """Of commuting covariances: |m1 - m2|^2 + sum (sqrt(a) - sqrt(b))^2 over the eigenvalues."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    a, b = np.array([1.0, 4.0, 9.0, 0.0]), np.array([4.0, 1.0, 9.0, 1.0])
    first = (np.zeros(4), rotation @ np.diag(a) @ rotation.T)
    second = (np.array([1.0, 2.0, 0.0, 2.0]), rotation @ np.diag(b) @ rotation.T)
    assert frechet.distance(first, second) == pytest.approx(9 + 1 + 1 + 0 + 1)
    assert frechet.distance(first, first) == pytest.approx(0, abs=1e-9)
    # Not commuting, 2 x 2: tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2)).
    c1, c2 = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])
    cross = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1 @ c2)))
    zero = np.zeros(2)
    assert frechet.distance((zero, c1), (zero, c2)) == pytest.approx(5 + 3 - 2 * cross)


def test_moments_of_songs_add_up_to_those_of_all_their_windows():
    songs = [np.random.default_rng(i).normal(size=(5 + i, 3)) for i in range(4)]
    mean, covariance = frechet.Moments.gaussian([frechet.Moments(song) for song in songs])
    together = np.concatenate(songs)
    assert_close(mean, together.mean(axis=0))
    assert_close(covariance, np.cov(together.T, bias=True))


def gaussian_songs(count, seed, shift=0.0, windows=5):
    random = np.random.default_rng(seed)
    return [frechet.Moments(shift + random.normal(size=(windows, 8))) for _ in range(count)]


def test_of_few_songs_the_bias_is_taken_off():
    """Two sets of one distribution are 0 apart, and two that are 1 apart in each of 8 features are 8."""
    found = [frechet.extrapolated(gaussian_songs(24, 2 * i), gaussian_songs(24, 2 * i + 1)) for i in range(16)]
    assert np.mean([finite for _, _, finite in found]) > 0.1  # the bias is there
    assert abs(np.mean([infinite for infinite, _, _ in found])) < 0.08
    spread = np.std([infinite for infinite, _, _ in found], ddof=1)
    assert 0.6 < np.mean([error for _, error, _ in found]) / spread < 1.7
    infinite, error, _ = frechet.extrapolated(gaussian_songs(24, 1), gaussian_songs(24, 2, shift=1.0))
    assert infinite == pytest.approx(8.0, abs=3 * error + 0.3)
    assert frechet.extrapolated(gaussian_songs(3, 1), gaussian_songs(24, 2)) is None


# Coherence


def test_a_tempo_that_stays_is_constant_and_one_that_drifts_is_not():
    seconds = 40
    steady = coherence.rhythm(Song("steady", clicks(np.arange(0.3, seconds, 0.5), seconds), RATE_HZ))
    assert coherence.constancy([steady]) > 0.9
    # From 120 to 180 beats a minute.
    beats, time_s = [], 0.3
    while time_s < seconds:
        beats.append(time_s)
        time_s += 60 / (120 + 60 * time_s / seconds)
    drifting = coherence.rhythm(Song("drifting", clicks(beats, seconds), RATE_HZ))
    assert coherence.constancy([drifting]) < 0.5
    assert coherence.constancy([steady, drifting]) == pytest.approx(
        (coherence.constancy([steady]) + coherence.constancy([drifting])) / 2
    )
    other = coherence.rhythm(Song("other", clicks(np.arange(0.3, seconds, 0.37), seconds), RATE_HZ))
    assert coherence.shuffled([steady, other], ["a", "b"]) < 0.5


def test_the_rhythm_of_a_click_track_repeats_with_its_beat():
    song = Song("clicks", clicks(np.arange(0.3, 30, 0.6), 30), RATE_HZ)  # 100 beats a minute
    lags_s = 0.25 + song.quick_s * np.arange(coherence.rhythm(song).shape[1])
    for third in coherence.rhythm(song):
        assert lags_s[third.argmax()] == pytest.approx(0.6, abs=0.02) or lags_s[third.argmax()] == pytest.approx(
            1.2, abs=0.02
        )


def test_a_key_that_stays_is_constant_and_one_that_moves_is_not():
    stays = coherence.harmony(Song("A", scale(0, 30), RATE_HZ))
    moves = coherence.harmony(Song("A to D#", np.concatenate([scale(0, 15, 1), scale(6, 15, 2)]), RATE_HZ))
    assert coherence.constancy([stays]) > 0.6 and coherence.constancy([moves]) < 0.3
    assert coherence.shuffled([stays, coherence.harmony(Song("D#", scale(6, 30, 3), RATE_HZ))], ["a", "b"]) < 0.3
    assert coherence.shuffled([stays], ["a"]) is None and coherence.constancy([]) is None


def test_the_chroma_of_a_tone_is_its_pitch_class():
    for hz, pitch_class in ((440.0, 9), (261.63, 0), (622.25, 3)):
        chroma = Song("tone", tone(hz, 2), RATE_HZ).chroma
        assert chroma.shape[1] == 12 and np.all(chroma.argmax(axis=1) == pitch_class)
        assert_close(chroma.sum(axis=1), np.ones(len(chroma)), rtol=1e-4)


def test_what_is_short_or_silent_has_no_coherence():
    assert coherence.rhythm(Song("short", noise(11), RATE_HZ)) is None
    assert coherence.harmony(Song("silent", np.zeros((15 * RATE_HZ, 2)), RATE_HZ)) is None
    assert coherence.rhythm(Song("silent", np.zeros((15 * RATE_HZ, 2)), RATE_HZ)) is None


def test_self_similarity_is_1_where_a_song_repeats():
    random = np.random.default_rng(0)
    features, ones = np.tile(random.normal(size=(10, 36)), (4, 1)), np.ones(36)
    similarity = coherence.self_similarity(features, ones)
    assert_close(np.diag(similarity, 10), np.ones(30))
    assert np.abs(np.diag(similarity, 5)).mean() < 0.3
    assert coherence.far_similarity(features, ones) == pytest.approx(1.0)
    noise = random.normal(size=(40, 36))
    chance = coherence.far_similarity(noise, ones)
    assert 0.1 < chance < 0.6  # the best of ten to twenty
    # A song that is dull throughout is not for that alike throughout.
    assert coherence.far_similarity(noise + 5.0, ones) == pytest.approx(chance)
    half = np.concatenate([noise[:20], random.normal(size=(20, 36))])
    assert coherence.far_similarity(np.concatenate([half, half[:20]]), ones) > chance + 0.2
    assert coherence.far_similarity(features[:3], ones) is None


def test_chance_is_of_different_recordings():
    up, down = np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])
    pairs = [np.stack([up, up]), np.stack([up, up]), np.stack([down, down])]
    assert coherence.shuffled(pairs, ["a", "a", "b"]) == pytest.approx(-1.0)
    assert coherence.shuffled(pairs, ["a", "b", "c"]) == pytest.approx((2 * 1 - 4 * 1) / 6)
    assert coherence.shuffled(pairs[:2], ["a", "a"]) is None


# Diversity


def test_copies_of_the_training_set_are_found_and_other_songs_are_not():
    real = [describe(f"real {i}", scale(i, 8, i), RATE_HZ) for i in range(6)]
    offset = round(0.1 * RATE_HZ)  # a copy that begins elsewhere
    copies = [describe("copy", scale(i, 8, i)[offset:], RATE_HZ) for i in range(3)]
    new = [describe("new", scale(i, 8, 50 + i), RATE_HZ) for i in range(3)]
    row, _ = scores.scores(copies + new, real)
    assert row["copies"] == pytest.approx(0.5)
    assert scores.scores(copies, real)[0]["nearest_training"] < 0.5 < scores.scores(new, real)[0]["nearest_training"]


def test_copies_are_found_among_more_of_the_training_set_than_is_described():
    real = [describe(f"real {i}", scale(i, 8, i), RATE_HZ) for i in range(4)]
    more = [(f"more {i}", describe("", scale(i, 8, 30 + i), RATE_HZ).features) for i in range(4)]
    copies = [describe("copy", scale(2, 8, 32), RATE_HZ), describe("copy", scale(3, 8, 3), RATE_HZ)]
    assert scores.scores(copies, real)[0]["copies"] == 0.5
    assert scores.scores(copies, real, more=more)[0]["copies"] == 1.0
    assert scores.scores(copies, real, ends=more)[0]["copies"] == 1.0
    overlapping = [("end", real[i].features) for i in range(4)]  # of which the real songs would seem copies themselves
    with_ends = scores.scores(copies[1:], real, ends=overlapping)[0]
    assert with_ends["copies"] == 1.0 and with_ends["nearest_training"] < 0.01
    table = scores.of_songs([*copies, describe("silence", np.zeros((RATE_HZ, 2)), RATE_HZ)], real, more)
    assert [row["nearest_recording"] for row in table] == ["more 2", "real 3", None]
    assert table[0]["nearest_distance"] < 0.01 and table[2]["silent"] == 1 and table[2]["tonality"] is None
    assert table[0]["tonality"] == copies[0].tonality and table[0]["rms_db"] == copies[0].loudness["rms_db"]


def test_held_out_music_says_what_songs_come_to_that_are_no_copies():
    real = [describe(f"real {i}", scale(i, 8, i), RATE_HZ) for i in range(5)]
    new = [describe("new", scale(i, 8, 50 + i), RATE_HZ) for i in range(5)]
    copies = [describe("copy", scale(i, 8, i), RATE_HZ) for i in range(5)]
    row, _ = scores.scores(copies, real, held_out=new)
    assert row["songs_held_out"] == 5
    assert (
        row["nearest_training"]
        < 0.01
        < 0.5
        < row["nearest_held_out"]
        == scores.scores(new, real)[0]["nearest_training"]
    )
    assert row["frechet_distance_held_out"] == scores.scores(copies, new)[0]["frechet_distance"]
    few, notes = scores.scores(copies, real, held_out=new[:2])
    assert few["frechet_distance_held_out"] is None and any(note.startswith("held out: ") for note in notes)
    assert "nearest_held_out" not in scores.scores(copies, real)[0]


def test_songs_that_are_all_alike_have_no_diversity():
    real = [describe(f"real {i}", scale(i, 4, i), RATE_HZ) for i in range(5)]
    one = describe("one", scale(0, 4, 9), RATE_HZ)
    assert scores.scores([one] * 4, real)[0]["diversity"] == pytest.approx(0, abs=1e-3)
    others = [describe("other", scale(i, 4, 20 + i), RATE_HZ) for i in range(5)]
    assert scores.scores(others, real)[0]["diversity"] == pytest.approx(1.0, abs=0.25)


def test_real_songs_that_are_all_one_tell_nothing_of_diversity():
    same = [describe("same", scale(0, 4, 1), RATE_HZ)] * 3
    row, notes = scores.scores([describe("other", scale(3, 4, 2), RATE_HZ)] * 2, same)
    assert row["diversity"] is row["copies"] is row["nearest_training"] is None
    assert any("repeat one another" in note for note in notes)


def test_distances_are_those_of_a_loop():
    songs = [np.random.default_rng(i).normal(size=(7 + i, 5)) for i in range(4)]
    expected = [
        np.mean([min(np.linalg.norm(window - other) for j, song in enumerate(songs) if j != i for other in song)
                 for window in songs[i]]) for i in range(4)
    ]  # fmt: skip
    assert_close(diversity.nearest_apart(songs), expected, rtol=1e-4)
    assert_close(diversity.nearest_apart(songs[:2], songs[2:]), expected[:2], rtol=1e-4)
    near = [songs[2] + 0.01, songs[0][3:] + 0.01, np.concatenate([songs[1], songs[3][:2]])]
    assert_close(diversity.nearest(near, songs)[1], [2, 0, 1])
    assert list(diversity.copies([0.4, 0.6], [1.0, 1.0])) == [True, False]


# Loudness


def test_loudness_is_that_of_a_sine():
    found = loudness.loudness(tone(1000, 4, level=0.5), RATE_HZ)
    assert found["peak_db"] == pytest.approx(-6.02, abs=0.01) and found["rms_db"] == pytest.approx(-9.03, abs=0.01)
    assert found["dynamics_db"] < 0.1 and found["clipped"] == 0
    louder = np.concatenate([tone(1000, 4, level=0.05), tone(1000, 4, level=0.5)])
    assert loudness.loudness(louder, RATE_HZ)["dynamics_db"] == pytest.approx(20, abs=0.1)
    clipped = np.clip(tone(100, 4, level=2.0), -1, 1)
    assert loudness.loudness(clipped, RATE_HZ)["clipped"] == pytest.approx(2 / 3, abs=0.01)
    scaled = loudness.loudness(0.7 * clipped, RATE_HZ, full_scale=0.7)
    assert scaled["clipped"] == pytest.approx(2 / 3, abs=0.01)
    assert loudness.loudness(noise(1), RATE_HZ)["dynamics_db"] is None


def test_levels_of_bands_are_those_of_a_sine():
    song = Song("tone", tone(1000, 3, level=0.5), RATE_HZ)
    levels = song.levels_db.mean(axis=0)
    # Power of a Hann window's main lobe: its noise bandwidth, 1.5 bins.
    assert levels.max() == pytest.approx(-6.02 + 10 * np.log10(1.5), abs=0.1)
    assert np.sort(levels)[-4] < -60
    silence = Song("none", np.zeros((RATE_HZ, 2)), RATE_HZ).levels_db
    assert_close(silence, np.full(silence.shape, FLOOR_DB))
    assert features(song).shape[1] == 36


# All of them


def test_means_over_a_set_are_weighted_as_they_should_be():
    """Tonality by seconds, hum by power: of a long tone and a short noise, of a loud hum and none."""
    songs = [describe("tone", tone(440, 6), RATE_HZ), describe("noise", noise(2), RATE_HZ)]
    row = scores.scores(songs, songs)[0]
    one, two = (song.tonality for song in songs)
    assert row["tonality_real"] == pytest.approx((6 * one + 2 * two) / 8, rel=1e-3)
    songs[0].hum_db, songs[1].hum_db = {"all": -3.0103}, {"all": -60.0}
    assert scores.scores(songs, songs)[0]["hum_db_real"] == pytest.approx(-6.02, abs=0.01)


def test_scores_of_two_sets_say_what_is_too_little(tmp_path):
    nothing = [describe("silence", np.zeros((RATE_HZ, 2), np.float32), RATE_HZ)]
    real = [describe("real", scale(0, 4), RATE_HZ, with_noise=True)]
    row, said = scores.scores(nothing, real)
    assert row["tonality_generated"] is None and row["frechet_distance"] is None and row["silent_generated"] == 1
    assert row["tonality_real"] > 0.2 and row["tonality_noised_real"] is not None
    for words in ("silent", "4 songs", "2 real songs", "12 s or more"):
        assert any(words in note for note in said), words
    scores.write(tmp_path, [row, {"step": 3}])
    first, second = csv.DictReader((tmp_path / "scores.csv").open())
    assert first["tonality_generated"] == "" and float(first["tonality_real"]) == row["tonality_real"]
    assert second["step"] == "3" and second["tonality_real"] == ""
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found[0] == row and "NaN" not in (tmp_path / "scores.json").read_text()


def test_a_score_that_is_not_a_number_is_a_defect_and_no_score():
    songs = [describe("song", scale(i, 4, i), RATE_HZ) for i in range(2)]
    songs[0].tonality = float("nan")
    with pytest.raises(ValueError, match="a score is nan"):
        scores.scores(songs, songs)


@pytest.mark.parametrize("samples", [1, 100, 300, *range(500, 4000, 500), 5000])
def test_very_short_sounds_are_described(samples):
    found = describe("short", noise(1)[:samples], RATE_HZ)
    assert np.isfinite(found.loudness["rms_db"]) and (found.tonality is None) == (samples < 256)
    mono = describe("mono", noise(1)[:, :1], RATE_HZ)
    assert mono.tonality is not None and mono.features.shape[1] == 36
