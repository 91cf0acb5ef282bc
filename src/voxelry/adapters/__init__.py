"""Adapters to other toolkits: readers and preparation in MONAI pipelines; Hugging Face's tensors, post-processing and answers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
