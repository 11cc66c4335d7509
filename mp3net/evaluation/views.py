"""What the paper's figures show, as arrays: excerpts, a spectrum and what it masks, folded octaves, tonality."""

import math
from dataclasses import dataclass, field

import numpy as np

from mp3net.audio import bark, files, resample
from mp3net.errors import UserError
from mp3net.evaluation import log

FULL_SCALE_DB = 120.0  # the level in dB SPL of an amplitude of 1, as the psychoacoustic model has it
BARK_BANDS = 24
# Figure 2: the tone and its harmonics, Hz and dB SPL. The first harmonic lies under what the tone masks, the others do
# not; the paper tells the frequencies alone.
TONES = ((440.0, 80.0), (880.0, 20.0), (1320.0, 58.0), (1760.0, 45.0))

_AWAY_DB = 300.0  # full scale at this level moves the quiet threshold out of sight, and leaves equation 10 as it is
_SILENT = 1e-4  # of full scale: -80 dB


@dataclass(frozen=True)
class Excerpt:
    """Part of a file: float32 `waveform` `[sample]`, its channels averaged, from `start_s` on; what to `warn` of."""

    waveform: np.ndarray
    rate_hz: int
    start_s: float
    whole_s: float
    channels: int
    warnings: list = field(default_factory=list)


def excerpt(path, start_s, seconds, bands, rate_hz=None):
    """Reads `seconds` of a file from `start_s` on, or what is there of them, at `rate_hz` (None: at its own rate).

    Only that part is read. Raises `AudioFileError` where it has nothing that can be drawn: two blocks at least.
    """
    info = files.probe(path)
    rate_hz = rate_hz or info.rate_hz
    frames = resample.output_frames(info.frames, info.rate_hz, rate_hz)
    start = round(start_s * rate_hz)
    if start >= frames:
        raise files.AudioFileError(path, f"ends at {info.duration_s:.2f} s; nothing is left from {start_s:g} s on")
    count = min(round(seconds * rate_hz), frames - start)
    if count < 2 * bands:
        need = f"too short: {count} samples at {rate_hz} Hz from {start_s:g} s on; an MDCT of {bands} bands"
        raise files.AudioFileError(path, f"{need} takes at least {2 * bands}. Give fewer --bands")
    waveform = files.read_crop(path, start, count, rate_hz, info.channels)
    if not np.isfinite(waveform).all():
        raise files.AudioFileError(path, "holds samples that are not a number; nothing true can be drawn of it")
    full = np.abs(waveform) >= 1 - 2**-15
    mono = waveform.mean(axis=1, dtype=np.float32)
    warnings = []
    if (full[1:] & full[:-1]).any():
        warnings.append(f"clipped: {np.count_nonzero(full)} samples at full scale")
    if np.abs(mono).max() < _SILENT:
        cancelled = " once its channels are averaged" if np.abs(waveform).max() >= _SILENT else ""
        warnings.append(f"silent{cancelled}: nothing above -80 dB")
    return Excerpt(mono, rate_hz, start / rate_hz, info.duration_s, info.channels, warnings)


def block(path, at_s, bands, rate_hz=None):
    """Reads the `Excerpt` that makes one block of an MDCT: the two blocks of samples about `at_s`, or nearest to it."""
    info = files.probe(path)
    rate_hz = rate_hz or info.rate_hz
    if at_s >= info.duration_s:
        raise files.AudioFileError(path, f"ends at {info.duration_s:.2f} s; there is nothing at {at_s:g} s")
    latest_s = resample.output_frames(info.frames, info.rate_hz, rate_hz) / rate_hz - 2 * bands / rate_hz
    return excerpt(path, max(0.0, min(at_s - bands / rate_hz, latest_s)), 2 * bands / rate_hz, bands, rate_hz)


