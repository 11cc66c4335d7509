"""`python -m mp3net.prepare`, as a user runs it: what it writes, how it resumes, and what it says when it cannot."""

import contextlib
import csv
import errno
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import soxr

from mp3net import cli
from mp3net import prepare as action
from mp3net.audio import files
from mp3net.data import conversion, preparation
from mp3net.data.corpus import open_corpus
from mp3net.errors import UserError

RATE_HZ = 22016


def recording(path, duration_s=1.0, level=0.3, channels=2, rate_hz=44100, seed=0):
    """Noise below 8 kHz, so that resampling keeps its level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    low = np.random.default_rng(seed).uniform(-1, 1, (round(duration_s * 16000), channels))
    samples = soxr.resample(low, 16000, rate_hz)
    soundfile.write(path, samples * level / np.abs(samples).max(), rate_hz)


def maestro(folder, duration_s=1.0):
    rows = ["canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"]
    for seed, (year, split) in enumerate([(2004, "train"), (2006, "test"), (2008, "train")]):
        recording(folder / str(year) / "p.wav", duration_s, seed=seed)
        rows.append(f'"Liszt, F.",Étude {year},{split},{year},{year}/p.midi,{year}/p.wav,{duration_s}')
    (folder / "maestro-v2.0.0.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def command(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "mp3net.prepare", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def rows(out):
    (path,) = glob.glob(os.path.join(out, "*.csv"))
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def partials(out):
    return glob.glob(os.path.join(out, "**", ".*.partial"), recursive=True)


def test_maestro_from_the_command_line(tmp_path):
    source, out = tmp_path / "maestro", tmp_path / "new" / "out"
    maestro(source)
    status, said, _ = finish(command("--source", source, "--out", out, "--years", "2004", "2008", "--jobs", "2"))
    assert status == 0
    assert said.splitlines()[-1] == f"Train on it: python -m mp3net.train --gin 95s --data {out} --workdir runs/first"
    assert said.startswith((out / "report.txt").read_text())
    table = rows(out)
    assert os.path.exists(out / "maestro-v2.0.0.csv")
    assert [row["audio_filename"] for row in table] == ["2004/p.wav", "2008/p.wav"]
    assert table[0]["canonical_title"] == "Étude 2004" and table[0]["canonical_composer"] == "Liszt, F."
    assert (table[1]["split"], table[1]["year"], table[1]["duration"]) == ("train", "2008", "1.0")
    for row in table:
        back, rate_hz = soundfile.read(out / row["audio_filename"], dtype="float64")
        original, _ = soundfile.read(source / row["audio_filename"])
        assert (rate_hz, soundfile.info(out / row["audio_filename"]).subtype) == (RATE_HZ, "PCM_16")
        assert (int(row["frames"]), int(row["rate_hz"]), int(row["channels"])) == (*back.shape[:1], RATE_HZ, 2)
        expected = soxr.resample(original, 44100, RATE_HZ)  # at the recording's own level
        np.testing.assert_allclose(back, expected, atol=2**-16 + 1e-5)
        assert float(row["peak"]) == np.abs(back).max() and float(row["gain"]) == 1.0
    corpus = open_corpus(out)
    assert corpus.left_out == [] and corpus.rate_hz == RATE_HZ
    assert corpus.recordings[0].peak == float(table[0]["peak"])


def test_plain_folder(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    recording(source / "deep" / "a.flac", 1.5)
    recording(source / "deep" / "a.mp3")
    recording(source / "b.ogg")
    recording(source / "mono.wav", channels=1)
    (source / "c.m4a").touch()
    action.main(["--source", str(source), "--out", str(out), "--years", "2004", "--jobs", "1"])
    said = capsys.readouterr().out
    assert "2 recordings" in said and "3 left out" in said
    assert "mono.wav: mono where stereo" in said and "c.m4a: needs conversion: ffmpeg" in said
    assert "deep/a.mp3: would become the same file as deep/a.flac" in said
    assert "note: " in said and "all recordings are taken" in said
    table = rows(out)
    assert [row["audio_filename"] for row in table] == ["b.wav", "deep/a.wav"]
    title = table[1]
    assert (title["canonical_composer"], title["canonical_title"], title["split"], title["year"]) == (
        "",
        "a",
        "train",
        "",
    )
    assert float(title["duration"]) == pytest.approx(1.5)


def test_a_share_of_a_plain_folder_is_held_out(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    for i in range(10):
        recording(source / f"{i}.wav", 0.1)
    line = ["--source", str(source), "--out", str(out), "--jobs", "1"]
    action.main([*line, "--held_out", "0.2"])
    assert "--gin_param \"data.splits = ('train',)\"" in capsys.readouterr().out
    aside = {row["audio_filename"] for row in rows(out) if row["split"] == "validation"}
    assert len(aside) == 2 and {row["split"] for row in rows(out)} == {"train", "validation"}
    recording(source / "10.wav", 0.1)
    action.main([*line, "--held_out", "0.2"])
    assert len(aside & {row["audio_filename"] for row in rows(out) if row["split"] == "validation"}) >= 1
    action.main(line)
    assert {row["split"] for row in rows(out)} == {"train"}
    with pytest.raises(UserError, match="has splits of its own"):
        action.main(["--source", str(out), "--out", str(tmp_path / "again"), "--held_out", "0.2"])
    assert not (tmp_path / "again").exists()


def test_mono_both_ways(tmp_path):
    source = tmp_path / "in"
    recording(source / "mono.wav", channels=1)
    recording(source / "stereo.wav")
    preparation.prepare(source, tmp_path / "up", conversion.Settings(upmix=True), jobs=1)
    doubled = soundfile.read(tmp_path / "up" / "mono.wav", dtype="int16")[0]
    np.testing.assert_array_equal(doubled[:, 0], doubled[:, 1])
    preparation.prepare(source, tmp_path / "down", conversion.Settings(channels=1), jobs=1)
    stereo = soundfile.read(tmp_path / "up" / "stereo.wav")[0]
    np.testing.assert_allclose(soundfile.read(tmp_path / "down" / "stereo.wav")[0], stereo.mean(axis=1), atol=2**-15)


def test_level_is_kept_unless_it_would_clip(tmp_path):
    """A full-scale square wave overshoots when it is resampled."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    square = np.where(np.arange(44100 * 10) // 50 % 2, 1.0, -1.0)[:, None].repeat(2, axis=1)
    soundfile.write(source / "square.wav", square, 44100, subtype="FLOAT")
    recording(source / "soft.wav", level=0.998 * 0.9)
    report = preparation.prepare(source, out, conversion.Settings(), jobs=1)
    assert "1 scaled down" in report.text()
    soft, loud = rows(out)
    assert float(soft["gain"]) == 1.0 and loud["audio_filename"] == "square.wav"
    overshoot = np.abs(np.concatenate(list(files.stream(source / "square.wav", RATE_HZ, 2)))).max()
    assert overshoot > 1.05
    assert float(loud["gain"]) == pytest.approx(0.999 / overshoot, rel=1e-6)
    back = soundfile.read(out / "square.wav")[0]
    assert np.abs(back).max() == float(loud["peak"]) == pytest.approx(0.999, abs=2**-15)
    expected = soxr.resample(square, 44100, RATE_HZ) * float(loud["gain"])
    np.testing.assert_allclose(back[: RATE_HZ * 7], expected[: RATE_HZ * 7], atol=2**-16 + 3e-5)


