"""Metrics as functions of two label maps: `dice`, `iou`, `hd95`, `nsd` and others, one score for each label.

Each function takes two LabelMaps and returns label name -> score, or takes two integer arrays of class indices (0 the background)
and returns class index -> score. The scores are those of a column of `Scores` (`voxelry.metrics.metric_table`), NaN for no score.
To measure several metrics of a case at once use `measure`, of many cases `voxelry.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import GeometryError, UsageError
from voxelry.metrics.families import measure
from voxelry.metrics.metric_table import family_of
from voxelry.metrics.overlap import count_values

Labels: TypeAlias = LabelMap | NDArray[Any]
PerLabel: TypeAlias = dict[Any, float]
"""Label name (of LabelMaps) or class index (of arrays) -> score."""


def dice(reference: Labels, prediction: Labels) -> PerLabel:
    """Dice coefficient 2TP / (2TP + FP + FN), 0..1; NaN for a label in neither map.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import dice
        >>> reference, prediction = np.zeros((2, 8, 8, 8), np.uint8)
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> prediction[2:6, 2:6, 3:7] = 1
        >>> dice(reference, prediction)
        {1: 0.75}
    """
    return _scores("dice", reference, prediction)


def iou(reference: Labels, prediction: Labels) -> PerLabel:
    """Intersection over union TP / (TP + FP + FN), 0..1; NaN for a label in neither map.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import iou
        >>> iou(np.array([[0, 1, 1, 1]]), np.array([[0, 0, 1, 1]]))
        {1: 0.6666666666666666}
    """
    return _scores("iou", reference, prediction)


def precision(reference: Labels, prediction: Labels) -> PerLabel:
    """Precision TP / (TP + FP) of the voxels, 0..1; NaN for a label that is not predicted.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import precision
        >>> precision(np.array([[0, 1, 1, 1]]), np.array([[1, 1, 0, 0]]))
        {1: 0.5}
    """
    return _scores("precision", reference, prediction)


def recall(reference: Labels, prediction: Labels) -> PerLabel:
    """Recall (sensitivity) TP / (TP + FN) of the voxels, 0..1; NaN for a label that is not in the reference.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import recall
        >>> recall(np.array([[0, 1, 1, 1, 1]]), np.array([[1, 1, 0, 0, 0]]))
        {1: 0.25}
    """
    return _scores("recall", reference, prediction)


def specificity(reference: Labels, prediction: Labels) -> PerLabel:
    """Specificity TN / (TN + FP) of the voxels, 0..1.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import specificity
        >>> specificity(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]))
        {1: 0.5}
    """
    return _scores("specificity", reference, prediction)


def fpr(reference: Labels, prediction: Labels) -> PerLabel:
    """False positive rate FP / (FP + TN) of the voxels, 0..1.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import fpr
        >>> fpr(np.array([[0, 0, 0, 0, 1]]), np.array([[0, 0, 0, 1, 1]]))
        {1: 0.25}
    """
    return _scores("fpr", reference, prediction)


def volume_error(reference: Labels, prediction: Labels) -> PerLabel:
    """Relative volume error (prediction - reference) / reference, signed; NaN for a label that is not in the reference.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import volume_error
        >>> volume_error(np.array([[1, 1, 1, 1, 0]]), np.array([[1, 1, 1, 0, 0]]))
        {1: -0.25}
    """
    return _scores("volume_error", reference, prediction)


def hd(reference: Labels, prediction: Labels, spacing: Sequence[float] | None = None) -> PerLabel:
    """Hausdorff distance in mm: the largest distance from either surface to the other; NaN where a mask is empty.

    Args:
        reference: the truth.
        prediction: the map to judge.
        spacing: spacing of arrays, mm along each axis; a LabelMap has its own.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import hd
        >>> reference, prediction = np.zeros((2, 8, 8, 8), np.uint8)
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> prediction[2:6, 2:6, 3:7] = 1
        >>> hd(reference, prediction, spacing=(1.0, 1.0, 2.5))
        {1: 2.5}
    """
    return _scores("hd", reference, prediction, spacing)


def hd95(reference: Labels, prediction: Labels, spacing: Sequence[float] | None = None) -> PerLabel:
    """95th percentile of the Hausdorff distance in mm, the larger of both directions; NaN where a mask is empty.

    Percentiles are weighted by surface area, as DeepMind's surface-distance has it; `voxelry.metrics.surface` offers MONAI's and
    medpy's definitions.

    Args:
        reference: the truth.
        prediction: the map to judge.
        spacing: spacing of arrays, mm along each axis; a LabelMap has its own.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import hd95
        >>> reference, prediction = np.zeros((2, 8, 8, 8), np.uint8)
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> prediction[2:6, 2:6, 3:7] = 1
        >>> hd95(reference, prediction, spacing=(1.0, 1.0, 2.5))
        {1: 2.5}
    """
    return _scores("hd95", reference, prediction, spacing)


def assd(reference: Labels, prediction: Labels, spacing: Sequence[float] | None = None) -> PerLabel:
    """Average symmetric surface distance in mm, over the points of both surfaces; NaN where a mask is empty.

    Args:
        reference: the truth.
        prediction: the map to judge.
        spacing: spacing of arrays, mm along each axis; a LabelMap has its own.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import assd
        >>> mask = np.zeros((8, 8, 8), np.uint8)
        >>> mask[2:6, 2:6, 2:6] = 1
        >>> assd(mask, mask, spacing=(1.0, 1.0, 2.5))
        {1: 0.0}
    """
    return _scores("assd", reference, prediction, spacing)


def masd(reference: Labels, prediction: Labels, spacing: Sequence[float] | None = None) -> PerLabel:
    """Mean of the two mean directed surface distances in mm; NaN where a mask is empty.

    Args:
        reference: the truth.
        prediction: the map to judge.
        spacing: spacing of arrays, mm along each axis; a LabelMap has its own.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import masd
        >>> mask = np.zeros((8, 8, 8), np.uint8)
        >>> mask[2:6, 2:6, 2:6] = 1
        >>> masd(mask, mask, spacing=(1.0, 1.0, 2.5))
        {1: 0.0}
    """
    return _scores("masd", reference, prediction, spacing)


def nsd(
    reference: Labels,
    prediction: Labels,
    tolerance: float | Mapping[str, float] = 1.0,
    spacing: Sequence[float] | None = None,
) -> PerLabel:
    """Normalised surface Dice: the share of both surfaces within a tolerance of the other, 0..1; NaN for a label in neither map.

    Args:
        reference: the truth.
        prediction: the map to judge.
        tolerance: mm, for all labels, or for each by name.
        spacing: spacing of arrays, mm along each axis; a LabelMap has its own.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import nsd
        >>> reference, prediction = np.zeros((2, 8, 8, 8), np.uint8)
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> prediction[2:6, 2:6, 3:7] = 1
        >>> nsd(reference, prediction, tolerance=2.5, spacing=(1.0, 1.0, 2.5))
        {1: 1.0}
    """
    return _scores("nsd", reference, prediction, spacing, tolerance)


def boundary_iou(reference: Labels, prediction: Labels) -> PerLabel:
    """Boundary IoU (Cheng et al., CVPR 2021): IoU of the bands inside both contours, 0..1; NaN for a label in neither map.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import boundary_iou
        >>> mask = np.zeros((16, 16), np.uint8)
        >>> mask[4:12, 4:12] = 1
        >>> boundary_iou(mask, mask)
        {1: 1.0}
    """
    return _scores("boundary_iou", reference, prediction)


def cldice(reference: Labels, prediction: Labels) -> PerLabel:
    """Centreline Dice (Shit et al., CVPR 2021), for tubes such as vessels, 0..1; NaN for a label in neither map.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import cldice
        >>> vessel, thicker = np.zeros((2, 16, 16, 32), np.uint8)
        >>> vessel[7:10, 7:10, 2:30] = 1
        >>> thicker[6:11, 6:11, 2:30] = 1
        >>> cldice(vessel, thicker)
        {1: 1.0}
    """
    return _scores("cldice", reference, prediction)


def panoptic_quality(reference: Labels, prediction: Labels) -> PerLabel:
    """Panoptic quality of the connected components, matched at an IoU of 0.5, 0..1; NaN for a label in neither map.

    Example:
        >>> import numpy as np
        >>> from voxelry.metrics import panoptic_quality
        >>> reference, prediction = np.zeros((2, 16, 16), np.uint8)
        >>> reference[1:5, 1:5] = reference[8:12, 8:12] = 1
        >>> prediction[1:5, 1:5] = 1
        >>> round(panoptic_quality(reference, prediction)[1], 3)
        0.667
    """
    return _scores("instance_pq", reference, prediction)


def _scores(
    metric: str,
    reference: Labels,
    prediction: Labels,
    spacing: Sequence[float] | None = None,
    tolerance: float | Mapping[str, float] = 1.0,
) -> PerLabel:
    """One column of `Scores` for one case."""
    family = family_of(metric)
    assert family is not None
    if isinstance(reference, LabelMap) and isinstance(prediction, LabelMap):
        if spacing is not None:
            raise UsageError("a spacing beside LabelMaps, which have their own", remedy="Leave it out.")
        scores = measure(reference, prediction, metrics=[family.name], tolerance=tolerance)
        return dict(zip(scores.labels, scores.values[metric][0].tolist(), strict=True))
    if isinstance(reference, LabelMap) or isinstance(prediction, LabelMap):
        raise UsageError("a LabelMap beside an array", remedy="Give two LabelMaps, or two arrays.")
    if family.name == "surface" and spacing is None:
        raise UsageError(
            f"{metric} of arrays needs their spacing", remedy="Give spacing: mm along each axis, in the array's order."
        )
    truth, guess = np.asarray(reference), np.asarray(prediction)
    counts = count_values(truth, guess)
    table = LabelTable.numbered([*counts.reference.tolist(), *counts.prediction.tolist()])
    geometry = _grid(truth.shape, spacing)
    first, second = (
        LabelMap.of(array.view(np.uint8) if array.dtype == bool else array, geometry, table) for array in (truth, guess)
    )
    scores = measure(first, second, metrics=[family.name], tolerance=tolerance)
    values = (label.value for label in table.labels)
    return dict(zip(values, scores.values[metric][0].tolist(), strict=True))


def _grid(shape: tuple[int, ...], spacing: Sequence[float] | None) -> Geometry:
    """The grid of an array; without a spacing, which overlap does not need, one of unit voxels."""
    if len(shape) not in (2, 3) or (spacing is not None and len(spacing) != len(shape)):
        raise GeometryError(f"an array of shape {shape} with spacing {spacing}", remedy="Give 2D or 3D arrays, mm for each axis.")
    steps = tuple(float(step) for step in spacing or (1.0,) * len(shape))
    return Geometry(shape, None, (steps[0], steps[1])) if len(shape) == 2 else Geometry.from_spacing(shape, steps)
