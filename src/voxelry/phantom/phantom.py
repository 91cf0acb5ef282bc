"""The word Phantom, and `make`: one synthetic patient, scanned as asked, with its exact reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import UsageError, nearest
from voxelry.phantom import chest, spine, torso
from voxelry.phantom.acquisition import Acquisition, blurred, shading, speckle
from voxelry.phantom.canvas import Canvas

Kind = Literal["torso-ct", "spine-mri", "chest-xray"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TABLES: dict[Kind, LabelTable] = {"torso-ct": torso.TABLE, "spine-mri": spine.TABLE, "chest-xray": chest.TABLE}
ACQUISITIONS: dict[Kind, Acquisition] = {
    "torso-ct": torso.ACQUISITION,
    "spine-mri": spine.ACQUISITION,
    "chest-xray": chest.ACQUISITION,
}
CHANNELS: dict[Kind, tuple[str, ...]] = {"torso-ct": ("CT",), "spine-mri": spine.CHANNELS, "chest-xray": ("X-ray",)}

HU_RANGE = (-1024, 3071)
MR_RANGE = (0, 4095)


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic examination.

    Attributes:
        kind: which anatomy and scanner.
        seed: all that varies between patients comes from it.
        acquisition: how it was scanned.
        volume: the image: int16 HU; int16 MR signal with four channels; or an int16 picture of 12 bits.
        labels: the reference, on the volume's grid.
    """

    kind: Kind
    seed: int
    acquisition: Acquisition
    volume: Volume
    labels: LabelMap


def make(kind: Kind, seed: int, acquisition: Acquisition | None = None) -> Phantom:
    """Make a synthetic examination.

    The anatomy depends on `kind` and `seed` alone: another acquisition shows the same patient at the same place in the
    world. Everything is repeatable: the same arguments give the same bytes.

    Args:
        kind: ``torso-ct``, ``spine-mri`` or ``chest-xray``.
        seed: from 0.
        acquisition: grid, noise, bias and blur; the kind's own (`ACQUISITIONS`) where None.

    Returns:
        The image and its reference.

    Raises:
        UsageError: an unknown kind, a negative seed, or an acquisition that makes no grid.
    """
    check_kind(kind)
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative", remedy="Use 0, 1, 2...")
    how = acquisition or ACQUISITIONS[kind]
    anatomy, scanner = (np.random.default_rng(stream) for stream in np.random.SeedSequence([KINDS.index(kind), seed]).spawn(2))
    volume, labels = {"torso-ct": _torso, "spine-mri": _spine, "chest-xray": _chest}[kind](anatomy, scanner, how)
    return Phantom(kind, seed, how, volume, labels)


def check_kind(kind: str) -> None:
    """Refuse a kind that there is none of.

    Raises:
        UsageError: with the nearest kind.
    """
    if kind not in KINDS:
        raise UsageError(f"no phantom of kind {kind!r}", remedy=nearest(kind, KINDS))


def _source(kind: Kind) -> Source:
    return Source(kind="memory", remarks=(f"synthetic: made by voxelry.phantom, kind {kind}",))


def _torso(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    geometry = how.grid()
    canvas = Canvas(geometry, (torso.AIR,))
    torso.paint(torso.Torso.draw(anatomy), canvas)
    image = blurred(canvas.image, how.blur, geometry)
    image = (image - torso.AIR) * shading(scanner, how.bias, geometry) + torso.AIR
    image = image + speckle(scanner, image.shape, how.noise)
    pixels = np.clip(np.rint(image), *HU_RANGE).astype(np.int16)
    source = _source("torso-ct")
    return Volume(pixels, geometry, 1, "CT", source), LabelMap.of(canvas.labels, geometry, torso.TABLE, source)


def _spine(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    geometry = how.grid()
    canvas = Canvas(geometry, (0.0, 0.0))
    spine.paint(spine.Spine.draw(anatomy), canvas)
    water, fat = blurred(canvas.image, how.blur, geometry) * shading(scanner, how.bias, geometry)
    image = spine.dixon(water, fat)
    real = image + speckle(scanner, image.shape, how.noise * spine.BRIGHTEST)
    imaginary = speckle(scanner, image.shape, how.noise * spine.BRIGHTEST)
    pixels = np.clip(np.rint(np.hypot(real, imaginary)), *MR_RANGE).astype(np.int16)
    source = _source("spine-mri")
    return Volume(pixels, geometry, 4, "MR", source), LabelMap.of(canvas.labels, geometry, spine.TABLE, source)


def _chest(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    pixels, labels, geometry = chest.expose(chest.Chest.draw(anatomy), scanner, how)
    source = _source("chest-xray")
    return Volume(pixels[None], geometry, 1, "DX", source), LabelMap.of(labels, geometry, chest.TABLE, source)
