"""Phantom of a torso CT in Hounsfield units: the upper abdomen with the bases of the lungs.

Soft tissues lie close together, and unlabelled ones (heart, vessels, muscle, stomach, bowel) share their range, so that
place and shape must tell organs apart. World: RAS+ mm, the origin in the middle of the trunk; the patient's left is x < 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxelry.core.labels import Code, Label, LabelTable
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.canvas import Canvas
from voxelry.phantom.shapes import (
    Field,
    Grain,
    Points,
    Vector,
    Warp,
    Waves,
    capsule,
    ellipsoid,
    elliptic_cylinder,
    half_space,
    smooth_intersection,
    smooth_union,
    superellipse,
)

LEFT = Code(value="7771000", meaning="Left")
RIGHT = Code(value="24028007", meaning="Right")
_KIDNEY = Code(value="64033007", meaning="Kidney")
_ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")

TABLE = LabelTable(
    labels=(
        Label(value=1, name="liver", type=Code(value="10200004", meaning="Liver"), color=(178, 84, 60)),
        Label(value=2, name="spleen", type=Code(value="78961009", meaning="Spleen"), color=(150, 70, 150)),
        Label(value=3, name="kidney_left", type=_KIDNEY, modifier=LEFT, mirror="kidney_right", color=(80, 160, 220)),
        Label(value=4, name="kidney_right", type=_KIDNEY, modifier=RIGHT, mirror="kidney_left", color=(60, 190, 140)),
        Label(value=5, name="vertebrae", type=Code(value="51282000", meaning="Vertebra"), color=(240, 220, 130)),
        Label(
            value=6, name="liver_lesion", category=_ABNORMAL, type=Code(value="52988006", meaning="Lesion"), kind="thing",
            color=(245, 190, 50),
        ),
    )
)  # fmt: skip

ACQUISITION = Acquisition(spacing=(4.0, 4.0, 5.0), fov=(384.0, 320.0, 240.0), axes="LPS", noise=14.0, blur=1.5)

AIR, FAT, LUNG, GAS = -1000.0, -100.0, -840.0, -930.0
LESION_MARGIN, KIDNEY_FAT = 8.0, 5.0
_CANDIDATES = 3000


@dataclass(frozen=True, eq=False)
class BowelLoop:
    """A stretch of bowel: its ends, its radius, its content."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    hu: float
    gas: bool


