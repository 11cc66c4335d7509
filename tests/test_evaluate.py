"""`python -m mp3net.evaluate`: checkpoints and folders to scores, and what it says of odd sounds."""

import csv
import json

import numpy as np
import pytest
import soundfile
from helpers import TINY, assert_refuses, assert_told, command, tones, write_corpus

from mp3net import evaluate
from mp3net.errors import UsageError, UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(working directory of a tiny run with two checkpoints, its corpus)."""
    folder = tmp_path_factory.mktemp("run")
    corpus, gin = write_corpus(folder / "corpus"), folder / "tiny.gin"
    gin.write_text(TINY + "Architecture.base = (32, 2)\n")  # 512 blocks of 8: 1 s
    done = command(
        "train", "--gin", gin, "--data", corpus, "--workdir", folder / "run", "--gin_param", "train.steps = 8"
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", corpus


@pytest.fixture
def run_here(capsys):
    """The command in this process, which spares TensorFlow's start; returns what it printed."""

    def run_it(*arguments):
        assert evaluate.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run_it


def assert_refused(error, words, *arguments):
    assert_refuses(evaluate.main, arguments, error, words)


def table(folder):
    rows = json.loads((folder / "scores.json").read_text())
    with open(folder / "scores.csv") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == len(rows) > 0
    for row, cell in zip(rows, cells, strict=True):
        assert not any(str(value).lower() in ("nan", "inf") for value in cell.values())
        assert {name for name, value in row.items() if value is None} == {n for n, v in cell.items() if v == ""} - {
            "notes"
        }
    return rows


def test_a_working_directory_gives_a_row_for_each_checkpoint(run, tmp_path):
    workdir, corpus = run
    done = command("evaluate", "--ckpt", workdir, "--data", corpus, "--out", tmp_path / "scores", "--n", 5)
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "scores")
    assert [row["step"] for row in rows] == [4, 8] and rows[0]["checkpoint"].endswith("00000004")
    for row in rows:
        assert row["songs_generated"] == row["songs_real"] == 5
        assert 0 < row["tonality_real"] < 1 and row["tonality_noised_real"] is not None
    assert rows[0]["tonality_real"] == rows[1]["tonality_real"]  # the same real songs
    assert "tonality_real" not in done.stdout and "tonality  " in done.stdout  # side by side
    assert "step 4" not in done.stderr  # no bar where nobody looks


def test_two_folders_of_audio_are_compared_without_a_model(tmp_path, run_here):
    """Mono and stereo, at other rates, one silent, one clipped, one too short, one that is no audio."""
    for i in range(6):
        (tmp_path / "ours").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "ours" / f"{i}.wav", tones(3, 8000, 1 + i % 2, i), 8000)
    soundfile.write(tmp_path / "ours" / "6-silent.wav", np.zeros((24000, 1)), 8000)
    soundfile.write(tmp_path / "ours" / "7-clipped.wav", np.clip(50 * tones(3, 8000, 1), -1, 1), 8000)
    soundfile.write(tmp_path / "ours" / "8-short.wav", tones(0.2, 8000, 1), 8000)
    wave = tones(3, 8000, 1)
    wave[100] = np.nan
    soundfile.write(tmp_path / "ours" / "9-nan.wav", wave, 8000, subtype="FLOAT")
    (tmp_path / "ours" / "text.wav").write_text("not audio")
    write_corpus(tmp_path / "theirs", count=4, seconds=11.0, rate_hz=11025)
    arguments = ("--generated", tmp_path / "ours", "--real", tmp_path / "theirs", "--out", tmp_path / "scores")
    said = run_here(*arguments, "--bands", 32)
    (row,) = table(tmp_path / "scores")
    songs = list(csv.DictReader((tmp_path / "scores" / "songs.csv").open()))
    assert [song["song"] for song in songs] == [f"{i}.wav" for i in range(6)] + [
        "6-silent.wav",
        "7-clipped.wav",
        "9-nan.wav",
    ]
    assert songs[6]["nearest_recording"] == "" and all(
        song["nearest_recording"] for song in songs if song["silent"] == "0"
    )
    assert row["songs_generated"] == 9 and row["silent_generated"] == 1
    assert row["songs_real"] == 12 and row["seconds_real"] == pytest.approx(36, abs=0.1)  # three crops of each
    assert row["frechet_distance"] is not None and row["diversity"] > 0
    for words in ("text.wav", "shorter than 0.5 s", "1 samples are not a number", "silent", "clipped", "12 s or more"):
        assert words in said, words


def test_what_training_left_out_is_compared_too(run, tmp_path, run_here):
    workdir, _ = run
    write_corpus(tmp_path / "corpus", count=5)
    splits = ["train", "validation", "train", "test", "train"]
    lines = [f"piece-{i}.wav,{split}" for i, split in enumerate(splits)]
    (tmp_path / "corpus" / "maestro.csv").write_text("\n".join(["audio_filename,split", *lines]))
    gin = tmp_path / "tiny.gin"
    gin.write_text(TINY + "Architecture.base = (32, 2)\ndata.splits = ('train',)\n")
    line = ("train", "--gin", gin, "--data", tmp_path / "corpus", "--workdir", tmp_path / "run")
    done = command(*line, "--gin_param", "train.steps = 4")
    assert done.returncode == 0 and "held out of training: 2 recordings, 0.00 h (test, validation)" in done.stdout
    flags = ("--data", tmp_path / "corpus", "--n", 5, "--training_songs", 9, "--out", tmp_path / "scores")
    run_here("--ckpt", tmp_path / "run", *flags)
    (row,) = table(tmp_path / "scores")
    assert row["songs_real"] == 5 and row["songs_held_out"] == 5 and row["nearest_held_out"] > 0
    assert row["frechet_distance_floor"] is not None
    songs = list(csv.DictReader((tmp_path / "scores" / "songs.csv").open()))
    assert len(songs) == 5 and songs[0]["step"] == "4" and songs[3]["song"] == "seed 3"
    assert {song["nearest_recording"].split()[0] for song in songs} <= {f"piece-{i}.wav" for i in (0, 2, 4)} | {""}
    other = write_corpus(tmp_path / "other", count=4)
    run_here("--ckpt", workdir, *flags, "--held_out", other)
    assert table(tmp_path / "scores")[0]["songs_held_out"] == 5


