"""Locations of each class in a case, thinned, so that patches can be drawn around a class without searching for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOCATIONS_PER_CLASS = 10_000
LOCATIONS_SHARE = 0.01
"""So many voxels of a class are kept, or this share of them where that is more (nnU-Net's numbers)."""

_CHUNK = 2**21  # voxels examined at a time

ClassLocations = dict[int, NDArray[np.int32]]


def class_counts(classes: NDArray[np.integer], count: int) -> dict[int, int]:
    """Voxels of each class that occurs.

    Args:
        classes: ``(*shape)`` class indices, `IGNORE_INDEX` where nothing is known.
        count: number of classes, background included.

    Returns:
        Class index -> voxels; background included, ignored voxels not.
    """
    total = np.zeros(count + 1, np.int64)
    for chunk in _chunks(classes):
        total += np.bincount(chunk.astype(np.int64) + 1, minlength=count + 1)
    return {index: int(number) for index, number in enumerate(total[1:].tolist()) if number}


def class_locations(classes: NDArray[np.integer], count: int) -> ClassLocations:
    """Locations of each class: `LOCATIONS_PER_CLASS` voxels or `LOCATIONS_SHARE`, the larger, evenly spread by a fixed seed.

    Background (class 0) is included only where voxels are ignored, so that patches that need no label can still be drawn where
    labels are known.

    Args:
        classes: ``(*shape)`` class indices, C-contiguous.
        count: number of classes, background included.

    Returns:
        Class index -> ``(n, axes)`` int32 voxels, in memory order; absent labels are left out. Class 0 is a key where
        voxels are ignored, with no voxels where all other voxels are labelled.
    """
    counts = class_counts(classes, count)
    with_background = sum(counts.values()) < classes.size
    ranks = {index: _ranks(number, index) for index, number in counts.items() if index or with_background}
    flat: dict[int, list[NDArray[np.int64]]] = {index: [] for index in ranks}
    counted = dict.fromkeys(ranks, 0)
    begin = 0
    for chunk in _chunks(classes):
        for index, voxels in _voxels(chunk, 0 if with_background else 1).items():
            first, last = np.searchsorted(ranks[index], (counted[index], counted[index] + len(voxels)))
            flat[index].append(voxels[ranks[index][first:last] - counted[index]] + begin)
            counted[index] += len(voxels)
        begin += chunk.size
    locations = {
        index: np.stack(np.unravel_index(np.concatenate(chunks), classes.shape), axis=1).astype(np.int32)
        for index, chunks in sorted(flat.items())
    }
    return {0: np.empty((0, classes.ndim), np.int32), **locations} if with_background else locations


def _chunks(classes: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Views of the flat array."""
    flat = classes.reshape(-1)
    return [flat[begin : begin + _CHUNK] for begin in range(0, flat.size, _CHUNK)]


def _ranks(number: int, index: int) -> NDArray[np.int64]:
    """Ranks of the voxels of a class that are kept, ascending: one at random from each of equally long runs."""
    runs = min(number, max(LOCATIONS_PER_CLASS, -int(-number * LOCATIONS_SHARE // 1)))
    edges = np.arange(runs + 1, dtype=np.int64) * number // runs
    return np.random.default_rng(index).integers(edges[:-1], edges[1:])


def _voxels(chunk: NDArray[np.integer], lowest: int) -> dict[int, NDArray[np.int64]]:
    """The voxels of each class from `lowest` on in a chunk, ascending."""
    voxels = np.flatnonzero(chunk >= lowest)
    values = chunk[voxels]
    order = np.argsort(values, kind="stable")
    indices, starts = np.unique(values[order], return_index=True)
    return dict(zip(indices.tolist(), np.split(voxels[order], starts[1:]), strict=True)) if len(voxels) else {}
