"""One run at a time in a working directory, however the one before it ended."""

import contextlib
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf
from helpers import TINY, assert_told, command, write_corpus

from mp3net.errors import UserError
from mp3net.training import lock


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path):
    told = pytest.raises(UserError, match=r"in use by another run \(process \d+ on .*another --workdir")
    with lock.hold(tmp_path), told, lock.hold(f"file://{tmp_path}"):
        pass
    with lock.hold(tmp_path):
        pass


def test_a_run_that_was_killed_holds_nothing(tmp_path):
    script = (
        "import time; from mp3net.training import lock\n"
        f"with lock.hold({str(tmp_path)!r}):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {process.pid} "):
        lock.hold(tmp_path).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with lock.hold(tmp_path):
        pass


def test_train_refuses_a_working_directory_that_is_in_use(tmp_path):
    corpus, gin = write_corpus(tmp_path / "corpus", count=1), tmp_path / "tiny.gin"
    gin.write_text(TINY)
    (tmp_path / "run").mkdir()
    with lock.hold(tmp_path / "run"):
        done = command("train", "--gin", gin, "--data", corpus, "--workdir", tmp_path / "run")
    assert_told(done, 1, "in use by another run", "--workdir")
    assert not (tmp_path / "run" / "checkpoints").exists()


# ---- where nothing can be locked: a lease


def lease(folder, refresh_s=0.1, stale_s=60.0, settle_s=0.1):
    return lock._Lease(str(folder), refresh_s, stale_s, settle_s)


def write_lease(folder, age_s=0.0, process=None):
    """A lease that another run, "process 1", has left there."""
    text = json.dumps({"token": "other", "time": time.time() - age_s, "who": "process 1", "process": process})
    (folder / ".lease").write_text(text)
    return text


HOLD = """
import sys, time
from mp3net.training import lock
with lock._Lease(sys.argv[1], 0.1, float(sys.argv[2]), 0.1):
    try:
        print('held', flush=True)
        time.sleep(60)
    finally:
        print('saved', flush=True)
"""


