"""How the networks are computed, as against what they compute: precision, the time split, recomputation."""

import dataclasses
from dataclasses import dataclass

from mp3net.errors import UserError, check_number

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Execution:
    """Choices that change speed and memory, and what comes out by rounding only. None leaves a choice to the device.

    `precision` is what activations are kept and convolved in: "float32", or "bfloat16" (the default on a TPU), with
    variables, amplitudes, thresholds, losses and the gradient's norm in float32 all the same. `segments` says as how
    many rows each model block, from the shallowest on, holds a song (time_split.py); blocks that it does not name hold
    it as one. None splits on a TPU alone, into as many rows as its tiles take. `recompute` keeps of each model block no
    more than its input for the backward pass, and computes the rest again.
    """

    precision: str | None = None
    segments: tuple | None = None
    recompute: bool = False

    def __post_init__(self):
        if self.precision not in (*PRECISIONS, None):
            raise UserError(f"Execution.precision is {self.precision!r}; it is {' or '.join(PRECISIONS)}, or None.")
        if not isinstance(self.segments, tuple | list | None):
            raise UserError(f"Execution.segments is {self.segments!r}; it is a list such as (128, 128), or None.")
        for count in self.segments or ():
            check_number("Each of Execution.segments", count, low=1, whole=True)

    def on(self, platform, sizes):
        """The same with every choice made, for `platform` "CPU", "GPU" or "TPU" and an `Architecture`."""
        segments = self.segments
        if segments is None:
            segments = _for_tpu(sizes) if platform == "TPU" else ()
        default = "bfloat16" if platform == "TPU" else "float32"
        return dataclasses.replace(self, precision=self.precision or default, segments=tuple(segments))

    def segments_of(self, sizes):
        """The rows of every model block of an `Architecture`, from the shallowest on. Raises `UserError` where a song's
        blocks cannot be divided so.
        """
        segments = tuple(self.segments or ())
        if len(segments) > sizes.model_blocks:
            raise UserError(f"Execution.segments has {len(segments)} entries; there are {sizes.model_blocks} blocks.")
        for i, count in enumerate(segments):
            if _blocks_of(sizes, i) % count:
                raise UserError(
                    f"Execution.segments[{i}] is {count}; it must divide the {_blocks_of(sizes, i)} blocks that this "
                    "model block begins with."
                )
        return segments + (1,) * (sizes.model_blocks - len(segments))


_TILE = (8, 128)  # numbers one below the other, and side by side, in a TPU's tile
PLAIN = Execution("float32", ())


def _blocks_of(sizes, shallow):
    """Blocks at the narrow end of the `shallow`-th model block from the shallowest."""
    return sizes.blocks // 4 ** (shallow + 1)


def _for_tpu(sizes):
    """Rows of the model blocks from the shallowest on, as long as they fill a tile and keep 8 blocks or more each.

    Features lie side by side in a tile and rows below one another, or, where features are too few, the other way round.
    """
    segments = []
    for shallow in range(sizes.model_blocks):
        few, blocks = sizes.features(sizes.model_blocks - 1 - shallow)[2] < _TILE[1], _blocks_of(sizes, shallow)
        rows = min(_TILE[few], 2 ** (blocks // 8).bit_length() // 2, blocks & -blocks)  # powers of 2 that divide blocks
        if rows < _TILE[0]:
            break
        segments.append(rows)
    return tuple(segments)
