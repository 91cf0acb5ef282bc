"""How well a mask fits its image: the step of grey values across the mask's surface, where it lies, shifted, and mirrored.

A mask that was shifted or mirrored crosses structures at random, and the step at its surface vanishes; where it belongs, the
step is that of the other cases. Measured on a coarse copy, by correlation with a shell on both sides of the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.signal import fftconvolve

_SIZE = 64
"""Voxels along an axis of the coarse copy, at most."""

_SHELL = 2.0
"""Thickness of the shell on each side of the surface, in voxels of the coarse copy."""

_REACH = 8
"""Shifts up to the axis divided by this are looked at."""

_FEWEST = 8
"""Voxels that each side of the shell must have."""

Shift = tuple[int, ...]


@dataclass(frozen=True)
class MaskFit:
    """The step of grey values at a mask's surface: mean inside less mean outside, as a share of the range of percentiles 1 to 99.

    Attributes:
        step: where the mask lies.
        highest, lowest: the greatest and least step of small shifts.
        highest_shift, lowest_shift: voxels by which the mask is moved for them, along each axis.
        mirrored: the step of the mask mirrored in the middle of the image, for each axis.
    """

    step: float
    highest: float
    lowest: float
    highest_shift: Shift
    lowest_shift: Shift
    mirrored: tuple[float, ...]


def fit_mask(image: NDArray[np.generic], mask: NDArray[np.bool_]) -> MaskFit | None:
    """Measure the fit of a mask.

    Args:
        image: ``(*spatial)`` finite grey values.
        mask: ``(*spatial)``.

    Returns:
        None where the mask is empty or too small, or the image has a single value.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((40, 40), bool)
        >>> mask[10:20, 12:24] = True
        >>> fit = fit_mask(np.roll(mask, 3, axis=0).astype(float), mask)
        >>> fit.highest_shift, fit.highest > fit.step
        ((3, 0), True)
    """
    steps = [max(1, -(-size // _SIZE)) for size in mask.shape]
    coarse = tuple(slice(None, None, step) for step in steps)
    grey = gaussian_filter(image.astype(np.float32), [0.5 * step if step > 1 else 0.0 for step in steps])[coarse]
    low, high = np.percentile(grey, (1, 99))
    inside = mask[coarse]
    shell = _shell(inside)
    if high <= low or shell is None:
        return None
    grey = np.clip((grey - low) / (high - low), 0, 1)
    reach = [max(1, size // _REACH) if size > 1 else 0 for size in inside.shape]
    padded = np.pad(grey, [(width, width) for width in reach], mode="edge")
    response = fftconvolve(padded, np.flip(shell), mode="valid")
    first, last = (np.unravel_index(place, response.shape) for place in (response.argmax(), response.argmin()))
    middle = tuple(reach)
    moves = [
        tuple(int((place - width) * step) for place, width, step in zip(places, reach, steps, strict=True))
        for places in (first, last)
    ]
    return MaskFit(
        float(response[middle]),
        float(response.max()),
        float(response.min()),
        moves[0],
        moves[1],
        tuple(float((np.flip(shell, axis) * grey).sum()) for axis in range(mask.ndim)),
    )


def _shell(inside: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Weights of voxels just inside the surface, together 1, and just outside, together -1."""
    if not inside.any() or inside.all():
        return None
    depth, height = distance_transform_edt(inside), distance_transform_edt(~inside)
    inner, outer = inside & (depth <= _SHELL), ~inside & (height <= _SHELL)
    counts = np.count_nonzero(inner), np.count_nonzero(outer)
    if min(counts) < _FEWEST:
        return None
    shell: NDArray[np.float32] = (inner / np.float32(counts[0]) - outer / np.float32(counts[1])).astype(np.float32)
    return shell
