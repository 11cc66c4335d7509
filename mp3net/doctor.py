"""python -m mp3net.doctor: what this machine and this installation can do, and how to mend what they cannot.

A line for each thing: "ok", "note" for what only some uses need, "FIX" with what to do. The exit status is 1 where a
FIX stands.
"""

import glob
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from mp3net import __version__, cli, hardware
from mp3net.errors import UserError

_BUILDS = {"tensorflow": "cpu or gpu", "tensorflow-cpu": "cpu", "tensorflow-tpu": "tpu"}
_OLDEST_TENSORFLOW = (2, 16)
_PYTHONS = ((3, 10), (3, 13))
_DISK_GIB, _MEMORY_GIB = 5, 4
_SOUNDFONTS = ("/usr/share/sounds/sf2/*.sf2", "/usr/share/sounds/sf3/*.sf3")


@dataclass(frozen=True)
class Finding:
    """One line: `level` is "ok", "note" or "FIX", `text` what was found, `fix` what to do about it."""

    level: str
    text: str
    fix: str = ""

    def __str__(self):
        return f"{self.level:<6}{self.text}" + (f"\n      {self.fix}" if self.fix else "")


def main(arguments=None):
    """Prints a line for each check; returns 1 where something needs mending."""
    options = _parser().parse_args(arguments)
    print(f"mp3net {__version__}, {platform.platform()}")
    broken = False
    for check in (python, tensorflow, accelerators, remote, resampling, sound_files, corpus_tools, extras):
        for finding in check():
            print(finding, flush=True)
            broken |= finding.level == "FIX"
    for finding in (disk(options.workdir), memory()):
        print(finding)
        broken |= finding.level == "FIX"
    return int(broken)


def _parser():
    parser = cli.parser("doctor", __doc__)
    parser.add_argument("--workdir", default=".", metavar="DIR", help="a folder on the disk that runs will be on (.)")
    return parser


def python():
    """The interpreter: a tested release, in an environment of its own."""
    version = ".".join(map(str, sys.version_info[:3]))
    first, last = (".".join(map(str, each)) for each in _PYTHONS)
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        yield Finding("FIX", f"Python {version} is not one of {first} to {last}", "Make the environment with one.")
        return
    apart = "" if sys.prefix != sys.base_prefix else ", not in a virtual environment"
    yield Finding("ok", f"Python {version}{apart}")


def tensorflow():
    """One build of TensorFlow, which loads."""
    builds = {name: _version(name) for name in _BUILDS if _version(name)}
    if not builds:
        told = "TensorFlow is not installed"
        yield Finding("FIX", told, "pip install 'mp3net[cpu]', 'mp3net[gpu]' or 'mp3net[tpu]': one of them only.")
        return
    names = ", ".join(f"{name} {version}" for name, version in builds.items())
    if len(builds) > 1:
        yield Finding(
            "FIX", f"{names} lie over one another", f"pip uninstall {' '.join(builds)}; then install one alone."
        )
        return
    try:
        cli.require_tensorflow(tpu=True)
    except UserError as error:
        yield Finding("FIX", f"{names} does not load", str(error))
        return
    version = tuple(int(part) for part in next(iter(builds.values())).split(".")[:2])
    if version < _OLDEST_TENSORFLOW:
        yield Finding("FIX", f"{names} is older than what is supported", "pip install --upgrade 'mp3net[cpu]'")
        return
    yield Finding("ok", f"TensorFlow: {names}")


def accelerators():
    """What training would run on, and whether the build fits it."""
    gpus, chips = hardware.nvidia_gpus(), hardware.tpu_chips()
    if chips:
        holders = _holders(chips)
        if not _version("tensorflow-tpu"):
            fix = "In an environment of its own: pip install 'mp3net[tpu]' (never beside another TensorFlow)."
            yield Finding("FIX", f"{len(chips)} TPU chips, and a TensorFlow that cannot use them", fix)
        elif importlib.util.find_spec("libtpu") is None:
            yield Finding("FIX", "tensorflow-tpu without libtpu", f"pip install '{cli.LIBTPU}'")
        elif holders:
            fix = f"End it, or wait for it: kill {' '.join(map(str, holders))}"
            yield Finding("FIX", f"{len(chips)} TPU chips, held by process {', '.join(map(str, holders))}", fix)
        else:
            yield Finding("ok", f"{len(chips)} TPU chips: --device tpu")
    seen, jax = _tensorflow_gpus(), hardware.seen_by_jax()
    by_jax = jax.get("platform") == "gpu"
    if gpus and not seen and not by_jax:
        fix = "pip install 'mp3net[jax-cuda]', then train --device jax:gpu. If it stays: nvidia-smi must answer."
        yield Finding("FIX", f"{len(gpus)} NVIDIA GPUs, of which neither TensorFlow nor JAX sees any", fix)
    elif by_jax and not seen:
        yield Finding("ok", f"{jax['count']} GPUs ({jax['kind']}), which JAX sees, TensorFlow not: --device jax:gpu")
    elif seen:
        capability = hardware.too_new(sys.modules["tensorflow"])
        if capability:
            fix = "train --device jax:gpu" + ("" if by_jax else ", for which: pip install 'mp3net[jax-cuda]'")
            yield Finding(
                "FIX", f"{seen} GPUs of compute capability {capability}, which TensorFlow's build fails on", fix
            )
        else:
            yield Finding("ok", f"{seen} GPUs: --device gpu" + ", or jax:gpu" * by_jax)
    if jax.get("platform") == "tpu":
        yield Finding("ok", f"{jax['count']} TPU devices ({jax['kind']}), which JAX sees: --device jax:tpu")
    if "error" in jax:
        yield Finding("note", f"JAX does not start: {jax['error']}", "Give --device cpu, gpu or tpu.")
    if jax.get("platform") == "cpu":
        yield Finding("ok", "JAX sees the CPU alone: --device jax:cpu, to try it")
    if not gpus and not chips:
        yield Finding("note", f"no GPU and no TPU: {os.cpu_count()} CPU cores, enough for the demo")


