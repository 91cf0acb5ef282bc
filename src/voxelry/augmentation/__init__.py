"""Random changes to training patches: one module per augmentation, and the list of all (`registry`).

Kernels that are fused for speed stay together: `spatial_kernels` moves image and classes in one pass whatever spatial
augmentations are drawn, and `intensity_kernels` holds the compiled loops that several augmentations share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
