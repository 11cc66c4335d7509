"""Several hosts: reading TF_CONFIG, and not waiting for ever for one that does not answer."""

import json
import os
import socket
import threading

from mp3net.errors import UserError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


class Cluster:
    """What TF_CONFIG says: the addresses of all workers, and which of them this process is."""

    def __init__(self, workers, index):
        self.workers, self.index = tuple(workers), index

    @classmethod
    def from_environment(cls):
        """That of the variable TF_CONFIG, or None where there is none or it names one worker alone.

        Raises `UserError` where it is malformed.
        """
        text = os.environ.get("TF_CONFIG", "").strip()
        if not text or text == "{}":
            return None
        try:
            found = json.loads(text)
            workers, task = found["cluster"]["worker"], found["task"]
            kind, index = task["type"], int(task["index"])
        except (ValueError, KeyError, TypeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise _malformed(what) from None
        if set(found["cluster"]) != {"worker"} or kind != "worker":
            raise _malformed("every task must be a worker")
        if not isinstance(workers, list) or not all(_is_address(worker) for worker in workers):
            raise _malformed(f"the workers must be a list of HOST:PORT, not {workers!r}")
        if len(set(workers)) != len(workers):
            raise _malformed("two workers have one address")
        if not 0 <= index < len(workers):
            raise _malformed(f"there is no worker {index} among {len(workers)}")
        return cls(workers, index) if len(workers) > 1 else None

    def silent(self):
        """Those of the others that take no connection, as text for a person."""
        others = [(i, worker) for i, worker in enumerate(self.workers) if i != self.index]
        return ", ".join(f"worker {i} ({worker})" for i, worker in others if not _answers(worker))


class Deadline:
    """Ends the process with a line if what is done in this context takes longer than `seconds`.

    For calls that wait inside TensorFlow, which no exception reaches.
    """

    def __init__(self, seconds, explain):
        self._seconds, self._explain = seconds, explain
        self._over = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *_):
        self._over.set()

    def _watch(self):
        if not self._over.wait(self._seconds):
            end(self._explain())


def end(line):
    """Leaves at once with status 1: other threads may be stuck in TensorFlow."""
    print(f"error: {line}", flush=True)
    os._exit(1)


def _malformed(what):
    return UserError(f"TF_CONFIG is malformed: {what}. It looks like this on the first of two hosts: {_EXAMPLE}")


def _is_address(worker):
    host, _, port = worker.rpartition(":") if isinstance(worker, str) else ("", "", "")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def _answers(worker, seconds=2.0):
    host, _, port = worker.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=seconds):
            return True
    except OSError:
        return False
