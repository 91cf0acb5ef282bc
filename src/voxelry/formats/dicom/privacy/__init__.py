"""De-identification of DICOM files by PS3.15 Annex E: the standard's table, replacements under a key, pixels that may tell."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
