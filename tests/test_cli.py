"""Errors as people meet them: a line and an exit status."""

import errno
import os
import pathlib
import sys

import jax
import pytest
import tensorflow as tf
from helpers import command

import mp3net
from mp3net import cli, hardware
from mp3net.errors import UsageError, UserError


def ends(main):
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    return ended.value.code


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "error, status, said",
    [
        (UserError("no such folder"), 1, "error: no such folder"),
        (UsageError("--n 0"), 2, "error: --n 0"),
        (OSError(errno.ENOSPC, "No space", "out.wav"), 1, "error: out.wav: the disk is full"),
        (OSError(errno.EROFS, "Read-only", "out.wav"), 1, "read-only"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_a_line(error, status, said, capsys):
    assert ends(failing(error)) == status
    captured = capsys.readouterr()
    assert said in captured.err and len(captured.err.splitlines()) == 1 and "Traceback" not in captured.err


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)
    with pytest.raises(OSError):
        cli.run(failing(OSError(errno.EBADF, "of our own making")))


def test_success_and_statuses_of_main_are_passed_on():
    assert ends(lambda: None) == 0
    assert ends(lambda: 143) == 143


@pytest.mark.parametrize("module", ["train", "generate", "prepare", "describe"])
def test_every_action_has_help_and_a_version(module):
    version = command(module, "--version")
    assert version.returncode == 0 and mp3net.__version__ in version.stdout
    assert command(module, "--help").returncode == 0
    assert command(module, "--no_such_flag").returncode == 2


@pytest.mark.parametrize(
    "error, said",
    [
        (tf.errors.ResourceExhaustedError(None, None, "metrics.jsonl; No space left on device"), "the disk is full"),
        (tf.errors.UnknownError(None, None, "events; No space left on device"), "the disk is full"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), "train.micro_batch = 1"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), "train.micro_batch = 1"),
        (tf.errors.PermissionDeniedError(None, None, "metrics.jsonl"), "permission denied"),
    ],
)
def test_what_tensorflow_meets_is_a_line_too(error, said, capsys):
    assert ends(failing(error)) == 1
    assert said in capsys.readouterr().err
    with pytest.raises(tf.errors.InvalidArgumentError):
        cli.run(failing(tf.errors.InvalidArgumentError(None, None, "of our own making")))


@pytest.fixture
def tpu_build(monkeypatch):
    """A machine with such TPU chips, tensorflow-tpu and libtpu, where TensorFlow is not yet imported.

    Returns a function that makes it so, and returns what `TPU_LOAD_LIBRARY` will have been at each import.
    """

    def make(chips, build="2.20.0", library="0.0.21.1"):
        versions, seen = {"tensorflow-tpu": build, "libtpu": library}, []
        monkeypatch.setattr(hardware, "tpu_chips", lambda: chips)
        monkeypatch.setattr(cli.importlib.metadata, "version", versions.get)
        monkeypatch.setattr(cli, "_import_tensorflow", lambda: seen.append(os.environ.get("TPU_LOAD_LIBRARY")))
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
        return seen

    monkeypatch.delenv("TPU_LOAD_LIBRARY", raising=False)
    return make


def test_the_library_of_a_tpu_is_loaded_where_one_is_wanted_and_there(tpu_build, monkeypatch):
    """Without a TPU it would look for one on the network, for many minutes."""
    for chips, wanted, set_to in (
        ([], True, "0"),
        ([], False, "0"),
        (["/dev/accel0"], False, "0"),
        (["/dev/vfio/0"], True, None),
    ):
        seen = tpu_build(chips)
        cli.require_tensorflow(tpu=wanted)
        assert seen == [set_to] and "TPU_LOAD_LIBRARY" not in os.environ  # nor for what this process starts
    monkeypatch.setenv("TPU_LOAD_LIBRARY", "1")
    seen = tpu_build([])
    cli.require_tensorflow()
    assert seen == [os.environ["TPU_LOAD_LIBRARY"]] == ["1"]


def test_a_libtpu_that_would_abort_the_import_is_told_instead(tpu_build):
    seen = tpu_build(["/dev/accel0"], library="0.0.52")
    with pytest.raises(UserError, match=r"libtpu 0.0.52 is too new for tensorflow-tpu 2.20.0: pip install 'libtpu<"):
        cli.require_tensorflow(tpu=True)
    cli.require_tensorflow()  # which leaves it alone
    for build, library in (("2.20.0", "0.0.31"), ("2.21.0", "0.0.52")):
        tpu_build(["/dev/accel0"], build, library)
        cli.require_tensorflow(tpu=True)
    assert seen == ["0"]


def test_what_is_installed_for_a_tpu_is_a_libtpu_that_loads():
    setup = (pathlib.Path(__file__).parent.parent / "setup.py").read_text()
    assert setup.count(f'"{cli.LIBTPU}"') == 2  # of TPU VMs, and of the retired Nodes
