"""CaseObjects: the objects of reference and prediction of one case, on all their layers, and what they share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.metrics.instances import ObjectMap, ObjectOverlaps, Values, connected_objects, object_overlaps, objects_from_ids


@dataclass(frozen=True, eq=False)
class LayerObjects:
    """The objects of the labels that share a layer of the reference and a layer of the prediction."""

    truth: ObjectMap
    guess: ObjectMap


@dataclass(frozen=True, eq=False)
class CaseObjects:
    """The objects of one case, numbered through all layers.

    Attributes:
        layers: at least one.
        geometry: the grid of both maps.
    """

    layers: tuple[LayerObjects, ...]
    geometry: Geometry

    @cached_property
    def overlaps(self) -> ObjectOverlaps:
        """What objects of reference and prediction share, whatever their labels, on one layer or on different ones."""
        truths, guesses = ([getattr(layer, side) for layer in self.layers] for side in ("truth", "guess"))
        tables = [[object_overlaps(truth, guess) for guess in guesses] for truth in truths]
        starts = [np.cumsum([0, *(len(objects) for objects in side)]) for side in (truths, guesses)]
        cells = [(i, j, table) for i, row in enumerate(tables) for j, table in enumerate(row)]
        return ObjectOverlaps(
            _joined([objects.classes for objects in truths]),
            _joined([objects.classes for objects in guesses]),
            _joined([row[0].reference_sizes for row in tables]),
            _joined([table.prediction_sizes for table in tables[0]]),
            _joined([table.reference + starts[0][i] for i, _, table in cells]),
            _joined([table.prediction + starts[1][j] for _, j, table in cells]),
            _joined([table.shared for _, _, table in cells]),
        )

    @cached_property
    def centroids(self) -> tuple[Values, Values] | None:
        """``(R, ndim)`` and ``(P, ndim)`` centroids of the objects of both maps in mm; None where the pixel size is unknown."""
        if self.geometry.spacing is None:
            return None
        truths, guesses = (
            np.concatenate([_centroids(objects) for objects in side])
            for side in ([layer.truth for layer in self.layers], [layer.guess for layer in self.layers])
        )
        if self.geometry.affine is None:
            return truths * self.geometry.spacing, guesses * self.geometry.spacing
        return self.geometry.world(truths), self.geometry.world(guesses)

    @cached_property
    def given(self) -> NDArray[np.int64]:
        """``(P,)`` the id that the prediction gave each object; 0 for connected components."""
        return _joined([layer.guess.given for layer in self.layers])


def layer_objects(classes: NDArray[Any], ids: NDArray[Any] | None, things: Collection[int]) -> ObjectMap:
    """The objects of a layer: by id for things and for all classes that have ids, else connected components.

    Args:
        classes: ``(*spatial)`` class indices, 0 the background.
        ids: ``(*spatial)`` instance ids, 0 outside objects; None for a semantic map, whose objects are all components.
        things: class indices of labels whose voxels without an id belong to no object.
    """
    if ids is None:
        return connected_objects(classes)
    objects = objects_from_ids(ids, classes)
    known = {*things, *objects.classes.tolist()}
    others = [index for index in range(1, int(classes.max(initial=0)) + 1) if index not in known]
    rest = np.where(np.isin(classes, others), classes, 0)
    if not rest.any():
        return objects
    components = connected_objects(rest)
    joined = np.where(components.ids > 0, components.ids + np.uint32(len(objects)), objects.ids)
    return ObjectMap(joined, _joined([objects.classes, components.classes]), _joined([objects.given, components.given]))


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def _centroids(objects: ObjectMap) -> Values:
    """``(n, ndim)`` mean voxel index of each object."""
    sums = np.zeros((objects.ids.ndim, len(objects) + 1))
    sizes = np.zeros(len(objects) + 1)
    for row, plane in enumerate(objects.ids):
        places = np.nonzero(plane)
        ids = plane[places]
        counts = np.bincount(ids, minlength=len(objects) + 1)
        sizes += counts
        sums[0] += row * counts
        for axis, place in enumerate(places, start=1):
            sums[axis] += np.bincount(ids, place, minlength=len(objects) + 1)
    centroids: Values = (sums[:, 1:] / np.maximum(sizes[1:], 1)).T
    return centroids
