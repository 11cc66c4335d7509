"""Errors as people meet them: a line and an exit status."""

import errno

import pytest
import tensorflow as tf
from helpers import command

import mp3net
from mp3net import cli
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
        (tf.errors.PermissionDeniedError(None, None, "metrics.jsonl"), "permission denied"),
    ],
)
def test_what_tensorflow_meets_is_a_line_too(error, said, capsys):
    assert ends(failing(error)) == 1
    assert said in capsys.readouterr().err
    with pytest.raises(tf.errors.InvalidArgumentError):
        cli.run(failing(tf.errors.InvalidArgumentError(None, None, "of our own making")))
