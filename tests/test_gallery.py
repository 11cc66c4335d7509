"""`python -m mp3net.gallery`: the page, its pictures and sounds, wrong input; in Chromium, that it plays and fits."""

import base64
import html
import io
import json
import os
import re
import shutil
import struct
import subprocess
import time
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import TINY, assert_close, assert_told, command, tones, write_corpus

from mp3net import configuration, gallery, systems
from mp3net.audio import bark
from mp3net.audio.mdct import MDCT
from mp3net.errors import UsageError, UserError
from mp3net.evaluation import exhibits, page, pictures
from mp3net.training import checkpoints

RATE_HZ = 8000


def run(*arguments):
    return gallery.main([str(argument) for argument in arguments])


# Pictures


def test_a_sine_is_where_and_as_loud_as_it_says():
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    sine = np.sin(2 * np.pi * 500 * time_s)[:, None]
    level_db = pictures.levels_db(sine, RATE_HZ)
    assert level_db.shape == (160, 800)
    place = (np.argmax(level_db[:, 400]) + 0.5) / 160
    assert place == pytest.approx(bark.hz_to_bark(500) / bark.hz_to_bark(RATE_HZ / 2), abs=1 / 160)
    assert -4 < level_db[:, 400].max() < 0.5  # two bins share it
    quiet_db = pictures.levels_db(sine / 100, RATE_HZ)
    assert level_db[:, 400].max() - quiet_db[:, 400].max() == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize("seconds", [0.05, 1.5, 20, 95])
def test_a_click_is_at_its_moment_however_long_the_song(seconds):
    song = np.zeros((round(seconds * RATE_HZ), 2), np.float32)
    song[round(0.75 * len(song))] = 1
    loudest = np.argmax(pictures.levels_db(song, RATE_HZ).sum(axis=0))
    assert loudest / 800 == pytest.approx(0.75, abs=0.02)


def test_axes_have_few_round_ticks():
    for seconds in (0.06, 1.48, 5.95, 95.25, 600, 7200):
        ticks = pictures.Picture(b"", seconds, 11008).ticks_s
        assert ticks[0] == (0, 0) and (len(ticks) <= 7 or seconds > 3600)
        assert seconds < 0.1 or len(ticks) >= 2
        assert all(share == pytest.approx(at / seconds) and share < 1 for at, share in ticks)
    assert [hz for hz, _ in pictures.Picture(b"", 1, 11008).ticks_hz] == [200, 500, 1000, 2000, 5000]


def test_a_png_holds_its_pixels():
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = pictures.png(indices, pictures.palette())
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        chunks[kind] = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + chunks[kind])
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (4, 3, 8, 3, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, 5)
    assert_close(rows[:, 1:], indices)
    lightness = pictures.palette() @ [0.3, 0.6, 0.1]
    assert (np.diff(lightness) > 0).all()  # louder is lighter, without exception


# Sounds and scores


@pytest.mark.parametrize("format, rate_hz", [("ogg", 22016), ("mp3", 22050)])
def test_a_sound_is_what_was_encoded(format, rate_hz):
    song = tones(20, 22016)
    content, media_type = exhibits.encode(song, 22016, format)
    heard, heard_hz = soundfile.read(io.BytesIO(content))
    assert (heard_hz, media_type) == (rate_hz, {"ogg": "audio/ogg", "mp3": "audio/mpeg"}[format])
    assert len(heard) / heard_hz == pytest.approx(20, abs=0.05) and len(content) < 350_000
    there, back = (pictures.levels_db(each, hz) for each, hz in ((song, 22016), (heard, heard_hz)))
    loud = there > -50
    assert loud.sum() > 1000 and np.median(np.abs(there - back)[loud]) < 1


def test_scores_of_a_sine():
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)[:, None]
    shown = exhibits.exhibit("A", "", sine, RATE_HZ, 32)
    scores = dict(shown.song.scores)
    assert scores["peak"] == "−6.0 dB" and scores["RMS"] == "−9.0 dB" and shown.song.warnings == ()
    assert float(scores["tonality"]) == pytest.approx(shown.tonality, abs=1e-3) and shown.tonality > 0.6
    short = exhibits.exhibit("A", "", sine[: 100 * 32], RATE_HZ, 32)
    assert dict(short.song.scores)["hum"] == "none"  # 100 blocks are too few to tell


