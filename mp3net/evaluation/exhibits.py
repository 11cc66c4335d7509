"""From a waveform to what a page shows of it: the sound as a file's bytes, the picture, the scores, the warnings."""

import dataclasses
import io

import numpy as np
import soundfile
import soxr

from mp3net.evaluation import page
from mp3net.evaluation.hum import hum_db
from mp3net.evaluation.loudness import SILENT_DB
from mp3net.evaluation.metrics import SpectralMeasures, log_spectral_distance
from mp3net.evaluation.pictures import spectrogram
from mp3net.evaluation.song import Song

# Lossy, at libsndfile's own quality for each: 60 kbit/s for stereo at 22,016 Hz, the more the more there is to hear.
_KINDS = {"ogg": ("OGG", "VORBIS", "audio/ogg"), "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg")}
FORMATS = tuple(_KINDS)
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A song as the page takes it, and what a group's summary is made of: `spectrum_db` as of `SpectralMeasures`.

    `tonality` and `spectrum_db` are None where the song is silent or not a number.
    """

    song: page.Song
    tonality: float | None
    spectrum_db: np.ndarray | None


def exhibit(title, note, waveform, rate_hz, bands, format="ogg"):
    """The `Exhibit` of a waveform `[sample, channel]`, whatever is in it.

    Args:
      title, note: what the page calls it, and what it says below.
      bands: of the MDCT that tonality is measured through.
      format: of the sound, one of `FORMATS`.
    """
    finite = np.isfinite(waveform)
    clean = np.where(finite, waveform, 0).astype(np.float32)
    peak, rms = float(np.abs(clean).max(initial=0)), float(np.sqrt(np.mean(np.square(clean, dtype=np.float64))))
    warnings = _warnings(finite, clean, rms)
    tonality = spectrum_db = hum = None
    if finite.all() and decibels(rms) >= SILENT_DB and len(clean) >= 2 * bands:
        measures = SpectralMeasures(rate_hz, bands)
        measures.add(clean)
        tonality, spectrum_db = measures.tonality, measures.spectrum_db
        hum = hum_db(Song(title, clean, rate_hz, bands).amplitudes)
    told = [
        ("tonality", "none" if tonality is None else f"{tonality:.3f}"),
        ("hum", "none" if hum is None else f"{hum['all']:.0f} dB".replace("-", "−")),
        ("peak", level_text(peak) if finite.any() else "none"),
        ("RMS", level_text(rms) if finite.any() else "none"),
    ]
    clean = np.clip(clean, -1, 1)
    sound, media_type = encode(clean, rate_hz, format)
    song = page.Song(title, note, sound, media_type, spectrogram(clean, rate_hz), tuple(told), tuple(warnings))
    return Exhibit(song, tonality, spectrum_db)


@dataclasses.dataclass(frozen=True)
class Mean:
    """What a group of songs is like: means over those that are neither silent nor damaged."""

    tonality: float
    spectrum_db: np.ndarray


def mean(shown):
    """The `Mean` of `Exhibit`s, or None where nothing is to be heard."""
    heard = [each for each in shown if each.tonality is not None]
    if not heard:
        return None
    columns = [each.tonality for each in heard], [each.spectrum_db for each in heard]
    return Mean(float(np.mean(columns[0])), np.mean(columns[1], axis=0))


def distance_db(first, second):
    """`log_spectral_distance` of two `Mean`s."""
    return log_spectral_distance(first, second)


def encode(waveform, rate_hz, format):
    """The bytes and the media type of a sound file of `[sample, channel]` floats in -1..1.

    MP3 knows few rates: others become the next one above.
    """
    container, subtype, media_type = _KINDS[format]
    if format == "mp3" and rate_hz not in _MP3_RATES_HZ:
        taken = next((rate for rate in _MP3_RATES_HZ if rate > rate_hz), _MP3_RATES_HZ[-1])
        waveform, rate_hz = soxr.resample(waveform, rate_hz, taken), taken
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, waveform.shape[1], subtype, format=container) as sound:
        for start in range(0, len(waveform), rate_hz):  # libsndfile's Vorbis encoder overflows the stack on long writes
            sound.write(waveform[start : start + rate_hz])
    return file.getvalue(), media_type


def decibels(amplitude):
    """dB of an amplitude, full scale being 0; at least -200."""
    return 20 * np.log10(max(amplitude, 1e-10))


def level_text(amplitude):
    """A level as a person reads it: "−3.1 dB"."""
    level_db = decibels(amplitude)
    return "< −120 dB" if level_db < -120 else f"{level_db:.1f} dB".replace("-", "−")


def _warnings(finite, clean, rms):
    """What nobody wants to hear, in a line each."""
    if not finite.any():
        return ["Not a number anywhere: the training has failed. What plays is silence."]
    lines = []
    if not finite.all():
        lines.append(f"{np.size(finite) - np.count_nonzero(finite):,} samples are not a number; they play as silence.")
    if decibels(rms) < SILENT_DB:
        lines.append(f"Silent: below −{-SILENT_DB:.0f} dB RMS.")
    clipped = int(np.count_nonzero(np.abs(clean) > 1))
    if clipped:
        lines.append(f"Clipped: {clipped:,} samples above full scale ({100 * clipped / clean.size:.2g} %).")
    return lines
