"""Labels painted over a grey picture: the window of the grey values, tinted insides, opaque borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import Volume

_OPACITY = 0.35
_SOFT_TISSUE = (-160.0, 240.0)
_PERCENTILES = (0.5, 99.5)
_SAMPLES = 2_000_000


def window_of(source: Volume) -> tuple[float, float]:
    """The grey values shown as black and as white: the scan's own window, soft tissue for CT, else 0.5 to 99.5 percentiles."""
    if source.windows:
        window = source.windows[0]
        return window.center - window.width / 2, window.center + window.width / 2
    if source.modality == "CT":
        return _SOFT_TISSUE
    flat = source.array[0].ravel()
    low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLES)], _PERCENTILES)
    return float(low), float(high if high > low else low + 1)


def paint(picture: NDArray[np.float32], mask: NDArray[np.bool_], color: NDArray[np.float32], *, outline: bool = False) -> None:
    """Tint the inside of a mask and colour its border, the pixels with a neighbour outside (or beyond the picture).

    Args:
        picture: ``(rows, columns, 3)``, 0..255; changed in place.
        mask: ``(rows, columns)``.
        color: RGB, 0..255.
        outline: the border alone.
    """
    if not mask.any():
        return
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    if not outline:
        picture[mask] += _OPACITY * (color - picture[mask])
    picture[mask & ~inner] = color
