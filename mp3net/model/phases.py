"""The phases of a run, so that the paper's recipes are configurations (sections 4.2.2 and 4.3.1)."""

from dataclasses import dataclass

from mp3net.errors import UserError, check_number


@dataclass(frozen=True)
class Phase:
    """A part of the run in which something differs: from step `first`, or from `last` steps before the end, until the
    next begins.

    `beta_1` and `learning_rate` replace those of `MP3net`; `trainable_blocks` trains that many of the shallowest blocks
    of both networks with the 1 x 1 to and from the channels, and freezes all else (section 4.3.1).
    """

    name: str = "main"
    first: int | None = None
    last: int | None = None
    learning_rate: float | None = None
    beta_1: float | None = None
    trainable_blocks: int | None = None

    def __post_init__(self):
        if (self.first is None) == (self.last is None):
            raise UserError(f"Phase {self.name!r}: give either first (a step) or last (steps before the end).")
        check_number("Phase.first", self.first, low=0, whole=True, optional=True)
        check_number("Phase.last", self.last, low=1, whole=True, optional=True)
        check_number("Phase.learning_rate", self.learning_rate, low=0, optional=True)
        check_number("Phase.beta_1", self.beta_1, low=0, high=1, optional=True)
        check_number("Phase.trainable_blocks", self.trainable_blocks, low=1, whole=True, optional=True)

    def start(self, steps):
        """The step at which it begins in a run of `steps` steps."""
        return self.first if self.last is None else max(0, steps - self.last)


def cut(phases, steps, multiple, model_blocks):
    """Cuts a run of `steps` steps where phases begin: a list of (phase, steps), none of 0 steps.

    Before the first, nothing differs. Raises `UserError` where a length is no multiple of `multiple`, where two phases
    begin at one step, or where one trains more blocks than there are.
    """
    ordered = [Phase(first=0), *sorted(phases, key=lambda phase: phase.start(steps))]
    for what, value in [("train.steps", steps), *((f"The start of phase {p.name!r}", p.start(steps)) for p in ordered)]:
        if value % multiple:
            raise UserError(f"{what} is {value}: it must be a multiple of MP3net.critic_steps, {multiple}.")
    for phase, following in zip(ordered[1:-1], ordered[2:], strict=True):
        if phase.start(steps) == following.start(steps):
            raise UserError(
                f"The phases {phase.name!r} and {following.name!r} both begin at step {phase.start(steps)}."
            )
    for phase in ordered:
        if phase.trainable_blocks is not None and phase.trainable_blocks > model_blocks:
            raise UserError(
                f"Phase {phase.name!r}: trainable_blocks is {phase.trainable_blocks}; there are {model_blocks} blocks."
            )
    starts = [min(steps, phase.start(steps)) for phase in ordered] + [steps]
    lengths = [end - start for start, end in zip(starts[:-1], starts[1:], strict=True)]
    return [(phase, length) for phase, length in zip(ordered, lengths, strict=True) if length > 0]