def test_gain_is_of_the_recording_when_prepared_twice(tmp_path):
    source = tmp_path / "in"
    recording(source / "a.wav", level=0.5)
    preparation.prepare(source, tmp_path / "one", conversion.Settings(), jobs=1)
    path = tmp_path / "one" / "metadata.csv"
    path.write_text(path.read_text().replace(",1.0\n", ",0.25\n"))
    preparation.prepare(tmp_path / "one", tmp_path / "two", conversion.Settings(16000), jobs=1)
    (row,) = rows(tmp_path / "two")
    assert (float(row["gain"]), row["rate_hz"]) == (0.25, "16000")


def test_second_run_converts_only_what_changed(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for name in "abc":
        recording(source / f"{name}.wav", seed=ord(name))
    preparation.prepare(source, out, conversion.Settings(), jobs=1)
    before = {name: os.stat(out / f"{name}.wav").st_mtime_ns for name in "abc"}
    recording(source / "a.wav", 0.7)
    (out / "b.wav").write_bytes((out / "b.wav").read_bytes()[:-2])
    report = preparation.prepare(source, out, conversion.Settings(), jobs=1)
    assert report.resumed == 1 and len(report.taken) == 3
    assert os.stat(out / "c.wav").st_mtime_ns == before["c"]
    assert soundfile.info(out / "b.wav").frames == RATE_HZ
    assert int(rows(out)[0]["frames"]) == soundfile.info(out / "a.wav").frames == round(0.7 * RATE_HZ)


def test_no_csv_while_files_are_being_replaced(tmp_path, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    recording(source / "a.wav")
    preparation.prepare(source, out, conversion.Settings(), jobs=1)
    recording(source / "a.wav", 2)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "_convert_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare(source, out, conversion.Settings(), jobs=1)
    assert glob.glob(str(out / "*.csv")) == []


def test_other_settings_are_refused(tmp_path):
    recording(tmp_path / "in" / "a.wav")
    preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), jobs=1)
    with pytest.raises(UserError, match=r"begun with 22016 Hz, 2 channel.*now 16000 Hz, 1 channel"):
        preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(16000, 1), jobs=1)


