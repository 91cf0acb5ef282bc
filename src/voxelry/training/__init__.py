"""Training: loss, loop, checkpoints, folds, tracking."""
