"""Outlines of a mask along the edges of its pixels, holes connected to the outer outline by keyholes.

A contour through pixel centres loses half a pixel on all sides, and a single pixel altogether. An outline along pixel edges
passes half a pixel from every centre, so that filling the polygon gives the mask back. Diagonal neighbours are separate
(4-connected). A hole is connected to the polygon around it by a channel of zero width, which the outline follows in both
directions (the keyhole of DICOM PS3.3 section C.8.8.6.3): whether polygons are filled by the even-odd rule, by winding number or
as a union, the hole stays.

Smoothing is Taubin's (Curve and surface smoothing without shrinkage, ICCV 1995), followed by moving each outline along its
normals until it encloses its original area.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.compiled import compiled

_SHRINK, _SWELL, _ROUNDS = 0.5, -0.53, 12
_SHORTEST_SMOOTHED = 12
"""Outlines of fewer pixel edges are not smoothed: they would shrink to a dot."""


def outlines(mask: NDArray[np.bool_], *, smooth: bool = False) -> list[NDArray[np.float64]]:
    """Closed polygons around the pixels of a mask, one for each 4-connected part.

    Args:
        mask: ``(columns, rows)`` bool.
        smooth: smooth the outlines; the enclosed area stays, but the polygon no longer follows pixel edges.

    Returns:
        For each part ``(n, 2)`` float64 vertices (column, row) in pixels, pixel centres at whole numbers, the first vertex not
        repeated at the end. Vertices within straight runs are left out.
    """
    if not mask.any():
        return []
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    corners, follow, loops, link, twin, starts = _trace(padded)
    points = corners.astype(np.float64) - 1.5
    if smooth:
        points = _smoothed(points, follow, loops)
    order, ends = _walk(link, starts)
    rings = np.split(points[twin[order]], ends[:-1])
    return rings if smooth else [_without_straight_runs(ring) for ring in rings]


def area(ring: NDArray[np.float64]) -> float:
    """The area in square pixels that a polygon ``(n, 2)`` encloses, less its holes (shoelace formula)."""
    following = np.roll(ring, -1, axis=0)
    return float(abs((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum()) / 2)


def pixels_inside(ring: NDArray[np.float64]) -> int:
    """The number of pixel centres inside a polygon ``(n, 2)`` by the even-odd rule, as a reader fills it."""
    return int(_inside(np.ascontiguousarray(ring)))


def _without_straight_runs(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vertices at which an axis-parallel outline turns, reversals included."""
    steps = np.sign(np.roll(ring, -1, axis=0) - ring)
    corners: NDArray[np.float64] = ring[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]
    return corners


def _smoothed(points: NDArray[np.float64], follow: NDArray[np.int32], loops: NDArray[np.int32]) -> NDArray[np.float64]:
    """The corners after smoothing: Taubin's filter on all loops at once, then the area of each loop restored."""
    before = np.empty_like(follow)
    before[follow] = np.arange(len(follow), dtype=follow.dtype)
    lengths = np.bincount(loops)
    moved = points.copy()
    for _ in range(_ROUNDS):
        for weight in (_SHRINK, _SWELL):
            moved += weight * ((moved[before] + moved[follow]) / 2 - moved)
    moved[(lengths < _SHORTEST_SMOOTHED)[loops]] = points[(lengths < _SHORTEST_SMOOTHED)[loops]]
    original_areas = _loop_areas(points, follow, loops)
    for _ in range(2):
        along = moved[follow] - moved[before]
        length = np.bincount(loops, np.linalg.norm(along, axis=1)) / 2
        outward = np.column_stack([along[:, 1], -along[:, 0]]) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
        moved += outward * ((original_areas - _loop_areas(moved, follow, loops)) / length)[loops, None]
    return moved


def _loop_areas(points: NDArray[np.float64], follow: NDArray[np.int32], loops: NDArray[np.int32]) -> NDArray[np.float64]:
    """The signed area of each loop, negative for holes."""
    following = points[follow]
    areas: NDArray[np.float64] = np.bincount(loops, points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]) / 2
    return areas


_INT1, _INT2, _INT3 = "int32[::1]", "int32[:, ::1]", "int32[:, :, ::1]"


_AHEAD = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
"""Steps along an edge: along the top of a pixel (0), down its right (1), back along its bottom (2), up its left (3)."""
_FIRST = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
"""The corner of its pixel at which each edge begins."""


@compiled(f"Tuple(({_INT3}, int64))(uint8[:, ::1])")
def _numbered(mask: NDArray[np.uint8]) -> Any:
    """The number of each of the four edges of every pixel, -1 where it is not on the border of the mask; and their count."""
    columns, rows = mask.shape
    ids = np.full((columns, rows, 4), -1, np.int32)
    count = 0
    for x in range(1, columns - 1):
        for y in range(1, rows - 1):
            if mask[x, y]:
                for d in range(4):
                    left = _AHEAD[(d + 3) % 4]
                    if not mask[x + left[0], y + left[1]]:
                        ids[x, y, d] = count
                        count += 1
    return ids, count