@contextlib.contextmanager
def holder(folder, stale_s=60.0):
    """A process that holds the lease of `folder`."""
    command = [sys.executable, "-c", HOLD, str(folder), str(stale_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """What was said by holders in this process that ended; each ends its thread alone."""
    said = []

    def end(line):
        said.append(line)
        sys.exit()

    monkeypatch.setattr(lock.cluster, "end", end)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    return said


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("workdir, leased", [("gs://b/run", True), ("file://{}", False), ("{}", False)])
def test_a_remote_folder_is_leased(tmp_path, monkeypatch, workdir, leased):
    taken = []
    monkeypatch.setattr(lock, "_Lease", lambda folder: taken.append(folder) or contextlib.nullcontext())
    with lock.hold(workdir.format(tmp_path)):
        assert taken == ["gs://b/run"] * leased and (tmp_path / ".lock").exists() != leased


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_leased(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    monkeypatch.setattr(lock, "_Lease", functools.partial(lock._Lease, refresh_s=0.1, settle_s=0.1))
    for _ in range(2):
        with lock.hold(tmp_path), pytest.raises(UserError, match="in use"), lock.hold(tmp_path):
            pass


def test_a_lease_refuses_a_second_run_soon_and_is_given_back(tmp_path, ended):
    with lease(tmp_path):
        begun = time.monotonic()
        with pytest.raises(UserError, match=f"in use by another run .process {os.getpid()} on .*another --workdir"):
            lease(tmp_path).__enter__()
        assert time.monotonic() - begun < 5, "it did not wait until the lease would have been stale"
        time.sleep(0.5)
    assert not (tmp_path / ".lease").exists() and not ended
    with lease(tmp_path):
        pass


@pytest.mark.parametrize(
    "age_s, seconds",
    [(0.0, (2.0, 6.0)), (-1000.0, (2.0, 6.0)), (1.0, (1.0, 1.9)), (1000.0, (0.2, 1.9))],
    ids=["fresh", "by a clock ahead", "half", "old"],
)
def test_a_silent_lease_is_waited_out(tmp_path, capsys, age_s, seconds):
    write_lease(tmp_path, age_s)
    begun = time.monotonic()
    with lease(tmp_path, stale_s=2.0, settle_s=0.01):
        waited = time.monotonic() - begun
    assert seconds[0] - 0.05 < waited < seconds[1]
    said = capsys.readouterr().out
    assert "is held by another run (process 1): waiting" in said and "s at most (Ctrl-C ends this)" in said


def test_an_old_lease_that_changes_is_alive(tmp_path):
    write_lease(tmp_path, age_s=1000)
    rewrite = threading.Timer(0.3, write_lease, (tmp_path, 999))
    rewrite.start()
    with pytest.raises(UserError, match="process 1"):
        lease(tmp_path, refresh_s=0.5, stale_s=1.0).__enter__()


@pytest.mark.parametrize("text", ["", "{half", "[]", "{}"])
def test_a_lease_that_cannot_be_read_is_waited_out(tmp_path, capsys, text):
    (tmp_path / ".lease").write_text(text)
    with lease(tmp_path):
        assert json.loads((tmp_path / ".lease").read_text())["who"].startswith(f"process {os.getpid()} on ")
    assert "of an unknown process" in capsys.readouterr().out


def test_the_lease_of_a_process_killed_here_is_taken_at_once(tmp_path, capsys):
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / ".lease").exists()
        begun = time.monotonic()
        with lease(tmp_path):
            assert time.monotonic() - begun < 5
    assert "waiting" not in capsys.readouterr().out


def test_a_process_is_gone_only_where_that_is_known():
    mine = lock._process(os.getpid())
    assert not lock._gone(mine)
    assert lock._gone([*mine[:4], "1"]), "its number is now another's"
    assert not lock._gone(None)
    for i in range(3):  # another host, boot or namespace: nothing can be said
        assert not lock._gone([*mine[:i], "other", *mine[i + 1 : 4], "1"])
    child = subprocess.Popen(["sleep", "60"])
    seen = lock._process(child.pid)
    assert seen[3:] != mine[3:] and not lock._gone(seen)
    child.kill()
    until(lambda: lock._gone(seen))  # a zombie, since none has waited for it yet
    child.wait()
    assert lock._gone(seen)


def test_a_holder_that_was_taken_over_ends_without_saving(tmp_path):
    with holder(tmp_path, stale_s=1.0) as process:
        process.send_signal(signal.SIGSTOP)
        with lease(tmp_path, stale_s=1.0):
            held = json.loads((tmp_path / ".lease").read_text())["token"]
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=15)
            assert process.returncode == 1 and "saved" not in out
            assert err.splitlines()[-1].startswith(
                f"error: {tmp_path} is now held by another run (process {os.getpid()} on "
            )
            assert json.loads((tmp_path / ".lease").read_text())["token"] == held


def test_a_holder_leaves_the_lease_of_another(tmp_path, ended):
    with lease(tmp_path):
        text = write_lease(tmp_path)
        until(lambda: ended)
    assert "held by another run (process 1)" in ended[0] and (tmp_path / ".lease").read_text() == text


def test_a_holder_mends_a_lease_that_was_spoilt(tmp_path, ended):
    with lease(tmp_path):
        for text in ("{half", None):
            (tmp_path / ".lease").unlink() if text is None else (tmp_path / ".lease").write_text(text)
            until(lambda: (tmp_path / ".lease").exists() and "token" in (tmp_path / ".lease").read_text())
    assert not ended and not (tmp_path / ".lease").exists()


@pytest.mark.parametrize("write_s", [0.0, 0.02, 0.6], ids=["fast", "a little slow", "slower than the settling"])
def test_of_several_that_come_at_once_one_is_left(tmp_path, monkeypatch, ended, write_s):
    leases = [lease(tmp_path, refresh_s=1.0, settle_s=0.4) for _ in range(3)]
    writes, barrier, refused = lock._Lease._write, threading.Barrier(3), []

    def slow(self):
        if not self._thread.is_alive():  # as they come: the last by 2 * write_s
            time.sleep(leases.index(self) * write_s)
        writes(self)

    def come(one):
        barrier.wait()
        try:
            one.__enter__()
        except UserError as error:
            refused.append(str(error))

    monkeypatch.setattr(lock._Lease, "_write", slow)
    threads = [threading.Thread(target=come, args=(one,)) for one in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(refused) + len(ended) == 2)
    time.sleep(1.5)
    (left,) = [one for one in leases if one._thread.is_alive()]
    assert json.loads((tmp_path / ".lease").read_text())["token"] == left._token
    assert len(refused) + len(ended) == 2 and (write_s > 0.1 or not ended)
    left.__exit__()
    assert not (tmp_path / ".lease").exists()


class Storage:
    """Stands in for GFile, and fails for the next `failures` openings."""

    def __init__(self, failures):
        self.failures, self._open = failures, tf.io.gfile.GFile

    def __call__(self, *arguments):
        if self.failures:
            self.failures -= 1
            raise tf.errors.UnavailableError(None, None, "HTTP response code 503\nwith more")
        return self._open(*arguments)


def test_a_failure_of_the_storage_frees_nothing(tmp_path, monkeypatch):
    text = write_lease(tmp_path)
    monkeypatch.setattr(tf.io.gfile, "GFile", Storage(1000))
    with pytest.raises(UserError, match=r"\.lease, .* cannot be read or written: HTTP .* 503\. See that the storage"):
        lease(tmp_path).__enter__()
    assert (tmp_path / ".lease").read_text() == text


def test_a_failure_of_the_storage_that_passes_is_borne(tmp_path, monkeypatch, ended):
    with lease(tmp_path):
        for failures in (3, 2):  # of a start, then of the holder's refreshes
            storage = Storage(failures)
            monkeypatch.setattr(tf.io.gfile, "GFile", storage)
            if failures == 3:
                with pytest.raises(UserError, match="in use"):
                    lease(tmp_path).__enter__()
            until(lambda: storage.failures == 0)  # noqa: B023 at once
            monkeypatch.undo()
        before = (tmp_path / ".lease").read_text()
        until(lambda: (tmp_path / ".lease").read_text() not in ("", before))
    assert not ended and not (tmp_path / ".lease").exists()
