"""Waveforms in, figures out."""
