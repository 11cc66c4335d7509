"""Runs one training on several machines, under TensorFlow's MultiWorkerMirroredStrategy.

    workers.py --hosts user@a,user@b -- python -m mp3net.train --gin 5s --data gs://... --workdir gs://...
    workers.py --local 2 -- python -m mp3net.train --gin demo --data corpus --workdir run

It starts the command on every host, in the ~/mp3net that `gpu_machine.py install` makes, each with its TF_CONFIG; the
first is the chief. It shows their output with the worker's index in front, and stays: when one fails, when it is asked
to stop or when its connections break, all are told to save and leave. The same command resumes.

ssh must reach the hosts without a password, and the hosts each other on --port. --local N tries it on this machine.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import launch_common as launch  # first: it makes a bare checkout's mp3net importable

from mp3net import cli
from mp3net.errors import UsageError

_JOB = str(launch.ROOT / "scripts" / "job.py")
_SCREEN = threading.Lock()


def tf_config(hosts, index, port=None):
    """The TF_CONFIG of worker `index`: JSON. `hosts` are [user@]host[:port], where `port` holds for those without."""
    addresses = [host.rpartition("@")[2] for host in hosts]
    addresses = [address if ":" in address else f"{address}:{port}" for address in addresses]
    if len(set(addresses)) < len(addresses):
        raise UsageError(f"--hosts {','.join(hosts)}: the same address twice; each worker needs its own.")
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


class Worker:
    """One of the processes that train together."""

    def __init__(self, index, name, command, environment):
        self.index, self.name, self.last = index, name, ""
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches this program alone, which then stops every worker once
        )
        self._reader = threading.Thread(target=self._show)
        self._reader.start()

    def _show(self):
        for line in self._process.stdout:  # text mode ends a line at \r too, as a progress bar does
            self.last = line.rstrip() or self.last
            with _SCREEN, contextlib.suppress(BrokenPipeError):  # unread, it still has to be taken from the worker
                print(f"[{self.index}] {line.rstrip()}", flush=True)

    def status(self):
        """Its exit status, or None while it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def stop(self):
        """Asks it to save and leave: job.py does so where its standard input ends."""
        self._process.stdin.close()

    def wait(self):
        """Its exit status, once all that it said is shown."""
        self._process.wait()
        self._reader.join()
        return self.status()


def local_commands(options, command):
    """(name, command, TF_CONFIG) of each of N workers on this machine."""
    hosts = [f"localhost:{options.port + i}" for i in range(options.local)]
    attach = [sys.executable, _JOB, "attach", f"--grace_s={options.grace_s:g}", "--"]
    return [(hosts[i], [*attach, *command], tf_config(hosts, i)) for i in range(options.local)]


def remote_commands(options, command):
    """(name, ssh command, TF_CONFIG) of each host."""
    hosts = options.hosts.split(",")
    addresses = options.addresses.split(",") if options.addresses else hosts
    if len(addresses) != len(hosts):
        raise UsageError(f"--addresses: {len(addresses)} for {len(hosts)} hosts.")
    if bad := [host for host in hosts if not re.fullmatch(r"[\w.@\[\]-]+", host) or host.startswith("-")]:
        raise UsageError(f"--hosts: {bad[0]!r} is no host.")
    made = []
    for i, host in enumerate(hosts):
        config = tf_config(addresses, i, options.port)
        attach = ["python", "source/scripts/job.py", "attach", f"--grace_s={options.grace_s:g}", "--", *command]
        line = f'cd mp3net && PATH="$PWD/venv/bin:$PATH" TF_CONFIG={shlex.quote(config)} {shlex.join(attach)}'
        made.append((host, launch.ssh(host, line, None, "-o", "BatchMode=yes"), config))
    return made


def check_ports(options):
    """Raises `UsageError` where a port of a local worker is taken."""
    for port in range(options.port, options.port + options.local):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("localhost", port))
            except OSError as error:
                raise UsageError(
                    f"--port {options.port}: {port} is not free ({error.strerror}); choose another."
                ) from None


def supervise(workers, asked):
    """Waits until all have ended; stops all when one fails or a signal is in `asked`. Returns the exit status."""
    failed = None
    stopped = False
    while any(worker.status() is None for worker in workers):
        failed = failed or next((worker for worker in workers if worker.status()), None)
        if (failed or asked) and not stopped:
            stopped = True
            why = f"worker {failed.index} ended with status {failed.status()}" if failed else "asked to stop"
            print(f"{why}: stopping all", flush=True)
            for worker in workers:
                worker.stop()
        time.sleep(0.1)
    statuses = [worker.wait() for worker in workers]
    if asked:
        return 128 + asked[0]
    failed = failed or next((worker for worker in workers if worker.status()), None)
    if failed:
        why = f"signal {failed.status() - 128}" if failed.status() > 128 else launch.last_words(failed.last)
        print(f"error: worker {failed.index}, {failed.name}, failed first: {why}", file=sys.stderr)
        return failed.status()
    return max(statuses)


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--hosts", metavar="USER@A,USER@B", help="the machines, as ssh takes them; first the chief")
    where.add_argument("--local", type=int, metavar="N", help="N workers on this machine, on ports from --port on")
    parser.add_argument("--addresses", metavar="A,B", help="how the hosts reach each other; default: as in --hosts")
    parser.add_argument("--port", type=int, default=12345)
    parser.add_argument("--grace_s", type=float, default=120, help="how long a worker may take to save; default: 120")
    launch.add_dry_run(parser)
    return parser


def main(arguments=None):
    arguments, command = launch.split_more(arguments)
    options = flags().parse_args(arguments)
    if not command:
        raise UsageError("the command is missing: workers.py ... -- python -m mp3net.train ...")
    if options.local is not None and options.local < 1:
        raise UsageError(f"--local {options.local}: at least 1.")
    made = local_commands(options, command) if options.local else remote_commands(options, command)
    if options.dry_run:
        for _, line, config in made:
            prefix = f"TF_CONFIG={shlex.quote(config)} " if options.local else ""
            print(f"{prefix}{shlex.join(line)}")
        return 0
    if options.local:
        check_ports(options)
    asked = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    workers = []
    for i, (name, line, config) in enumerate(made):
        workers.append(Worker(i, name, line, {"TF_CONFIG": config} if options.local else {}))
    return supervise(workers, asked)


if __name__ == "__main__":
    cli.run(main)
