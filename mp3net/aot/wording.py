"""A `report` as lines for a terminal."""

from mp3net.aot.report import TITLES


def lines(found):
    """What a TPU's compiler says of a configuration, from `report`'s dictionary."""
    said = [_title(found), f"{'':<14}{'temporaries':>12}{'TFLOP':>10}{'GB moved':>10}{'estimate':>12}{'roofline':>12}"]
    said += [_row(title, found[update]) for update, title in TITLES.items()]
    said.append(
        f"{'iteration':<46}{_seconds(found['iteration_s'])}{_seconds(found['roofline_iteration_s'])}"
        f"   a D update and 1/{found['steps_per_round']} of a G update"
    )
    said.append(memory(found))
    if found["fits"]:
        said.append(_days(found))
    if any(found[update]["fits"] and found[update]["estimate_s"] is None for update in TITLES):
        said.append("The compiler gives no estimate of its own for one of them; the roofline is a bound from below.")
    if found["iteration_s"] is not None and found["iteration_s"] < 0.95 * found["roofline_iteration_s"]:
        said.append("The roofline is too high here: what moves within the chip is counted as if it were HBM's traffic.")
    versions = ", ".join(f"{name} {version}" for name, version in found["compiler"].items())
    said.append(
        f"These are figures of the compiler ({versions}) for one {found['device']}, without the exchange between "
        f"{found['device']}s; nothing was run on a TPU."
    )
    return said


def memory(found):
    """Whether a report's configuration fits, and how much it takes."""
    there, taken = f"{found['hbm_there_gib']:.2f} GiB of HBM", f"{found['hbm_gib']:.2f}"
    if _fails(found):
        return f"does not compile, whatever room there is ({there})"
    if not found["fits"]:
        return f"does not fit: it wants {taken} of {there}"
    return f"fits: {taken} of {there}, {found['state_gib']:.2f} of it weights and optimizers"


def otherwise(found):
    """Why a report's configuration does not fit, for a table beside what does."""
    return "the compiler fails on it" if _fails(found) else f"{found['hbm_gib']:.2f} GiB"


def advice(fitting, tried):
    """What to set where a configuration does not fit: `fitting` is a `report` that does, None if all `tried` fail."""
    if fitting is None:
        return (
            f"Nothing that was tried fits ({tried or 'there is nothing to try'}): take a larger TPU or a smaller model."
        )
    iteration_s = fitting["iteration_s"] or fitting["roofline_iteration_s"]
    cost = "" if iteration_s is None else f", {iteration_s:.4f} s an iteration"
    return f"With {tried}: {memory(fitting)}{cost} (compiled, not guessed)"


def largest(found):
    """The largest batch that was found to fit."""
    batch, device, count = found["largest_batch_per_device"], found["device"], found["devices"]
    if not batch:
        return f"Not one example fits a {device}."
    return f"A {device} has room for a batch of {batch} (compiled); {count} of them for {found['largest_batch']}."


def _fails(found):
    return any("defect" in found[update] for update in TITLES)


def _title(found):
    device, share = found["device"], found["batch_per_device"]
    parts = share // found["micro_batch"]
    how = f", in {parts} micro-batches of {found['micro_batch']}" if parts > 1 else ""
    count = found["devices"]
    return f"TPU {found['topology']}: {count} {device}{'s' * (count > 1)}, {share} example{'s' * (share > 1)} each{how}"


def _row(title, update):
    if update["fits"] is None:
        return f"{title:<14}  not compiled, for the other one is in vain"
    if "defect" in update:
        return f"{title:<14}  the compiler fails on it: {update['defect']}"
    if not update["fits"]:
        return f"{title:<14}  does not fit: it wants {update['hbm_gib']:.2f} GiB"
    return (
        f"{title:<14}{update['temporaries_gib']:>8.2f} GiB{update['tflop']:>10.4g}{update['gb_moved']:>10.4g}"
        f"{_seconds(update['estimate_s'])}{_seconds(update['roofline_s'])}"
    )


def _seconds(value):
    return f"{'-':>12}" if value is None else f"{value:>10.3g} s"


def _days(found):
    return (
        f"{found['steps']:,} iterations: {_lasting(found['days'])} by the compiler's estimate, "
        f"{_lasting(found['roofline_days'])} by the roofline ({found['peak_bf16_tflops']:g} TFLOP/s in bfloat16, "
        f"{found['peak_hbm_gb_per_s']:g} GB/s of HBM)"
    )


def _lasting(days):
    if days is None:
        return "unknown"
    if days >= 2:
        return f"{days:.1f} days"
    return f"{24 * days:.1f} hours" if days >= 1 / 12 else f"{86400 * days:.3g} s"
