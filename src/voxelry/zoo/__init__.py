"""Models by name: starter models of this package, a cache of fetched ones, and their way to other machines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
