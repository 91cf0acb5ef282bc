"""DICOM objects derived from a scan: writers and readers of SEG, RTSTRUCT, SR, overlay series and encapsulated STL."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
