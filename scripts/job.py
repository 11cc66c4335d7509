"""Runs a command apart from the session that starts it, and keeps its log and exit status. For the launchers.

    job.py start --name train -- COMMAND     returns; one job of a name at a time
    job.py status|log|stop --name train
    job.py attach -- COMMAND                 stays; stops COMMAND when standard input ends, as it does with its caller

A job lives in jobs/NAME: lock (held as long as it runs), pid, log, status, and asked, once it was asked to stop.
Standard library only: it runs on machines where this project may not be installed.
"""

import argparse
import contextlib
import datetime
import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback


class Job:
    """The job of one name, in the folder `jobs/NAME` of the working directory."""

    def __init__(self, name):
        self.name = name
        self.folder = pathlib.Path("jobs") / name

    def path(self, name):
        """Where one of its files is."""
        return self.folder / name

    def lock(self, tries=10):
        """The lock of the job, open and held, or None where the job runs."""
        file = open(self.path("lock"), "ab")  # noqa: SIM115 it outlives this function
        for i in range(tries):  # a `status` at the same moment holds it for an instant
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                if i + 1 < tries:
                    time.sleep(0.05)
        file.close()
        return None

    def runs(self):
        """Whether its command, or the process that waits for it, is alive."""
        if not self.path("lock").exists():
            return False
        lock = self.lock(tries=3)
        if lock:
            lock.close()
        return lock is None

    def read(self, name):
        """What one of its small files says, or None."""
        try:
            return self.path(name).read_text().strip()
        except FileNotFoundError:
            return None

    def write(self, name, text):
        """Replaces one of its small files, whole or not at all."""
        partial = self.path(name + ".partial")
        partial.write_text(f"{text}\n")
        partial.replace(self.path(name))

    def state(self):
        """One of: running; ended or stopped (as asked) with a status; lost (killed, or the machine fell); none."""
        if self.runs():
            return f"running, process {self.read('pid')}"
        status = self.read("status")
        if status is None:
            return "lost" if self.read("pid") else "none"
        return f"{'stopped' if self.path('asked').exists() else 'ended'} with status {status}"


def start(job, command, replace, settle_s):
    """Starts `command` as `job`; returns the exit status of this program.

    A command that ends within `settle_s` seconds is waited for: most mistakes show at once.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if replace and job.runs():
        stop(job, grace_s=60)
    lock = job.lock()
    if lock is None:
        return _refuse(f"{job.name} runs already, process {job.read('pid')}: see its log, or stop it first")
    for name in ("pid", "status", "asked"):
        job.path(name).unlink(missing_ok=True)
    with open(job.path("log"), "ab", buffering=0) as log:
        begun = log.tell()
        log.write(f"--- {datetime.datetime.now():%Y-%m-%d %H:%M:%S} {shlex.join(command)}\n".encode())
        if os.fork() == 0:
            try:
                _keep(job, command, log, lock)
            except BaseException:
                traceback.print_exc()  # into the log
            os._exit(0)
    lock.close()
    until = time.monotonic() + settle_s
    while job.read("status") is None and (time.monotonic() < until or job.read("pid") is None):
        time.sleep(0.05)
    status = job.read("status")
    print(f"{job.name}: {job.state()}; log: {job.path('log').resolve()}")
    if status in (None, "0"):
        return 0
    _tail(job, 10, sys.stderr, begun)
    return _refuse(f"{job.name} ended at once, with status {status}", int(status))


def _keep(job, command, log, lock):
    """In a process of its own: runs `command` to its end and notes its exit status."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a machine that shuts down tells all: the command saves, this waits
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # ssh leaves only when none holds its pipes
    os.dup2(log.fileno(), 2)
    try:
        process = _popen(command, stdout=log, stderr=log, pass_fds=[lock.fileno()])
    except OSError as error:
        log.write(f"error: {command[0]}: {error.strerror}\n".encode())
        job.write("status", 127)
        return
    job.write("pid", process.pid)
    job.write("status", _exit_status(process.wait()))


