"""DICOM images: header scan, volumes of a folder or archive, radiographs, PET; with rooms for pixels, stacks and objects."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
