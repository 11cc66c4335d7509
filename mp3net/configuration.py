"""The gin configurations: what they may set, where they are found, and how two of them differ. The only module that
knows gin.

    Architecture, Perception, MP3net, Phase   the model (mp3net/model)
    data                                      what is read (mp3net/data/pipeline.py, DataSettings)
    train                                     how long, what is kept (mp3net/training/trainer.py, Training)
"""

import importlib.resources
import logging
import pathlib

import gin

from mp3net.data.pipeline import DataSettings
from mp3net.errors import UsageError, UserError
from mp3net.model.architecture import Architecture
from mp3net.model.execution import Execution
from mp3net.model.mp3net import MP3net
from mp3net.model.perception import Perception
from mp3net.model.phases import Phase
from mp3net.training.system import System
from mp3net.training.trainer import Training

for _each in (Architecture, Execution, Perception, MP3net, Phase):
    gin.external_configurable(_each, module="mp3net")
_data = gin.external_configurable(DataSettings, "data", module="mp3net")
_training = gin.external_configurable(Training, "train", module="mp3net")

# What may change between a run and its resumption without making it another run.
_HARMLESS = (
    "train.steps",
    "train.log_every",
    "train.save_every_steps",
    "train.save_every_minutes",
    "train.keep",
    "train.rounds_per_call",
    "train.preview_songs",
    "train.preview_every_minutes",
    "data.threads",
    "MP3net.execution",
    "Execution.precision",
    "Execution.segments",
    "Execution.recompute",
)


def load(names, parameters=()):
    """Reads configurations and single parameters over them; the whole of them is in force when it returns.

    Args:
      names: paths of gin files, or names of shipped ones, such as "95s".
      parameters: gin bindings, such as "train.steps = 2000".

    Returns: (`Training` with its system, `DataSettings`). Raises `UserError` for a name that does not exist, in a file
    or of one.
    """
    if not names:
        raise UsageError(f"--gin is missing: a gin file, or one of {', '.join(shipped())}.")
    files = [str(find(name)) for name in names]
    title = ", ".join(map(str, names))
    return _made(lambda: gin.parse_config_files_and_bindings(files, list(parameters), skip_unknown=False), title)


def _made(parse, title):
    logging.getLogger().addFilter(_not_gins)  # it logs what it raises
    gin.clear_config()
    try:
        parse()
        training, data = _training(), _data()
    except (
        Exception
    ) as error:  # a configuration is code of gin's language: what it raises is as varied as what it may hold
        raise UserError(f"{title}: {_said(error)}") from None
    if not isinstance(training.system, System):
        raise UserError(f"{title}: train.system is {training.system!r}; it is @MP3net().")
    return training, data


def in_force():
    """The text of everything that `load` put in force, defaults included."""
    return gin.operative_config_str()


def find(name):
    """The path of a gin file or of a shipped configuration.

    "95s", "95s.gin" and "configs/95s.gin" are one and the same.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path
    folder = _folder()
    packaged = folder / (path.name if path.suffix == ".gin" else path.name + ".gin")
    if path.parent.name in ("", "configs") and packaged.is_file():
        return packaged
    raise UserError(f"There is no configuration {name}: give the path of a gin file, or one of {', '.join(shipped())}.")


def shipped():
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in _folder().glob("*.gin"))


def _folder():
    """Where the shipped configurations are: beside the package in a checkout, inside it once installed."""
    package = pathlib.Path(str(importlib.resources.files("mp3net")))
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def differences(saved, current):
    """What two texts of `in_force` disagree on: ([line of what makes another run], [line of what does not])."""
    before, now = _bindings(saved), _bindings(current)
    # Where a phase counts from the end, a run of another length has it elsewhere, and is another run.
    from_the_end = any(name.endswith("Phase.last") and value != "None" for name, value in before.items())
    grave, harmless = [], []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, "not set"), now.get(name, "not set")
        if old != new and {old, new} != {"not set", "None"}:  # a parameter that the other release did not have
            (harmless if name in _HARMLESS and not (name == "train.steps" and from_the_end) else grave).append(
                f"{name}: {old} in the checkpoint, {new} now"
            )
    return grave, harmless


def _bindings(text):
    """Values by name, as written, of a gin text without imports or macros."""
    lines, found = [], {}
    for line in text.splitlines():
        code = line.rstrip()
        if not code or code.startswith("#"):
            continue
        if code[0].isspace():  # gin breaks long values
            lines[-1] += " " + code.strip()
        else:
            lines.append(code.rstrip("\\").rstrip())
    for line in lines:
        name, _, value = line.partition("=")
        found[name.strip()] = value.replace("\\", " ").strip()
    return found


def _said(error):
    """What an error under gin says, without what gin adds on where it was called and how."""
    text = str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("In call to configurable", "No values supplied by Gin"))]
    return " ".join(kept[:2])[:400]


def _not_gins(record):
    return not str(record.msg).startswith("Path not found")
