"""The networks and losses of section 3 of the paper. Knows nothing of training/."""
