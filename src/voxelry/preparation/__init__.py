"""Preparation of scans for the network: reordering, cropping, resampling, normalisation, and the cache of prepared cases."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
