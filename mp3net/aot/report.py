"""What a configuration costs on a TPU: the figures of its compiler, and what follows from them."""

import gc
import math
from dataclasses import dataclass
from typing import Any

from mp3net.aot import compiling, stablehlo
from mp3net.aot.chips import Machine
from mp3net.aot.lowering import ROUND, UPDATES, lower, state_bytes, tensor_type
from mp3net.stage import Place, parts_of

TITLES = {"d_step": "D update", "g_step": "G update"}
_TITLES = {**TITLES, ROUND: "whole round"}
_DAY_S = 86400
_GIB = 2**30
_UNKNOWN = dict.fromkeys(("fits", "hbm_gib", "temporaries_gib", "tflop", "gb_moved", "estimate_s", "roofline_s"))


@dataclass(frozen=True)
class Way:
    """How one device takes its examples: how many at once, how often for one update, and by which of the model's
    `Execution`s, None for the configured one.
    """

    batch: int
    parts: int = 1
    execution: Any = None

    def __str__(self):
        return f"batch {self.batch}" + (f" x {self.parts}" if self.parts > 1 else "")


class Steps:
    """The updates of one configuration on one device of a machine, compiled as they are asked for.

    Args:
      training: a `Training`, of whose stages the longest is taken.
      machine: a `Machine` of chips.py.
      log: takes lines of progress.
    """

    def __init__(self, training, machine: Machine, log):
        self.training, self.system, self.machine, self._log = training, training.system, machine, log
        self.share = machine.share(self.system.batch_size)
        self._stage = max(self.system.stages(training.steps), key=lambda stage: stage.steps)
        self.execution = self.system.execution  # as configured
        self._build(self.execution)

    def _build(self, execution):
        self._log("making the model's variables")
        self.system.execution = self._built = execution
        gc.collect()  # the variables before, and the graphs that hold them: gigabytes, where many ways are tried
        self.system.build(Place(self.machine.chip.platform, xla=True), self.training.seed)

    @property
    def state_gib(self):
        """All variables, which every device holds."""
        return state_bytes(self.system) / _GIB

    def way(self, micro_batch=None, execution=None):
        """The `Way` of a device's share in parts of at most `micro_batch`, by default that of `training`, and cut as
        training cuts it.
        """
        parts = parts_of(self.share, micro_batch or self.training.micro_batch)
        return Way(self.share // parts, parts, execution)

    def _data_gib(self, batch):
        """The data of a device's calls beyond those of one round, which its programs take: two calls' are held at once.

        `batch` counts the examples of an update.
        """
        round_bytes = 4 * self.system.steps_per_round * batch * math.prod(self.system.sizes.output_shape)
        rounds = self.training.rounds_per_call or self.system.place.rounds_per_call(round_bytes)
        return (2 * rounds - 1) * round_bytes / _GIB

    def figures(self, way, updates=UPDATES):
        """What each of `updates`, or of `ROUND`, takes, as plain JSON, by update (see `_figures`)."""
        execution = way.execution or self.execution
        if execution != self._built:
            self._build(execution)
        self._log(f"tracing {' and '.join(_TITLES[update] for update in updates)}, {way}")
        batch = way.batch * way.parts
        programs, found = lower(self.system, self._stage, batch, way.parts, updates), {}
        for update, program in programs.items():
            others = [tensor_type(variable) for variable in program.others]
            text = stablehlo.with_unused(program.text, others + self._waiting(program, batch))
            title = f"{_TITLES[update]}, {way}"
            found[update] = self._figures(self._compiled(text, title), way)
        return found

    def _compiled(self, text, title):
        return compiling.compiled(text, self.machine.chip.topology, title, self._log)

    def _waiting(self, program, batch):
        """The (shape, dtype) of those batches of a round that `program` does not take: all are there from the start."""
        real = (batch, *self.system.sizes.output_shape), "f32"
        return [real] * (self.system.steps_per_round - program.batches)

    def _figures(self, found, way):
        """Of one compiled update: HBM in all and its temporaries in GiB, TFLOP, GB moved, seconds by the compiler's
        estimate and by the roofline. What is not known is None: all but `hbm_gib` where the program does not fit, all
        where the compiler fails on it ("defect").
        """
        data_gib = self._data_gib(way.batch * way.parts)
        if "defect" in found:
            return _UNKNOWN | {"fits": False, "defect": found["defect"]}
        if not found["fits"]:
            return _UNKNOWN | {"fits": False, "hbm_gib": found["wanted_gib"] + data_gib}
        program_gib = found["arguments_gib"] + found["temporaries_gib"] + found["outputs_gib"] - found["aliased_gib"]
        # The compiler counts a loop's body once, as it does the optimizer: an update in parts comes out a little high.
        tflop, gb_moved = way.parts * found["tflop"], way.parts * found["gb_moved"]
        estimate_s = found["estimate_s"]
        return {
            "fits": program_gib + data_gib <= self.machine.chip.hbm_gib,
            "hbm_gib": program_gib + data_gib,
            "temporaries_gib": found["temporaries_gib"],
            "tflop": tflop,
            "gb_moved": gb_moved,
            "estimate_s": None if estimate_s is None else way.parts * estimate_s,
            "roofline_s": self.machine.chip.roofline_s(tflop, gb_moved),
        }


def both_updates(steps, way):
    """The `Steps.figures` of both updates, the larger one first: where it does not fit, the other is not compiled.

    It can take over half an hour, as it did for eight examples of 95s on v5e, in vain.
    """
    first, *others = UPDATES
    found = steps.figures(way, (first,))
    return found | (steps.figures(way, others) if found[first]["fits"] else dict.fromkeys(others, _UNKNOWN))


def report(steps, way):
    """Both updates in one `Way`, and the run that they make, as plain JSON."""
    found = both_updates(steps, way)
    machine, per_round = steps.machine, steps.system.steps_per_round
    iteration_s = _iteration_s(found, "estimate_s", per_round)
    roofline_s = _iteration_s(found, "roofline_s", per_round)
    return {
        "topology": machine.name,
        "compiled_for": machine.chip.topology,
        "devices": machine.devices,
        "device": machine.chip.device,
        "batch_per_device": steps.share,
        "micro_batch": way.batch,
        "fits": all(update["fits"] for update in found.values()),
        "hbm_gib": max(update["hbm_gib"] or 0 for update in found.values()),
        "hbm_there_gib": machine.chip.hbm_gib,
        "state_gib": steps.state_gib,
        **found,
        "steps_per_round": per_round,
        "iteration_s": iteration_s,
        "roofline_iteration_s": roofline_s,
        "steps": steps.training.steps,
        "days": _days(iteration_s, steps.training.steps),
        "roofline_days": _days(roofline_s, steps.training.steps),
        "peak_bf16_tflops": machine.chip.bf16_tflops,
        "peak_hbm_gb_per_s": machine.chip.hbm_gb_per_s,
        "compiler": compiling.versions(),
    }


def _iteration_s(found, kind, per_round):
    """Seconds of a D update and its share of a G update; None where one is not known."""
    d_s, g_s = (found[update][kind] for update in UPDATES)
    return None if d_s is None or g_s is None else d_s + g_s / per_round


def _days(iteration_s, count):
    return None if iteration_s is None else iteration_s * count / _DAY_S
