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
from voxelry.metrics.evaluate import common_classes
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
class MetricInput:
    """Reference and prediction of one case.

    Attributes:
        reference, prediction: one layer each, on one grid.
        labels: L names, background left out.
        confusion: ``(L + 1, L + 1)`` int64 voxels, reference along rows, class 0 the background.
        tolerance: NSD tolerance.
    """

    reference: LabelMap
    prediction: LabelMap
    labels: tuple[str, ...]
    confusion: Counts
    tolerance: Tolerance = 1.0

    @cached_property
    def classes(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """``(*spatial)`` class indices of reference and prediction in the smallest unsigned type; 0 where ignored."""
        _, truth, guess = common_classes(self.reference, self.prediction)
        kind = np.uint8 if len(self.labels) < 256 else np.uint16
        return truth.astype(kind), guess.astype(kind)

    def of_each_label(self, metric: Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]) -> Values:
        """``(L,)`` values of a function of two masks, reference and prediction, one label at a time."""
        truth, guess = self.classes
        return np.array([metric(truth == k, guess == k) for k in range(1, len(self.labels) + 1)], dtype=np.float64)
