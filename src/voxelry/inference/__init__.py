"""Sliding-window inference: patches, ensembles, backends, clean-up, the Predictor."""
