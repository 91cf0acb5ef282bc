"""Synthetic scans of procedural anatomy with exact reference labels, in memory or written as DICOM, NIfTI or PNG."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
