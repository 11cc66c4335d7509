"""Audio files in and out: probing, streaming, crops at any rate. Writing is in `writing.py` and named here as well."""

import os
from dataclasses import dataclass

import numpy as np
import soundfile

from mp3net.audio import resample, riff
from mp3net.audio.riff import AudioFileError
from mp3net.audio.writing import Writer, write

__all__ = ["AudioFileError", "AudioInfo", "Writer", "check_channels", "peak", "probe", "read_crop", "stream", "write"]

# Rates outside are broken headers: a file that claims 1 Hz would become a file 22,016 times as long.
_RATES_HZ = range(1000, 768_001)


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds; `frames` are samples per channel at `rate_hz`."""

    frames: int
    rate_hz: int
    channels: int

    @property
    def duration_s(self):
        """Seconds of audio."""
        return self.frames / self.rate_hz


def probe(path):
    """The `AudioInfo` of a file. Raises `AudioFileError` where it is missing, no audio, cut short or empty."""
    if riff.is_remote(path):
        return _remote_info(path, _remote_header(path))
    with _open(path) as sound:
        if not _is_plain_wav(sound):  # a compressed file that was cut still promises its full length: look at its end
            try:
                _read(sound, 1, path, start=sound.frames - 1)
            except AudioFileError:
                promised_s = sound.frames / sound.samplerate
                raise AudioFileError(
                    path, f"cut short: the end of the {promised_s:.1f} s it promises is missing"
                ) from None
        return AudioInfo(sound.frames, sound.samplerate, sound.channels)


def stream(path, rate_hz, channels, upmix=False):
    """Yields a local file resampled to `rate_hz`, as float32 `[sample, channel]` blocks of 8 s (the last one shorter).

    Together they are `round(frames * rate_hz / rate of the file)` samples. Memory does not grow with the file.
    `channels` 1 takes the mean of the file's; 2 from a mono file needs `upmix`. Raises `AudioFileError`.
    """
    with _open(path) as sound:
        check_channels(path, sound.channels, channels, upmix)
        count = resample.output_frames(sound.frames, sound.samplerate, rate_hz)
        if count == 0:
            raise AudioFileError(path, f"too short: less than a sample at {rate_hz} Hz")
        held, held_start = np.zeros((0, channels), np.float32), 0
        for piece in resample.pieces(0, count, sound.samplerate, rate_hz):
            held = held[piece.source_start - held_start :]
            held_start = piece.source_start
            missing = min(piece.source_stop, sound.frames) - held_start - len(held)
            if missing > 0:
                held = np.concatenate([held, _mix(_read(sound, missing, path), channels)])
            yield resample.resample_piece(held, piece, sound.samplerate, rate_hz)


def read_crop(path, start, count, rate_hz, channels, upmix=False):
    """float32 `[count, channel]`: samples `start` to `start + count` of the file as resampled to `rate_hz`.

    The same as that slice of all that `stream` yields, to rounding (1e-5). A 16-bit WAV that has the rate already is
    one seek and one read, and may be remote. Safe to call from several threads. Raises `AudioFileError`.
    """
    header = _remote_header(path) if riff.is_remote(path) else _wav_header(path)
    if header and header.is_pcm16 and header.rate_hz == rate_hz:
        check_channels(path, header.channels, channels, upmix)
        _check_span(path, start, count, header.frames)
        return _mix(riff.read_pcm16(path, header, start, count), channels)
    if riff.is_remote(path):
        raise AudioFileError(path, f"has {header.rate_hz} Hz, not {rate_hz} Hz; {_PREPARE_FIRST}")
    with _open(path) as sound:
        check_channels(path, sound.channels, channels, upmix)
        _check_span(path, start, count, resample.output_frames(sound.frames, sound.samplerate, rate_hz))
        parts = []
        for piece in resample.pieces(start, count, sound.samplerate, rate_hz):
            count_in = min(piece.source_stop, sound.frames) - piece.source_start
            source = _read(sound, count_in, path, start=piece.source_start)
            parts.append(resample.resample_piece(_mix(source, channels), piece, sound.samplerate, rate_hz))
    return np.concatenate(parts) if parts else np.zeros((0, channels), np.float32)


def peak(path, rate_hz, channels, upmix=False):
    """The largest absolute sample of what `stream` yields, 1.0 being full scale. Raises `AudioFileError`."""
    return max(float(np.abs(block).max()) for block in stream(path, rate_hz, channels, upmix))


_PREPARE_FIRST = "only 16-bit WAVs from `python -m mp3net.prepare` can be read from remote storage"


def _remote_header(path):
    header = riff.read_header(path)
    if header is None or not header.is_pcm16:
        raise AudioFileError(path, f"is not a 16-bit PCM WAV; {_PREPARE_FIRST}")
    return header


def _remote_info(path, header):
    _check_whole(path, header)
    return AudioInfo(header.frames, header.rate_hz, header.channels)


def _wav_header(path):
    """The header of a local WAV, checked to be whole; None for other kinds of audio. Raises `AudioFileError`."""
    try:
        header = riff.read_header(path)
    except FileNotFoundError:
        raise AudioFileError(path, "does not exist") from None
    except OSError as error:
        raise AudioFileError(path, f"cannot be read ({error.strerror})") from None
    if header:
        _check_whole(path, header)
    return header


def _check_whole(path, header):
    if header.frames < header.promised_frames:
        there, promised = (n / header.rate_hz for n in (header.frames, header.promised_frames))
        raise AudioFileError(path, f"cut short: holds {there:.2f} s of the {promised:.2f} s that its header promises")


def _open(path):
    """A local file as an open `SoundFile` with at least one sample and a sane rate. Raises `AudioFileError`."""
    if riff.is_remote(path):
        raise AudioFileError(path, _PREPARE_FIRST)
    _wav_header(path)
    if os.path.getsize(path) == 0:
        raise AudioFileError(path, "is empty (zero bytes)")
    try:
        sound = soundfile.SoundFile(os.fspath(path))
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless .raw, whose rate nobody knows
        raise AudioFileError(path, f"is not audio that can be read{_detail(error)}") from None
    problem = None
    if sound.frames <= 0:
        problem = "holds no samples"
    elif sound.samplerate not in _RATES_HZ:
        problem = f"claims a sample rate of {sound.samplerate} Hz, which is none"
    if problem:
        sound.close()
        raise AudioFileError(path, problem)
    return sound


def _is_plain_wav(sound):
    return sound.format in ("WAV", "WAVEX") and sound.subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


def _read(sound, count, path, start=None):
    """`count` samples from `start` (None: on from the last ones) as float32 `[sample, channel]`.

    Raises `AudioFileError` where they are not there.
    """
    at_s = (sound.tell() if start is None else start) / sound.samplerate
    try:
        if start is not None:
            sound.seek(start)
        block = sound.read(count, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioFileError(path, f"damaged or cut short near {at_s:.1f} s{_detail(error)}") from None
    if len(block) < count:
        ends_s, promised_s = at_s + len(block) / sound.samplerate, sound.frames / sound.samplerate
        raise AudioFileError(path, f"cut short: ends near {ends_s:.1f} s of the {promised_s:.1f} s that it promises")
    return block


def _detail(error):
    """soundfile's own words in brackets, where it has any."""
    words = getattr(error, "error_string", str(error)).strip(" .")
    return f" ({words})" if words else ""


def _mix(waveform, channels):
    if waveform.shape[1] == channels:
        return waveform
    if channels == 1:
        return waveform.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(waveform, channels, axis=1)


def check_channels(path, there, asked, upmix):
    """Raises `AudioFileError` where a file's channels cannot become those asked."""
    if there == asked or asked == 1 or (there == 1 and upmix):
        return
    if there == 1:
        raise AudioFileError(path, "mono where stereo is asked; ask for one channel, or for --upmix to double it")
    raise AudioFileError(path, f"has {there} channels where {asked} are asked; ask for one, or mix it down first")


def _check_span(path, start, count, frames):
    if start < 0 or count < 0 or start + count > frames:
        raise AudioFileError(path, f"holds {frames} samples; {start} to {start + count} were asked")
