"""One visit to a machine with a card, JAX and NumPy: figures of the paper's configurations, then training till its end.

    python scripts/card.py --export card --gin demo --data demo/corpus [--gin_param ...]  # here, with TensorFlow
    python card/card.py --minutes 12 [--out OUT]                                          # there
    python -m mp3net.train --import card/run --workdir runs/card                          # here; OUT/state to card/run

The visit times a D and a G update of 95s at batch 8 and of 5s at batch 64 in bfloat16 (benchmarks/gpu.py), in at most a
third of the time, then trains (run.py of the export). What fails is output, and the rest goes on. What is to be carried
back is in OUT, or in card/: 95s.json, 5s.json, report.md, and state/ in files of at most 15 MiB.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
STEPS = {"95s": 8, "5s": 64}  # configurations that are timed, and their batches
SHARE = 1 / 3  # of the time, for the figures
LEFT_S = 45  # for the last save, of a visit that must not be cut off


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", metavar="DIR", help="write the visit")
    parser.add_argument("--minutes", type=float, default=12, help="of the visit (12)")
    parser.add_argument("--out", metavar="DIR", help="for what comes back (beside this file)")
    parser.add_argument("--steps", nargs="*", metavar="GIN:BATCH", help="in place of 95s:8 and 5s:64, to try it small")
    options, rest = parser.parse_known_args()
    if options.export:
        return export(pathlib.Path(options.export), options.steps, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return visit(options.minutes, pathlib.Path(options.out or HERE))


def export(folder, steps, rest):
    """Writes what travels; returns the exit status."""
    root = HERE.parent
    chosen = dict(step.rsplit(":", 1) for step in steps) if steps is not None else STEPS
    for gin, batch in chosen.items():
        line = ["benchmarks/gpu.py", "--export", folder / f"step-{pathlib.Path(gin).stem}", "--gin", gin]
        run([root / line[0], *line[1:], "--batch", batch, "--precision", "bfloat16"])
    run(["-m", "mp3net.train", "--export", folder / "run", *rest])
    shutil.copy(__file__, folder / "card.py")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB. There: python {folder.name}/card.py --minutes 12")
    return 0


def run(arguments):
    """Runs Python to its end; ends this process where it fails."""
    done = subprocess.run([sys.executable, *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(f"error: {arguments[0]} failed, status {done.returncode}; what it printed says why.")


def visit(minutes, out):
    """Figures, then training; returns the exit status, 1 where anything failed."""
    begun, failed = time.monotonic(), []
    out.mkdir(parents=True, exist_ok=True)
    report = [f"# {time.strftime('%Y-%m-%d %H:%M')}"]
    steps = sorted(HERE.glob("step-*"))
    for done, folder in enumerate(steps):
        left_s = begun + 60 * minutes * SHARE * (done + 1) / len(steps) - time.monotonic()
        line = [sys.executable, str(folder / "gpu.py"), "--time", str(folder)]
        stopped, output = attempt(line, left_s)
        report.append(output)
        if stopped:
            failed.append(folder.name)
        if (folder / "time.json").exists():
            shutil.copy(folder / "time.json", out / f"{folder.name.removeprefix('step-')}.json")
        (out / "report.md").write_text("\n\n".join(report) + "\n")
    left = minutes - (time.monotonic() - begun + LEFT_S) / 60
    line = [sys.executable, "-u", str(HERE / "run" / "run.py"), "--minutes", f"{max(0.1, left):.2f}"]
    line += ["--out", str(out / "state")]
    print("training", flush=True)
    if subprocess.run(line, check=False).returncode:
        failed.append("run")
    print(f"failed: {', '.join(failed)}" if failed else "all done", flush=True)
    return int(bool(failed))


def attempt(line, seconds):
    """(whether it failed, what it printed) of a command that may take so many seconds."""
    print(" ".join(line), flush=True)
    try:
        done = subprocess.run(line, timeout=max(1, seconds), check=False, stdout=subprocess.PIPE, text=True)
        output = done.stdout + (f"\nfailed, status {done.returncode}" if done.returncode else "")
    except subprocess.TimeoutExpired as error:
        done, output = None, (error.stdout or b"").decode() + f"\nstopped after {seconds:.0f} s"
    print(output, flush=True)
    return done is None or done.returncode != 0, output


if __name__ == "__main__":
    sys.exit(main())
