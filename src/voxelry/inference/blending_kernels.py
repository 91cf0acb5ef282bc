"""Compiled loops of the inference engine: add patches to the ring buffer, find winners, interpolate labels and confidence.

Every loop runs without the interpreter's lock over a part of the work (`voxelry.base.threads.run_slabs`). Ring buffers are
``(K, depth, Y, X)`` float32, or the bits of half floats (`half`); slice z lies in slot ``z % depth``. K classes; S the axis along
which patches stream, Y and X the other two.

With regions in place of classes (`voxelry.networks.classes`) the winner is the last whose value is above 0, and with labels on
several layers that of the largest value above 0 among the classes of each layer; the loops that differ are in `region_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.inference.half import exponential, loaded, stored
from voxelry.inference.linear_interpolation import SlabInterp

NO_VALUE = np.float32(-3e38)
TINY = np.float32(1e-30)
ZERO, ONE, BYTE, HALF = np.float32(0), np.float32(1), np.float32(255), np.float32(0.5)

CLASSES, REGIONS, LAYER = 0, 1, 2
"""Rules of finding a winner: the largest value; the last above 0; the largest above 0. The last two skip class 0."""

_f, _i, _u = numba.float32, numba.int64, numba.uint16
STORED_TYPES = (numba.float32, numba.uint16)
INTERP = numba.types.NamedTuple((_i[:, ::1], _f[::1], _i[:, ::1], _f[::1], numba.uint64[:, ::1], _f[::1]), SlabInterp)


@inlined
def compete(values: Any, label: Any, best: Any, winner: Any) -> None:
    """Where a class is above the best so far it becomes the winner; the lower class wins a tie."""
    for n in range(values.size):
        value, before = values[n], best[n]
        better = value > before
        winner[n] = label if better else winner[n]
        best[n] = value if better else before


@inlined
def decide(values: Any, label: Any, best: Any, winner: Any) -> None:
    """Where a region is above 0 it becomes the winner; `best` is how far the nearest decision is from another one."""
    for n in range(values.size):
        value, before = values[n], best[n]
        winner[n] = label if value > ZERO else winner[n]
        best[n] = value if value > ZERO else min(before, -value)


@inlined
def compete_or_decide(values: Any, label: Any, best: Any, winner: Any, rule: int) -> None:
    """`decide` of regions, else `compete`."""
    if rule == REGIONS:
        decide(values, label, best, winner)
    else:
        compete(values, label, best, winner)


@inlined
def add_weights(values: Any, best: Any, total: Any, logits: bool) -> None:
    """Add a class's term of the sum over classes: its probability, or the exponential of its logit less the best one."""
    if logits:
        for n in range(values.size):
            total[n] += exponential(min(loaded(values[n]) - best[n], ZERO))
    else:
        for n in range(values.size):
            total[n] += max(loaded(values[n]), ZERO)


@inlined
def add_moments(values: Any, best: Any, moment: Any, logits: bool) -> None:
    """Add each term of the sum over classes times its logarithm, for the entropy."""
    for n in range(values.size):
        apart = min(values[n] - best[n], ZERO)
        share = exponential(apart) if logits else max(values[n], TINY)
        moment[n] += share * (apart if logits else np.float32(np.log(share)))


@inlined
def interpolate_yz(ring: Any, k: int, z: Any, fz: Any, y: Any, fy: Any, start: Any, stop: Any, line: Any) -> None:
    """The row of class k between two slices and two rows, from voxel `start` to `stop`."""
    row00, row01 = ring[k, z[0], y[0], start:stop], ring[k, z[0], y[1], start:stop]
    row10, row11 = ring[k, z[1], y[0], start:stop], ring[k, z[1], y[1], start:stop]
    w00, w01, w10, w11 = (ONE - fz) * (ONE - fy), (ONE - fz) * fy, fz * (ONE - fy), fz * fy
    goal = line[start:stop]
    for n in range(goal.size):
        goal[n] = (loaded(row00[n]) * w00 + loaded(row01[n]) * w01) + (loaded(row10[n]) * w10 + loaded(row11[n]) * w11)


@inlined
def interpolate_x(line: Any, below: Any, above: Any, fraction: Any, row: Any) -> None:
    """Linear interpolation along a row: between voxels `below` and `above`, `fraction` of the way."""
    for n in range(row.size):
        row[n] = line[below[n]] * (ONE - fraction[n]) + line[above[n]] * fraction[n]


