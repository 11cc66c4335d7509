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
from helpers import TINY, assert_refuses, assert_told, command, write_corpus

from mp3net import generate
from mp3net import train as train_command
from mp3net.errors import UserError

LOSSES = ("step", "d_loss", "g_loss", "wasserstein", "gradient_penalty", "drift")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def gin(tmp_path):
    path = tmp_path / "tiny.gin"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """The working directory of a run of 12 steps, not to be changed."""
    gin, workdir = tmp_path_factory.mktemp("trained") / "tiny.gin", tmp_path_factory.mktemp("trained") / "run"
    gin.write_text(TINY)
    done = train(gin, corpus, workdir)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    """A copy of `trained`."""
    return shutil.copytree(trained, tmp_path / "run")


def train(gin, corpus, workdir, *more):
    return command("train", "--gin", gin, "--data", corpus, "--workdir", workdir, *more)


def assert_refused(gin, corpus, workdir, *more, words):
    """What `train` would tell, in this process, which spares TensorFlow's start."""
    flags = ("--gin", gin, "--data", corpus, "--workdir", workdir, *more)
    assert_refuses(train_command.main, flags, UserError, *words)


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


def test_a_resumption_under_another_configuration_is_refused_unless_told(gin, corpus, run):
    before = sorted(os.listdir(run / "checkpoints"))
    changed = ("--gin_param", "MP3net.learning_rate = 0.01", "--gin_param", "train.steps = 14")
    told = train(gin, corpus, run, *changed)
    assert_told(told, 1, "MP3net.learning_rate: 0.0001 in the checkpoint, 0.01 now", "--accept_changes")
    assert sorted(os.listdir(run / "checkpoints")) == before
    accepted = train(gin, corpus, run, *changed, "--accept_changes")
    assert accepted.returncode == 0 and "accepted: MP3net.learning_rate" in accepted.stdout
    longer = train(gin, corpus, run, *changed[:2], "--gin_param", "train.steps = 16")
    assert longer.returncode == 0 and "changed: train.steps" in longer.stdout  # a longer run is not another one


def test_a_resumption_on_other_recordings_is_refused(gin, corpus, run, tmp_path):
    shutil.copytree(corpus, tmp_path / "fewer")
    os.remove(tmp_path / "fewer" / "piece-2.wav")
    longer = ("--gin_param", "train.steps = 14")
    assert_refused(gin, tmp_path / "fewer", run, *longer, words=["3 recordings in the checkpoint's, 2 now"])
    accepted = train(gin, tmp_path / "fewer", run, *longer, "--accept_changes")
    assert accepted.returncode == 0, accepted.stderr


def test_init_from_another_architecture_is_refused(gin, corpus, trained, tmp_path):
    scaled = ("--init_from", trained, "--gin_param", "Architecture.amplitude_scale = 64.0")
    said = ["Architecture.amplitude_scale: 1.0 there, 64.0 here", "--accept_changes"]
    assert_refused(gin, corpus, tmp_path / "second", *scaled, words=said)


def test_init_from_starts_at_another_runs_weights_and_step_0(gin, corpus, trained, tmp_path, capsys):
    still = ("--gin_param", "MP3net.learning_rate = 1e-30", "--gin_param", "MP3net.average_decay = 0.5")
    tuned = train(gin, corpus, tmp_path / "tuned", "--init_from", trained, *still)
    assert tuned.returncode == 0 and "starting from the weights" in tuned.stdout, tuned.stderr
    assert losses(tmp_path / "tuned")[0][0] == 2
    songs = []
    for workdir in (trained, tmp_path / "tuned"):  # whose weights, and their average, are the first's at such a rate
        assert generate.main(["--ckpt", str(workdir), "--out", str(tmp_path / "songs"), "--bits", "float"]) == 0
        assert ("moving average" in capsys.readouterr().out) == (workdir != trained)
        songs.append(soundfile.read(tmp_path / "songs" / "seed-000000.wav")[0])
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
    empty, workdir = tmp_path / "empty", tmp_path / "run"
    empty.mkdir()
    assert_told(command("train", "--gin", gin, "--data", corpus), 2, "--workdir is missing")
    assert_told(train(gin, empty, workdir), 1, empty)
    assert_refused(gin, corpus, workdir, "--gin_param", "MP3net.bach_size = 1", words=["bach_size"])
    long = ("--gin_param", "Architecture.base = (512, 2)")
    assert_refused(gin, corpus, workdir, *long, words=["No recording is long enough", "piece-"])
    assert_refused("96s", corpus, workdir, words=["no configuration 96s", "95s"])
    assert_refused(gin, corpus, "/proc/run", words=["/proc/run", "Choose another folder"])
    odd = ("--gin_param", "train.steps = 13")
    assert_refused(gin, corpus, workdir, *odd, words=["train.steps is 13", "multiple of MP3net.critic_steps"])
    assert not workdir.exists()


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
