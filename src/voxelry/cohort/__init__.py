"""Cohorts: find, segment and convert many scans, pair them with references, score them, and compare models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
