"""`Stage`, which systems, data and training share, below every room so that none need import another for it."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one crop length, one batch size and one way of stepping.

    `batch_size` counts the examples of one step over all replicas, `crop_samples` the samples of each; `settings` is
    the system's own: whatever tells its `train_step` what this stage does.
    """

    name: str
    steps: int
    batch_size: int
    crop_samples: int
    settings: Hashable = None
