"""The input of a family of metrics: reference and prediction of one case on one grid, with their shared intermediate results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, UsageError
from voxelry.metrics.aligned_pair import AlignedPair
from voxelry.metrics.calibration import BinCounts, confidence_bins
from voxelry.metrics.case_objects import CaseObjects, LayerObjects, layer_objects
from voxelry.metrics.evaluate import OverlapCounts, layer_classes
from voxelry.metrics.overlap import Counts, Values
from voxelry.metrics.scored_objects import ScoredObjects, scores_of_objects

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
        object_scores: instance id of the prediction -> score; None where there are none.
        certainty: probability of the predicted class in each voxel; None where it is not known.
    """

    pair: AlignedPair
    overlap: OverlapCounts
    tolerance: Tolerance = 1.0
    object_scores: Mapping[int, float] | None = None
    certainty: Volume | None = None

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

    @cached_property
    def counted(self) -> tuple[int, ...]:
        """Class indices of the labels whose objects are named and ranked: things, or all where none is a thing."""
        labels = self.pair.table.labels
        things = tuple(index for index, label in enumerate(labels, start=1) if label.kind == "thing")
        return things or tuple(range(1, len(labels) + 1))

    @cached_property
    def scored(self) -> list[ScoredObjects | None]:
        """The predicted objects of each label, with their scores; None for stuff beside things.

        Raises:
            UsageError: an object without a score.
        """
        overlaps, given = self.objects.overlaps, self.objects.given
        ranked = np.isin(overlaps.prediction_classes, self.counted)
        scores = np.full(len(given), np.nan)
        scores[ranked] = scores_of_objects(given[ranked], self.object_scores, self.pair.prediction.source.name)
        return [
            ScoredObjects.of(overlaps.of_class(k), scores[overlaps.prediction_classes == k]) if k in self.counted else None
            for k in range(1, len(self.labels) + 1)
        ]

    @cached_property
    def confidence_bins(self) -> list[BinCounts]:
        """The voxels predicted as each label, in bins of confidence.

        Raises:
            UsageError: there is no map of confidence.
            GridMismatchError: it lies on another grid.
        """
        name = self.pair.prediction.source.name
        if self.certainty is None:
            raise UsageError(
                f"{name}: calibration needs the probability of the predicted class, and there is none",
                remedy="Predict with --confidence probability, which writes <case id>.probability.nii.gz beside the labels.",
            )
        change = self.certainty.geometry.reindexing_to(self.reference.geometry)
        if change is None:
            raise GridMismatchError(f"{self.certainty.source.name}: lies on another grid than the labels of {name}")
        confidence = change.apply(self.certainty.array[0])
        by_label: dict[int, BinCounts] = {}
        for layer in self.layers:
            by_label |= confidence_bins(confidence, layer.truth, layer.guess, layer.labels)
        return [by_label[k] for k in range(1, len(self.labels) + 1)]

    def of_each_label(self, metric: Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]) -> Values:
        """``(L,)`` values of a function of two masks, reference and prediction, one label at a time."""
        values = np.full(len(self.labels), np.nan)
        for layer in self.layers:
            for label in layer.labels:
                values[label - 1] = metric(layer.truth == label, layer.guess == label)
        return values