def test_of_very_long_audio_the_beginning_is_measured(tmp_path, monkeypatch, capsys):
    write_corpus(tmp_path / "long", count=2, seconds=4.0)
    write_corpus(tmp_path / "short", count=3, seconds=2.0)
    monkeypatch.setattr(evaluate, "_LONGEST_S", 3.0)
    for name in ("long", "short"):
        flags = ["--generated", tmp_path / name, "--real", tmp_path / "long", "--out", tmp_path / "scores"]
        evaluate.main(list(map(str, flags)))
        (row,) = table(tmp_path / "scores")
        assert row["seconds_generated"] == 6.0
        assert ("piece-0.wav: 4 s; its first 3 s are measured" in capsys.readouterr().out) == (name == "long")


def test_one_song_says_what_takes_more(tmp_path, run_here):
    write_corpus(tmp_path / "one", count=1)
    run_here("--generated", tmp_path / "one", "--real", tmp_path / "one", "--out", tmp_path / "scores")
    (row,) = table(tmp_path / "scores")
    assert row["tonality_generated"] == row["tonality_real"] and row["tonality_gap"] == 0
    assert row["frechet_distance"] is None and "takes 4 songs" in row["notes"]


def test_what_cannot_be_scored_is_told(run, tmp_path):
    workdir, corpus = run
    out = ("--out", tmp_path / "scores")
    (tmp_path / "empty").mkdir()
    assert_told(command("evaluate", *out), 2, "--ckpt and --data")
    assert_refused(UsageError, "--data is missing", "--ckpt", workdir, *out)
    assert_refused(UsageError, "--real is missing", "--generated", corpus, *out)
    assert_refused(UsageError, "--n 0", "--ckpt", workdir, "--data", corpus, "--n", 0, *out)
    assert_told(command("evaluate", "--ckpt", tmp_path / "empty", "--data", corpus, *out), 1, "empty")
    assert_refused(UserError, "holds no", "--generated", tmp_path / "empty", "--real", corpus, *out)
    assert_refused(UserError, "/proc/scores", "--generated", corpus, "--real", corpus, "--out", "/proc/scores")
    soundfile.write(tmp_path / "empty" / "short.wav", tones(0.1, 8000), 8000)
    none = "There are no generated songs to score: all are shorter than 0.5 s"
    assert_refused(UserError, none, "--generated", tmp_path / "empty", "--real", corpus, *out)


def test_flags_that_do_not_go_together_are_told(run, tmp_path):
    workdir, corpus = run
    out = ("--data", corpus, "--out", tmp_path)
    assert_refused(UsageError, "--bands does not go with --ckpt", "--ckpt", workdir, *out, "--bands", 64)
    assert_refused(UsageError, "--data does not go with", "--generated", corpus, "--real", corpus, *out)


def test_what_is_odd_among_real_songs_is_left_out_and_told(run, tmp_path, run_here):
    """More channels than two, one cut short in the middle, samples beyond all bounds; lists in the configuration."""
    workdir, _ = run
    write_corpus(tmp_path / "corpus", count=4)
    soundfile.write(tmp_path / "corpus" / "six.wav", np.tile(tones(4, 4000, 1), (1, 6)), 4000)
    whole = soundfile.read(tmp_path / "corpus" / "piece-1.wav")[0]
    soundfile.write(tmp_path / "corpus" / "broken.flac", whole, 4000)
    content = (tmp_path / "corpus" / "broken.flac").read_bytes()
    (tmp_path / "corpus" / "broken.flac").write_bytes(content[: len(content) // 2])
    whole[50] = 1e20
    soundfile.write(tmp_path / "corpus" / "loud.wav", whole, 4000, subtype="FLOAT")
    folders = ("--generated", tmp_path / "corpus", "--real", tmp_path / "corpus", "--out", tmp_path / "scores")
    said = run_here(*folders)
    assert "broken.flac" in said and "2 samples are not a number" in said
    assert table(tmp_path / "scores")[0]["songs_real"] == 6
    gin = tmp_path / "tiny.gin"
    gin.write_text(TINY + "Architecture.base = (32, 2)\ndata.splits = ['train']\ntrain.steps = 4\n")
    line = ("--gin", gin, "--data", tmp_path / "corpus", "--workdir", tmp_path / "run")
    assert command("train", *line).returncode == 0
    flags = ("--data", tmp_path / "corpus", "--out", tmp_path / "scores", "--n", 2)
    said = run_here("--ckpt", tmp_path / "run", workdir, *flags, "--first_seed", 7)
    songs = list(csv.DictReader((tmp_path / "scores" / "songs.csv").open()))
    assert [song["song"] for song in songs] == ["seed 7", "seed 8"] * 3
    assert "is not what" in said and "copies were looked for among 2 of" in said
