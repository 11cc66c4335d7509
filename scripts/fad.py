"""Measures FAD, the Frechet audio distance, of songs against real ones, by fadtk in an environment of its own.

    fad.py --generated songs --real recordings --embedding vggish --weights vggish-10086976.pth --out fad.json
    fad.py --generated songs --real recordings --embedding clap --weights music_audioset_epoch_15_esc_90.14.pt

fadtk, for it extrapolates to infinitely many songs (FAD-inf) and loads VGGish and CLAP apart from each other;
frechet-audio-distance asks the network for CLAP's tokenizers whatever it measures, and prints its errors as -1.

Torch and numpy < 2 keep apart from TensorFlow: the first run makes the environment, by pip; nothing is fetched after
that. Weights are yours to give. VGGish: vggish-10086976.pth, release v0.1 of github.com/harritaylor/torchvggish. CLAP:
music_audioset_epoch_15_esc_90.14.pt (for music) or 630k-audioset-best.pt, from huggingface.co/lukewys/laion_clap.
"""

import argparse
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # a bare checkout can measure: nothing need be installed

from mp3net import cli  # noqa: E402
from mp3net.errors import UsageError, UserError  # noqa: E402

WORKER, PINNED = HERE / "fad_worker.py", HERE / "fad_requirements.txt"
PACKAGES = ("fadtk", "torchvggish", "soxr", "soundfile")  # in the versions of PINNED
ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
MARK = ".mp3net-fad"  # in an environment that was made here: empty while it is made, then what it was made of
GIB = 1 << 30
NEEDED_GIB = 9  # while it is made on Linux, where torch brings CUDA
TOLD = 3  # the worker's exit status where it has said why
SOURCES = {
    "vggish": "vggish-10086976.pth is in release v0.1 of github.com/harritaylor/torchvggish",
    "clap": "music_audioset_epoch_15_esc_90.14.pt (or 630k-audioset-best.pt) is at huggingface.co/lukewys/laion_clap",
}


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="fad.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--generated", required=True, metavar="DIR", help="songs to measure: wav, flac, ogg, mp3, at any rate")
    add("--real", required=True, metavar="DIR", help="the reference set")
    add("--embedding", required=True, choices=SOURCES, help="vggish: 16 kHz, mono; clap: 48 kHz, mono")
    add("--weights", required=True, metavar="FILE", help="the embedding's checkpoint, see above")
    add("--trust_weights", action="store_true", help="read them even where they could run code")
    add("--n", type=int, metavar="N", help="at most N files of each folder, evenly spaced by name (default: all)")
    add("--out", metavar="FILE", help="a JSON file for the result")
    add("--save", metavar="DIR", help="keep the embeddings there, as real.npy and generated.npy")
    add(
        "--env",
        metavar="DIR",
        default=str(HERE.parent / ".venv-fad"),
        help="made where there is none; default: %(default)s",
    )
    add("--python", metavar="PROGRAM", help="what makes it: Python 3.11 or 3.12 (default: the first found)")
    made = parser.parse_args(argv)
    if made.n is not None and made.n < 1:
        raise UsageError(f"--n {made.n}: it must be at least 1.")
    return made


# ---- checks, before anything takes time


def audio_files(flag, folder, most):
    """Audio files below a folder, by name. Raises `UserError` where there are none."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"--{flag} {folder}: there is no such folder.")
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise UserError(f"--{flag} {folder}: holds no {', '.join(ENDINGS)} file.")
    return found if most is None or most >= len(found) else [found[i * len(found) // most] for i in range(most)]


def check_weights(path, embedding):
    """Raises `UserError` where a file is missing or plainly no checkpoint; what it holds the worker finds out."""
    source = f"{SOURCES[embedding]}; download it and give its path."
    if not os.path.isfile(path):
        raise UserError(f"--weights {path}: there is no such file. {source}")
    with open(path, "rb") as file:
        begins = file.read(2)
    if begins not in (b"PK", b"\x80\x02"):
        raise UserError(f"--weights {path}: is no PyTorch checkpoint. {source}")


def check_out(path):
    """Raises `UserError` where the result could not be written."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"--out {path}: no file can be written there.")


# ---- the environment


def environment(folder, python=None):
    """The Python of the environment `folder`, made where there is none or half of one. Raises `UserError`."""
    folder = pathlib.Path(folder).absolute()
    program, mark, wanted = folder / "bin" / "python", folder / MARK, PINNED.read_text()
    if mark.exists():
        if mark.read_text() == wanted:
            return program
    elif program.exists():
        return program  # the user's own, of which nothing is changed
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"--env {folder}: is neither a Python environment nor an empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with open(mark, "a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--env {folder}: another run is making it. Wait for that one.") from None
        if any(path != mark for path in folder.iterdir()):
            print(f"{folder}: of an interrupted run or of other versions: made anew", flush=True)
        held.truncate(0)
        clear(folder)
        try:
            make(folder, program, python or find_python())
        except BaseException:
            clear(folder)
            mark.unlink()
            folder.rmdir()
            raise
        held.write(wanted)
    return program


