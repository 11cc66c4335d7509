"""What the launchers run on a machine: scripts/job.py and scripts/devices.py."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
BARE = [sys.executable, "-S"]  # without site-packages: it needs nothing installed


def until(condition, seconds=15):
    """Waits until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_devices(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "from types import SimpleNamespace as N\n"
        "__version__ = '9'\n"
        "import os\n"
        "def _seen(kind): return [N(name=f'{kind}:{i}') for i in range(int(os.environ['COUNT']))]\n"
        "config = N(list_logical_devices=_seen, experimental_connect_to_cluster=lambda _: None)\n"
        "def _fail(_): raise ValueError('no chip\\nmore')\n"
        "distribute = N(cluster_resolver=N(TPUClusterResolver=lambda tpu: tpu))\n"
        "tpu = N(experimental=N(initialize_tpu_system=_fail))\n"
    )

    def look(kind, count):
        command = [sys.executable, str(SCRIPTS / "devices.py"), kind]
        variables = {"PYTHONPATH": str(tmp_path), "COUNT": str(count)}
        return subprocess.run(command, env=variables, capture_output=True, text=True)

    assert "sees 2 GPU devices: GPU:0 GPU:1" in look("gpu", 2).stdout
    for process, words in [
        (look("gpu", 0), "error: TensorFlow 9 sees no GPU. Is"),
        (look("tpu", 8), "error: TensorFlow cannot use a TPU: no chip. Is"),
    ]:
        assert process.returncode == 1 and process.stderr.startswith(words)


def job(folder, *arguments):
    return subprocess.run(
        [*BARE, str(SCRIPTS / "job.py"), *arguments], cwd=folder, capture_output=True, text=True, timeout=30
    )


def keeper(group):
    """The process that waits for the command of a job."""
    return int(pathlib.Path(f"/proc/{group}/stat").read_text().split()[3])


def test_job_outlives_its_session_and_a_machine_that_tells_all_to_leave(tmp_path):
    command = [*BARE, str(SCRIPTS / "job.py"), "start", "--settle_s", "0.3", "--", "sleep", "30"]
    session = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    assert session.wait() == 0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session.pid, signal.SIGKILL)
    group = int((tmp_path / "jobs" / "train" / "pid").read_text())
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(keeper(group), number)
    assert job(tmp_path, "status").stdout == f"train: running, process {group}\n"
    os.killpg(group, signal.SIGTERM)
    until(lambda: job(tmp_path, "status").stdout == "train: ended with status 143\n")


def test_attached_command_is_told_once(tmp_path):
    # By os.write: a print within a print is an error.
    code = "import os, signal, time\nsignal.signal(15, lambda *_: os.write(1, b'told\\n'))\nprint('here', flush=True)\n"
    code += "end = time.monotonic() + 1\nwhile time.monotonic() < end: time.sleep(0.05)"
    command = [*BARE, str(SCRIPTS / "job.py"), "attach", "--", *BARE, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", None) and process.returncode == 0


def test_job_that_was_killed_is_lost(tmp_path):
    assert job(tmp_path, "status").stdout == "train: none\n"
    assert job(tmp_path, "start", "--settle_s", "0.3", "--", "sleep", "30").returncode == 0
    group = int((tmp_path / "jobs" / "train" / "pid").read_text())
    os.kill(keeper(group), signal.SIGKILL)
    assert job(tmp_path, "start", "--", "true").returncode == 1, "its command still runs"
    os.killpg(group, signal.SIGKILL)
    until(lambda: job(tmp_path, "status").stdout == "train: lost\n")
    assert job(tmp_path, "start", "--", "true").returncode == 0


def test_job_that_is_replaced(tmp_path):
    assert job(tmp_path, "start", "--settle_s", "0.3", "--", "sleep", "30").returncode == 0
    first = (tmp_path / "jobs" / "train" / "pid").read_text()
    assert job(tmp_path, "start", "--replace", "--", "true").returncode == 0
    assert not pathlib.Path(f"/proc/{first.strip()}").exists()


def test_job_without_a_program(tmp_path):
    done = job(tmp_path, "start", "--", "no-such-program")
    assert done.returncode == 127 and "no-such-program: No such file" in done.stderr
    assert job(tmp_path, "start").returncode == 2
