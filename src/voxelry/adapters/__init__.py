"""Adapters to other toolkits: voxelry's readers and preparation in MONAI pipelines."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
