"""PredictedMap: a label map to judge, with what its model said about it: a score of each object, a map of confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxelry.core.volume import LabelMap, Volume


@dataclass(frozen=True, eq=False)
class PredictedMap:
    """A prediction to score.

    Attributes:
        labels: the map, with instance ids where objects are told apart.
        scores: instance id -> score of the object, larger is surer; None where objects have none.
        confidence: ``(1, *spatial)`` on the grid of the labels: the probability of the predicted class in each voxel, uint8 of
            0..255 for 0..1 (`voxelry.Prediction.map`) or floats of 0..1; None where there is none.

    Example:
        >>> from voxelry.metrics import PredictedMap, measure
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> measure(labels, PredictedMap(labels)).mean_dice
        1.0
    """

    labels: LabelMap
    scores: Mapping[int, float] | None = None
    confidence: Volume | None = None
