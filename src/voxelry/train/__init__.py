"""Training: loss, sampling, loop, checkpoints."""
