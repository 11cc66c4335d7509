"""`python -m mp3net.generate`: songs by seed, from the checkpoint alone."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import assert_refuses, assert_told, command

from mp3net import generate
from mp3net.errors import UsageError, UserError
from mp3net.model.architecture import Architecture
from mp3net.model.mp3net import MP3net
from mp3net.training import checkpoints

SIZES = Architecture(
    model_blocks=2, base=(2, 2), latent_size=8, shallowest_features=4, max_features=8, head_features=8, rate_hz=4000
)


def save(workdir, **options):
    system = MP3net(SIZES, **options).build(seed=3)
    for variable in system.generator.trainable_variables:
        variable.assign(variable * 1.1)  # loud enough to tell songs apart
    checkpoints.save(workdir, 20, system.checkpoint_items(), system.architecture(), "", {})
    return workdir


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"))


def run(*arguments):
    return generate.main([str(argument) for argument in arguments])


def assert_refused(*arguments, words):
    assert_refuses(generate.main, arguments, UserError, *words)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


def test_a_seed_is_the_same_file_to_the_byte_whatever_else_is_made(workdir, tmp_path):
    run("--ckpt", workdir, "--n", 4, "--out", tmp_path / "four")
    run("--ckpt", workdir / "checkpoints" / "00000020", "--seeds", "2,0", "--out", tmp_path / "two")
    four, two = contents(tmp_path / "four"), contents(tmp_path / "two")
    assert list(four) == [f"seed-{i:06d}.wav" for i in range(4)]
    assert two == {name: four[name] for name in ("seed-000000.wav", "seed-000002.wav")}
    assert len(set(four.values())) == 4
    info = soundfile.info(tmp_path / "four" / "seed-000000.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (4000, 2, SIZES.song_samples, "PCM_16")


def test_another_process_makes_the_same_bytes_and_needs_nothing_but_the_checkpoint(workdir, tmp_path):
    """The checkpoint's own folder, moved away from its run; there is no gin file and no data in reach."""
    shutil.copytree(workdir / "checkpoints" / "00000020", tmp_path / "alone")
    process = command("generate", "--ckpt", "alone", "--seeds", "1", "--out", "songs", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run("--ckpt", workdir, "--n", 2, "--out", tmp_path / "here")
    assert contents(tmp_path / "songs")["seed-000001.wav"] == contents(tmp_path / "here")["seed-000001.wav"]
    assert "weights: as trained" in process.stdout and "step 20" in process.stdout


@pytest.mark.parametrize(
    "format, bits, subtype",
    [("wav", "16", "PCM_16"), ("wav", "float", "FLOAT"), ("flac", "16", "PCM_16"), ("ogg", "16", "VORBIS")],
)
def test_formats(workdir, tmp_path, format, bits, subtype):
    run("--ckpt", workdir, "--n", 1, "--out", tmp_path, "--format", format, "--bits", bits)
    path = tmp_path / f"seed-000000.{format}"
    assert soundfile.info(path).subtype == subtype
    song, _ = soundfile.read(path)
    expected = MP3net.from_architecture(checkpoints.find(workdir).architecture)
    expected.build_generator()
    checkpoints.find(workdir).restore(expected.generation_items())
    exact = expected.sample(tf.constant([0], tf.int64))[0].numpy()
    assert song.shape == exact.shape and 0.003 < np.abs(exact).max() < 1
    if format == "ogg":  # lossy
        assert np.corrcoef(song.ravel(), exact.ravel())[0, 1] > 0.5
    else:
        assert np.abs(song - exact).max() <= (1e-6 if bits == "float" else 2**-15)


def test_an_interpolation_runs_from_one_song_to_the_other(workdir, tmp_path):
    run("--ckpt", workdir, "--interpolate", 3, 5, "--steps", 3, "--out", tmp_path / "way", "--bits", "float")
    run("--ckpt", workdir, "--seeds", "3,5", "--out", tmp_path / "ends", "--bits", "float")
    way = [soundfile.read(tmp_path / "way" / f"from-3-to-5-{i:03d}.wav")[0] for i in range(3)]
    ends = [soundfile.read(tmp_path / "ends" / f"seed-00000{i}.wav")[0] for i in (3, 5)]
    np.testing.assert_allclose(way[0], ends[0], atol=1e-6)
    np.testing.assert_allclose(way[2], ends[1], atol=1e-6)
    assert np.abs(way[1] - way[0]).max() > 1e-4 and np.abs(way[1] - way[2]).max() > 1e-4


def test_truncation_makes_songs_more_alike(workdir, tmp_path):
    for name, more in (("all", []), ("near", ["--truncation", "0.1"])):
        run("--ckpt", workdir, "--n", 4, "--out", tmp_path / name, "--bits", "float", *more)
    spread = {}
    for name in ("all", "near"):
        songs = [soundfile.read(tmp_path / name / file)[0] for file in sorted(os.listdir(tmp_path / name))]
        spread[name] = np.std(songs, axis=0).mean()
    assert 0 < spread["near"] < 0.5 * spread["all"]


@pytest.mark.parametrize(
    "song, word",
    [
        (np.zeros((100, 2)), "WARNING: silent"),
        (np.full((100, 2), 1.5), "WARNING: 200 samples clipped (1e+02 %)"),
        (np.full((100, 2), np.nan), "WARNING: not a number anywhere"),
        (np.array([[0.5, np.inf], [0.5, 0.5]]), "WARNING: 1 samples are not a number"),
    ],
)
def test_songs_nobody_wants_are_pointed_out(song, word):
    assert word in generate._report(song, np.isfinite(song), 50)


def test_a_report_gives_seconds_peak_and_rms():
    """Half of full scale is -6.0 dB; so is the RMS of a constant."""
    assert generate._report(np.full((100, 2), 0.5), np.ones((100, 2), bool), 50) == "2.00 s, peak -6.0 dB, RMS -6.0 dB"


def test_seeds_are_ranges_and_lists():
    assert list(generate.parse_seeds("0-3,7, 9-9")) == [0, 1, 2, 3, 7, 9]
    endless = iter(generate.parse_seeds("0-9000000000000000000"))  # in no more memory than one
    assert [next(endless) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--seeds", "3-1"], "runs backwards"),
        (["--seeds", "2-"], "neither a seed"),
        (["--seeds", "²"], "neither a seed"),
        (["--seeds", "99999999999999999999"], "neither a seed"),
        (["--interpolate", "0", "99999999999999999999"], "whole numbers"),
        (["--truncation", "nan"], "--truncation"),
        (["--seeds", "a"], "neither a seed"),
        (["--seeds", ""], "nothing"),
        (["--n", "0"], "--n 0"),
        (["--n", "2", "--seeds", "1"], "not both"),
        (["--truncation", "0"], "--truncation"),
        (["--bits", "float", "--format", "ogg"], "--bits float"),
        (["--interpolate", "0", "1", "--n", "2"], "leave out --n"),
        (["--interpolate", "0", "1", "--steps", "1"], "at least 2"),
        (["--steps", "3"], "--interpolate"),
    ],
)
def test_flags_that_do_not_fit_are_told(arguments, word):
    with pytest.raises(UsageError, match=word.replace("(", r"\(")):
        run("--ckpt", "anywhere", *arguments)


