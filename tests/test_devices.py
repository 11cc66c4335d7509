"""Any number of replicas trains the same run: losses, gradients, the minibatch statistic; and what is refused."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from helpers import TINY, assert_close, assert_told, command, write_corpus
from replicas import SIZES, assert_same

from mp3net import hardware
from mp3net.aot import lowering
from mp3net.errors import UsageError, UserError
from mp3net.model.mp3net import MP3net
from mp3net.train import _compare_places
from mp3net.training import devices as where
from mp3net.training import tpu
from mp3net.training.cluster import HostLost
from mp3net.training.devices import Devices, choose

SCRIPT = pathlib.Path(__file__).with_name("replicas.py")


def trained(device, out, *options):
    subprocess.run([sys.executable, SCRIPT, device, out, *options], check=True, timeout=600, capture_output=True)
    return dict(np.load(out))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained("cpu", tmp_path_factory.mktemp("alone") / "one.npz")


@pytest.mark.parametrize("device, options", [("cpu:2", ["--sent"]), ("cpu:4", []), ("cpu:8", [])])
def test_replicas_train_as_one_device_does_with_the_whole_batch(alone, tmp_path, device, options):
    found = trained(device, tmp_path / "several.npz", *options)
    assert found["replicas"] == int(device[4:]) and alone["replicas"] == 1
    assert_same(found, alone)


def test_rounds_in_one_call_of_xla_are_those_of_several_calls():
    """The path of one GPU and of a TPU, by XLA on this CPU: a loop of rounds, each of two micro-batches."""
    devices = Devices(tf.distribute.OneDeviceStrategy("CPU:0"), "CPU", "CPU under XLA", xla=True)
    with devices.scope():
        system = MP3net(SIZES, batch_size=2, critic_steps=1).build(devices.place, seed=1)
    stage = dataclasses.replace(system.stages(60)[0], micro_batches=2)
    real = 0.2 * tf.random.stateless_normal([3, 1, 2, *SIZES.output_shape], [5, 5])
    data = (real, tf.reshape(tf.range(6, dtype=tf.int64), [3, 1, 2]))
    variables = lowering.variables(system)
    call = devices.compile(lambda data: tf.stack(list(system.train_step(stage, *data)[0].values())), 3, variables)
    before = [variable.numpy() for variable in variables]

    def run(calls):
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        rows = [call(data, tf.constant(first), tf.constant(count)).numpy()[:count] for first, count in calls]
        return np.concatenate(rows)

    together = run([(0, 3)])
    assert together.shape == (3, 8) and np.isfinite(together).all() and np.ptp(together[:, 0]) > 0
    assert_close(run([(0, 1), (1, 2)]), together, rtol=1e-5, atol=1e-7)
    assert call.experimental_get_tracing_count() == 1


def test_a_batch_is_shared_among_replicas_and_parts():
    one = choose("cpu")
    assert one.split(8) == (8, 1)
    assert [one.split(8, micro) for micro in (8, 5, 4, 3, 2, 1, 100)] == [
        (8, 1), (8, 2), (8, 2), (8, 4), (8, 4), (8, 8), (8, 1)
    ]  # fmt: skip

    class Eight:
        num_replicas_in_sync = 8

    eight = Devices(Eight(), "TPU", "TPU local, 8 cores")
    assert eight.split(64, 4) == (8, 2) and eight.split(8) == (1, 1)
    with pytest.raises(UserError, match="batch of 12 cannot be divided among 8 replicas.* 8 or 16"):
        eight.split(12)
    with pytest.raises(UserError, match="batch of 4 cannot be divided"):
        eight.split(4)


@pytest.mark.parametrize("name", ["cuda", "cpu:", "cpu:0", "cpu:two", "auto:1", "", "gpu:x"])
def test_a_device_that_does_not_exist_is_told_with_those_that_do(name):
    if name == "cpu:":  # nothing after the colon is nothing asked
        assert choose(name).replicas == 1
        return
    with pytest.raises((UsageError, UserError), match="cpu:N|sees no GPU"):
        choose(name)


TWO_HOSTS = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'


def test_devices_that_several_hosts_cannot_have_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", TWO_HOSTS)
    with pytest.raises(UsageError, match="cpu:4.*with TF_CONFIG each host has one replica"):
        choose("cpu:4")
    monkeypatch.setattr(tpu, "is_here", lambda: True)
    for name in ("auto", "tpu"):
        with pytest.raises(UserError, match="TF_CONFIG is set.* unset it, or give --device cpu or gpu"):
            choose(name)


@pytest.mark.parametrize(
    "error, lost",
    [
        (tf.errors.UnavailableError(None, None, "failed to connect to all addresses"), True),
        (tf.errors.InternalError(None, None, "Collective ops is aborted by: a peer"), True),
        (tf.errors.InvalidArgumentError(None, None, "shapes do not match"), False),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), False),
    ],
)
def test_only_what_a_lost_host_causes_is_laid_to_one(error, lost):
    devices = Devices(tf.distribute.OneDeviceStrategy("CPU:0"), "CPU", "CPUs", hosts=2)
    with pytest.raises(HostLost if lost else type(error), match=error.message), devices.watched():
        raise error
    alone = Devices(tf.distribute.OneDeviceStrategy("CPU:0"), "CPU", "CPU")
    with pytest.raises(type(error)), alone.watched():
        raise error


def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"sees no GPU.*mp3net\[gpu\]"):
        choose("gpu")


def test_a_tpu_under_a_plain_build_is_told():
    with pytest.raises(UserError, match=r"no TPU support.*mp3net\[tpu\].*never install both"):
        choose("tpu", connect_s=60)


@pytest.mark.parametrize(
    "raised, said",
    [
        (tf.errors.NotFoundError(None, None, "TPUs not found in the cluster."), "no TPU was found"),
        (RuntimeError("The TPU is already in use by process with pid 12"), "another process holds the chip"),
        (ImportError("cloud-tpu-client must be installed"), r"mp3net\[tpu-node\]"),
        (ValueError("could not resolve my-node"), "by address"),
        (OSError("<urlopen error [Errno -2] Name or service not known>"), "give the address"),
    ],
)
def test_why_a_tpu_cannot_be_used_is_told(monkeypatch, raised, said):
    def resolver(tpu):
        raise raised

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    with pytest.raises(UserError, match=said):
        tpu.connect("my-node", 1)


@pytest.mark.parametrize("chips, said", [([], "shows no TPU chip"), (["/dev/accel0"], "Graph execution error")])
def test_a_machine_without_a_chip_is_told(monkeypatch, chips, said):
    def resolver(tpu):
        raise tf.errors.InternalError(None, None, "Graph execution error:\n\nDetected at node disconnect_tpu_host")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setattr(hardware, "tpu_chips", lambda: chips)
    with pytest.raises(UserError, match=said):
        tpu.connect("local", 1)


def test_a_tpu_that_does_not_answer_is_told_in_time():
    with pytest.raises(UserError, match=r"grpc://127.0.0.1:1 did not answer within 1 s.*READY"):
        choose("tpu:grpc://127.0.0.1:1", connect_s=1)


def test_a_run_goes_on_with_another_number_of_replicas(tmp_path):
    """12 steps on one device, against its first 6 and then 6 on two replicas: the same losses, to rounding."""
    corpus, gin = write_corpus(tmp_path / "corpus"), tmp_path / "tiny.gin"
    gin.write_text(TINY + "MP3net.batch_size = 4\ntrain.save_every_steps = 6\n")
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def train(workdir, device):
        done = command("train", "--gin", gin, "--data", corpus, "--workdir", workdir, "--device", device)
        assert done.returncode == 0, done.stderr
        return done.stdout

    train(whole, "cpu")
    shutil.copytree(whole / "checkpoints" / "00000006", cut / "checkpoints" / "00000006")
    resumed = train(cut, "cpu:2")
    assert "at step 6" in resumed and "changed: CPU before, 2 CPUs now\n" in resumed
    assert "on 2 CPUs, 2 a replica" in resumed
    assert_close(json_rows(cut), json_rows(whole)[3:], rtol=2e-3, atol=2e-5)


def test_a_run_that_goes_on_with_another_generator_of_random_numbers_says_so(capsys):
    alone, compiled = {"device": "CPU", "xla": False}, {"device": "GPU", "xla": True}
    _compare_places(alone, compiled)
    assert "CPU before, GPU now; with XLA random numbers are another generator's" in capsys.readouterr().out
    _compare_places(alone, alone)
    _compare_places(None, alone)  # a checkpoint of an earlier release
    assert not capsys.readouterr().out


def json_rows(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [[row[name] for name in ("step", "d_loss", "g_loss", "wasserstein", "gradient_penalty")] for row in rows]


def test_accumulation_is_said_and_a_batch_that_cannot_be_shared_refused(tmp_path):
    corpus, gin = write_corpus(tmp_path / "corpus", count=1), tmp_path / "tiny.gin"
    gin.write_text(TINY + "MP3net.batch_size = 4\n")
    arguments = [
        "train",
        "--gin",
        gin,
        "--data",
        corpus,
        "--workdir",
        tmp_path / "run",
        "--gin_param",
        "train.steps = 2",
    ]
    done = command(*arguments, "--gin_param", "train.micro_batch = 1")
    assert done.returncode == 0, done.stderr
    assert "in 4 parts of 1" in done.stdout and "minibatch standard deviation is over 1 example" in done.stdout
    assert_told(command(*arguments, "--device", "cpu:3"), 1, "batch of 4 cannot be divided among 3 replicas", "3 or 6")
    assert where.NAMES in command(*arguments, "--device", "abacus").stderr