def remote():
    """gs:// paths: whether TensorFlow reads them, and whether there is a way to be known there."""
    if "tensorflow" not in sys.modules:
        return
    schemes = sys.modules["tensorflow"].io.gfile.get_registered_schemes()
    if "gs" not in schemes:
        yield Finding("note", "this TensorFlow has no gs://", "Copy the data: gcloud storage cp -r gs://... .")
        return
    keys = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if keys and not os.path.exists(keys):
        fix = "Mend or unset GOOGLE_APPLICATION_CREDENTIALS."
        yield Finding("FIX", f"gs://: {keys}, which GOOGLE_APPLICATION_CREDENTIALS names, does not exist", fix)
        return
    known = keys or os.path.exists(os.path.expanduser("~/.config/gcloud/application_default_credentials.json"))
    if known:
        yield Finding("ok", "gs:// with credentials")
    else:
        fix = "Off Google's machines, private buckets take: gcloud auth application-default login"
        yield Finding("note", "gs:// without credentials of its own", fix)


def resampling():
    """soxr, heard: a tone stays a tone."""
    try:
        import numpy as np
        import soxr

        tone = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100)
        kept = soxr.resample(tone, 44100, 22016)
        expected = np.sin(2 * np.pi * 1000 * np.arange(len(kept)) / 22016)
        error = np.abs(kept - expected)[2000:-2000].max()
    except Exception as error:  # whatever a broken native library raises
        yield Finding("FIX", f"soxr does not work: {_line(error)}", "pip install --force-reinstall soxr")
        return
    if error > 1e-4:
        yield Finding("FIX", f"soxr {soxr.__version__} resamples wrongly", "pip install --force-reinstall soxr")
    else:
        yield Finding("ok", f"soxr {soxr.__version__}")


def sound_files():
    """soundfile, and the formats that its library knows."""
    try:
        import soundfile

        formats = soundfile.available_formats()
    except Exception as error:
        fix = "pip install --force-reinstall soundfile; on Linux also: apt-get install libsndfile1"
        yield Finding("FIX", f"soundfile does not work: {_line(error)}", fix)
        return
    missing = [name for name in ("WAV", "FLAC", "OGG", "MP3") if name not in formats]
    text = f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}"
    if missing:
        yield Finding("note", f"{text}, without {', '.join(missing)}", "pip install --upgrade soundfile")
    else:
        yield Finding("ok", f"{text}: wav, flac, ogg, mp3")


def corpus_tools():
    """FluidSynth and a piano, by which the demo's corpus sounds better."""
    fonts = [path for pattern in _SOUNDFONTS for path in glob.glob(pattern)]
    if shutil.which("fluidsynth") and fonts:
        yield Finding("ok", f"FluidSynth with {os.path.basename(fonts[0])}")
    else:
        lacking = "a soundfont" if shutil.which("fluidsynth") else "FluidSynth"
        fix = "For a sampled one: apt-get install fluidsynth musescore-general-soundfont-small"
        yield Finding("note", f"{lacking} is missing: the demo's corpus is played by a built-in piano", fix)


def extras():
    """What the optional parts need."""
    for package, module, use, extra in (
        ("tensorboard", "tensorboard", "curves of a run", "cpu"),
        ("matplotlib", "matplotlib", "python -m mp3net.figures", "plots"),
        ("mido", "mido", "scripts/render_corpus.py", "corpus"),
        ("jax", "jax", "train --device jax", "jax"),
        ("libtpu", "libtpu", "python -m mp3net.describe --tpu", "aot"),
    ):
        if importlib.util.find_spec(module) is not None:
            yield Finding("ok", f"{package} {_version(package) or ''}: {use}")
        else:
            fix = f"pip install 'mp3net[{extra}]'"
            if extra == "aot" and _version("tensorflow-tpu"):
                fix = "In an environment of its own, for it takes a newer libtpu: pip install 'mp3net[cpu,aot]'"
            yield Finding("note", f"{package} is missing, which {use} takes", fix)


def disk(folder):
    """Room for checkpoints where runs will be."""
    try:
        free_gib = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return Finding("FIX", f"{folder}: {error.strerror}", "Give a folder that exists, with --workdir.")
    text = f"{free_gib:.1f} GiB free on the disk of {os.path.abspath(folder)}"
    if free_gib < _DISK_GIB:
        fix = "A checkpoint of 95s takes 1.3 GiB, four are there at once: free some space, or use another disk."
        return Finding("FIX", text, fix)
    return Finding("ok", text)


def memory():
    """Main memory that is free."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        free_gib = int(lines["MemAvailable"].split()[0]) / 2**20
    except (OSError, KeyError, ValueError):
        return Finding("note", "how much memory is free cannot be told on this system")
    if free_gib < _MEMORY_GIB:
        return Finding(
            "note", f"{free_gib:.1f} GiB of memory free", "The demo takes 2, a song of 95 s 1.5: end others."
        )
    return Finding("ok", f"{free_gib:.1f} GiB of memory free")


def _tensorflow_gpus():
    """How many GPUs TensorFlow sees; None where there is no TensorFlow."""
    if "tensorflow" not in sys.modules:
        return None
    return len(sys.modules["tensorflow"].config.list_physical_devices("GPU"))


def _holders(devices):
    """Processes, other than this one, that have one of some device files open, as far as this user may see."""
    found = set()
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) in devices:
                found.add(int(link.split("/")[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    cli.run(main)
