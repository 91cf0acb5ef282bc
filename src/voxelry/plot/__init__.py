"""Figures for papers and notebooks, by matplotlib: scans with labels, scores, sizes, comparisons, learning curves, objects."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
