"""`python -m mp3net.figures`: what is drawn against what is known of the sounds, and what cannot be drawn."""

import json
import math
import os
import struct
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
import soundfile
from helpers import assert_close, assert_told, command

if os.environ.get("MP3NET_REQUIRE_ALL") != "1":
    pytest.importorskip("matplotlib", reason="package missing: matplotlib: pip install 'mp3net[plots]'")

from mp3net import figures
from mp3net.errors import UsageError, UserError
from mp3net.evaluation import drawing, log, plots, views

RATE_HZ, BANDS = 8000, 64


def sine(hz, level=0.5, seconds=1.0, rate_hz=RATE_HZ):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def amplitudes_of(wave):
    return views.amplitudes(wave, BANDS)


def write(path, wave, rate_hz=RATE_HZ, **options):
    soundfile.write(path, wave, rate_hz, **options)
    return path


@pytest.fixture
def recording(tmp_path):
    return write(tmp_path / "tone.wav", np.stack([sine(1000), sine(1000)], axis=1))


def run(*arguments):
    return figures.main([str(argument) for argument in arguments])


def shown(axes):
    """The picture in some axes, lowest row first, and the Hz and the seconds at the middle of its rows and columns."""
    (image,) = axes.images
    values = np.asarray(image.get_array())
    left_s, right_s, low_hz, high_hz = image.get_extent()
    assert image.origin == "lower" and high_hz > low_hz and right_s > left_s
    middle = [(np.arange(size) + 0.5) / size for size in values.shape]
    return values, low_hz + middle[0] * (high_hz - low_hz), left_s + middle[1] * (right_s - left_s)


def pictures(figure):
    return [axes for axes in figure.axes if axes.images]


def lines(axes):
    """The lines of figure 2 that are drawn point by point, by colour."""
    return {line.get_color(): line.get_data() for line in axes.lines}