def test_a_hum_is_among_the_scores():
    blocks, bands = 1024, 32
    amplitudes = np.random.default_rng(0).normal(0, 0.01, (1, blocks, bands, 1)).astype(np.float32)
    amplitudes[:, ::4] += 0.03  # pulses: 2.25 parts of energy in 3.25, and three quarters of them are not their mean
    song = MDCT(bands).inverse(tf.constant(amplitudes))[0, bands:-bands].numpy()
    scores = dict(exhibits.exhibit("A", "", song, RATE_HZ, bands).song.scores)
    assert float(scores["hum"].removesuffix(" dB").replace("−", "-")) == pytest.approx(-2.8, abs=0.8)


@pytest.mark.parametrize(
    "song, word",
    [
        (np.zeros((1000, 2)), "Silent"),
        (np.full((1000, 2), np.nan), "Not a number anywhere"),
        (np.where(np.arange(2000).reshape(1000, 2) == 7, np.inf, 0.5), "1 samples are not a number"),
        (3 * tones(1, RATE_HZ) / 0.3, "Clipped"),
        (np.full((3, 2), 0.5), None),  # shorter than a block
    ],
)
def test_songs_nobody_wants_are_shown_with_a_warning(song, word):
    shown = exhibits.exhibit("A", "", song, RATE_HZ, 32)
    assert len(shown.song.sound) > 100 and len(shown.song.picture.png) > 100
    assert word in " ".join(shown.song.warnings) if word else shown.song.warnings == ()
    assert (shown.tonality is None) == (word != "Clipped")
    text = page.text_of(page.Page("t", "", (page.Group("g", "", (shown.song,)),))).split("<main>")[1]
    assert not re.search(r"\b(nan|inf)\b", re.sub(r'"data:[^"]*"', "", text))


# The page


def test_whatever_comes_from_outside_is_escaped():
    evil = '"><script>alert(1)</script>$title&'
    song = page.Song(evil, evil, b"x", evil, pictures.Picture(b"y", 1, 4000), ((evil, evil),), (evil,))
    made = page.text_of(
        page.Page(evil, evil, (page.Group(evil, evil, (song,), ((evil, evil),)),), ((evil, evil),), (evil,))
    )
    assert "<script>alert" not in made and made.count("<script>") == 1
    assert made.count(html.escape(evil)) >= 15


def test_the_page_reaches_for_nothing_outside_itself():
    made = page.text_of(sample_page())
    assert not re.search(r'(?:src|href)="(?!data:)', made) and "@import" not in made and "url(" not in made
    assert "default-src 'none'" in made