@dataclass(frozen=True, eq=False)
class Torso:
    """One patient: everything that varies between patients; lengths in mm, intensities in HU."""

    warp: Warp
    coarse: Waves
    fine: Grain
    width: float
    depth: float
    fat: float
    muscle_wall: float
    dome: tuple[float, float]
    organ: tuple[tuple[float, float, float], ...]
    scale: tuple[float, ...]
    turn: tuple[float, ...]
    hu: dict[str, float]
    spine_phase: float
    rib_phase: float
    loops: tuple[BowelLoop, ...]
    lesion_draw: tuple[tuple[float, float], ...]
    lesion_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Torso:
        """A patient from a random stream."""
        liver = rng.normal(84, 5)
        return cls(
            warp=Warp.draw(rng, (110.0, 220.0), 3.0),
            coarse=Waves.draw(rng, (25.0, 60.0), 5.0, count=8),
            fine=Grain.draw(rng, 5.0),
            width=rng.uniform(156, 176),
            depth=rng.uniform(108, 122),
            fat=rng.uniform(9, 22),
            muscle_wall=rng.uniform(11, 15),
            dome=(rng.uniform(48, 62), rng.uniform(38, 52)),
            organ=tuple(tuple(rng.normal(0, 4.5, 3).tolist()) for _ in range(6)),
            scale=tuple(rng.uniform(0.9, 1.1, 6).tolist()),
            turn=tuple(rng.normal(0, 7, 6).tolist()),
            hu={
                "liver": liver,
                "spleen": liver + rng.normal(3, 5),
                "kidney": liver + rng.normal(8, 6),
                "muscle": liver - rng.uniform(8, 18),
                "blood": liver + rng.normal(6, 8),
                "stomach": liver - rng.uniform(5, 35),
                "bone": rng.uniform(140, 200),
            },
            spine_phase=rng.uniform(0, 30),
            rib_phase=rng.uniform(0, 30),
            loops=tuple(_draw_loop(rng, liver) for _ in range(rng.integers(13, 18))),
            lesion_draw=tuple((rng.uniform(15, 21), rng.uniform(-60, -42)) for _ in range(rng.integers(1, 4))),
            lesion_seed=int(rng.integers(2**31)),
        )

    # Regions

    def body(self, p: Points) -> Field:
        """The skin."""
        return superellipse(p[0], p[1], self.width, self.depth)

    def wall(self, p: Points) -> Field:
        """The outside of the muscular wall."""
        return superellipse(p[0], p[1], self.width - self.fat, self.depth - self.fat * 0.8)

    def cavity(self, p: Points) -> Field:
        """The inside of the chest and abdominal wall."""
        inset = self.fat + self.muscle_wall
        back = 8.0
        return superellipse(p[0], p[1] - np.float32(back), self.width - inset, self.depth - inset - back)

    def diaphragm(self, p: Points) -> Field:
        """Height above the diaphragm's two domes, in mm along its normal; positive in the chest."""
        right = self.dome[0] * np.exp(-(((p[0] - 75) / 68) ** 2) - ((p[1] - 8) / 74) ** 2)
        left = self.dome[1] * np.exp(-(((p[0] + 72) / 62) ** 2) - ((p[1] - 8) / 74) ** 2)
        result: Field = (p[2] - np.float32(12) - right - left) * np.float32(0.78)
        return result

    def abdomen(self, p: Points, gap: float) -> Field:
        """The abdominal cavity, `gap` mm clear of wall and diaphragm."""
        return np.maximum(self.cavity(p), self.diaphragm(p)) + np.float32(gap)

    # Organs

    def _at(self, index: int, *centre: float) -> Vector:
        return tuple(c + d for c, d in zip(centre, self.organ[index], strict=True))

    def _radii(self, index: int, *radii: float) -> Vector:
        return tuple(r * self.scale[index] for r in radii)

    def liver(self, p: Points) -> Field:
        """Right and left lobe under the right dome, with a hollow lower face."""
        right = ellipsoid(p, self._at(0, 72, 0, 2), self._radii(0, 74, 80, 80), (0, self.turn[0], 0))
        left = ellipsoid(p, self._at(1, 2, 42, 26), self._radii(1, 76, 34, 36), (0, -12 + self.turn[1], -8))
        lobes = smooth_union(right, left, 22)
        face = half_space(p, self._at(0, 48, 0, -38), (-0.62, -0.32, -0.72))
        lobes = smooth_intersection(smooth_intersection(lobes, face, 16), self.abdomen(p, 3), 8)
        result: Field = np.maximum(lobes, np.maximum(-self.gallbladder(p), KIDNEY_FAT - self.kidney(p, 1)))
        return result

    def gallbladder(self, p: Points) -> Field:
        """In the hollow of the liver's lower face."""
        return ellipsoid(p, self._at(0, 42, 42, -32), (15, 15, 26))

    def spleen(self, p: Points) -> Field:
        """Under the left dome, against the wall at the back, hollow towards the stomach."""
        whole = ellipsoid(p, self._at(2, -102, -34, 14), self._radii(2, 31, 44, 50), (self.turn[2], 0, -18))
        stomach = ellipsoid(p, self._at(2, -56, -4, 14), (32, 36, 44))
        return smooth_intersection(smooth_intersection(whole, -stomach, 8), self.abdomen(p, 4), 8)

    def kidney(self, p: Points, side: int) -> Field:
        """A bean; `side` is +1 for the patient's right, -1 for the left."""
        index = 3 if side < 0 else 4
        centre = self._at(index, side * 62, -40, -44 if side < 0 else -56)
        lean = (8.0, side * (10 + self.turn[index]), side * -18.0)
        bean = ellipsoid(p, centre, self._radii(index, 27, 25, 52), lean)
        hilum = ellipsoid(p, (centre[0] - side * 24, centre[1] + 6, centre[2]), (17, 12, 17))
        return smooth_intersection(bean, -hilum, 4)

    def vertebrae(self, p: Points) -> tuple[Field, Field]:
        """The vertebrae, and the canal behind their bodies."""
        bend = -44 + 5 * np.cos(p[2] / np.float32(70))
        y = p[1] - bend.astype(np.float32)
        z = (p[2] + np.float32(self.spine_phase)) % np.float32(30) - np.float32(15)
        q = np.stack([p[0], y, z])
        body = smooth_intersection(elliptic_cylinder(q[0], q[1], 22, 17), np.abs(z) - np.float32(12), 4)
        canal = elliptic_cylinder(q[0], q[1] + 24, 10, 8)
        arch = smooth_intersection(elliptic_cylinder(q[0], q[1] + 24, 17, 14), np.abs(z - 1) - np.float32(9), 4)
        spinous = capsule(q, (0, -36, 0), (0, -54, -6), 4.5)
        sides = np.minimum(capsule(q, (14, -20, 2), (38, -24, 4), 4.5), capsule(q, (-14, -20, 2), (-38, -24, 4), 4.5))
        arch = np.maximum(np.minimum(np.minimum(arch, spinous), sides), -canal)
        return np.minimum(body, arch), canal

    def ribs(self, p: Points) -> Field:
        """Hoops in the wall that fall towards the front; none below the costal margin."""
        depth = self.cavity(p) - np.float32(self.muscle_wall / 2)
        slope = p[2] + np.float32(0.45) * p[1] + np.float32(self.rib_phase)
        along = (slope % np.float32(30) - np.float32(15)) * np.float32(0.9)
        margin = np.float32(-30) + np.float32(0.6) * p[1] - np.float32(0.15) * np.abs(p[0]) - p[2]
        result: Field = np.maximum(np.sqrt((depth * 1.2) ** 2 + along**2) - np.float32(5.5), margin)
        return result

    def lesions(self) -> tuple[tuple[tuple[float, ...], float, float], ...]:
        """Centre, radius and contrast of each lesion: deep in the liver and apart from the others.

        Candidates are tried in a random order; a lesion that fits nowhere shrinks until it does.
        """
        rng = np.random.default_rng(self.lesion_seed)
        tries = rng.uniform((-60, -70, -70), (140, 80, 70), size=(_CANDIDATES, 3)).astype(np.float32)
        depth = -self.liver(tries.T)
        lesions: list[tuple[tuple[float, ...], float, float]] = []
        for wanted, contrast in self.lesion_draw:
            for radius in (wanted, 0.85 * wanted, 0.7 * wanted):
                clear = depth > radius + LESION_MARGIN
                for centre, other, _ in lesions:
                    clear &= np.linalg.norm(tries - np.asarray(centre, dtype=np.float32), axis=1) > radius + other + LESION_MARGIN
                if clear.any():
                    lesions.append((tuple(tries[np.argmax(clear)].tolist()), radius, contrast))
                    break
        return tuple(lesions)


