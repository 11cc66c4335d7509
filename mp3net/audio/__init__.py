"""Signals: audio files, the MDCT and the psychoacoustic model. Knows no learning and no gin."""
