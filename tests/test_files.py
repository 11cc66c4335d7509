"""Audio files in and out, against sines whose frequency, phase and level are known."""

import concurrent.futures
import errno
import io
import os
import struct
import subprocess
import sys
import wave

import numpy as np
import pytest
import soundfile

from mp3net.audio import files, resample, riff
from mp3net.audio.files import AudioFileError

RATE_HZ = 22016


def sine(frequency_hz, rate_hz, duration_s, level=0.5, channels=2):
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return np.repeat(level * np.sin(2 * np.pi * frequency_hz * time_s)[:, None], channels, axis=1)


def noise(rate_hz, duration_s, channels=2, level=0.5, seed=0):
    return np.random.default_rng(seed).uniform(-level, level, (round(rate_hz * duration_s), channels))


def wav(path, waveform, rate_hz, subtype="PCM_16"):
    soundfile.write(path, waveform, rate_hz, subtype=subtype)
    return path


def whole(path, rate_hz=RATE_HZ, channels=2, **more):
    return np.concatenate(list(files.stream(path, rate_hz, channels, **more)))


def reason(call, *arguments, **more):
    with pytest.raises(AudioFileError) as caught:
        call(*arguments, **more)
    assert str(caught.value).startswith(str(arguments[0])), "the message begins with the file's name"
    return caught.value.reason


@pytest.mark.parametrize("rate_hz", [16000, 44100, 44101, 48000, 96000])
def test_sine_keeps_frequency_phase_and_level(tmp_path, rate_hz):
    path = wav(tmp_path / "a.wav", sine(1000, rate_hz, 17, 0.5), rate_hz, "FLOAT")
    out = whole(path)
    assert out.dtype == np.float32 and out.shape == (17 * RATE_HZ, 2)
    inside = slice(2000, -2000)  # the sine's sudden start and end ring
    np.testing.assert_allclose(out[inside], sine(1000, RATE_HZ, 17, 0.5)[inside], atol=2e-5)


@pytest.mark.parametrize("tone_hz", [11_700, 15_000, 19_000])
def test_tone_above_nyquist_is_gone(tmp_path, tone_hz):
    path = wav(tmp_path / "a.wav", sine(tone_hz, 44100, 20, 0.9), 44100, "FLOAT")
    out = whole(path)[4000:-4000]
    spectrum = np.abs(np.fft.rfft(out[:, 0] * np.hanning(len(out)))) / (len(out) / 4)
    assert 20 * np.log10(spectrum.max() / 0.9) < -100


@pytest.mark.parametrize("frames", [2, 3, 5, 441, 44_100 * 9 + 17])
@pytest.mark.parametrize("rate_hz", [22016, 44032, 44100])
def test_length_is_the_rounded_ratio(tmp_path, frames, rate_hz):
    path = wav(tmp_path / "a.wav", noise(frames, 1), rate_hz)
    assert len(whole(path)) == round(frames * RATE_HZ / rate_hz)


def test_less_than_a_sample(tmp_path):
    assert "too short" in reason(whole, wav(tmp_path / "a.wav", noise(1, 1), 44100))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate_hz", [44100, 48000])
def test_crop_is_a_slice_of_the_whole(tmp_path, ending, rate_hz):
    path = tmp_path / f"a.{ending}"
    samples = noise(rate_hz, 21)
    with soundfile.SoundFile(path, "w", rate_hz, 2) as sound:
        for start in range(0, len(samples), rate_hz):
            sound.write(samples[start : start + rate_hz])
    out = whole(path)
    crops = [
        (0, 100),
        (RATE_HZ * 7 + 123, RATE_HZ * 4),
        (RATE_HZ * 13 + 1, 1),
        (3, RATE_HZ * 17),
        (len(out) - 900, 900),
    ]
    for start, count in crops:
        crop = files.read_crop(path, start, count, RATE_HZ, 2)
        assert crop.dtype == np.float32 and crop.shape == (count, 2)
        np.testing.assert_allclose(crop, out[start : start + count], atol=1.5e-5)


def test_crop_stays_in_place_after_an_hour(tmp_path):
    """soxr's own clock would be off by 0.003 samples there, which is 4e-3 on noise."""
    path, second = tmp_path / "a.wav", noise(44100, 1, 1)
    with soundfile.SoundFile(path, "w", 44100, 1, "PCM_16") as sound:
        for _ in range(3600):
            sound.write(second)
    early, late = (files.read_crop(path, s * RATE_HZ, RATE_HZ, RATE_HZ, 1) for s in (9, 3590))
    np.testing.assert_allclose(late, early, atol=1.5e-5)


