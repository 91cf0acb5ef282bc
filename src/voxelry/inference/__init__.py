"""Inference: segments scans patch by patch in bounded memory, alone or as ensembles and cascades, and cleans up the labels."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
