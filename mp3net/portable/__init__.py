"""A run that trains where there is no TensorFlow: a folder that is enough for it, and the way back to a checkpoint."""
