"""Surface metrics of all labels at once in mm: Hausdorff distance, HD95, ASSD, MASD, NSD.

Two definitions of "the surface", by name, because published numbers differ by them:

* ``elements``: pieces of the marching-cubes surface at voxel corners, weighted by area (length in 2D), as in DeepMind's
  surface-distance (Nikolov et al. 2018/2021, "Deep learning to achieve clinically applicable segmentation of head and neck
  anatomy"); the Medical Segmentation Decathlon and the FLARE challenges score NSD with that package.
* ``voxels``: border voxels (`voxelry.metrics.boundary`), each with weight 1, as in MONAI and medpy; papers that took HD95 or
  ASSD from those packages, or from nnU-Net v1, which called medpy, report this.

Spacing is given in the order of the array's axes. Outside the image there is no label, so a label cut by the image's edge has a
surface there, as in all of these packages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.volume import LabelMap
from voxelry.errors import GeometryError, LabelError, UsageError
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.metric_table import DEFAULT_POLICIES
from voxelry.metrics.nearest_distances import Distances, nearest_distances
from voxelry.metrics.overlap import check_pair, count_values
from voxelry.metrics.surface_elements import element_sizes
from voxelry.metrics.surface_points import surface_points

SurfaceDefinition = Literal["elements", "voxels"]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distances of one label, from which its surface metrics follow: mm, ascending; infinite where the other is empty.

    Attributes:
        to_prediction: ``(N,)`` from each point of the reference's surface to the nearest of the prediction's.
        reference_weights: ``(N,)`` size of the surface at those points: mm^2 (mm in 2D), or 1 for border voxels.
        to_reference: ``(M,)`` from each point of the prediction's surface to the nearest of the reference's.
        prediction_weights: ``(M,)``.
        definition: ``elements`` or ``voxels``.
    """

    to_prediction: Distances
    reference_weights: Distances
    to_reference: Distances
    prediction_weights: Distances
    definition: SurfaceDefinition = "elements"

    def hausdorff(self, percentile: float = 100.0, pooled: bool = False, policy: EmptyPolicy | None = None) -> float:
        """Hausdorff distance in mm, or the given percentile of it (HD95: 95), the larger of both directions.

        ``elements``: the smallest distance within which the given share of the surface's area lies, as in surface-distance.
        ``voxels``: `numpy.percentile` with linear interpolation, as in MONAI; with `pooled` one percentile over the points of
        both directions, as in medpy's ``hd95``.

        Args:
            percentile: 0..100.
            pooled: one percentile of both directions together instead of the larger of the two.
            policy: the score of empty masks; missing by default.
        """
        if not 0 <= percentile <= 100:
            raise UsageError(f"percentile {percentile} is not within 0..100")
        sides = self._pooled if pooled else self._sides
        return self._scored("hd", policy, lambda: max(self._percentile(*side, percentile) for side in sides))

    def msd_to_prediction(self, policy: EmptyPolicy | None = None) -> float:
        """Mean distance in mm from the reference's surface to the prediction's, weighted by surface."""
        return self._scored("msd_to_prediction", policy, lambda: _mean(*self._sides[0]))

    def msd_to_reference(self, policy: EmptyPolicy | None = None) -> float:
        """Mean distance in mm from the prediction's surface to the reference's, weighted by surface (medpy's ``asd``)."""
        return self._scored("msd_to_reference", policy, lambda: _mean(*self._sides[1]))

    def assd(self, policy: EmptyPolicy | None = None) -> float:
        """Average symmetric surface distance in mm: the mean over the points of both (MONAI, medpy, Metrics Reloaded)."""
        return self._scored("assd", policy, lambda: _mean(*self._pooled[0]))

    def masd(self, policy: EmptyPolicy | None = None) -> float:
        """Mean of the two directed mean distances in mm (Metrics Reloaded's MASD; medpy before 0.5 called it ``assd``)."""
        return self._scored("masd", policy, lambda: (_mean(*self._sides[0]) + _mean(*self._sides[1])) / 2)

    def nsd(self, tolerance: float, policy: EmptyPolicy | None = None) -> float:
        """Normalised surface Dice at a tolerance in mm: the share of both surfaces within it of the other, 0..1, no unit."""
        if not tolerance >= 0:
            raise UsageError(f"tolerance {tolerance} mm is not a distance")

        def share() -> float:
            distances, weights = self._pooled[0]
            return float(weights[distances <= tolerance].sum() / weights.sum())

        return self._scored("nsd", policy, share)

    @property
    def _sides(self) -> tuple[tuple[Distances, Distances], ...]:
        return (self.to_prediction, self.reference_weights), (self.to_reference, self.prediction_weights)

    @property
    def _pooled(self) -> tuple[tuple[Distances, Distances], ...]:
        distances = np.concatenate([self.to_prediction, self.to_reference])
        order = np.argsort(distances, kind="stable")
        return ((distances[order], np.concatenate([self.reference_weights, self.prediction_weights])[order]),)

    def _percentile(self, distances: Distances, weights: Distances, percentile: float) -> float:
        if self.definition == "voxels":
            return float(np.percentile(distances, percentile))
        share = np.cumsum(weights) / weights.sum()
        return float(distances[min(int(np.searchsorted(share, percentile / 100)), len(distances) - 1)])

    def _scored(self, metric: str, policy: EmptyPolicy | None, formula: Callable[[], float]) -> float:
        """The formula where both surfaces exist, else the policy's score; None in a policy means infinite."""
        sizes = len(self.to_prediction), len(self.to_reference)
        if all(sizes):
            return float(formula())
        policy = policy or DEFAULT_POLICIES[metric]
        return float(policy.apply(np.array(np.inf), np.array(sizes[0]), np.array(sizes[1])))


