"""Surface elements of DeepMind's surface-distance: positions of a label's surface between voxels, and the area of each piece.

The definition (Nikolov et al. 2018/2021): at every corner where voxels meet, the 8 voxels
around it (4 in 2D) that belong to the label form a neighbour code, and the marching-cubes triangles of that code give the area
of the element at the corner. Codes and grids of corners: bit 128 (8 in 2D) is the voxel before the corner on all axes, bit 1 the
voxel after it on all axes; outside the image there is no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The triangles of a neighbour code are distinguished by their normals, given here as absolute components in eighths of a voxel
# face. `_CODES` lists the triangles of codes 0..127; code 255 - c has the same ones as c.
_NORMALS = {
    "a": (0, 0, 4), "b": (0, 2, 2), "c": (0, 4, 0), "d": (1, 1, 1), "e": (2, 0, 2),
    "f": (2, 2, 0), "g": (2, 2, 2), "h": (3, 3, 3), "i": (4, 0, 0),
}  # fmt: skip
_CODES = """
- d d ff d ee dd dgi d dd ee dgi ff dgi dgi ii d bb dd cdg dd adg ddd ddgg dd bbd dee bdeh dff bdfh ddgi dgi
d dd bb cdg dd dee bbd bdeh dd ddd adg ddgg dff ddgi bdfh dgi ff cdg cdg cc dff defh cddg cdg dff cddg defh cdg ffff dff dff ff
d dd dd dff bb adg bbd bdfh dd ddd dee ddgi cdg ddgg bdeh dgi ee adg dee defh adg aa addg adg dee addg eeee dee defh adg dee ee
dd ddd bbd cddg bbd addg bbbb bbd ddd dddd addg ddd cddg ddd bbd dd dgi ddgg bdeh cdg bdfh adg bbd bb ddgi ddd dee dd dff dd dd d
""".split()


def element_sizes(spacing: Sequence[float]) -> NDArray[np.float64]:
    """The size of the surface element of every neighbour code.

    Args:
        spacing: mm along each array axis, two or three numbers.

    Returns:
        ``(16,)`` lengths in mm in 2D, ``(256,)`` areas in mm^2 in 3D; 0 for the codes without surface.
    """
    steps = np.asarray(spacing, dtype=np.float64)
    if len(steps) == 2:
        row, column = steps
        diagonal = 0.5 * float(np.hypot(row, column))
        half = [0.0, diagonal, diagonal, column, diagonal, row, 2 * diagonal, diagonal]
        return np.array(half + half[::-1])
    faces = steps.prod() / steps
    areas = {name: float(np.linalg.norm(np.array(normal) / 8 * faces)) for name, normal in _NORMALS.items()}
    half = [sum(areas[name] for name in triangles if name != "-") for triangles in _CODES]
    return np.array(half + half[::-1])


def neighbour_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The neighbour code of every voxel corner.

    Args:
        mask: ``(*spatial)``, 2D or 3D.

    Returns:
        uint8, one longer than the mask along each axis.
    """
    size = tuple(length + 1 for length in mask.shape)
    codes = np.zeros(size, dtype=np.uint8)
    bits = mask.astype(np.uint8)
    for number, after in enumerate(np.ndindex((2,) * mask.ndim)):
        corners = tuple(slice(0, -1) if step else slice(1, None) for step in after)
        codes[corners] |= bits << (2**mask.ndim - 1 - number)
    return codes


def surface_elements(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The corners on the mask's surface.

    Args:
        mask: ``(*spatial)``, 2D or 3D.

    Returns:
        ``(N,)`` flat indices into the grid of corners, and the ``(N,)`` neighbour codes there.
    """
    codes: NDArray[Any] = neighbour_codes(mask).ravel()
    where = np.flatnonzero((codes != 0) & (codes != 2 ** (2**mask.ndim) - 1))
    return where, codes[where]
