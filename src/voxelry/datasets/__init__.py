"""Datasets: cards, cases, splits, and the import of other layouts."""