def surface_distances(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    labels: Collection[int] | None = None,
    definition: SurfaceDefinition = "elements",
) -> dict[int, SurfaceDistances]:
    """Distances between the surfaces of every label in two label maps.

    Memory beyond the inputs: up to 64 bytes for each point of both surfaces, and up to 5 for each voxel of the box of a label.
    Large arrays of types other than uint8, uint16 and bool are copied into uint16, at another 3 bytes a voxel.

    Args:
        reference: integers or booleans, ``(*spatial)``, 2D or 3D.
        prediction: prediction of the same shape.
        spacing: mm along each array axis, in the array's axis order.
        labels: label values; by default all but 0 that occur in either map.
        definition: ``elements`` or ``voxels``, see the module.

    Returns:
        Label value -> its distances; labels in neither map included if named.

    Raises:
        GridMismatchError: the shapes differ.
        GeometryError: not 2D or 3D, or the spacing is not one positive number for each axis.
        LabelError: values that are not whole numbers, or a label 0.
    """
    steps = _checked(reference, prediction, spacing, definition)
    values = _labels(reference, prediction) if labels is None else [int(value) for value in labels]
    if 0 in values:
        raise LabelError("label 0 is the background and has no surface of its own", remedy="Leave it out of the labels.")
    corner = definition == "elements"
    truth, guess = surface_points(reference, values, corner), surface_points(prediction, values, corner)
    sizes = element_sizes(steps) if corner else np.array([0.0, 1.0])
    result = {}
    for value in values:
        (points, codes), (targets, target_codes) = truth.pop(value), guess.pop(value)
        forward, back = nearest_distances(points, targets, steps), nearest_distances(targets, points, steps)
        order, back_order = np.argsort(forward, kind="stable"), np.argsort(back, kind="stable")
        result[value] = SurfaceDistances(
            forward[order], sizes[codes[order]], back[back_order], sizes[target_codes[back_order]], definition
        )
    return result


def surface_metrics(
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    labels: Collection[int] | None = None,
    tolerances: float | Mapping[int, float] = 1.0,
    percentile: float = 95.0,
    definition: SurfaceDefinition = "elements",
) -> dict[int, dict[str, float]]:
    """The usual surface metrics of every label, under the default policies for empty masks.

    Args:
        reference: as `surface_distances`.
        prediction: as `surface_distances`.
        spacing: mm along each array axis.
        labels: label values; by default all but 0 that occur in either map.
        tolerances: of NSD in mm, one for all labels or one for each (DeepMind's study takes them from the variation of experts).
        percentile: percentile of the robust Hausdorff distance; its key is ``hd95`` for 95.
        definition: ``elements`` or ``voxels``.

    Returns:
        Label value -> ``hd``, ``hd95``, ``assd``, ``masd``, ``msd_to_prediction``, ``msd_to_reference`` in mm, ``nsd``.

    Raises:
        UsageError: a label without a tolerance.
    """
    by_label = surface_distances(reference, prediction, spacing, labels, definition)
    lacking = [] if not isinstance(tolerances, Mapping) else [value for value in by_label if value not in tolerances]
    if lacking:
        raise UsageError(f"labels {lacking} have no tolerance", remedy="Give one in mm for each label, or a single number.")
    return {
        value: {
            "hd": distances.hausdorff(),
            f"hd{percentile:g}": distances.hausdorff(percentile),
            "assd": distances.assd(),
            "masd": distances.masd(),
            "msd_to_prediction": distances.msd_to_prediction(),
            "msd_to_reference": distances.msd_to_reference(),
            "nsd": distances.nsd(tolerances[value] if isinstance(tolerances, Mapping) else tolerances),
        }
        for value, distances in by_label.items()
    }


def spacing_for_surfaces(labels: LabelMap) -> tuple[float, ...]:
    """The spacing of a label map's array axes in mm, if surfaces can be measured on its grid.

    Raises:
        GeometryError: a picture of unknown pixel size, or a sheared grid (gantry tilt), whose axes are not at right angles.
    """
    geometry = labels.geometry
    if geometry.spacing is None:
        raise GeometryError(
            f"{labels.source.name}: the pixel size is not known, so there are no distances in mm",
            remedy="Measure `surface_pixels`, or give the picture a pixel size.",
        )
    if not geometry.is_orthogonal:
        raise GeometryError(
            f"{labels.source.name}: the grid is sheared (gantry tilt); surface areas and distances on it would be wrong",
            remedy="Resample reference and prediction to a grid with right angles first.",
        )
    return geometry.spacing


def _mean(distances: Distances, weights: Distances) -> float:
    return float((distances * weights).sum() / weights.sum())


def _labels(reference: NDArray[Any], prediction: NDArray[Any]) -> list[int]:
    """All values but 0 of both maps, ascending."""
    pairs = count_values(reference, prediction)
    return sorted((set(pairs.reference.tolist()) | set(pairs.prediction.tolist())) - {0})


def _checked(
    reference: NDArray[Any], prediction: NDArray[Any], spacing: Sequence[float], definition: SurfaceDefinition
) -> tuple[float, ...]:
    """The spacing as floats, after a check of all arguments."""
    if definition not in ("elements", "voxels"):
        raise UsageError(f"no definition '{definition}' of a surface", remedy="Known: elements, voxels.")
    check_pair(reference, prediction)
    if reference.ndim not in (2, 3):
        raise GeometryError(f"surfaces are measured in 2D and 3D, not in an array of shape {reference.shape}")
    steps = tuple(float(step) for step in spacing)
    if len(steps) != reference.ndim or not all(np.isfinite(step) and step > 0 for step in steps):
        raise GeometryError(
            f"spacing {steps} is not {reference.ndim} positive numbers",
            remedy="Give mm for each axis, in the array's axis order.",
        )
    return steps
