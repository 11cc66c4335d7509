"""What would fit: the largest batch of one device, and what to change where its share of a batch does not fit."""

import dataclasses

from mp3net.aot.lowering import ROUND
from mp3net.aot.report import Way, both_updates

_DOUBT = 1.2  # by how much a prediction of memory must exceed what there is for an attempt to be left out
_MOST_SAVED = 3  # recomputation divides what activations take by no more than that
MOST = 256  # examples at once that are tried: a program grows with each, and so does the time to compile it


def largest_batch(steps):
    """The most examples at once that one device has room for, by compiling rounds of a few batches, whole.

    Two are compiled, and the line through what they take says how many fit; that many are compiled to confirm it, and
    fewer until they do fit. Where there is no such line they are doubled. Returns: a batch, `MOST` at most; 0 where not
    even one example fits.
    """
    taken, fitting = {}, {}

    def attempt(batch):
        found = steps.figures(Way(batch), (ROUND,))[ROUND]
        fitting[batch] = found["fits"]
        if found["hbm_gib"] is not None:
            taken[batch] = found["hbm_gib"]
        return found["fits"]

    share = min(steps.share, MOST)
    second = 2 * share if attempt(share) else share // 2
    if 1 <= second <= MOST:
        attempt(second)
    while True:
        low = max((batch for batch, fits in fitting.items() if fits), default=0)
        high = min((batch for batch, fits in fitting.items() if not fits), default=MOST + 1)
        reach = _reach(taken, steps.machine.chip.hbm_gib)
        guess = max(1, min(2 * low if reach is None else reach, high - 1))
        if guess <= low or guess >= high:
            return low
        if attempt(guess) and reach is not None:
            return guess


def _reach(taken, hbm_gib):
    """Where the line through the two largest batches of {batch: GiB} meets what there is; None where it does not.

    It may fall: where memory is short the compiler keeps less and computes it again.
    """
    if len(taken) < 2:
        return None
    (first, first_gib), (second, second_gib) = sorted(taken.items())[-2:]
    slope = (second_gib - first_gib) / (second - first)
    return None if slope <= 0 else min(MOST, int(first + (hbm_gib - first_gib) / slope))


def way_that_fits(steps, way, wanted_gib, log):
    """The first that fits of: a TPU's time split and recomputation, which change a run by rounding alone; then the
    largest micro-batch; then the smallest with both.

    Args:
      steps: `Steps`.
      way, wanted_gib: the `Way` that does not fit and what it takes: what is far out of reach by that is not compiled.
      log: takes a line for each attempt.

    Returns: (`Way`, what to set for it, as gin bindings), or (None, all that was tried) where nothing fits.
    """
    bindings = {}
    for bindings, changed in _changes(steps, way, wanted_gib):
        log(f"trying {_text(bindings)}")
        if all(update["fits"] for update in both_updates(steps, changed).values()):
            return changed, _text(bindings)
    return None, _text(bindings)


def _changes(steps, way, wanted_gib):
    """(gin bindings, `Way`) of each change to try."""
    room_gib, activations_gib = steps.machine.chip.hbm_gib - steps.state_gib, wanted_gib - steps.state_gib

    def hopeless(batch, saving=1):
        return activations_gib * batch / way.batch / saving > _DOUBT * room_gib

    execution, bindings = way.execution or steps.execution, {}
    split = dataclasses.replace(execution, segments=None)  # as many rows as a TPU's tiles take
    if execution.on("TPU", steps.system.sizes) != split.on("TPU", steps.system.sizes):
        execution, bindings = split, {"Execution.segments": None}
        activations_gib = room_gib  # of which nothing is known now
        yield bindings, steps.way(way.batch, execution)
    saving, more = dataclasses.replace(execution, recompute=True), bindings | {"Execution.recompute": True}
    if not execution.recompute and (way.batch == 1 or not hopeless(way.batch, _MOST_SAVED)):
        yield more, steps.way(way.batch, saving)
    batch = way.batch
    while batch > 1:
        batch = steps.way(batch // 2).batch
        if batch == 1 or not hopeless(batch):
            yield bindings | {"train.micro_batch": batch}, steps.way(batch, execution)
    if not execution.recompute and batch < way.batch:
        yield more | {"train.micro_batch": batch}, steps.way(batch, saving)


def _text(bindings):
    said = [f"{name} = {value}" for name, value in bindings.items()]
    if any(name.startswith("Execution.") for name in bindings):
        said.append("MP3net.execution = @Execution()")  # without which the others would have no effect
    return ", ".join(said)
