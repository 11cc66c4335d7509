"""Several hosts: reading TF_CONFIG, and not waiting for ever for one that does not answer."""

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
import zlib

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
        if not isinstance(workers, list) or not all(is_address(worker) for worker in workers):
            raise _malformed(f"the workers must be a list of HOST:PORT, not {workers!r}")
        if len(set(workers)) != len(workers):
            raise _malformed("two workers have one address")
        if not 0 <= index < len(workers):
            raise _malformed(f"there is no worker {index} among {len(workers)}")
        return cls(workers, index) if len(workers) > 1 else None

    def meet(self, seconds):
        """Waits until every worker has met every other. Raises `UserError` naming those that did not come in time.

        TensorFlow waits for them too, but for an hour and deaf to signals. So they meet before, on the very ports that
        it will use, which are free again when this returns.
        """
        meeting = _Meeting(self, seconds)
        with self._listening() as listener:
            meeting.hold(listener)
        if not meeting.over():
            raise UserError(
                f"{meeting.missing()} within {seconds:.0f} s. Start the same command on every host of TF_CONFIG, with "
                "the same list of workers, and see that each can reach the port of every other."
            )

    def _listening(self):
        port = int(self.workers[self.index].rpartition(":")[2])
        try:
            return socket.create_server(("", port), backlog=128)
        except OSError as error:
            raise UserError(
                f"Port {port}, which TF_CONFIG gives to this worker, cannot be used: {error.strerror}. "
                "End what holds it, or give another."
            ) from None


def is_address(text):
    """Whether it is HOST:PORT."""
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    return bool(host) and not set(host) & set("/, ") and port.isdecimal() and 0 < int(port) < 65536


def reach(address, seconds):
    """Whether HOST:PORT takes a connection within some seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(*_UNREACHED), _connection(address, min(2.0, left)):
            return True
        time.sleep(min(0.5, seconds / 10))
    return False


def end(line):
    """Leaves at once with status 1: other threads may be stuck in TensorFlow."""
    sys.stdout.flush()
    print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(1)


def _malformed(what):
    return UserError(f"TF_CONFIG is malformed: {what}. It looks like this on the first of two hosts: {_EXAMPLE}")


_UNREACHED = (OSError, UnicodeError)  # UnicodeError: of a name that no host can have


def _connection(address, seconds):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


_HEARD, _ALL = b"h", b"a"
_PATIENCE_S = 5.0  # with a connection that says nothing


class _Meeting:
    """One worker's part in a meeting: with each other worker two connections, one that each of the two has made.

    Whoever makes one greets, and is answered; the worker has then met the other that way. When it has met all both
    ways it says so on each connection, which has ended when both sides have said so. It leaves when all have ended.
    So when the first leaves, every other has met all, and what it still waits to hear is already on its way. Nothing
    rests on a connection that was given up: it never ends, and the one made in its stead is answered, for none leaves
    before that has ended.
    """

    def __init__(self, cluster, seconds):
        self._workers, self._me = cluster.workers, cluster.index
        self._others = [i for i in range(len(self._workers)) if i != self._me]
        self._met, self._ended, self._met_all = set(), set(), threading.Event()  # of (worker, who made the connection)
        self._deadline = time.monotonic() + seconds

    def hold(self, listener):
        """Meets on the port that `listener` has, until it is over or the time is up."""
        for other in self._others:
            _start(self._visit, other)
        listener.settimeout(0.05)
        while not self.over() and self._left():
            with contextlib.suppress(OSError):
                _start(self._receive, listener.accept()[0])

    def over(self):
        """Whether this worker may leave."""
        return len(self._ended) == 2 * len(self._others)

    def missing(self):
        """Who did not come, in words."""
        pairs, did = (self._ended, "meet all the others") if self._met_all.is_set() else (self._met, "answer")
        absent = [i for i in self._others if not {(i, i), (i, self._me)} <= pairs]
        return ", ".join(f"worker {i} ({self._workers[i]})" for i in absent) + f" did not {did}"

    def _left(self):
        return max(0.0, self._deadline - time.monotonic())

    def _greeting(self, one, other):
        return b"mp3net %08x %d %d\n" % (zlib.crc32(" ".join(self._workers).encode()), one, other)

    def _visit(self, other):
        while self._left() and (other, self._me) not in self._ended:
            with contextlib.suppress(*_UNREACHED), _connection(self._workers[other], 2.0) as connection:
                connection.settimeout(_PATIENCE_S)
                connection.sendall(self._greeting(self._me, other))
                if connection.recv(1) == _HEARD:
                    self._stay(connection, (other, self._me))
            time.sleep(0.1)

    def _receive(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_PATIENCE_S)
            words = connection.recv(64)
            for other in self._others:
                if words == self._greeting(other, self._me):
                    connection.sendall(_HEARD)
                    self._stay(connection, (other, other))

    def _stay(self, connection, pair):
        """Keeps a connection until both of its ends have met all."""
        self._met.add(pair)
        if len(self._met) == 2 * len(self._others):
            self._met_all.set()
        while not self._met_all.wait(0.05):
            gone = select.select([connection], [], [], 0)[0] and not connection.recv(1, socket.MSG_PEEK)
            if gone or not self._left():
                return
        connection.settimeout(self._left())
        connection.sendall(_ALL)
        if connection.recv(1) == _ALL:
            self._ended.add(pair)


def _start(function, argument):
    threading.Thread(target=function, args=(argument,), daemon=True).start()
