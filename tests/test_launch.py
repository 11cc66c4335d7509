"""The launchers in scripts/, with stand-ins for gcloud, ssh and scp that write down how they were called.

The stand-ins run a remote command in a real bash, in a folder that plays the machine's home.
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
BARE = [sys.executable, "-S"]  # without site-packages: the launchers need nothing installed
NASTY = ["a = 'it is'", 'b = "x $HOME `echo no` $(echo no)"', "c = @f() ; exit 9 & | > < * ? [a] \\n # !", "two\nlines"]

FAKE = """#!{python} -S
import json, os, pathlib, shutil, subprocess, sys
called = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
world, there = pathlib.Path({world!r}), pathlib.Path({there!r})
with open(world / "calls", "a") as file:
    file.write(json.dumps(called) + "\\n")
word, _, told = os.environ.get("FAIL", "").partition("|")
if word and word in called:
    print(told, file=sys.stderr)
    sys.exit(1)

def local(path):
    host, colon, rest = path.partition(":")
    return str(there / rest) if colon else path

if called[0] == "ssh":
    command = called[-1]
else:
    command = next((one.removeprefix("--command=") for one in called if one.startswith("--command=")), None)
    command = command and " ".join(command.split(" "))  # as gcloud hands it on
if command is not None:
    print("Attempting to connect", file=sys.stderr)
    variables = {{**os.environ, "HOME": str(there), "PATH": f"{{there}}/bin:/usr/bin:/bin"}}
    sys.exit(subprocess.run(["bash", "-c", command], cwd=there, env=variables).returncode)
if "scp" in called:
    words = [one for one in called[called.index("scp") + 1:] if not one.startswith("-") and not one.isdigit()]
    source, target = words[:2]
    if ":" in source and "--worker=all" in called:
        sys.exit("ERROR: cannot target multiple workers while copying files to client")
    subprocess.run(["cp", "-r", local(source), local(target)], check=True)
elif "storage" in called:
    os.makedirs(called[-1] + "/fetched")
elif "describe" in called:
    states = (world / "states").read_text().split()
    (world / "states").write_text(" ".join(states[1:] or states))
    if states[0] == "ABSENT":
        sys.exit("ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: Resource was not found")
    print(states[0])
"""

# The machine's own python3, which can only make a venv, and that venv's python.
PYTHON3 = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 64
[ ! -e "$HOME/no-venv" ] || { echo "ensurepip is not available" >&2; exit 1; }
mkdir -p "$3/bin" && cp "$HOME/bin/venv-python" "$3/bin/python" && cp "$HOME/bin/venv-python" "$3/bin/pip"
"""
VENV_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-m pip") echo "$@" >>"$HOME/pip"
    [ ! -e "$HOME/no-pip" ] || {{ echo "ERROR: no matching distribution" >&2; exit 1; }}
    printf '#!/bin/sh\\nexec sleep 30\\n' >venv/bin/start_grpc_tpu_worker; chmod +x venv/bin/start_grpc_tpu_worker ;;
  "-m mp3net.train") exec {python} -S "$HOME/train.py" "$@" ;;
  "source/scripts/job.py start") shift 2; settle=$(cat "$HOME/settle"); [ "$2" != server ] || settle=0.1
    exec {python} -S source/scripts/job.py start --settle_s "$settle" "$@" ;;
  source/scripts/devices.py*) echo "sees 8 $2" ;;
  -c*) echo "TensorFlow is installed" ;;
  *) exec {python} -S "$@" ;;
