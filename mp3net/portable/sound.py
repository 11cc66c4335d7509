"""Recordings of an export, decoded whole. Needs NumPy, and for FLAC and Ogg the decoder that lies beside them."""

import ctypes
import ctypes.util
import pathlib
import sys
import wave

import numpy as np

from mp3net.errors import UserError

LIBRARY = "libsndfile.bin"  # libsndfile, LGPL, as the soundfile package brings it


def read(path, frames, channels):
    """int16 `[sample, channel]` of a recording. Raises `UserError` where it cannot be read, or is not `frames` long."""
    path = pathlib.Path(path)
    try:
        samples = _read_wav(path) if path.suffix == ".wav" else _decoded(path, frames, channels)
    except (OSError, EOFError, wave.Error) as error:
        raise UserError(f"{path} cannot be read ({error}). Copy the folder again.") from None
    if samples.shape != (frames, channels):
        raise UserError(
            f"{path} is cut short or damaged: {samples.shape[0]} samples of {frames}. Copy the folder again."
        )
    return samples


def _read_wav(path):
    with wave.open(str(path), "rb") as file:
        content = file.readframes(file.getnframes())
        return np.frombuffer(content, "<i2").reshape(-1, file.getnchannels())


class _Info(ctypes.Structure):
    """libsndfile's SF_INFO."""

    _fields_ = (
        ("frames", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("rate_hz", "channels", "format", "sections", "seekable")),
    )


def _decoded(path, frames, channels):
    library, info = _library(path.parent), _Info()
    file = library.sf_open(str(path).encode(), 0x10, ctypes.byref(info))  # SFM_READ
    if not file:
        raise OSError(library.sf_strerror(None).decode(errors="replace"))
    try:
        samples = np.zeros([frames, info.channels], np.int16)
        count = library.sf_readf_short(file, samples.ctypes.data_as(ctypes.c_void_p), frames)
    finally:
        library.sf_close(file)
    return samples[:count]


def _library(folder):
    """libsndfile: the one in `folder`, or where that is of another kind of machine, this one's own."""
    for name in (folder / LIBRARY, ctypes.util.find_library("sndfile")):
        try:
            library = ctypes.CDLL(str(name)) if name else None
        except OSError:
            continue
        if library is not None:
            library.sf_open.restype = ctypes.c_void_p
            library.sf_readf_short.restype = ctypes.c_int64
            library.sf_readf_short.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
            library.sf_close.argtypes = (ctypes.c_void_p,)
            library.sf_strerror.restype, library.sf_strerror.argtypes = ctypes.c_char_p, (ctypes.c_void_p,)
            return library
    raise UserError(
        f"The recordings are compressed, and {folder / LIBRARY} does not load on this {sys.platform}. Install "
        "libsndfile (apt-get install libsndfile1), or export them again with a larger --export_mib."
    )
