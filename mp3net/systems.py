"""Systems by the name that their checkpoints bear."""

from mp3net.errors import UserError
from mp3net.model.mp3net import MP3net

_SYSTEMS = {"mp3net": MP3net}


def for_sampling(checkpoint):
    """The system of a `Checkpoint`, with the weights that sampling takes restored and no others made."""
    path = f"{checkpoint.path}/architecture.json"
    system = _made(checkpoint.architecture, path, lambda system: system.build_generator())
    checkpoint.restore(system.generation_items())
    return system


def for_training(architecture, path):
    """The system of an `architecture()`, which `path` holds, with all variables that training has."""
    return _made(architecture, path, lambda system: system.build())


def _made(description, path, build):
    try:
        return build(_SYSTEMS[description["system"]].from_architecture(description))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, UserError) as error:
        raise UserError(f"{path} is damaged, or of a newer release: {str(error).rstrip('.')}.") from None
