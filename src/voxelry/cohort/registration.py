"""Registration of two examinations of one patient by SimpleITK: a rigid transform, refined to an affine one where asked for.

The metric is Mattes' mutual information, so that modalities and windows may differ; three resolutions, coarse to fine.
Transforms are matrices in RAS+ mm, from points of the fixed examination to the same points of the moving one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import flip_lps_ras
from voxelry.core.volume import Volume
from voxelry.errors import GeometryError

Transform = Literal["rigid", "affine"]

_BINS = 50
_SAMPLES = 120_000
"""Voxels that the metric looks at, at each resolution."""

_SHRINK, _SMOOTH = (4, 2, 1), (3.0, 1.5, 0.0)
"""Of the three resolutions: factor, and standard deviation in mm."""

_SEED = 3


@dataclass(frozen=True, eq=False)
class Registration:
    """The transform between two examinations.

    Attributes:
        matrix: ``(4, 4)`` float64, RAS+ mm of the fixed examination -> RAS+ mm of the moving one.
        kind: ``rigid`` or ``affine``.
        similarity: mutual information at the end, in nats; larger is better.
        before: the same without any transform but the first guess.

    Example:
        >>> import numpy as np
        >>> shift = np.eye(4)
        >>> shift[0, 3] = 5
        >>> Registration(shift, "rigid", 0.4, 0.1).apply(np.array([[1.0, 2.0, 3.0]])).tolist()
        [[6.0, 2.0, 3.0]]
    """

    matrix: NDArray[np.float64]
    kind: Transform
    similarity: float
    before: float

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points ``(n, 3)`` of the fixed examination where they lie in the moving one, RAS+ mm."""
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    @property
    def rotation_degrees(self) -> float:
        """The angle of its rotation."""
        left, _, right = np.linalg.svd(self.matrix[:3, :3])
        cosine = (np.trace(left @ right) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    @property
    def volume_ratio(self) -> float:
        """A volume of the moving examination over the same in the fixed one: 1 where it is rigid."""
        return float(np.linalg.det(self.matrix[:3, :3]))


def register(fixed: Volume, moving: Volume, kind: Transform = "rigid") -> Registration:
    """Register two volumes of one patient.

    Args:
        fixed: the examination whose space is kept; the first channel counts.
        moving: the other, in any orientation and spacing.
        kind: ``rigid``: rotation and translation; ``affine``: then scaling and shearing too.

    Raises:
        GeometryError: pictures, which lie in no common space, or a volume of one value.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> volume = small_phantom().volume
        >>> bool(abs(register(volume, volume).matrix[:3, 3]).max() < 0.5)
        True
    """
    import SimpleITK as sitk

    for volume in (fixed, moving):
        if volume.geometry.affine is None:
            raise GeometryError(f"{volume.source.name}: a picture has no position in the patient", remedy="Register volumes.")
        if volume.array[0].min() == volume.array[0].max():
            raise GeometryError(f"{volume.source.name}: every voxel has one value, so nothing can be aligned")
    images = _image(fixed), _image(moving)
    guess = sitk.CenteredTransformInitializer(*images, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS)
    first = sitk.Euler3DTransform(guess)
    start = min((first, _identity_about(first)), key=lambda transform: _metric(*images, transform))
    before = _metric(*images, start)
    rigid = _optimised(*images, sitk.Euler3DTransform(start), rate=1.0)
    final = rigid
    if kind == "affine":
        affine = sitk.AffineTransform(3)
        affine.SetCenter(rigid.GetCenter())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        final = _optimised(*images, affine, rate=0.5)
    return Registration(_matrix(final), kind, -_metric(*images, final), -before)


def _identity_about(transform: Any) -> Any:
    """No motion, about the centre of another transform."""
    import SimpleITK as sitk

    identity = sitk.Euler3DTransform()
    identity.SetCenter(transform.GetCenter())
    return identity


def _image(volume: Volume) -> Any:
    """A volume as SimpleITK has it: axes reversed, LPS."""
    import SimpleITK as sitk

    affine = flip_lps_ras(np.asarray(volume.geometry.affine))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array[0].astype(np.float32).T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(direction.flatten().tolist())
    return image


def _method(fixed: Any) -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    voxels = fixed.GetNumberOfPixels()
    if voxels > _SAMPLES:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(_SAMPLES / voxels, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _metric(fixed: Any, moving: Any, transform: Any) -> float:
    """Minus the mutual information under a transform; infinite where the images do not meet."""
    method = _method(fixed)
    method.SetInitialTransform(transform)
    try:
        return float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return float("inf")


def _optimised(fixed: Any, moving: Any, transform: Any, rate: float) -> Any:
    """The transform after the optimisation, resolution by resolution."""
    method = _method(fixed)
    smallest = 1e-4
    method.SetOptimizerAsRegularStepGradientDescent(rate, smallest, 300, 0.6, 1e-7)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return transform


def _matrix(transform: Any) -> NDArray[np.float64]:
    """A transform as one matrix in RAS+."""
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - linear @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix @ flip
