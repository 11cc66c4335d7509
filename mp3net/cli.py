"""What every action module does around its own work: errors as one line, exit status, and a check for TensorFlow."""

import argparse
import errno
import importlib.metadata
import importlib.util
import os
import sys
import tempfile

from mp3net import __version__, hardware
from mp3net.errors import UsageError, UserError

# What the operating system's refusals mean to a person, and what to do about them.
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written to",
    errno.EACCES: "permission denied; choose a folder that you can read and write",
    errno.EPERM: "not permitted; choose a folder that you can read and write",
}

LIBTPU = "libtpu<0.0.22"  # of the time of tensorflow-tpu 2.20.0, the last there is


_OUT_OF_MEMORY = (
    "out of memory. A run takes less with --gin_param 'MP3net.execution = @Execution()' and "
    "--gin_param 'Execution.recompute = True' (or 'Execution.precision = \"bfloat16\"'), which change it by "
    "rounding alone, then with --gin_param 'train.micro_batch = 1'; see Devices in README.md"
)


def parser(module, description):
    """An argument parser for `python -m mp3net.<module>`, with `--version`."""
    made = argparse.ArgumentParser(
        prog=f"python -m mp3net.{module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--version", action="version", version=f"mp3net {__version__}")
    return made


def add_configuration(parser):
    """Adds the flags that choose a configuration: `--gin` and `--gin_param`, both repeatable."""
    parser.add_argument("--gin", action="append", default=[], metavar="FILE", help="a gin file, or 95s, 5s, lab, demo")
    parser.add_argument(
        "--gin_param", action="append", default=[], metavar="'NAME = VALUE'", help="one gin parameter over the file's"
    )


def add_interpolation(parser, steps):
    """Adds `--interpolate A B` and `--steps`, by default `steps`; `check_interpolation` belongs to it."""
    parser.add_argument(
        "--interpolate", nargs=2, type=int, metavar=("A", "B"), help="from the song of seed A to that of seed B"
    )
    parser.add_argument(
        "--steps", type=int, metavar="K", help=f"songs of an interpolation, both ends included (default: {steps})"
    )
    parser.set_defaults(default_steps=steps)


def check_interpolation(options):
    """Sets `options.steps` where it was not given. Raises `UsageError` for seeds and steps that cannot be."""
    if options.steps is not None and not options.interpolate:
        raise UsageError("--steps goes with --interpolate.")
    if options.interpolate and not all(0 <= seed < 2**63 for seed in options.interpolate):
        raise UsageError("--interpolate {} {}: seeds are whole numbers from 0.".format(*options.interpolate))
    options.steps = options.default_steps if options.steps is None else options.steps
    if options.steps < 2:
        raise UsageError(f"--steps {options.steps}: an interpolation takes at least 2.")


def require_tensorflow(tpu=False):
    """Imports TensorFlow without its start-up chatter; raises `UserError` where it is missing.

    With `tpu` the library of this machine's TPU is loaded too, if there is a TPU. Else it is not: without one it looks
    for one on the network, for minutes, and only training has a use for it.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "TensorFlow is not installed. Install the build for your hardware: "
            "pip install 'mp3net[cpu]', 'mp3net[gpu]' or 'mp3net[tpu]' (one of them only)."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return
    if tpu and hardware.tpu_chips():
        _check_libtpu()
        _import_tensorflow()
        return
    given = "TPU_LOAD_LIBRARY" in os.environ
    os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
    try:
        _import_tensorflow()
    finally:  # it is read once, and not meant for what this process starts
        if not given:
            del os.environ["TPU_LOAD_LIBRARY"]


def _import_tensorflow():
    with tempfile.TemporaryFile() as chatter:
        screen = os.dup(2)
        os.dup2(chatter.fileno(), 2)  # its C++ side logs before it can be told not to
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"TensorFlow is installed but does not load: {str(error).splitlines()[0][:200]}. "
                "Install one build of it, in an environment of its own: pip install 'mp3net[cpu]'."
            ) from None
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def _check_libtpu():
    """Raises `UserError` where libtpu is too new for TensorFlow: its import would end the process without a word."""
    try:
        build, library = (importlib.metadata.version(name) for name in ("tensorflow-tpu", "libtpu"))
    except importlib.metadata.PackageNotFoundError:
        return
    if _numbers(build) < (2, 21) and _numbers(library) >= (0, 0, 32):  # 2.20.0 loads 0.0.14 to 0.0.31, as was tried
        raise UserError(f"libtpu {library} is too new for tensorflow-tpu {build}: pip install '{LIBTPU}'")


def _numbers(version):
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _trouble(error):
    """What to tell of those errors of TensorFlow and JAX that a user can mend, else None."""
    text = str(error)
    if "jax" in sys.modules and isinstance(error, sys.modules["jax"].errors.JaxRuntimeError):
        return _OUT_OF_MEMORY if "RESOURCE_EXHAUSTED" in text else None
    if "tensorflow" not in sys.modules:
        return None
    errors = sys.modules["tensorflow"].errors
    if isinstance(error, errors.OpError) and "No space left" in text:
        return _ADVICE[errno.ENOSPC]
    if isinstance(error, errors.PermissionDeniedError):
        return _ADVICE[errno.EACCES]
    return _OUT_OF_MEMORY if isinstance(error, errors.ResourceExhaustedError) else None


def run(main):
    """Calls `main()` and leaves the process with its exit status.

    `UserError`, and what the operating system refuses, become a line on standard error and status 1 (`UsageError`: 2);
    Ctrl-C becomes status 130. Anything else is a defect of this project, and keeps its traceback.
    """
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        advice = _ADVICE.get(error.errno) or (error.strerror if error.filename else None)
        if advice is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{advice}", file=sys.stderr)
        status = 1
    except Exception as error:
        advice = _trouble(error)
        if advice is None:
            raise
        print(f"error: {advice}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status or 0)
