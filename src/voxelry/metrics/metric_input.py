"""The input of a family of metrics: reference and prediction of one case on one grid, with their shared intermediate results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError
from voxelry.metrics.aligned_pair import AlignedPair
from voxelry.metrics.case_objects import CaseObjects, LayerObjects, layer_objects
from voxelry.metrics.evaluate import OverlapCounts, layer_classes
from voxelry.metrics.overlap import Counts, Values

Tolerance = float | Mapping[str, float]
"""NSD tolerance in mm (pixels with ``surface_pixels``): one for all labels, or one for each label by name."""


def check_tolerance(tolerance: Tolerance) -> None:
    """Refuse tolerances that are no distance.

    Raises:
        UsageError: below 0, infinite, or not a number.
    """
    values = tolerance.values() if isinstance(tolerance, Mapping) else [tolerance]
    wrong = [value for value in values if not 0 <= value < inf]
    if wrong:
        raise UsageError(f"a tolerance of {wrong[0]:g}", remedy="Give a distance of 0 or more, such as 1.")


@dataclass(frozen=True, eq=False)
class LayerClasses:
    """Class indices of the labels that share a layer of the reference and a layer of the prediction.

    Attributes:
        labels: class indices, from 1.
        truth: ``(*spatial)`` class indices of the reference in the smallest unsigned type, 0 for other labels and where ignored.
        guess: likewise of the prediction.
    """

    labels: tuple[int, ...]
    truth: NDArray[Any]
    guess: NDArray[Any]


@dataclass(frozen=True, eq=False)
class MetricInput:
    """Reference and prediction of one case.

    Attributes:
        pair: both maps on one grid, the labels to score, and their layers.
        overlap: counts of voxels.
        tolerance: NSD tolerance.
    """

    pair: AlignedPair
    overlap: OverlapCounts
    tolerance: Tolerance = 1.0

    @property
    def reference(self) -> LabelMap:
        """The truth."""
        return self.pair.reference

    @property
    def labels(self) -> tuple[str, ...]:
        """L names, background left out."""
        return self.pair.table.names

    @property
    def confusion(self) -> Counts:
        """``(L + 1, L + 1)`` int64 voxels, reference along rows, class 0 the background."""
        return self.overlap.confusion

    @cached_property
    def layers(self) -> tuple[LayerClasses, ...]:
        """The class indices of both maps; one entry where labels do not overlap."""
        kind = np.uint8 if len(self.labels) < 256 else np.uint16
        classes = []
        for layers in self.pair.layers:
            truth, guess = layer_classes(self.pair, layers)
            classes.append(LayerClasses(layers.labels, truth.astype(kind), guess.astype(kind)))
        return tuple(classes)

    @cached_property
    def objects(self) -> CaseObjects:
        """The objects of both maps: by instance ids where a map has them, else 26- or 8-connected components."""
        things = {i for i, label in enumerate(self.pair.table.labels, start=1) if label.kind == "thing"}
        ids = self.pair.reference.instances, self.pair.prediction.instances
        layers = []
        for place, classes in zip(self.pair.layers, self.layers, strict=True):
            truth, guess = (
                layer_objects(labels, None if given is None else given[layer], things)
                for labels, given, layer in zip(
                    (classes.truth, classes.guess), ids, (place.reference, place.prediction), strict=True
                )
            )
            layers.append(LayerObjects(truth, guess))
        return CaseObjects(tuple(layers), self.reference.geometry)

    def of_each_label(self, metric: Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]) -> Values:
        """``(L,)`` values of a function of two masks, reference and prediction, one label at a time."""
        values = np.full(len(self.labels), np.nan)
        for layer in self.layers:
            for label in layer.labels:
                values[label - 1] = metric(layer.truth == label, layer.guess == label)
        return values