esac
"""
TRAIN = """
import json, os, pathlib, signal, sys, time
there = pathlib.Path(os.environ["HOME"])
said = {"argv": sys.argv[1:], "folder": os.getcwd(), "library": os.environ.get("TPU_LOAD_LIBRARY")}
(there / "trained.json").write_text(json.dumps(said))
how = (there / "how").read_text().split()
(there / "how").write_text(" ".join(how[1:] or how))
print("training", flush=True)
os.makedirs("runs/x", exist_ok=True)
def leave(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
while how[0] == "run":
    time.sleep(0.05)
sys.exit(f"error: bad flag" if how[0] == "fail" else 0)
"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A small git checkout that holds the scripts as they are now."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(SCRIPTS, folder / "scripts", ignore=shutil.ignore_patterns("music", "__pycache__"))
    (folder / "setup.py").write_text("")
    (folder / ".gitignore").write_text("build/\n")
    for line in ("init -q", "add -A", "-c user.name=x -c user.email=x@y -c commit.gpgsign=false commit -q -m x"):
        subprocess.run(["git", *line.split()], cwd=folder, check=True)
    return folder


class World:
    """A machine that is a folder, and the launchers that reach it through stand-ins."""

    def __init__(self, folder, checkout):
        self.folder, self.there, self.checkout = folder, folder / "there", checkout
        fake = FAKE.format(python=sys.executable, world=str(folder), there=str(self.there))
        for name in ("gcloud", "ssh", "scp"):
            write_program(folder / "bin" / name, fake)
        write_program(self.there / "bin" / "python3", PYTHON3)
        write_program(self.there / "bin" / "venv-python", VENV_PYTHON.format(python=sys.executable))
        (self.there / "train.py").write_text(TRAIN)
        self.trains("done")
        self.states("READY")

    def trains(self, *how):
        """How the next trainings go: done, fail, or run (until it is stopped), which need not be waited for."""
        (self.there / "how").write_text(" ".join(how))
        (self.there / "settle").write_text("0.1" if how[0] == "run" else "10")

    def states(self, *states):
        """What the machine's next states are; the last stays."""
        (self.folder / "states").write_text(" ".join(states))

    def launch(self, script, *arguments, path=None, typed="", **variables):
        """Runs a launcher to its end."""
        variables = {"PATH": path or f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder), **variables}
        command = [*BARE, str(SCRIPTS / script), *arguments]
        return subprocess.run(
            command, env=variables, cwd=self.folder, input=typed, capture_output=True, text=True, timeout=60
        )

    def calls(self):
        """The commands that were run since the last call, as lists of words."""
        path = self.folder / "calls"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        path.unlink()
        return [json.loads(line) for line in lines]

    def both(self, script, *arguments):
        """Runs a launcher dry, without any program on its path but git, and then for good; returns the second.

        What the first prints must be what the second runs.
        """
        empty = self.folder / "empty"
        if not empty.exists():
            empty.mkdir()
            (empty / "git").symlink_to(shutil.which("git"))
        dry = self.launch(script, *arguments, "--dry_run", path=str(empty))
        assert dry.returncode == 0, dry.stderr
        assert self.calls() == []
        printed = [shlex.split(text) for text in whole_lines(dry.stdout)]
        done = self.launch(script, *arguments)
        assert done.returncode == 0, done.stderr
        expected = [words for words in printed if words[0] in ("gcloud", "ssh", "scp")]
        assert expected and self.calls() == expected
        return done

    def trained(self):
        """What the training was given."""
        return json.loads((self.there / "trained.json").read_text())


def whole_lines(text):
    """The commands of a dry run; a quoted one may go over several lines."""
    held = ""
    for line in text.splitlines():
        if not held and line.startswith("# "):
            continue
        held += line
        try:
            shlex.split(held)
        except ValueError:
            held += "\n"
            continue
        yield held
        held = ""


