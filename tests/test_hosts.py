"""Several hosts, as processes on loopback: they train one run, end when one is lost, and go on together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from helpers import TINY, assert_close, assert_told, command, write_corpus

from mp3net.errors import UserError
from mp3net.train import _agree
from mp3net.training.cluster import Cluster

TWO = ["10.0.0.1:2222", "10.0.0.2:2222"]


def tf_config(workers=TWO, index=0, **changes):
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}, **changes})


def test_tf_config_names_the_workers_and_this_one(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(index=1))
    cluster = Cluster.from_environment()
    assert cluster.workers == tuple(TWO) and cluster.index == 1


@pytest.mark.parametrize("text", ["", "{}", tf_config(TWO[:1])])
def test_without_a_second_worker_there_is_no_cluster(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert Cluster.from_environment() is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("{not json", "Expecting property name"),
        ('{"cluster": {}}', "'worker'"),
        (tf_config(task={"type": "worker"}), "'index'"),
        (tf_config(index=2), "no worker 2 among 2"),
        (tf_config(index=-1), "no worker -1"),
        (tf_config(["host-without-port", "b:1"]), "HOST:PORT"),
        (tf_config(["a:99999", "b:1"]), "HOST:PORT"),
        (tf_config(["a:1", "a:1"]), "one address"),
        (tf_config("a:1"), "a list"),
        (tf_config(task={"type": "chief", "index": 0}), "must be a worker"),
        (tf_config(cluster={"worker": TWO, "ps": ["c:1"]}), "must be a worker"),
        ("[]", "list indices"),
    ],
)
def test_a_malformed_tf_config_is_told_with_one_that_is_not(monkeypatch, text, said):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG is malformed.*host0:2222") as raised:
        Cluster.from_environment()
    assert said in str(raised.value)


@pytest.mark.parametrize("mine, other", [(4, -1), (-1, 4), (4, 8)])
def test_hosts_that_do_not_share_the_working_directory_are_told(mine, other):
    class Devices:
        largest = staticmethod(lambda number: max(number, other if number == mine else -other))

    class Resumed:
        step = mine

    with pytest.raises(UserError, match="not one folder"):
        _agree(Devices(), Resumed() if mine >= 0 else None, "runs/x")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Hosts:
    """Two processes of one command under TF_CONFIG."""

    def __init__(self, *arguments):
        workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
        line = [sys.executable, "-m", "mp3net.train", *map(str, arguments)]
        self.processes = [
            subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "TF_CONFIG": tf_config(workers, index)},
            )
            for index in range(2)
        ]  # fmt: skip

    def ended(self, timeout=300):
        """Waits; returns (status, stdout, stderr) of each."""
        texts = [process.communicate(timeout=timeout) for process in self.processes]
        return [(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]


def rows(workdir):
    names = ("step", "d_loss", "g_loss", "wasserstein", "gradient_penalty")
    return [[json.loads(line)[name] for name in names] for line in open(os.path.join(workdir, "metrics.jsonl"))]


def test_two_hosts_train_one_run_end_when_one_is_lost_and_go_on_together(tmp_path):
    """The run of one process; that of two, of which one is killed on the way; the other says so, within 30 s."""
    corpus, gin = write_corpus(tmp_path / "corpus"), tmp_path / "tiny.gin"
    gin.write_text(TINY + "train.save_every_steps = 2\ntrain.save_every_minutes = 1000.0\n")
    arguments = ["--gin", gin, "--data", corpus]
    alone = command("train", *arguments, "--workdir", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr

    shared = [*arguments, "--workdir", tmp_path / "two"]
    hosts = Hosts(*shared, "--gin_param", "train.steps = 100000", "--gin_param", "train.log_every = 100000")
    deadline = time.monotonic() + 200
    while not list((tmp_path / "two").glob("checkpoints/*/state.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    hosts.processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (status, _, stderr), _ = hosts.ended()
    assert time.monotonic() - killed < 30
    assert status == 1 and "Traceback" not in stderr
    assert "another host has left the run" in stderr.strip().splitlines()[-1]

    saved = sorted(int(path.parent.name) for path in (tmp_path / "two").glob("checkpoints/*/state.json"))
    for path in (tmp_path / "two" / "checkpoints").iterdir():  # so that there is something left to do
        if path.name != f"{saved[0]:08d}":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    again = Hosts(*shared, "--gin_param", f"train.steps = {max(12, saved[0] + 6)}").ended()
    assert [status for status, _, _ in again] == [0, 0], again
    assert f"at step {saved[0]}" in again[0][1] and "2 CPUs on 2 hosts, 1 a replica" in again[0][1]
    found = {row[0]: row for row in rows(tmp_path / "two")}
    # The first row after it is the mean of more rounds, for none was written before.
    common = [row for row in rows(tmp_path / "one") if row[0] in found and row[0] > saved[0] + 2]
    if saved[0] < 10:
        assert_close([found[row[0]] for row in common], common, rtol=2e-3, atol=2e-5)


def test_a_host_that_never_answers_is_named_in_time(tmp_path):
    corpus, gin = write_corpus(tmp_path / "corpus", count=1), tmp_path / "tiny.gin"
    gin.write_text(TINY)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    begun = time.monotonic()
    done = command(
        "train", "--gin", gin, "--data", corpus, "--workdir", tmp_path / "run", "--connect_s", 3,
        env={**os.environ, "TF_CONFIG": tf_config(workers)},
    )  # fmt: skip
    assert_told(done, 1, f"worker 1 ({workers[1]}) did not answer within 3 s", "every host")
    assert time.monotonic() - begun < 60
