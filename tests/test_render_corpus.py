"""scripts/render_corpus.py: the notation, the performance, the built-in piano, FluidSynth, and the command itself."""

import csv
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

if os.environ.get("MP3NET_REQUIRE_ALL") != "1":
    pytest.importorskip("mido", reason="package missing: mido: pip install 'mp3net[corpus]'")

import mido  # noqa: E402
import render_corpus  # noqa: E402
from music import corpus, midi, notation, performance, piano, synths, wav  # noqa: E402

from mp3net import cli  # noqa: E402

RATE_HZ = 22050
HEADER = """composer: Nobody
title: A test
key: C major
includes: all
year: 2004
split: train
time: {time}
tempo: 60
play: {play}

"""


def piece(body, time="3/4", play="A"):
    return notation.parse(HEADER.format(time=time, play=play) + body, "test.txt")


def midi_file(events, tempo=500000, ticks=480):
    """A type 0 file of (tick delta, message name, fields)."""
    file = mido.MidiFile(type=0, ticks_per_beat=ticks)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    for delta, name, fields in events:
        kind = mido.MetaMessage if name == "set_tempo" else mido.Message
        track.append(kind(name, time=delta, **fields))
    file.tracks.append(track)
    return performance.midi_bytes(file)


def one_note(pitch=60, velocity=80, ticks=480):
    return midi_file([(0, "note_on", {"note": pitch, "velocity": velocity}), (ticks, "note_off", {"note": pitch})])


def run_script(*arguments, env=None):
    command = [sys.executable, str(ROOT / "scripts" / "render_corpus.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def needs_fluidsynth():
    """Skips where FluidSynth or a sound font is missing; fails where MP3NET_REQUIRE_ALL=1 asks for everything."""
    if shutil.which("fluidsynth") and synths.find_soundfont():
        return
    reason = "system package missing: fluidsynth: apt-get install fluidsynth musescore-general-soundfont-small"
    if os.environ.get("MP3NET_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


# The notation


def test_notes_have_the_pitches_and_onsets_that_a_hand_computes():
    # C major, tempo 60: a quarter lasts one second.
    parsed = piece("[A]\nR c4:4 f#4:8 bb3 r:4 | e4,g4:2.~ | e4,g4:2.\nL c2:8t d2 e2 c2:2 | r:2. | r\n")
    sounds = midi.sounds(performance.perform(parsed, human=False))
    got = [(round(sound.start_s, 3), sound.pitch) for sound in sounds]
    expected = [(0, 36), (0, 60), (0.333, 38), (0.667, 40), (1, 36), (1, 66), (1.5, 58), (3, 64), (3, 67)]
    assert got == expected
    lasts = {sound.pitch: sound.end_s - sound.start_s for sound in sounds}
    assert lasts[66] == pytest.approx(0.5, abs=0.02)
    assert lasts[67] == pytest.approx(6.0, abs=0.2)  # tied over two bars


def test_patterns_groups_and_repeats_are_written_out():
    parsed = piece("[pattern w]\nR $1:4 ($2:8)*4\n[A]\n*w c4 e4 | d4 f4\n", play="A A-10")
    sounds = midi.sounds(performance.perform(parsed, human=False))
    bar = [60, 64, 64, 64, 64, 62, 65, 65, 65, 65]
    assert [sound.pitch for sound in sounds] == bar * 2
    assert sounds[0].velocity - sounds[10].velocity == 10


def test_tempo_and_dynamics_follow_their_marks():
    parsed = piece("[A]\nR c4:4 c4 c4 | c4 c4 c4 | c4 c4 c4 | c4 c4 c4\nD p < - f\nT 100 50*3\n")
    sounds = midi.sounds(performance.perform(parsed, human=False))
    # The first bar slides from 60 to 50 % by thirds: 1, 1/(5/6), 1/(4/6) seconds; then two seconds each.
    assert np.diff([sound.start_s for sound in sounds]) == pytest.approx([1, 1.2, 1.5] + [2] * 8, abs=0.01)
    level = [sound.velocity for sound in sounds]
    assert level[1] == performance.LEVELS["p"] and level[10] == performance.LEVELS["f"]
    slide = [level[index] for index in (1, 4, 5, 7, 8, 10)]
    assert slide == sorted(set(slide))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "[A]\nR c4:4 d4 e4 | c4:4 d4\n",
            "test.txt: section A, voice R, bar 2: its durations add up to 1/2, not to 3/4",
        ),
        ("[A]\nR c4:2.\nL c3:2.\nL d3:2\n", "test.txt: section A, voice L, bar 2: its durations add up to 1/2"),
        ("[A]\nR c4:2. | d4\nL c3:2.\n", "voice L: 1 bars, but 2 in the first voice"),
        ("[A]\nR <1/4> c4:4\nL c3:2.\n", "voice L, bar 1: 3/4 long, but 1/4 in the first voice"),
        ("[A]\nR h4:2.\n", "bar 1: cannot read 'h4:2.'"),
        ("[A]\nR c4:2.~ | d4\n", "bar 2: a tie leads to 'd4'"),
        ("[A]\nR c4:2.~\n", "a tie leads out of the section"),
        ("[A]\nR c4:2.\nD p f\n", "2 marks in D for 1 bars"),
        ("[A]\n*w c4\n", "there is no pattern 'w'"),
        ("[B]\nR c4:2.\n", "there is no section 'A'"),
    ],
)
def test_a_wrong_bar_is_named(body, message):
    with pytest.raises(notation.NotationError) as caught:
        piece(body)
    assert message in str(caught.value)


