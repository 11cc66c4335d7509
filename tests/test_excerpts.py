"""Excerpts of recordings: which, and at what level."""

import dataclasses

import numpy as np
import pytest
import soundfile
from helpers import assert_close, tones

from mp3net.data.corpus import open_corpus
from mp3net.data.excerpts import Excerpt, excerpts, gain


@dataclasses.dataclass(frozen=True)
class Recording:
    name: str
    duration_s: float


RECORDINGS = [Recording("long", 100.0), Recording("middle", 25.0), Recording("short", 3.0)]


def starts(found):
    return {
        name: sorted(each.start_s for each in found if each.recording.name == name)
        for name in ("long", "middle", "short")
    }


def test_excerpts_take_turns_among_recordings_and_do_not_overlap_but_for_the_ends():
    found, ends = excerpts(RECORDINGS, 10.0)
    assert {each.recording.name for each in found[:2]} == {"long", "middle"}
    assert starts(found) == {"long": [10.0 * i for i in range(10)], "middle": [0.0, 10.0], "short": []}
    assert ends == [Excerpt(RECORDINGS[1], 15.0, 10.0)]  # what would else never be looked at
    assert excerpts(RECORDINGS, 10.0)[0] == found and all(each.seconds == 10.0 for each in found)


def test_short_recordings_are_taken_whole_where_asked():
    whole = [each for each in excerpts(RECORDINGS, 10.0, whole_too=True)[0] if each.recording.name == "short"]
    assert whole == [Excerpt(RECORDINGS[2], 0.0, 3.0)]


@pytest.mark.parametrize("channels, asked, there", [(1, 2, 1), (2, 2, 2), (2, 1, 1), (6, 2, 1)])
def test_an_excerpt_is_that_of_the_file_at_the_level_of_its_recording(tmp_path, channels, asked, there):
    wave = np.tile(0.5 * tones(3.0, 8000, 1), (1, channels)) * np.linspace(1.0, 0.5, channels)
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    (recording,) = open_corpus(tmp_path, channels=1).recordings
    expected = wave[8000:16000] if there == channels else wave[8000:16000].mean(axis=1, keepdims=True)
    heard, full_scale = Excerpt(recording, 1.0, 1.0).read(8000, asked)
    assert full_scale == 1.0
    assert_close(heard, expected, atol=1e-6)
    loud, full_scale = Excerpt(recording, 1.0, 1.0).read(8000, asked, peak=0.9)
    mixed = wave if there == channels else wave.mean(axis=1)
    assert full_scale == pytest.approx(0.9 / np.abs(mixed).max(), rel=1e-4)
    assert_close(loud, expected * full_scale, atol=1e-5)


def test_silence_and_no_peak_have_a_gain_of_one(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 1)), 8000)
    (recording,) = open_corpus(tmp_path, channels=1).recordings
    assert gain(recording, 0.9, 8000, 1) == gain(recording, None, 8000, 1) == 1.0
