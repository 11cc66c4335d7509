"""The psychoacoustic layer that amplitudes, real and generated, pass through before D (figure 4, section 2.2)."""

import math
from dataclasses import dataclass

import tensorflow as tf

from mp3net.audio.psychoacoustics import PsychoacousticModel
from mp3net.errors import UserError, check_number

LAYERS = ("noise", "projection", "quantiser", "none")


@dataclass(frozen=True)
class Perception:
    """Which layer stands before D, and the constants of its psychoacoustic model.

    `layer` is "noise" (the paper's: Gaussian, of `noise_factor` times the threshold), "projection" (its earlier one:
    what is below the threshold is attenuated by `projection_slope`), "quantiser" (equation 14) or "none".
    """

    layer: str = "noise"
    noise_factor: float = 1 / 6
    projection_slope: float = 0.2
    bark_bands: int = 24
    alpha: float = 0.6
    full_scale_db: float = 120.0

    def __post_init__(self):
        if self.layer not in LAYERS:
            raise UserError(f"Perception.layer is {self.layer!r}; it is one of {', '.join(LAYERS)}.")
        check_number("Perception.noise_factor", self.noise_factor, low=0)
        check_number("Perception.projection_slope", self.projection_slope, low=0, high=1)
        check_number("Perception.bark_bands", self.bark_bands, low=1, whole=True)
        check_number("Perception.alpha", self.alpha, above=0)
        check_number("Perception.full_scale_db", self.full_scale_db)


class PerceptionLayer(tf.Module):
    """`Perception` at work on amplitudes of one shape, inside XLA where `xla`. It has no variables."""

    def __init__(self, perception, sizes, xla=False):
        super().__init__()
        p = self.perception = perception
        # What the networks see as 1 is an amplitude of 1 / scale, and so that much below full scale.
        level_db = p.full_scale_db - 20 * math.log10(sizes.amplitude_scale)
        self.model = PsychoacousticModel(
            sizes.rate_hz, sizes.bands, p.bark_bands, p.alpha, level_db, p.noise_factor, xla
        )

    def __call__(self, amplitudes, seeds):
        """What D sees of amplitudes `[batch, block, band, channel]`: the same shape.

        `seeds`, int64 `[batch, 2]`, are those of each example's noise.
        """
        p = self.perception
        if p.layer == "none":
            return amplitudes
        threshold = self.model.threshold(amplitudes)
        if p.layer == "projection":
            return self.model.project(amplitudes, threshold, p.projection_slope)
        if p.layer == "quantiser":
            return self.model.quantise(amplitudes, threshold)
        return self.model.add_noise(amplitudes, threshold, seeds)
