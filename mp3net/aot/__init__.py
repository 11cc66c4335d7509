"""Ahead of time: what a training step costs on a chip that is not here, by that chip's own compiler."""
