"""Compiled loops of the window engine: add a window to the ring, find winners, interpolate rows of labels.

Every loop runs without the interpreter's lock over a part of the work; `share` gives the parts to a pool of threads that all
predictors have in common. Rings are ``(K, depth, Y, X)`` float32, or the bits of halves (`half`); slice z lies in slot
``z % depth``. K classes; S the axis along which windows stream, Y and X the other two.

With regions in place of classes (`voxelry.networks.classes`) the winner is the last whose value is above 0; what differs further
is in `region_kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.inference.half import exponential, loaded, stored

NO_VALUE = np.float32(-3e38)
_TINY = np.float32(1e-30)
_ZERO, _ONE, _BYTE, _HALF = np.float32(0), np.float32(1), np.float32(255), np.float32(0.5)

_f, _i, _u, _w = numba.float32, numba.int64, numba.uint16, numba.uint64
STORES = (numba.float32, numba.uint16)


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
        winner[n] = label if value > _ZERO else winner[n]
        best[n] = value if value > _ZERO else min(before, -value)


@inlined
def judge(values: Any, label: Any, best: Any, winner: Any, regions: bool) -> None:
    """`compete`, or of regions `decide`."""
    if regions:
        decide(values, label, best, winner)
    else:
        compete(values, label, best, winner)


@inlined
def add_shares(values: Any, best: Any, share: Any, logits: bool) -> None:
    """Add what a class weighs in the sum of all: its probability, or the exponential of how far it lies below the best."""
    if logits:
        for n in range(values.size):
            share[n] += exponential(min(loaded(values[n]) - best[n], _ZERO))
    else:
        for n in range(values.size):
            share[n] += max(loaded(values[n]), _ZERO)


@inlined
def add_moments(values: Any, best: Any, moment: Any, logits: bool) -> None:
    """Add each weight times its logarithm, for the entropy."""
    for n in range(values.size):
        apart = min(values[n] - best[n], _ZERO)
        share = exponential(apart) if logits else max(values[n], _TINY)
        moment[n] += share * (apart if logits else np.float32(np.log(share)))


_BLEND = [numba.void(s[:, :, :, ::1], readonly(_f, 4), readonly(_f, 3), _i, _i, _i, _i, _i, _f, _f) for s in STORES]
FINISH = [
    numba.void(s[:, :, :, ::1], readonly(_f, 3), _u[:, :, ::1], _i, _i, _i, numba.float64[::1], _i[::1], numba.boolean)
    for s in STORES
]
_ROWS = [
    numba.void(
        s[:, :, :, ::1], _u[:, :, ::1], readonly(_i, 2), readonly(_f, 1), readonly(_i, 2), readonly(_f, 1), readonly(_w, 2),
        readonly(_f, 1), _i, _i, numba.boolean, _u[:, :, ::1],
    )
    for s in STORES
]  # fmt: skip
TRUST = [
    numba.void(
        s[:, :, :, ::1], readonly(_i, 2), readonly(_f, 1), readonly(_i, 2), readonly(_f, 1), readonly(_w, 2), readonly(_f, 1),
        _i, _i, numba.boolean, numba.boolean, numba.uint8[:, :, ::1],
    )
    for s in STORES
]  # fmt: skip


@compiled(*_BLEND)
def blend(ring: Any, values: Any, weights: Any, z: int, y: int, x: int, first: int, last: int, scale: Any, limit: Any) -> None:
    """Add ``values * weights * scale`` to the ring, for classes `first` to `last`.

    Args:
        ring: ``(K, depth, Y, X)``.
        values: ``(K, p, q, r)`` float32, logits of (a part of) a window.
        weights: ``(p, q, r)`` float32.
        z: where it begins.
        y: likewise.
        x: likewise.
        first: the first class to add.
        last: the class to stop before.
        scale: share of this copy of the window.
        limit: values are held within plus and minus this.
    """
    depth = ring.shape[1]
    for k in range(first, last):
        for dz in range(values.shape[1]):
            slot = (z + dz) % depth
            for dy in range(values.shape[2]):
                row = ring[k, slot, y + dy, x : x + values.shape[3]]
                value, weight = values[k, dz, dy], weights[dz, dy]
                for n in range(row.size):
                    held = min(max(value[n], -limit), limit)
                    row[n] = stored(loaded(row[n]) + held * (weight[n] * scale), row[n])


@compiled(*FINISH)
def finish(ring: Any, weights: Any, winners: Any, z: int, first: int, last: int, total: Any, won: Any, logits: bool) -> None:
    """Divide finished slices by their weights, find the winner of each voxel, and sum the winners' probabilities.

    Args:
        ring: ``(K, depth, Y, X)``; becomes means in place, 0 where no window came.
        weights: ``(depth, Y, X)`` float32, sums of the weights of windows.
        winners: ``(depth, Y, X)`` uint16, written.
        z: the first finished slice.
        first: the first row to work on, of those of all finished slices.
        last: the row to stop before.
        total: ``(K,)`` float64, raised by the probabilities of voxels a class won; background is left out.
        won: ``(K,)`` int64, raised by how many it won.
        logits: whether the ring holds logits; else probabilities.
    """
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    best, winner = np.empty(width, np.float32), np.empty(width, np.int32)
    inverse, share, mixed = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight = weights[slot, y]
        for n in range(width):
            inverse[n] = _ONE / weight[n] if weight[n] > _ZERO else _ZERO
            best[n] = NO_VALUE
            winner[n] = 0
        for k in range(ring.shape[0]):
            row = ring[k, slot, y]
            for n in range(width):
                row[n] = stored(loaded(row[n]) * inverse[n], row[n])
            for n in range(width):
                mixed[n] = loaded(row[n])
            compete(mixed, np.int32(k), best, winner)
        goal = winners[slot, y]
        low, high = width, 0
        for n in range(width):
            goal[n] = winner[n]
            share[n] = _ZERO
            if winner[n] > 0:
                low, high = min(low, n), n + 1
        if low >= high:
            continue
        for k in range(ring.shape[0]):
            add_shares(ring[k, slot, y, low:high], best[low:high], share[low:high], logits)
        for n in range(low, high):
            if winner[n] > 0:
                won[winner[n]] += 1
                total[winner[n]] += (_ONE if logits else best[n]) / share[n]


@inlined
def mix(ring: Any, k: int, z: Any, fz: Any, y: Any, fy: Any, start: Any, stop: Any, mixed: Any) -> None:
    """The row of class k between two slices and two rows, from voxel `start` to `stop`."""
    one, two = ring[k, z[0], y[0], start:stop], ring[k, z[0], y[1], start:stop]
    three, four = ring[k, z[1], y[0], start:stop], ring[k, z[1], y[1], start:stop]
    w1, w2, w3, w4 = (_ONE - fz) * (_ONE - fy), (_ONE - fz) * fy, fz * (_ONE - fy), fz * fy
    row = mixed[start:stop]
    for n in range(row.size):
        row[n] = (loaded(one[n]) * w1 + loaded(two[n]) * w2) + (loaded(three[n]) * w3 + loaded(four[n]) * w4)


@inlined
def stretch(mixed: Any, below: Any, above: Any, part: Any, row: Any) -> None:
    """Linear interpolation along a row: between voxels `below` and `above`, `part` of the way."""
    for n in range(row.size):
        row[n] = mixed[below[n]] * (_ONE - part[n]) + mixed[above[n]] * part[n]


@compiled(*_ROWS)
def interpolate_rows(
    ring: Any,
    winners: Any,
    zs: Any,
    fzs: Any,
    ys: Any,
    fys: Any,
    xs: Any,
    fxs: Any,
    first: int,
    last: int,
    regions: bool,
    labels: Any,
) -> None:
    """Winners on the finer grid: where the corners of a cell agree they win, elsewhere all classes are interpolated.

    A new value is a mean of those at the corners, with weights not below 0. So what holds at every corner holds within: that a
    class is not below any other; or, with regions, that one is above 0 and that none behind it is.

    Args:
        ring: ``(K, depth, Y, X)``, means.
        winners: ``(depth, Y, X)`` uint16.
        zs: ``(n, 2)`` slots of the slices before and behind each new slice.
        fzs: ``(n,)`` float32, how far between them.
        ys: ``(r, 2)``, the same along Y, in voxels.
        fys: ``(r,)`` float32.
        xs: ``(2, m)`` uint64, the same along X.
        fxs: ``(m,)`` float32.
        first: the first row to work on, of ``n * r``.
        last: the row to stop before.
        regions: whether classes are regions.
        labels: ``(n, r, m)`` uint16, written.
    """
    rows, columns, width = len(ys), xs.shape[1], ring.shape[3]
    agreed = np.empty(width, np.int32)
    mixed = np.empty(width, np.float32)
    best, winner, values = np.empty(columns, np.float32), np.empty(columns, np.int32), np.empty(columns, np.float32)
    for index in range(first, last):
        a, b = index // rows, index % rows
        z, y, goal = zs[a], ys[b], labels[a, b]
        one, two = winners[z[0], y[0]], winners[z[0], y[1]]
        three, four = winners[z[1], y[0]], winners[z[1], y[1]]
        for n in range(width):
            same = one[n] == two[n] and one[n] == three[n] and one[n] == four[n]
            agreed[n] = np.int32(one[n]) if same else np.int32(-1)
        begin = 0
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
            below, above, part, row = xs[0, begin:end], xs[1, begin:end], fxs[begin:end], values[begin:end]
            best[:] = NO_VALUE
            winner[:] = 0
            for k in range(int(regions), ring.shape[0]):
                mix(ring, k, z, fzs[a], y, fys[b], start, stop, mixed)
                stretch(mixed, below, above, part, row)
                judge(row, np.int32(k), best, winner, regions)
            for n in range(end - begin):
                goal[begin + n] = winner[n]
            begin = end


@compiled(*TRUST)
def trust_rows(
    ring: Any,
    zs: Any,
    fzs: Any,
    ys: Any,
    fys: Any,
    xs: Any,
    fxs: Any,
    first: int,
    last: int,
    entropy: bool,
    logits: bool,
    out: Any,
) -> None:
    """Winning probability, or entropy as a share of the largest possible, of every voxel of the finer grid.

    Args:
        ring: as for `interpolate_rows`.
        zs: as for `interpolate_rows`.
        fzs: as for `interpolate_rows`.
        ys: as for `interpolate_rows`.
        fys: as for `interpolate_rows`.
        xs: as for `interpolate_rows`.
        fxs: as for `interpolate_rows`.
        first: as for `interpolate_rows`.
        last: as for `interpolate_rows`.
        entropy: the entropy; else the probability.
        logits: whether the ring holds logits; else probabilities.
        out: ``(n, r, m)`` uint8, written: 0..255 for 0..1.
    """
    rows, columns, width, count = len(ys), xs.shape[1], ring.shape[3], ring.shape[0]
    mixed = np.empty(width, np.float32)
    values = np.empty((count, columns), np.float32)
    best, total, moment = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    most = np.float32(np.log(max(count, 2)))
    for index in range(first, last):
        a, b = index // rows, index % rows
        best[:] = NO_VALUE
        for k in range(count):
            mix(ring, k, zs[a], fzs[a], ys[b], fys[b], 0, width, mixed)
            row = values[k]
            stretch(mixed, xs[0], xs[1], fxs, row)
            for n in range(columns):
                best[n] = max(best[n], row[n])
        total[:] = _ZERO
        moment[:] = _ZERO
        for k in range(count):
            add_shares(values[k], best, total, logits)
            if entropy:
                add_moments(values[k], best, moment, logits)
        for n in range(columns):
            if total[n] <= _ZERO:
                certain = _ZERO if entropy else _ONE
            elif entropy:
                spread = np.float32(np.log(total[n])) - moment[n] / total[n]
                certain = min(max(spread / most, _ZERO), _ONE)
            else:
                certain = (_ONE if logits else best[n]) / total[n]
            out[a, b, n] = np.uint8(min(certain, _ONE) * _BYTE + _HALF)