def _draw_loop(rng: np.random.Generator, liver: float) -> BowelLoop:
    """A stretch of bowel in the front and lower part of the abdomen."""
    start = rng.uniform((-95, 0, -120), (95, 62, -20))
    end = start + rng.normal(0, (30, 12, 18))
    return BowelLoop(tuple(start), tuple(end), rng.uniform(11, 19), liver + rng.uniform(-45, 12), bool(rng.random() < 0.3))


def paint(torso: Torso, canvas: Canvas) -> None:
    """Paint a patient, from the skin inwards.

    Args:
        torso: the patient.
        canvas: one channel, air in it.
    """
    table = np.maximum(np.abs(canvas.points[1] + 133) - 4, np.abs(canvas.points[0]) - 190)
    canvas.paint(table, -250.0)
    p = torso.warp(canvas.points)
    coarse = torso.coarse(p)
    texture = coarse + 9 * torso.fine(p)
    _paint_trunk(torso, canvas, p, texture)
    _paint_unlabelled(torso, canvas, p, texture)
    _paint_organs(torso, canvas, p, texture)
    _paint_bones(torso, canvas, p, texture)


def _paint_trunk(torso: Torso, canvas: Canvas, p: Points, texture: Field) -> None:
    cavity = torso.cavity(p)
    canvas.paint(torso.body(p), FAT + 0.5 * texture)
    canvas.paint(torso.wall(p), torso.hu["muscle"] + texture)
    canvas.paint(cavity, FAT + texture)
    mediastinum = elliptic_cylinder(p[0] + 6, p[1] - 4, 34, 110)
    canvas.paint(np.maximum(np.maximum(cavity + 2, 1 - torso.diaphragm(p)), -mediastinum), LUNG + 3 * texture)
    heart = ellipsoid(p, torso._at(5, -26, 26, 96), torso._radii(5, 62, 46, 44), (0, 15, 20))
    canvas.paint(np.maximum(np.maximum(heart, cavity + 4), 3 - torso.diaphragm(p)), torso.hu["blood"] + texture)


