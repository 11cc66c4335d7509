"""What training would cost on TPUs, by the TPUs' own compiler: the table of the README. No TPU is needed.

    python benchmarks/tpu.py [--gin 95s] [--tpu v2-8] [--readme README.md] [--round]

Needs pip install 'mp3net[aot]'. All of it takes hours on 2 cores; what was compiled before is read from the cache.
Where a device's share of the batch does not fit, the row says with which setting it does, and what it comes to
otherwise. Rows that are not asked for stay as they are in the JSON. The rows' memory is the larger of their D and G
updates'; `--round` compiles a whole round as the one program that training makes of it, and adds what that takes
(`round`).
"""

import argparse
import json
import pathlib

CONFIGURATIONS = ("95s", "5s")
_MARKS = ("<!-- tpu table -->", "<!-- end of tpu table -->")
_HEADER = (
    "| | TPU | batch of a device | fits with | HBM, GiB | TFLOP per D, G update | iteration, s: estimate (bound) "
    "| the whole run: estimate (bound) |",
    "|---|---|---|---|---|---|---|---|",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gin", action="append", help="a configuration (95s and 5s)")
    parser.add_argument("--tpu", action="append", help="a TPU (all)")
    parser.add_argument("--json", default=str(pathlib.Path(__file__).with_name("tpu.json")))
    parser.add_argument("--round", action="store_true", help="also compile a whole round as one program")
    parser.add_argument("--readme", metavar="FILE", help="rewrite the table in this file, between its marks")
    options = parser.parse_args()
    from mp3net.aot import chips, compiling

    machines = [chips.find(name) for name in options.tpu or chips.MACHINES]
    compiling.versions()
    if options.readme:  # before the hour that the figures take
        with_table(pathlib.Path(options.readme).read_text(), "")
    path = pathlib.Path(options.json)
    rows = json.loads(path.read_text()) if path.exists() else {}
    for gin in options.gin or CONFIGURATIONS:
        for machine in machines:
            rows.setdefault(gin, {})[machine.name] = measured(gin, machine, options.round)
            path.write_text(json.dumps(rows, indent=2) + "\n")
    said = table(rows)
    print(said)
    if options.readme:
        readme = pathlib.Path(options.readme)
        readme.write_text(with_table(readme.read_text(), said))


def measured(gin, machine, whole_round=False):
    """The `report` of a configuration, in the first way that fits: plain JSON, with what was set for it.

    With `whole_round` also the figures of a round as one program.
    """
    from common import tensorflow

    tensorflow()
    from mp3net import configuration
    from mp3net.aot import fitting, wording
    from mp3net.aot.lowering import ROUND
    from mp3net.aot.report import Steps, report

    def log(line):
        print(f"{gin}, {machine.name}: {line}", flush=True)

    steps = Steps(configuration.load([gin])[0], machine, log)
    way, bindings, otherwise = steps.way(), "", None
    found = report(steps, way)
    if not found["fits"]:
        otherwise = wording.otherwise(found)
        way, bindings = fitting.way_that_fits(steps, way, found["hbm_gib"], log)
        found = found if way is None else report(steps, way)
    if whole_round and way is not None:
        found[ROUND] = steps.figures(way, (ROUND,))[ROUND]
        log(f"{found[ROUND]['hbm_gib']:.2f} GiB for a round as one program, {found['hbm_gib']:.2f} for an update")
    return {**found, "set": bindings, "otherwise": otherwise}


def table(rows):
    """The rows as Markdown, the machines in the order of their generations."""
    from mp3net.aot import chips

    order = list(chips.MACHINES)
    lines = [_row(gin, rows[gin][name]) for gin in rows for name in sorted(rows[gin], key=order.index)]
    first = next(iter(next(iter(rows.values())).values()))
    versions = ", ".join(f"{name} {version}" for name, version in first["compiler"].items())
    note = (
        f"By the TPUs' compiler ({versions}), for one device and without the exchange between devices: nothing was run "
        "on a TPU. The bound is what arithmetic and memory traffic take at the published peaks; from v4 on the "
        "compiler counts as traffic what moves within the chip too, so that there it may lie above the estimate."
    )
    return "\n".join([*_HEADER, *lines, "", note])


def with_table(text, table):
    """A text with what stands between its marks replaced. Raises `UserError` where it has no such place."""
    from mp3net.errors import UserError

    start, end = (text.find(mark) for mark in _MARKS)
    if not 0 <= start < end:
        raise UserError(f"The file has no place for the table: two lines, {_MARKS[0]} and {_MARKS[1]}.")
    return f"{text[: start + len(_MARKS[0])]}\n{table}\n{text[end:]}"


def _row(gin, found):
    memory = f"{found['hbm_gib']:.2f} of {found['hbm_there_gib']:.2f}"
    start = f"| `{gin}` | {found['topology']} | {found['batch_per_device']} |"
    if not found["fits"]:
        return f"{start} does not fit, not even with {found['set'] or 'anything'} | {memory} | | | |"
    fits_with = f"`{found['set']}` (otherwise {found['otherwise']})" if found["set"] else "nothing set"
    return (
        f"{start} {fits_with} | {memory} | {_figure(found['d_step']['tflop'])}, {_figure(found['g_step']['tflop'])} "
        f"| {_figure(found['iteration_s'])} ({_figure(found['roofline_iteration_s'])}) "
        f"| {_lasting(found['days'])} ({_lasting(found['roofline_days'])}) |"
    )


def _figure(value):
    return "-" if value is None else f"{value:.3g}"


def _lasting(days):
    if days is None:
        return "-"
    return f"{24 * days:,.0f} h" if days > 0.1 else f"{86400 * days:.3g} s"


if __name__ == "__main__":
    from mp3net import cli

    cli.run(main)
