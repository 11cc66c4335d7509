"""`Stage` and `Place`, which systems, data and training share, below every room so that none need import another for
them.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass


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


ALONE = Place()
