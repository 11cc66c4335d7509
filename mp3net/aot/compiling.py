"""Has the TPU's compiler look at a program, in a process of its own, and remembers what it said."""

import importlib.metadata
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from mp3net import hardware
from mp3net.aot import cache
from mp3net.errors import UserError

TPU = "mp3net.aot.tpu_compiler"
GPU = "mp3net.aot.gpu_compiler"
_PACKAGES = {TPU: ("jax", "libtpu"), GPU: ("jax",)}
_CUDA = ("jax-cuda12-plugin", "jax-cuda13-plugin")
_TELL_EVERY_S = 10.0
_TESTED = "jax 0.10.2 and libtpu 0.0.51"
_DEFECT = "INTERNAL: RET_CHECK failure"  # what the compiler asserts of its own work
_REASON = re.compile(r"[\w.]*(Error|Exception): |F\d{4} ")  # Python's line that names an error, or C++'s last words


def versions(compiler=TPU):
    """Versions of a compiler's packages, by name. Raises `UserError` where they are not installed."""
    try:
        packages = {name: importlib.metadata.version(name) for name in _PACKAGES[compiler]}
        return packages | ({name: _version(name) for name in _CUDA if _version(name)} if compiler == GPU else {})
    except importlib.metadata.PackageNotFoundError:
        if compiler == GPU:
            raise UserError("The GPU's compiler is not installed: pip install 'mp3net[cpu,jax-cuda]'.") from None
        raise UserError(
            "The TPU's compiler is not installed. It needs no TPU, and an environment without tensorflow-tpu, which "
            "takes an older libtpu: pip install 'mp3net[cpu,aot]', Python 3.11 or later."
        ) from None


def gpu_target():
    """What gpu_compiler.py can compile for on this machine: a GPU here, one that is described, else the CPU."""
    if not any(_version(name) for name in _CUDA):
        return "cpu"
    return "here" if hardware.nvidia_gpus() else "h100"


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def compiled(text, topology, title, log, compiler=TPU):
    """What a program takes on one device of a topology.

    Args:
      text: `stablehlo.plain` text.
      topology: a `Chip.topology`, or another target of the compiler.
      title: names the program in progress lines: "D update, batch 1".
      log: takes each of those lines.
      compiler: `TPU` or `GPU`.

    Returns: what the compiler's module prints; where the compiler fails by a defect of its own, as it does on a few
    large programs, {"fits": False, "wanted_gib": None, "defect": its words}. Raises `UserError` where it cannot be run,
    or does not take the program.
    """
    installed = versions(compiler)
    key = cache.key(text, topology, installed)
    figures = cache.read(key)
    if figures is not None:
        log(f"{title}: {_outcome(figures, compiler)}, cached")
        return figures
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mp3net-aot-") as folder:
        path = pathlib.Path(folder) / "step.mlir"
        path.write_text(text)
        figures = _run([sys.executable, "-m", compiler, topology, str(path)], title, topology, log, compiler)
    cache.write(key, figures)
    log(f"{title}: {_outcome(figures, compiler)}, compiled in {time.monotonic() - begun:.0f} s")
    return figures


def _outcome(figures, compiler):
    if "defect" in figures:
        return f"the compiler fails on it: {figures['defect']}"
    if compiler == GPU:  # which gives one figure or the other, and no verdict
        amount = figures.get("temporaries_gib")
        return f"{figures['tflop']:.4g} TFLOP" if amount is None else f"{amount:.2f} GiB of temporaries"
    return "fits" if figures["fits"] else f"does not fit, it wants {figures['wanted_gib']:.2f} GiB"


def _run(command, title, topology, log, compiler=TPU):
    """Runs the compiler to its end, with a line every few seconds; a Ctrl-C here ends it too."""
    begun = told = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors)
        try:
            while True:
                try:
                    status = process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() - told >= _TELL_EVERY_S:
                        told = time.monotonic()
                        log(f"{title}: compiling for {topology}, {told - begun:.0f} s")
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        errors.seek(0)
        lines = said.read().splitlines()
        if status or not lines:
            reason = _reason(errors.read())
            if status > 0 and _DEFECT in reason:
                return {"fits": False, "wanted_gib": None, "defect": reason.rstrip(".")}
            raise UserError(_failure(title, topology, status, reason, compiler))
    return json.loads(lines[-1])


def _reason(errors):
    """The line of a compiler's last words that says why."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if _REASON.match(line)), lines[-1] if lines else "it said nothing")


def _failure(title, topology, status, reason, compiler):
    installed = ", ".join(f"{name} {version}" for name, version in versions(compiler).items())
    start = f"{title}: the compiler for {topology} ({installed})"
    if status == -signal.SIGKILL:
        return f"{start} was killed: most likely the machine has too little memory for it. Free some and try again."
    how = f"was ended by signal {-status}" if status < 0 else "failed"
    return f"{start} {how}: {reason[:300]}. Tested are {_TESTED}."
