"""Networks: segmentation networks built from a plan, their memory, and model folders with their weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