def test_files_of_another_choice_are_named(tmp_path):
    maestro(tmp_path / "in", 0.2)
    preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), years=[2004], jobs=1)
    report = preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), years=[2006], jobs=1)
    assert "1 files of earlier runs" in report.text()
    assert [row["year"] for row in rows(tmp_path / "out")] == ["2006"]


def long_recordings(folder, count=12, minutes=4):
    second = np.random.default_rng(0).integers(-9000, 9000, (44100, 2), np.int16)
    folder.mkdir()
    with soundfile.SoundFile(folder / "00.wav", "w", 44100, 2) as sound:
        for _ in range(60 * minutes):
            sound.write(second)
    for number in range(1, count):
        os.link(folder / "00.wav", folder / f"{number:02d}.wav")


def until_finished(out, count, process):
    """Waits until the journal of a running command notes `count` files."""
    journal = os.path.join(out, ".prepare.jsonl")
    for _ in range(3000):
        with contextlib.suppress(FileNotFoundError), open(journal) as file:
            if len(file.readlines()) > count:
                return
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.005)
    raise AssertionError("the run did not begin")


def workers_of(process):
    """The process ids of a running command's workers, without the one that tracks its semaphores."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        pids = file.read().split()
    found = []
    for pid in pids:
        with open(f"/proc/{pid}/cmdline") as file:
            if "spawn_main" in file.read():
                found.append(int(pid))
    return found


def ignores(pid, number):
    """Whether a process ignores a signal."""
    with open(f"/proc/{pid}/status") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle_and_resumed(tmp_path, blow):
    source, out = tmp_path / "in", tmp_path / "out"
    long_recordings(source)
    process = command("--source", source, "--out", out, "--jobs", "1", start_new_session=True)
    until_finished(out, 2, process)
    workers = workers_of(process)
    assert workers and all(ignores(pid, number) for pid in workers for number in (signal.SIGINT, signal.SIGTERM))
    if blow == signal.SIGINT:
        os.killpg(process.pid, blow)  # as a terminal does: the workers get it too
    else:
        process.send_signal(blow)
    status, _, err = finish(process)
    assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[blow]
    for _ in range(200):
        if not any(os.path.exists(f"/proc/{pid}") for pid in workers):
            break
        time.sleep(0.02)
    else:
        raise AssertionError("a worker outlived its parent")
    assert glob.glob(str(out / "*.csv")) == []
    frames = 4 * 60 * RATE_HZ
    whole = glob.glob(str(out / "*.wav"))
    assert 2 <= len(whole) < 12
    assert {soundfile.info(path).frames for path in whole} == {frames}, "no half file under its name"
    assert blow == signal.SIGKILL or partials(out) == []
    (out / ".09.wav.1.partial").write_bytes(b"left by a kill")
    noted = len((out / ".prepare.jsonl").read_text().splitlines()) - 1
    with open(out / ".prepare.jsonl", "a") as journal:
        journal.write('{"name": "11.wav", "sou')  # the line that a kill cut
    status, said, _ = finish(command("--source", source, "--out", out, "--jobs", "2"))
    assert status == 0 and f"{12 - noted} converted now, {noted} from an earlier run" in said
    assert partials(out) == []
    assert [int(row["frames"]) for row in rows(out)] == [frames] * 12
    for line in (out / ".prepare.jsonl").read_text().splitlines():
        assert line == '{"name": "11.wav", "sou' or json.loads(line)


def test_worker_asked_to_stop_leaves_nothing(tmp_path, monkeypatch):
    recording(tmp_path / "in" / "a.wav", 20)
    stop = threading.Event()
    monkeypatch.setattr(conversion, "_stop", stop)
    target = str(tmp_path / "out" / "a.wav")
    assert conversion.convert(tmp_path / "in" / "a.wav", target, conversion.Settings()).frames == 20 * RATE_HZ
    os.unlink(target)
    stop.set()
    with pytest.raises(conversion.Stopped):
        conversion.convert(tmp_path / "in" / "a.wav", target, conversion.Settings())
    assert os.listdir(tmp_path / "out") == []


def test_two_runs_at_once(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    long_recordings(source)
    first = command("--source", source, "--out", out, "--jobs", "1")
    until_finished(out, 1, first)
    status, _, err = finish(command("--source", source, "--out", out))
    assert status == 1 and "another run is preparing into it" in err and len(err.splitlines()) == 1
    first.terminate()
    finish(first)
    status, _, _ = finish(command("--source", source, "--out", out))
    assert status == 0 and len(rows(out)) == 12, "the lock went with its owner"


def test_jobs_make_no_difference(tmp_path):
    maestro(tmp_path / "in", 9)
    for jobs in ("1", "2"):
        action.main(["--source", str(tmp_path / "in"), "--out", str(tmp_path / jobs), "--jobs", jobs])
    for name in ("maestro-v2.0.0.csv", "2004/p.wav", "2006/p.wav", "2008/p.wav"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["--source", "{in}", "--out", "{in}"], 1, "one lies within the other"),
        (["--source", "{in}", "--out", "{in}/sub/out"], 1, "one lies within the other"),
        (["--source", "{in}/sub", "--out", "{in}"], 1, "one lies within the other"),
        (["--source", "{in}", "--out", "{taken}"], 1, "holds song.wav already"),
        (["--source", "{in}", "--out", "{file}"], 1, "is a file"),
        (["--source", "{none}", "--out", "{new}"], 1, "no such folder"),
        (["--source", "{empty}", "--out", "{new}"], 1, "holds no .wav"),
        (["--source", "gs://bucket/x", "--out", "{new}"], 1, "copy it to a local disk first"),
        (["--source", "{in}", "--out", "gs://bucket/x"], 1, "prepare locally"),
        (["--source", "{in}", "--out", "{new}", "--rate", "22"], 2, "--rate 22: give a rate"),
        (["--source", "{in}", "--out", "{new}", "--jobs", "0"], 2, "--jobs 0"),
        (["--source", "{in}", "--out", "{new}", "--held_out", "0.6"], 2, "--held_out 0.6"),
        (["--source", "{in}", "--out", "{new}", "--held_out", "0.1"], 1, "takes 2 recordings or more"),
        (["--source", "{in}", "--out", "{new}", "--channels", "6"], 2, "--channels"),
        (["--source", "{in}"], 2, "--out"),
    ],
)
def test_command_lines_that_do_not_fit(tmp_path, arguments, status, words, capsys):
    recording(tmp_path / "in" / "sub" / "a.wav", 0.1)
    recording(tmp_path / "taken" / "song.wav", 0.1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    named = {name: tmp_path / name for name in ("in", "taken", "file", "none", "new", "empty")}
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: action.main([argument.format(**named) for argument in arguments]))
    err = capsys.readouterr().err
    assert left.value.code == status
    assert words in err
    assert status == 2 or len(err.splitlines()) <= 2
    assert not (tmp_path / "new").exists()


def test_disk_that_is_read_only(tmp_path, capsys, monkeypatch):
    """Permissions do not stop root, so the refusal is put in."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    recording(tmp_path / "in" / "a.wav", 0.1)
    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: action.main(["--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]))
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/out: the file system is read-only")


def test_every_recording_bad(tmp_path):
    recording(tmp_path / "in" / "a.flac", 20)
    path = tmp_path / "in" / "a.flac"
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 5000] = bytes(5000)  # the header and the end are fine
    path.write_bytes(damaged)
    assert files.probe(path).frames == 20 * 44100
    with pytest.raises(UserError) as caught:
        preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), jobs=1)
    assert "no recording could be converted" in str(caught.value)
    assert "a.flac: damaged or cut short near" in str(caught.value)
    assert not glob.glob(str(tmp_path / "out" / "*.*"))