# The command


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with three checkpoints."""
    folder = tmp_path_factory.mktemp("work") / "a run"
    gin = folder.parent / "tiny.gin"
    gin.write_text(TINY)
    system = configuration.load([gin])[0].system.build(seed=3)
    for step in (4, 8, 12):
        for variable in system.generator.trainable_variables:
            variable.assign(variable * 1.1)  # louder and louder
        text = configuration.in_force()
        checkpoints.save(folder, step, system.checkpoint_items(), system.architecture(), text, {})
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def headings(folder):
    """`[(level, text)]` of a page."""
    text = (folder / "index.html").read_text()
    found = re.findall(r"<h([123])[^>]*>(.*?)</h\1>", text)
    return [(int(level), html.unescape(words)) for level, words in found]


def test_a_gallery_of_everything(workdir, corpus, tmp_path, capsys):
    arguments = ["--workdir", workdir, "--data", corpus, "--n", 2, "--interpolate", 3, 5, "--steps", 3]
    assert run(*arguments, "--out", tmp_path / "new" / "page") == 0
    there = headings(tmp_path / "new" / "page")
    assert there[0] == (1, "Songs of a run")
    groups = {}
    for level, words in there[1:]:
        groups.update({words: []} if level == 2 else {list(groups)[-1]: groups[list(groups)[-1]] + [words]})
    assert groups.pop("How to read this page") == []
    real = groups.pop("Recorded")
    assert groups.pop("Recorded, by way of the MDCT") == real and len(real) == 2
    assert all(title.startswith("piece-") for title in real)
    assert groups == {
        "Generated": ["Seed 0", "Seed 1"],
        "Over training": ["Step 4", "Step 8", "Step 12"],
        "From seed 3 to seed 5": ["Seed 3", "50 %", "Seed 5"],
    }
    told = capsys.readouterr().out
    assert "12 songs" in told and "largest error < −120 dB" in told and "distance 0.0 dB" in told
    assert [path.name for path in (tmp_path / "new" / "page").iterdir()] == ["index.html"]


def test_recordings_are_at_the_level_that_training_hears(workdir, tmp_path):
    quiet = 0.1 * tones(4.0, 4000)
    quiet[2000] = 0.2  # the peak, in some crops or in none
    soundfile.write(tmp_path / "quiet.wav", quiet, 4000, subtype="FLOAT")
    checkpoint = checkpoints.find(workdir)
    system = systems.for_sampling(checkpoint)
    (title, _, crop), *_ = gallery.real_songs(checkpoint, system, tmp_path, 1, print)
    scaled = quiet * 0.999 / 0.2
    starts = [i for i in range(len(quiet) - len(crop) + 1) if np.allclose(scaled[i : i + len(crop)], crop, atol=1e-4)]
    assert title == "quiet" and len(starts) == 1


def test_a_song_is_the_one_that_generate_makes(workdir, tmp_path):
    run("--workdir", workdir, "--out", tmp_path, "--n", 2, "--checkpoints", 0)
    assert command("generate", "--ckpt", workdir, "--n", 2, "--out", tmp_path, "--format", "ogg").returncode == 0
    text = (tmp_path / "index.html").read_text()
    inlined = [base64.b64decode(each) for each in re.findall(r'src="data:audio/ogg;base64,([^"]*)"', text)]
    assert len(inlined) == 2
    for i, content in enumerate(inlined):
        heard, expected = (soundfile.read(each)[0] for each in (io.BytesIO(content), tmp_path / f"seed-{i:06d}.ogg"))
        assert_close(heard, expected, atol=1e-4)


def test_without_data_the_page_says_so(workdir, tmp_path):
    alone = workdir / "checkpoints" / "00000008"
    assert run("--workdir", alone, "--out", tmp_path, "--n", 1, "--seconds", 0.1, "--format", "mp3") == 0
    assert [words for level, words in headings(tmp_path) if level == 2] == ["Generated", "How to read this page"]
    text = (tmp_path / "index.html").read_text()
    assert "--data" in text and "by step 8" in text and "data:audio/mpeg" in text


def test_checkpoints_are_taken_evenly_and_damaged_ones_left_out(workdir, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    run("--workdir", broken, "--out", tmp_path / "two", "--n", 1, "--checkpoints", 2)
    assert [words for _, words in headings(tmp_path / "two") if words.startswith("Step")] == ["Step 4", "Step 12"]
    os.truncate(broken / "checkpoints" / "00000004" / "weights.data-00000-of-00001", 100)
    run("--workdir", broken, "--out", tmp_path / "three", "--n", 1)
    assert [words for _, words in headings(tmp_path / "three") if words.startswith("Step")] == ["Step 8", "Step 12"]
    assert "Step 4 is left out" in capsys.readouterr().out
    assert "Step 4 is left out" in (tmp_path / "three" / "index.html").read_text()


def test_weights_that_are_not_numbers_still_make_a_page(workdir, tmp_path, capsys):
    gin = workdir.parent / "tiny.gin"
    system = configuration.load([gin])[0].system.build(seed=3)
    for variable in system.generator.trainable_variables:
        variable.assign(variable * np.nan)
    checkpoints.save(tmp_path, 4, system.checkpoint_items(), system.architecture(), configuration.in_force(), {})
    assert run("--workdir", tmp_path, "--out", tmp_path / "page", "--n", 2) == 0
    assert "Generated, Seed 1: WARNING: Not a number anywhere" in capsys.readouterr().out
    text = (tmp_path / "page" / "index.html").read_text()
    assert text.count("Not a number anywhere") == 2 and "2 of 2 songs" in text


def test_a_damaged_recording_is_left_out_and_told(workdir, corpus, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    soundfile.write(data / "broken.flac", tones(4, 4000), 4000)
    os.truncate(data / "broken.flac", 2000)
    (data / "empty.wav").write_bytes(b"")
    assert run("--workdir", workdir, "--data", data, "--out", tmp_path / "page", "--n", 3, "--checkpoints", 0) == 0
    told = capsys.readouterr().out
    assert "cannot be used" in told and "Recorded: 3 songs" in told


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--n", "0"], "--n 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--checkpoints", "-1"], "--checkpoints -1"),
        (["--interpolate", "-1", "2"], "whole numbers"),
        (["--steps", "3"], "goes with --interpolate"),
        (["--interpolate", "1", "2", "--steps", "1"], "at least 2"),
    ],
)
def test_flags_that_do_not_fit_are_told(arguments, word):
    with pytest.raises(UsageError, match=re.escape(word)):
        run("--workdir", "anywhere", "--out", "anywhere", *arguments)


def test_what_nothing_can_be_made_of_is_told_in_a_line(workdir, corpus, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "nothing").mkdir()
    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    os.truncate(broken / "checkpoints" / "00000012" / "weights.data-00000-of-00001", 100)
    data = tmp_path / "data"
    data.mkdir()
    soundfile.write(data / "short.wav", tones(0.05, 4000), 4000)
    for work, out, more, word in (
        (tmp_path / "none", "page", [], "does not exist"),
        (tmp_path, "page", [], "no complete checkpoint"),
        (broken, "page", [], "is damaged"),
        (workdir, "file", [], "cannot be written"),
        (workdir, "page", ["--data", tmp_path / "nothing"], "nothing: holds no"),
        (workdir, "page", ["--data", tmp_path / "none"], "no such folder"),
        (workdir, "page", ["--data", data], "No recording is long enough"),
    ):
        with pytest.raises(UserError, match=word):
            run("--workdir", work, "--out", tmp_path / out, "--n", 1, *more)
        assert not list(tmp_path.rglob("*.html"))
    assert_told(command("gallery", "--workdir", workdir, "--out", "/proc/page"), 1, "/proc/page", "cannot be written")
    assert_told(command("gallery", "--workdir", workdir), 2, "--out")


# In a browser


SECONDS = 20


def sample_page():
    """Every kind of group, long words, and songs that nobody wants."""
    long = "Étude-Tableau " + "Donaudampfschifffahrtsgesellschaft" * 3
    songs = [
        exhibits.exhibit(title, note, tones(SECONDS, RATE_HZ, seed=i), RATE_HZ, 32).song
        for i, (title, note) in enumerate([("Seed 0", ""), ("Seed 1", "seed 1"), (long, long), ("Step 4", "seed 0")])
    ]
    unwanted = [exhibits.exhibit("Seed 8", "", np.full((RATE_HZ, 2), value), RATE_HZ, 32).song for value in (0, np.nan)]
    groups = (
        page.Group("Recorded", long, tuple(songs[:3]), (("tonality", "0.3"), (long, long))),
        page.Group("Recorded, by way of the MDCT", "", tuple(songs[:2]) + (unwanted[0],)),
        page.Group("Generated", "", (*songs[1:3], *unwanted)),
        page.Group("Over training", long, tuple(songs), (), page.STRIP),
    )
    return page.Page("Songs of " + long, long, groups, ((long, long), ("a", "b")), (long,))


class Browser:
    """Headless Chromium through chromedriver's own HTTP protocol: as much of it as these tests take."""

    def __init__(self):
        self._driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        self._session = ""
        try:
            self._session = "/" + self._begin()
        except BaseException:
            self._end()
            raise

    def _begin(self):
        """Waits for the driver, starts the browser, and returns the session's name."""
        line = next(line for line in self._driver.stdout if "successfully on port" in line)
        port = re.search(r"on port (\d+)", line).group(1)
        self._root = f"http://127.0.0.1:{port}/session"
        switches = ["--no-sandbox", "--headless=new", "--mute-audio", "--disable-dev-shm-usage", "--disable-gpu"]
        switches.append("--autoplay-policy=no-user-gesture-required")
        wanted = {"goog:chromeOptions": {"args": switches}, "goog:loggingPrefs": {"browser": "ALL"}}
        return self.call("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def _end(self):
        self._driver.terminate()
        self._driver.wait()
        self._driver.stdout.close()

    def call(self, path, body, method="POST"):
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + self._session + path, content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:500]}") from None

    def close(self):
        try:
            self.call("", None, "DELETE")
        finally:
            self._end()

    def open(self, path, width, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})
        self.call("/url", {"url": f"file://{path}"})

    def do(self, script, *arguments):
        """What `script` returns, in which `song(i)` is the i-th song."""
        song = "const song = i => document.querySelectorAll('.song')[i];"
        return self.call("/execute/sync", {"script": song + script, "args": list(arguments)})

    def complaints(self):
        return [each for each in self.call("/se/log", {"type": "browser"}) if each["level"] in ("SEVERE", "WARNING")]

    def click(self, i, selector, across=0.5):
        """Presses the left button on an element of the i-th song, `across` of its width from the left."""
        script = """const e = song(arguments[0]).querySelector(arguments[1]); e.scrollIntoView({block: 'center'});
            const b = e.getBoundingClientRect(); return [b.left + b.width * arguments[2], b.top + b.height / 2]"""
        x, y = (round(place) for place in self.do(script, i, selector, across))
        moves = [{"type": "pointerMove", "duration": 0, "x": x, "y": y}]
        moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def at(self, i):
        """Seconds where the i-th song's sound is."""
        return self.do("return song(arguments[0]).querySelector('audio').currentTime", i)

    def plays(self, i):
        return not self.do("return song(arguments[0]).querySelector('audio').paused", i)

    def cursor(self, i):
        """Where the cursor is, as a share of the picture's width."""
        script = """const c = song(arguments[0]).querySelector('.cursor').getBoundingClientRect();
            const b = song(arguments[0]).querySelector('img').getBoundingClientRect();
            return (c.left - b.left) / b.width"""
        return self.do(script, i)


