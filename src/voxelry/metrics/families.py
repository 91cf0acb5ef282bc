"""Families of metrics that `voxelry.evaluate` measures by name, each a few columns for every case and label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import LabelMap
from voxelry.errors import UsageError, nearest
from voxelry.metrics.evaluate import aligned, common_classes, score
from voxelry.metrics.instances import connected_objects, overlaps
from voxelry.metrics.matching import match
from voxelry.metrics.overlap import Counts, Values
from voxelry.metrics.panoptic import average_precision, score_matches
from voxelry.metrics.regions import Tally
from voxelry.metrics.scores import Scores
from voxelry.metrics.surface import spacing_for_surfaces, surface_metrics

Tolerance = float | Mapping[str, float]
"""Of NSD in mm (pixels with ``surface_pixels``): one for all labels, or one for each label by name."""

RATES = ("precision", "recall", "specificity", "fpr", "volume_error")


@dataclass(frozen=True, eq=False)
class _Pair:
    """A reference and a prediction, with what several families need."""

    reference: LabelMap
    prediction: LabelMap
    labels: tuple[str, ...]
    confusion: Counts
    tolerance: Tolerance = 1.0

    @cached_property
    def classes(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Class indices of both, in the smallest unsigned type."""
        _, truth, guess = common_classes(self.reference, self.prediction)
        kind = np.uint8 if len(self.labels) < 256 else np.uint16
        return truth.astype(kind), guess.astype(kind)


def _rates(pair: _Pair) -> dict[str, Values]:
    """From the confusion matrix alone."""
    matrix = pair.confusion
    tp = np.diagonal(matrix)[1:]
    fp, fn = matrix.sum(axis=0)[1:] - tp, matrix.sum(axis=1)[1:] - tp
    tally = Tally(pair.labels, tp, fp, fn, matrix.sum() - tp - fp - fn)
    return {name: tally.score(name) for name in RATES}


def _surface(pair: _Pair) -> dict[str, Values]:
    """Distances in mm between surfaces, NSD at the tolerance."""
    return _distances(pair, spacing_for_surfaces(pair.reference), "")


def _surface_pixels(pair: _Pair) -> dict[str, Values]:
    """The same in pixels, for pictures that do not say how large these are."""
    return _distances(pair, (1.0,) * pair.reference.geometry.ndim, "_px")


def _distances(pair: _Pair, spacing: tuple[float, ...], unit: str) -> dict[str, Values]:
    truth, guess = pair.classes
    found = surface_metrics(truth, guess, spacing, range(1, len(pair.labels) + 1), _tolerances(pair))
    names = ("hd", "hd95", "assd", "masd", "nsd")
    return {name + unit: np.array([found[k + 1][name] for k in range(len(pair.labels))], dtype=np.float64) for name in names}


def _tolerances(pair: _Pair) -> float | dict[int, float]:
    """By class index where they are given by name."""
    if not isinstance(pair.tolerance, Mapping):
        return pair.tolerance
    unknown = sorted(set(pair.tolerance) - set(pair.labels))
    if unknown:
        raise UsageError(f"a tolerance for '{unknown[0]}', which is no label", remedy=nearest(unknown[0], pair.labels))
    return {index: pair.tolerance[name] for index, name in enumerate(pair.labels, start=1) if name in pair.tolerance}


def _instances(pair: _Pair) -> dict[str, Values]:
    """Objects (26- or 8-connected), matched at an IoU of 0.5."""
    pairs = overlaps(*(connected_objects(classes) for classes in pair.classes))
    names = ("tp", "fp", "fn", "pq", "sq", "rq", "lesion_dice", "sensitivity", "count_error", "ap")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for index in range(1, len(pair.labels) + 1):
        objects = pairs.of_class(index)
        found = score_matches(match(objects)).to_dict() | {"ap": float(average_precision(objects).mean())}
        for name in names:
            columns[name].append(found[name])
    prefix = "instance_"
    return {prefix + name: np.array(values, dtype=np.float64) for name, values in columns.items()}


FAMILIES: dict[str, Callable[[_Pair], dict[str, Values]]] = {
    "overlap": lambda _: {},
    "rates": _rates,
    "surface": _surface,
    "surface_pixels": _surface_pixels,
    "instances": _instances,
}
"""``overlap``: Dice and IoU, always measured. ``rates``: precision, recall, specificity, FPR and relative volume error.
``surface``: HD, HD95, ASSD, MASD in mm, NSD. ``surface_pixels``: the same in pixels, for pictures of unknown pixel size.
``instances``: objects matched at IoU 0.5, their counts, PQ, SQ, RQ, lesion-wise Dice, sensitivity, count error, and AP over IoU
thresholds 0.50 to 0.95."""


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse a family that there is not.

    Raises:
        UsageError: naming the nearest.
    """
    for name in metrics:
        if name not in FAMILIES:
            raise UsageError(f"unknown metric '{name}'", remedy=nearest(name, FAMILIES))


def measure(
    reference: LabelMap,
    prediction: LabelMap,
    case_id: str = "",
    metrics: Sequence[str] = ("overlap",),
    tolerance: Tolerance = 1.0,
) -> Scores:
    """Every metric of some families, of one prediction with its reference.

    Args:
        reference: the truth, one layer.
        prediction: what is judged, one layer.
        case_id: what to call the case.
        metrics: names of `FAMILIES`; ``overlap`` is measured always.
        tolerance: of NSD, mm (pixels with ``surface_pixels``).

    Returns:
        Scores of one case.

    Raises:
        GridMismatchError: the grids differ by more than order and direction of axes.
        LabelError: several layers, or values that the reference's table does not know.
        GeometryError: ``surface`` on a picture of unknown pixel size or a sheared grid.
        UsageError: an unknown family.
    """
    check_metrics(metrics)
    reference, prediction = aligned(reference, prediction)
    overlap = score(reference, prediction, case_id)
    pair = _Pair(reference, prediction, overlap.labels, overlap.confusions[0], tolerance)
    measures: dict[str, Values] = {}
    for name in dict.fromkeys(metrics):
        measures |= {metric: values[None] for metric, values in FAMILIES[name](pair).items()}
    return Scores(overlap.cases, overlap.labels, overlap.confusions, measures)
