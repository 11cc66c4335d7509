"""What a generative system must offer so that the trainer can drive it without knowing what it is."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from mp3net.stage import Place, Stage


class Representation(Protocol):
    """What the networks see in place of waveforms."""

    overlap: int  # samples that a crop takes beyond those after which the next one may begin

    def encode(self, waveform) -> Any:
        """`[batch, sample, channel]` to the tensor that `train_step` takes."""

    def decode(self, tensor) -> Any:
        """The tensor that the networks make, to `[batch, sample, channel]`."""


@runtime_checkable
class System(Protocol):
    """A generative system, as the trainer, the checkpoints and `generate` see it.

    A *step* is what `train.steps` counts: for a GAN, one iteration of its critic.
    """

    rate_hz: int
    channels: int
    bands: int  # of the MDCT that its songs are measured through
    representation: Representation
    steps_per_round: int  # steps that one call of `train_step` makes; each takes a batch of its own
    headline: Sequence[str]  # those of its scalars that the line of progress gives

    def stages(self, steps: int) -> Sequence[Stage]:
        """Splits a run of `steps` steps; each stage's steps are a multiple of `steps_per_round`."""

    def build(self, place: Place, seed: int) -> Any:
        """Makes all variables, optimizers included, and returns itself; `seed` fixes the initial weights and all
        randomness of the run. It is a whole number, or where an export traces the initial weights an int64 tensor.
        """

    def train_step(self, stage: Stage, batches, examples) -> tuple[dict, dict]:
        """One round, called inside a `tf.function`.

        `batches` is `[steps_per_round, batch, ...]` of encoded audio, a replica's share, `examples`
        `[steps_per_round, batch]` int64, each example's place in the endless sequence of training examples. Returns
        float32 scalars by name, means over its share, and scalar booleans by the name of the tensor that each found
        finite, in the order in which the tensors were computed.
        """

    def note_on_parts(self, examples: int) -> str:
        """What is no longer the same where a batch is taken in parts of `examples` over all replicas: a clause."""

    def sample(self, seeds, truncation=None) -> Any:
        """Songs `[seed, sample, channel]` in -1..1, a function of each of `seeds` (int64 `[n]`) and of the weights
        alone.
        """

    def interpolate(self, first, second, fraction, truncation=None) -> Any:
        """Songs `[n, sample, channel]` at `fraction` (0..1) of the way between those of seeds `first` and `second`
        (int64 `[n]`).
        """

    def twin(self) -> Any:
        """Another of its kind that can `sample` and tell `critic_scores`, with variables of its own, untrained."""

    def preview_items(self) -> dict[str, Any]:
        """The part of `checkpoint_items` that a twin takes over; the twin's own, of the same names and order."""

    def critic_scores(self, real: dict, seeds) -> dict | None:
        """Scores `[n]` by name, of each of `real`, encoded audio `[n, ...]` by name, and of "generated", the songs of
        int64 `seeds`; None where there is no critic.
        """

    def checkpoint_items(self) -> dict[str, Any]:
        """Everything trainable or accumulated, as trackables by name."""

    def generation_items(self) -> dict[str, Any]:
        """The part of `checkpoint_items` that `sample` needs."""

    def weight_items(self) -> dict[str, Any]:
        """The part of `checkpoint_items` that a fine-tune starts from."""

    def weights_replaced(self) -> None:
        """Called after `weight_items` were restored from another run."""

    def architecture(self) -> dict:
        """Plain JSON, enough to rebuild the system."""
