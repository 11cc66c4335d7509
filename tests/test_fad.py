"""scripts/fad.py with stand-ins for the other Python and for pip, and its worker's part that needs no torch."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from helpers import assert_close, tones

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
BARE = [sys.executable, "-S"]  # without site-packages: our part needs nothing installed
PINNED = SCRIPTS / "fad_requirements.txt"

# The environment's Python: answers the worker's job, plays pip, and writes down how it was called.
PYTHON = """#!{python} -S
import json, os, pathlib, shutil, sys, time
world = pathlib.Path({world!r})
how = (world / "how").read_text()
with open(world / "calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["-m", "venv"]:
    folder = pathlib.Path(sys.argv[3])
    (folder / "bin").mkdir()
    shutil.copy(sys.argv[0], folder / "bin" / "python")
elif sys.argv[1:3] == ["-m", "pip"]:
    if how == "no network" and "--constraint" in sys.argv:
        sys.exit("ERROR: No matching distribution found for fadtk")
    if how == "hang" and "--constraint" in sys.argv:
        (world / "hangs").touch()
        time.sleep(60)
else:
    job = json.loads(pathlib.Path(sys.argv[-1]).read_text())
    (world / "job").write_text(json.dumps(job))
    (world / "variables").write_text(json.dumps(dict(os.environ)))
    if how.startswith("status"):
        print("error: the worker's words", file=sys.stderr)
        status = int(how.split()[1])
        os.kill(os.getpid(), -status) if status < 0 else sys.exit(status)
    side = lambda files: dict(songs=len(files), seconds=9.0, seconds_each=dict.fromkeys(files, 4.5), windows=1200,
        silent=[], left_out=dict(bad="is empty"))
    result = dict(fad=12.741, fad_inf=11.5, fad_inf_r2=0.87, embedding="vggish", features=128, notes=["mind this"],
        real=side(job["real"]), generated=side(job["generated"]), device="cpu",
        weights=dict(file="/w", sha256="1" * 64, official=None), versions=dict(fadtk="1.1.0", torch="2.8.0"))
    if how == "few":
        result["fad_inf"] = result["fad_inf_r2"] = None
    pathlib.Path(job["result"]).write_text(json.dumps(result))
"""


class World:
    """Two folders of songs, weights, and a Python that makes and plays the other environment."""

    def __init__(self, folder):
        self.folder, self.env = folder, folder / "env"
        for name in ("songs/b.wav", "songs/a.FLAC", "songs/notes.txt", "real/2004/x.mp3", "real/y.ogg", "real/z.wav"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        (folder / "weights.pth").write_bytes(b"PK\x03\x04")
        self.python = folder / "python"
        self.python.write_text(PYTHON.format(python=sys.executable, world=str(folder)))
        self.python.chmod(0o755)
        self.goes("well")

    def goes(self, how):
        (self.folder / "how").write_text(how)

    def command(self, *more, **changed):
        flags = {"generated": "songs", "real": "real", "embedding": "vggish", "weights": "weights.pth"}
        flags |= {"env": str(self.env), "python": str(self.python)} | changed
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        return [*BARE, str(SCRIPTS / "fad.py"), *words, *more]

    def run(self, *more, **changed):
        variables = os.environ | {"PYTHONPATH": "elsewhere"}
        return subprocess.run(
            self.command(*more, **changed), cwd=self.folder, env=variables, capture_output=True, text=True, timeout=60
        )

    def hanging(self):
        """A run that has come to its installation and stays there."""
        self.goes("hang")
        process = subprocess.Popen(
            self.command(), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        end = time.monotonic() + 20
        while not (self.folder / "hangs").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        return process

    def calls(self):
        """How the Pythons were called since the last time."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def installs(self):
        return sum("--constraint" in call for call in self.calls())


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def told(process, *words, status=1):
    assert process.returncode == status, (process.returncode, process.stdout, process.stderr)
    assert "Traceback" not in process.stderr, process.stderr
    for word in words:
        assert word in process.stderr, (word, process.stderr)


# ---- the measurement


def test_result_is_printed_and_written(world):
    done = world.run("--out", "fad.json")
    assert done.returncode == 0, done.stderr
    for words in ("FAD 12.74, FAD-inf 11.5 (R2 of its line 0.87)", "songs: 2 songs of 4.5 to 4.5 s each, 1200 windows"):
        assert words in done.stdout
    for words in ("real: 3 songs", "1 files left out", "embedding vggish", "fadtk 1.1.0, torch 2.8.0", "mind this"):
        assert words in done.stdout
    written = json.loads((world.folder / "fad.json").read_text())
    assert written["fad"] == 12.741 and written["real"]["folder"] == "real"
    assert not list(world.folder.glob("*.part"))


def test_worker_is_given_the_job(world):
    assert world.run("--save", "kept", "--trust_weights").returncode == 0
    *_, call = world.calls()
    assert call[:2] == ["-I", str(SCRIPTS / "fad_worker.py")]
    job = json.loads((world.folder / "job").read_text())
    assert job.pop("result") and job == {
        "generated": ["songs/a.FLAC", "songs/b.wav"],
        "real": ["real/2004/x.mp3", "real/y.ogg", "real/z.wav"],
        "embedding": "vggish",
        "weights": "weights.pth",
        "trust_weights": True,
        "save": "kept",
    }
    variables = json.loads((world.folder / "variables").read_text())
    assert "PYTHONPATH" not in variables and variables["HF_HUB_OFFLINE"] == "1"


def test_few_songs_have_no_extrapolation(world):
    world.goes("few")
    done = world.run()
    assert "FAD 12.74\n" in done.stdout and "FAD-inf" not in done.stdout


def test_n_takes_some_of_each(world):
    assert world.run("--n", "2").returncode == 0
    job = json.loads((world.folder / "job").read_text())
    assert job["real"] == ["real/2004/x.mp3", "real/y.ogg"] and len(job["generated"]) == 2


@pytest.mark.parametrize(
    "flags, status, words",
    [
        ({"generated": "none"}, 1, ["--generated none", "no such folder"]),
        ({"real": "weights.pth"}, 1, ["--real weights.pth", "no such folder"]),
        ({"real": "empty"}, 1, ["--real empty", "holds no .wav, .flac, .ogg, .mp3 file"]),
        ({"weights": "none.pth"}, 1, ["no such file", "vggish-10086976.pth", "github.com/harritaylor/torchvggish"]),
        (
            {"weights": "none.pth", "embedding": "clap"},
            1,
            ["music_audioset_epoch_15_esc_90.14.pt", "lukewys/laion_clap"],
        ),
        ({"weights": "page.html"}, 1, ["page.html: is no PyTorch checkpoint", "vggish-10086976.pth"]),
        ({"out": "empty"}, 1, ["--out empty"]),
        ({"out": "no/where.json"}, 1, ["--out no/where.json"]),
        ({"env": "songs"}, 1, ["songs: is neither a Python environment nor an empty folder"]),
        ({"n": "0"}, 2, ["--n 0", "at least 1"]),
        ({"embedding": "mert"}, 2, ["mert"]),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(world, flags, status, words):
    (world.folder / "empty").mkdir()
    (world.folder / "page.html").write_text("<html>Not found</html>")
    told(world.run(**flags), *words, status=status)
    assert world.calls() == [] and not world.env.exists()


@pytest.mark.parametrize("how, words", [("status 1", "status 1"), ("status -9", "out of memory?")])
def test_worker_that_fails(world, how, words):
    world.goes(how)
    told(world.run("--out", "fad.json"), "the worker's words", words)
    assert not (world.folder / "fad.json").exists()


def test_worker_that_has_said_why_is_not_repeated(world):
    world.goes("status 3")
    done = world.run()
    told(done)
    assert done.stderr.splitlines() == ["error: the worker's words"]


# ---- the environment


def test_environment_is_made_once(world):
    done = world.run()
    assert "4 GB" in done.stdout and str(world.env) in done.stdout
    made, upgrade, install, _ = world.calls()
    assert made == ["-m", "venv", str(world.env)] and upgrade[-1] == "pip"
    assert install == ["-m", "pip", "install", "--constraint", str(PINNED), "fadtk", "torchvggish", "soxr", "soundfile"]
    done = world.run()
    assert done.returncode == 0 and "GB" not in done.stdout
    assert len(world.calls()) == 1


def test_own_environment_is_left_as_it_is(world):
    (world.env / "bin").mkdir(parents=True)
    (world.env / "bin" / "python").symlink_to(world.python)
    assert world.run().returncode == 0
    assert world.installs() == 0 and os.listdir(world.env) == ["bin"]


def test_failed_installation(world):
    world.goes("no network")
    told(world.run(), "No matching distribution", "ended with status 1", "--env DIR", "pip install --constraint")
    assert not world.env.exists()


def test_interrupted_installation_leaves_nothing(world):
    process = world.hanging()
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130 and b"Traceback" not in stderr.replace(b"Traceback (most recent", b"", 1)
    assert not world.env.exists()


def test_killed_installation_is_made_anew(world):
    process = world.hanging()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    assert (world.env / "bin" / "python").exists()
    world.goes("well")
    world.calls()
    assert "made anew" in world.run().stdout
    assert world.installs() == 1
    assert world.run().returncode == 0 and world.installs() == 0


def test_environment_of_other_versions_is_made_anew(world):
    world.run()
    world.calls()
    (world.env / ".mp3net-fad").write_text("fadtk==1.0.0\n")
    (world.env / "old").touch()
    assert "made anew" in world.run().stdout
    assert world.installs() == 1 and not (world.env / "old").exists()


def test_two_runs_do_not_make_the_same(world):
    world.env.mkdir()
    with open(world.env / ".mp3net-fad", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told(world.run(), "another run is making it")
    assert world.calls() == []


@pytest.fixture
def fad(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fad

    return fad


def test_full_disk(fad, tmp_path, monkeypatch):
    usage = fad.shutil._ntuple_diskusage(10 * fad.GIB, 8 * fad.GIB, 2 * fad.GIB)
    monkeypatch.setattr(fad.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(fad.UserError, match=r"2\.0 GiB are free; making it takes 9"):
        fad.environment(tmp_path / "env", sys.executable)
    assert not (tmp_path / "env").exists()


def test_no_python_that_fits(fad, tmp_path, monkeypatch):
    old = tmp_path / "python3.11"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(old))
    with pytest.raises(fad.UserError, match="--python"):
        fad.find_python()


def test_versions_are_pinned(fad):
    pins = dict(line.split("==") for line in PINNED.read_text().splitlines() if not line.startswith("#"))
    assert pins["numpy"].startswith("1.") and set(fad.PACKAGES) | {"torch", "laion_clap"} <= set(pins)


# ---- the worker, where neither torch nor fadtk is


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fad_worker

    return fad_worker


def frequency(waveform, rate_hz):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(spectrum) * rate_hz / len(waveform)


@pytest.mark.parametrize(
    "ending, rate_hz", [("wav", 22016), ("flac", 96000), ("ogg", 44100), ("mp3", 48000), ("wav", 16000)]
)
def test_mono_at_the_rate_of_the_embedding(worker, tmp_path, ending, rate_hz):
    time_s = np.arange(2 * rate_hz) / rate_hz
    stereo = np.stack([0.6 * np.sin(2 * np.pi * 440 * time_s), 0.2 * np.sin(2 * np.pi * 440 * time_s)], axis=1)
    path = tmp_path / f"song.{ending}"
    soundfile.write(path, stereo, rate_hz)
    found = worker.mono(str(path), 16000)
    assert found.ndim == 1 and abs(len(found) - 32000) < (2000 if ending == "mp3" else 2)
    assert abs(frequency(found, 16000) - 440) < 1
    middle = found[8000:24000]
    assert abs(np.sqrt(2 * np.mean(middle**2)) - 0.4) < 0.01  # the mean of both channels
    assert_close(found * 32768, np.round(found * 32768), atol=0, rtol=0)


def test_long_file_is_read_in_blocks(worker, tmp_path, monkeypatch):
    path = tmp_path / "song.wav"
    soundfile.write(path, tones(3, 22016), 22016)
    whole = worker.mono(str(path), 48000)
    monkeypatch.setattr(worker, "_BLOCK", 1000)
    assert_close(worker.mono(str(path), 48000), whole, atol=4e-5, rtol=0)


def test_what_is_too_loud_is_clipped(worker, tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, np.tile([1.5, -1.5], 16000), 16000, subtype="FLOAT")
    found = worker.mono(str(path), 16000)
    assert found.max() == 32767 / 32768 and found.min() == -1


def damaged(path, kind):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "short":
        soundfile.write(path, np.full(8000, 0.5), 16000)
    elif kind == "nan":
        soundfile.write(path, np.full(32000, np.nan), 16000, subtype="FLOAT")
    elif kind == "no audio":
        path.write_text("words")


@pytest.mark.parametrize(
    "kind, words",
    [
        ("empty", "no audio that can be read"),
        ("no samples", "is empty"),
        ("short", "0.50 s: shorter than 1 s"),
        ("nan", "not a number"),
        ("no audio", "no audio that can be read"),
    ],
)
def test_files_not_worth_embedding(worker, tmp_path, kind, words):
    damaged(tmp_path / "song.wav", kind)
    with pytest.raises(worker.ToldError, match=words):
        worker.mono(str(tmp_path / "song.wav"), 16000)


class Model:
    """An embedding of two features each second: the level, and 1."""

    sr = 16000

    def get_embedding(self, waveform):
        seconds = waveform[: len(waveform) // self.sr * self.sr].reshape(-1, self.sr)
        return np.stack([np.sqrt(np.mean(seconds**2, axis=1)), np.ones(len(seconds))], axis=1).astype(np.float16)


def test_embedding_names_what_is_left_out_or_silent(worker, tmp_path, capsys):
    names = ["a.wav", "b.wav", "c.wav"]
    paths = [str(tmp_path / name) for name in names]
    soundfile.write(paths[0], np.full(48000, 0.5), 16000)
    damaged(tmp_path / "b.wav", "short")
    soundfile.write(paths[2], np.zeros(32000), 16000)
    features, found = worker.embed("real", paths, Model())
    assert_close(features, [[0.5, 1]] * 3 + [[0, 1]] * 2)
    assert features.dtype == np.float64
    assert found["songs"] == 2 and found["seconds"] == 5.0 and found["windows"] == 5
    assert list(found["left_out"]) == [paths[1]] and found["silent"] == [paths[2]]
    said = capsys.readouterr().out
    assert f"left out {paths[1]}: 0.50 s" in said and f"{paths[2]}: is silent, and counted" in said


def test_nothing_to_embed(worker, tmp_path):
    damaged(tmp_path / "a.wav", "short")
    with pytest.raises(worker.ToldError, match="no generated song can be embedded"):
        worker.embed("generated", [str(tmp_path / "a.wav")], Model())


def test_notes(worker):
    long, short = {"seconds_each": {"a": 20.0, "b": 5.95}}, {"seconds_each": {"c": 2.0}}
    result = {
        "features": 128,
        "fad_inf": None,
        "generated": {"windows": 128, **long},
        "real": {"windows": 129, **short},
    }
    said = " ".join(worker.notes(result, False, 0.96))
    assert "published weights" in said and "generated: 128 windows for 128" in said and "real:" not in said
    assert "no FAD-inf: it takes 1000 windows" in said
    fine = {"features": 2, "fad_inf": 1.0, "generated": {"windows": 9, **long}, "real": {"windows": 9, **short}}
    assert list(worker.notes(fine, None, 0.96)) == []
    generated, real = worker.notes(fine, None, 10.0)
    assert generated.startswith("generated: songs of 5.95 s under windows of 10 s") and real.startswith(
        "real: songs of 2 s"
    )


def test_environment_that_lacks_something(tmp_path):
    """The worker run by a Python without numpy says so, in the way that fad.py knows."""
    done = subprocess.run([*BARE, "-I", str(SCRIPTS / "fad_worker.py"), "job"], capture_output=True, text=True)
    assert done.returncode == 3 and "lacks numpy" in done.stderr and "--env" in done.stderr
