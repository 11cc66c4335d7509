"""The numbers that fix both networks, and the sizes that follow from them (section 3.2, figure 4)."""

import dataclasses
from dataclasses import dataclass

from mp3net.errors import UserError, check_number


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint must know to rebuild its networks: plain numbers. The defaults are the paper's 95-second model.

    Each of `model_blocks` doubles the bands and multiplies the blocks by four, from a `base` of (block, band).
    `amplitude_scale` is what the networks see MDCT amplitudes times. The paper takes 1; but music's are of the order of
    0.01, and in trials of the demo short runs came nearer to the corpus with 8. G ends in tanh, so the largest that it
    can make is 1 / `amplitude_scale`.
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
        if not isinstance(self.base, tuple | list) or len(self.base) != 2:
            raise UserError(f"Architecture.base is {self.base!r}; it is (blocks, bands).")
        object.__setattr__(self, "base", tuple(self.base))
        check_number("Architecture.base[0]", self.base[0], low=1, whole=True)
        check_number("Architecture.base[1]", self.base[1], low=2, whole=True)
        if self.base[1] % 2:
            raise UserError(
                f"Architecture.base is {self.base}; its bands must be even, for the top octave is half of them."
            )
        for name in ("latent_size", "shallowest_features", "max_features", "channels", "rate_hz", "head_features"):
            check_number(f"Architecture.{name}", getattr(self, name), low=1, whole=True)
        check_number("Architecture.model_blocks", self.model_blocks, low=1, high=10, whole=True)
        check_number("Architecture.amplitude_scale", self.amplitude_scale, above=0)
        check_number("Architecture.leaky_slope", self.leaky_slope, above=0, high=1)
        check_number("Architecture.stddev_epsilon", self.stddev_epsilon, above=0)

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
