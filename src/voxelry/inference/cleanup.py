"""Clean-up of predicted labels by rules stored with the model: keep the largest component, remove small ones, fill holes.

* Components are connected through faces, edges and corners (26 neighbours, 8 in pictures), as in nnU-Net and MONAI. Of equal
  sizes the one that comes first in memory is the largest.
* A removed voxel becomes background.
* A hole is background that cannot reach the outside of the label's box through faces; other labels inside it stay.

The components of all labels are found in one pass over the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import cc3d
import fill_voids
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.base.threads import run_slabs
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.errors import ModelError

COMPONENT_BYTES = 6
"""Of a voxel while components are counted."""

LARGE_VOXELS = 2**18
"""From this size on compiled loops are worth loading."""

_NEIGHBOURS: dict[int, Literal[8, 26]] = {2: 8, 3: 26}
_ROUNDING = 1e-6  # a component of exactly min_mm3 stays, whatever the affine's last digits

Stored = NDArray[np.uint8] | NDArray[np.uint16]


def clean(labels: LabelMap, rules: Sequence[CleanUp]) -> LabelMap:
    """A cleaned copy of a label map.

    Args:
        labels: on any grid; each layer is cleaned by the rules of its own labels.
        rules: at most one per label.

    Returns:
        The cleaned map; `labels` itself where there are no rules.

    Raises:
        LabelError: a rule names a label that the table does not know.
        ModelError: a rule counts mm^3 and the size of a voxel is not known.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.core.model import CleanUp
        >>> from voxelry.inference import clean
        >>> array = np.array([[[1, 0, 1, 1]]], np.uint8)
        >>> labels = LabelMap.of(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0)), LabelTable.numbered([1]))
        >>> clean(labels, [CleanUp(label=labels.table.names[0], keep_largest=True)]).array.ravel().tolist()
        [0, 0, 1, 1]
    """
    if not rules:
        return labels
    kind: type[np.unsignedinteger[Any]] = np.uint8 if labels.layers.itemsize == 1 else np.uint16
    layers: NDArray[Any] = labels.layers.astype(kind, order="C")
    clean_layers(layers, labels.table, rules, labels.geometry.voxel_volume)
    instances = None if labels.instances is None else np.where(layers > 0, labels.instances, 0).astype(np.uint32)
    return replace(labels, layers=layers, instances=instances)


def clean_layers(layers: Stored, table: LabelTable, rules: Sequence[CleanUp], voxel_volume: float | None) -> None:
    """Clean every layer in place by the rules of its own labels.

    Args:
        layers: ``(L, *spatial)`` uint8 or uint16 stored values, each layer in one piece of memory.
        table: the labels.
        rules: at most one per label.
        voxel_volume: as in `clean_array`.
    """
    for number, layer in enumerate(layers):
        own_rules = {table[rule.label].value: rule for rule in rules if table[rule.label].layer == number}
        clean_array(layer, own_rules, voxel_volume)


def clean_array(array: Stored, rules: Mapping[int, CleanUp], voxel_volume: float | None) -> None:
    """Clean one layer in place.

    Args:
        array: ``(*spatial)`` uint8 or uint16 stored values, in one piece of memory.
        rules: stored value -> rule.
        voxel_volume: mm^3 of a voxel, mm^2 of a pixel; None where it is unknown.

    Raises:
        ModelError: a rule counts mm^3 and the size of a voxel is not known.
    """
    if voxel_volume is None and any(rule.min_mm3 for rule in rules.values()):
        raise ModelError(
            "a clean-up rule removes components below a number of mm^2, but the pixel size is not known",
            remedy="Give a file that states its pixel size, such as DICOM, or a model without min_mm3.",
        )
    if any(rule.keep_largest or rule.min_mm3 for rule in rules.values()) and array.any():
        _remove_components(array, rules, voxel_volume or 1.0)
    holed = [value for value, rule in rules.items() if rule.fill_holes]
    for value, box in enumerate(find_objects(array) if holed else [], start=1):
        if value in holed and box is not None:
            _fill(array[box], value)


def _remove_components(array: Stored, rules: Mapping[int, CleanUp], voxel_volume: float) -> None:
    # cc3d is fastest along the first axis in memory order (Fortran); neighbourhoods do not mind the axes' order
    fortran = array.T if array.flags.c_contiguous else array
    numbered = cc3d.connected_components(fortran, connectivity=_NEIGHBOURS[array.ndim])
    components, values = numbered.ravel(order="K"), fortran.ravel(order="K")
    sizes, owner = _survey(components, values, int(numbered.max()) + 1)
    dropped = np.zeros(len(sizes), dtype=np.uint8)
    for value, rule in rules.items():
        own = np.flatnonzero(owner == value)
        if rule.min_mm3 is not None:
            dropped[own[sizes[own] * voxel_volume < rule.min_mm3 * (1 - _ROUNDING)]] = 1
        if rule.keep_largest and len(own):
            dropped[np.delete(own, sizes[own].argmax())] = 1
    if not dropped.any():
        return
    if values.size < LARGE_VOXELS:
        values[dropped[components] > 0] = 0
        return
    from voxelry.inference.cleanup_kernels import erase

    run_slabs(lambda first, last: erase(components[first:last], dropped, values[first:last]), values.size)


def _survey(components: NDArray[Any], values: Stored, count: int) -> tuple[NDArray[np.int64], Stored]:
    """Voxels of each component, and the stored value it belongs to."""
    if values.size < LARGE_VOXELS:
        owner = np.zeros(count, dtype=values.dtype)
        owner[components] = values
        return np.bincount(components, minlength=count), owner
    from voxelry.inference.cleanup_kernels import survey

    sizes, owner = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=values.dtype)
    survey(components, values, sizes, owner)
    return sizes, owner


def _fill(block: Stored, value: int) -> None:
    """Fill the holes of a label within its box."""
    mask = np.pad(block == value, 1)  # the outside reaches around the box, as scipy's fill has it
    filled = fill_voids.fill(mask)[(slice(1, -1),) * block.ndim]
    block[filled & (block == 0)] = value