def logged(folder, rows):
    folder.mkdir(exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    return folder


# Figure 1.


def test_a_tone_is_brightest_at_its_frequency_on_the_axis():
    for draw in (plots.spectrogram, plots.amplitudes):
        values, rows_hz, _ = shown(pictures(draw(amplitudes_of(sine(1000)), RATE_HZ))[-1])
        assert abs(rows_hz[values.mean(axis=1).argmax()] - 1000) <= RATE_HZ / 2 / BANDS / 2


def test_a_click_is_brightest_at_its_second_on_the_axis():
    wave = np.zeros(RATE_HZ)
    wave[round(0.7 * RATE_HZ)] = 0.9
    axes = pictures(plots.spectrogram(amplitudes_of(wave), RATE_HZ, start_s=20))[0]
    values, _, columns_s = shown(axes)
    assert abs(columns_s[values.mean(axis=0).argmax()] - 20.7) < BANDS / RATE_HZ
    assert_close(axes.get_xlim(), (20, 21))


def test_levels_of_the_spectrogram_are_those_of_equation_2():
    """One block, by the sum as the paper prints it, at the scale that the MDCT here states."""
    wave = np.random.default_rng(1).uniform(-1, 1, 3 * 8)
    values, _, _ = shown(pictures(plots.spectrogram(views.amplitudes(wave, 8), 1000))[0])
    for k in range(8):
        total = sum(
            wave[8 + n]
            * math.sin(math.pi / 2 * math.sin(math.pi / 16 * (n + 0.5)) ** 2)
            * math.cos(math.pi / 8 * (n + 0.5 + 4) * (k + 0.5))
            for n in range(16)
        )
        assert values[k, 1] == pytest.approx(20 * math.log10(abs(total) / math.sqrt(2) / 8), abs=1e-3)


def test_negative_amplitudes_are_dark_and_positive_ones_light_by_their_level():
    amplitudes = np.full((6, 4), 1e-9)
    amplitudes[1, 2], amplitudes[3, 0], amplitudes[4, 0] = -0.1, 0.1, 0.001
    axes = pictures(plots.amplitudes(amplitudes, RATE_HZ))[0]
    values, _, _ = shown(axes)
    (image,) = axes.images
    grey = image.cmap(image.norm(values))[..., 0]
    assert grey[2, 1] < 0.3 and grey[0, 3] > 0.7 and grey[1, 1] == pytest.approx(0.5, abs=0.01)
    assert grey[0, 3] + grey[2, 1] == pytest.approx(1, abs=0.01)
    assert values[0, 3] - values[0, 4] == pytest.approx(40)  # 0.1 and 0.001, in dB


def test_more_blocks_than_pixels_are_drawn_together_and_nothing_strong_is_lost():
    amplitudes = np.zeros((4700, 4))
    amplitudes[4000, 1], amplitudes[4001, 1] = -0.5, 0.2
    upper, lower = pictures(plots.amplitudes(amplitudes, RATE_HZ))
    for axes in (upper, lower):
        values, _, columns_s = shown(axes)
        assert values.shape[1] < 2500
        at = columns_s[np.abs(values[1] - np.median(values)).argmax()]
        assert at == pytest.approx(4001 * 4 / RATE_HZ, abs=3 * 4 / RATE_HZ)
    values, _, _ = shown(upper)
    assert values.min() < -80 and values.max() == 0
    values, _, _ = shown(lower)
    assert values.max() == pytest.approx(10 * math.log10((0.25 + 0.04) / 3))


def test_axes_say_hz_seconds_and_db():
    amplitudes = views.amplitudes(sine(1000), BANDS)
    for figure in (
        plots.spectrogram(amplitudes, RATE_HZ),
        plots.amplitudes(amplitudes, RATE_HZ),
        plots.reduced(amplitudes, RATE_HZ, 2),
    ):
        drawn = pictures(figure)
        assert all("(Hz)" in axes.get_ylabel() for axes in drawn) and "(s)" in drawn[-1].get_xlabel()
        bars = [axes for axes in figure.axes if not axes.images]
        assert bars and all("dB" in axes.get_ylabel() for axes in bars)
        figure.draw_without_rendering()
        ticks = [label.get_text() for label in drawn[0].get_yticklabels()]
        assert "1,000" in ticks, ticks


# Figure 2.


def plain_masking_db(block, rate_hz, bark_bands=24, alpha=0.6):
    """Equations 10 to 13 in plain loops, dB SPL of each Bark band; 120 dB is an amplitude of 1."""
    bands, top_bark = len(block), 6 * math.asinh(rate_hz / 2 / 600)
    edges_hz = [600 * math.sinh(top_bark * j / bark_bands / 6) for j in range(bark_bands + 1)]
    centres = [top_bark * (j + 0.5) / bark_bands for j in range(bark_bands)]
    width = rate_hz / 2 / bands
    powers = [max(float(a) ** 2, 1e-14) for a in block]
    flatness = math.exp(sum(map(math.log, powers)) / bands) / (sum(powers) / bands)
    tau = min(1.0, 10 / -60 * math.log10(flatness))
    bark_powers = [
        sum(
            float(block[k]) ** 2 * max(0.0, min((k + 1) * width, edges_hz[j + 1]) - max(k * width, edges_hz[j])) / width
            for k in range(bands)
        )
        for j in range(bark_bands)
    ]
    found = []
    for j in range(bark_bands):
        total = 0.0
        for i in range(bark_bands):
            shifted = centres[j] - centres[i] + 0.474
            spread_db = 15.81 + 7.5 * shifted - 17.5 * math.sqrt(1 + shifted**2)
            offset_db = tau * (14.5 + centres[j]) + (1 - tau) * 5.5
            total += bark_powers[i] ** alpha * 10 ** (alpha / 10 * (spread_db - offset_db))
        found.append(120 + 10 / alpha * math.log10(total))
    return np.array(found), edges_hz, bark_powers


def test_the_masking_threshold_drawn_is_equation_10():
    block = views.tones(32768, 1024)
    (axes,) = plots.masking(views.masking(block, 32768)).axes
    region, line, bark_levels = axes.patches
    expected_db, edges_hz, bark_powers = plain_masking_db(block, 32768)
    visible = expected_db > -40  # the rest is below the picture
    assert visible.sum() > 15
    for steps in (region, line):
        assert_close(steps.get_data().values[visible], expected_db[visible], rtol=0, atol=0.02)
        assert_close(steps.get_data().edges[1:], edges_hz[1:], rtol=1e-9)
    assert_close(bark_levels.get_data().values[:10], 120 + 10 * np.log10(bark_powers[:10]), rtol=0, atol=0.01)


def test_the_quiet_threshold_drawn_is_equation_9():
    (axes,) = plots.masking(views.masking(views.tones(32768, 1024), 32768)).axes
    frequency_hz, level_db = next(line.get_data() for line in axes.lines if line.get_linestyle() == "--")
    assert frequency_hz[0] == pytest.approx(20) and frequency_hz[-1] == pytest.approx(16384)
    f = np.asarray(frequency_hz) / 1000
    expected = 3.64 * f**-0.8 - 6.5 * np.exp(-0.6 * (f - 3.3) ** 2) + 1e-3 * f**4
    assert_close(level_db, expected, rtol=1e-9)
    edge = axes.collections[0].get_paths()[0].vertices  # of what is shaded green
    for hz, db in zip(frequency_hz[::50], expected[::50], strict=True):
        assert np.abs(edge - (hz, db)).max(axis=1).min() < 1e-6


def test_the_tone_and_its_harmonics_have_their_levels_and_the_first_harmonic_alone_is_masked():
    drawn = plots.masking(views.masking(views.tones(32768, 1024), 32768), [hz for hz, _ in views.TONES]).axes[0]
    frequency_hz, level_db = lines(drawn)["#0072b2"]
    region = drawn.patches[0].get_data()
    heard = []
    for hz in (440, 880, 1320, 1760):
        peak_db = level_db[np.abs(frequency_hz - hz) < 50].max()
        band = next(j for j in range(24) if region.edges[j] <= hz < region.edges[j + 1])
        heard.append(peak_db > region.values[band])
        stated = dict(views.TONES)[hz]
        assert stated - 3.5 < peak_db < stated + 0.5  # the window spreads a tone over a few bands
        quiet_db = 3.64 * (hz / 1000) ** -0.8
        assert peak_db > quiet_db  # masked, not merely quiet
    assert heard == [True, False, True, True]
    texts = [text.get_text() for text in drawn.texts]
    assert texts == ["440 Hz", "880 Hz\nmasked", "1,320 Hz", "1,760 Hz"]


def test_regions_have_the_papers_colours_and_the_axes_their_units():
    axes = plots.masking(views.masking(views.tones(32768, 1024), 32768)).axes[0]
    red, green, blue, _ = axes.patches[0].get_facecolor()
    assert min(red, green) > blue + 0.2  # yellow
    red, green, blue, _ = axes.collections[0].get_facecolor()[0]
    assert green > max(red, blue) + 0.1
    assert axes.collections[0].get_zorder() >= axes.patches[0].get_zorder()
    assert axes.get_xscale() == "log" and "Hz" in axes.get_xlabel() and "dB SPL" in axes.get_ylabel()


def test_a_full_scale_sine_is_at_111_db_whatever_the_number_of_bands():
    """120 dB is an amplitude of 1; a sine's power is 3 dB less, and a block's amplitudes hold a quarter of it."""
    for bands in (256, 1024):
        power = np.square(views.amplitudes(sine(3000, 1.0, 4, 32768), bands)).mean(axis=0)
        found = views.masking(np.sqrt(power), 32768)
        whole_db = 10 * np.log10(np.sum(10 ** (found.bark_level_db / 10)))
        assert whole_db == pytest.approx(120 - 3.01 - 6.02, abs=0.05)


def test_the_block_at_a_second_is_read_about_it(tmp_path):
    wave = np.concatenate([sine(500), sine(2000, 0.1), sine(1000, seconds=0.5)])
    path = write(tmp_path / "three.wav", wave)
    for at_s, hz in ((0, 500), (0.98, 500), (1.5, 2000), (2.2, 1000), (2.499, 1000)):
        part = views.block(path, at_s, 256)
        assert len(part.waveform) == 512
        if 0 < at_s < 2.4:
            assert part.start_s == pytest.approx(at_s - 256 / RATE_HZ)
        found = views.masking(amplitudes := views.amplitudes(part.waveform, 256)[0], RATE_HZ)
        assert len(amplitudes) == 256
        assert found.frequency_hz[found.level_db.argmax()] == pytest.approx(hz, abs=RATE_HZ / 512)
    with pytest.raises(UserError, match=r"ends at 2\.50 s"):
        views.block(path, 2.5, 256)


# Figure 5.


def test_tonality_is_drawn_left_generated_right_real_on_one_scale(tmp_path):
    rows = [{"step": step, "d_loss": 1.0} for step in (10, 20)]
    rows += [{"step": 30, "tonality_generated": 0.1, "tonality_real": 0.72}, {"step": 40, "d_loss": 2.0}]
    rows += [{"step": 50, "tonality_generated": 0.4, "tonality_real": 0.73}, {"step": 60, "tonality_real": 0.725}]
    rows += [{"step": 70, "tonality_generated": math.nan, "tonality_real": 0.7}]
    figure = plots.tonality(views.tonality(logged(tmp_path / "run", rows)))
    left, right = figure.axes
    assert_close(left.lines[0].get_data(), [[30, 50], [0.1, 0.4]])
    assert_close(right.lines[0].get_data(), [[30, 50, 60, 70], [0.72, 0.73, 0.725, 0.7]])
    assert "generated" in left.get_title() and "real" in right.get_title()
    assert left.get_ylim() == right.get_ylim() and 0 <= left.get_ylim()[0] < 0.1 and 0.73 < left.get_ylim()[1] <= 1
    assert "tonality" in left.get_ylabel() and "iteration" in left.get_xlabel()


def test_a_flat_curve_and_a_single_row_have_sensible_limits(tmp_path):
    for value in (0.0, 0.72, 1.0):
        row = {"step": 5, "tonality_real": value}
        left, right = plots.tonality(views.tonality(logged(tmp_path / "run", [row]))).axes
        low, high = right.get_ylim()
        assert 0 <= low <= value <= high <= 1 and (0.19 if 0 < value < 1 else 0.04) < high - low <= 0.26
        assert "none" in left.texts[0].get_text() and not right.texts


def test_a_last_line_without_its_end_is_left_out_and_told(tmp_path):
    folder = logged(tmp_path / "run", [{"step": 1, "tonality_real": 0.5}])
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "tonality_re')
    found = views.tonality(folder)
    assert_close(found.real, [[1], [0.5]])
    assert "not complete" in found.warnings[0]


@pytest.mark.parametrize(
    "line",
    ["{", "7", "[1]", "null", '{"tonality_real": 0.5}', '{"step": "2"}', '{"step": 2, "tonality_real": "high"}', "\0",
     '{"step": 2, "tonality_real": null}', '{"step": NaN}', '{"step": 1e999}', '{"step": 1' + "0" * 400 + "}",
     "[" * 100_000],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line):
    folder = logged(tmp_path / "run", [{"step": 1, "tonality_real": 0.5}, line, {"step": 3, "tonality_real": 0.5}])
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: damaged"):
        views.tonality(folder)


def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path):
    folder = logged(tmp_path / "run", [])
    (folder / "metrics.jsonl").write_bytes(b'{"step": "\xff"}\n')
    with pytest.raises(UserError, match="line 1: damaged"):
        views.tonality(folder)


