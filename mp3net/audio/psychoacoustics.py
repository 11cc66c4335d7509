"""What the ear cannot hear, and what to do with it: the paper's section 2.2, equations 8 to 15.

Every function takes and gives amplitudes of `mp3net.audio.mdct`, [batch, block, band, channel]. Inside, a block is one
row of bands x channels, and the tables keep channels apart by zeros: that saves the transpositions, which would cost
more than the threshold itself. (To XLA a transposition is a way of storing: there each channel has rows of its own.)
All is float32, and differentiable: values and first and second gradients are finite from silence to full scale.
"""

import math

import numpy as np
import tensorflow as tf

from mp3net.audio.bark import (
    QUIET_LEVEL_RANGE_DB,
    bark_edges,
    bark_to_hz,
    hz_to_bark,
    overlap_hz,
    quiet_threshold_db,
    spreading_db,
)

__all__ = ["PsychoacousticModel", "bark_to_hz", "hz_to_bark", "quiet_threshold_db", "spreading_db"]

_FLOOR_POWER = 1e-14  # of an amplitude, for the logarithms of equation 13
_TONAL_FLATNESS_DB = -60.0  # the flatness of a pure tone, equation 13
_NEPERS_PER_DB = math.log(10.0) / 10.0  # of power


class PsychoacousticModel:
    """The masking threshold of MDCT amplitudes, and three ways to use it: noise, projection and quantisation.

    Args:
        rate_hz: samples per second.
        bands: N, the number of MDCT bands, from 0 Hz to rate_hz / 2.
        bark_bands: the number of bands of equal Bark width over the same range.
        alpha: the exponent by which maskers add up (equation 10): 1 adds powers, less makes them add up to more.
        full_scale_db: the level, in dB SPL, of an amplitude of 1.
        noise_factor: the noise's standard deviation, in thresholds. The paper has it "proportional to" equation 15;
            1/6, three deviations to that half threshold, is how the released code reads it.
        xla: whether it must run inside XLA. The same comes out, but for the noise, which another generator draws.
    """

    def __init__(self, rate_hz, bands, bark_bands=24, alpha=0.6, full_scale_db=120.0, noise_factor=1 / 6, xla=False):
        if min(rate_hz, bands, bark_bands, alpha) <= 0:
            raise ValueError(
                f"rate_hz, bands, bark_bands and alpha must be above 0, not {rate_hz}, {bands}, {bark_bands}, {alpha}"
            )
        self.rate_hz, self.bands, self.bark_bands = rate_hz, bands, bark_bands
        self.alpha, self.full_scale_db, self.noise_factor = alpha, full_scale_db, noise_factor
        self._xla = xla

        edges_bark = bark_edges(rate_hz, bark_bands)
        self.centres_bark = (edges_bark[:-1] + edges_bark[1:]) / 2
        # Equation 8, f_j being the middle of the Bark band, relative to the power of an amplitude of 1.
        self._quiet_power = 10 ** ((quiet_threshold_db(bark_to_hz(self.centres_bark)) - full_scale_db) / 10)
        self._floor_power = 10 ** ((QUIET_LEVEL_RANGE_DB[0] - full_scale_db) / 10)
        # A power goes from MDCT to Bark bands by the share of the MDCT band that lies in the Bark band, and back by the
        # share of the Bark band that lies in the MDCT band, which spreads it evenly. Both ways conserve it.
        shared_hz = overlap_hz(rate_hz, bands, bark_bands)
        self._to_bark = shared_hz / shared_hz.sum(axis=1, keepdims=True)
        self._from_bark = (shared_hz / shared_hz.sum(axis=0, keepdims=True)).T
        # The f_ij of equation 10, [masker, maskee], at the exact distance of band centres. (The released code samples
        # equation 11 on a grid that is off by 0.46 Bark.)
        distance_bark = self.centres_bark[np.newaxis, :] - self.centres_bark[:, np.newaxis]
        self._spreading = 10 ** (alpha / 10 * spreading_db(distance_bark))
        self._per_channel = {}

    def tonality(self, amplitudes):
        """How tonal each block is: float32 [batch, block, 1, channel], from 0 (white noise) to 1 (a pure tone)."""
        rows, channels = self._rows(amplitudes)
        tonality = self._tonality(rows, channels)
        return tf.transpose(tonality, [0, 2, 3, 1]) if self._xla else tf.expand_dims(tonality, axis=2)

    def threshold(self, amplitudes):
        """The amplitude below which nothing is heard: float32, the shape of `amplitudes`, above 0 everywhere."""
        rows, channels = self._rows(amplitudes)
        power = tf.matmul(tf.square(rows), self._table("_to_bark", channels))

        # Equation 12 as 5.5 + tau (14.5 + j - 5.5), in dB; j is the middle of the maskee's band in Bark, not its index.
        # As it does not depend on the masker i, it leaves the sum of equation 10.
        offset_table = np.kron(14.5 + self.centres_bark - 5.5, np.eye(channels))
        offset_db = 5.5 + tf.matmul(self._tonality(rows, channels), offset_table.astype(np.float32))
        # Equation 10. The floor, below anything heard, keeps the slopes of P^alpha finite in silence.
        log_power = tf.math.log(tf.maximum(power, self._floor_power))
        log_sum = tf.math.log(tf.matmul(tf.exp(self.alpha * log_power), self._table("_spreading", channels)))
        mask_power = tf.exp(log_sum / self.alpha - _NEPERS_PER_DB * offset_db)

        # The larger power of equation 14, spread over the MDCT bands of each Bark band, as an amplitude: its root.
        quiet_power = np.repeat(self._quiet_power, channels).astype(np.float32)
        threshold_power = tf.matmul(tf.maximum(mask_power, quiet_power), self._table("_from_bark", channels))
        return self._amplitudes(tf.sqrt(threshold_power), amplitudes)

    def add_noise(self, amplitudes, threshold, seed):
        """Amplitudes with Gaussian noise that is not heard: what both nets' songs carry when they enter D.

        Args:
            amplitudes: [batch, block, band, channel].
            threshold: theirs, the same shape; the gradient flows through it too.
            seed: whole numbers, [2] for the batch, or [batch, 2] for each example its own: then the noise of an example
                is the same in whatever batch it comes.

        Returns:
            float32, the shape of `amplitudes`.
        """
        amplitudes, threshold = tf.cast(amplitudes, tf.float32), tf.cast(threshold, tf.float32)
        noise = self._standard_normal(amplitudes, tf.convert_to_tensor(seed))
        # Equation 15, the size of what the ear lets pass.
        return amplitudes + self.noise_factor * threshold * noise

    def project(self, amplitudes, threshold, slope=0.2):
        """The paper's earlier filter, "a differentiable projection similar to a Leaky ReLU": float32, the same shape.

        What lies below the threshold is multiplied by `slope`; what lies above keeps its slope of 1, and loses what
        keeps the whole continuous, (1 - slope) thresholds. Signs stay. The paper gives no formula: this one is ours.
        """
        amplitudes, threshold = tf.cast(amplitudes, tf.float32), tf.cast(threshold, tf.float32)
        inaudible = tf.clip_by_value(amplitudes, -threshold, threshold)
        return amplitudes - (1.0 - slope) * inaudible

    def quantise(self, amplitudes, threshold):
        """Amplitudes rounded to integer multiples of the threshold: float32, half a threshold off at most.

        The gradient passes straight through to the amplitudes, as if nothing were rounded; none reaches the threshold.
        """
        amplitudes, threshold = tf.cast(amplitudes, tf.float32), tf.cast(threshold, tf.float32)
        # Equation 14, and with it 15.
        rounded = threshold * tf.round(amplitudes / threshold)
        return amplitudes + tf.stop_gradient(rounded - amplitudes)

    def _tonality(self, rows, channels):
        """Equation 13 of each row: [batch, block, channel]."""
        power = tf.maximum(tf.square(rows), _FLOOR_POWER)
        mean = np.kron(np.full([self.bands, 1], 1 / self.bands), np.eye(channels)).astype(np.float32)
        # Equation 13, of the power A_k^2: the paper prints A_k, which has a sign.
        flatness_nepers = tf.matmul(tf.math.log(power), mean) - tf.math.log(tf.matmul(power, mean))
        return tf.clip_by_value(flatness_nepers / (_NEPERS_PER_DB * _TONAL_FLATNESS_DB), 0.0, 1.0)

    def _standard_normal(self, like, seed):
        """N(0, 1) of the shape of amplitudes `like`, for one seed or for one of each example."""
        batch, blocks, bands, channels = _sizes(like)
        if not self._xla:
            if seed.shape.rank == 1:
                return tf.random.stateless_normal([batch, blocks, bands, channels], seed, alg="philox")
            draw = lambda one: tf.random.stateless_normal([blocks, bands, channels], one, alg="philox")  # noqa: E731
            return tf.ensure_shape(tf.map_fn(draw, seed, fn_output_signature=tf.float32), like.shape)
        # XLA makes of philox a loop over memory, of threefry arithmetic that stays where it is used.
        if seed.shape.rank == 1:
            rows = tf.random.stateless_normal([batch, channels, blocks, bands], seed, alg="threefry")
        else:
            shape = [channels, blocks, bands]
            rows = tf.stack([tf.random.stateless_normal(shape, one, alg="threefry") for one in tf.unstack(seed)])
        return self._amplitudes(rows, like)

    def _rows(self, amplitudes):
        """Amplitudes as float32 rows, and how many channels alternate in each.

        [batch, block, band x channel], or inside XLA [batch, channel, block, band].
        """
        batch, blocks, bands, channels = _sizes(amplitudes)
        if bands != self.bands:
            raise ValueError(f"a psychoacoustic model of {self.bands} bands takes amplitudes of as many, not {bands}")
        amplitudes = tf.cast(amplitudes, tf.float32)
        if self._xla:
            return tf.transpose(amplitudes, [0, 3, 1, 2]), 1
        return tf.reshape(amplitudes, [batch, blocks, bands * channels]), channels

    def _amplitudes(self, rows, like):
        """The inverse of `_rows`, of the shape of `like`."""
        return tf.transpose(rows, [0, 2, 3, 1]) if self._xla else tf.reshape(rows, _sizes(like))

    def _table(self, name, channels):
        """A table for rows in which `channels` channels alternate: float32, made once for each number of channels."""
        if (name, channels) not in self._per_channel:
            table = np.kron(getattr(self, name), np.eye(channels))
            self._per_channel[name, channels] = table.astype(np.float32)
        return self._per_channel[name, channels]


def _sizes(tensor):
    """The lengths of all axes: numbers where they are known when the graph is made, tensors where they are not."""
    return [tf.shape(tensor)[i] if size is None else size for i, size in enumerate(tensor.shape)]
