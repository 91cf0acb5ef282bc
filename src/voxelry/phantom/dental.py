"""Phantom of a panoramic X-ray of the jaws: both dental arches laid flat, teeth with FDI numbers as reference.

Densities of what lies in the focal trough are added up, so that neighbours that overlap are brighter, as on film; then the
machine's blur, ghost of the spine, shading, noise and grey scale. Rows run from the nose to the chin, columns from the patient's
right to the left. A pixel belongs to the tooth whose outline it lies deepest within. Sizes of teeth are those of textbooks
(Nelson, Wheeler's Dental Anatomy), magnified as panoramic machines do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from voxelry.core.catalogue import lookup
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.errors import UsageError
from voxelry.phantom.acquisition import Acquisition, shading
from voxelry.phantom.shapes import Field, Grain, Points, Waves, coverage, smooth_intersection, smooth_union

NUMBERS = tuple(10 * quadrant + place for quadrant in (1, 2, 3, 4) for place in range(1, 9))
"""FDI numbers: quadrants from the upper right on, places from the middle outwards."""

TABLE = LabelTable(labels=tuple(lookup(f"tooth_{number}").model_copy(update={"value": number}) for number in NUMBERS))

ACQUISITION = Acquisition(spacing=(0.6, 0.6, 1.0), fov=(216.0, 120.0, 1.0), axes="LIA", noise=0.02, blur=0.4)

MAGNIFICATION = 1.15
FULL_SCALE = 4095

_UPPER = ((8.5, 10.5, 13.0, 1), (6.5, 9.0, 13.0, 1), (7.5, 10.0, 17.0, 1), (7.0, 8.5, 14.0, 1), (7.0, 8.5, 14.0, 1),
          (10.0, 7.5, 12.5, 3), (9.5, 7.0, 11.5, 3), (8.5, 6.5, 11.0, 2))  # fmt: skip
_LOWER = ((5.2, 9.0, 12.5, 1), (5.7, 9.5, 14.0, 1), (7.0, 11.0, 16.0, 1), (7.0, 8.5, 14.0, 1), (7.1, 8.0, 14.5, 1),
          (11.0, 7.5, 14.0, 2), (10.5, 7.0, 13.0, 2), (10.0, 7.0, 11.0, 2))  # fmt: skip
"""Width, height of the crown and length of the root in mm, and number of roots, of places 1 to 8 of the upper and lower jaw."""

_LEAN = (2.0, 3.0, 5.0, 4.0, 4.0, 6.0, 9.0, 13.0)
"""Degrees by which roots lean away from the middle, by place."""

_MOLAR, _WISDOM = 6, 8


@dataclass(frozen=True)
class Tooth:
    """One tooth; lengths in mm, `right` and `down` from the middle of the picture.

    Attributes:
        number: FDI number.
        right, down: middle of its cutting edge.
        lean: degrees by which its root leans to the right of the picture.
        width, crown, root: width, height of the crown, length of the root.
        roots: number of roots.
        filling: depth and radius of a metal filling; None without one.
        metal_crown: whether its crown is metal.
        filled_root: whether its canals are filled.
    """

    number: int
    right: float
    down: float
    lean: float
    width: float
    crown: float
    root: float
    roots: int
    filling: tuple[float, float] | None
    metal_crown: bool
    filled_root: bool

    def local(self, p: Points) -> tuple[Field, Field]:
        """Across the tooth from its axis, and along the axis from the cutting edge towards the apex."""
        angle, up = np.radians(self.lean), self.number < 30
        axis = (np.float32(np.sin(angle)), np.float32(-np.cos(angle) if up else np.cos(angle)))
        x, y = p[0] - np.float32(self.right), p[1] - np.float32(self.down)
        return axis[1] * x - axis[0] * y, axis[0] * x + axis[1] * y

    def outline(self, across: Field, along: Field) -> Field:
        """Signed distance to the tooth's outline: a bulging crown, and roots that taper."""
        half, share = np.float32(self.width / 2), np.clip(along / np.float32(self.crown), 0, 1)
        side = half * (np.float32(0.84) + np.float32(0.16) * np.sin(np.pi * share) - np.float32(0.12) * share)
        trunk = smooth_intersection(np.abs(across) - side, np.abs(along - np.float32(self.crown / 2)) - self.crown / 2, 1.5)
        length, deep = np.float32(self.root), np.clip((along - np.float32(self.crown)) / np.float32(self.root), 0, 1)
        result = trunk
        for place in np.linspace(-1, 1, self.roots) if self.roots > 1 else (0.0,):
            spread = np.float32(place) * half * (np.float32(0.38) + np.float32(0.22) * deep)
            thickness = half * np.float32(0.72 if self.roots == 1 else 0.4)
            side = thickness * (1 - np.float32(0.7) * deep * deep)
            middle = np.float32(self.crown - 1 + (self.root + 1) / 2)
            root = smooth_intersection(np.abs(across - spread) - side, np.abs(along - middle) - (length + 1) / 2, 2.0)
            result = smooth_union(result, root, 1.5)
        return result


