"""Several hosts, as processes on loopback: they meet, train as one does, end when one is lost, and go on together."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import TINY, assert_close, assert_told, command, write_corpus
from replicas import assert_same

from mp3net.errors import UsageError, UserError
from mp3net.train import _agree
from mp3net.training import cluster as meetings
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
        (tf_config(["http://a:1", "b:1"]), "HOST:PORT"),
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
        largest = staticmethod(lambda numbers: [max(pair) for pair in zip(numbers, (other, -other), strict=True)])

    class Resumed:
        step = mine

    with pytest.raises(UserError, match="not one folder"):
        _agree(Devices(), Resumed() if mine >= 0 else None, "runs/x")


def addresses(count):
    """Of ports that are free, and from which the kernel takes none for a connection that it makes."""
    found = set()
    while len(found) < count:
        port = random.randrange(15000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            found.add(f"127.0.0.1:{port}")
    return sorted(found)


class Meeting(threading.Thread):
    """A host that comes to a meeting after `late` seconds: `seconds` it took, and the `error` it left with, or None."""

    def __init__(self, workers, index, limit=10.0, late=0.0, barrier=None):
        super().__init__(daemon=True)
        self._cluster, self._limit, self._late, self._barrier = Cluster(workers, index), limit, late, barrier
        self.error = self.seconds = None
        self.start()

    def run(self):
        if self._barrier:
            self._barrier.wait()
        time.sleep(self._late)
        begun = time.monotonic()
        try:
            self._cluster.meet(self._limit)
        except UserError as error:
            self.error = str(error)
        self.left = time.monotonic()
        self.seconds = self.left - begun


def ended(*hosts):
    """Waits; returns the errors."""
    for host in hosts:
        host.join()
    return [host.error for host in hosts]


def connect(worker):
    host, port = worker.split(":")
    for _ in range(200):
        with contextlib.suppress(OSError):
            return socket.create_connection((host, int(port)))
        time.sleep(0.01)
    raise AssertionError(f"{worker} does not listen")


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.3])
def test_hosts_that_start_together_meet(count, spread):
    for seed in range(3):
        workers, draw, barrier = addresses(count), random.Random(seed), threading.Barrier(count)
        hosts = [Meeting(workers, i, late=draw.uniform(0, spread), barrier=barrier) for i in range(count)]
        assert ended(*hosts) == [None] * count
        assert max(host.seconds for host in hosts) < 5


def test_hosts_wait_for_one_that_is_late_and_meet_one_that_was_begun_anew():
    workers = addresses(3)
    code = f"from mp3net.training.cluster import Cluster; Cluster({workers!r}, 1).meet(60)"
    first = Meeting(workers, 0)
    lost = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(1.0)
    lost.kill()
    lost.wait()
    again, late = Meeting(workers, 1), Meeting(workers, 2, late=1.0)
    assert ended(first, again, late) == [None] * 3
    assert min(first.left, again.left) > late.left - late.seconds
    assert late.seconds < 5


def test_none_leaves_while_two_others_have_not_met(monkeypatch):
    workers, visit, opened = addresses(3), meetings._Meeting._visit, threading.Event()

    def visit_slowly(self, other):
        if (self._me, other) == (2, 1):
            opened.wait(1.0)
        visit(self, other)

    monkeypatch.setattr(meetings._Meeting, "_visit", visit_slowly)
    hosts = [Meeting(workers, i) for i in range(3)]
    assert ended(*hosts) == [None] * 3
    assert all(1.0 < host.seconds < 5 for host in hosts)

    monkeypatch.setattr(meetings._Meeting, "_visit", lambda self, to: (self._me, to) == (2, 1) or visit(self, to))
    errors = ended(*[Meeting(workers, i, limit=1.5) for i in range(3)])
    assert f"worker 1 ({workers[1]}), worker 2 ({workers[2]}) did not meet all the others" in errors[0]
    assert f"worker 2 ({workers[2]}) did not answer within 2 s" in errors[1] and "worker 0" not in errors[1]
    assert f"worker 1 ({workers[1]}) did not answer" in errors[2] and "worker 0" not in errors[2]


def test_a_greeting_that_was_given_up_does_not_count(monkeypatch):
    """Worker 1 is slow to answer: worker 0 gives up twice, and must be answered although worker 1 has met it."""
    receive, slow = meetings._Meeting._receive, iter((0.6, 0.6))

    def receive_slowly(self, connection):
        if self._me == 1:
            time.sleep(next(slow, 0.0))
        receive(self, connection)

    monkeypatch.setattr(meetings, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(meetings._Meeting, "_receive", receive_slowly)
    workers = addresses(2)
    hosts = [Meeting(workers, i, limit=5.0) for i in range(2)]
    assert ended(*hosts) == [None] * 2
    assert abs(hosts[0].left - hosts[1].left) < 0.5


def test_strangers_neither_count_nor_hold_a_meeting_up():
    workers = addresses(2)
    hosts = [Meeting(workers, 0)]
    strangers = [connect(workers[0]) for _ in range(5)]  # the first of them says nothing
    strangers[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    strangers[2].sendall(os.urandom(5000))
    strangers[3].sendall(b"mp3net 00000000 1 0\n")
    strangers[4].close()
    time.sleep(0.5)
    hosts.append(Meeting(workers, 1))
    assert ended(*hosts) == [None] * 2 and hosts[1].seconds < 3
    for worker in workers:  # though the first is still connected
        socket.create_server(("", int(worker.split(":")[1]))).close()
    for stranger in strangers:
        stranger.close()


def test_workers_of_two_lists_do_not_meet():
    workers = addresses(3)
    two, three = ended(Meeting(workers[:2], 0, limit=1.0), Meeting(workers, 1, limit=1.0))
    assert two.startswith(f"worker 1 ({workers[1]}) did not answer") and "the same list" in two
    assert three.startswith(f"worker 0 ({workers[0]}), worker 2 ({workers[2]}) did not answer")


def test_the_time_limit_holds_where_connections_are_dropped_and_names_who_is_missing():
    workers = addresses(4)
    with contextlib.ExitStack() as held:
        for worker in workers[2:]:  # their queue is full: the kernel drops whoever comes
            address = ("127.0.0.1", int(worker.split(":")[1]))
            held.enter_context(socket.create_server(address, backlog=0))
            for _ in range(3):
                full = held.enter_context(socket.socket())
                full.setblocking(False)
                full.connect_ex(address)
        hosts = [Meeting(workers, i, limit=3.0) for i in range(2)]
        for error in ended(*hosts):
            assert error.startswith(f"worker 2 ({workers[2]}), worker 3 ({workers[3]}) did not answer within 3 s")
        assert all(2.9 < host.seconds < 3.5 for host in hosts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_host_that_waits_can_be_stopped(number):
    workers = addresses(2)
    code = f"from mp3net.training.cluster import Cluster; Cluster({workers!r}, 0).meet(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    with connect(workers[0]):
        process.send_signal(number)
        assert process.wait(timeout=5) != 0


def test_a_port_that_is_in_use_is_told():
    workers = addresses(2)
    with socket.create_server(("", int(workers[0].split(":")[1]))), pytest.raises(UserError, match="Port .* in use"):
        Cluster(workers, 0).meet(5)


@pytest.mark.parametrize("address", ["10.0.0.2", "10.0.0.2:", "10.0.0.2:84700", ":8470", "a:1,b:1", "10.0.0.2:8470/"])
def test_what_is_no_address_of_a_tpu_is_told_at_once(address):
    from mp3net.training import tpu

    begun = time.monotonic()
    with pytest.raises(UsageError, match=rf"tpu:grpc://{address}: .*grpc://10.0.0.2:8470"):
        tpu.connect(f"grpc://{address}", 30)
    assert time.monotonic() - begun < 2


class Hosts:
    """Two processes of one command under TF_CONFIG. `own` are arguments of each."""

    def __init__(self, program, *arguments, own=((), ())):
        workers = addresses(2)
        self.processes = [
            subprocess.Popen(
                list(map(str, (sys.executable, *program, *arguments, *own[index]))),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "TF_CONFIG": tf_config(workers, index)},
            )
            for index in range(2)
        ]  # fmt: skip

    def ended(self, timeout=300):
        """Waits, and leaves none behind; returns (status, stdout, stderr) of each."""
        try:
            texts = [process.communicate(timeout=timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]


TRAIN = ("-m", "mp3net.train")
REPLICAS = (pathlib.Path(__file__).with_name("replicas.py"), "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What replicas.py writes of one process, and of each of two hosts, without and with accumulation."""
    alone, *each = (tmp_path_factory.mktemp("replicas") / f"{name}.npz" for name in ("alone", "first", "second"))
    parts = ("--parts", 1, 2)
    hosts = Hosts(REPLICAS, own=[(path, *parts) for path in each])
    one = subprocess.Popen(list(map(str, (sys.executable, *REPLICAS, alone, *parts))), stderr=subprocess.PIPE)
    statuses = hosts.ended()
    _, stderr = one.communicate(timeout=300)
    assert [one.returncode, *(status for status, _, _ in statuses)] == [0] * 3, (stderr, statuses)
    return [dict(np.load(path)) for path in (alone, *each)]