@pytest.fixture
def world(tmp_path, checkout):
    made = World(tmp_path, checkout)
    yield made
    for path in made.there.glob("mp3net/jobs/*/pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


WHERE = ["--name", "mp3", "--zone", "us-central1-b", "--project", "p"]
TRAIN_FLAGS = ["--gin", "95s", "--data", "gs://b/data", "--workdir", "gs://b/run"]


def assert_told(process, *words):
    assert process.returncode == 1, (process.returncode, process.stderr)
    assert "Traceback" not in process.stderr
    for word in words:
        assert word in process.stderr, process.stderr


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


# ---- the life of a machine


def test_tpu_life(world):
    kind, source = ["--type", "v3-8"], ["--repository", str(world.checkout)]
    world.both("tpu_vm.py", "create", *WHERE, *kind, "--spot")
    done = world.both("tpu_vm.py", "install", *WHERE, *kind, *source)
    assert "sees 8 tpu" in done.stdout
    assert "./source[tpu]" in (world.there / "pip").read_text()
    world.both("tpu_vm.py", "train", *WHERE, *kind, *TRAIN_FLAGS)
    argv = world.trained()["argv"]
    assert argv == ["-m", "mp3net.train", "--device=tpu", *TRAIN_FLAGS]
    assert world.trained()["folder"] == str(world.there / "mp3net")
    done = world.both("tpu_vm.py", "status", *WHERE)
    assert "mp3: READY" in done.stdout and "train: ended with status 0" in done.stdout
    assert "training\n" in world.both("tpu_vm.py", "logs", *WHERE, "--follow").stdout
    world.both("tpu_vm.py", "stop", *WHERE)
    world.both("tpu_vm.py", "fetch", *WHERE, "--workdir", "gs://b/run", "--out", "here")
    assert (world.folder / "here" / "fetched").is_dir()
    world.both("tpu_vm.py", "fetch", *WHERE, "--workdir", "runs/x", "--out", "here")
    assert (world.folder / "here" / "x").is_dir()
    world.both("tpu_vm.py", "delete", *WHERE, "--yes")


def test_gpu_life(world):
    host = ["--host", "me@box", "--ssh_port", "2222"]
    world.both("gpu_machine.py", "create", *WHERE, "--spot")
    done = world.both("gpu_machine.py", "install", *host, "--repository", str(world.checkout))
    assert "sees 8 gpu" in done.stdout
    world.both("gpu_machine.py", "train", *host, "--gin", "lab", "--data", "corpus", "--workdir", "runs/x")
    expected = ["--device=gpu", "--gin", "lab", "--data", "corpus", "--workdir", "runs/x"]
    assert world.trained()["argv"][2:] == expected
    assert "ended with status 0" in world.both("gpu_machine.py", "status", *host).stdout
    assert "training" in world.both("gpu_machine.py", "logs", *host).stdout
    world.both("gpu_machine.py", "fetch", *host, "--workdir", "runs/x")
    assert (world.folder / "x").is_dir()
    world.both("gpu_machine.py", "stop", *host)
    world.both("gpu_machine.py", "delete", *WHERE, "--yes")


def test_slice_is_trained_from_one_host(world):
    kind = ["--type", "v3-32"]
    world.both("tpu_vm.py", "install", *WHERE, *kind, "--repository", str(world.checkout))
    assert "./source[tpu-node]" in (world.there / "pip").read_text()
    world.launch("tpu_vm.py", "train", *WHERE, *kind, *TRAIN_FLAGS)
    server, training = world.calls()
    assert "--worker=all" in server and "start_grpc_tpu_worker" in server[-1]
    assert "--worker=0" in training
    assert world.trained()["argv"][2] == "--device=tpu:mp3" and world.trained()["library"] == "0"
    status = world.launch("tpu_vm.py", "train", *WHERE, "--type", "v6e-16", *TRAIN_FLAGS)
    assert_told(status, "no slices of v6e")
    assert world.calls() == []


@pytest.mark.parametrize(
    "kind, runtime",
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v3-8", "tpu-ubuntu2204-base"),
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-1", "v2-alpha-tpuv5-lite"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_runtime_by_type(launchers, kind, runtime, capsys):
    launchers.tpu_vm.main(["create", *WHERE, "--type", kind, "--dry_run"])
    assert f"--accelerator-type={kind} --version={runtime} " in capsys.readouterr().out
    assert not launchers.tpu_vm.is_slice(kind)
    launchers.tpu_vm.main(["create", *WHERE, "--type", kind, "--version", "mine", "--dry_run"])
    assert "--version=mine " in capsys.readouterr().out


@pytest.mark.parametrize("kind, words", [("v5e-8", "v5litepod-8"), ("v9-8", "give --version"), ("tpu", "a size")])
def test_types_that_do_not_fit(launchers, kind, words):
    with pytest.raises(launchers.UserError, match=words):
        launchers.tpu_vm.main(["create", *WHERE, "--type", kind, "--dry_run"])


# ---- what a person types arrives as it is, and nothing secret goes out


@pytest.mark.parametrize("where", ["tpu", "gpu"])
def test_parameters_arrive_intact(world, where):
    flags = [word for value in NASTY for word in ("--gin_param", value)]
    data = ["--data", "gs://b/my data", "--workdir", "it's here"]
    if where == "tpu":
        target = ["tpu_vm.py", "train", *WHERE, "--type", "v3-8"]
        world.launch("tpu_vm.py", "install", *WHERE, "--type", "v3-8", "--repository", str(world.checkout))
    else:
        target = ["gpu_machine.py", "train", "--host", "me@box"]
        world.launch("gpu_machine.py", "install", "--host", "me@box", "--repository", str(world.checkout))
    world.calls()
    dry = world.launch(*target, *flags, *data, "--dry_run", "--", "--init_from", "a -- b", "--")
    done = world.launch(*target, *flags, *data, "--", "--init_from", "a -- b", "--")
    assert done.returncode == 0, done.stderr
    assert [shlex.split(line) for line in whole_lines(dry.stdout)] == world.calls()
    assert world.trained()["argv"][3:] == [*flags, *data, "--init_from", "a -- b", "--"]


def test_nothing_secret_goes_out(world):
    secrets = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/k/hush.json",
        "HF_TOKEN": "hush",
        "CLOUDSDK_AUTH_ACCESS_TOKEN": "hush",
    }
    for arguments in (["install", "--repository", str(world.checkout)], ["train", *TRAIN_FLAGS]):
        done = world.launch("tpu_vm.py", *arguments, *WHERE, "--type", "v3-8", **secrets)
        assert done.returncode == 0
        assert "hush" not in done.stdout + done.stderr + json.dumps(world.calls())
    for url in ("https://me:hush@git.example/x.git", "https://hush@git.example/x.git", "ssh://me:hush@git.example/x"):
        done = world.launch("tpu_vm.py", "install", *WHERE, "--type", "v3-8", "--repository", url, "--dry_run")
        assert done.returncode == 2 and "password or token" in done.stderr
        assert "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", ["https://git.example/x.git", "git@git.example:x/y.git", "ssh://git@git.example/x"])
