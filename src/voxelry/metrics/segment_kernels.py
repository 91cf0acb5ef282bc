"""The compiled loop behind the scores of segments: the confidence of each segment summed in one pass over a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from voxelry.base.compiled import compiled, readonly

_SIGNATURES = [
    types.void(
        readonly(value, 3, "A"),
        readonly(types.uint32, 3, "A"),
        readonly(types.int64),
        readonly(types.boolean),
        readonly(types.uint32),
        readonly(types.uint8, 3, "A"),
        types.int64[::1],
    )
    for value in (types.uint8, types.uint16)
]


@compiled(*_SIGNATURES)
def add_confidence(
    values: NDArray[Any],
    ids: NDArray[np.uint32],
    places: NDArray[np.int64],
    by_id: NDArray[np.bool_],
    known: NDArray[np.uint32],
    confidence: NDArray[np.uint8],
    sums: NDArray[np.int64],
) -> None:
    """Add the confidence of a layer's voxels to their segments, a run of equal voxels along the last axis at a time.

    Args:
        values: ``(a, b, c)`` stored values.
        ids: ``(a, b, c)`` instance ids; of one voxel where there are none.
        places: value -> place of its label's segment, -1 without one.
        by_id: value -> whether its voxels are told apart by id.
        known: ids of the segments that are objects, sorted; that of index k has the place k.
        confidence: ``(a, b, c)``.
        sums: of each segment.
    """
    told = ids.size == values.size
    previous = np.uint32(0)
    here: Any = -1
    for a in range(values.shape[0]):
        for b in range(values.shape[1]):
            stop = 0
            while stop < values.shape[2]:
                start = stop
                value = values[a, b, start]
                id = ids[a, b, start] if told else np.uint32(0)
                total = 0
                while stop < values.shape[2] and values[a, b, stop] == value and (not told or ids[a, b, stop] == id):
                    total += confidence[a, b, stop]
                    stop += 1
                place = places[value]
                if told and by_id[value]:
                    if id != previous:
                        previous = id
                        here = np.searchsorted(known, id) if id else -1
                    place = here
                if place >= 0:
                    sums[place] += total