def _paint_unlabelled(torso: Torso, canvas: Canvas, p: Points, texture: Field) -> None:
    """Unlabelled tissues of the organs' intensities: muscles, vessels, stomach, bowel, gallbladder."""
    abdomen = torso.abdomen(p, 3)
    muscle = torso.hu["muscle"] + texture
    for side in (-1, 1):
        canvas.paint(capsule(p, (side * 32, -44, -20), (side * 46, -36, -140), 18), muscle)
    for loop in torso.loops:
        tube = np.maximum(capsule(p, loop.start, loop.end, loop.radius), abdomen)
        canvas.paint(tube, loop.hu + texture)
        if loop.gas:
            canvas.paint(smooth_intersection(tube + 4, half_space(p, loop.start, (0, -1, 0)), 3), GAS)
    stomach = ellipsoid(p, torso._at(5, -52, 28, 16), torso._radii(5, 42, 40, 48), (0, 25, 0))
    stomach = np.maximum(stomach, abdomen)
    canvas.paint(stomach, torso.hu["stomach"] + texture)
    canvas.paint(smooth_intersection(stomach + 4, half_space(p, torso._at(5, -52, 44, 16), (0, -1, 0)), 4), GAS)
    canvas.paint(np.maximum(capsule(p, (-70, -8, -6), (28, 10, -24), 12), abdomen), torso.hu["stomach"] + 12 + texture)
    canvas.paint(elliptic_cylinder(p[0] + 14, p[1] + 16, 12, 12), torso.hu["blood"] + texture)
    canvas.paint(elliptic_cylinder(p[0] - 18, p[1] + 14, 13, 10), torso.hu["blood"] - 6 + texture)


def _paint_organs(torso: Torso, canvas: Canvas, p: Points, texture: Field) -> None:
    value = {label.name: label.value for label in TABLE.labels}
    canvas.paint(torso.gallbladder(p), 12.0 + texture)
    liver = torso.liver(p)
    canvas.paint(liver, torso.hu["liver"] + texture, label=value["liver"])
    for start, end in (((30, 8, -8), (95, 20, 30)), ((30, 8, -8), (85, -30, 5)), ((30, 8, -8), (0, 42, 25))):
        vessel = np.maximum(capsule(p, start, end, 5.5), liver + 6)
        canvas.paint(vessel, torso.hu["liver"] + 22 + texture, label=value["liver"])
    for centre, radius, contrast in torso.lesions():
        canvas.paint(
            ellipsoid(p, centre, (radius, radius * 0.9, radius)),
            torso.hu["liver"] + contrast + texture,
            label=value["liver_lesion"],
        )
    canvas.paint(torso.spleen(p), torso.hu["spleen"] + texture, label=value["spleen"])
    for side, name in ((-1, "kidney_left"), (1, "kidney_right")):
        kidney = torso.kidney(p, side)
        canvas.paint(kidney - KIDNEY_FAT, FAT + texture)
        cortex = 14 * np.exp(-((kidney / 6) ** 2))
        canvas.paint(kidney, torso.hu["kidney"] - 5 + cortex + texture, label=value[name])


def _paint_bones(torso: Torso, canvas: Canvas, p: Points, texture: Field) -> None:
    canvas.paint(torso.ribs(p), torso.hu["bone"] + 60 + texture)
    vertebrae, canal = torso.vertebrae(p)
    disc = elliptic_cylinder(p[0], p[1] - (-44 + 5 * np.cos(p[2] / np.float32(70))), 21, 16)
    canvas.paint(disc, torso.hu["liver"] + 8 + texture)
    canvas.paint(canal, 25.0 + texture)
    shell = 180 * np.exp(-((vertebrae / 3) ** 2))
    canvas.paint(vertebrae, torso.hu["bone"] + shell + 2 * texture, label=TABLE["vertebrae"].value)
