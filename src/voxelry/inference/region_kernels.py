"""Compiled loops of the inference engine for regions, each decided by its own sigmoid (`voxelry.networks.classes`).

The winner is the last region whose value is above 0. Its certainty is that of the least certain of the decisions that led to it:
that this region holds the voxel, and that none behind it does. A ring buffer of probabilities holds them less one half, so that 0
is the threshold of every decision. Shapes and arguments are as in `blending_kernels`.

Labels on several layers are decided here too, layer by layer: on each the winner is the class with the largest value above 0. The
arrays hold the classes of the layer, after one more that is skipped.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from voxelry.base.compiled import compiled, inlined, readonly
from voxelry.inference.blending_kernels import (
    BYTE,
    HALF,
    INTERP,
    LAYER,
    NO_VALUE,
    ONE,
    STORED_TYPES,
    TINY,
    ZERO,
    compete_or_decide,
    interpolate_row,
)
from voxelry.inference.half import exponential, loaded, stored


@inlined
def certainty(best: Any, logits: bool) -> Any:
    """The probability of a decision that is `best` away from another one; at least one half."""
    return ONE / (ONE + exponential(-best)) if logits else min(best + HALF, ONE)


@inlined
def add_decision_entropy(values: Any, moment: Any, logits: bool) -> None:
    """Add the entropy of a region's own decision, in nats."""
    for n in range(values.size):
        apart = abs(values[n])
        if logits:
            odds = exponential(-apart)
            moment[n] += np.float32(np.log(ONE + odds)) + apart * odds / (ONE + odds)
        else:
            inside, outside = max(HALF + apart, TINY), max(HALF - apart, TINY)
            moment[n] -= inside * np.float32(np.log(inside)) + outside * np.float32(np.log(outside))


_i, _b, _u = numba.int64, numba.boolean, numba.uint16
_FINISH = [
    numba.void(
        s[:, :, :, ::1], readonly(numba.float32, 3), _u[:, :, ::1], _i, _i, _i, numba.float64[::1], _i[::1], _b, _i
    ) for s in STORED_TYPES
]  # fmt: skip
_CONFIDENCE = [numba.void(s[:, :, :, ::1], INTERP, _i, _i, _b, _b, numba.uint8[:, :, ::1], _i) for s in STORED_TYPES]


@compiled(*_FINISH)
def finish(
    ring: Any, weights: Any, winners: Any, z: int, first: int, last: int, total: Any, won: Any, logits: bool, rule: int
) -> None:
    """Divide finished slices by their weights, find the winner of each voxel, and sum the winners' certainties.

    Arguments are those of `blending_kernels.finish`, and `rule`: `REGIONS` or `LAYER`.
    """
    depth, height, width = ring.shape[1], ring.shape[2], ring.shape[3]
    best, winner = np.empty(width, np.float32), np.empty(width, np.int32)
    inverse, mean = np.empty(width, np.float32), np.empty(width, np.float32)
    for index in range(first, last):
        slot, y = (z + index // height) % depth, index % height
        weight = weights[slot, y]
        for n in range(width):
            inverse[n] = ONE / weight[n] if weight[n] > ZERO else ZERO
        best[:] = NO_VALUE if rule == LAYER else -NO_VALUE
        winner[:] = 0
        for k in range(1, ring.shape[0]):
            row = ring[k, slot, y]
            for n in range(width):
                row[n] = stored(loaded(row[n]) * inverse[n], row[n])
            for n in range(width):
                mean[n] = loaded(row[n])
            compete_or_decide(mean, np.int32(k), best, winner, rule)
        goal = winners[slot, y]
        for n in range(width):
            winner[n] = winner[n] if best[n] > ZERO or rule != LAYER else 0
            goal[n] = winner[n]
            if winner[n] > 0:
                won[winner[n]] += 1
                total[winner[n]] += certainty(best[n], logits)


@compiled(*_CONFIDENCE)
def interpolate_confidence(
    ring: Any, interp: Any, first: int, last: int, entropy: bool, logits: bool, out: Any, rule: int
) -> None:
    """Certainty, or mean entropy of the decisions as a share of the largest possible, on the finer grid.

    Arguments are those of `blending_kernels.interpolate_confidence`, and `rule`: `REGIONS` or `LAYER`.
    """
    rows, columns, count = len(interp.rows), interp.columns.shape[1], ring.shape[0]
    line, row = np.empty(ring.shape[3], np.float32), np.empty(columns, np.float32)
    best, moment, winner = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.int32)
    most = np.float32(max(count - 1, 1) * np.log(2))
    for index in range(first, last):
        a, b = index // rows, index % rows
        best[:] = NO_VALUE if rule == LAYER else -NO_VALUE
        moment[:] = ZERO
        for k in range(1, count):
            interpolate_row(ring, k, interp, a, b, line, row)
            if entropy:
                add_decision_entropy(row, moment, logits)
            else:
                compete_or_decide(row, np.int32(k), best, winner, rule)
        for n in range(columns):
            certain = moment[n] / most if entropy else certainty(abs(best[n]), logits)
            out[a, b, n] = np.uint8(min(certain, ONE) * BYTE + HALF)