@dataclass(frozen=True, eq=False)
class Jaws:
    """One patient: lengths in mm."""

    teeth: tuple[Tooth, ...]
    smile: float
    wobble: Waves
    grain: Grain
    chin: float
    bone: float
    sinus: float
    ghost: float
    exposure: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Jaws:
        """A patient from a random stream."""
        smile, wobble = rng.uniform(3, 10), Waves.draw(rng, (60.0, 140.0), 0.8)
        teeth = [tooth for quadrant in (1, 2, 3, 4) for tooth in _draw_quadrant(rng, quadrant, smile)]
        return cls(
            teeth=tuple(teeth),
            smile=smile,
            wobble=wobble,
            grain=Grain.draw(rng, 1.6),
            chin=rng.uniform(46, 52),
            bone=rng.uniform(0.3, 0.42),
            sinus=rng.uniform(0.06, 0.14),
            ghost=rng.uniform(0.05, 0.3),
            exposure=(rng.uniform(0.85, 1.15), rng.uniform(-0.08, 0.08)),
        )


def _draw_quadrant(rng: np.random.Generator, quadrant: int, smile: float) -> list[Tooth]:
    """The teeth of a quadrant from the middle outwards; those that are missing leave a gap that has partly closed."""
    sizes, side = (_UPPER if quadrant < 3 else _LOWER), (-1 if quadrant in (1, 4) else 1)
    size = MAGNIFICATION * rng.normal(1, 0.04)
    outwards, teeth = rng.uniform(-0.4, 0.4), []
    for place, (width, crown, root, roots) in enumerate(sizes, start=1):
        width, crown, root = (size * length * rng.normal(1, 0.04) for length in (width, crown, root))
        if rng.random() < (0.3 if place == _WISDOM else 0.04):
            outwards += width * rng.uniform(0.3, 1.0)
            continue
        middle = outwards + width / 2
        outwards += width + rng.uniform(-1.5, 0.4)
        lean, depth = rng.normal(_LEAN[place - 1], 3), rng.normal(1.5, 0.5)
        if place == _WISDOM and rng.random() < 0.3:  # impacted: lying on its side, deep behind its neighbour
            lean, depth = rng.uniform(35, 75), rng.uniform(7, 11)
            middle += 0.35 * crown
        bite = -smile * (middle / 70) ** 2
        teeth.append(
            Tooth(
                number=10 * quadrant + place,
                right=side * middle,
                down=bite - depth if quadrant < 3 else bite + depth,
                lean=side * lean,
                width=width,
                crown=crown,
                root=root,
                roots=1 if place < _MOLAR else int(rng.integers(2, roots + 1)) if roots > 2 else roots,
                filling=(rng.uniform(0.1, 0.4) * crown, rng.uniform(0.15, 0.3) * width)
                if rng.random() < (0.3 if place > 3 else 0.06)
                else None,
                metal_crown=bool(rng.random() < 0.05),
                filled_root=bool(rng.random() < 0.08),
            )
        )
    return teeth


def _bones(jaws: Jaws, p: Points) -> Field:
    """Density of the jaws without their teeth."""
    right, down = p[0], p[1] + jaws.wobble(p)
    bite = -np.float32(jaws.smile) * (right / 70) ** 2
    lower = np.float32(jaws.chin) - 10 * (right / 85) ** 4
    body = smooth_intersection(np.maximum(bite + 9 - down, down - lower), np.abs(right) - 92, 6)
    ramus = smooth_intersection(np.abs(np.abs(right) - 86) - 13, np.maximum(-36 - down, down - lower + 4), 8)
    mandible = smooth_union(body, ramus, 8)
    maxilla = smooth_intersection(np.maximum(down - bite + 9, -50 - down), np.abs(right) - 64, 8)
    texture = 1 + np.float32(0.25) * jaws.grain(p)
    density = np.float32(jaws.bone) * texture * np.maximum(coverage(mandible, 3), coverage(maxilla, 3) * np.float32(0.8))
    density += np.float32(0.3) * coverage(np.abs(mandible + 1.5) - 1, 1)  # cortical bone
    canal = np.abs(down - lower + 9) - 1.5
    density -= np.float32(0.12) * coverage(np.maximum(canal, np.abs(np.abs(right) - 48) - 28), 1.5)
    for side in (-1, 1):
        sinus = np.hypot((right - side * 40) / 24, (down + 42) / 11) - 1
        density -= np.float32(jaws.sinus) * coverage(sinus * 12, 2)
        density += np.float32(0.1) * coverage(np.abs(sinus * 12) - 0.6, 1)
    density += np.float32(0.15) * coverage(np.maximum(np.abs(down + 38) - 0.8, np.abs(right) - 60), 1)  # palate
    density -= np.float32(0.1) * coverage((np.hypot(right / 14, (down + 52) / 10) - 1) * 10, 2)  # nose
    result: Field = density + np.float32(jaws.ghost) * np.exp(-((right / 16) ** 2)) + np.float32(0.18)
    return result


