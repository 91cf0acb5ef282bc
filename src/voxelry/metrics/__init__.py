"""Metrics: overlap, surface distances, instances, calibration and measurements, with an explicit rule for empty masks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