def test_the_pieces_are_enough_and_the_same_at_every_call():
    works, longer = corpus.own_works(), corpus.own_works(minutes=20)
    seconds = sum(midi.read(work.data).length for work in works)
    assert len(works) >= 8 and seconds >= 12 * 60
    assert [work.data for work in works] == [work.data for work in longer[: len(works)]]
    assert {work.row["split"] for work in works} == set(corpus.SPLITS)
    assert {work.row["year"] for work in works} == {"2004", "2006", "2008", "2009"}
    assert len(works) < len(longer) < 2 * len(works)
    assert longer[len(works)].data != works[0].data  # another take, not a copy
    assert len({work.row["audio_filename"] for work in longer}) == len(longer)
    shortest = corpus.read_pieces()[6]
    takes = [performance.midi_bytes(performance.perform(shortest, take)) for take in range(3)]
    assert len(set(takes)) == 3


def test_no_key_is_cut_by_its_own_repetition():
    for work in corpus.own_works():
        sounds = midi.sounds(midi.read(work.data))
        assert min(sound.end_s - sound.start_s for sound in sounds) > 0.01, work.row["canonical_title"]
        assert max(sound.end_s - sound.start_s for sound in sounds) < 20


# MIDI as it sounds


def test_a_tempo_change_moves_what_follows():
    events = [
        (480, "note_on", {"note": 60, "velocity": 64}),
        (0, "set_tempo", {"tempo": 1000000}),
        (480, "note_off", {"note": 60}),
    ]
    (sound,) = midi.sounds(midi.read(midi_file(events)))
    assert (sound.start_s, sound.end_s) == pytest.approx((0.5, 1.5))


def test_the_pedal_holds_what_the_finger_lets_go():
    events = [
        (0, "control_change", {"control": 64, "value": 127}),
        (0, "note_on", {"note": 60, "velocity": 64}),
        (480, "note_off", {"note": 60}),
        (960, "control_change", {"control": 64, "value": 0}),
        (0, "note_on", {"note": 62, "velocity": 64}),
        (480, "note_off", {"note": 62}),
    ]
    held, free = midi.sounds(midi.read(midi_file(events)))
    assert (held.end_s, free.end_s) == pytest.approx((1.5, 2.0))


# The built-in piano


def level_db(waveform):
    return 10 * np.log10(np.mean(np.square(waveform)) + 1e-20)


def play(*sounds, rate_hz=RATE_HZ):
    return piano.render([midi.Sound(*sound) for sound in sounds], rate_hz)


def spectrum(waveform):
    """Power of a Hann-windowed mono mix, and the frequencies in Hz."""
    mono = waveform.mean(axis=1)
    size = 1 << 18
    return np.abs(np.fft.rfft(mono * np.hanning(len(mono)), size)) ** 2, np.fft.rfftfreq(size, 1 / RATE_HZ)


