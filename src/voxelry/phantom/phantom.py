"""Phantom: a synthetic patient, scanned in memory, with its exact reference labels (`make_phantom`, `small_phantom`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import UsageError, nearest
from voxelry.phantom import chest, dental, spine, torso
from voxelry.phantom.acquisition import Acquisition, blurred, shading, speckle
from voxelry.phantom.canvas import Canvas

Kind = Literal["torso-ct", "spine-mri", "chest-xray", "chest-xray-heart", "dental-panoramic", "spine-discs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TABLES: dict[Kind, LabelTable] = {
    "torso-ct": torso.TABLE,
    "spine-mri": spine.TABLE,
    "chest-xray": chest.TABLE,
    "chest-xray-heart": chest.HEART_TABLE,
    "dental-panoramic": dental.TABLE,
    "spine-discs": spine.DISC_TABLE,
}
ACQUISITIONS: dict[Kind, Acquisition] = {
    "torso-ct": torso.ACQUISITION,
    "spine-mri": spine.ACQUISITION,
    "chest-xray": chest.ACQUISITION,
    "chest-xray-heart": chest.ACQUISITION,
    "dental-panoramic": dental.ACQUISITION,
    "spine-discs": spine.DISC_ACQUISITION,
}
CHANNELS: dict[Kind, tuple[str, ...]] = {
    "torso-ct": ("CT",),
    "spine-mri": spine.CHANNELS,
    "chest-xray": ("X-ray",),
    "chest-xray-heart": ("X-ray",),
    "dental-panoramic": ("X-ray",),
    "spine-discs": spine.DISC_CHANNELS,
}

COARSE = 3
"""Factor by which the voxels of `coarse_acquisition` are longer."""

HU_RANGE = (-1024, 3071)
MR_RANGE = (0, 4095)


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic examination.

    Attributes:
        kind: anatomy and scanner.
        seed: seed from which everything that varies between patients is drawn.
        acquisition: how it was scanned.
        volume: the image: int16 HU; int16 MR signal with four channels; or an int16 picture of 12 bits.
        labels: the reference, on the volume's grid.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> small_phantom("chest-xray").volume.modality
        'DX'
    """

    kind: Kind
    seed: int
    acquisition: Acquisition
    volume: Volume
    labels: LabelMap


def make_phantom(kind: Kind, seed: int, acquisition: Acquisition | None = None) -> Phantom:
    """Make a synthetic examination.

    The anatomy depends on `kind` and `seed` alone: another acquisition shows the same patient at the same place in the
    world. Everything is repeatable: the same arguments give the same bytes.

    Args:
        kind: ``torso-ct``, ``spine-mri``, ``chest-xray``, ``chest-xray-heart``, whose heart and lungs overlap, or
            ``dental-panoramic``, whose teeth are objects; ``spine-discs`` is a spine in the layout of IVDM3Seg.
        seed: from 0.
        acquisition: grid, noise, bias and blur; the kind's own (`ACQUISITIONS`) where None.

    Returns:
        The image and its reference.

    Raises:
        UsageError: an unknown kind, a negative seed, or an acquisition that makes no grid.

    Example:
        >>> from voxelry.phantom import coarse_acquisition, make_phantom
        >>> phantom = make_phantom("torso-ct", seed=3, acquisition=coarse_acquisition("torso-ct"))
        >>> phantom.volume.modality, phantom.labels.table.names[:2]
        ('CT', ('liver', 'spleen'))
    """
    check_kind(kind)
    if seed < 0:
        raise UsageError(f"phantom seed {seed} is negative", remedy="Use 0, 1, 2...")
    how = acquisition or ACQUISITIONS[kind]
    anatomy, scanner = (np.random.default_rng(stream) for stream in np.random.SeedSequence([KINDS.index(kind), seed]).spawn(2))
    volume, labels = _SCANS[kind](anatomy, scanner, how)
    return Phantom(kind, seed, how, volume, labels)