def test_what_is_wrong_with_a_checkpoint_is_told(workdir, tmp_path):
    assert_refused("--ckpt", tmp_path / "none", words=["does not exist"])
    assert_refused("--ckpt", tmp_path, words=["no complete checkpoint"])
    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    os.truncate(broken / "checkpoints" / "00000020" / "weights.data-00000-of-00001", 100)
    assert_refused("--ckpt", broken, "--out", tmp_path / "songs", words=["is damaged", "weights.data"])
    foreign = tmp_path / "foreign"
    shutil.copytree(workdir, foreign)
    path = foreign / "checkpoints" / "00000020" / "architecture.json"
    text = path.read_text().replace('"latent_size": 8', '"latent_size": 9')
    path.write_text(text)
    assert_refused("--ckpt", foreign, "--out", tmp_path / "songs", words=["does not fit"])
    for harm in ({"base": []}, {"amplitude_scale": 1e999}, {"latent_size": "x"}, {"unknown": 1}):
        told = json.loads(text)
        told["architecture"].update(harm)
        path.write_text(json.dumps(told))
        sizes = json.loads((path.parent / "state.json").read_text())
        sizes["sizes"]["architecture.json"] = path.stat().st_size
        (path.parent / "state.json").write_text(json.dumps(sizes))
        assert_refused("--ckpt", foreign, "--out", tmp_path / "songs", words=["architecture.json is damaged"])
    assert not (tmp_path / "songs").exists()
    assert_told(command("generate", "--ckpt", workdir, "--out", "/proc/songs"), 1, "/proc/songs")
