"""One run at a time in a working directory."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid

import tensorflow as tf

from mp3net.errors import UserError

_NAME = ".lock"
_REFRESH_S, _STALE_S = 60, 300


def hold(workdir):
    """A context in which this process alone trains in `workdir`. Raises `UserError` where another run does.

    On this machine's disks the operating system keeps the lock, and frees it however the process ends. Elsewhere, on
    gs:// say, it is a file written anew every minute; after five minutes of silence the next run takes it over.
    """
    remote = "://" in str(workdir) and not str(workdir).startswith("file://")
    return _Lease(workdir) if remote else _FileLock(str(workdir).removeprefix("file://"))


class _FileLock:
    def __init__(self, workdir):
        self._workdir, self._path = workdir, os.path.join(workdir, _NAME)

    def __enter__(self):
        self._file = open(self._path, "a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read()
            self._file.close()
            raise _taken(self._workdir, holder) from None
        self._file.truncate(0)
        self._file.write(_who())
        self._file.flush()

    def __exit__(self, *_):
        self._file.truncate(0)
        self._file.close()  # the file stays: were it removed, a third process could lock another of its name


class _Lease:
    def __init__(self, workdir, refresh_s=_REFRESH_S, stale_s=_STALE_S):
        self._workdir, self._path = workdir, f"{str(workdir).rstrip('/')}/{_NAME}"
        self._refresh_s, self._stale_s = refresh_s, stale_s
        self._token, self._over = uuid.uuid4().hex, threading.Event()

    def __enter__(self):
        found = self._read()
        if found and time.time() - found.get("time", 0) < self._stale_s:
            raise _taken(self._workdir, found.get("who", ""))
        self._write()
        time.sleep(min(1.0, self._refresh_s))  # two that came at once have both written by now: the last one has it
        found = self._read()
        if found and found.get("token") != self._token:
            raise _taken(self._workdir, found.get("who", ""))
        threading.Thread(target=self._refresh, daemon=True).start()

    def __exit__(self, *_):
        self._over.set()
        if (self._read() or {}).get("token") == self._token:
            tf.io.gfile.remove(self._path)

    def _refresh(self):
        while not self._over.wait(self._refresh_s):
            with contextlib.suppress(tf.errors.OpError):  # one minute missed harms nothing
                self._write()

    def _write(self):
        with tf.io.gfile.GFile(self._path, "w") as file:
            file.write(json.dumps({"token": self._token, "time": time.time(), "who": _who()}))

    def _read(self):
        try:
            with tf.io.gfile.GFile(self._path) as file:
                found = json.loads(file.read())
        except (tf.errors.OpError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def _who():
    return f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


def _taken(workdir, holder):
    who = f" ({holder})" if holder else ""
    return UserError(f"{workdir} is in use by another run{who}. Stop that one first, or choose another --workdir.")