def test_repository_that_is_cloned(launchers, url, capsys):
    launchers.gpu_machine.main(["install", "--host", "box", "--repository", url, "--dry_run"])
    (line,) = capsys.readouterr().out.splitlines()
    assert shlex.split(line)[-1].startswith(
        f"mkdir -p mp3net && rm -rf mp3net/new && git clone --quiet --depth 1 {url} mp3net/new && bash mp3net/new/"
    )


def test_only_the_last_commit_is_sent(world, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(world.checkout, source)
    (source / "setup.py").write_text("changed")
    done = world.launch("gpu_machine.py", "install", "--host", "box", "--repository", str(source))
    assert "Not sent: uncommitted changes, in 1 place" in done.stdout
    assert (world.there / "mp3net" / "source" / "setup.py").read_text() == ""


# ---- failures


def test_gcloud_fails(world):
    for said, words in [
        ("ERROR: (x) You do not currently have an active account.\nPlease run:\n\n  gcloud x", "gcloud auth login"),
        ("", "it said nothing"),
    ]:
        done = world.launch("tpu_vm.py", "create", *WHERE, "--type", "v2-8", FAIL=f"create|{said}")
        assert_told(done, words, "gcloud compute tpus tpu-vm create mp3 ended with status 1: ")
        assert said.split("\n")[0] in done.stderr.split("ended with status 1:")[1]
        assert len(world.calls()) == 1


@pytest.mark.parametrize(
    "said, words",
    [
        ("ERROR: (x) ALREADY_EXISTS: Resource mp3 already exists", "choose another --name"),
        ('ERROR: (x) {"code": 8, "message": "There is no more capacity in the zone"}', "another --zone, or --spot"),
        ("ERROR: (x) RESOURCE_EXHAUSTED: Quota limit TPUV3 exceeded", "more quota"),
        ("ERROR: (x) PERMISSION_DENIED: The caller does not have permission", "roles/tpu.admin"),
        ("ERROR: (x) Cloud TPU API has not been used in project 1 before", "gcloud services enable"),
        ("ERROR: (x) SSH Key is not present in the SSH agent. Please run", "Slices need the key"),
        ('ERROR: (x) This TPU has terminal state "PREEMPTED", so it cannot be used', "which `watch` does"),
        ("ERROR: (x) something new", "Its output is above"),
    ],
)
def test_advice(launchers, said, words):
    import launch_common

    assert words in str(launch_common.CommandFailed(["gcloud", "create"], 1, launch_common.last_words(said)))


@pytest.mark.parametrize(
    "fails, ran",
    [
        ("box:mp3net-source.tar.gz|ssh: Could not resolve hostname box", ["scp"]),
        ("box|Permission denied (publickey).", ["scp", "ssh"]),
    ],
)
def test_a_step_that_fails_is_the_last(world, fails, ran):
    done = world.launch("gpu_machine.py", "install", "--host", "box", "--repository", str(world.checkout), FAIL=fails)
    assert_told(done, fails.partition("|")[2], "Check that ssh reaches the machine")
    assert [call[0] for call in world.calls()] == ran


def test_programs_that_are_missing(world):
    done = world.launch("tpu_vm.py", "create", *WHERE, "--type", "v2-8", path=str(world.folder / "nowhere"))
    assert_told(done, "gcloud is not installed", "--dry_run does without")


@pytest.mark.parametrize("script", ["tpu_vm.py", "gpu_machine.py"])
def test_delete_asks(world, script):
    for typed in ("", "mp\n"):
        assert_told(world.launch(script, "delete", *WHERE, typed=typed), "mp3 is not deleted")
    assert world.calls() == []
    assert world.launch(script, "delete", *WHERE, typed="mp3\n").returncode == 0
    (call,) = world.calls()
    assert "delete" in call and "mp3" in call and "--quiet" in call


def test_before_install(world):
    assert_told(world.launch("gpu_machine.py", "train", "--host", "box", *TRAIN_FLAGS), "Run `install` first")
    assert "train: none" in world.launch("gpu_machine.py", "status", "--host", "box").stdout


def test_installation_that_fails(world):
    install = ["gpu_machine.py", "install", "--host", "box", "--repository", str(world.checkout)]
    (world.there / "no-pip").touch()
    assert_told(world.launch(*install), "no matching distribution")
    (world.there / "no-pip").unlink()
    assert world.launch(*install).returncode == 0


def test_installs_venv_where_ubuntu_has_none(world):
    (world.there / "no-venv").touch()
    write_program(world.there / "bin" / "sudo", '#!/bin/sh\necho "$@" >>"$HOME/sudo"; rm -f "$HOME/no-venv"\n')
    done = world.launch("gpu_machine.py", "install", "--host", "box", "--repository", str(world.checkout))
    assert done.returncode == 0 and "install python3-venv" in (world.there / "sudo").read_text()


# ---- one training at a time, which outlives the session


def test_one_training_at_a_time(world):
    host = ["--host", "box"]
    install = ["gpu_machine.py", "install", *host, "--repository", str(world.checkout)]
    train = ["gpu_machine.py", "train", *host, "--data", "d", "--workdir", "runs/x"]
    world.launch(*install)
    world.trains("run")
    assert world.launch(*train).returncode == 0
    until(lambda: "training" in (world.there / "mp3net" / "jobs" / "train" / "log").read_text())
    assert "train: running" in world.launch("gpu_machine.py", "status", *host).stdout
    assert_told(world.launch(*train), "runs already", "`stop` makes it save")
    assert_told(world.launch(*install), "a training runs here")
    stopped = world.launch("gpu_machine.py", "stop", *host)
    assert "train: stopped with status 143" in stopped.stdout
    assert "saved" in world.launch("gpu_machine.py", "logs", *host).stdout
    world.trains("fail")
    assert_told(world.launch(*train), "error: bad flag")
    assert "train: ended with status 1" in world.launch("gpu_machine.py", "status", *host).stdout


# ---- watch


WATCH = ["tpu_vm.py", "watch", *WHERE, "--type", "v3-8", *TRAIN_FLAGS, "--every_s", "0.05"]


def verbs(calls):
    """What was asked of gcloud, without the looks at the state."""
    return [call[4] for call in calls if call[4] != "describe" and "job.py status" not in call[-1]]


def test_watch_makes_the_machine_anew(world):
    world.states("READY", "READY", "PREEMPTED", "CREATING", "ABSENT", "READY")
    world.trains("run", "run", "done")
    watch = [*WATCH, "--repository", str(world.checkout), "--spot"]
    process = subprocess.Popen(
        [*BARE, str(SCRIPTS / watch[0]), *watch[1:]],
        env={"PATH": f"{world.folder}/bin:/usr/bin:/bin", "HOME": str(world.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = world.there / "mp3net" / "jobs" / "train" / "pid"
    killed = 0
    for line in process.stdout:  # a machine that goes takes its training and its disk with it
        if "making it anew" in line and pid.exists():
            os.killpg(int(pid.read_text()), signal.SIGKILL)
            until(lambda: (pid.parent / "status").exists())
            shutil.rmtree(world.there / "mp3net")
            killed += 1
    assert process.wait() == 0 and killed == 2
    calls = world.calls()
    made = ["scp", "ssh", "ssh"]
    assert verbs(calls) == [*made, "delete", "create", *made, "create", *made]
    assert all("--spot" in call for call in calls if "create" in call)
    assert "training ended with status 0" in line


def test_watch_resumes_what_a_signal_ended_and_leaves_what_was_stopped(world):
    world.trains("run")
    world.launch("tpu_vm.py", "install", *WHERE, "--type", "v3-8", "--repository", str(world.checkout))
    world.launch("tpu_vm.py", "train", *WHERE, "--type", "v3-8", *TRAIN_FLAGS)
    world.calls()
    job = world.there / "mp3net" / "jobs" / "train"
    os.killpg(int((job / "pid").read_text()), signal.SIGTERM)
    until(lambda: (job / "status").exists())
    watch = subprocess.Popen(
        [*BARE, str(SCRIPTS / WATCH[0]), *WATCH[1:]],
        env={"PATH": f"{world.folder}/bin:/usr/bin:/bin", "HOME": str(world.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in watch.stdout:
        if "training running" in line:
            break
    world.launch("tpu_vm.py", "stop", *WHERE)
    assert watch.wait(timeout=10) == 0
    assert "training stopped with status 143" in watch.stdout.read()


LEASED = """
import os, pathlib, site, socket, sys, time, uuid
site.main()  # for TensorFlow
sys.path.insert(0, {root!r})
host = pathlib.Path("host")  # goes with the machine
host.exists() or host.write_text(uuid.uuid4().hex)
socket.gethostname = host.read_text
from mp3net import cli
from mp3net.training import lock

def main():
    how = pathlib.Path(os.environ["HOME"], "how")
    now, *later = how.read_text().split()
    with lock._Lease({bucket!r}, refresh_s=0.5, stale_s=4.0, settle_s=0.1):
        print("held", flush=True)
        how.write_text(" ".join(later or [now]))
        while now == "run":
            time.sleep(0.05)

cli.run(main)
"""


@pytest.mark.parametrize("goes", ["training", "machine"])
def test_watch_resumes_what_was_killed_while_it_held_its_working_directory(world, goes):
    bucket, job = world.folder / "bucket", world.there / "mp3net" / "jobs" / "train"
    bucket.mkdir()
    (world.there / "train.py").write_text(LEASED.format(root=str(SCRIPTS.parent), bucket=str(bucket)))
    world.trains("run", "done")
    watch = subprocess.Popen(
        [*BARE, str(SCRIPTS / WATCH[0]), *WATCH[1:], "--repository", str(world.checkout)],
        env={"PATH": f"{world.folder}/bin:/usr/bin:/bin", "HOME": str(world.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    held = False
    for line in watch.stdout:
        if not held and (job / "log").exists() and "held" in (job / "log").read_text().splitlines():
            held = True
            if goes == "training":
                os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
            else:
                world.states("PREEMPTED", "READY")
        if "making it anew" in line:
            os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
            until(lambda: (job / "status").exists())
            shutil.rmtree(world.there / "mp3net")
    assert watch.wait() == 0 and held and "training ended with status 0" in line
    log = (job / "log").read_text()
    assert log.splitlines().count("held") == (2 if goes == "training" else 1)
    assert ("waiting to see" in log) == (goes == "machine"), "a lease of this machine's dead is taken at once"
    assert not (bucket / ".lease").exists()


def test_watch_ends_where_training_fails(world):
    world.trains("fail")
    done = world.launch(*WATCH, "--repository", str(world.checkout))
    assert_told(done, "The training failed with status 1")


def test_watch_bears_failures_and_gives_up(world):
    done = world.launch(*WATCH, "--tries", "3", FAIL="describe|ERROR: (x) no network")
    assert_told(done, "no network")
    assert len(world.calls()) == 3 and done.stdout.count("Again in") == 2


def test_watch_shows_what_it_would_do(world):
    dry = world.launch(*WATCH, "--repository", str(world.checkout), "--dry_run")
    asked = [shlex.split(line) for line in whole_lines(dry.stdout)]
    assert verbs([line for line in asked if line[0] == "gcloud"]) == ["delete", "create", "scp", "ssh", "ssh"]
    assert world.calls() == []


# ---- workers


@pytest.fixture
def launchers(monkeypatch):
    """The launchers as modules."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_machine
    import tpu_vm
    import workers

    from mp3net.errors import UserError

    return type(
        "Launchers", (), {"gpu_machine": gpu_machine, "tpu_vm": tpu_vm, "workers": workers, "UserError": UserError}
    )


def test_tf_config(launchers):
    made = [json.loads(launchers.workers.tf_config(["me@a", "b", "you@c:7"], i, 2222)) for i in range(3)]
    assert all(one["cluster"] == {"worker": ["a:2222", "b:2222", "c:7"]} for one in made)
    assert [one["task"] for one in made] == [{"type": "worker", "index": i} for i in range(3)]
    with pytest.raises(launchers.UserError, match="same address twice"):
        launchers.workers.tf_config(["me@a", "you@a"], 0, 2222)


def free_ports():
    """A port that is free, with a few behind it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(min(probe.getsockname()[1], 60000))


INDEX = "import json, os; index = json.loads(os.environ['TF_CONFIG'])['task']['index']; "
STAY = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved', flush=True) or 143))
print('here', flush=True)
while True: time.sleep(0.05)
"""


def local(world, code, *flags, command=None):
    command = command or [sys.executable, "-c", code]
    return world.launch("workers.py", "--local", "2", "--port", free_ports(), *flags, "--", *command)


def test_local_workers(world):
    done = local(world, INDEX + "print('I am', index)")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["[0] I am 0", "[1] I am 1"]


def test_one_that_fails_stops_the_other(world):
    begun = time.monotonic()
    done = local(world, INDEX + "index == 1 and exit('boom')" + STAY)
    assert time.monotonic() - begun < 10
    assert done.returncode == 1
    assert "[1] boom" in done.stdout and "[0] saved" in done.stdout
    assert "worker 1, localhost:" in done.stderr and "boom" in done.stderr


def test_one_that_will_not_leave_is_killed(world):
    code = INDEX + "index == 1 and exit(3)\nimport signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)"
    begun = time.monotonic()
    assert local(world, code, "--grace_s", "0.5").returncode == 3
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_workers_go_with_the_launcher(tmp_path, number, status):
    log = tmp_path / "log"
    code = INDEX + STAY.replace("print('saved', flush=True)", f"open({str(log)!r}, 'a').write('saved ')")
    command = [*BARE, str(SCRIPTS / "workers.py"), "--local", "2", "--port", free_ports()]
    process = subprocess.Popen([*command, "--", sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert {process.stdout.readline(), process.stdout.readline()} == {"[0] here\n", "[1] here\n"}
    process.send_signal(number)
    assert process.wait(timeout=10) == status
    until(lambda: log.exists() and log.read_text() == "saved saved ")


@pytest.fixture
def installed(world):
    """The world, with what `hosts` need on their machines."""
    (world.there / "mp3net" / "source" / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPTS / "job.py", world.there / "mp3net" / "source" / "scripts")
    write_program(world.there / "mp3net" / "venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    return world


def test_hosts_save_on_ctrl_c(installed):
    command = [*BARE, str(SCRIPTS / "workers.py"), "--hosts", "a,b", "--", "python", "-c", INDEX + STAY]
    path = {"PATH": f"{installed.folder}/bin:/usr/bin:/bin"}
    process = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    here = 0
    while here < 2:
        here += process.stdout.readline().endswith("here\n")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all in the foreground
    left, _ = process.communicate(timeout=10)
    assert process.returncode == 130 and "[0] saved" in left and "[1] saved" in left


def test_hosts(installed):
    world = installed
    code = INDEX + "import sys; print(index, os.getcwd(), sys.argv[1:] == " + repr(NASTY) + ")"
    call = ["workers.py", "--hosts", "me@a,me@b", "--addresses", "10.0.0.1,10.0.0.2", "--port", "2222"]
    command = ["--", "python", "-c", code, *NASTY]
    dry = world.launch(*call, "--dry_run", *command)
    done = world.launch(*call, *command)
    assert done.returncode == 0, done.stderr
    folder = world.there / "mp3net"
    assert sorted(done.stdout.splitlines()) == [  # and what ssh says of itself
        "[0] 0 " + f"{folder} True",
        "[0] Attempting to connect",
        "[1] 1 " + f"{folder} True",
        "[1] Attempting to connect",
    ]
    calls = world.calls()
    assert sorted(calls) == sorted(shlex.split(line) for line in whole_lines(dry.stdout))
    assert all("BatchMode=yes" in one and '"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]' in one[-1] for one in calls)


def test_command_lines_that_do_not_fit(world):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in [
            (["--local", "1", "--port", port, "--", "true"], "is not free"),
            (["--local", "2"], "the command is missing"),
            (["--local", "0", "--", "true"], "at least 1"),
            (["--hosts", "a,-oProxyCommand=x", "--", "true"], "is no host"),
            (["--hosts", "a,b", "--addresses", "c", "--", "true"], "1 for 2 hosts"),
        ]:
            done = world.launch("workers.py", *arguments)
            assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    done = world.launch("gpu_machine.py", "status", "--host=-oProxyCommand=x")
    assert done.returncode == 2 and world.calls() == []
