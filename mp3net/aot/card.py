"""What a configuration takes on one GPU: memory by a compiler, arithmetic by count; and what to set to fit it."""

import dataclasses

from mp3net.aot import chips, compiling
from mp3net.aot.lowering import ROUND, UPDATES
from mp3net.aot.report import Steps, Way

_DAY_S = 86400
_TARGETS = {
    "here": "the compiler of this machine's GPU",
    "h100": "the compiler of an H100, which this machine need not have",
    "cpu": "the compiler of this CPU, as JAX's CUDA plugin is not installed (pip install 'mp3net[cpu,jax-cuda]')",
}


class Card(Steps):
    """Rounds of one configuration on one GPU, compiled as they are asked for.

    Args:
      training: a `Training`.
      gib: the memory of the card; None where that is not known.
      log: takes lines of progress.
      target: of gpu_compiler.py; None takes the best there is.
      devices: cards that share a batch, of which one is looked at.
    """

    def __init__(self, training, gib, log, target=None, devices=1):
        self.gib, self.target = gib, target or compiling.gpu_target()
        super().__init__(training, chips.gpu(float("inf") if gib is None else gib, self.target, devices), log)
        self._arithmetic = {}

    def account(self, way):
        """What a `Way` takes, as plain JSON: GiB in all and of temporaries, and whether that fits."""
        return self.figures(way, (ROUND,))[ROUND]

    def tflop(self):
        """TFLOP of a D update and of a G update of a card's share, as the configuration has them computed."""
        target, self.target = self.target, "count"
        try:
            way = self.way()
            return tuple(self.figures(way, UPDATES)[update]["tflop"] for update in UPDATES)
        finally:
            self.target = target

    def _compiled(self, text, title):
        return compiling.compiled(text, self.target, title, self._log, compiling.GPU)

    def _figures(self, taken, way):
        if "tflop" in taken:
            return {"tflop": way.parts * taken["tflop"]}
        arguments_gib, outputs_gib = taken["arguments_gib"], taken["outputs_gib"] - taken["aliased_gib"]
        taken_gib = arguments_gib + taken["temporaries_gib"] + outputs_gib + self._data_gib(way.batch * way.parts)
        fits = taken_gib <= self.machine.chip.hbm_gib
        return {"fits": fits, "hbm_gib": taken_gib, "temporaries_gib": taken["temporaries_gib"]}


def report(training, gib, log, tflops=None, target=None, devices=1):
    """What a configuration takes on each of `devices` GPUs of `gib` GiB, and what to set where that is too much: plain
    JSON.

    Args:
      training: a `Training`.
      gib: None where it is not known: then nothing is looked for.
      log: takes lines of progress.
      tflops: the rate that the card is taken to keep up, for the days of a run; None for none.
      target: as of `Card`.
    """
    card = Card(training, gib, log, target, devices)
    way, bindings = card.way(), {}
    taken = card.account(way)
    d_tflop, g_tflop = card.tflop()
    iteration = d_tflop + g_tflop / card.system.steps_per_round
    result = {
        "gib": gib,
        "compiled_for": card.target,
        "compiler": compiling.versions(compiling.GPU),
        "devices": devices,
        "batch": way.batch * way.parts,
        "micro_batch": way.batch,
        "state_gib": card.state_gib,
        **taken,
        "d_step_tflop": d_tflop,
        "g_step_tflop": g_tflop,
        "iteration_tflop": iteration,
        "steps": training.steps,
        "tflops": tflops,
        "days": None if tflops is None else iteration * training.steps / tflops / _DAY_S,
    }
    if gib is not None and not taken["fits"]:
        result["would_fit"] = None
        for bindings, changed in changes(card, way):
            log(f"trying {text_of(bindings)}")
            taken = card.account(changed)
            if taken["fits"]:
                result["would_fit"] = {"set": bindings, "micro_batch": changed.batch, **taken}
                break
    return result


def changes(card, way):
    """(gin bindings, `Way`) of each change to try, the least first: bfloat16 and recomputation, which change a run by
    rounding alone, then micro-batches, which change the minibatch statistic. To a CPU's compiler bfloat16 is no saving.
    """
    execution, bindings = way.execution or card.execution, {}
    if execution.precision != "bfloat16" and card.target != "cpu":
        execution, bindings = dataclasses.replace(execution, precision="bfloat16"), {"Execution.precision": "bfloat16"}
        yield bindings, Way(way.batch, way.parts, execution)
    saving, more = dataclasses.replace(execution, recompute=True), bindings | {"Execution.recompute": True}
    if not execution.recompute:
        yield more, Way(way.batch, way.parts, saving)
    batch = way.batch
    while batch > 1:
        batch = card.way(batch // 2).batch
        yield bindings | {"train.micro_batch": batch}, card.way(batch, execution)
    if not execution.recompute and way.batch > 1:
        yield more | {"train.micro_batch": batch}, card.way(batch, saving)


def text_of(bindings):
    """Gin bindings as flags take them."""
    lines = [f"{name} = {value!r}" for name, value in bindings.items()]
    if any(name.startswith("Execution.") for name in bindings):
        lines.insert(0, "MP3net.execution = @Execution()")  # without which the others would have no effect
    return ", ".join(lines)


def lines(taken):
    """A `report` as lines for a terminal."""
    where = "one GPU" if taken["devices"] == 1 else f"each of {taken['devices']} GPUs"
    text = [
        f"on {where}, {taken['micro_batch']} of {taken['batch']} examples at once: {taken['hbm_gib']:.2f} GiB, "
        f"{taken['state_gib']:.2f} of it weights and optimizers, {taken['temporaries_gib']:.2f} temporaries",
        f"arithmetic: {taken['d_step_tflop']:.4g} TFLOP a D update, {taken['g_step_tflop']:.4g} a G update; "
        f"{taken['iteration_tflop'] * taken['steps'] / 1e3:.4g} PFLOP in all",
    ]
    if taken["gib"] is not None:
        text.append(_verdict(taken))
    if taken["days"] is not None:
        text.append(f"the run: {taken['days']:.1f} days at {taken['tflops']:g} TFLOP/s kept up, which was not measured")
    versions = ", ".join(f"{name} {version}" for name, version in taken["compiler"].items())
    text.append(f"Memory is by {_TARGETS[taken['compiled_for']]} ({versions}); cuDNN takes some more as it works.")
    if taken["compiled_for"] == "cpu":
        text.append("A CPU computes bfloat16 in float32, so what that saves on a GPU was not looked for.")
    return text


def _verdict(taken):
    room = f"{taken['gib']:g} GiB, of which {chips.gpu(taken['gib'], '').chip.hbm_gib:.1f} are for the program"
    if taken["fits"]:
        return f"fits {room}"
    fitting = taken["would_fit"]
    if fitting is None:
        return f"does not fit {room}, whatever was tried: take a larger card or a smaller model"
    return f"does not fit {room}; with {text_of(fitting['set'])} it takes {fitting['hbm_gib']:.2f} GiB"
