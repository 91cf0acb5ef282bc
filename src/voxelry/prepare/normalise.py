"""Grey values on a common scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.plan import Normalisation

_SMALLEST_STD = 1e-6


def normalise(array: NDArray[Any], schemes: tuple[Normalisation, ...]) -> NDArray[np.float32]:
    """Normalise each channel by its scheme.

    Args:
        array: ``(C, *spatial)`` grey values.
        schemes: one per channel.

    Returns:
        ``(C, *spatial)`` float32, without unit. A constant channel becomes 0.
    """
    result = array.astype(np.float32)
    for plane, scheme in zip(result, schemes, strict=True):
        if scheme.scheme == "global":
            assert scheme.low is not None
            assert scheme.high is not None
            assert scheme.mean is not None
            assert scheme.std is not None
            np.clip(plane, scheme.low, scheme.high, out=plane)
            mean, std = scheme.mean, scheme.std
        else:
            mean, std = float(plane.mean(dtype=np.float64)), float(plane.std(dtype=np.float64))
        plane -= mean
        plane /= max(std, _SMALLEST_STD)
    return result
