"""Phantom of a lumbar spine MRI: four Dixon channels of a sagittal slab.

The vertebrae L1 to L5 and their discs are labelled, or, as in IVDM3Seg, the seven discs from T11/T12 to L5/S1 by one value.
Water and fat are painted; in-phase is their sum, opposed-phase the magnitude of their difference. Other vertebrae and
the sacrum are in the picture but carry no label, so counting from an end of the image does not name a vertebra.
World: RAS+ mm, the origin at the middle of L3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import Code, Label, LabelTable
from voxelry.phantom.acquisition import Acquisition
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
    local,
    smooth_intersection,
)

CHANNELS = ("in-phase", "opposed-phase", "water", "fat")
LEVELS = ("S2", "S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10")
BRIGHTEST = 1000.0
"""Signal of pure water or fat in the middle of the coil."""

_VERTEBRAE = (("L1", "66794005"), ("L2", "14293000"), ("L3", "36470004"), ("L4", "11994002"), ("L5", "49668003"))
_DISCS = (
    ("L1", "L2", "80064006"), ("L2", "L3", "67459009"), ("L3", "L4", "62551000"), ("L4", "L5", "84020006"),
    ("L5", "S1", "715056000"),
)  # fmt: skip
_WARM = ((245, 190, 60), (235, 160, 60), (225, 130, 60), (215, 100, 60), (200, 75, 60))
_COOL = ((90, 200, 220), (70, 175, 225), (60, 145, 225), (70, 115, 215), (90, 90, 200))

TABLE = LabelTable(
    labels=(
        *(
            Label(
                value=1 + i,
                name=f"vertebra_{name}",
                type=Code(value=code, meaning=f"{name} vertebra"),
                kind="thing",
                color=_WARM[i],
            )
            for i, (name, code) in enumerate(_VERTEBRAE)
        ),
        *(
            Label(value=6 + i, name=f"disc_{a}_{b}", type=Code(value=code, meaning=f"{a}/{b} disc"), kind="thing", color=_COOL[i])
            for i, (a, b, code) in enumerate(_DISCS)
        ),
    )
)

DISC = "intervertebral_disc"
DISC_TABLE = LabelTable(
    labels=(
        Label(
            value=1,
            name=DISC,
            type=Code(value="DISC", scheme="99VOXELRY", meaning="Intervertebral disc"),
            kind="thing",
            color=(80, 180, 220),
        ),
    )
)
DISC_CHANNELS = ("fat", "in-phase", "opposed-phase", "water")
ABOVE_DISCS = ("L5", "L4", "L3", "L2", "L1", "T12", "T11")
"""The vertebrae above the seven discs of IVDM3Seg."""

ACQUISITION = Acquisition(
    spacing=(2.0, 2.0, 4.0), fov=(192.0, 288.0, 88.0), axes="PIR", noise=0.035, bias=0.25, blur=0.8
)  # fmt: skip
DISC_ACQUISITION = replace(ACQUISITION, spacing=(1.25, 1.25, 2.0), fov=(200.0, 320.0, 72.0))
"""The grid of IVDM3Seg: 36 sagittal slices."""


@dataclass(frozen=True)
class SpineSegment:
    """A vertebra and the disc below it, in the midsagittal plane.

    Attributes:
        name: ``L3``.
        centre: centre of the body, RAS+ mm.
        disc: centre of the disc below.
        lean: degrees about the x axis that turn the body's axis from straight up (positive: the top leans back).
        disc_lean: the same of the disc.
        half: half the height of the body, mm.
        gap: half the height of the disc, mm.
    """

    name: str
    centre: tuple[float, float, float]
    disc: tuple[float, float, float]
    lean: float
    disc_lean: float
    half: float
    gap: float


@dataclass(frozen=True, eq=False)
class Spine:
    """One patient; lengths in mm, signals as a share of `BRIGHTEST`."""

    warp: Warp
    coarse: Waves
    fine: Grain
    segments: tuple[SpineSegment, ...]
    radii: tuple[float, float]
    back: float
    marrow_fat: float
    hydration: tuple[float, ...]
    loops: tuple[tuple[tuple[float, ...], float, float, float], ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Spine:
        """A patient from a random stream."""
        return cls(
            warp=Warp.draw(rng, (90.0, 180.0), 1.2),
            coarse=Waves.draw(rng, (15.0, 45.0), 0.035, count=8),
            fine=Grain.draw(rng, 3.0),
            segments=_stack(rng),
            radii=(rng.uniform(22, 26), rng.uniform(15.5, 18.5)),
            back=rng.uniform(-92, -82),
            marrow_fat=rng.uniform(0.28, 0.5),
            hydration=tuple(rng.uniform(0.35, 0.85, len(LEVELS)).tolist()),
            loops=tuple(
                (
                    tuple(rng.uniform((-50, 42, -150), (50, 105, 150)).tolist()),
                    *rng.uniform((9, 0.2, 0.0), (20, 0.75, 0.3)).tolist(),
                )
                for _ in range(26)
            ),
        )


def _stack(rng: np.random.Generator) -> tuple[SpineSegment, ...]:
    """The column from S1 upwards: each body is set on the one below, along a curve of varying lordosis."""
    lordosis = rng.uniform(0.6, 1.25)
    size = rng.uniform(0.93, 1.07)
    shift = rng.normal(0, (2.5, 3.0, 8.0))
    leans = lordosis * np.array([-46.0, -38.0, -20.0, -8.0, 0.0, 5.0, 8.0, 9.0, 8.0, 4.0])
    halves = size * np.array([13.0, 14.0, 14.0, 14.0, 13.8, 13.4, 13.0, 12.4, 11.8, 11.4]) * rng.uniform(0.96, 1.04, len(LEVELS))
    gaps = size * np.array([0.5, 0.5, 4.8, 5.6, 5.4, 4.8, 4.3, 3.4, 3.0, 2.8]) * rng.uniform(0.75, 1.15, len(LEVELS))
    raw: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    top = np.zeros(3)
    for lean, below, half, gap in zip(leans, np.r_[leans[0], leans[:-1]], halves, gaps, strict=True):
        disc = top + gap * _up((lean + below) / 2)
        centre = disc + gap * _up((lean + below) / 2) + half * _up(lean)
        top = centre + half * _up(lean)
        raw.append((centre, disc))
    origin = raw[LEVELS.index("L3")][0] - shift
    return tuple(
        SpineSegment(
            name, tuple(c - origin), tuple(d - origin), float(leans[i]), float((leans[i] + leans[max(i - 1, 0)]) / 2), half, gap
        )
        for i, (name, (c, d), half, gap) in enumerate(zip(LEVELS, raw, halves.tolist(), gaps.tolist(), strict=True))
    )


def _up(lean: float) -> NDArray[np.float64]:
    """The axis of a body that leans by `lean` degrees; positive leans back."""
    angle = np.radians(lean)
    return np.array([0.0, -np.sin(angle), np.cos(angle)])


def vertebra(p: Points, segment: SpineSegment, radii: tuple[float, float]) -> Field:
    """A waisted body with endplates, pedicles, laminae and a spinous process."""
    q = local(p, segment.centre, (segment.lean, 0, 0))
    waist = 1 - 0.09 * np.clip(1 - (q[2] / np.float32(segment.half)) ** 2, 0, 1)
    dish = np.float32(segment.half) - 1.2 * np.exp(-(q[0] ** 2 + q[1] ** 2) / np.float32(120))
    body = smooth_intersection(elliptic_cylinder(q[0] / waist, q[1] / waist, *radii), np.abs(q[2]) - dish, 4)
    back = -radii[1]
    posterior = capsule(q, (0, back - 22, -4), (0, back - 42, -13), 4.5)
    for side in (-1.0, 1.0):
        pedicle = capsule(q, (side * 13, back + 3, 4), (side * 14, back - 14, 2), 5.0)
        lamina = capsule(q, (side * 14, back - 14, 0), (0, back - 23, -4), 4.5)
        posterior = np.minimum(posterior, np.minimum(pedicle, lamina))
    return np.minimum(body, posterior)


def disc(p: Points, segment: SpineSegment, radii: tuple[float, float]) -> tuple[Field, Field]:
    """The disc below a vertebra, and the nucleus in it."""
    q = local(p, segment.disc, (segment.disc_lean, 0, 0))
    bulge = np.float32(segment.gap + 0.8) + np.zeros_like(q[2])
    outer = elliptic_cylinder(q[0], q[1], radii[0] * 0.98, radii[1] * 1.0)
    whole = smooth_intersection(outer, np.abs(q[2]) - bulge, 3)
    nucleus = ellipsoid(q, (0, -1.5, 0), (radii[0] * 0.62, radii[1] * 0.6, segment.gap * 1.05))
    return whole, nucleus


def paint(spine: Spine, canvas: Canvas, table: LabelTable = TABLE) -> None:
    """Paint a patient.

    Args:
        spine: the patient.
        canvas: two channels, water and fat, empty.
        table: the labels: `TABLE` or `DISC_TABLE`.
    """
    p = spine.warp(canvas.points)
    texture = spine.coarse(p) + 0.05 * spine.fine(p)
    _paint_trunk(spine, canvas, p, texture)
    _paint_canal(spine, canvas, p, texture)
    for index, segment in enumerate(spine.segments):
        _paint_disc(spine, canvas, p, texture, index, _disc_value(segment, index, table))
    for segment in spine.segments:
        share = spine.marrow_fat + 1.2 * texture
        label = f"vertebra_{segment.name}"
        value = table[label].value if label in table.names else 0
        distance = np.maximum(vertebra(p, segment, spine.radii), np.float32(spine.back + 10) - p[1])
        cortex = 1 - 0.75 * np.exp(-((distance / 1.6) ** 2))
        canvas.paint(distance, *_signal((0.92 - share) * cortex, share * cortex), label=value)


def _signal(water: Field | float, fat: Field | float) -> tuple[Field | float, Field | float]:
    return BRIGHTEST * water, BRIGHTEST * fat


def _disc_value(segment: SpineSegment, index: int, table: LabelTable) -> int:
    """The value of the disc below a vertebra; 0 where it has no label."""
    name = f"disc_{segment.name}_{LEVELS[index - 1]}"
    if DISC in table.names and segment.name in ABOVE_DISCS:
        name = DISC
    return table[name].value if name in table.names else 0


def _paint_disc(spine: Spine, canvas: Canvas, p: Points, texture: Field, index: int, value: int) -> None:
    whole, nucleus = disc(p, spine.segments[index], spine.radii)
    canvas.paint(whole, *_signal(0.3 + texture, 0.04), label=value)
    canvas.paint(np.maximum(nucleus, whole), *_signal(spine.hydration[index] + texture, 0.03), label=value)


def _centre_line(spine: Spine, z: Field, behind: float) -> Field:
    """The y of the curve that runs `behind` mm behind the bodies, at heights z."""
    back = np.array(
        [
            np.add(s.centre, behind * np.array([0, -np.cos(np.radians(s.lean)), -np.sin(np.radians(s.lean))]))
            for s in spine.segments
        ]
    )
    order = np.argsort(back[:, 2])
    result: Field = np.interp(z, back[order, 2], back[order, 1]).astype(np.float32)
    return result


def _paint_trunk(spine: Spine, canvas: Canvas, p: Points, texture: Field) -> None:
    """Skin to belly: fat at the back, muscles on both sides, vessels and bowel in front."""
    canvas.paint(np.float32(spine.back) - p[1], *_signal(0.05, 0.9 + texture))
    line = _centre_line(spine, p[2], 0.0)
    muscle = 0.5 + 1.5 * texture
    for side in (-1.0, 1.0):
        erector = elliptic_cylinder(p[0] - side * 26, p[1] - line + 48, 23, 20)
        canvas.paint(np.maximum(erector, np.float32(spine.back + 8) - p[1]), *_signal(muscle, 0.07))
        psoas = elliptic_cylinder(p[0] - side * 40, p[1] - line - 2, 16, 20)
        canvas.paint(np.maximum(psoas, p[2] - 60), *_signal(muscle, 0.05))
    for centre, radius, water, fat in spine.loops:
        canvas.paint(ellipsoid(p, centre, (1.3 * radius, radius, 1.5 * radius)), *_signal(water + texture, fat))
    canvas.paint(elliptic_cylinder(p[0] + 8, p[1] - line - 30, 9, 9), *_signal(0.12, 0.02))
    canvas.paint(elliptic_cylinder(p[0] - 14, p[1] - line - 28, 11, 8), *_signal(0.25, 0.02))


def _paint_canal(spine: Spine, canvas: Canvas, p: Points, texture: Field) -> None:
    """Epidural fat, the bright sac, and the cord that ends in the cauda equina near L1."""
    line = _centre_line(spine, p[2], spine.radii[1] + 10)
    canvas.paint(elliptic_cylinder(p[0], p[1] - line, 13, 10), *_signal(0.05, 0.8 + texture))
    canvas.paint(elliptic_cylinder(p[0], p[1] - line, 9, 7.5), *_signal(0.95 + texture, 0.0))
    end = spine.segments[LEVELS.index("L1")].centre[2]
    cord = np.maximum(elliptic_cylinder(p[0], p[1] - line, 5, 4), end - p[2])
    canvas.paint(cord, *_signal(0.6 + texture, 0.0))
    cauda = np.maximum(elliptic_cylinder(p[0], p[1] - line + 3, 6, 2.5), p[2] - end)
    canvas.paint(cauda, *_signal(0.7 + 2 * texture, 0.0))


def dixon(water: NDArray[np.float32], fat: NDArray[np.float32]) -> NDArray[np.float32]:
    """The four channels from the two tissues: ``(4, *spatial)``, in the order of `CHANNELS`."""
    return np.stack([water + fat, np.abs(water - fat), water, fat])
