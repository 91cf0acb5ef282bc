"""Acquisition of a phantom: the grid of the scan, and the scanner's noise, shading and blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from voxelry.core.geometry import Geometry
from voxelry.errors import UsageError
from voxelry.phantom.shapes import Waves, points, rotation

MAX_TILT = 45.0
_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
_PAIRS = {code: pair for pair in ("RL", "AP", "SI") for code in pair}


@dataclass(frozen=True)
class Acquisition:
    """Settings of the scanner. Change a kind's default with `dataclasses.replace`.

    Attributes:
        spacing: mm between voxel centres along (column index, row index, slice); of a projection the first two.
        fov: field of view in mm along the same axes, centred on the anatomy.
        axes: where the three axes point before any rotation, as ``'LPS'`` for axial and ``'PIR'`` for sagittal slices.
        rotation: degrees about the RAS+ x, y and z axes: an oblique acquisition.
        tilt: degrees by which the image planes are turned about their first axis while slices still advance along the
            third: gantry tilt, a sheared grid.
        noise: standard deviation: HU for CT, share of the brightest tissue for MR, share of the mean dose for X-ray.
        bias: strength of the low-frequency multiplicative shading, 0.2 meaning about +-20 %.
        blur: standard deviation in mm of the scanner's point spread, on top of the partial volume effect.

    Example:
        >>> from voxelry.phantom import Acquisition
        >>> Acquisition(spacing=(1.0, 1.0, 5.0), fov=(64.0, 64.0, 40.0), axes="LPS").grid().shape
        (64, 64, 8)
    """

    spacing: tuple[float, float, float]
    fov: tuple[float, float, float]
    axes: str
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tilt: float = 0.0
    noise: float = 0.0
    bias: float = 0.0
    blur: float = 0.0

    def grid(self) -> Geometry:
        """The grid of the scan, centred on the world's origin.

        Raises:
            UsageError: a spacing or field of view that is not positive, a tilt beyond 45 degrees, a negative strength.
        """
        self._check()
        shape = tuple(max(1, round(size / step)) for size, step in zip(self.fov, self.spacing, strict=True))
        axes = np.array([_AXES[code] for code in self.axes], dtype=np.float64).T
        angle = np.radians(self.tilt)
        axes[:, 1] = np.cos(angle) * axes[:, 1] + np.sin(angle) * axes[:, 2]
        affine = np.eye(4)
        affine[:3, :3] = rotation(self.rotation) @ axes * np.asarray(self.spacing)
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Geometry(shape, affine)

    def _check(self) -> None:
        if min(*self.spacing, *self.fov) <= 0:
            raise UsageError(f"spacing {self.spacing} mm and field of view {self.fov} mm must be positive")
        if abs(self.tilt) > MAX_TILT:
            raise UsageError(f"tilt of {self.tilt} degrees", remedy=f"Gantries tilt by at most {MAX_TILT:g} here.")
        if min(self.noise, self.bias, self.blur) < 0:
            raise UsageError(f"noise {self.noise}, bias {self.bias} and blur {self.blur} must not be negative")
        if sorted(_PAIRS.get(code, "") for code in self.axes) != ["AP", "RL", "SI"]:
            raise UsageError(f"axes {self.axes!r}", remedy="Use one of each pair R/L, A/P and S/I, as 'LPS'.")


def blurred(image: NDArray[np.float32], blur: float, geometry: Geometry) -> NDArray[np.float32]:
    """Each channel of ``(C, *spatial)`` smoothed by a Gaussian of `blur` mm standard deviation."""
    if blur == 0:
        return image
    sigmas = (0.0, *(blur / step for step in geometry.spacing or (1.0,)))
    result: NDArray[np.float32] = gaussian_filter(image, sigmas, mode="nearest", truncate=3.0)
    return result


def shading(rng: np.random.Generator, strength: float, geometry: Geometry) -> NDArray[np.float32]:
    """A smooth factor around 1 over ``(*spatial)``: coil sensitivity, or residual beam hardening."""
    if strength == 0:
        return np.ones(geometry.shape, dtype=np.float32)
    field = Waves.draw(rng, (250.0, 500.0), strength / 1.5, count=4)(points(geometry))
    return np.exp(field)


def speckle(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """Gaussian noise of standard deviation `sigma`, slightly correlated between neighbours as reconstruction leaves it."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(white, (0.0, *(0.5,) * (len(shape) - 1)), truncate=3.0)
    result: NDArray[np.float32] = smooth * np.float32(sigma / max(float(smooth.std()), 1e-6))
    return result
