"""Reads a case: its image and its reference on one grid, for training, evaluation and checks."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.channels import read_channels
from voxelry.datasets.manifest import Manifest
from voxelry.errors import LabelError, ManifestError
from voxelry.formats.detection import detect
from voxelry.formats.mask_folder import mask_boxes
from voxelry.formats.object_files import DrawnObject, painted
from voxelry.formats.object_parts import with_parts
from voxelry.formats.reader import read_labels
from voxelry.formats.reference_objects import labels_with_objects, with_objects

log = logging.getLogger(__name__)


def load_case(case: Case, manifest: Manifest) -> tuple[Volume, LabelMap | None]:
    """Read a case.

    Args:
        case: a case of the manifest.
        manifest: its card says how many channels and axes to expect, and what the labels mean.

    Returns:
        The image, and its labels re-indexed to the image's grid; None where the case has no reference.

    Raises:
        ReadError: a file cannot be read.
        GridMismatchError: channels lie on different grids and the card names no reference channel, or in different frames of
            reference; or image and labels lie on different grids.
        LabelError: a label value that the card does not know.
        ManifestError: not the channels or axes that the card names.

    Examples:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> path = write_phantoms("phantoms", "torso-ct", 2, val=1, acquisition=coarse)
        >>> from voxelry.datasets import load_case, load_manifest
        >>> manifest = load_manifest(path)
        >>> image, labels = load_case(manifest.cases[0], manifest)
        >>> image.shape[1:] == labels.array.shape
        True
    """
    volume = load_image(case, manifest.card)
    return volume, load_labels(case, manifest.card, volume.geometry)


def load_image(case: Case, card: Card) -> Volume:
    """Read a case's image; see `load_case`."""
    volume = read_channels(case.images, reference=card.reference, channels=len(card.channels))
    if volume.channels != len(card.channels):
        raise ManifestError(
            f"case '{case.id}' ({case.images[0]}): {volume.channels} channels, the card names {len(card.channels)} "
            f"({', '.join(card.channels)})",
            remedy="Correct the card's channels, or the case's images.",
        )
    if volume.geometry.ndim != card.dimensions:
        raise ManifestError(
            f"case '{case.id}' ({case.images[0]}): {volume.geometry.ndim} spatial axes, the card states {card.dimensions}",
            remedy="Correct the card's dimensions, or the case's images.",
        )
    return volume


def load_labels(case: Case, card: Card, geometry: Geometry) -> LabelMap | None:
    """Read a case's reference onto a grid, with the ids of its objects where the card has things; see `load_case`."""
    labels, remarks = read_reference(case, card, geometry)
    if labels is None or not remarks:
        return labels
    return replace(labels, source=replace(labels.source, remarks=(*labels.source.remarks, *remarks)))


def read_reference(case: Case, card: Card, geometry: Geometry) -> tuple[LabelMap | None, list[str]]:
    """As `load_labels`, and what had to be decided about the objects, in sentences."""
    remarks: list[str] = []
    if case.objects is not None:
        return _painted(case, card, geometry)
    if case.masks:
        labels = _merge(case, card.table, geometry)
        if _has_things(card):
            labels, remarks = with_objects(labels, card.instances, str(case.masks[0][1].parent))
        return labels, remarks
    if case.labels is None:
        return None, remarks
    needs_image = "reference" in detect(case.labels).label_options  # contours are filled on an image
    image = case.reference_image(card.reference) if needs_image else None
    read = partial(_read_layers, case, card, image)
    if not _has_things(card):
        return read().on_grid(geometry), remarks
    labels, remarks = labels_with_objects(case.labels, card.table, card.instances, read, case.instances)
    return labels.on_grid(geometry), remarks


def _read_layers(case: Case, card: Card, image: Path | None) -> LabelMap:
    """A file of labels, on as many layers as those of the card."""
    assert case.labels is not None
    labels = read_labels(case.labels, card.table, reference=image)
    if len(labels.layers) != card.table.layers:
        raise LabelError(
            f"case '{case.id}' ({case.labels}): labels on {len(labels.layers)} layers, those of the card lie on "
            f"{card.table.layers}",
            remedy="Give a mask file for each label (per_label), or a format that holds layers, such as DICOM SEG or .seg.nrrd.",
        )
    return labels


def _has_things(card: Card) -> bool:
    return any(label.kind == "thing" for label in card.labels)


def _painted(case: Case, card: Card, geometry: Geometry) -> tuple[LabelMap, list[str]]:
    """One mask file for each object, into one map."""
    objects = []
    for name, file in case.objects or ():
        mask = read_labels(file).on_grid(geometry)
        objects.append(DrawnObject(card.table[name], file.name, tuple(mask_boxes(mask))))
    where = case.label_files[0].parent if case.objects else case.images[0]
    source = Source(kind="memory", files=tuple(str(file) for _, file in case.objects or ()))
    labels, remarks = painted(objects, geometry, card.table, source, str(where))
    labels, more = with_parts(labels, "keep" if card.instances is None else card.instances.parts, str(where))
    return labels, [*remarks, *more]


def _merge(case: Case, table: LabelTable, geometry: Geometry) -> LabelMap:
    """One mask file per label, into one map; within a layer the label that is later in the table wins an overlap."""
    highest = max(label.value for label in table.labels)
    layers = np.zeros((table.layers, *geometry.shape), dtype=np.uint8 if highest < 256 else np.uint16)
    overlap = 0
    for name, file in case.masks:
        inside = read_labels(file).on_grid(geometry).array > 0
        layer = layers[table[name].layer]
        overlap += int(np.count_nonzero(layer[inside]))
        layer[inside] = table[name].value
    if overlap:
        log.warning(
            "case '%s': masks overlap in %d voxels; the label later in the table was kept. To keep both, give labels that "
            "overlap layers of their own in the card",
            case.id,
            overlap,
        )
    return LabelMap(layers, geometry, table, Source(kind="memory", files=tuple(str(file) for _, file in case.masks)))