def test_segments_meet_without_a_seam(tmp_path):
    path = wav(tmp_path / "a.wav", sine(440, 44100, 18), 44100, "FLOAT")
    seam = resample.SEGMENT_S * RATE_HZ
    around = whole(path)[seam - 2000 : seam + 2000]
    expected = sine(440, RATE_HZ, 18)[seam - 2000 : seam + 2000]
    np.testing.assert_allclose(around, expected, atol=2e-6)


def test_same_rate_is_read_to_the_bit(tmp_path):
    integers = np.random.default_rng(0).integers(-32768, 32768, (5000, 2), np.int16)
    path = wav(tmp_path / "a.wav", integers, RATE_HZ)
    crop = files.read_crop(path, 1234, 700, RATE_HZ, 2)
    np.testing.assert_array_equal(crop, integers[1234:1934] / 32768)
    np.testing.assert_array_equal(whole(path), integers / 32768)
    np.testing.assert_array_equal(whole(path)[1234:1934], crop)


def test_prepared_wavs_are_read_without_soundfile(tmp_path, monkeypatch):
    path = wav(tmp_path / "a.wav", noise(RATE_HZ, 1), RATE_HZ)
    monkeypatch.setattr(soundfile, "SoundFile", None)
    assert files.read_crop(path, 10, 20, RATE_HZ, 2).shape == (20, 2)


def test_header_with_other_chunks_and_extensible_format(tmp_path):
    samples = np.arange(-500, 500, dtype="<i2")
    form = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, RATE_HZ, RATE_HZ * 2, 2, 16, 22, 16, 0, 1, bytes(14))
    chunks = b"WAVE" + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", 2000) + samples.tobytes() + b"LIST" + struct.pack("<I", 4) + b"tail"
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    header = riff.read_header(path)
    assert header.is_pcm16 and (header.rate_hz, header.channels, header.frames) == (RATE_HZ, 1, 1000)
    np.testing.assert_array_equal(files.read_crop(path, 0, 1000, RATE_HZ, 1)[:, 0], samples / 32768)


def test_header_is_read_anew_when_the_file_changes(tmp_path):
    path = wav(tmp_path / "a.wav", noise(RATE_HZ, 1), RATE_HZ)
    assert files.probe(path).frames == RATE_HZ
    wav(path, noise(RATE_HZ, 2), RATE_HZ)
    assert len(files.read_crop(path, RATE_HZ, RATE_HZ, RATE_HZ, 2)) == RATE_HZ


