"""Reads a case: its image and its reference on one grid, for training, evaluation and checks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from voxelry.base.listing import counted, shown
from voxelry.core.geometry import Geometry
from voxelry.core.instance_form import InstanceForm
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.datasets.channels import read_channels
from voxelry.datasets.manifest import Manifest
from voxelry.errors import LabelError, ManifestError
from voxelry.formats.detection import detect
from voxelry.formats.mask_folder import mask_boxes
from voxelry.formats.object_layers import LabelledObject, stack_objects
from voxelry.formats.reader import read_labels
from voxelry.formats.reference_objects import ToldApart, in_parts, labels_with_objects, with_objects

log = logging.getLogger(__name__)

_MASK_FILES = "mask-files"
_DRAWN_KINDS = ("coco", "darwin", _MASK_FILES)
"""The kinds of a Source whose remarks say what became of objects that were drawn one by one."""


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
    reference = read_reference(case, card, geometry)
    return None if reference is None else reference.labels


@dataclass(frozen=True, eq=False)
class CaseReference:
    """The reference of a case.

    Attributes:
        labels: on the grid of the image; the remarks of its Source say what became of the objects, too.
        form: how its objects were told apart; None where the card has no things.
        remarks: what was decided about objects, in sentences.
    """

    labels: LabelMap
    form: InstanceForm | None
    remarks: tuple[str, ...]


def read_reference(case: Case, card: Card, geometry: Geometry) -> CaseReference | None:
    """Read a case's reference as `load_labels` does, with what had to be decided about its objects."""
    if not case.has_labels:
        return None
    where = str(case.label_files[0] if case.labels else case.label_files[0].parent if case.label_files else case.images[0])
    has_things = any(label.kind == "thing" for label in card.labels)
    told: ToldApart | None = None
    if case.objects is not None:
        labels = _of_files(case.objects, card.table, geometry)
        told = in_parts(labels, card.instances or InstanceForm(form="files"), where) if has_things else None
    elif case.labels is None:
        labels = _merge(case, card.table, geometry)
        told = with_objects(labels, card.instances, where, case.instances) if has_things else None
    else:
        read = partial(_read_layers, case.labels, case, card)
        told = labels_with_objects(case.labels, card.table, card.instances, read, case.instances) if has_things else None
        labels = read() if told is None else told.labels
    labels = labels if told is None else told.labels
    drawn = [f"{where}: {remark}" for remark in labels.source.remarks] if labels.source.kind in _DRAWN_KINDS else []
    remarks = (*drawn, *(() if told is None else told.remarks))
    source = replace(labels.source, remarks=remarks if drawn else (*labels.source.remarks, *remarks))
    return CaseReference(replace(labels, source=source).on_grid(geometry), told.form if told else None, remarks)


def _read_layers(mask: Path, case: Case, card: Card) -> LabelMap:
    """A file of labels, on as many layers as those of the card."""
    needs_image = "reference" in detect(mask).label_options  # contours are filled on an image
    labels = read_labels(mask, card.table, reference=case.reference_image(card.reference) if needs_image else None)
    if len(labels.layers) != card.table.layers:
        raise LabelError(
            f"case '{case.id}' ({mask}): labels on {len(labels.layers)} layers, those of the card lie on {card.table.layers}",
            remedy="Give a mask file for each label (per_label), or a format that holds layers, such as DICOM SEG or .seg.nrrd.",
        )
    return labels


def _of_files(objects: Sequence[tuple[str, Path]], table: LabelTable, geometry: Geometry) -> LabelMap:
    """One mask file for each object, into one map; its remarks say what overlaps, and which files are empty."""
    numbers = {name: number for number, name in enumerate(table.names, start=1)}
    labels = dict(enumerate(table.labels, start=1))
    masks = [mask_boxes(read_labels(file).on_grid(geometry)) for _, file in objects]
    empty = [file.name for (_, file), boxes in zip(objects, masks, strict=True) if not boxes]
    remarks = (f"{counted(len(empty), 'object', 'objects')} without a voxel: {shown(empty)}",) if empty else ()
    source = Source(kind=_MASK_FILES, files=tuple(str(file) for _, file in objects), remarks=remarks)
    listed = [
        LabelledObject(numbers[name], id, boxes)
        for id, ((name, _), boxes) in enumerate(zip(objects, masks, strict=True), start=1)
    ]
    return stack_objects(listed, geometry, labels, table, source, drawn=True)


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