def wait(until, seconds=10):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


TAB, ENTER, RIGHT, LEFT, END, HOME = "\ue004", "\ue007", "\ue014", "\ue012", "\ue010", "\ue011"


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        reason = "system package missing: chromium: apt-get install chromium chromium-driver"
        if os.environ.get("MP3NET_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return page.write(sample_page(), tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser, sample):
    browser.open(sample, 1280)
    yield browser
    assert browser.complaints() == []


def test_a_player_plays_and_its_cursor_follows(opened):
    assert not opened.plays(0)
    opened.click(0, ".play")
    wait(lambda: opened.at(0) > 0.3)
    assert opened.plays(0)
    first = opened.cursor(0)
    wait(lambda: opened.at(0) > 0.9)
    opened.click(0, ".play")
    wait(lambda: not opened.plays(0))
    time.sleep(0.1)
    assert opened.cursor(0) > first > 0
    assert opened.cursor(0) == pytest.approx(opened.at(0) / SECONDS, abs=0.005)
    duration = opened.do("return song(0).querySelector('audio').duration")
    assert duration == pytest.approx(SECONDS, rel=0.01)


def test_a_second_one_stops_the_first(opened):
    opened.click(0, ".play")
    wait(lambda: opened.at(0) > 0.1)
    opened.click(4, ".play")
    wait(lambda: opened.at(4) > 0.1)
    assert opened.plays(4) and not opened.plays(0)
    labels = [opened.do("return song(arguments[0]).querySelector('.action').textContent", i) for i in (0, 4)]
    assert labels == ["Play", "Pause"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_a_click_on_the_picture_seeks(opened, share):
    opened.click(1, ".seek", share)  # before it ever played
    assert opened.at(1) == pytest.approx(share * SECONDS, abs=0.03 * SECONDS)
    assert opened.cursor(1) == pytest.approx(share, abs=0.01)
    opened.click(1, ".play")
    wait(lambda: opened.at(1) > share * SECONDS + 0.1)
    assert opened.at(1) == pytest.approx(share * SECONDS, abs=0.03 * SECONDS + 2)
    opened.click(1, ".seek", 0.3)
    wait(lambda: opened.at(1) == pytest.approx(0.3 * SECONDS, abs=0.03 * SECONDS + 1))
    assert opened.plays(1)


def test_all_of_it_works_by_keyboard(opened):
    opened.press(TAB, ENTER)
    wait(lambda: opened.at(0) > 0.2)
    opened.press(" ")
    wait(lambda: not opened.plays(0))
    opened.press(TAB, HOME, RIGHT, RIGHT, RIGHT, LEFT)
    assert opened.do("return document.activeElement.getAttribute('role')") == "slider"
    assert opened.at(0) == pytest.approx(2.0, abs=0.05)  # steps of a twentieth
    slider = "return ['now', 'text', 'max'].map(n => document.activeElement.getAttribute('aria-value' + n))"
    wait(lambda: opened.do(slider) == ["2.00", "0:02 of 0:20", "20.000"])
    opened.press(" ")
    wait(lambda: opened.at(0) > 2.2)
    opened.press(END)
    wait(lambda: not opened.plays(0))
    opened.press(" ")  # from the start again
    wait(lambda: opened.plays(0) and 0 < opened.at(0) < 5)
    opened.press(TAB)
    assert opened.do("return document.activeElement === song(1).querySelector('.play')")


def test_a_screen_reader_hears_names_and_headings(opened):
    nodes = opened.call("/goog/cdp/execute", {"cmd": "Accessibility.getFullAXTree", "params": {}})["nodes"]
    said = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    names = {role: [name for each, name in said if each == role] for role in ("button", "slider", "image", "article")}
    count = opened.do("return document.querySelectorAll('.song').length")
    assert count == 14 and {len(each) for each in names.values()} == {count}
    assert names["button"][:2] == ["Play Seed 0", "Play Seed 1"]
    assert names["slider"][0] == "Position in Seed 0"
    assert names["image"][0].startswith("Spectrogram of Seed 0: 0 to 4,000 Hz")
    assert opened.do("return new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == 2 * count + 4


def test_every_picture_is_decoded_and_every_unwanted_song_warned_of(opened):
    sizes = "return [...document.images].map(i => i.decode().then(() => i.naturalWidth))"
    assert set(opened.do(f"return Promise.all((() => {{ {sizes} }})())")) == {800}
    shown = "return [...document.querySelectorAll('.warnings')].filter(e => e.offsetHeight > 0).length"
    assert opened.do(shown) == 3
    opened.click(9, ".play")  # not a number anywhere: silence, not an error
    wait(lambda: opened.at(9) > 0.2)


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(browser, sample, width, scheme, tmp_path):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": media})
    browser.open(sample, width)
    assert browser.do("return document.documentElement.scrollWidth") <= width
    outside = """return [...document.querySelectorAll('body *')].filter(e => {
        const b = e.getBoundingClientRect(); return b.width > 1 && (b.left < -0.5 || b.right > arguments[0] + 0.5)
    }).map(e => e.tagName + '.' + e.className)"""
    assert browser.do(outside, width) == []
    columns = "return new Set([...document.querySelectorAll('.column')].map(e => e.getBoundingClientRect().left)).size"
    assert browser.do(columns) == (3 if width == 1280 else 1)
    ground = browser.do("return getComputedStyle(document.body).backgroundColor")
    assert (int(re.search(r"\d+", ground).group()) < 64) == (scheme == "dark")
    assert browser.complaints() == []


def test_the_page_of_the_command_opens_and_plays(browser, workdir, corpus, tmp_path):
    run("--workdir", workdir, "--data", corpus, "--n", 2, "--out", tmp_path, "--format", "mp3")
    browser.open(tmp_path / "index.html", 375)
    browser.click(4, ".play")
    wait(lambda: browser.do("return song(4).querySelector('audio').ended"))
    assert browser.complaints() == [] and browser.do("return document.documentElement.scrollWidth") <= 375
