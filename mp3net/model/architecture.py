"""The numbers that fix both networks, and the sizes that follow from them (section 3.2, figure 4)."""

import dataclasses
from dataclasses import dataclass

from mp3net.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint must know to rebuild its networks: plain numbers. The defaults are the paper's 95-second model.

    Each of `model_blocks` doubles the bands and multiplies the blocks by four, from a `base` of (block, band).
    `amplitude_scale` is what the networks see MDCT amplitudes times. The paper takes 1; but music's are of the order of
    0.01, below what biases reach in a few hundred updates, so that short runs learn much faster from larger ones. As G
    ends in tanh, the largest amplitude that it can make is 1 / `amplitude_scale`.
    """

    model_blocks: int = 6
    base: tuple = (4, 2)
    latent_size: int = 512
    shallowest_features: int = 16
    max_features: int = 512
    channels: int = 2
    rate_hz: int = 22016
    leaky_slope: float = 0.2
    head_features: int = 512
    amplitude_scale: float = 1.0
    stddev_epsilon: float = 1e-8

    def __post_init__(self):
        object.__setattr__(self, "base", tuple(self.base))
        for name, value in {**dataclasses.asdict(self), "base[0]": self.base[0], "base[1]": self.base[-1]}.items():
            whole = name not in ("base", "leaky_slope", "stddev_epsilon", "amplitude_scale")
            if whole and (not isinstance(value, int) or value < 1):
                raise UserError(f"Architecture.{name} is {value!r}; it must be a whole number of at least 1.")
        if len(self.base) != 2 or self.base[1] % 2:
            raise UserError(f"Architecture.base is {self.base}; it is (blocks, bands) with an even number of bands.")
        if not self.amplitude_scale > 0:
            raise UserError(f"Architecture.amplitude_scale is {self.amplitude_scale}; it must be above 0.")
        if not 0 < self.leaky_slope <= 1:
            raise UserError(f"Architecture.leaky_slope is {self.leaky_slope}; it must be above 0 and at most 1.")

    @property
    def blocks(self):
        """Blocks of the output: M."""
        return self.base[0] * 4**self.model_blocks

    @property
    def bands(self):
        """Filter bands of the output: N."""
        return self.base[1] * 2**self.model_blocks

    @property
    def output_shape(self):
        """`(block, band, channel)` of an example."""
        return (self.blocks, self.bands, self.channels)

    @property
    def crop_samples(self):
        """Samples of audio that give `blocks` blocks of MDCT amplitudes."""
        return (self.blocks + 1) * self.bands

    @property
    def song_samples(self):
        """Samples of a song: a crop's without the first and last `bands`, which the inverse MDCT leaves aliased."""
        return (self.blocks - 1) * self.bands

    @property
    def seconds(self):
        """Duration of a song."""
        return self.song_samples / self.rate_hz

    def features(self, block):
        """(in, mid, out) features of generator block `block`, 0 the deepest; the discriminator's run the other way."""
        shallow = 4 ** (self.model_blocks - 1 - block) * self.shallowest_features
        return tuple(min(self.max_features, multiple * shallow) for multiple in (4, 2, 1))

    def to_json(self):
        """A plain dictionary; `Architecture(**it)` gives the same back."""
        return {**dataclasses.asdict(self), "base": list(self.base)}
