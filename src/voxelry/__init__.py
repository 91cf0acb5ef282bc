"""voxelry: segments medical scans. Geometry is never lost, memory is bounded, nothing is lost.

The public names, words and verbs, stand in `__init__.pyi`, which type checkers read too. Each is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
