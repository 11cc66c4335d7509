"""One run at a time in a working directory, however the one before it ended."""

import json
import signal
import subprocess
import sys
import time

import pytest
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


def lease(folder, stale_s=300):
    return lock._Lease(str(folder), refresh_s=0.05, stale_s=stale_s)


def test_a_lease_refuses_a_second_run_and_is_given_back(tmp_path):
    with lease(tmp_path), pytest.raises(UserError, match="in use by another run"):
        lease(tmp_path).__enter__()
    assert not (tmp_path / ".lock").exists()
    with lease(tmp_path):
        pass


def test_a_lease_is_kept_alive_and_a_silent_one_taken_over(tmp_path):
    with lease(tmp_path, stale_s=0.5):
        time.sleep(1.0)
        with pytest.raises(UserError, match="in use"):
            lease(tmp_path, stale_s=0.5).__enter__()
    (tmp_path / ".lock").write_text(json.dumps({"token": "x", "time": time.time() - 10, "who": "process 1"}))
    with pytest.raises(UserError, match="process 1"):
        lease(tmp_path).__enter__()
    with lease(tmp_path, stale_s=5):
        pass


@pytest.mark.parametrize("text", ["", "{half", "[]"])
def test_a_lease_that_cannot_be_read_holds_nothing(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    with lease(tmp_path):
        pass


def test_of_two_that_come_at_once_the_last_to_write_has_it(tmp_path, monkeypatch):
    first = lease(tmp_path)

    def meanwhile(_):
        (tmp_path / ".lock").write_text(json.dumps({"token": "other", "time": time.time(), "who": "process 2"}))

    monkeypatch.setattr(lock.time, "sleep", meanwhile)
    with pytest.raises(UserError, match="process 2"):
        first.__enter__()
