"""What the launchers share: running or printing a command, and what is done on a machine once it can be reached.

On a machine all is in ~/mp3net: source/, venv/ and jobs/NAME/log, besides what relative --data and --workdir name.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a bare checkout can launch: nothing need be installed

from mp3net.errors import UsageError, UserError  # noqa: E402

ARCHIVE = "mp3net-source.tar.gz"
_JOB = "cd mp3net && venv/bin/python source/scripts/job.py"
# What is found in the last words of a command that failed, and what to do about it; the first that fits is told.
_ADVICE = (
    (r"active account|gcloud auth login|[Rr]eauth|invalid_grant", "Log in: gcloud auth login."),
    (r"core/project", "Name the project: --project, or gcloud config set project NAME."),
    (
        r"SERVICE_DISABLED|has not been used in project|not enabled",
        "Enable the APIs once: gcloud services enable tpu.googleapis.com compute.googleapis.com.",
    ),
    (r"ssh-add|SSH agent", "Slices need the key in the agent: ssh-add ~/.ssh/google_compute_engine."),
    (
        r"Permission denied \(|Host key verification|Connection (refused|timed out|closed)|Could not resolve hostname",
        "Check that ssh reaches the machine by hand, and that it is on.",
    ),
    (r"PERMISSION_DENIED|[Pp]ermission .*denied|forbidden", "Your account lacks a role: roles/tpu.admin for TPUs."),
    (r"[Qq]uota", "Ask for more quota in the Cloud console, or take another --zone or a smaller machine."),
    (
        r"RESOURCE_EXHAUSTED|no more capacity|[Ss]tockout|POOL_EXHAUSTED|enough resources",
        "The zone has none free now: try again later, or another --zone, or --spot.",
    ),
    (r"ALREADY_EXISTS|already exists", "Go on with it, or choose another --name."),
    (r"NOT_FOUND|was not found", "Check --name, --zone and --project; `create` makes it."),
    (r"PREEMPTED|TERMINATED|terminal state", "It cannot be used any more: delete and create it, which `watch` does."),
    (r"a password is required", "Install python3-venv there by hand: sudo apt-get install python3-venv."),
    (r"cd: .*mp3net|venv/bin/python: No such|source/scripts", "Run `install` first."),
    (r"runs already|a training runs", "See `logs` and `status`; `stop` makes it save and leave."),
)


class CommandFailed(UserError):
    """A command that ended with another status than 0; `last` is the line that says why."""

    def __init__(self, command, status, last):
        advice = next((told for pattern, told in _ADVICE if re.search(pattern, last)), None)
        advice = advice or "Its output is above; --dry_run prints the command, to be tried by hand."
        super().__init__(f"{_called(command)} ended with status {status}: {last or 'it said nothing'}\n{advice}")
        self.status, self.last = status, last


class Commands:
    """Runs commands one after another; with `dry_run` prints each instead, so that it can be pasted."""

    def __init__(self, dry_run):
        self.dry_run = dry_run

    def say(self, words):
        """Words to the person; a comment among printed commands."""
        print(f"# {words}" if self.dry_run else words, flush=True)

    def run(self, command):
        """Runs `command`, its output shown as it comes. Raises `CommandFailed`."""
        self._do(command, capture=False)

    def output(self, command):
        """What `command` prints; nothing, where it is printed itself. Raises `CommandFailed`."""
        return self._do(command, capture=True)

    def _do(self, command, capture):
        if self.dry_run:
            print(shlex.join(command), flush=True)
            return ""
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE if capture else None, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise UserError(f"{command[0]} is not installed. {_INSTALL.get(command[0], 'Install it first.')}") from None
        words = bytearray()
        copier = threading.Thread(target=_copy, args=(process.stderr, words))
        copier.start()
        printed = process.stdout.read().decode(errors="replace") if capture else ""
        status = process.wait()
        copier.join()
        if status:
            raise CommandFailed(command, status, last_words(words.decode(errors="replace")))
        return printed


_INSTALL = {
    "gcloud": "It comes from https://cloud.google.com/sdk/docs/install; --dry_run does without.",
    "git": "Install it, or give --repository URL.",
}


def _copy(stream, words):
    """Shows what a command says on standard error, and keeps its end."""
    while block := os.read(stream.fileno(), 4096):
        sys.stderr.buffer.write(block)
        sys.stderr.flush()
        words += block
        del words[:-20_000]


def last_words(text):
    """The line of an output that says what went wrong: gcloud's last ERROR, else the last line of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|error): ", line)]
    return re.sub(r"^error: ", "", (errors or lines or [""])[-1])


def _called(command):
    """The words of a command that name it: gcloud compute tpus tpu-vm create NAME."""
    words = [word for word in command[:6] if re.fullmatch(r"[\w.@:-]+", word) and not word.startswith("-")]
    return " ".join(words if command[0] == "gcloud" else words[:1])


def checked_name(text):
    """A name as Google Cloud takes it. Raises `UsageError`."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise UsageError(f"--name {text}: it begins with a small letter and has only those, digits and hyphens.")
    return text


def confirm(name, words, options):
    """Asks for the name once more before something is lost. Raises `UserError` where it differs."""
    if options.yes or options.dry_run:
        return
    try:
        typed = input(f"{words} Type {name} to go on: ")
    except EOFError:
        typed = ""
    if typed.strip() != name:
        raise UserError(f"{name} is not deleted: the name was not typed. --yes does not ask.")


def split_more(arguments):
    """(our arguments, those behind --)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:split], arguments[split + 1 :]


