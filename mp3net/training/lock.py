"""One run at a time in a working directory."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid

import tensorflow as tf

from mp3net.errors import UserError
from mp3net.training import cluster


@contextlib.contextmanager
def hold(workdir):
    """A context in which this process alone trains in `workdir`. Raises `UserError` where another run does.

    On this machine's disks the operating system keeps the lock, and frees it however the process ends. On gs://, and
    on a mount that knows no locks, it is a lease. A mount that keeps locks to itself refuses this machine's runs alone.
    """
    folder = str(workdir).removeprefix("file://")
    with ("://" not in folder and _locked(folder)) or _Lease(folder):
        yield


def _locked(workdir):
    """The lock file of `workdir`, open and held until it is closed, or None where its file system knows no locks.

    It is never removed: else a third process could lock another of its name.
    """
    file = open(os.path.join(workdir, ".lock"), "a+")  # noqa: SIM115 it outlives this function
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            raise _taken(workdir, file.read()) from None
    except OSError:  # as FUSE mounts of a bucket and some NFS say
        file.close()
        return None
    file.truncate(0)
    file.write(_who())
    file.flush()
    return file


class _Lease:
    """A file that its holder writes anew every `refresh_s`, and that the next run takes when it has stayed the same.

    Storage without locks allows no more than this; a read must see the last write, as on gs:// in a bucket not public:

    1. A run that finds a lease watches it: two refreshes at least, until it is `stale_s` old at most. It refuses when
       the lease changes, and takes it when it does not; at once where its process was on this machine and is gone.
    2. Of runs that come at once, each goes on only while it reads back its own lease: one is left after the settling
       or, where a write was slower than that, at the next refresh.
    3. A holder that was silent for `stale_s` may lose its lease. It notices at its next refresh and ends, saving
       nothing; what it saved since it woke, for `refresh_s` at most, may lie beside what the new holder saves.

    Three refreshes in a row may fail, and a start waits a minute at most, which a new TPU takes several times.
    """

    def __init__(self, workdir, refresh_s=15, stale_s=60, settle_s=2):
        self._workdir, self._path = workdir, f"{str(workdir).rstrip('/')}/.lease"
        self._refresh_s, self._stale_s, self._settle_s = refresh_s, stale_s, settle_s
        self._token, self._who, self._over = uuid.uuid4().hex, _who(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self):
        self._wait_until_free()
        begun = time.monotonic()
        self._patiently(self._write)
        for _ in range(2):
            time.sleep(max(self._settle_s, 2 * (time.monotonic() - begun)))  # another's write may be as slow as ours
            begun = time.monotonic()
            if other := self._patiently(self._renew):
                raise _taken(self._workdir, other["who"])
        self._thread.start()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(self._refresh_s)
        with contextlib.suppress(tf.errors.OpError):  # then, and while a write is still under way, it is left to age
            if not self._thread.is_alive() and (self._read() or {}).get("token") == self._token:
                tf.io.gfile.remove(self._path)

    def _wait_until_free(self):
        """Returns when no live run holds the lease. Raises `UserError` as soon as one is seen to."""
        found = self._patiently(self._read)
        if found is None or _gone(found.get("process")):
            return
        age_s = time.time() - found.get("time", 0)
        wait_s = min(max(self._stale_s - age_s, 2 * self._refresh_s), self._stale_s)  # its clock may differ from ours
        print(
            f"{self._workdir} is held by another run ({found.get('who') or _UNKNOWN}): waiting to see whether "
            f"that is alive, {wait_s:.0f} s at most (Ctrl-C ends this)",
            flush=True,
        )
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            time.sleep(self._refresh_s / 5)
            now = self._patiently(self._read)
            if now is None:
                return
            if now != found:
                raise _taken(self._workdir, now.get("who") or found.get("who"))

    def _keep(self):
        while not self._over.wait(self._refresh_s):
            with contextlib.suppress(tf.errors.OpError):  # the next one may succeed
                if (other := self._renew()) and not self._over.is_set():
                    cluster.end(
                        f"{self._workdir} is now held by another run ({other['who']}): this one was silent too long, "
                        "or both came at once. It ends without saving, for two would mix their checkpoints. To go on "
                        "here, stop the other and run the same command again."
                    )

    def _renew(self):
        """Writes the lease anew; where it has become another's, returns that instead."""
        found = self._read()
        return found if found and found["token"] != self._token else self._write()

    def _write(self):
        lease = {"token": self._token, "time": time.time(), "who": self._who, "process": _process(os.getpid())}
        with tf.io.gfile.GFile(self._path, "w") as file:
            file.write(json.dumps(lease))

    def _read(self):
        """The lease, None where there is none, or {} where it is half written, as it can be on a mount."""
        try:
            with tf.io.gfile.GFile(self._path) as file:
                found = json.loads(file.read(10_000))  # a number: else it asks for the size, which is cached for gs://
        except tf.errors.NotFoundError:
            return None
        except ValueError:
            return {}
        return found if isinstance(found, dict) and {"token", "time", "who"} <= set(found) else {}

    def _patiently(self, action):
        """What `action` returns, tried again where the storage fails. Raises `UserError` where it goes on failing."""
        for pauses in (0.5, 1, 2, None):
            try:
                return action()
            except tf.errors.OpError as error:
                if pauses is None:
                    reason = (str(error.message).splitlines() or [type(error).__name__])[0]
                    raise UserError(
                        f"{self._path}, which says whether a run is in {self._workdir}, cannot be read or written: "
                        f"{reason}. See that the storage answers and lets you write, then start again."
                    ) from None
                time.sleep(pauses * self._settle_s)


def _process(pid):
    """[host, its boot, process namespace, `pid`, start or None where it has ended]; None where that is not known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = [socket.gethostname(), boot, os.readlink("/proc/self/ns/pid"), pid]
        os.kill(pid, 0)
        state, *fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return [*place, None]
    except OSError:  # another user's, or a system without /proc
        return None
    return [*place, None if state in "ZX" else fields[18]]  # proc(5): 3 is the state, 22 the start in ticks since boot


def _gone(process):
    """Whether a process, as `_process` described it, was here and has ended; another may have its number by now."""
    now = process and _process(process[3])
    return bool(now) and now[:4] == process[:4] and now[4] != process[4]


_UNKNOWN = "of an unknown process"


def _who():
    return f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"


def _taken(workdir, who):
    return UserError(
        f"{workdir} is in use by another run ({who or _UNKNOWN}). Stop that one first, or choose another --workdir."
    )
