"""Finding recordings: MAESTRO's CSV, plain folders, prepared corpora, and all that can be wrong with them."""

import csv
import io
import os
import sys
import types

import numpy as np
import pytest
import soundfile

from mp3net.data.corpus import PREPARED_COLUMNS, Corpus, open_corpus
from mp3net.errors import UserError

COLUMNS = ["canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"]


def audio(path, duration_s=0.1, channels=2, rate_hz=44100):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((round(duration_s * rate_hz), channels), 0.1), rate_hz)


def table(path, rows, columns=COLUMNS):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def maestro(folder, version="v2.0.0"):
    """Four recordings of three years as MAESTRO lays them out. Returns the rows."""
    rows = []
    for year, split, name in [
        (2008, "test", "b"),
        (2004, "train", "c"),
        (2004, "train", "a"),
        (2009, "validation", "d"),
    ]:
        audio(folder / str(year) / f"{name}.wav")
        row = [
            "Frédéric Chopin",
            f'Étude, "Op. 10"\n{name}',
            split,
            year,
            f"{year}/{name}.midi",
            f"{year}/{name}.wav",
            0.1,
        ]
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    table(folder / f"maestro-{version}.csv", rows)
    return rows


def names(corpus):
    return [recording.audio_filename for recording in corpus.recordings]


@pytest.mark.parametrize("version", ["v1.0.0", "v2.0.0", "v3.0.0"])
def test_maestro(tmp_path, version):
    rows = maestro(tmp_path, version)
    corpus = open_corpus(tmp_path)
    assert names(corpus) == ["2004/a.wav", "2004/c.wav", "2008/b.wav", "2009/d.wav"]
    assert (corpus.left_out, corpus.notes, corpus.csv_name) == ([], [], f"maestro-{version}.csv")
    assert corpus.columns == tuple(COLUMNS)
    first = corpus.recordings[0]
    assert first.path == str(tmp_path / "2004" / "a.wav")
    assert (first.frames, first.rate_hz, first.channels) == (4410, 44100, 2)
    assert (first.composer, first.title) == (rows[2]["canonical_composer"], rows[2]["canonical_title"])
    assert (first.split, first.year, first.gain, first.peak) == ("train", 2004, None, None)
    assert first.duration_s == pytest.approx(0.1) and corpus.duration_s == pytest.approx(0.4)
    assert corpus.rate_hz == 44100


@pytest.mark.parametrize(
    "filters, expected",
    [
        ({"years": [2004]}, ["2004/a.wav", "2004/c.wav"]),
        ({"years": ["2008", 2009]}, ["2008/b.wav", "2009/d.wav"]),
        ({"splits": ["test", "validation"]}, ["2008/b.wav", "2009/d.wav"]),
        ({"years": [2004, 2008], "splits": ["test"]}, ["2008/b.wav"]),
    ],
)
def test_filters(tmp_path, filters, expected):
    maestro(tmp_path)
    assert names(open_corpus(tmp_path, **filters)) == expected


def test_filter_that_leaves_nothing(tmp_path):
    maestro(tmp_path)
    with pytest.raises(UserError, match=r"lists no recording with years 1999 and splits test"):
        open_corpus(tmp_path, years=[1999], splits=["test"])


def test_plain_tree(tmp_path):
    for name in ("z.wav", "sub/deep/Y.FLAC", "sub/x.ogg", "a.Mp3"):
        audio(tmp_path / name, 0.3)
    audio(tmp_path / ".ipynb_checkpoints" / "z-checkpoint.wav")
    audio(tmp_path / "._z.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "sub" / "song.M4A").write_bytes(b"x")
    corpus = open_corpus(tmp_path)
    assert names(corpus) == ["a.Mp3", "sub/deep/Y.FLAC", "sub/x.ogg", "z.wav"]
    assert corpus.left_out == [("sub/song.M4A", "needs conversion: ffmpeg -i 'song.M4A' 'song.flac'")]
    assert (corpus.csv_name, corpus.notes) == (None, [])
    assert [(r.title, r.split, r.year) for r in corpus.recordings][1] == ("Y", "train", None)


def test_filter_on_a_plain_tree_is_noted(tmp_path):
    audio(tmp_path / "a.wav")
    corpus = open_corpus(tmp_path, years=[2004])
    assert names(corpus) == ["a.wav"] and "no metadata CSV" in corpus.notes[0]


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    for name in ("b.wav", "a/z.wav", "c.wav", "a/b/q.wav"):
        audio(tmp_path / name)
    forward = names(open_corpus(tmp_path))
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((p, f, n[::-1]) for p, f, n in reversed(list(walk(*a, **k)))))
    assert names(open_corpus(tmp_path)) == forward == sorted(forward)


def test_links_are_followed_once(tmp_path):
    audio(tmp_path / "real" / "a.wav")
    os.symlink(tmp_path, tmp_path / "real" / "loop")
    audio(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "corpus").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "corpus" / "linked")
    assert names(open_corpus(tmp_path / "real")) == ["a.wav", "loop/corpus/linked/b.wav"]
    assert names(open_corpus(tmp_path / "corpus")) == ["linked/b.wav"]


def test_unzipped_one_level_below(tmp_path):
    maestro(tmp_path / "maestro-v2.0.0")
    with pytest.raises(UserError, match="give that folder"):
        open_corpus(tmp_path, years=[2004])
    assert len(open_corpus(tmp_path).recordings) == 4


