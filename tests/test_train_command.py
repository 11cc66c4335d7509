"""`python -m mp3net.train` as a person runs it: to the end, killed, resumed, and fed rubbish."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import TINY, assert_told, command, write_corpus

LOSSES = ("step", "d_loss", "g_loss", "wasserstein", "gradient_penalty", "drift")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def gin(tmp_path):
    path = tmp_path / "tiny.gin"
    path.write_text(TINY)
    return path


def train(gin, corpus, workdir, *more):
    return command("train", "--gin", gin, "--data", corpus, "--workdir", workdir, *more)


def losses(workdir):
    with open(os.path.join(workdir, "metrics.jsonl")) as file:
        return [[row[name] for name in LOSSES] for row in map(json.loads, file)]


def start(gin, corpus, workdir, until, *more):
    """Starts a run and returns its process when it has printed a line that holds `until`."""
    line = [sys.executable, "-u", "-m", "mp3net.train", "--gin", gin, "--data", corpus, "--workdir", workdir, *more]
    process = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for printed in process.stdout:
        said.append(printed)
        if until in printed:
            return process
    raise AssertionError("".join(said))


# All that a run carries from one step to the next: an average, a phase with its own rate, crops drawn at random.
RICH = [
    "train.steps = 40",
    "train.log_every = 6",
    "MP3net.average_decay = 0.9",
    "MP3net.phases = [@hum/Phase()]",
    "hum/Phase.name = 'hum'",
    "hum/Phase.last = 28",
    "hum/Phase.beta_1 = 0.0",
    "hum/Phase.trainable_blocks = 1",
    "data.slicing = 'random'",
]


@pytest.mark.parametrize("parameters", [RICH[:1], RICH], ids=["plain", "rich"])
def test_a_killed_run_resumes_to_the_same_losses_and_weights_to_the_bit(gin, corpus, tmp_path, parameters):
    flags = [word for parameter in parameters for word in ("--gin_param", parameter)]
    whole = train(gin, corpus, tmp_path / "whole", *flags)
    assert whole.returncode == 0, whole.stderr
    assert "mp3net.generate --ckpt" in whole.stdout
    process = start(gin, corpus, tmp_path / "cut", "step 18/40", *flags)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for events in (tmp_path / "cut" / "tensorboard").iterdir():
        events.write_bytes(events.read_bytes()[:-9] + b"rubbish")  # of a disk that failed: nothing reads it
    resumed = train(gin, corpus, tmp_path / "cut", *flags)
    assert resumed.returncode == 0 and "resuming" in resumed.stdout, resumed.stderr
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert losses(tmp_path / "cut")[-1][0] == 40 and np.isfinite(losses(tmp_path / "cut")).all()

    weights = [tf.train.load_checkpoint(f"{tmp_path}/{run}/checkpoints/00000040/weights") for run in ("whole", "cut")]
    names = [name for name in weights[0].get_variable_to_shape_map() if "CHECKPOINTABLE" not in name]
    assert len(names) > 100 and any(name.startswith("average/") for name in names) == (parameters is RICH)
    for name in names:
        np.testing.assert_array_equal(*(reader.get_tensor(name) for reader in weights), err_msg=name)

    again = train(gin, corpus, tmp_path / "cut", *flags)
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_sigterm_saves_and_says_so(gin, corpus, tmp_path):
    endless = ("--gin_param", "train.steps = 100000", "--gin_param", "train.save_every_steps = 100000")
    process = start(gin, corpus, tmp_path / "run", "step 6/", *endless)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: saving" in rest and "saved" in rest and "Traceback" not in rest
    assert len(os.listdir(tmp_path / "run" / "checkpoints")) == 1


def test_a_resumption_under_another_configuration_is_refused_unless_told(gin, corpus, tmp_path):
    assert train(gin, corpus, tmp_path / "run").returncode == 0
    before = sorted(os.listdir(tmp_path / "run" / "checkpoints"))
    changed = ("--gin_param", "MP3net.learning_rate = 0.01", "--gin_param", "train.steps = 14")
    refused = train(gin, corpus, tmp_path / "run", *changed)
    assert_told(refused, 1, "MP3net.learning_rate: 0.0001 in the checkpoint, 0.01 now", "--accept_changes")
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == before
    accepted = train(gin, corpus, tmp_path / "run", *changed, "--accept_changes")
    assert accepted.returncode == 0 and "accepted: MP3net.learning_rate" in accepted.stdout
    longer = train(gin, corpus, tmp_path / "run", *changed[:2], "--gin_param", "train.steps = 16")
    assert longer.returncode == 0 and "changed: train.steps" in longer.stdout  # a longer run is not another one


def test_a_resumption_on_other_recordings_is_refused(gin, corpus, tmp_path):
    assert train(gin, corpus, tmp_path / "run").returncode == 0
    shutil.copytree(corpus, tmp_path / "fewer")
    os.remove(tmp_path / "fewer" / "piece-2.wav")
    longer = ("--gin_param", "train.steps = 14")
    refused = train(gin, tmp_path / "fewer", tmp_path / "run", *longer)
    assert_told(refused, 1, "3 recordings in the checkpoint's, 2 now")
    accepted = train(gin, tmp_path / "fewer", tmp_path / "run", *longer, "--accept_changes")
    assert accepted.returncode == 0, accepted.stderr


def test_init_from_another_architecture_is_refused(gin, corpus, tmp_path):
    assert train(gin, corpus, tmp_path / "first", "--gin_param", "train.steps = 2").returncode == 0
    scaled = ("--gin_param", "Architecture.amplitude_scale = 64.0")
    refused = train(gin, corpus, tmp_path / "second", "--init_from", tmp_path / "first", *scaled)
    assert_told(refused, 1, "Architecture.amplitude_scale: 1.0 there, 64.0 here", "--accept_changes")


def test_init_from_starts_at_another_runs_weights_and_step_0(gin, corpus, tmp_path):
    assert train(gin, corpus, tmp_path / "first").returncode == 0
    still = ("--gin_param", "MP3net.learning_rate = 1e-30", "--gin_param", "MP3net.average_decay = 0.5")
    tuned = train(gin, corpus, tmp_path / "tuned", "--init_from", tmp_path / "first", *still)
    assert tuned.returncode == 0 and "starting from the weights" in tuned.stdout, tuned.stderr
    assert losses(tmp_path / "tuned")[0][0] == 2
    songs = []
    for run in ("first", "tuned"):  # with such a rate the tuned weights, and their average, are the first's
        made = command(
            "generate", "--ckpt", tmp_path / run, "--n", "1", "--out", tmp_path / run / "songs", "--bits", "float"
        )
        assert made.returncode == 0, made.stderr
        assert ("moving average" in made.stdout) == (run == "tuned")
        songs.append(soundfile.read(tmp_path / run / "songs" / "seed-000000.wav")[0])
    np.testing.assert_allclose(*songs, atol=1e-6)


def test_phases_are_run_in_turn(gin, corpus, tmp_path):
    phase = ("--gin_param", "MP3net.phases = [@hum/Phase()]", "--gin_param", "hum/Phase.name = 'hum'")
    phase += ("--gin_param", "hum/Phase.last = 4", "--gin_param", "hum/Phase.trainable_blocks = 1")
    run = train(gin, corpus, tmp_path / "run", *phase)
    assert run.returncode == 0, run.stderr
    assert "stage main: steps 0 to 8" in run.stdout and "stage hum: steps 8 to 12" in run.stdout


def test_a_dry_run_tells_sizes_and_costs_and_writes_nothing(gin, corpus, tmp_path):
    run = train(gin, corpus, tmp_path / "run", "--dry_run")
    assert run.returncode == 0, run.stderr
    for word in ("3 recordings", "fixed crops", "parameters", "TFLOP per D update", "GiB", "32 blocks x 8 bands"):
        assert word in run.stdout, (word, run.stdout)
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_is_told_in_a_line(gin, corpus, tmp_path):
    """One process for each, so a few of them; the rest is tested where it is raised."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_told(train(gin, empty, tmp_path / "run"), 1, empty)
    unknown = train(gin, corpus, tmp_path / "run", "--gin_param", "MP3net.bach_size = 1")
    assert_told(unknown, 1, "bach_size")
    long = train(gin, corpus, tmp_path / "run", "--gin_param", "Architecture.base = (512, 2)")
    assert_told(long, 1, "No recording is long enough", "piece-")
    without = command("train", "--gin", gin, "--data", corpus)
    assert_told(without, 2, "--workdir is missing")
    assert_told(train("96s", corpus, tmp_path / "run"), 1, "no configuration 96s", "95s")
    assert_told(train(gin, corpus, "/proc/run"), 1, "/proc/run", "Choose another folder")
    odd = train(gin, corpus, tmp_path / "run", "--gin_param", "train.steps = 13")
    assert_told(odd, 1, "train.steps is 13", "multiple of MP3net.critic_steps")
    assert not (tmp_path / "run").exists()


def test_a_recording_that_is_not_a_number_stops_the_run_by_its_name(gin, tmp_path):
    wave = np.zeros((16000, 2), np.float32)
    wave[::100] = np.nan  # in every crop
    (tmp_path / "corpus").mkdir()
    soundfile.write(tmp_path / "corpus" / "bad.wav", wave, 4000, subtype="FLOAT")
    run = train(gin, tmp_path / "corpus", tmp_path / "run", "--gin_param", "data.peak = None")
    assert_told(run, 1, "step 2", "first bad tensor", "real amplitudes (D updates)", "no checkpoint yet")


def test_without_tensorflow_the_fix_is_told(corpus, gin, tmp_path):
    """An empty stand-in for site-packages' finder: TensorFlow cannot be found."""
    script = "import importlib.util, sys; real = importlib.util.find_spec\n"
    script += "importlib.util.find_spec = lambda name, *rest: None if name == 'tensorflow' else real(name, *rest)\n"
    script += f"sys.argv = ['train', '--gin', '{gin}', '--data', '{corpus}', '--workdir', '{tmp_path}/run']\n"
    script += "from mp3net import cli, train; cli.run(train.main)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert_told(run, 1, "TensorFlow is not installed", "mp3net[cpu]")