@pytest.mark.parametrize("parts", [1, 2])
def test_two_hosts_train_as_one_device_does_with_the_whole_batch(trained, parts):
    """Also with gradients accumulated over two parts of the batch, and with two rounds in one call."""
    alone, *hosts = trained
    assert (alone["hosts"], alone["replicas"]) == (1, 1)
    for found in hosts:
        assert (found["hosts"], found["replicas"]) == (2, 2)
        assert_same(found, alone, parts)
        weights = [name for name in found if name.startswith("weight_")]
        assert all(np.array_equal(found[name], hosts[0][name]) for name in weights)


def rows(workdir):
    names = ("step", "d_loss", "g_loss", "wasserstein", "gradient_penalty")
    return [[json.loads(line)[name] for name in names] for line in open(os.path.join(workdir, "metrics.jsonl"))]


def small_run(folder):
    """Arguments of a short run that saves at every second step."""
    corpus, gin = write_corpus(folder / "corpus"), folder / "tiny.gin"
    gin.write_text(TINY + "train.save_every_steps = 2\ntrain.save_every_minutes = 1000.0\ntrain.keep = 1000\n")
    return ["--gin", gin, "--data", corpus]


def endless(workdir, arguments, begun, *settings):
    """Two hosts amid a run that will not end by itself, once a file of the pattern `begun` holds something."""
    settings = [word for setting in ("train.steps = 100000", *settings) for word in ("--gin_param", setting)]
    hosts, deadline = Hosts(TRAIN, *arguments, "--workdir", workdir, *settings), time.monotonic() + 200
    while not any(path.stat().st_size for path in workdir.glob(begun)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return hosts


def test_two_hosts_train_one_run_end_when_one_is_lost_and_go_on_together(tmp_path):
    """The run of one process; that of two, of which one is killed on the way; the other says so, within 30 s."""
    arguments = small_run(tmp_path)
    alone = command("train", *arguments, "--workdir", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr

    hosts = endless(tmp_path / "two", arguments, "checkpoints/*/state.json", "train.log_every = 100000")
    hosts.processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (status, _, stderr), _ = hosts.ended()
    assert time.monotonic() - killed < 30
    assert status == 1 and "Traceback" not in stderr
    assert "another host has left the run" in stderr.strip().splitlines()[-1]

    for path in (tmp_path / "two" / "checkpoints").iterdir():  # so that there is something left to do
        if path.name != "00000002":
            shutil.rmtree(path)
    again = Hosts(TRAIN, *arguments, "--workdir", tmp_path / "two").ended()
    assert [status for status, _, _ in again] == [0, 0], again
    assert "at step 2\n" in again[0][1] and "2 CPUs on 2 hosts, 1 a replica" in again[0][1]
    found = {row[0]: row for row in rows(tmp_path / "two")}
    # The first row after it is the mean of more rounds, for none was written before.
    common = [row for row in rows(tmp_path / "one") if row[0] > 4]
    assert [row[0] for row in common] == [6, 8, 10, 12]
    assert_close([found[row[0]] for row in common], common, rtol=2e-3, atol=2e-5)


def test_a_host_that_is_preempted_has_all_save_and_end(tmp_path):
    """By SIGTERM to the one that writes no checkpoints, before any was due."""
    hosts = endless(tmp_path / "run", small_run(tmp_path), "metrics.jsonl", "train.save_every_steps = 100000")
    told = time.monotonic()
    hosts.processes[1].send_signal(signal.SIGTERM)
    chief, preempted = hosts.ended(timeout=60)
    assert time.monotonic() - told < 30
    for status, said, stderr in (chief, preempted):
        assert status == 128 + signal.SIGTERM and "Traceback" not in stderr
        assert said.strip().splitlines()[-1] == "Stopped. The same command goes on from here."
    assert "SIGTERM: saving" in preempted[1] and "SIGTERM" not in chief[1]
    saved = [json.loads(path.read_text())["step"] for path in (tmp_path / "run").glob("checkpoints/*/state.json")]
    assert saved == [rows(tmp_path / "run")[-1][0]]  # a row was due at every step at which it could end


def test_a_host_that_never_answers_is_named_in_time(tmp_path):
    corpus, gin = write_corpus(tmp_path / "corpus", count=1), tmp_path / "tiny.gin"
    gin.write_text(TINY)
    workers = addresses(2)
    begun = time.monotonic()
    done = command(
        "train", "--gin", gin, "--data", corpus, "--workdir", tmp_path / "run", "--connect_s", 3,
        env={**os.environ, "TF_CONFIG": tf_config(workers)},
    )  # fmt: skip
    assert_told(done, 1, f"worker 1 ({workers[1]}) did not answer within 3 s", "every host")
    assert time.monotonic() - begun < 60
