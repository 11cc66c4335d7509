"""Trains on a Cloud TPU: creates the machine, installs, trains, watches, fetches the results and deletes it.

    tpu_vm.py create  --name NAME --zone ZONE --type v3-8 --spot
    tpu_vm.py install --name NAME --zone ZONE --type v3-8
    tpu_vm.py train   --name NAME --zone ZONE --type v3-8 --gin 95s --data gs://... --workdir gs://...
    tpu_vm.py status|logs|stop|fetch|delete --name NAME --zone ZONE ...
    tpu_vm.py watch   (the flags of create and train)   trains to the end, through preemptions

It calls gcloud, which must be installed and logged in; --dry_run prints each command instead, and needs neither.
A training goes on when this ends. The same command resumes it. The machine costs until it is deleted.
"""

import argparse
import re
import time

import launch_common as launch  # first: it makes a bare checkout's mp3net importable

from mp3net import cli
from mp3net.errors import UsageError, UserError

# The software of a new machine, by generation: plain Ubuntu, since TensorFlow comes with the project.
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # else the machine could read gs:// and not write it
_GONE = ("PREEMPTED", "TERMINATED")


class TpuVm:
    """A TPU VM: the gcloud commands that reach it."""

    def __init__(self, name, zone, project=None):
        self.name = name
        self._where = [f"--zone={zone}", *([f"--project={project}"] if project else [])]

    def gcloud(self, verb, *flags):
        """A command on the machine itself."""
        return ["gcloud", "compute", "tpus", "tpu-vm", verb, self.name, *self._where, *flags]

    def ssh(self, command, worker="all"):
        """Runs a shell command on its workers; a machine that is no slice has one."""
        return self.gcloud("ssh", f"--worker={worker}", f"--command={command}")

    def copy_to(self, path):
        """Copies a file to the home folder of every worker."""
        return self._scp(path, f"{self.name}:{launch.ARCHIVE}", "--worker=all")

    def copy_from(self, path, folder):
        """Copies a folder of worker 0, which trains, into a local one."""
        return self._scp(f"{self.name}:{path}", folder, "--worker=0", "--recurse")

    def _scp(self, source, target, *flags):
        return ["gcloud", "compute", "tpus", "tpu-vm", "scp", source, target, *self._where, *flags]


def is_slice(kind):
    """Whether a TPU of this type has several hosts: each has at most 8 cores, or 8 chips of v5e and v6e."""
    return int(kind.rpartition("-")[2]) > 8


def checked_type(text):
    """A TPU type as Google Cloud takes it. Raises `UsageError`."""
    if re.fullmatch(r"v5e-\d+", text):
        raise UsageError(f"--type {text}: Google Cloud calls it {text.replace('v5e', 'v5litepod')}.")
    if not re.fullmatch(r"v\d+\w*-\d+", text):
        raise UsageError(f"--type {text}: a generation and a size, as v2-8, v3-8, v4-8, v5litepod-8, v6e-8 or v3-32.")
    return text


def create(vm, commands, options):
    generation = options.type.partition("-")[0]
    version = options.version or RUNTIMES.get(generation)
    if version is None:
        raise UsageError(
            f"--type {options.type}: give --version, one of: gcloud compute tpus tpu-vm versions list --zone=ZONE."
        )
    price = [flag for flag in ("spot", "preemptible") if getattr(options, flag)]
    flags = [f"--accelerator-type={options.type}", f"--version={version}", f"--scopes={_SCOPE}"]
    commands.run(vm.gcloud("create", *flags, *(f"--{flag}" for flag in price)))


def install_on(vm, commands, options):
    if is_slice(options.type):  # a TPU of several hosts is found by name, and answers only while its servers run
        launch.install(vm, commands, options, "tpu-node", "none")
    else:
        launch.install(vm, commands, options, "tpu", "tpu")


def train(vm, commands, options):
    """Starts the training; on a slice, TensorFlow's server on every host and the training on the first.

    TensorFlow drives all of a slice from one process: one on each host would be trainings apart, in one workdir.
    """
    if not options.workdir.startswith("gs://"):
        commands.say(f"{options.workdir} is on the machine and goes with it; a gs:// --workdir stays")
    if not is_slice(options.type):
        commands.run(vm.ssh(launch.start_job(launch.train_command("tpu", options, options.more))))
        return
    if options.type.startswith("v6e"):
        raise UserError(
            f"--type {options.type}: TensorFlow's TPU server knows no slices of v6e: take v6e-8 or v5litepod-16."
        )
    commands.run(vm.ssh(launch.start_job(["venv/bin/start_grpc_tpu_worker"], name="server", replace=True)))
    command = ["env", "TPU_LOAD_LIBRARY=0", *launch.train_command(f"tpu:{options.name}", options, options.more)]
    commands.run(vm.ssh(launch.start_job(command), worker=0))


def state(vm, commands):
    """READY, PREEMPTED or another word of Google Cloud's; ABSENT where there is no such machine."""
    try:
        return commands.output(vm.gcloud("describe", "--format=value(state)")).strip()
    except launch.CommandFailed as error:
        if "NOT_FOUND" in error.last:
            return "ABSENT"
        raise


