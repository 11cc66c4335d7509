"""What fits a GPU: rounds of the larger configurations, compiled in every way that `describe --gpu` tries, as a table.

    python benchmarks/gpu_memory.py [--gin 95s ...] [--doc docs/gpus.md]

Compiled for an H100 by JAX's CUDA plugin (pip install 'mp3net[cpu,jax-cuda]'), which needs no GPU: a minute or two each
on 2 cores, then cached. Rows are kept in benchmarks/gpu_memory.json; `--doc` puts the table into that file.
"""

import argparse
import json
import pathlib
import re

from common import tensorflow

FOLDER = pathlib.Path(__file__).resolve().parent
ROWS = FOLDER / "gpu_memory.json"
SIZES = (8, 16, 24, 48, 80)  # GiB
RATE = 100.0  # TFLOP/s that days are given at
NAMES = ("lab", "95s", "5s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gin", nargs="*", default=NAMES, help="configurations to compile; none: those of before")
    parser.add_argument("--doc", metavar="FILE", help="put the table of all that was compiled into this file")
    options = parser.parse_args()
    tensorflow()
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    for name in options.gin:
        rows[name] = accounts(name)
        ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if options.doc:
        path = pathlib.Path(options.doc)
        mark = "<!-- gpu table -->\n", "<!-- end of gpu table -->"
        text = re.sub(
            f"{mark[0]}.*{mark[1]}", lambda _: mark[0] + table(rows) + "\n" + mark[1], path.read_text(), flags=re.S
        )
        path.write_text(text)


def accounts(name):
    """Every way of a configuration on a GPU, and its arithmetic: plain JSON."""
    from mp3net import configuration
    from mp3net.aot import card, compiling

    training = configuration.load([name], [])[0]
    gpu = card.Card(training, None, lambda line: print(f"{name}: {line}", flush=True), "h100")
    ways = [({}, gpu.way()), *card.changes(gpu, gpu.way())]
    d_tflop, g_tflop = gpu.tflop()
    return {
        "batch": gpu.share,
        "steps": training.steps,
        "iteration_tflop": d_tflop + g_tflop / gpu.system.steps_per_round,
        "compiler": compiling.versions(compiling.GPU),
        "ways": [{"set": bindings, "micro_batch": way.batch, **gpu.account(way)} for bindings, way in ways],
    }


def table(rows):
    """Rows as Markdown: for each size of card the first way that fits it."""
    from mp3net.aot import card, chips

    head = ["| | " + " | ".join(f"{size} GiB" for size in SIZES) + f" | at {RATE:g} TFLOP/s |"]
    head.append("|---" * (len(SIZES) + 2) + "|")
    for name, row in rows.items():
        cells = []
        for size in SIZES:
            room = chips.gpu(size, "").chip.hbm_gib
            way = next((way for way in row["ways"] if way["hbm_gib"] <= room), None)
            setting = (
                "nothing that was tried"
                if way is None
                else f"`{card.text_of(way['set'])}`"
                if way["set"]
                else "as it is"
            )
            cells.append(setting + ("" if way is None else f": {way['hbm_gib']:.1f} GiB"))
        days = row["iteration_tflop"] * row["steps"] / RATE / 86400
        lasting = f"{days:.1f} days" if days >= 2 else f"{24 * days:.1f} hours"
        head.append(f"| `{name}` | " + " | ".join(cells) + f" | {lasting} |")
    versions = ", ".join(f"{name} {version}" for name, version in next(iter(rows.values()))["compiler"].items())
    return "\n".join([*head, "", f"({versions})"])


if __name__ == "__main__":
    from mp3net import cli

    cli.run(main)