@compiled(f"Tuple(({_INT2}, {_INT1}))(uint8[:, ::1], {_INT3}, int64)")
def _edges(mask: NDArray[np.uint8], ids: NDArray[np.int32], count: int) -> Any:
    """The corner at which each edge begins, and the edge that follows it; diagonal pixels are not connected."""
    columns, rows = mask.shape
    corners = np.empty((count, 2), np.int32)
    follow = np.empty(count, np.int32)
    for x in range(1, columns - 1):
        for y in range(1, rows - 1):
            for d in range(4):
                edge = ids[x, y, d]
                if edge < 0:
                    continue
                corners[edge, 0], corners[edge, 1] = x + _FIRST[d, 0], y + _FIRST[d, 1]
                left = _AHEAD[(d + 3) % 4]
                fx, fy = x + _AHEAD[d, 0], y + _AHEAD[d, 1]
                if not mask[fx, fy]:
                    follow[edge] = ids[x, y, (d + 1) % 4]
                elif not mask[fx + left[0], fy + left[1]]:
                    follow[edge] = ids[fx, fy, d]
                else:
                    follow[edge] = ids[fx + left[0], fy + left[1], (d + 3) % 4]
    return corners, follow


@compiled(f"Tuple(({_INT1}, {_INT1}, {_INT1}))({_INT2}, {_INT1})")
def _loops(corners: NDArray[np.int32], follow: NDArray[np.int32]) -> Any:
    """The loop of each edge, an edge of each outer loop, and the leftmost edge of each hole that leads down."""
    count = len(follow)
    loops = np.full(count, -1, np.int32)
    starts, gates = np.empty(count, np.int32), np.empty(count, np.int32)
    outer, holes = 0, 0
    for begin in range(count):
        if loops[begin] >= 0:
            continue
        twice, edge, gate, furthest = 0, begin, begin, np.int32(2**31 - 1)
        while loops[edge] < 0:
            loops[edge] = outer + holes
            x, y = corners[edge]
            after = follow[edge]
            twice += x * corners[after, 1] - corners[after, 0] * y
            if corners[after, 1] > y and x < furthest:
                gate, furthest = edge, x
            edge = after
        if twice > 0:
            starts[outer] = begin
            outer += 1
        else:
            gates[holes] = gate
            holes += 1
    return loops, starts[:outer].copy(), gates[:holes].copy()


@compiled(f"Tuple(({_INT1}, {_INT1}))(uint8[:, ::1], {_INT3}, {_INT2}, {_INT1}, {_INT1})")
def _with_keyholes(
    mask: NDArray[np.uint8],
    ids: NDArray[np.int32],
    corners: NDArray[np.int32],
    follow: NDArray[np.int32],
    gates: NDArray[np.int32],
) -> Any:
    """The vertex after each vertex, and the corner it lies on, with each hole connected to the next outline to its left.

    That outline extends further left than the hole, so that no chain of holes forms a cycle.
    """
    count, holes = len(follow), len(gates)
    link = np.empty(count + 2 * holes, np.int32)
    twin = np.empty(count + 2 * holes, np.int32)
    link[:count] = follow
    twin[:count] = np.arange(count)
    for h in range(holes):
        gate = gates[h]
        x, y = corners[gate, 0] - 1, corners[gate, 1]
        while mask[x - 1, y]:
            x -= 1
        target = follow[ids[x, y, 3]]
        forward, backward = count + 2 * h, count + 2 * h + 1
        twin[forward], twin[backward] = gate, target
        link[forward], link[backward] = link[gate], link[target]
        link[target], link[gate] = forward, backward
    return link, twin


@compiled(f"Tuple(({_INT2}, {_INT1}, {_INT1}, {_INT1}, {_INT1}, {_INT1}))(uint8[:, ::1])")
def _trace(mask: NDArray[np.uint8]) -> Any:
    """Pixel edges as closed loops with the mask on their right, and the loops connected by keyholes.

    Args:
        mask: ``(columns + 2, rows + 2)``, with a margin of 0 on all sides.

    Returns:
        corners ``(E, 2)``: the begin of each edge; follow ``(E,)``: the next edge of its loop; loops ``(E,)``: its loop;
        link ``(E + 2H,)``: the next vertex of its polygon, holes connected; twin ``(E + 2H,)``: the corner each vertex lies on;
        starts: a vertex of each polygon.
    """
    ids, count = _numbered(mask)
    corners, follow = _edges(mask, ids, count)
    loops, starts, gates = _loops(corners, follow)
    link, twin = _with_keyholes(mask, ids, corners, follow, gates)
    return corners, follow, loops, link, twin, starts


@compiled(f"Tuple(({_INT1}, {_INT1}))({_INT1}, {_INT1})")
def _walk(link: NDArray[np.int32], starts: NDArray[np.int32]) -> Any:
    """The vertices of all polygons one after the other, and the end of each polygon."""
    order = np.empty(len(link), np.int32)
    ends = np.empty(len(starts), np.int32)
    n = 0
    for i in range(len(starts)):
        vertex = starts[i]
        while True:
            order[n] = vertex
            n += 1
            vertex = link[vertex]
            if vertex == starts[i]:
                break
        ends[i] = n
    return order, ends


@compiled("int64(float64[:, ::1])")
def _inside(ring: NDArray[np.float64]) -> Any:
    """The number of pixel centres between pairs of crossings of the polygon with each row of centres."""
    count = 0
    crossings = np.empty(len(ring))
    for row in range(int(np.ceil(ring[:, 1].min())), int(np.floor(ring[:, 1].max())) + 1):
        crossed = 0
        for i in range(len(ring)):
            x, y = ring[i - 1]
            far_x, far_y = ring[i]
            if (y <= row) != (far_y <= row):
                crossings[crossed] = x + (row - y) / (far_y - y) * (far_x - x)
                crossed += 1
        ordered = np.sort(crossings[:crossed])
        for pair in range(0, crossed - 1, 2):
            count += max(0, int(np.floor(ordered[pair + 1]) - np.floor(ordered[pair])))
    return count
