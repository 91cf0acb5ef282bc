"""The list of all augmentations, in the order in which they are drawn and applied.

A recipe's keys (`voxelry.augmentation.augment_settings`), drawing, applying on CPU and GPU, and the documentation
(`docs/generate.py`) derive from this list. A new augmentation is a module and a row here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxelry.augmentation.affine import Affine
from voxelry.augmentation.augmentation import Augmentation
from voxelry.augmentation.bias_field import BiasField
from voxelry.augmentation.blur import Blur
from voxelry.augmentation.brightness import Brightness
from voxelry.augmentation.cascade_noise import CascadeNoise
from voxelry.augmentation.collimator import Collimator
from voxelry.augmentation.colour import Colour
from voxelry.augmentation.contrast import Contrast
from voxelry.augmentation.elastic import Elastic
from voxelry.augmentation.flip import Flip
from voxelry.augmentation.gamma import Gamma, InvertedGamma
from voxelry.augmentation.ghosting import Ghosting
from voxelry.augmentation.histogram import Histogram
from voxelry.augmentation.invert import Invert
from voxelry.augmentation.low_resolution import LowResolution
from voxelry.augmentation.motion import Motion
from voxelry.augmentation.noise import Noise
from voxelry.augmentation.spike import Spike

Augmentations = Sequence[Augmentation[Any, Any]]

AUGMENTATIONS: Augmentations = (
    # moves of the patch, applied together in one pass
    Affine(),
    Elastic(),
    Flip(),
    # the MRI scanner's artifacts
    Motion(),
    Ghosting(),
    Spike(),
    BiasField(),
    # nnU-Net's changes of grey values, in nnU-Net's order
    Noise(),
    Blur(),
    Brightness(),
    Contrast(),
    LowResolution(),
    InvertedGamma(),
    Gamma(),
    # differences between X-ray manufacturers
    Histogram(),
    Invert(),
    Collimator(),
    # labels of a cascade's first stage
    CascadeNoise(),
    # differences between dyes and cameras
    Colour(),
)
"""In the order of causes: the patient's position, the scanner, the image. Each augmentation draws at least one number per patch,
even at probability 0, so a new one changes what those behind it draw from a seed; at the end it changes none."""