def test_a4_sounds_at_440_hz():
    power, hz = spectrum(play((0.0, 2.0, 69, 90))[: 2 * RATE_HZ])
    assert hz[np.argmax(power)] == pytest.approx(440.0, abs=0.6)
    near = (hz > 400) & (hz < 1000)
    peaks = hz[near & (hz > 700)][np.argmax(power[near & (hz > 700)])]
    assert 880.0 < peaks < 884.0  # the second partial: a little sharp of the octave, as of a stiff string


def test_upper_partials_fade_faster():
    sound = play((0.0, 3.0, 57, 100))
    early, late = sound[: RATE_HZ // 2], sound[2 * RATE_HZ : 5 * RATE_HZ // 2]

    def ratio_db(part):
        power, hz = spectrum(part)
        return 10 * np.log10(power[hz > 1500].sum() / power[hz < 500].sum())

    assert ratio_db(late) < ratio_db(early) - 6


def test_loud_notes_are_louder_and_brighter():
    soft, loud = (play((0.0, 1.0, 60, velocity))[:RATE_HZ] for velocity in (30, 110))
    assert level_db(loud) > level_db(soft) + 12

    def bright_db(part):
        power, hz = spectrum(part)
        return 10 * np.log10(power[hz > 1500].sum() / power.sum())

    assert bright_db(loud) > bright_db(soft) + 6


def test_the_damper_silences_and_the_pedal_lets_ring():
    damped, ringing = play((0.0, 0.5, 60, 90)), play((0.0, 2.5, 60, 90))
    after = slice(int(1.9 * RATE_HZ), int(2.2 * RATE_HZ))
    start = level_db(damped[: RATE_HZ // 2])
    assert level_db(damped[after]) < start - 50
    assert level_db(ringing[after]) > start - 30
    falling = slice(int(0.75 * RATE_HZ), int(0.85 * RATE_HZ))
    assert level_db(damped[falling]) < level_db(ringing[falling]) - 15
    assert level_db(damped[-RATE_HZ // 2 :]) < -100


def test_nothing_clips_and_the_two_sides_differ():
    everything = [(0.01 * index, 2.0, 30 + 2 * index, 127) for index in range(35)]
    sound = play(*everything)
    assert np.abs(sound).max() <= piano.CEILING + 1e-6 and np.isfinite(sound).all()
    assert np.corrcoef(sound.T)[0, 1] < 0.95
    low, high = play((0.0, 1.0, 36, 80)), play((0.0, 1.0, 96, 80))
    assert level_db(low[:, 0]) > level_db(low[:, 1]) and level_db(high[:, 1]) > level_db(high[:, 0])


# FluidSynth


def test_fluidsynth_plays_the_note_and_lets_it_ring_out(tmp_path):
    needs_fluidsynth()
    folder = tmp_path / "midi"
    folder.mkdir()
    organ = (0, "program_change", {"program": 19})
    note = {"note": 69, "velocity": 90}
    events = [organ, (0, "note_on", note), (1920, "note_off", note), (0, "note_on", {"channel": 9, "note": 81})]
    (folder / "a.mid").write_bytes(midi_file(events))
    done = run_script("--out", tmp_path / "out", "--midi", folder, "--synth", "fluidsynth")
    assert done.returncode == 0 and "Synthesiser: FluidSynth" in done.stdout, done.stderr
    sound, rate_hz = soundfile.read(tmp_path / "out" / "2004" / "a.wav")
    assert rate_hz == 44100 and 2.2 < len(sound) / rate_hz < 4.5 and 0.01 < np.abs(sound).max() < 1
    power = np.abs(np.fft.rfft(sound.mean(axis=1)[:rate_hz]))
    peak = int(np.argmax(power))
    assert min(abs(peak - 440), abs(peak - 880)) <= 6
    assert level_db(sound[-4410:]) < level_db(sound[:rate_hz]) - 40
    # A piano's note fades while it is held; the organ that the file asks for would not.
    assert level_db(sound[int(1.7 * rate_hz) : 2 * rate_hz]) < level_db(sound[: rate_hz // 3]) - 5


def test_what_is_no_sound_font_is_refused(tmp_path):
    (tmp_path / "wave.sf2").write_bytes(b"RIFF????WAVE" + bytes(100))
    (tmp_path / "text.sf2").write_bytes(b"text    sfbk" + bytes(100))
    no = "is not a sound font"
    for font, message in (("wave.sf2", no), ("text.sf2", no), ("none.sf2", "there is no such"), ("", "is a folder")):
        with pytest.raises(render_corpus.UserError, match=message):
            synths.FluidSynth("fluidsynth", tmp_path / font)


def test_the_best_sound_font_is_taken_and_a_mono_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(synths, "_version", lambda program: "2")
    for name in ("TimGM6mb.sf2", "another.sf2", "FluidR3_GM.sf2"):
        (tmp_path / name).write_bytes(b"RIFF????sfbk")
    assert synths.find_soundfont([tmp_path / "none", tmp_path]).name == "FluidR3_GM.sf2"
    assert "mono" in synths.choose("auto", tmp_path / "TimGM6mb.sf2")[1]
    assert synths.choose("auto", tmp_path / "FluidR3_GM.sf2")[1] == "FluidSynth 2 with FluidR3_GM.sf2"


def test_without_fluidsynth_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    synth, told = synths.choose("auto")
    assert isinstance(synth, synths.Additive)
    assert "FluidSynth is not installed" in told and "apt-get install fluidsynth" in told
    with pytest.raises(render_corpus.UserError, match="apt-get install fluidsynth"):
        synths.choose("fluidsynth")


# The command


@pytest.fixture
def scores(tmp_path):
    folder = tmp_path / "scores"
    (folder / "Composer" / "2006").mkdir(parents=True)
    (folder / "Composer" / "2006" / "first.mid").write_bytes(one_note(60))
    (folder / "second.midi").write_bytes(one_note(64))
    return folder


def render(folder, out, *more):
    return render_corpus.main(["--midi", str(folder), "--out", str(out), "--synth", "additive", *more])


def rows_of(out):
    return list(csv.DictReader(io.StringIO((out / "metadata.csv").read_text())))


def test_a_folder_becomes_a_maestro_shaped_corpus(scores, tmp_path):
    out = tmp_path / "out"
    assert render(scores, out) == 0
    header = (out / "metadata.csv").read_text().splitlines()[0]
    maestro = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"
    assert header == maestro
    rows = rows_of(out)
    assert [row["audio_filename"] for row in rows] == ["2006/Composer-first.wav", "2004/second.wav"]
    for row in rows:
        info = soundfile.info(out / row["audio_filename"])
        assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_16")
        assert info.duration == pytest.approx(float(row["duration"]), abs=1e-4)
        assert info.duration == pytest.approx(0.5 + piano.RING_S, abs=0.01)
    assert (out / "2004" / "second.midi").read_bytes() == (scores / "second.midi").read_bytes()
    assert not list(out.rglob("*" + wav.PARTIAL))


def test_maestros_own_table_is_kept(scores, tmp_path, capsys):
    table = (
        "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration\n"
        'Anton Nobody,"Étude, No. 1",test,2006,Composer/2006/first.mid,2006/recital_1.mp3,0.5\n'
        "Anton Nobody,Gone,train,2004,2004/gone.midi,2004/gone.wav,1\n"
        "Anton Nobody,Bad,train,2004,second.midi,../outside.wav,1\n"
    )
    (scores / "maestro-v3.0.0.csv").write_text(table)
    out = tmp_path / "out"
    assert render(scores, out) == 0
    (row,) = rows_of(out)
    assert (row["canonical_title"], row["split"]) == ("Étude, No. 1", "test")
    assert row["audio_filename"] == "2006/recital_1.wav" and (out / row["audio_filename"]).is_file()
    told = capsys.readouterr().err
    assert "2004/gone.midi: the table lists it" in told and "outside the folder" in told
    assert not (tmp_path / "outside.wav").exists()


def test_what_is_already_there_is_used_again_unless_it_changed(scores, tmp_path, capsys):
    out = tmp_path / "out"
    render(scores, out)
    first, second = out / "2006" / "Composer-first.wav", out / "2004" / "second.wav"
    times = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:2000])  # as a copy that was cut short
    render(scores, out)
    assert "1 of them already there" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == times[0] and second.stat().st_mtime_ns != times[1]
    assert soundfile.info(second).duration > 2
    (scores / "second.midi").write_bytes(one_note(71))
    changed = second.read_bytes()
    render(scores, out)
    assert second.read_bytes() != changed
    render(scores, out, "--rate", "22050")
    assert soundfile.info(first).samplerate == 22050


def test_a_damaged_file_is_left_out_with_its_reason(scores, tmp_path, capsys):
    (scores / "broken.mid").write_bytes(one_note()[:40])
    (scores / "empty.mid").write_bytes(b"")
    (scores / "silent.mid").write_bytes(midi_file([(480, "control_change", {"control": 64, "value": 0})]))
    (scores / "endless.mid").write_bytes(one_note(60, 80, 0x0FFFFFFF))
    assert render(scores, tmp_path / "out") == 0
    told = capsys.readouterr().err
    for name in ("broken", "empty", "silent", "endless"):
        assert f"left out: 2004/{name}.mid: " in told
    assert "it holds no notes" in told and "by its own count" in told
    assert len(rows_of(tmp_path / "out")) == 2


def test_a_killed_run_leaves_no_half_file(tmp_path):
    folder = tmp_path / "scores"
    folder.mkdir()
    for index in range(8):
        (folder / f"{index}.mid").write_bytes(one_note(60 + index, 80, 480 * 16))
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "scripts" / "render_corpus.py"), "--out", str(out), "--midi", str(folder)]
    with subprocess.Popen([*command, "--synth", "additive", "--jobs", "1"], stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while not list(out.rglob("*.wav")) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finished = list(out.rglob("*.wav"))
    assert 0 < len(finished) < 8 and not (out / "metadata.csv").exists()
    for path in finished:
        assert soundfile.info(path).duration == pytest.approx(8 + piano.RING_S, abs=0.05)
    assert render(folder, out) == 0
    assert len(rows_of(out)) == 8 and not list(out.rglob("*" + wav.PARTIAL))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "b.wav"
    target.write_bytes(b"whole")
    with pytest.raises(TypeError):
        wav.write_whole(target, b"half", "not bytes")

    def refuse(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        wav.write_whole(target, b"half")
    assert target.read_bytes() == b"whole" and [path.name for path in tmp_path.iterdir()] == ["b.wav"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--midi", "{tmp}/empty"], 1, "holds no MIDI files"),
        (["--midi", "{tmp}/none"], 1, "there is no such folder"),
        (["--midi", "{tmp}/bad", "--synth", "additive"], 1, "nothing could be played"),
        (["--out", "{tmp}/file"], 1, "a file is in the way"),
        (["--out", "{tmp}/file/deeper"], 1, "a file is in the way"),
        (["--out", "/proc/nowhere"], 1, "error:"),
        (["--rate", "12"], 2, "--rate 12"),
        (["--minutes", "0"], 2, "--minutes 0"),
        (["--minutes", "nan"], 2, "--minutes nan"),
        (["--jobs", "0"], 2, "--jobs 0"),
        (["--midi", "{tmp}/out"], 2, "same folder"),
        (["--soundfont", "x.sf2", "--synth", "additive"], 2, "--soundfont is for FluidSynth"),
        (["--synth", "organ"], 2, "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_line(tmp_path, capsys, arguments, status, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mid").write_bytes(b"MThd")
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: render_corpus.main(["--out", str(tmp_path / "out"), *given]))
    told = capsys.readouterr().err.splitlines()
    assert stopped.value.code == status and message in told[-1]
    if "choice" not in message:  # argparse prints its usage above its message
        assert told[-1].startswith("error: ") and len(told) <= 2


def test_a_missing_soundfont_is_told_in_a_line(tmp_path):
    done = run_script("--out", tmp_path / "out", "--soundfont", tmp_path / "none.sf2")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "there is no such sound font" in done.stderr or "FluidSynth is not installed" in done.stderr
