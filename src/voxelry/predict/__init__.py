"""Prediction: sliding windows, restored to the grid of the scan."""
