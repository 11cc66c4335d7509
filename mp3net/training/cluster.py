"""Several hosts: reading TF_CONFIG, and not waiting for ever for one that does not answer."""

import json
import os
import socket
import sys
import time

from mp3net.errors import UserError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


class HostLost(UserError):
    """Another host has left the run."""


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

    def meet(self, seconds):
        """Waits until every worker has met every other. Raises `UserError` naming those that did not come in time.

        TensorFlow waits for them too, but for an hour and deaf to signals. So they meet before, on the very ports that
        it will use: each connects to each, and leaves when it has met all and all have met it.
        """
        deadline = time.monotonic() + seconds
        to_meet = set(range(len(self.workers))) - {self.index}
        to_come = set(to_meet)
        with self._listening() as listener:
            while to_meet or to_come:
                for other in sorted(to_meet):
                    if _greet(self.workers[other], self.index):
                        to_meet.discard(other)
                to_come.discard(_greeted(listener))
                if time.monotonic() > deadline:
                    missing = ", ".join(f"worker {i} ({self.workers[i]})" for i in sorted(to_meet | to_come))
                    raise UserError(
                        f"{missing} did not answer within {seconds:.0f} s. Start the same command on every host of "
                        "TF_CONFIG, and see that their ports can be reached."
                    )

    def _listening(self):
        port = int(self.workers[self.index].rpartition(":")[2])
        try:
            listener = socket.create_server(("", port), backlog=len(self.workers))
        except OSError as error:
            raise UserError(
                f"Port {port}, which TF_CONFIG gives to this worker, cannot be used: {error.strerror}. "
                "End what holds it, or give another."
            ) from None
        listener.settimeout(0.2)
        return listener


def reach(address, seconds):
    """Whether HOST:PORT takes a connection within some seconds."""
    deadline = time.monotonic() + seconds
    host, _, port = address.rpartition(":")
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, int(port)), timeout=2.0):
                return True
        except (OSError, ValueError):
            time.sleep(min(0.5, seconds / 10))
    return False


def end(line):
    """Leaves at once with status 1: other threads may be stuck in TensorFlow."""
    sys.stdout.flush()
    print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(1)


def _malformed(what):
    return UserError(f"TF_CONFIG is malformed: {what}. It looks like this on the first of two hosts: {_EXAMPLE}")


def _is_address(worker):
    host, _, port = worker.rpartition(":") if isinstance(worker, str) else ("", "", "")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


_GREETING = b"mp3net %d\n"


def _greet(worker, index):
    """Says to a worker which one this is; whether it took note."""
    host, _, port = worker.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0) as connection:
            connection.sendall(_GREETING % index)
            return connection.recv(2) == b"ok"
    except OSError:
        return False


def _greeted(listener):
    """Which worker has come, or None."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2.0)
            words = connection.recv(64).split()
            if len(words) == 2 and words[0] == b"mp3net" and words[1].isdigit():
                connection.sendall(b"ok")
                return int(words[1])
    except OSError:
        pass
    return None
