"""Planning: the fingerprint of a dataset, and the spacing, network, patch and batch planned from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
