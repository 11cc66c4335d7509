"""Which crop of which recording each training example is: a function of (seed, position) alone.

Position p is the place in the endless sequence of examples that training reads: step x batch + j. So a run resumes from
its step, and hosts that share a batch need share nothing else.
"""

import functools
from dataclasses import dataclass

import numpy as np

from mp3net.errors import UserError

SLICINGS = ("fixed", "random")


@dataclass(frozen=True)
class CropPlan:
    """Crops of `crop_samples` out of recordings of `lengths` samples, all at `rate_hz`.

    "fixed" slices every recording from its start, each slice beginning where the one before ended (but for the
    `overlap` that a crop needs beyond its own MDCT blocks), and shuffles all slices anew in each epoch: section 4.1 of
    the paper. "random" draws each crop uniformly from all that there are.
    """

    names: tuple
    lengths: tuple
    crop_samples: int
    overlap: int
    slicing: str
    seed: int
    rate_hz: int

    def __post_init__(self):
        if self.slicing not in SLICINGS:
            raise UserError(f"data.slicing is {self.slicing!r}; it is one of {', '.join(SLICINGS)}.")
        if self.count == 0:
            longest = int(np.argmax(self.lengths))
            crop_s, longest_s = self.crop_samples / self.rate_hz, self.lengths[longest] / self.rate_hz
            raise UserError(
                f"No recording is long enough: a crop takes {crop_s:.2f} s, and the longest of {len(self.lengths)}, "
                f"{self.names[longest]}, has {longest_s:.2f} s. "
                "Add longer recordings, or choose a configuration of shorter songs."
            )

    @functools.cached_property
    def _ends(self):
        """Running total of crops over the recordings."""
        lengths = np.asarray(self.lengths, np.int64)
        if self.slicing == "fixed":
            counts = np.maximum(0, (lengths - self.overlap) // (self.crop_samples - self.overlap))
        else:
            counts = np.maximum(0, lengths - self.crop_samples + 1)
        return np.cumsum(counts)

    @property
    def count(self):
        """How many different crops there are: an epoch, where they are fixed."""
        return int(self._ends[-1])

    def crop(self, position):
        """(index of the recording, first sample) of the example at `position`."""
        epoch, place = divmod(int(position), self.count)
        if self.slicing == "fixed":
            chosen = int(_shuffle(self.seed, epoch, self.count)[place])
        else:
            chosen = int(np.random.Generator(np.random.Philox(key=[self.seed, int(position)])).integers(self.count))
        recording = int(np.searchsorted(self._ends, chosen, side="right"))
        within = chosen - (int(self._ends[recording - 1]) if recording else 0)
        return recording, within * (self.crop_samples - self.overlap) if self.slicing == "fixed" else within


@functools.lru_cache(maxsize=2)  # a batch may span two epochs
def _shuffle(seed, epoch, count):
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
