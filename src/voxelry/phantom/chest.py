"""Phantom of a chest X-ray: line integrals of attenuation through a three-dimensional chest, then the detector.

Beer-Lambert with parallel rays from back to front (PA), scatter, dose noise, and the logarithm that a digital system
applies; bone is bright. Rows run from head to foot, columns from the patient's right to the left, as such films are hung.
The reference is the silhouette of each lung: where the ray crosses enough of it, behind the heart and the dome included; if asked
for, that of the heart too, which overlaps them and so lies on a layer of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.errors import UsageError
from voxelry.phantom.acquisition import Acquisition, shading
from voxelry.phantom.canvas import Canvas
from voxelry.phantom.shapes import (
    Field,
    Grain,
    Points,
    Warp,
    Waves,
    capsule,
    ellipsoid,
    elliptic_cylinder,
    smooth_intersection,
    smooth_union,
    superellipse,
)
from voxelry.phantom.torso import LEFT, RIGHT

_LUNG = Code(value="39607008", meaning="Lung")
TABLE = LabelTable(
    labels=(
        Label(value=1, name="lung_left", type=_LUNG, modifier=LEFT, mirror="lung_right", color=(90, 150, 230)),
        Label(value=2, name="lung_right", type=_LUNG, modifier=RIGHT, mirror="lung_left", color=(90, 200, 140)),
    )
)
_HEART = Label(value=1, name="heart", layer=1, type=Code(value="80891009", meaning="Heart"), color=(242, 48, 221))
HEART_TABLE = LabelTable(labels=(*TABLE.labels, _HEART))

ACQUISITION = Acquisition(spacing=(1.5, 1.5, 6.0), fov=(384.0, 384.0, 264.0), axes="LIA", noise=0.01, blur=1.0)

WATER, FAT, BONE, LUNG = 0.0195, 0.0178, 0.042, 0.0058
"""Attenuation in 1/mm near 70 keV."""
SILHOUETTE_MM = 16.0
"""A ray that crosses this much of a lung, or of the heart, belongs to its silhouette."""
FULL_SCALE = 4095


@dataclass(frozen=True, eq=False)
class Chest:
    """One patient: lengths in mm."""

    warp: Warp
    fine: Grain
    coarse: Waves
    width: float
    depth: float
    lung: tuple[tuple[float, float, float], tuple[float, float, float]]
    dome: tuple[float, float]
    heart: tuple[float, float, float]
    rib_phase: float
    rib_slope: float
    scapula: float
    vessels: tuple[tuple[tuple[float, ...], tuple[float, ...], float], ...]
    density: float
    exposure: tuple[float, float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Chest:
        """A patient from a random stream."""
        height = rng.uniform(125, 148)
        return cls(
            warp=Warp.draw(rng, (120.0, 260.0), 4.0),
            fine=Grain.draw(rng, 9.0),
            coarse=Waves.draw(rng, (40.0, 90.0), 1.0, count=8),
            width=rng.uniform(150, 176),
            depth=rng.uniform(100, 120),
            lung=tuple((rng.uniform(62, 72), rng.uniform(78, 90), height * rng.uniform(0.96, 1.04)) for _ in range(2)),  # type: ignore[arg-type]
            dome=(rng.uniform(-78, -58), rng.uniform(-92, -70)),
            heart=(rng.uniform(46, 62), rng.uniform(40, 48), rng.uniform(50, 60)),
            rib_phase=rng.uniform(0, 34),
            rib_slope=rng.uniform(0.45, 0.7),
            scapula=rng.uniform(104, 128),
            vessels=tuple(_draw_vessel(rng, side) for side in (-1, 1) for _ in range(16)),
            density=rng.uniform(0.8, 1.3),
            exposure=(rng.uniform(0.25, 0.5), rng.uniform(0.85, 1.15), rng.uniform(-0.08, 0.08)),
        )

    def lungs(self, p: Points) -> tuple[Field, Field]:
        """The left and the right lung: tapered, cut by the diaphragm, hollowed by heart and spine."""
        hollow = np.minimum(self.mediastinum(p), self.spine(p) - 8)
        left, right = (self._lung(p, side, hollow) for side in (-1, 1))
        return left, right

    def _lung(self, p: Points, side: int, hollow: Field) -> Field:
        radii = self.lung[0 if side < 0 else 1]
        low = p[2] + np.float32(radii[2] * 0.62)
        taper = np.float32(1) - np.float32(0.25) * np.clip(p[2] / np.float32(radii[2]), 0, 1) ** 2
        x = (p[0] - np.float32(side * 72)) / taper + np.float32(side) * np.float32(0.1) * np.clip(p[2], 0, None)
        q = np.stack([x, p[1], np.where(low < 60, p[2] * np.float32(0.55), p[2])])
        shape = ellipsoid(q, (0, -4, -10), radii)
        apart = ((p[0] - side * 68) / 74) ** 2 + ((p[1] - 10) / 150) ** 2
        floor = self.dome[0 if side > 0 else 1] + 34 * (1 - apart)
        floor = (floor.astype(np.float32) - p[2]) * np.float32(0.8)
        return smooth_intersection(smooth_intersection(shape, floor, 5), -hollow, 6)

    def mediastinum(self, p: Points) -> Field:
        """Heart, great vessels and the tissue between the lungs."""
        column = elliptic_cylinder(p[0] + 2, p[1] - 6, 21, 62)
        arch = ellipsoid(p, (-20, -2, 46), (19, 40, 19))
        return smooth_union(smooth_union(self.heart_muscle(p), column, 18), arch, 12)

    def heart_muscle(self, p: Points) -> Field:
        """The heart alone."""
        return ellipsoid(p, (-24, 22, -44), self.heart, (0, 28, 15))

    def spine(self, p: Points) -> Field:
        """The vertebral column as one rod; its discs are painted separately."""
        return elliptic_cylinder(p[0], p[1] + 62, 18, 20)

    def ribs(self, p: Points) -> Field:
        """Hoops about the lungs, high at the back and falling towards the front."""
        narrow = np.float32(1) + np.float32(0.0022) * np.clip(p[2], 0, None)
        cage = superellipse(p[0] * narrow, p[1] + 2, self.width - 22, self.depth - 14, 2.1)
        slope = p[2] + np.float32(self.rib_slope) * (p[1] + 0.002 * p[0] ** 2) + np.float32(self.rib_phase)
        along = slope % np.float32(31) - np.float32(15.5)
        rib = np.sqrt((cage * 1.4) ** 2 + along**2) - np.float32(5.5)
        cartilage = p[1] - np.float32(self.depth * 0.55)
        result: Field = np.maximum(np.maximum(rib, cartilage), np.abs(p[2] - 10) - 135)
        return result


def _draw_vessel(rng: np.random.Generator, side: int) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """A vessel from the hilum outwards."""
    start = np.array([side * 30.0, -4.0, 4.0]) + rng.normal(0, (4, 6, 14))
    reach = rng.normal((side * 55, 0, -15), (18, 32, 48))
    return tuple(start), tuple(start + reach), float(rng.uniform(2.0, 4.5))


def paint(chest: Chest, canvas: Canvas) -> tuple[Field, Field, Field]:
    """Paint attenuation in 1/mm.

    Args:
        chest: the patient.
        canvas: one channel, zero in it.

    Returns:
        The share of each voxel that is left lung, right lung, and heart, 0..1.
    """
    p = chest.warp(canvas.points)
    taper = np.float32(1) + np.float32(0.0022) * np.clip(p[2] - 70, 0, None)
    trunk = superellipse(p[0] * taper, p[1] * taper, chest.width, chest.depth)
    neck = np.minimum(elliptic_cylinder(p[0], p[1] + 20, 58, 55), capsule(p, (-175, -20, 118), (175, -20, 118), 42))
    canvas.paint(smooth_union(trunk + np.maximum(p[2] - 130, 0), neck + np.maximum(100 - p[2], 0), 25), FAT)
    canvas.paint(np.maximum(trunk + 13, p[2] - 140), WATER)
    lungs = chest.lungs(p)
    aerated = LUNG * chest.density * (1 + 0.12 * chest.coarse(p) + 0.25 * chest.fine(p))
    lung = np.minimum(*lungs)
    canvas.paint(lung, aerated)
    for start, end, radius in chest.vessels:
        canvas.paint(np.maximum(capsule(p, start, end, radius), lung), WATER)
    trachea = elliptic_cylinder(p[0] - 2, p[1] + 8, 9, 9)
    canvas.paint(np.maximum(trachea, 22 - p[2]), 0.0)
    _paint_bones(chest, canvas, p)
    width = np.float32(canvas.width)
    left, right, heart = (np.clip(np.float32(0.5) - side / width, 0, 1) for side in (*lungs, chest.heart_muscle(p)))
    return left, right, heart


def _paint_bones(chest: Chest, canvas: Canvas, p: Points) -> None:
    canvas.paint(chest.ribs(p), BONE * 1.1)
    spine = chest.spine(p)
    gap = np.abs((p[2] + np.float32(chest.rib_phase)) % np.float32(26) - np.float32(13)) - np.float32(10.5)
    canvas.paint(np.maximum(spine, gap), BONE * 0.7)
    for side in (-1.0, 1.0):
        canvas.paint(capsule(p, (side * 16, 62, 104), (side * 128, -8, 132), 6.0), BONE)
        scapula = ellipsoid(p, (side * chest.scapula, -78, 62), (34, 5, 62), (0, side * 14, side * -25))
        canvas.paint(scapula, BONE * 0.55)


def expose(chest: Chest, rng: np.random.Generator, how: Acquisition) -> tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]:
    """Expose the detector and develop the picture.

    The chest is sampled at twice the pixel size and its line integrals are interpolated to the pixels.

    Args:
        chest: the patient.
        rng: the detector's random stream.
        how: pixel size (the first two spacings as column, row), field of view, patient rotation, noise, blur.

    Returns:
        The picture, int16 ``(rows, cols)`` of 12 bits, bone bright; the stored label values ``(2, rows, cols)``, of lungs and of
        the heart; the grid.

    Raises:
        UsageError: a tilt, which a projection cannot have.
    """
    if how.tilt:
        raise UsageError(f"tilt of {how.tilt} degrees for a projection", remedy="Use `rotation` to turn the patient.")
    step = (2 * how.spacing[0], 2 * how.spacing[1], how.spacing[2])
    grid = replace(how, spacing=step).grid()
    canvas = Canvas(grid, (0.0,))
    shares = paint(chest, canvas)
    depth = how.spacing[2]
    rows, cols = round(how.fov[1] / how.spacing[1]), round(how.fov[0] / how.spacing[0])
    integral, left, right, heart = (_project(field, depth, (rows, cols)) for field in (canvas.image[0], *shares))
    labels = np.zeros((2, rows, cols), dtype=np.uint8)
    labels[0][(left > SILHOUETTE_MM) & (left >= right)] = TABLE["lung_left"].value
    labels[0][(right > SILHOUETTE_MM) & (right > left)] = TABLE["lung_right"].value
    labels[1][heart > SILHOUETTE_MM] = _HEART.value
    pixel = (how.spacing[1], how.spacing[0])
    return _develop(chest, integral, rng, how), labels, Geometry((rows, cols), None, pixel)


def _project(field: Field, depth: float, shape: tuple[int, int]) -> Field:
    """The sum along the third axis in mm, interpolated to ``(rows, cols)``."""
    flat = field.sum(axis=2).T * np.float32(depth)
    factors = [target / size for target, size in zip(shape, flat.shape, strict=True)]
    result: Field = np.maximum(zoom(flat, factors, order=3, grid_mode=True, mode="nearest"), 0)
    return result


def _develop(chest: Chest, integral: Field, rng: np.random.Generator, how: Acquisition) -> NDArray[np.int16]:
    """Beam, scatter, noise, logarithm, and the grey scale a system chooses from the picture's own range."""
    scatter, contrast, brightness = chest.exposure
    sigma = tuple(how.blur / step for step in (how.spacing[1], how.spacing[0]))
    beam = gaussian_filter(np.exp(-integral), sigma)
    wide = gaussian_filter(beam, tuple(45 / step for step in (how.spacing[1], how.spacing[0])), mode="nearest")
    dose = (1 - scatter) * beam + scatter * wide
    dose = dose * shading(rng, how.bias, replace(how, spacing=(*how.spacing[:2], how.fov[2])).grid())[:, :, 0].T
    noise = rng.standard_normal(dose.shape, dtype=np.float32) * np.float32(how.noise)
    dose = dose + noise * np.sqrt(dose * dose.mean())
    density = -np.log(np.maximum(dose, 1e-4))
    low, high = np.quantile(density, (0.02, 0.99))
    grey = ((density - low) / (high - low) - 0.5) * contrast + 0.5 + brightness
    result: NDArray[np.int16] = np.rint(np.clip(grey, 0, 1) * FULL_SCALE).astype(np.int16)
    return result
