"""Errors whose message is written for the person at the keyboard: what happened, where, and what to do."""

import math


class UserError(Exception):
    """Something the user can mend. Its text is printed as it is, without a traceback; exit status 1."""


class UsageError(UserError):
    """A command line that does not fit; exit status 2."""


def check_number(name, value, low=None, above=None, high=None, whole=False, optional=False):
    """Raises `UserError` unless `value` is a finite number, of at least `low`, more than `above` and at most `high`.

    `whole` asks for an int, `optional` lets None pass. `name` is what stands in a configuration: MP3net.batch_size.
    """
    if value is None and optional:
        return
    kinds = int if whole else (int, float)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if fits and (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high):
        return
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", low), ("above", above), ("at most", high))
        if bound is not None
    ]
    what = "a whole number" if whole else "a number"
    raise UserError(
        f"{name} is {value!r}; it must be {' '.join([what, ' and '.join(bounds)]).strip()}{', or None' * optional}."
    )