def test_too_little_space_is_said_before(tmp_path, monkeypatch):
    recording(tmp_path / "in" / "a.wav", 10)
    free = 10 * RATE_HZ * 4
    usage = preparation.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage._replace(free=free - 1))
    with pytest.raises(UserError, match="GB are needed"):
        preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), jobs=1)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage._replace(free=free))
    preparation.prepare(tmp_path / "in", tmp_path / "out", conversion.Settings(), jobs=1)


def test_disk_that_fills_up(tmp_path):
    """The worker's half file is a link to /dev/full; a small `tmpfs` would need root."""
    source, out = tmp_path / "in", tmp_path / "out"
    recording(source / "a.wav", 10)
    out.mkdir()
    program = (
        "import os, sys; from mp3net import cli, prepare\n"
        "if __name__ == '__main__':\n"
        "    cli.run(lambda: prepare.main(sys.argv[1:]))\n"
        "else:\n"  # in the worker, which imports this file under another name
        "    from mp3net.audio import writing\n"
        f"    os.symlink('/dev/full', {str(out / '.a.partial')!r})\n"
        f"    writing.partial_name = lambda path: {str(out / '.a.partial')!r}\n"
    )
    (tmp_path / "full.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "full.py", "--source", source, "--out", out], stderr=subprocess.PIPE, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    status, said, err = finish(process)
    assert status == 1 and said == ""
    assert err.splitlines()[-1].endswith("a.wav: the disk is full; free some space and run the same command again")
    assert sorted(os.listdir(out)) == [".prepare.jsonl"]


def test_worker_that_dies(tmp_path):
    """As one does that the system kills for lack of memory."""
    source, out = tmp_path / "in", tmp_path / "out"
    long_recordings(source)
    process = command("--source", source, "--out", out, "--jobs", "1")
    until_finished(out, 1, process)
    for pid in workers_of(process):
        os.kill(pid, signal.SIGKILL)
    status, _, err = finish(process)
    assert status == 1
    assert "error: A worker process died, perhaps for lack of memory" in err.splitlines()[-1]


def test_tensorflow_is_never_imported(tmp_path):
    program = (
        "import sys, mp3net.prepare; print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras')])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
