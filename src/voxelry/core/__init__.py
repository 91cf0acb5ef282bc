"""The words that all rooms share: geometry, volumes, labels, plans, models."""
