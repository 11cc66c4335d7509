"""`python -m mp3net.doctor`: what it finds here, and what it would say of machines that are not here."""

import os
import sys

import numpy as np
import pytest
from helpers import command

from mp3net import doctor, hardware


def said(check):
    return "\n".join(map(str, check()))


def levels(check):
    return [finding.level for finding in check()]


@pytest.fixture
def installed(monkeypatch):
    """Has just these packages be installed, by name and version."""

    def install(**versions):
        names = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(doctor, "_version", names.get)

    return install


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many GPUs and TPU chips, of which TensorFlow sees `seen` GPUs, and JAX what `jax` says."""

    def make(gpus=0, chips=0, seen=0, holders=(), jax=None, capability=None):
        monkeypatch.setattr(hardware, "seen_by_jax", lambda: jax or {})
        monkeypatch.setattr(hardware, "too_new", lambda tensorflow: capability)
        monkeypatch.setitem(sys.modules, "tensorflow", sys.modules.get("tensorflow"))
        monkeypatch.setattr(hardware, "nvidia_gpus", lambda: [f"/dev/nvidia{i}" for i in range(gpus)])
        monkeypatch.setattr(hardware, "tpu_chips", lambda: [f"/dev/accel{i}" for i in range(chips)])
        monkeypatch.setattr(doctor, "_tensorflow_gpus", lambda: seen)
        monkeypatch.setattr(doctor, "_holders", lambda devices: list(holders))

    return make


def test_this_machine_is_fit():
    done = command("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr and "FIX" not in done.stdout
    for words in ("Python 3.", "TensorFlow: tensorflow", "soxr", "soundfile", "GiB free", "GiB of memory", "CPU cores"):
        assert words in done.stdout, words


def test_no_or_two_builds_of_tensorflow_are_to_be_fixed(installed):
    installed()
    assert levels(doctor.tensorflow) == ["FIX"] and "mp3net[cpu]" in said(doctor.tensorflow)
    installed(tensorflow="2.21.0", tensorflow_tpu="2.20.0")
    assert "pip uninstall tensorflow tensorflow-tpu" in said(doctor.tensorflow)
    installed(tensorflow_cpu="2.15.1")
    assert "older" in said(doctor.tensorflow)
    installed(tensorflow_cpu="2.16.1")
    assert levels(doctor.tensorflow) == ["ok"]


def test_a_build_that_does_not_fit_the_machine_is_to_be_fixed(installed, machine, monkeypatch):
    installed(tensorflow_cpu="2.21.0")
    machine(gpus=1)
    assert levels(doctor.accelerators) == ["FIX"] and "mp3net[jax-cuda]" in said(doctor.accelerators)
    machine(gpus=2, seen=2)
    assert said(doctor.accelerators) == "ok    2 GPUs: --device gpu"
    machine(chips=4)
    assert levels(doctor.accelerators) == ["FIX"] and "mp3net[tpu]" in said(doctor.accelerators)
    installed(tensorflow_tpu="2.20.0")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'libtpu<" in said(doctor.accelerators)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    assert said(doctor.accelerators) == "ok    4 TPU chips: --device tpu"
    machine(chips=4, holders=(12, 13))
    assert "held by process 12, 13" in said(doctor.accelerators) and "kill 12 13" in said(doctor.accelerators)
    machine()
    assert levels(doctor.accelerators) == ["note"] and "CPU cores" in said(doctor.accelerators)


def test_what_jax_sees_is_told_with_the_device_to_give(installed, machine, monkeypatch):
    card = {"platform": "gpu", "count": 1, "kind": "NVIDIA H100"}
    installed(tensorflow_cpu="2.21.0")
    machine(gpus=1, jax=card)
    assert said(doctor.accelerators) == ("ok    1 GPUs (NVIDIA H100), which JAX sees, TensorFlow not: --device jax:gpu")
    machine(gpus=1, seen=1, jax=card)
    assert said(doctor.accelerators) == "ok    1 GPUs: --device gpu, or jax:gpu"
    machine(gpus=1, seen=1, capability="12.0")
    assert levels(doctor.accelerators) == ["FIX"]
    assert "compute capability 12.0" in said(doctor.accelerators) and "mp3net[jax-cuda]" in said(doctor.accelerators)
    machine(jax={"platform": "cpu", "count": 1, "kind": "cpu"})
    assert "--device jax:cpu, to try it" in said(doctor.accelerators)
    machine(jax={"error": "no such backend"})
    assert levels(doctor.accelerators) == ["note", "note"] and "no such backend" in said(doctor.accelerators)


def test_jax_is_asked_in_a_process_of_its_own(monkeypatch):
    assert hardware.seen_by_jax() == {"platform": "cpu", "count": 1, "kind": "cpu"}
    monkeypatch.setattr(hardware, "_ASK", "raise RuntimeError('no such backend')")
    assert hardware.seen_by_jax() == {"error": "RuntimeError: no such backend"}
    monkeypatch.setattr(hardware, "_ASK", "import time; time.sleep(60)")
    assert "within 1 s" in hardware.seen_by_jax(timeout_s=1)["error"]


def test_a_gpu_that_tensorflow_is_too_old_for_is_known_by_its_compute_capability():
    def tensorflow(*capabilities):
        config = type("Config", (), {})()
        config.experimental = config
        config.list_physical_devices = lambda kind: list(capabilities)
        config.get_device_details = lambda capability: {"compute_capability": capability} if capability else {}
        return type("TensorFlow", (), {"config": config})

    assert hardware.too_new(tensorflow((9, 0), None)) is None
    assert hardware.too_new(tensorflow((9, 0), (12, 1))) == "12.1"


def test_a_process_that_holds_a_device_is_found(tmp_path):
    """By any file that another process has open."""
    path = tmp_path / "device"
    path.write_text("")
    script = f"import sys, time; file = open({str(path)!r}); print('open', flush=True); time.sleep(60)"
    import subprocess

    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with open(path):  # this process does not count
            assert doctor._holders([str(path)]) == [other.pid]
        other.kill()
    assert doctor._holders([str(path)]) == []


def test_credentials_that_are_not_there_are_told(monkeypatch, tmp_path):
    import tensorflow  # noqa: F401

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    assert levels(doctor.remote) == ["FIX"] and "gone.json" in said(doctor.remote)
    (tmp_path / "gone.json").write_text("{}")
    assert levels(doctor.remote) == ["ok"]
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert levels(doctor.remote) == ["note"] and "application-default login" in said(doctor.remote)


def test_a_resampler_that_is_broken_is_to_be_fixed(monkeypatch):
    import soxr

    assert levels(doctor.resampling) == ["ok"]
    monkeypatch.setattr(soxr, "resample", lambda wave, before, after: np.zeros(len(wave) * after // before))
    assert "resamples wrongly" in said(doctor.resampling)

    def broken(*_):
        raise OSError("libsoxr.so: cannot open")

    monkeypatch.setattr(soxr, "resample", broken)
    assert "libsoxr.so: cannot open" in said(doctor.resampling) and levels(doctor.resampling) == ["FIX"]


def test_what_is_missing_for_some_uses_alone_is_a_note(monkeypatch, installed):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert levels(doctor.corpus_tools) == ["note"] and "apt-get install fluidsynth" in said(doctor.corpus_tools)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert set(levels(doctor.extras)) == {"note"} and "mp3net[plots]" in said(doctor.extras)
    assert "own" not in said(doctor.extras)
    installed(tensorflow_tpu="2.20.0")
    assert "In an environment of its own" in said(doctor.extras)


def test_a_full_disk_a_wrong_folder_and_an_old_python_are_to_be_fixed(monkeypatch):
    assert doctor.disk("/nowhere/at/all").level == "FIX"
    usage = os.statvfs("/")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**30})())
    assert doctor.disk(".").level == "FIX" and "1.0 GiB free" in str(doctor.disk(".")) and usage
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    assert levels(doctor.python) == ["FIX"] and "3.10 to 3.13" in said(doctor.python)
