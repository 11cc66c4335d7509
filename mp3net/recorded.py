"""What a checkpoint records of its run, read as data: nothing of a checkpoint is ever run, its gin text included."""

import ast

from mp3net.data.pipeline import DataSettings
from mp3net.errors import UserError

_KINDS = {
    "years": lambda value: value is None or _all(value, int),
    "splits": lambda value: value is None or _all(value, str),
    "slicing": lambda value: isinstance(value, str),
    "peak": lambda value: value is None or isinstance(value, int | float),
    "upmix": lambda value: isinstance(value, bool),
}  # of those settings that say what is heard; how it is read is this machine's affair


def to_json(settings, seed):
    """What `settings_of` gives back of a `DataSettings` and of the seed of a run, as plain JSON."""
    return {"data": {name: getattr(settings, name) for name in _KINDS}, "seed": seed}


def settings_of(checkpoint):
    """(the `DataSettings`, the seed) of the run of a `Checkpoint`. Raises `UserError` where they are damaged."""
    saved = checkpoint.host_state.get("settings")
    if saved is None:  # of a release that kept the text alone
        saved = _literals(checkpoint.configuration)
    try:
        data, seed = {name: value for name, value in saved["data"].items() if name in _KINDS}, saved["seed"]
        if not all(_KINDS[name](value) for name, value in data.items()) or not _is(seed, int) or not 0 <= seed < 2**31:
            raise ValueError("a setting is not of its kind")
        return DataSettings(**data), seed
    except (AttributeError, KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{checkpoint.path} is damaged: the settings of its data cannot be read ({error}).") from None


def _literals(text):
    """As `to_json`, from those lines of a configuration's text that set plain values."""
    values = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            try:
                values[name.strip()] = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue  # a reference, or another thing that gin would run
    data = {name: values[f"data.{name}"] for name in _KINDS if f"data.{name}" in values}
    return {"data": data, "seed": values.get("train.seed", 0)}


def _all(values, kind):
    return isinstance(values, list | tuple) and all(_is(value, kind) for value in values)


def _is(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool)