def test_wav_from_a_pipe_has_no_length_in_its_header(tmp_path):
    path = wav(tmp_path / "a.wav", noise(RATE_HZ, 1, 1), RATE_HZ)
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(files.read_crop(path, 0, RATE_HZ, RATE_HZ, 1)) == RATE_HZ


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44100])
def test_channels(tmp_path, rate_hz):
    stereo = noise(rate_hz, 2)
    path = wav(tmp_path / "stereo.wav", stereo, rate_hz, "FLOAT")
    left, right = whole(path).T
    np.testing.assert_allclose(whole(path, channels=1)[:, 0], (left + right) / 2, atol=1e-6)
    mono = wav(tmp_path / "mono.wav", stereo[:, :1], rate_hz)
    doubled = files.read_crop(mono, 5, 100, RATE_HZ, 2, upmix=True)
    np.testing.assert_array_equal(doubled[:, 0], doubled[:, 1])
    np.testing.assert_array_equal(doubled[:, :1], files.read_crop(mono, 5, 100, RATE_HZ, 1))
    assert "mono where stereo is asked" in reason(files.read_crop, mono, 0, 10, RATE_HZ, 2)
    assert "mono where stereo is asked" in reason(whole, mono)
    six = wav(tmp_path / "six.wav", noise(rate_hz, 0.1, 6), rate_hz)
    assert "6 channels where 2" in reason(whole, six)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_probe_and_peak_of_each_kind(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    samples = sine(440, 44100, 3, 0.25)
    samples[:, 1] *= -2  # the larger channel, so that the peak is over both
    soundfile.write(path, samples, 44100)
    info = files.probe(path)
    assert (info.frames, info.rate_hz, info.channels) == (3 * 44100, 44100, 2)
    assert info.duration_s == 3
    assert files.peak(path, 44100, 2) == pytest.approx(0.5, abs=1e-3 if ending in ("wav", "flac") else 0.03)


def test_peak_at_the_last_sample(tmp_path):
    samples = np.zeros((100_000, 2))
    samples[-1, 1] = -0.75
    assert files.peak(wav(tmp_path / "a.wav", samples, 44100), 44100, 2) == 0.75


def test_bad_files(tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("no audio at all\n" * 100)
    assert "not audio" in reason(files.probe, text)
    empty = tmp_path / "empty.mp3"
    empty.touch()
    assert "empty (zero bytes)" in reason(files.probe, empty)
    silent = wav(tmp_path / "silent.wav", np.zeros((0, 2)), RATE_HZ)
    assert "no samples" in reason(files.probe, silent)
    assert "does not exist" in reason(files.probe, tmp_path / "none.wav")
    assert "cannot be read" in reason(files.probe, tmp_path)
    slow = wav(tmp_path / "slow.wav", noise(100, 1), 1)
    assert "1 Hz" in reason(files.probe, slow)
    header_only = tmp_path / "header.wav"
    header_only.write_bytes(wav(tmp_path / "b.wav", noise(RATE_HZ, 1), RATE_HZ).read_bytes()[:20])
    assert "not audio" in reason(files.probe, header_only)


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3"])
def test_cut_files(tmp_path, ending, capfd):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(44100, 20), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cut short" in reason(files.probe, path)
    assert "cut short" in reason(whole, path)


def test_wav_cut_between_the_header_and_the_read(tmp_path):
    path = wav(tmp_path / "a.wav", noise(RATE_HZ, 1), RATE_HZ)
    header = riff.read_header(path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut short" in reason(riff.read_pcm16, path, header, RATE_HZ - 10, 10)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44100])
@pytest.mark.parametrize("start, count", [(-1, 10), (RATE_HZ - 9, 10), (0, RATE_HZ + 1)])
def test_crop_beyond_the_file_is_refused(tmp_path, rate_hz, start, count):
    path = wav(tmp_path / "a.wav", noise(rate_hz, 1), rate_hz)
    assert f"holds {RATE_HZ} samples" in reason(files.read_crop, path, start, count, RATE_HZ, 2)
    assert files.read_crop(path, RATE_HZ - 10, 10, RATE_HZ, 2).shape == (10, 2)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44100])
def test_threads_read_the_same(tmp_path, rate_hz):
    path = wav(tmp_path / "a.wav", noise(rate_hz, 5), rate_hz)
    starts = np.random.default_rng(1).integers(0, 4 * RATE_HZ, 60).tolist()
    alone = [files.read_crop(path, start, 3000, RATE_HZ, 2) for start in starts]
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda start: files.read_crop(path, start, 3000, RATE_HZ, 2), starts))
    np.testing.assert_array_equal(alone, together)


def test_errors_survive_the_way_from_a_worker():
    import pickle

    error = pickle.loads(pickle.dumps(AudioFileError("a/b.wav", "is broken")))
    assert (str(error), error.path, error.reason) == ("a/b.wav: is broken", "a/b.wav", "is broken")


def test_remote_paths_go_through_gfile(tmp_path, monkeypatch):
    """A stand-in for TensorFlow's file system, as importing the real one costs 640 MB."""
    import types

    class GFile(io.BytesIO):
        def __init__(self, path, mode):
            assert path.startswith("gs://bucket/") and mode == "rb"
            super().__init__((tmp_path / path.removeprefix("gs://bucket/")).read_bytes())

        def size(self):
            return len(self.getvalue())

    class OpError(Exception):
        message = "the bucket is away"

    gfile = types.SimpleNamespace(GFile=GFile)
    fake = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile), errors=types.SimpleNamespace(OpError=OpError))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    local = wav(tmp_path / "remote.wav", noise(RATE_HZ, 2), RATE_HZ)
    crop = files.read_crop("gs://bucket/remote.wav", 100, 200, RATE_HZ, 2)
    np.testing.assert_array_equal(crop, files.read_crop(local, 100, 200, RATE_HZ, 2))
    assert files.probe("gs://bucket/remote.wav") == files.probe(local)
    assert "mp3net.prepare" in reason(files.read_crop, "gs://bucket/remote.wav", 0, 10, 16000, 2)
    soundfile.write(tmp_path / "remote.flac", noise(RATE_HZ, 1), RATE_HZ)
    assert "mp3net.prepare" in reason(files.read_crop, "gs://bucket/remote.flac", 0, 10, RATE_HZ, 2)

    def away(*_):
        raise OpError

    GFile.read = away
    assert "cannot be read (the bucket is away)" in reason(files.read_crop, "gs://bucket/remote.wav", 0, 10, RATE_HZ, 2)


