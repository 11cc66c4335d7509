"""What would fit: the largest batch of one device, and what to change where its share of a batch does not fit."""

import dataclasses

from mp3net.aot.lowering import UPDATES
from mp3net.aot.report import Way

MOST = 256  # examples at once that are tried: a program grows with each, and so does the time to compile it


def largest_batch(steps):
    """The most examples at once that one device has room for in a D update, by compiling a few batches.

    Two are compiled, and the line through what they take says how many fit; that many are compiled to confirm it, and
    fewer until they do fit. Where there is no such line they are doubled. Returns: a batch, `MOST` at most; 0 where not
    even one example fits.
    """
    taken, fitting = {}, {}

    def attempt(batch):
        found = steps.figures(Way(batch), ("d_step",))["d_step"]
        taken[batch], fitting[batch] = found["hbm_gib"], found["fits"]
        return found["fits"]

    share = min(steps.share, MOST)
    second = 2 * share if attempt(share) else share // 2
    if 1 <= second <= MOST:
        attempt(second)
    while True:
        low = max((batch for batch in taken if fitting[batch]), default=0)
        high = min((batch for batch in taken if not fitting[batch]), default=MOST + 1)
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
        return min(taken)
    (first, first_gib), (second, second_gib) = sorted(taken.items())[-2:]
    slope = (second_gib - first_gib) / (second - first)
    return None if slope <= 0 else min(MOST, int(first + (hbm_gib - first_gib) / slope))


def way_that_fits(steps, way, log):
    """The first that fits of: smaller micro-batches, a TPU's time split, recomputation, each on top of those before.

    Returns: (`Way`, what to set for it, as gin bindings), or (None, all that was tried) where nothing fits.
    """
    bindings = {}
    for name, value, changed in _changes(steps, way):
        bindings[name] = value
        log(f"trying {_text(bindings)}")
        # The D update is the larger one: where it does not fit, the G update need not be compiled.
        if all(steps.figures(changed, (update,))[update]["fits"] for update in UPDATES):
            return changed, _text(bindings)
    return None, _text(bindings)


def _changes(steps, way):
    """(gin name, value, `Way`) of each change to try, every one with those before it."""
    batch, execution, sizes = way.batch, way.execution or steps.execution, steps.system.sizes
    while batch > 1:
        batch = steps.way(batch // 2).batch
        yield "train.micro_batch", batch, steps.way(batch, execution)
    split = dataclasses.replace(execution, segments=None)  # as many as a TPU's tiles take
    if execution.on("TPU", sizes) != split.on("TPU", sizes):
        execution = split
        yield "Execution.segments", None, steps.way(batch, execution)
    if not execution.recompute:
        yield "Execution.recompute", True, steps.way(batch, dataclasses.replace(execution, recompute=True))


def _text(bindings):
    said = [f"{name} = {value}" for name, value in bindings.items()]
    if any(name.startswith("Execution.") for name in bindings):
        said.append("MP3net.execution = @Execution()")  # without which the others would have no effect
    return ", ".join(said)