def _density(tooth: Tooth, across: Field, along: Field, outline: Field) -> Field:
    """What a tooth adds: dentine, enamel, pulp, the dark ligament about its root, and its restorations."""
    inside = coverage(outline, 0.6)
    crown, half = coverage(along - np.float32(0.9 * tooth.crown), 1), np.float32(tooth.width / 2)
    density = np.float32(0.5) * inside
    density += np.float32(0.3) * inside * crown * coverage(-1.6 - outline, 0.8)
    chamber = np.maximum(np.abs(across) - np.float32(0.3) * half, np.abs(along - tooth.crown) - 0.35 * tooth.crown)
    length = tooth.crown + 0.9 * tooth.root
    canal = np.abs(along - (tooth.crown + length) / 2) - (length - tooth.crown) / 2
    canals = np.full_like(across, 1e3)
    for place in np.linspace(-1, 1, tooth.roots) if tooth.roots > 1 else (0.0,):
        deep = np.clip((along - np.float32(tooth.crown)) / np.float32(tooth.root), 0, 1)
        spread = np.float32(place) * half * (np.float32(0.38) + np.float32(0.22) * deep)
        canals = np.minimum(canals, np.maximum(np.abs(across - spread) - 0.5, canal))
    pulp = np.minimum(chamber, canals)
    density += np.float32(0.9 if tooth.filled_root else -0.2) * inside * coverage(canals if tooth.filled_root else pulp, 0.6)
    density -= np.float32(0.15) * coverage(np.abs(outline - 0.5) - 0.4, 0.6) * (1 - crown)
    if tooth.metal_crown:
        density += np.float32(0.9) * inside * crown
    elif tooth.filling is not None:
        depth, radius = tooth.filling
        density += np.float32(0.9) * inside * coverage(np.hypot(across, along - depth) - radius, 0.6)
    return density


def _middles(count: int, step: float) -> Field:
    """``(count,)``: positions in mm of pixels `step` apart, from the middle of all."""
    return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)


def expose(jaws: Jaws, rng: np.random.Generator, how: Acquisition) -> tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]:
    """Expose the detector and develop the picture.

    Args:
        jaws: the patient.
        rng: the detector's random stream.
        how: pixel size (the first two spacings as column, row), field of view, noise, blur.

    Returns:
        The picture, int16 ``(rows, cols)`` of 12 bits, bone bright; the FDI number of each pixel; the grid.

    Raises:
        UsageError: a tilt or rotation, which arches that are laid flat cannot have.
    """
    if how.tilt or any(how.rotation):
        raise UsageError(
            f"tilt of {how.tilt} and rotation of {how.rotation} degrees for a panoramic picture", remedy="Leave both at 0."
        )
    cols, rows = how.grid().shape[:2]
    right, down = np.meshgrid(_middles(cols, how.spacing[0]), _middles(rows, how.spacing[1]))
    p = np.stack([right, down, np.zeros_like(right)])
    density, labels = _bones(jaws, p), np.zeros((rows, cols), np.uint8)
    deepest = np.zeros((rows, cols), np.float32)
    for tooth in jaws.teeth:
        across, along = tooth.local(p)
        outline = tooth.outline(across, along)
        density += _density(tooth, across, along, outline)
        labels[outline < deepest] = tooth.number
        deepest = np.minimum(deepest, outline)
    pixel = (how.spacing[1], how.spacing[0])
    return _develop(jaws, density, rng, how), labels, Geometry((rows, cols), None, pixel)


def _develop(jaws: Jaws, density: Field, rng: np.random.Generator, how: Acquisition) -> NDArray[np.int16]:
    """Blur, shading, noise, and the grey scale that a system chooses from the picture's own range."""
    contrast, brightness = jaws.exposure
    sharp = gaussian_filter(density, tuple(how.blur / step for step in (how.spacing[1], how.spacing[0])))
    shaded = sharp * shading(rng, how.bias, replace(how, spacing=(*how.spacing[:2], how.fov[2])).grid())[:, :, 0].T
    noisy = shaded + rng.standard_normal(density.shape, dtype=np.float32) * np.float32(how.noise)
    low, high = np.quantile(noisy, (0.02, 0.995))
    grey = ((noisy - low) / (high - low) - 0.5) * contrast + 0.5 + brightness
    result: NDArray[np.int16] = np.rint(np.clip(grey, 0, 1) * FULL_SCALE).astype(np.int16)
    return result