def status(vm, commands, options):
    seen = state(vm, commands)
    if not commands.dry_run:
        print(f"{options.name}: {seen}")
    if commands.dry_run or seen == "READY":
        commands.run(vm.ssh(launch.job_status(), worker=0))


def delete(vm, commands, options):
    launch.confirm(options.name, f"This deletes the TPU {options.name} and what is on its disk.", options)
    commands.run(vm.gcloud("delete", "--quiet"))


def watch(vm, commands, options):
    """Keeps a training going until it ends, making a machine that was taken away anew."""
    if commands.dry_run:
        return _show_watch(vm, commands, options)
    failures = 0
    while True:
        try:
            if _look(vm, commands, options):
                return None
            failures = 0
        except launch.CommandFailed as error:  # no capacity just now, or no network: it may pass
            failures += 1
            if failures == options.tries:
                raise
            print(f"{error}\nAgain in {options.every_s:g} s.", flush=True)
        time.sleep(options.every_s)


def _look(vm, commands, options):
    """Does what the machine needs now; returns whether the training is over."""
    seen = state(vm, commands)
    if seen == "ABSENT" or seen in _GONE:
        print(f"{options.name}: {seen}: making it anew", flush=True)
        if seen in _GONE:
            commands.run(vm.gcloud("delete", "--quiet"))
        create(vm, commands, options)
        install_on(vm, commands, options)
        train(vm, commands, options)
    elif seen == "READY":
        word, code = launch.parsed_status(commands.output(vm.ssh(launch.job_status(), worker=0)))
        print(
            f"{options.name}: {seen}; training {word}{f' with status {code}' if code is not None else ''}", flush=True
        )
        if word == "stopped" or (word == "ended" and code == 0):
            return True
        if word == "ended" and code < 128:  # not a signal: it would fail again
            raise UserError(f"The training failed with status {code}: see `logs`. The machine is still there.")
        if word == "none":
            install_on(vm, commands, options)
        if word != "running":
            train(vm, commands, options)
    else:
        print(f"{options.name}: {seen}", flush=True)
    return False


def _show_watch(vm, commands, options):
    commands.say(f"every {options.every_s:g} s, until the training has ended:")
    state(vm, commands)
    commands.say("when it is READY:")
    commands.run(vm.ssh(launch.job_status(), worker=0))
    commands.say("when it was taken away:")
    commands.run(vm.gcloud("delete", "--quiet"))
    create(vm, commands, options)
    install_on(vm, commands, options)
    commands.say("then, and when a signal has ended the training:")
    train(vm, commands, options)


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {}
    for verb in ("create", "install", "train", "watch", "status", "logs", "stop", "fetch", "delete"):
        one = made[verb] = verbs.add_parser(verb)
        one.add_argument("--name", required=True)
        one.add_argument("--zone", required=True, help="see https://cloud.google.com/tpu/docs/regions-zones")
        one.add_argument("--project", help="default: the one that gcloud is set to")
        launch.add_dry_run(one)
        if verb in ("create", "install", "train", "watch"):
            one.add_argument("--type", required=True, help="v2-8, v3-8, v4-8, v5litepod-8, v6e-8, or a slice, as v3-32")
        if verb in ("create", "watch"):
            one.add_argument("--version", help="the machine's software; default: by --type")
            price = one.add_mutually_exclusive_group()
            price.add_argument("--spot", action="store_true", help="cheaper, and may be taken away at any time")
            price.add_argument("--preemptible", action="store_true", help="as --spot, for at most 24 hours")
        if verb in ("install", "watch"):
            launch.add_install_flags(one)
        if verb in ("train", "watch"):
            launch.add_training_flags(one)
    made["watch"].add_argument("--every_s", type=float, default=60, help="how often to look")
    made["watch"].add_argument("--tries", type=int, default=60, help="how many failures in a row to bear")
    launch.add_log_flags(made["logs"])
    made["logs"].add_argument("--worker", default="0", help="which host of a slice")
    launch.add_fetch_flags(made["fetch"])
    made["delete"].add_argument("--yes", action="store_true", help="do not ask")
    return parser


def main(arguments=None):
    arguments, more = launch.split_more(arguments)
    options = flags().parse_args(arguments)
    options.more = more
    vm = TpuVm(launch.checked_name(options.name), options.zone, options.project)
    commands = launch.Commands(options.dry_run)
    if "type" in options:
        checked_type(options.type)
    follow = f"--name {options.name} --zone {options.zone}"
    if options.verb == "create":
        create(vm, commands, options)
        commands.say(f"Next: install. It costs until: tpu_vm.py delete {follow}")
    elif options.verb == "install":
        install_on(vm, commands, options)
    elif options.verb == "train":
        train(vm, commands, options)
        commands.say(f"Next: tpu_vm.py logs --follow {follow}")
    elif options.verb == "watch":
        watch(vm, commands, options)
    elif options.verb == "status":
        status(vm, commands, options)
    elif options.verb == "logs":
        commands.run(vm.ssh(launch.job_log(options), options.worker))
    elif options.verb == "stop":
        commands.run(vm.ssh(launch.stop_job(), worker=0))
    elif options.verb == "fetch":
        launch.fetch(vm, commands, options)
    elif options.verb == "delete":
        delete(vm, commands, options)


if __name__ == "__main__":
    cli.run(main)