def _popen(command, **options):
    """The command in a process group of its own, so that it can be told to stop whole, and once."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)


def _exit_status(code):
    return code if code >= 0 else 128 - code


def stop(job, grace_s):
    """Asks the job to save and leave, and waits for it; returns the exit status of this program."""
    if not job.runs():
        print(f"{job.name}: {job.state()}; there is nothing to stop")
        return 0
    while job.runs() and job.read("pid") is None:  # it is just starting
        time.sleep(0.05)
    job.write("asked", "")
    _signal(int(job.read("pid")), signal.SIGTERM)
    until = time.monotonic() + grace_s
    while job.runs():
        if time.monotonic() > until:
            return _refuse(f"{job.name} still runs after {grace_s:g} s: see its log; stop it again to end it at once")
        time.sleep(0.05)
    print(f"{job.name}: {job.state()}")
    return 0


def _signal(group, number):
    with contextlib.suppress(ProcessLookupError):  # it has just left
        os.killpg(group, number)


def log(job, lines, follow):
    """Prints the end of the log, and with `follow` what comes until the job ends."""
    if not job.path("log").exists():
        return _refuse(f"{job.name} has no log here: it was never started")
    position = _tail(job, lines, sys.stdout)
    while follow:
        running = job.runs()  # before the read, so that the last words of a job that has just ended are printed
        with open(job.path("log"), "rb") as file:
            file.seek(position)
            text = file.read()
        position += len(text)
        _print(text, sys.stdout)
        if not running:
            print(f"{job.name}: {job.state()}")
            break
        time.sleep(0.5)
    return 0


def _tail(job, lines, stream, begin=0):
    """Prints the last lines of the log, from byte `begin` on; returns the position behind them."""
    with open(job.path("log"), "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(begin, end - 1000 * lines))  # a line of a log has seldom more
        text = file.read(end - file.tell())
    _print(b"".join(text.splitlines(keepends=True)[-lines:]), stream)
    return end


def _print(text, stream):
    stream.buffer.write(text)
    stream.flush()


def attach(command, grace_s):
    """Runs `command` with this program's output; ends it when standard input does, or on a signal.

    Returns its exit status. It has `grace_s` seconds to save.
    """
    try:
        process = _popen(command)
    except OSError as error:
        return _refuse(f"{command[0]}: {error.strerror}", 127)
    asked = threading.Event()

    def leave(*_):
        if not asked.is_set():  # once: a second signal would end a training that is saving
            asked.set()
            _signal(process.pid, signal.SIGTERM)
            killer = threading.Timer(grace_s, _signal, (process.pid, signal.SIGKILL))
            killer.daemon = True
            killer.start()

    def listen():
        while os.read(0, 4096):
            pass
        leave()

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
    threading.Thread(target=listen, daemon=True).start()
    return _exit_status(process.wait())


def _refuse(words, status=1):
    print(f"error: {words}", file=sys.stderr)
    return status


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("start", "status", "log", "stop", "attach"):
        one = verbs.add_parser(verb)
        if verb != "attach":
            one.add_argument("--name", default="train")
        if verb in ("stop", "attach"):
            one.add_argument("--grace_s", type=float, default=120, help="how long it may take to save")
    verbs.choices["start"].add_argument("--replace", action="store_true", help="stop the one that runs")
    verbs.choices["start"].add_argument("--settle_s", type=float, default=3, help="how long to wait for an early end")
    verbs.choices["log"].add_argument("--lines", type=int, default=30)
    verbs.choices["log"].add_argument("--follow", action="store_true")
    return parser


def main(arguments=None):
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)  # argparse would eat a second one
    asked, command = flags().parse_args(arguments[:split]), arguments[split + 1 :]
    if bool(command) != (asked.verb in ("start", "attach")):
        return _refuse(f"{asked.verb}: a command after -- is for start and attach, which need one", 2)
    if asked.verb == "attach":
        return attach(command, asked.grace_s)
    job = Job(asked.name)
    if asked.verb == "start":
        return start(job, command, asked.replace, asked.settle_s)
    if asked.verb == "stop":
        return stop(job, asked.grace_s)
    if asked.verb == "log":
        return log(job, asked.lines, asked.follow)
    print(f"{job.name}: {job.state()}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BrokenPipeError, KeyboardInterrupt):  # whoever followed the log has left
        os._exit(130)
