"""Systems by the name that their checkpoints bear."""

from mp3net.errors import UserError
from mp3net.model.mp3net import MP3net

_SYSTEMS = {"mp3net": MP3net}


def for_sampling(checkpoint):
    """The system of a `Checkpoint`, with the weights that sampling takes restored and no others made."""
    description = checkpoint.architecture
    try:
        system = _SYSTEMS[description["system"]].from_architecture(description).build_generator()
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, UserError) as error:
        path = f"{checkpoint.path}/architecture.json"
        raise UserError(f"{path} is damaged, or of a newer release: {str(error).rstrip('.')}.") from None
    checkpoint.restore(system.generation_items())
    return system