def clear(folder):
    """Removes all of an environment but its mark, so that what cannot be removed is never taken for whole."""
    for path in folder.iterdir():
        if path.name != MARK:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make(folder, program, python):
    """Installs what the worker needs. Raises `UserError`."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_GIB * GIB:
        raise UserError(
            f"--env {folder}: {free / GIB:.1f} GiB are free; making it takes {NEEDED_GIB}. Name another disk."
        )
    print(
        f"making {folder}, once: with CUDA, as pip installs it on Linux, a download of 4 GB and 8 GB of disk. "
        "Ctrl-C leaves nothing behind.",
        flush=True,
    )
    pip = [str(program), "-m", "pip", "install"]
    for command in (
        [python, "-m", "venv", str(folder)],
        [*pip, "--quiet", "--upgrade", "pip"],
        [*pip, "--constraint", str(PINNED), *PACKAGES],
    ):
        status = subprocess.run(command, env=clean_variables()).returncode
        if status:
            raise UserError(
                f"{shlex.join(command)} ended with status {status}; its words are above, and nothing is left of the "
                f"environment.\nWhere pip has no network, make one where it has, with\n"
                f"  pip install --constraint {PINNED} {' '.join(PACKAGES)}\nand give it as --env DIR."
            )


def find_python():
    """A Python that the tool's versions run on. Raises `UserError`."""
    for name in (sys.executable, "python3.12", "python3.11"):
        path = shutil.which(name)
        test = "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))"
        if path and subprocess.run([path, "-c", test], capture_output=True).returncode == 0:
            return path
    raise UserError("numpy < 2 wants Python 3.11 or 3.12, with venv: install one, and name it by --python.")


# ---- the measurement


def clean_variables():
    """The environment's variables, without those that would mix two Pythons, and with those that forbid downloads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}


def measure(program, job):
    """What the worker finds. Raises `UserError`, or `SystemExit` where the worker has said why itself."""
    with tempfile.TemporaryDirectory() as folder:
        job = {**job, "result": os.path.join(folder, "result.json")}
        path = pathlib.Path(folder, "job.json")
        path.write_text(json.dumps(job))
        status = subprocess.run([str(program), "-I", str(WORKER), str(path)], env=clean_variables()).returncode
        if status == TOLD:
            raise SystemExit(1)
        if status:
            killed = " (killed: out of memory?)" if status == -signal.SIGKILL else ""
            raise UserError(f"{program} {WORKER} ended with status {status}{killed}; its words are above.")
        return json.loads(pathlib.Path(job["result"]).read_text())


def report(result):
    """The result as lines: the figure, and what it was measured with."""
    versions = result["versions"]
    extrapolated = result["fad_inf"]
    if extrapolated is not None:
        extrapolated = f", FAD-inf {extrapolated:.4g} (R2 of its line {result['fad_inf_r2']:.2f})"
    yield f"FAD {result['fad']:.4g}{extrapolated or ''}"
    for side in ("generated", "real"):
        one = result[side]
        left_out = f", {len(one['left_out'])} files left out" * bool(one["left_out"])
        each = sorted(one["seconds_each"].values())
        length = f"{each[0]:.1f} to {each[-1]:.1f} s each, {one['windows']} windows{left_out}"
        yield f"{side:<10}{one['folder']}: {one['songs']} songs of {length}"
    yield f"embedding {result['embedding']}, {result['weights']['file']} (sha256 {result['weights']['sha256'][:8]})"
    yield f"tool      fadtk {versions['fadtk']}, torch {versions['torch']}, on {result['device']}"
    yield from (f"note: {note}" for note in result["notes"])


def main(argv=None):
    options = arguments(argv)
    job = {side: audio_files(side, getattr(options, side), options.n) for side in ("generated", "real")}
    check_weights(options.weights, options.embedding)
    if options.out:
        check_out(options.out)
    job |= {name: getattr(options, name) for name in ("embedding", "weights", "trust_weights", "save")}
    result = measure(environment(options.env, options.python), job)
    for side in ("generated", "real"):
        result[side]["folder"] = getattr(options, side)
    print("\n".join(report(result)))
    if options.out:
        path = pathlib.Path(options.out)
        path.with_name(path.name + ".part").write_text(json.dumps(result, indent=1) + "\n")
        path.with_name(path.name + ".part").replace(path)
    return 0


if __name__ == "__main__":
    cli.run(main)
