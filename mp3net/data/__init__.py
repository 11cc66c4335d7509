"""Corpora of audio files, and the batches made of them."""