@pytest.mark.parametrize(
    "ending, subtype, step", [("wav", "PCM_16", 2**-16), ("wav", "FLOAT", 0), ("flac", None, 2**-16)]
)
def test_written_files_come_back(tmp_path, ending, subtype, step):
    samples = noise(RATE_HZ, 1.3, level=0.99).astype(np.float32)
    path = tmp_path / f"a.{ending}"
    assert files.write(path, samples, RATE_HZ, subtype=subtype) == 0
    back, rate_hz = soundfile.read(path, always_2d=True)
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(back, samples, atol=step)
    assert sorted(os.listdir(tmp_path)) == [path.name]


def test_written_wav_is_a_wav_to_others(tmp_path):
    files.write(tmp_path / "a.wav", np.array([[0.5, -1.0], [1.0, 0.0]]), 22016)
    with wave.open(str(tmp_path / "a.wav")) as other:
        assert other.getparams()[:4] == (2, 2, 22016, 2)
        assert np.frombuffer(other.readframes(2), "<i2").tolist() == [16384, -32768, 32767, 0]


def test_written_ogg_of_minutes(tmp_path):
    samples = sine(440, RATE_HZ, 150)
    files.write(tmp_path / "a.ogg", samples, RATE_HZ)
    back, _ = soundfile.read(tmp_path / "a.ogg")
    assert back.shape == samples.shape
    np.testing.assert_allclose(back[RATE_HZ:-RATE_HZ], samples[RATE_HZ:-RATE_HZ], atol=0.05)


@pytest.mark.parametrize(
    "ending, subtype, clipped", [("wav", None, 3), ("flac", None, 3), ("ogg", None, 3), ("wav", "FLOAT", 0)]
)
def test_clipping_is_counted_and_does_not_wrap(tmp_path, ending, subtype, clipped):
    samples = np.zeros((2 * RATE_HZ, 2), np.float32)
    samples[5] = 1.5, -1.0001
    samples[2 * RATE_HZ - 1, 0] = -7  # in a block of its own, to see that negative ones count
    samples[6] = 1.0, -1.0
    path = tmp_path / f"a.{ending}"
    assert files.write(path, samples, RATE_HZ, subtype=subtype) == clipped
    if ending != "ogg":
        back = soundfile.read(path)[0]
        limit = 7 if subtype else 1
        np.testing.assert_allclose(back, np.clip(samples, -limit, limit), atol=2**-15)


def test_what_cannot_be_written(tmp_path):
    good = noise(RATE_HZ, 0.1)
    bad = good.copy()
    bad[7, 1] = np.nan
    path = tmp_path / "a.wav"
    files.write(path, good, RATE_HZ)
    before = path.read_bytes()
    assert "NaN" in reason(files.write, path, bad, RATE_HZ)
    assert path.read_bytes() == before, "a failed write leaves the former file"
    assert "wav, flac, ogg" in reason(files.write, tmp_path / "a.m4a", good, RATE_HZ)
    assert "FLOAT" in reason(files.write, tmp_path / "a.flac", good, RATE_HZ, subtype="FLOAT")
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_full_disk(tmp_path, ending, monkeypatch):
    """/dev/full refuses every byte, as a full disk does."""
    monkeypatch.setattr("mp3net.audio.writing.partial_name", lambda path: f"{path}.partial")
    path = tmp_path / f"a.{ending}"
    os.symlink("/dev/full", f"{path}.partial")
    with pytest.raises(OSError) as caught:
        files.write(path, noise(RATE_HZ, 3), RATE_HZ)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert os.listdir(tmp_path) == []


def test_folder_that_is_not_there(tmp_path):
    for ending in ("wav", "ogg"):
        with pytest.raises(FileNotFoundError):
            files.write(tmp_path / "none" / f"a.{ending}", noise(RATE_HZ, 0.1), RATE_HZ)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Ten times the length, hardly more memory: each in a fresh process, read as VmHWM."""
    program = (
        "import sys; from mp3net.audio import files\n"
        "for _ in files.stream(sys.argv[1], 22016, 2): pass\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs Linux's /proc")
    kilobytes = []
    for minutes in (1, 10):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as sound:
            for _ in range(minutes):
                sound.write(np.zeros((44100 * 60, 2), np.int16))
        kilobytes.append(int(subprocess.check_output([sys.executable, "-c", program, path])))
    assert kilobytes[1] < kilobytes[0] + 20_000
    assert kilobytes[1] < 300_000


def test_discarded_file_never_appears(tmp_path):
    path = tmp_path / "a.wav"
    files.write(path, noise(RATE_HZ, 0.1), RATE_HZ)
    before = path.read_bytes()
    with files.Writer(path, RATE_HZ, 2) as writer:
        writer.write(noise(RATE_HZ, 0.2))
        writer.discard()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.wav"]