def amplitudes(waveform, bands):
    """The MDCT amplitudes of a waveform `[sample]`: float32 `[block, band]`; what is no whole block is left out."""
    import tensorflow as tf

    from mp3net.audio.mdct import MDCT

    whole = waveform[: len(waveform) // bands * bands]
    return MDCT(bands).forward(tf.constant(whole, tf.float32)[None, :, None])[0, :, :, 0].numpy()


def self_similarity(waveform, rate_hz):
    """How alike any two moments of a recording are.

    Args:
      waveform: `[sample]` or `[sample, channel]`.

    Returns: (cosines `[window, window]` of what each second sounds like, set against the recording's mean; the seconds
    from a window to the next).
    """
    from mp3net.evaluation import coherence, description
    from mp3net.evaluation.song import Song

    song = Song("", waveform.reshape(len(waveform), -1), rate_hz)
    heard = description.features(song)
    return coherence.self_similarity(heard, heard.std(axis=0)), description.hop_s(song)


def tones(rate_hz, bands, tones=TONES):
    """The root mean square over time of the amplitudes of tones, (Hz, dB SPL) each: float64 `[band]`.

    In one block alone the amplitudes of a steady tone would depend on its phase.
    """
    time_s = np.arange(64 * bands) / rate_hz
    # At this scale a block's amplitudes squared add up to a quarter of the power, which is half a sine's square.
    gains = [math.sqrt(8) * 10 ** ((level_db - FULL_SCALE_DB) / 20) for _, level_db in tones]
    wave = sum(gain * np.sin(2 * np.pi * hz * time_s) for gain, (hz, _) in zip(gains, tones, strict=True))
    return np.sqrt(np.mean(np.square(amplitudes(wave, bands), dtype=np.float64), axis=0))


@dataclass(frozen=True)
class Masking:
    """A spectrum and what cannot be heard beside it, all in dB SPL.

    `level_db` `[band]` is of each MDCT band, at `frequency_hz`. `masking_db` `[Bark band]` is equation 10, what a tone
    must exceed to be heard, from one of `bark_edges_hz` to the next; `bark_level_db` is of all that lies there.
    """

    frequency_hz: np.ndarray
    level_db: np.ndarray
    bark_edges_hz: np.ndarray
    bark_level_db: np.ndarray
    masking_db: np.ndarray
    rate_hz: int


def masking(block, rate_hz):
    """The `Masking` of a block of amplitudes `[band]`, by the psychoacoustic model.

    The model spreads the threshold of a Bark band over its MDCT bands. Here it is put together again from the MDCT band
    in the middle, times the widths' ratio: exact where that band lies within. (A tone is heard where it alone exceeds
    it; a noise where all of it in that Bark band does, though each MDCT band of it may look masked.)
    """
    import tensorflow as tf

    from mp3net.audio.psychoacoustics import PsychoacousticModel

    bands = len(block)
    model = PsychoacousticModel(rate_hz, bands, BARK_BANDS, full_scale_db=_AWAY_DB)
    threshold = model.threshold(tf.constant(block, tf.float32)[None, None, :, None])[0, 0, :, 0].numpy()
    width_hz = rate_hz / 2 / bands
    edges_hz = bark.bark_to_hz(bark.bark_edges(rate_hz, BARK_BANDS))
    middle = ((edges_hz[:-1] + edges_hz[1:]) / 2 / width_hz).astype(int)
    masking_power = np.square(threshold[middle], dtype=np.float64) * np.maximum(1.0, np.diff(edges_hz) / width_hz)
    power = np.square(block, dtype=np.float64)
    bark_power = power @ (bark.overlap_hz(rate_hz, bands, BARK_BANDS) / width_hz)
    frequency_hz = (np.arange(bands) + 0.5) * width_hz
    return Masking(frequency_hz, _spl_db(power), edges_hz, _spl_db(bark_power), _spl_db(masking_power), rate_hz)


def _spl_db(power):
    return FULL_SCALE_DB + 10 * np.log10(np.maximum(power, 1e-30))


def fold_octaves(amplitudes, octaves):
    """The reduced spectrogram of section 6: `octaves` times over, the highest octave folded onto the one below.

    The bands of the highest octave are averaged in pairs ("blurring the highest octave") and added to those of the next
    ("folding (summing) it with the second highest octave"): bands 2k and 2k + 1 go to band k, which by equation 23 has
    half their frequency, so that harmonics come to lie on their fundamental.

    It is done to the amplitudes themselves, linear and with their sign, not to their power or to decibels: section 6
    has "our non-rescaled amplitudes" blurred, for what comes out is to be trained on in their place. What is shown is
    the square of the outcome. (The function is linear, and takes powers as well.)

    Args:
        amplitudes: `[..., band]`, a multiple of 2^(octaves + 1) bands.
        octaves: how many times; N bands become N / 2^octaves, from 0 Hz to as much less.

    Returns:
        The same kind of array, `[..., band]`.
    """
    folded = np.asarray(amplitudes)
    bands = folded.shape[-1]
    if octaves < 0 or bands % 2 ** (octaves + 1):
        raise ValueError(
            f"{bands} bands cannot be folded {octaves} times: they are no multiple of {2 ** (octaves + 1)}"
        )
    for _ in range(octaves):
        half = folded.shape[-1] // 2
        highest = folded[..., half:]
        blurred = (highest[..., 0::2] + highest[..., 1::2]) / 2
        folded = np.concatenate([folded[..., : half // 2], folded[..., half // 2 : half] + blurred], axis=-1)
    return folded


@dataclass(frozen=True)
class Tonality:
    """Tonality over iterations, from a run's log: for generated and for real songs, arrays of iterations and values."""

    generated: tuple
    real: tuple
    warnings: list = field(default_factory=list)


def tonality(workdir):
    """Reads the `Tonality` in the log of a run. Raises `UserError` where there is none, or as of `log.curves`."""
    found, warnings = log.curves(workdir, ("tonality_generated", "tonality_real"))
    if not any(len(steps) for steps, _ in found.values()):
        raise UserError(
            f"This run's log, {log.path_of(workdir)}, has no tonality. It comes with the run's previews: let it go on, "
            "or set train.preview_every_minutes lower."
        )
    return Tonality(*found.values(), warnings)
