"""Files in and out: one table of formats, with the readers and writers that it names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
