"""Compiled loops of the window engine for regions, which decide each for itself (`voxelry.networks.classes`).

The winner is the last region whose value is above 0. Its certainty is that of the least certain of the decisions that led to it:
that this region holds the voxel, and that none behind it does. A ring of probabilities holds them less one half, so that 0 is
where every decision turns. Rings, shapes and arguments are as in `kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from voxelry.base.compiled import compiled, inlined
from voxelry.inference.blending_kernels import FINISH, NO_VALUE, TRUST, decide, mix, stretch
from voxelry.inference.half import exponential, loaded, stored

_TINY = np.float32(1e-30)
_ZERO, _ONE, _BYTE, _HALF = np.float32(0), np.float32(1), np.float32(255), np.float32(0.5)


@inlined
def certainty(best: Any, logits: bool) -> Any:
    """The probability of a decision that is `best` away from another one; at least one half."""
    return _ONE / (_ONE + exponential(-best)) if logits else min(best + _HALF, _ONE)


@inlined
def add_doubts(values: Any, moment: Any, logits: bool) -> None:
    """Add the entropy of a region's own decision, in nats."""
    for n in range(values.size):
        apart = abs(values[n])
        if logits:
            rest = exponential(-apart)
            moment[n] += np.float32(np.log(_ONE + rest)) + apart * rest / (_ONE + rest)
        else:
            inside, outside = max(_HALF + apart, _TINY), max(_HALF - apart, _TINY)
            moment[n] -= inside * np.float32(np.log(inside)) + outside * np.float32(np.log(outside))


@compiled(*FINISH)
def finish(ring: Any, weights: Any, winners: Any, z: int, first: int, last: int, total: Any, won: Any, logits: bool) -> None:
    """Divide finished slices by their weights, find the winner of each voxel, and sum the winners' certainties; see `kernels`."""
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    best, winner = np.empty(width, np.float32), np.empty(width, np.int32)
    inverse, mixed = np.empty(width, np.float32), np.empty(width, np.float32)
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight = weights[slot, y]
        for n in range(width):
            inverse[n] = _ONE / weight[n] if weight[n] > _ZERO else _ZERO
        best[:] = -NO_VALUE
        winner[:] = 0
        for k in range(1, ring.shape[0]):
            row = ring[k, slot, y]
            for n in range(width):
                row[n] = stored(loaded(row[n]) * inverse[n], row[n])
            for n in range(width):
                mixed[n] = loaded(row[n])
            decide(mixed, np.int32(k), best, winner)
        goal = winners[slot, y]
        for n in range(width):
            goal[n] = winner[n]
            if winner[n] > 0:
                won[winner[n]] += 1
                total[winner[n]] += certainty(best[n], logits)


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
    """Certainty, or mean entropy of the decisions as a share of the largest possible, on the finer grid; see `kernels`."""
    rows, columns, width, count = len(ys), xs.shape[1], ring.shape[3], ring.shape[0]
    mixed, row = np.empty(width, np.float32), np.empty(columns, np.float32)
    best, moment, winner = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.int32)
    most = np.float32(max(count - 1, 1) * np.log(2))
    for index in range(first, last):
        a, b = index // rows, index % rows
        best[:] = -NO_VALUE
        moment[:] = _ZERO
        for k in range(1, count):
            mix(ring, k, zs[a], fzs[a], ys[b], fys[b], 0, width, mixed)
            stretch(mixed, xs[0], xs[1], fxs, row)
            if entropy:
                add_doubts(row, moment, logits)
            else:
                decide(row, np.int32(k), best, winner)
        for n in range(columns):
            certain = moment[n] / most if entropy else certainty(best[n], logits)
            out[a, b, n] = np.uint8(min(certain, _ONE) * _BYTE + _HALF)