def ssh(host, command, port=None, *options):
    """The command that runs a shell command on a host; it notices when the connection has died."""
    return ["ssh", *(["-p", str(port)] if port else []), "-o", "ServerAliveInterval=30", *options, host, command]


# ---- flags


def add_dry_run(parser):
    parser.add_argument("--dry_run", action="store_true", help="print the commands, ready to paste, and run none")


def add_install_flags(parser):
    parser.add_argument(
        "--repository",
        default=str(ROOT),
        metavar="URL_OR_DIR",
        help="cloned on the machine, or a checkout whose last commit is sent; default: the one of this script",
    )
    parser.add_argument("--python", default="python3", help="the machine's Python, 3.10 or newer")


def add_training_flags(parser):
    parser.add_argument(
        "--gin", action="append", default=[], metavar="FILE", help="95s, 5s, lab, demo, or a file there"
    )
    parser.add_argument("--gin_param", action="append", default=[], metavar="'NAME = VALUE'", help="over the file's")
    parser.add_argument("--data", required=True, metavar="DIR", help="gs://..., or a folder there, below ~/mp3net")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="as --data")
    parser.epilog = "What follows -- goes to mp3net.train as it is."


def add_log_flags(parser):
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--follow", action="store_true", help="until the training ends; Ctrl-C leaves it alone")
    parser.add_argument("--job", default="train", help="train, or server on a slice of a TPU pod")


def add_fetch_flags(parser):
    parser.add_argument("--workdir", required=True, metavar="DIR", help="as it was given to train")
    parser.add_argument("--out", default=".", metavar="DIR", help="the local folder that it is copied into")


# ---- on a machine


def train_command(device, options, more):
    """The command that trains, as the machine runs it in ~/mp3net."""
    line = ["venv/bin/python", "-m", "mp3net.train", f"--device={device}"]
    line += [word for name in options.gin for word in ("--gin", name)]
    line += [word for value in options.gin_param for word in ("--gin_param", value)]
    return [*line, "--data", options.data, "--workdir", options.workdir, *more]


def start_job(command, name="train", replace=False):
    """The shell command that starts `command` apart from the session; refused where one of `name` runs."""
    flags = ["start", "--name", name, *(["--replace"] if replace else [])]
    return f"{_JOB} {shlex.join([*flags, '--', *command])}"


def stop_job(name="train"):
    return f"{_JOB} stop --name {shlex.quote(name)}"


def job_log(options):
    follow = " --follow" if options.follow else ""
    return f"{_JOB} log --name {shlex.quote(options.job)} --lines {options.lines}{follow}"


def job_status(name="train"):
    """The shell command that prints the state of a job, also where nothing is installed yet."""
    return f'if [ -e mp3net/jobs/{name} ]; then {_JOB} status --name {name}; else echo "{name}: none"; fi'


def parsed_status(text):
    """(state, exit status or None) from what `job_status` prints."""
    found = re.search(r": (\w+)(?: with status (\d+))?", text)
    return (found[1], found[2] and int(found[2])) if found else ("none", None)


def install(machine, commands, options, extra, check):
    """Sends or clones the source and installs it with `extra`; `check` names the devices that must then be seen."""
    source = options.repository
    if re.match(r"[a-z+]+://|[^/\s]+@\S+:", source):
        if re.match(r"https?://[^/]+@|[a-z+]+://[^/@]*:[^/@]*@", source):
            raise UsageError("--repository holds a password or token, which would be shown and kept. Leave it out.")
        unpack = f"git clone --quiet --depth 1 {shlex.quote(source)} mp3net/new"
    else:
        send_source(machine, commands, source)
        unpack = f"mkdir mp3net/new && tar -xzf {ARCHIVE} -C mp3net/new"
    script = shlex.join(["bash", "mp3net/new/scripts/install_here.sh", extra, options.python, check])
    commands.run(machine.ssh(f"mkdir -p mp3net && rm -rf mp3net/new && {unpack} && {script}"))


def send_source(machine, commands, folder):
    """Packs the last commit of a checkout and copies it to the machine's home folder."""
    folder = pathlib.Path(folder).resolve()
    if not (folder / "setup.py").exists():
        raise UsageError(f"--repository {folder}: is neither a URL nor a checkout of this project.")
    _note_uncommitted(commands, folder)
    path = folder / "build" / ARCHIVE
    commands.run(["mkdir", "-p", str(path.parent)])
    commands.run(["git", "-C", str(folder), "archive", "--format=tar.gz", f"--output={path}", "HEAD"])
    commands.run(machine.copy_to(str(path)))


def _note_uncommitted(commands, folder):
    try:
        seen = subprocess.run(["git", "-C", str(folder), "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return
    if count := len(seen.stdout.splitlines()):
        commands.say(f"Not sent: uncommitted changes, in {count} place{'s' * (count > 1)}")


def fetch(machine, commands, options):
    """Copies the working directory of a training into a local folder."""
    commands.run(["mkdir", "-p", options.out])
    if options.workdir.startswith("gs://"):
        commands.run(["gcloud", "storage", "cp", "--recursive", options.workdir.rstrip("/"), options.out])
    elif re.fullmatch(r"[\w./+-]+", options.workdir):
        commands.run(machine.copy_from(str(pathlib.PurePosixPath("mp3net", options.workdir)), options.out))
    else:  # older scp gives the name to a shell there, newer does not
        raise UsageError(f"--workdir {options.workdir}: to be copied, a name has letters, digits and . / + - _ only.")
    commands.say(f"Copied into {options.out}")
