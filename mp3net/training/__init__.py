"""Drives any `System` through its stages: loop, checkpoints, devices, summaries. Knows no particular model."""
