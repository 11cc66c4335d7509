"""Trains on one machine with a GPU that ssh reaches: installs, trains, shows the log and fetches the results.

    gpu_machine.py install --host user@machine
    gpu_machine.py train   --host user@machine --gin lab --data recordings --workdir runs/lab
    gpu_machine.py status|logs|stop|fetch --host user@machine ...

Any Linux machine will do that has Python 3.10 or newer and NVIDIA's driver. Where there is none yet, Google Cloud has:

    gpu_machine.py create|delete --name NAME --zone ZONE

--dry_run prints each command instead. A training goes on when this ends. The same command resumes it.
"""

import argparse

import launch_common as launch  # first: it makes a bare checkout's mp3net importable

from mp3net import cli
from mp3net.errors import UsageError

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # else the machine could read gs:// and not write it


class Host:
    """A machine that ssh reaches."""

    def __init__(self, host, port=None):
        if host.startswith("-"):
            raise UsageError(f"--host {host}: is no host.")
        self.host, self._port = host, port

    def ssh(self, command):
        """Runs a shell command on it."""
        return launch.ssh(self.host, command, self._port)

    def copy_to(self, path):
        """Copies a file to its home folder."""
        return self._scp(path, f"{self.host}:{launch.ARCHIVE}")

    def copy_from(self, path, folder):
        """Copies one of its folders into a local one."""
        return self._scp("-r", f"{self.host}:{path}", folder)

    def _scp(self, *words):
        return ["scp", *(["-P", str(self._port)] if self._port else []), *words]


def gcloud(verb, options, *flags):
    where = [f"--zone={options.zone}", *([f"--project={options.project}"] if options.project else [])]
    return ["gcloud", "compute", "instances", verb, options.name, *where, *flags]


def create(commands, options):
    flags = [
        f"--machine-type={options.machine_type}",
        f"--accelerator={options.accelerator}",
        f"--image-family={options.image_family}",
        "--image-project=deeplearning-platform-release",
        "--metadata=install-nvidia-driver=True",
        f"--boot-disk-size={options.disk_gb}GB",
        "--maintenance-policy=TERMINATE",  # a machine with a GPU cannot be moved while it runs
        f"--scopes={_SCOPE}",
    ]
    if options.spot:
        flags += ["--provisioning-model=SPOT", "--instance-termination-action=STOP"]
    commands.run(gcloud("create", options, *flags))
    commands.run(["gcloud", "compute", "config-ssh"])  # ssh then knows it as NAME.ZONE.PROJECT
    commands.say(f"Next: install --host {options.name}.{options.zone}.{options.project or 'PROJECT'}")


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {}
    for verb in ("create", "install", "train", "status", "logs", "stop", "fetch", "delete"):
        one = made[verb] = verbs.add_parser(verb)
        launch.add_dry_run(one)
        if verb in ("create", "delete"):
            one.add_argument("--name", required=True)
            one.add_argument("--zone", required=True)
            one.add_argument("--project", help="default: the one that gcloud is set to")
        else:
            one.add_argument("--host", required=True, metavar="USER@HOST", help="as ssh takes it")
            one.add_argument("--ssh_port", type=int, help="default: as ssh is set up")
    made["create"].add_argument("--machine_type", default="g2-standard-8")
    made["create"].add_argument("--accelerator", default="type=nvidia-l4,count=1")
    made["create"].add_argument("--image_family", default="common-cu129-ubuntu-2204-nvidia-580", help="with the driver")
    made["create"].add_argument("--disk_gb", type=int, default=200)
    made["create"].add_argument("--spot", action="store_true", help="cheaper, and may be stopped at any time")
    made["delete"].add_argument("--yes", action="store_true", help="do not ask")
    launch.add_install_flags(made["install"])
    launch.add_training_flags(made["train"])
    launch.add_log_flags(made["logs"])
    launch.add_fetch_flags(made["fetch"])
    return parser


def main(arguments=None):
    arguments, more = launch.split_more(arguments)
    options = flags().parse_args(arguments)
    commands = launch.Commands(options.dry_run)
    if options.verb in ("create", "delete"):
        launch.checked_name(options.name)
    else:
        host = Host(options.host, options.ssh_port)
    if options.verb == "create":
        create(commands, options)
    elif options.verb == "delete":
        launch.confirm(options.name, f"This deletes the machine {options.name} and its disk.", options)
        commands.run(gcloud("delete", options, "--quiet"))
    elif options.verb == "install":
        launch.install(host, commands, options, "gpu", "gpu")
    elif options.verb == "train":
        commands.run(host.ssh(launch.start_job(launch.train_command("gpu", options, more))))
        commands.say(f"Next: gpu_machine.py logs --follow --host {options.host}")
    elif options.verb == "status":
        commands.run(host.ssh(launch.job_status()))
    elif options.verb == "logs":
        commands.run(host.ssh(launch.job_log(options)))
    elif options.verb == "stop":
        commands.run(host.ssh(launch.stop_job()))
    elif options.verb == "fetch":
        launch.fetch(host, commands, options)


if __name__ == "__main__":
    cli.run(main)