def test_what_cannot_be_used_is_left_out_with_a_reason(tmp_path):
    maestro(tmp_path)
    audio(tmp_path / "mono.wav", channels=1)
    (tmp_path / "text.wav").write_text("no audio")
    cut = tmp_path / "cut.wav"
    audio(cut)
    cut.write_bytes(cut.read_bytes()[:9000])
    more = ["mono.wav", "text.wav", "cut.wav", "missing.wav", "", "../escape.wav", "/etc/a.wav", "2004/a.wav"]
    with open(tmp_path / "maestro-v2.0.0.csv", "a", encoding="utf-8") as file:
        file.writelines(f"c,t,train,2004,m,{name},1\n" for name in more)
    corpus = open_corpus(tmp_path)
    assert len(corpus.recordings) == 4
    left_out = dict(corpus.left_out)
    assert "mono where stereo" in left_out["mono.wav"]
    assert "not audio" in left_out["text.wav"]
    assert "cut short" in left_out["cut.wav"]
    assert "does not exist" in left_out["missing.wav"]
    assert "names no audio" in left_out["line 10"]
    assert "outside" in left_out["../escape.wav"] and "outside" in left_out["/etc/a.wav"]
    assert "twice" in left_out["2004/a.wav"]
    assert "mono.wav" in names(open_corpus(tmp_path, upmix=True))
    assert len(open_corpus(tmp_path, channels=1).recordings) == 5


def test_nothing_left_says_why(tmp_path):
    for number in range(8):
        audio(tmp_path / f"{number}.wav", channels=1)
    with pytest.raises(UserError) as caught:
        open_corpus(tmp_path)
    lines = str(caught.value).splitlines()
    assert "none of its 8 recordings" in lines[0] and "0.wav: mono where stereo" in lines[1]
    assert len(lines) == 7 and "3 more" in lines[-1]


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no \.wav"):
        open_corpus(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        open_corpus(tmp_path / "file")


def test_csvs_that_do_not_fit(tmp_path):
    rows = maestro(tmp_path)
    table(tmp_path / "second.csv", rows)
    with pytest.raises(UserError, match=r"several metadata CSVs: maestro-v2.0.0.csv, second.csv"):
        open_corpus(tmp_path)
    os.unlink(tmp_path / "second.csv")
    path = tmp_path / "maestro-v2.0.0.csv"
    table(path, rows, [name for name in COLUMNS if name != "year"])
    assert len(open_corpus(tmp_path).recordings) == 4
    with pytest.raises(UserError, match="no column 'year'"):
        open_corpus(tmp_path, years=[2004])
    table(path, rows, [name for name in COLUMNS if name != "audio_filename"])
    with pytest.raises(UserError, match="no column 'audio_filename'"):
        open_corpus(tmp_path)
    path.write_bytes(b"audio_filename\n\xff\xfe\xfa.wav\n")
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        open_corpus(tmp_path)


def prepared(folder):
    """Two prepared recordings at 22,016 Hz and their CSV."""
    rows = []
    for name, channels in (("2004/a.wav", 2), ("b.wav", 1)):
        audio(folder / name, 1, channels, 22016)
        level = dict(zip(PREPARED_COLUMNS, [22016, 22016, channels, 0.5, 0.75], strict=True))
        rows.append({"audio_filename": name, "split": "test", "year": "2004", **level})
    table(folder / "metadata.csv", rows, [*COLUMNS, *PREPARED_COLUMNS])


def test_prepared_files_are_not_probed(tmp_path, monkeypatch):
    prepared(tmp_path)
    monkeypatch.setattr("mp3net.audio.files.probe", None)
    (recording,) = open_corpus(tmp_path).recordings
    assert (recording.frames, recording.rate_hz, recording.channels) == (22016, 22016, 2)
    assert (recording.peak, recording.gain, recording.year, recording.split) == (0.5, 0.75, 2004, "test")
    assert len(open_corpus(tmp_path, channels=1).recordings) == 2


def test_prepared_files_that_are_gone_or_cut(tmp_path):
    prepared(tmp_path)
    path = tmp_path / "2004" / "a.wav"
    path.write_bytes(path.read_bytes()[:-100])
    assert "shorter than its line" in dict(open_corpus(tmp_path, channels=1).left_out)["2004/a.wav"]
    path.unlink()
    assert "does not exist" in dict(open_corpus(tmp_path, channels=1).left_out)["2004/a.wav"]


def test_prepared_corpus_in_a_bucket(tmp_path, monkeypatch):
    """A stand-in for TensorFlow's file system; the audio itself is not touched."""
    prepared(tmp_path)
    files = {"gs://bucket/x/metadata.csv": (tmp_path / "metadata.csv").read_bytes()}
    gfile = types.SimpleNamespace(
        listdir=lambda folder: ["metadata.csv", "b.wav", "2004/"], GFile=lambda path, mode: io.BytesIO(files[path])
    )
    fake = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile), errors=types.SimpleNamespace(OpError=OSError))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    corpus = open_corpus("gs://bucket/x", channels=1)
    assert [recording.path for recording in corpus.recordings] == ["gs://bucket/x/2004/a.wav", "gs://bucket/x/b.wav"]
    gfile.listdir = lambda folder: ["b.wav"]
    with pytest.raises(UserError, match="Remote folders must come from"):
        open_corpus("gs://bucket/x")


def test_a_corpus_says_what_it_left_out_and_counts_the_rest(tmp_path):
    left_out = [(f"{i}.wav", "is empty") for i in range(8)]
    assert Corpus("folder", [], left_out[:5], ["a note"]).remarks() == [
        "a note", *(f"left out {i}.wav: is empty" for i in range(5))
    ]  # fmt: skip
    lines = Corpus("folder", [], left_out, []).remarks()
    assert len(lines) == 6 and lines[-1] == "left out 3 more"