@inlined
def interpolate_row(ring: Any, k: int, interp: Any, a: int, b: int, line: Any, row: Any) -> None:
    """Row b of new slice a of class k; `line` is scratch as wide as the ring buffer."""
    interpolate_yz(
        ring, k, interp.slices[a], interp.slice_fractions[a], interp.rows[b], interp.row_fractions[b], 0, line.size, line
    )
    interpolate_x(line, interp.columns[0], interp.columns[1], interp.column_fractions, row)


@inlined
def interpolate_classes(ring: Any, interp: Any, a: int, b: int, line: Any, values: Any, best: Any) -> None:
    """Row b of new slice a of all classes, ``(K, m)``, and the largest value of each voxel."""
    best[:] = NO_VALUE
    for k in range(values.shape[0]):
        row = values[k]
        interpolate_row(ring, k, interp, a, b, line, row)
        for n in range(row.size):
            best[n] = max(best[n], row[n])


_BLEND = [numba.void(s[:, :, :, ::1], readonly(_f, 4), readonly(_f, 3), _i, _i, _i, _i, _i, _f, _f) for s in STORED_TYPES]
FINISH_SIGNATURES = [
    numba.void(s[:, :, :, ::1], readonly(_f, 3), _u[:, :, ::1], _i, _i, _i, numba.float64[::1], _i[::1], numba.boolean)
    for s in STORED_TYPES
]
_ROWS = [
    numba.void(s[:, :, :, ::1], _u[:, :, ::1], INTERP, _i, _i, _i, _u[:, :, ::1]) for s in STORED_TYPES
]  # fmt: skip
CONFIDENCE_SIGNATURES = [
    numba.void(s[:, :, :, ::1], INTERP, _i, _i, numba.boolean, numba.boolean, numba.uint8[:, :, ::1]) for s in STORED_TYPES
]


@compiled(*_BLEND)
def blend(ring: Any, values: Any, weights: Any, z: int, y: int, x: int, first: int, last: int, scale: Any, limit: Any) -> None:
    """Add ``values * weights * scale`` to the ring buffer, for classes `first` to `last`.

    Args:
        ring: ``(K, depth, Y, X)``.
        values: ``(K, p, q, r)`` float32, logits of (a part of) a patch.
        weights: ``(p, q, r)`` float32.
        z: first slice of the patch.
        y: its first row.
        x: its first column.
        first: the first class to add.
        last: the class to stop before.
        scale: share of this copy of the patch in the mean.
        limit: values are clipped to plus and minus this.
    """
    depth = ring.shape[1]
    for k in range(first, last):
        for dz in range(values.shape[1]):
            slot = (z + dz) % depth
            for dy in range(values.shape[2]):
                row = ring[k, slot, y + dy, x : x + values.shape[3]]
                value, weight = values[k, dz, dy], weights[dz, dy]
                for n in range(row.size):
                    clipped = min(max(value[n], -limit), limit)
                    row[n] = stored(loaded(row[n]) + clipped * (weight[n] * scale), row[n])


@compiled(*FINISH_SIGNATURES)
def finish(ring: Any, weights: Any, winners: Any, z: int, first: int, last: int, total: Any, won: Any, logits: bool) -> None:
    """Divide finished slices by their weights, find the winner of each voxel, and sum the winners' probabilities.

    Args:
        ring: ``(K, depth, Y, X)``; becomes means in place, 0 where no patch came.
        weights: ``(depth, Y, X)`` float32, sums of the weights of patches.
        winners: ``(depth, Y, X)`` uint16, written.
        z: the first finished slice.
        first: the first row to work on, of those of all finished slices.
        last: the row to stop before.
        total: ``(K,)`` float64, raised by the probabilities of voxels a class won; background is left out.
        won: ``(K,)`` int64, raised by how many it won.
        logits: whether the ring buffer holds logits; else probabilities.
    """
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    best, winner = np.empty(width, np.float32), np.empty(width, np.int32)
    inverse, share, mean = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight = weights[slot, y]
        for n in range(width):
            inverse[n] = ONE / weight[n] if weight[n] > ZERO else ZERO
            best[n] = NO_VALUE
            winner[n] = 0
        for k in range(ring.shape[0]):
            row = ring[k, slot, y]
            for n in range(width):
                row[n] = stored(loaded(row[n]) * inverse[n], row[n])
            for n in range(width):
                mean[n] = loaded(row[n])
            compete(mean, np.int32(k), best, winner)
        goal = winners[slot, y]
        low, high = width, 0
        for n in range(width):
            goal[n] = winner[n]
            share[n] = ZERO
            if winner[n] > 0:
                low, high = min(low, n), n + 1
        if low >= high:
            continue
        for k in range(ring.shape[0]):
            add_weights(ring[k, slot, y, low:high], best[low:high], share[low:high], logits)
        for n in range(low, high):
            if winner[n] > 0:
                won[winner[n]] += 1
                total[winner[n]] += (ONE if logits else best[n]) / share[n]


