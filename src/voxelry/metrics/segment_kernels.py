"""The compiled loop that counts voxels, positions, extremes and confidence of every segment of a label map."""

from __future__ import annotations

from typing import Any

import numba

from voxelry.base.compiled import compiled, readonly

_TABLES = (readonly(numba.uint8), numba.int64, numba.int32[::1], numba.int64[:, ::1], numba.int64[:, ::1])


@compiled(
    numba.int64(readonly(numba.uint16, 3), readonly(numba.uint32, 3), readonly(numba.uint8, 3), numba.int64, *_TABLES),
)
def tally(
    index: Any, ids: Any, confidence: Any, first: int, is_thing: Any, labels: int, owner: Any, sums: Any, bounds: Any
) -> int:
    """Add a slab's voxels to its segments.

    Args:
        index: ``(n, b, c)`` number of each voxel's label, 0 for none.
        ids: the same shape: instance ids, or their ranks.
        confidence: the same shape: bytes to add up.
        first: the slab's first plane.
        is_thing: ``(labels + 1,)``: which labels have a segment for each id; a voxel of one without an id has no segment.
        labels: number of labels: a label is segment `index`, an object segment ``labels + id``.
        owner: ``(S,)`` label of each segment, 0 where it has none yet.
        sums: ``(S, 5)``: voxels, sums of the three indices, of the confidence.
        bounds: ``(S, 6)``: smallest indices, and largest ones.

    Returns:
        A segment that has voxels of two labels, else 0.
    """
    clash = 0
    for i in range(index.shape[0]):
        for j in range(index.shape[1]):
            for k in range(index.shape[2]):
                label = index[i, j, k]
                if label == 0:
                    continue
                segment = numba.int64(label)
                if is_thing[label]:
                    if ids[i, j, k] == 0:
                        continue
                    segment = labels + numba.int64(ids[i, j, k])
                if owner[segment] == 0:
                    owner[segment] = label
                elif owner[segment] != label:
                    clash = segment
                sums[segment, 0] += 1
                sums[segment, 1] += first + i
                sums[segment, 2] += j
                sums[segment, 3] += k
                sums[segment, 4] += confidence[i, j, k]
                bounds[segment, 0] = min(bounds[segment, 0], first + i)
                bounds[segment, 1] = min(bounds[segment, 1], j)
                bounds[segment, 2] = min(bounds[segment, 2], k)
                bounds[segment, 3] = max(bounds[segment, 3], first + i)
                bounds[segment, 4] = max(bounds[segment, 4], j)
                bounds[segment, 5] = max(bounds[segment, 5], k)
    return clash