def small_phantom(kind: Kind = "torso-ct", seed: int = 0) -> Phantom:
    """Make a synthetic examination of few voxels, within half a second, for examples and tests.

    Args:
        kind: ``torso-ct``, ``spine-mri``, ``chest-xray``, ``chest-xray-heart``, whose heart and lungs overlap, or
            ``dental-panoramic``, whose teeth are objects; ``spine-discs`` is a spine in the layout of IVDM3Seg.
        seed: from 0.

    Returns:
        The image and its reference, on the grid of `coarse_acquisition`.

    Raises:
        UsageError: an unknown kind, or a negative seed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> phantom = small_phantom()
        >>> phantom.volume.array.shape, phantom.labels.array.shape
        ((1, 32, 27, 16), (32, 27, 16))
    """
    return make_phantom(kind, seed, coarse_acquisition(kind))


def coarse_acquisition(kind: Kind) -> Acquisition:
    """A kind's own acquisition (`ACQUISITIONS`) with voxels three times as long along each axis.

    Raises:
        UsageError: an unknown kind.

    Example:
        >>> from voxelry.phantom import coarse_acquisition
        >>> coarse_acquisition("torso-ct").spacing
        (12.0, 12.0, 15.0)
    """
    check_kind(kind)
    own = ACQUISITIONS[kind]
    column, row, slice_ = (COARSE * length for length in own.spacing)
    return replace(own, spacing=(column, row, slice_))


def check_kind(kind: str) -> None:
    """Refuse an unknown kind.

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
    return _dixon(anatomy, scanner, how, "spine-mri")


def _spine_discs(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    return _dixon(anatomy, scanner, how, "spine-discs")


def _dixon(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition, kind: Kind) -> tuple[Volume, LabelMap]:
    """Four channels of a spine, in the order of the kind."""
    geometry, table = how.grid(), TABLES[kind]
    canvas = Canvas(geometry, (0.0, 0.0))
    spine.paint(spine.Spine.draw(anatomy), canvas, table)
    water, fat = blurred(canvas.image, how.blur, geometry) * shading(scanner, how.bias, geometry)
    image = spine.dixon(water, fat)[[spine.CHANNELS.index(name) for name in CHANNELS[kind]]]
    real = image + speckle(scanner, image.shape, how.noise * spine.BRIGHTEST)
    imaginary = speckle(scanner, image.shape, how.noise * spine.BRIGHTEST)
    pixels = np.clip(np.rint(np.hypot(real, imaginary)), *MR_RANGE).astype(np.int16)
    source = _source(kind)
    return Volume(pixels, geometry, 4, "MR", source), LabelMap.of(canvas.labels, geometry, table, source)


def _chest(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    pixels, layers, geometry = chest.expose(chest.Chest.draw(anatomy), scanner, how)
    source = _source("chest-xray")
    return Volume(pixels[None], geometry, 1, "DX", source), LabelMap.of(layers[0], geometry, chest.TABLE, source)


def _chest_heart(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    pixels, layers, geometry = chest.expose(chest.Chest.draw(anatomy), scanner, how)
    source = _source("chest-xray-heart")
    return Volume(pixels[None], geometry, 1, "DX", source), LabelMap(layers, geometry, chest.HEART_TABLE, source)


def _dental(anatomy: np.random.Generator, scanner: np.random.Generator, how: Acquisition) -> tuple[Volume, LabelMap]:
    pixels, labels, geometry = dental.expose(dental.Jaws.draw(anatomy), scanner, how)
    source, ids = _source("dental-panoramic"), labels[None].astype(np.uint32)
    return Volume(pixels[None], geometry, 1, "PX", source), LabelMap(labels[None], geometry, dental.TABLE, source, ids)


_SCANS: dict[Kind, Callable[[np.random.Generator, np.random.Generator, Acquisition], tuple[Volume, LabelMap]]] = {
    "torso-ct": _torso,
    "spine-mri": _spine,
    "chest-xray": _chest,
    "chest-xray-heart": _chest_heart,
    "dental-panoramic": _dental,
    "spine-discs": _spine_discs,
}
