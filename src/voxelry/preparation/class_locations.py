"""Where each class is in a case, thinned, so that windows can be drawn around it without searching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLACES_PER_CLASS = 10_000
PLACES_SHARE = 0.01
"""Of a class so many voxels are kept, or this share of them where that is more (nnU-Net's numbers)."""

_PIECE = 2**21  # voxels looked at once

Places = dict[int, NDArray[np.int32]]


def class_counts(classes: NDArray[np.integer], count: int) -> dict[int, int]:
    """Voxels of each class that occurs.

    Args:
        classes: ``(*shape)`` class indices, `IGNORE_INDEX` where nothing is known.
        count: number of classes, background included.

    Returns:
        Class index -> voxels; background included, ignored voxels not.
    """
    total = np.zeros(count + 1, np.int64)
    for piece in _pieces(classes):
        total += np.bincount(piece.astype(np.int64) + 1, minlength=count + 1)
    return {index: int(number) for index, number in enumerate(total[1:].tolist()) if number}


def class_places(classes: NDArray[np.integer], count: int) -> Places:
    """Where each class is: of each `PLACES_PER_CLASS` voxels or `PLACES_SHARE`, the larger, spread evenly by a fixed seed.

    Background (class 0) is looked for only where voxels are ignored, so that windows that need no label can still be drawn where
    something is known.

    Args:
        classes: ``(*shape)`` class indices, C-contiguous.
        count: number of classes, background included.

    Returns:
        Class index -> ``(n, axes)`` int32 voxels, in memory order; labels that are absent are left out. Class 0 is a key where
        voxels are ignored, and has no voxels where all the others are labelled.
    """
    counts = class_counts(classes, count)
    with_background = sum(counts.values()) < classes.size
    ranks = {index: _ranks(number, index) for index, number in counts.items() if index or with_background}
    found: dict[int, list[NDArray[np.int64]]] = {index: [] for index in ranks}
    passed = dict.fromkeys(ranks, 0)
    begin = 0
    for piece in _pieces(classes):
        for index, voxels in _voxels(piece, 0 if with_background else 1).items():
            first, last = np.searchsorted(ranks[index], (passed[index], passed[index] + len(voxels)))
            found[index].append(voxels[ranks[index][first:last] - passed[index]] + begin)
            passed[index] += len(voxels)
        begin += piece.size
    places = {
        index: np.stack(np.unravel_index(np.concatenate(parts), classes.shape), axis=1).astype(np.int32)
        for index, parts in sorted(found.items())
    }
    return {0: np.empty((0, classes.ndim), np.int32), **places} if with_background else places


def _pieces(classes: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    flat = classes.reshape(-1)
    return [flat[begin : begin + _PIECE] for begin in range(0, flat.size, _PIECE)]


def _ranks(number: int, index: int) -> NDArray[np.int64]:
    """Which of a class's voxels are kept: one of each of as many stretches, ascending."""
    kept = min(number, max(PLACES_PER_CLASS, -int(-number * PLACES_SHARE // 1)))
    edges = np.arange(kept + 1, dtype=np.int64) * number // kept
    return np.random.default_rng(index).integers(edges[:-1], edges[1:])


def _voxels(piece: NDArray[np.integer], lowest: int) -> dict[int, NDArray[np.int64]]:
    """Where each class from `lowest` on is in a piece, ascending."""
    places = np.flatnonzero(piece >= lowest)
    values = piece[places]
    order = np.argsort(values, kind="stable")
    indices, starts = np.unique(values[order], return_index=True)
    return dict(zip(indices.tolist(), np.split(places[order], starts[1:]), strict=True)) if len(places) else {}
