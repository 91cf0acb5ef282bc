"""The compiled loop behind `core.objects`: boxes, sizes and centres of all objects in one pass over a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, readonly

UNKNOWN, NO_SLOT = -2, -1
"""In place of a slot: a value that the table does not know; background, ignored, or of another layer."""

MISPLACED, CROSSING = 1, 2
"""Faults beside `UNKNOWN`: an id where no label is; an id in two labels."""

_I8, _I4, _F8 = types.int64, types.int32, types.float64
_SIGNATURES = [
    types.Tuple((_I8, _I8, _I8, _I8))(
        readonly(value, 3, "A"),
        readonly(types.uint32, 3, "A"),
        readonly(_I8),
        readonly(types.boolean),
        readonly(types.uint32),
        _I8[::1],
        _I8[::1],
        _I4[:, ::1],
        _I4[:, ::1],
        _F8[:, ::1],
    )
    for value in (types.uint8, types.uint16)
]


@compiled(*_SIGNATURES)
def scan(
    values: NDArray[Any],
    ids: NDArray[np.uint32],
    lookup: NDArray[np.int64],
    by_id: NDArray[np.bool_],
    known: NDArray[np.uint32],
    owner: NDArray[np.int64],
    counts: NDArray[np.int64],
    first: NDArray[np.int32],
    last: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> Any:
    """Add the voxels of a layer to the slots of their objects, a run of equal ones along the last axis at a time.

    Args:
        values: ``(a, b, c)`` stored values.
        ids: ``(a, b, c)`` instance ids; of one voxel where there are none.
        lookup: value -> slot of its label, or `UNKNOWN` or `NO_SLOT`.
        by_id: whether a label's voxels are told apart by id.
        known: all ids, sorted; that of index k has the slot ``len(by_id) + k``.
        owner: the label's slot of each slot of an id, -1 until it is known.
        counts: voxels of each slot.
        first: ``(slots, 3)`` first voxel of its box.
        last: ``(slots, 3)`` last voxel of its box.
        sums: ``(slots, 3)`` sums of indices.

    Returns:
        0, or the kind of a fault, and the value or id; of a crossing id both labels' slots.
    """
    told = ids.size == values.size
    previous: Any = 0
    previous_slot: Any = 0
    for a in range(values.shape[0]):
        for b in range(values.shape[1]):
            stop = 0
            while stop < values.shape[2]:
                start = stop
                value = values[a, b, start]
                id = ids[a, b, start] if told else np.uint32(0)
                stop += 1
                while stop < values.shape[2] and values[a, b, stop] == value and (not told or ids[a, b, stop] == id):
                    stop += 1
                slot = lookup[value]
                if slot < 0:
                    if slot == UNKNOWN:
                        return UNKNOWN, value, 0, 0
                    if id and value == 0:
                        return MISPLACED, id, 0, 0
                    continue
                if id and by_id[slot]:
                    if id != previous:
                        previous, previous_slot = id, len(by_id) + np.searchsorted(known, id)
                    if owner[previous_slot] < 0:
                        owner[previous_slot] = slot
                    elif owner[previous_slot] != slot:
                        return CROSSING, id, owner[previous_slot], slot
                    slot = previous_slot
                count = stop - start
                counts[slot] += count
                first[slot, 0], last[slot, 0] = min(first[slot, 0], a), max(last[slot, 0], a)
                first[slot, 1], last[slot, 1] = min(first[slot, 1], b), max(last[slot, 1], b)
                first[slot, 2], last[slot, 2] = min(first[slot, 2], start), max(last[slot, 2], stop - 1)
                sums[slot, 0] += a * count
                sums[slot, 1] += b * count
                sums[slot, 2] += (start + stop - 1) * count // 2
    return 0, 0, 0, 0