def test_a_log_without_tonality_says_what_to_do(tmp_path):
    for rows in ([], [{"step": 1, "d_loss": 2.0}], [{"step": 1, "tonality_real": math.nan}]):
        with pytest.raises(UserError, match=r"This run's log, .*, has no tonality.*train.preview_every_minutes"):
            views.tonality(logged(tmp_path / "run", rows))


def test_a_folder_without_a_log_a_file_and_nothing_are_told(tmp_path):
    with pytest.raises(UserError, match=r"has no metrics\.jsonl"):
        views.tonality(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        views.tonality(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        views.tonality(tmp_path / "file")


def test_curves_are_drawn_a_panel_each(tmp_path, capsys):
    rows = [{"step": step, "wasserstein": step / 10, "drift": 2.0} for step in range(10, 60, 10)]
    folder = logged(tmp_path / "run", [*rows, {"step": 60, "diversity": 0.5}])
    found, warnings = log.curves(folder, ("wasserstein", "diversity", "nothing", "drift"))
    assert_close(found["wasserstein"], [[10, 20, 30, 40, 50], [1, 2, 3, 4, 5]])
    assert_close(found["diversity"], [[60], [0.5]])
    assert warnings == [] and len(found["nothing"][0]) == 0
    axes = plots.curves(found).axes
    assert [each.get_title() for each in axes[:4]] == ["wasserstein", "diversity", "nothing", "drift"]
    assert_close(axes[0].lines[1].get_data(), found["wasserstein"])
    assert "none" in axes[2].texts[0].get_text() and not axes[4].axison
    assert run("--figure", "curves", "--workdir", folder, "--out", tmp_path) == 0
    assert read_png(tmp_path / "curves.png")[0] > 1500 and "5 rows of" in capsys.readouterr().out


# Figure 6.


def test_folding_by_hand():
    one = [1, 2, 3, 4, 10, 20, -30, 50]
    assert_close(views.fold_octaves(one, 0), one)
    # (10 + 20) / 2 = 15 onto 3, (-30 + 50) / 2 = 10 onto 4; then (18 + 14) / 2 = 16 onto 2.
    assert_close(views.fold_octaves(one, 1), [1, 2, 18, 14])
    assert_close(views.fold_octaves(one, 2), [1, 18])
    # Turned round: 3.5 onto 20, 1.5 onto 10; then 17.5 onto -30.
    assert_close(views.fold_octaves([one, one[::-1]], 2), [[1, 18], [50, -12.5]])


def test_opposite_neighbours_cancel_and_signs_stay():
    """Amplitudes are folded, not powers: section 6."""
    assert_close(views.fold_octaves([0, 0, 0, 0, 1, -1, -2, -4], 1), [0, 0, 0, -3])


def test_bands_that_do_not_halve_are_refused():
    for bands, octaves in ((6, 1), (8, 3), (128, 7), (8, -1)):
        with pytest.raises(ValueError, match="folded"):
            views.fold_octaves(np.zeros(bands), octaves)


@pytest.mark.parametrize(
    "hz, octaves, expected_hz", [(3000, 1, 1500), (3000, 2, 750), (1500, 1, 1500), (2500, 3, 312.5)]
)
def test_a_tone_of_a_folded_octave_lies_as_many_octaves_lower(hz, octaves, expected_hz):
    # 1,500 Hz lies below the highest octave, 2 to 4 kHz. 2,500 Hz lies in bands of 15.6 Hz.
    figure = plots.reduced(views.amplitudes(sine(hz), 256), RATE_HZ, octaves)
    plain, reduced = pictures(figure)
    values, rows_hz, _ = shown(plain)
    assert abs(rows_hz[values.mean(axis=1).argmax()] - hz) <= 16
    values, rows_hz, columns_s = shown(reduced)
    assert values.shape[0] == 256 / 2**octaves and rows_hz[-1] < RATE_HZ / 2 / 2**octaves
    assert abs(rows_hz[values.mean(axis=1).argmax()] - expected_hz) <= 16
    assert columns_s[-1] == pytest.approx(1, abs=0.1)
    assert plain.images[0].get_clim() == reduced.images[0].get_clim()


def test_harmonics_lie_on_their_fundamental():
    """440 Hz with all its octaves: most of the power is where the fundamental is."""
    wave = sum(sine(440 * 2**i, 0.2) for i in range(4))
    power = np.square(views.fold_octaves(views.amplitudes(wave, 256), 3)).mean(axis=0)
    assert power[440 // 16 - 2 : 440 // 16 + 3].sum() > 0.98 * power.sum()


def test_default_folding_leaves_128_bands_up_to_about_1400_hz():
    for rate_hz, bands, octaves in ((22_016, 1024, 3), (44_100, 2048, 4), (48_000, 2048, 4), (8000, 512, 2)):
        assert figures._folding(rate_hz, None, None) == (bands, octaves)
    assert figures._folding(44_100, 24, None) == (24, 2)
    assert figures._folding(44_100, None, 2) == (512, 2)
    with pytest.raises(UsageError, match="multiple of 16"):
        figures._folding(44_100, 24, 3)


# Files, and the command.


def test_a_song_in_parts_is_alike_where_it_comes_back(tmp_path, capsys):
    parts = {name: sine(hz, seconds=5.0) for name, hz in (("a", 220), ("b", 3000))}
    song = np.concatenate([parts[name] for name in "abab"])
    similarity, window_s = views.self_similarity(song, RATE_HZ)
    at = lambda first_s, other_s: similarity[round(first_s / window_s), round(other_s / window_s)]  # noqa: E731
    assert len(similarity) * window_s == pytest.approx(20.0 - 1.0, abs=0.5)  # a window is of a second
    assert at(2, 2) == pytest.approx(1.0) and at(2, 12) > 0.99 and at(7, 17) > 0.99
    assert max(at(2, 7), at(12, 7), at(2, 17)) < 0
    figure = plots.self_similarity([("song", similarity, window_s)])
    axes = figure.axes[0]
    assert axes.images[0].get_extent() == [0, len(similarity) * window_s] * 2 and axes.get_xlabel() == "time (s)"
    np.testing.assert_array_equal(axes.images[0].get_array(), similarity)

    for name in ("first", "second"):
        write(tmp_path / f"{name}.wav", song)
    beside = ("--beside", tmp_path / "second.wav")
    assert run("--figure", "similarity", "--audio", tmp_path / "first.wav", *beside, "--out", tmp_path) == 0
    assert read_png(tmp_path / "similarity.png")[0] > 1200
    said = capsys.readouterr().out
    assert "first.wav, 20.00 s" in said and "second.wav, 20.00 s" in said


def read_png(path):
    """Width and height that a PNG holds, after a look at its chunks."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def test_files_come_out_as_png_svg_and_pdf_the_same_each_time(recording, tmp_path):
    run("--figure", 1, "--audio", recording, "--out", tmp_path / "new" / "one.png")
    width, height = read_png(tmp_path / "new" / "one.png")
    assert width > 1500 and height > 900
    run("--figure", 1, "--audio", recording, "--out", tmp_path / "new" / "half.png", "--dpi", 75)
    assert read_png(tmp_path / "new" / "half.png") == (width / 2, height / 2)
    for again in ("a", "b"):
        run("--figure", 6, 2, "--audio", recording, "--out", tmp_path / again, "--format", "svg")
        run("--figure", 2, "--out", tmp_path / again / "two.pdf")
    assert sorted(os.listdir(tmp_path / "a")) == ["figure2.svg", "figure6.svg", "two.pdf"]
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = "".join(xml.etree.ElementTree.parse(tmp_path / "a" / "figure2.svg").getroot().itertext())
    assert "dB SPL" in text and "880 Hz" in text
    assert (tmp_path / "a" / "two.pdf").read_bytes()[:5] == b"%PDF-"


def test_the_screen_says_what_is_shown_and_only_that_is_read(tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "long.wav", np.tile(sine(1000)[:, None], (50, 2)))
    read = []
    crop = views.files.read_crop
    monkeypatch.setattr(views.files, "read_crop", lambda *a: read.append(a[1:3]) or crop(*a))
    run("--figure", 1, "--audio", path, "--out", tmp_path)
    assert "0.00 to 30.00 s of 50.00 s, 2 channels averaged, 128 bands at 8000 Hz" in capsys.readouterr().out
    run("--figure", 1, "--audio", path, "--start", 45.5, "--rate", 4000, "--bands", 32, "--out", tmp_path)
    assert "45.50 to 50.00 s of 50.00 s, 2 channels averaged, 32 bands at 4000 Hz" in capsys.readouterr().out
    assert read == [(0, 30 * 8000), (182_000, 18_000)]


def test_channels_are_averaged(tmp_path):
    path = write(tmp_path / "two.wav", np.stack([sine(1000, 0.5), sine(1000, 0.1)], axis=1), subtype="FLOAT")
    assert_close(views.excerpt(path, 0, 1, BANDS).waveform, sine(1000, 0.3), atol=1e-6)


def test_silent_and_clipped_recordings_are_drawn_with_a_warning(tmp_path, capsys):
    silent = write(tmp_path / "silent.wav", np.zeros(RATE_HZ))
    opposite = write(tmp_path / "opposite.wav", np.stack([sine(500), -sine(500)], axis=1))
    clipped = write(tmp_path / "clipped.wav", np.clip(sine(500, 4.0), -1, 1))
    clean = write(tmp_path / "clean.wav", sine(500))
    for path, words in (
        (silent, "silent: nothing"),
        (opposite, "averaged: nothing"),
        (clipped, "clipped"),
        (clean, ""),
    ):
        assert run("--figure", 1, 6, "--audio", path, "--out", tmp_path) == 0
        said = capsys.readouterr().out
        assert words in said and ("WARNING" in said) == bool(words)
    (image,) = pictures(plots.spectrogram(amplitudes_of(np.zeros(RATE_HZ)), RATE_HZ))[0].images
    assert np.max(image.norm(image.get_array())) <= 0  # the darkest colour
    plots.masking(views.masking(np.zeros(1024), 44_100)).draw_without_rendering()


@pytest.mark.parametrize("rate_hz, channels", [(8000, 1), (11_025, 2), (44_100, 3), (96_000, 1)])
def test_any_rate_and_any_channels(tmp_path, rate_hz, channels):
    wave = np.tile(sine(1000, rate_hz=rate_hz)[:, None], (1, channels))
    path = write(tmp_path / "any.wav", wave, rate_hz)
    for rate_out_hz in (None, 16_000):
        part = views.excerpt(path, 0.25, 0.5, 256, rate_out_hz)
        values, rows_hz, columns_s = shown(
            pictures(plots.spectrogram(views.amplitudes(part.waveform, 256), part.rate_hz, part.start_s))[0]
        )
        assert rows_hz[values.mean(axis=1).argmax()] == pytest.approx(1000, abs=part.rate_hz / 512)
        assert 0.25 < columns_s[0] < columns_s[-1] < 0.75
    assert run("--figure", 1, 2, 6, "--audio", path, "--at", 0.5, "--bands", 128, "--out", tmp_path) == 0


def test_what_cannot_be_drawn_is_told_in_a_line(tmp_path):
    short = write(tmp_path / "short.wav", sine(500)[:200])
    nan = write(tmp_path / "nan.wav", np.full(RATE_HZ, np.nan), subtype="FLOAT")
    cut = write(tmp_path / "cut.wav", sine(500))
    cut.write_bytes(cut.read_bytes()[:1000])
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    good = write(tmp_path / "good.wav", sine(500))
    for arguments, words in (
        ([1, "--audio", tmp_path], "Is a directory"),
        ([1, "--audio", tmp_path / "nowhere.wav"], "does not exist"),
        ([6, "--audio", tmp_path / "nowhere.wav"], "does not exist"),
        ([2, "--audio", tmp_path / "nowhere.wav", "--at", 0], "does not exist"),
        ([1, "--audio", tmp_path / "text.wav"], "not audio"),
        ([1, "--audio", tmp_path / "empty.wav"], "zero bytes"),
        ([1, "--audio", cut], "cut short"),
        ([1, "--audio", nan], "not a number"),
        ([1, "--audio", short], "too short: 200 samples"),
        ([6, "--audio", short], "too short"),
        ([2, "--audio", short, "--at", 0], "too short"),
        ([1, "--audio", good, "--seconds", 0.001], "too short: 8 samples"),
        ([1, "--audio", good, "--start", 1], "ends at 1.00 s"),
        ([2, "--audio", good, "--at", 7], "ends at 1.00 s"),
        (["similarity", "--audio", good], "takes 3 s"),
        ([5, "--workdir", tmp_path], "has no metrics.jsonl"),
        ([1, "--audio", good, "--out", good / "below"], "cannot be made"),
    ):
        with pytest.raises(UserError, match=words) as told:
            run("--figure", *arguments, *([] if "--out" in arguments else ["--out", tmp_path / "out"]))
        assert not isinstance(told.value, UsageError) and "\n" not in str(told.value)
    assert not any(files for _, _, files in os.walk(tmp_path / "out"))
    assert run("--figure", 1, "--audio", short, "--bands", 32, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("3", "describe"), ("4", "describe"), ("7", "1, 2, 5 and 6"), ("0", "1, 2, 5 and 6"),
        ("likeness", "similarity and curves"),
        ("similarity", "add --audio"), ("1 --audio a --beside b", "--beside is of figure similarity"),
        ("similarity --audio a --beside b c d e", "3 recordings at most"),
        ("1", "add --audio"), ("6", "add --audio"), ("5", "add --workdir"),
        ("2 --at 1", "add --audio"), ("2 --audio a.wav", "add --at"),
        ("2 --seconds 3", "--seconds is of figures 1, 6 and similarity"),
        ("1 --audio a --octaves 2", "--octaves is of figure 6"),
        ("5 --workdir r --audio a", "--audio is of figures 1, 2, 6 and similarity"),
        ("1 --audio a --workdir r", "of figures 5 and curves"), ("curves", "add --workdir"),
        ("1 --audio a --at 1", "--at is of figure 2"),
        ("1 --audio a --start -1", "--start -1: it must be at least 0"), ("1 --audio a --start nan", "--start nan"),
        ("1 --audio a --start inf", "--start inf"), ("1 --audio a --seconds 0", "above 0 and at most 600"),
        ("1 --audio a --seconds 601", "at most 600"), ("1 --audio a --bands 7", "at least 8"),
        ("1 --audio a --bands 5000", "at most 4096"), ("1 --audio a --rate 999", "at least 1000"),
        ("6 --audio a --octaves 0", "at least 1"), ("6 --audio a --octaves 12", "at most 11"),
        ("6 --audio a --rate 8000 --octaves 3 --bands 24", "multiple of 16"),
        ("2 --rate 1000", "4000 Hz"), ("2 --at nan --audio a", "--at nan"),
        ("1 2 --audio a --out a.png", "one file"), ("2 --out a.jpg", ".jpg cannot be written"),
        ("2 --out a.svg --format png", "not both"), ("2 --dpi 10", "at least 30"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit_are_told(arguments, words):
    with pytest.raises(UsageError) as told:
        run("--figure", *arguments.split())
    assert words in str(told.value)


def test_without_matplotlib_the_error_says_what_to_install(recording, monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mp3net\[plots\]'"):
        run("--figure", 1, "--audio", recording)
    with pytest.raises(UserError, match=r"pip install 'mp3net\[plots\]'"):
        plots.spectrogram(np.zeros((4, 4)), RATE_HZ)


def test_the_command_in_a_process_of_its_own(recording, tmp_path):
    """Without a display, beside a name that matplotlib would read as a formula."""
    odd = write(tmp_path / "odd $_{$ \N{MUSICAL SYMBOL G CLEF}.wav", sine(500))
    hidden = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = command("figures", "--figure", 1, 6, "--audio", odd, "--out", tmp_path / "out", env=hidden)
    assert done.returncode == 0 and "Glyph" not in done.stderr and len(done.stdout.splitlines()) == 2, done.stderr
    assert_told(command("figures", "--figure", 1, "--audio", tmp_path), 1, "Is a directory")
    assert_told(command("figures", "--figure", 9), 2, "--figure 9")


def test_figure_5_needs_no_tensorflow_and_figures_open_no_window(tmp_path):
    folder = logged(tmp_path / "run", [{"step": 5, "tonality_real": 0.7}])
    script = (
        "import sys; sys.modules['tensorflow'] = None; from mp3net import figures; "
        f"figures.main(['--figure', '5', '--workdir', {str(folder)!r}, '--out', {str(tmp_path)!r}]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert read_png(tmp_path / "figure5.png")


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "taken.png").mkdir()
    figure = plots.spectrogram(amplitudes_of(sine(500)), RATE_HZ)
    with pytest.raises(OSError, match="taken"):
        drawing.save(figure, str(tmp_path / "taken.png"))
    assert os.listdir(tmp_path) == ["taken.png"]
