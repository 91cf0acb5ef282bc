"""Compiled loops of clean-up over the connected components of large label maps."""

from __future__ import annotations

from typing import Any

import numba

from voxelry.base.compiled import compiled, readonly

_VALUES = (numba.uint8, numba.uint16)
_COMPONENTS = (numba.uint16, numba.uint32)


@compiled(*(numba.void(readonly(c), readonly(v), numba.int64[::1], v[::1]) for c in _COMPONENTS for v in _VALUES))
def survey(components: Any, values: Any, sizes: Any, owner: Any) -> None:
    """Voxels of each component, and the label value it belongs to; runs of equal voxels are counted at once."""
    run, last = 0, components[0]
    for n in range(components.size):
        component = components[n]
        if component == last:
            run += 1
            continue
        sizes[last] += run
        owner[last] = values[n - 1]
        run, last = 1, component
    sizes[last] += run
    owner[last] = values[components.size - 1]


@compiled(*(numba.void(readonly(c), readonly(numba.uint8), v[::1]) for c in _COMPONENTS for v in _VALUES))
def erase(components: Any, dropped: Any, values: Any) -> None:
    """Set the voxels of dropped components to 0."""
    for n in range(components.size):
        if values[n] != 0 and dropped[components[n]]:
            values[n] = 0