@compiled(*_ROWS)
def interpolate_labels(ring: Any, winners: Any, interp: Any, first: int, last: int, rule: int, labels: Any) -> None:
    """Winners on the finer grid: where the corners of a cell agree they win, elsewhere all classes are interpolated.

    A new value is a mean of those at the corners, with weights not below 0. So what holds at every corner holds within: that a
    class is not below any other; that, with regions, one is above 0 and none behind it is; that, on a layer, one is above 0 and
    not below any other.

    Args:
        ring: ``(K, depth, Y, X)``, means.
        winners: ``(depth, Y, X)`` uint16.
        interp: `SlabInterp` to ``(n, r, m)`` new voxels.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        rule: `CLASSES`, `REGIONS` or `LAYER`.
        labels: ``(n, r, m)`` uint16, written.
    """
    xs, fxs = interp.columns, interp.column_fractions
    rows, columns, width = len(interp.rows), xs.shape[1], ring.shape[3]
    agreed = np.empty(width, np.int32)
    line = np.empty(width, np.float32)
    best, winner, values = np.empty(columns, np.float32), np.empty(columns, np.int32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        z, fz, y, fy = interp.slices[a], interp.slice_fractions[a], interp.rows[b], interp.row_fractions[b]
        row00, row01 = winners[z[0], y[0]], winners[z[0], y[1]]
        row10, row11 = winners[z[1], y[0]], winners[z[1], y[1]]
        for n in range(width):
            same = row00[n] == row01[n] and row00[n] == row10[n] and row00[n] == row11[n]
            agreed[n] = np.int32(row00[n]) if same else np.int32(-1)
        goal, begin = labels[a, b], 0
        while begin < columns:
            low = agreed[xs[0, begin]]
            if low >= 0 and low == agreed[xs[1, begin]]:
                goal[begin] = low
                begin += 1
                continue
            end, quiet = begin + 1, begin + 1
            while end < columns and end - quiet < 8:
                low = agreed[xs[0, end]]
                end += 1
                if low < 0 or low != agreed[xs[1, end - 1]]:
                    quiet = end
            end = quiet
            start, stop = np.int64(xs[0, begin]), np.int64(xs[1, end - 1]) + 1
            below, above, fraction, row = xs[0, begin:end], xs[1, begin:end], fxs[begin:end], values[begin:end]
            best[:] = NO_VALUE
            winner[:] = 0
            for k in range(min(rule, 1), ring.shape[0]):
                interpolate_yz(ring, k, z, fz, y, fy, start, stop, line)
                interpolate_x(line, below, above, fraction, row)
                compete_or_decide(row, np.int32(k), best, winner, rule)
            for n in range(end - begin):
                goal[begin + n] = winner[n] if rule != LAYER or best[n] > ZERO else 0
            begin = end


@compiled(*CONFIDENCE_SIGNATURES)
def interpolate_confidence(ring: Any, interp: Any, first: int, last: int, entropy: bool, logits: bool, out: Any) -> None:
    """Winning probability, or entropy as a share of the largest possible, of every voxel of the finer grid.

    Args:
        ring: ``(K, depth, Y, X)``, means.
        interp: `SlabInterp` to ``(n, r, m)`` new voxels.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        entropy: the entropy; else the probability.
        logits: whether the ring buffer holds logits; else probabilities.
        out: ``(n, r, m)`` uint8, written: 0..255 for 0..1.
    """
    rows, columns, count = len(interp.rows), interp.columns.shape[1], ring.shape[0]
    line, values = np.empty(ring.shape[3], np.float32), np.empty((count, columns), np.float32)
    best, total, moment = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    most = np.float32(np.log(max(count, 2)))
    for index in range(first, last):
        a, b = index // rows, index % rows
        interpolate_classes(ring, interp, a, b, line, values, best)
        total[:] = ZERO
        moment[:] = ZERO
        for k in range(count):
            add_weights(values[k], best, total, logits)
            if entropy:
                add_moments(values[k], best, moment, logits)
        for n in range(columns):
            if total[n] <= ZERO:
                certain = ZERO if entropy else ONE
            elif entropy:
                spread = np.float32(np.log(total[n])) - moment[n] / total[n]
                certain = min(max(spread / most, ZERO), ONE)
            else:
                certain = (ONE if logits else best[n]) / total[n]
            out[a, b, n] = np.uint8(min(certain, ONE) * BYTE + HALF)
