"""`Stage`, `Place` and `Share`, which systems, data and training share, below every room so that none need import
another for them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mp3net.errors import UserError

_DATA_OF_A_CALL = 64 * 2**20  # bytes a replica, of which two calls' are held at once
_MOST_ROUNDS = 16


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one crop length, one batch size and one way of stepping.

    `batch_size` counts the examples of one step over all replicas, `crop_samples` the samples of each; `settings` is
    the system's own: whatever tells its `train_step` what this stage does. A replica takes its share of a batch in
    `micro_batches` parts, one after another.
    """

    name: str
    steps: int
    batch_size: int
    crop_samples: int
    settings: Hashable = None
    micro_batches: int = 1


@dataclass(frozen=True)
class Place:
    """Where a system is built and trained: all that it may know of devices.

    `platform` is "CPU", "GPU" or "TPU"; `xla` says whether XLA compiles the training step. `cross_replica_mean` is the
    mean over replicas of a tensor, or of each of a list of them, with gradients; `loops` whether it may stand inside a
    loop.
    """

    platform: str = "CPU"
    xla: bool = False
    cross_replica_mean: Callable = lambda tensors: tensors
    loops: bool = True

    def rounds_per_call(self, round_bytes):
        """How many rounds one call of the device makes by default, if those of one replica take `round_bytes` each."""
        return 1 if self.platform == "CPU" else max(1, min(_MOST_ROUNDS, _DATA_OF_A_CALL // round_bytes))


ALONE = Place()


@dataclass(frozen=True)
class Share:
    """The replicas that one host feeds: `count` of `replicas`, from number `first` on."""

    replicas: int = 1
    first: int = 0
    count: int = 1


def share_of(batch_size, replicas, device, micro_batch=None):
    """(examples of a batch that each of `replicas` takes, in how many parts): no part is of more than `micro_batch`.

    Raises `UserError` where the batch cannot be divided among the replicas; `device` names them.
    """
    share, rest = divmod(batch_size, replicas)
    if rest or not share:
        near = sorted({replicas * max(1, share), replicas * (share + 1)})
        raise UserError(
            f"A batch of {batch_size} cannot be divided among {replicas} replicas ({device}). Set the "
            f"batch size to {' or '.join(map(str, near))}, or use a number of devices that divides {batch_size}."
        )
    return share, parts_of(share, micro_batch)


def parts_of(share, most=None):
    """In how many equal parts a replica takes its `share` of a batch, so that none is of more than `most` examples."""
    return next(parts for parts in range(1, share + 1) if share % parts == 0 and share // parts <= (most or share))
