"""How loud songs are, and how much that moves."""

import numpy as np

SILENT_DB = -60.0  # RMS, relative to full scale
_SHORT_S = 0.4
_FLOOR = 1e-10


def db(amplitude):
    """An amplitude in dB relative to full scale."""
    return 20 * np.log10(np.maximum(amplitude, _FLOOR))


def loudness(waveform, rate_hz, full_scale=1.0):
    """Of a waveform `[sample, channel]`: {"rms_db", "peak_db", "dynamics_db", "clipped"}.

    `dynamics_db` is from the 10th to the 95th percentile of the level in windows of 0.4 s, None for fewer than 5 of
    them; `clipped` the share of samples at `full_scale`, where 2 or more follow one another.
    """
    size = round(_SHORT_S * rate_hz)
    mean_square = np.square(waveform, dtype=np.float64).mean(axis=1)
    short = mean_square[: len(mean_square) // size * size].reshape(-1, size).mean(axis=1)
    full = np.abs(waveform) >= 0.9999 * full_scale
    runs = full[1:] & full[:-1]
    return {
        "rms_db": float(db(np.sqrt(mean_square.mean()))),
        "peak_db": float(db(np.abs(waveform).max())),
        "dynamics_db": float(np.ptp(np.percentile(db(np.sqrt(short)), [10, 95]))) if len(short) >= 5 else None,
        "clipped": float(runs.mean()) if len(runs) else 0.0,
    }
