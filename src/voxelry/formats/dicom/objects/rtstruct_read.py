"""Reader of RTSTRUCT: the structures of a radiotherapy structure set, filled on the slices of the series they were drawn on.

`structure_set` parses the structures, `contours` defines which voxels a contour encloses. A contour belongs to the slice nearest
to it, within `SLICE_TOLERANCE`, on an oblique or tilted series too, since its points are converted to voxel indices first. Only
CLOSED_PLANAR and CLOSEDPLANAR_XOR contours enclose voxels: points and open lines are left out with a remark. Slices between
contours are not interpolated. Structures in another frame of reference than the image's are left out with a remark.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, nearest
from voxelry.formats.contours import fill
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message
from voxelry.formats.dicom.objects.referenced_image import (
    ReferencedImage,
    check_same_image,
    find_image,
    read_image,
    referenced_image,
)
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.dicom.objects.structure_set import XOR, Contour, Structure, structures_of
from voxelry.formats.file_content import FileContent
from voxelry.formats.file_segments import gathered
from voxelry.formats.label_layers import SegmentBox, match, unique_names
from voxelry.formats.object_layers import LabelledObject, stack_objects

SLICE_TOLERANCE = 0.25
"""Largest distance of a contour from its slice, in slices; half way between two it could belong to either."""

_REMARKABLE_OFFSET = 0.02
"""Slices: from this distance on a contour off its slice is remarked."""


def read_rtstruct(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
    content: FileContent | None = None,
) -> LabelMap:
    """Read a structure set as labels on the grid of its image.

    Args:
        path: a DICOM RTSTRUCT file.
        table: the structures to read, matched by name, then by code; the others are left out with a remark. None takes all,
            numbered by ROI number where those fit, with their names, codes and colours.
        reference: the image, or its path; None looks for the series that the file names in the file's folder and the one above.
        content: of `path`, where it is open already; None opens it.

    Returns:
        A LabelMap ``(columns, rows, slices)``, on several layers where structures overlap. A structure without contours stays in
        the table, empty. `Source.remarks` lists what was left out.

    Raises:
        MissingFileError: the series that it was drawn on is not beside the file.
        GridMismatchError: contours that lie on no slice of the reference, or another frame of reference.
        LabelError: none of the structures is in `table`, or structures overlap on one of its layers.
        UnsupportedFormatError: an unknown transfer syntax.
        CorruptFileError: damaged, or contradicting itself.
    """
    file = Path(path)
    try:
        with quiet_pydicom():
            data = read_object(file, content)
            structures, remarks = structures_of(data)
            named = referenced_image(data)
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{file}: cannot be read as a structure set ({short_message(error)})", remedy="Export it again."
        ) from error
    joined = gathered(
        {number: item.label for number, item in structures.items()}, {number: item.note for number, item in structures.items()}
    )
    known, own_remarks = _labels(file, unique_names(joined.labels), table)
    labels = {number: known[owner] for number, owner in joined.owner.items() if owner in known}
    remarks += own_remarks
    for number in labels:
        if structures[number].problem:
            raise CorruptFileError(
                f"{file}: {structures[number].problem}", remedy="Export it again, or name the other structures in a label table."
            )
    if isinstance(reference, Volume):
        image = reference
    else:
        image = find_image(file, named) if reference is None else read_image(reference, named)
    if image.geometry.affine is None:
        raise GridMismatchError(f"{file}: contours lie in space, {image.source.name} is a picture", remedy="Name its series.")
    labels, own_remarks = _in_space(file, {number: (labels[number], structures[number]) for number in labels}, named, image)
    remarks += own_remarks
    boxes = {}
    for number in labels:
        boxes[number], own_remarks = _boxes(file, structures[number], image)
        remarks += [f"structure '{structures[number].label.name}': {text}" for text in own_remarks]
    source = Source("rtstruct", (str(file),), image.source.series_uid, image.source.instances, tuple(remarks))
    objects = [LabelledObject(joined.owner[number], joined.instances.get(number, 0), own) for number, own in boxes.items()]
    kept = {joined.owner[number]: label for number, label in labels.items()}
    return stack_objects(objects, image.geometry, kept, table, source, by_id=bool(joined.instances))


def _labels(file: Path, labels: Mapping[int, Label], table: LabelTable | None) -> tuple[dict[int, Label], list[str]]:
    """ROI number -> label, and remarks on structures that are left out, joined or renumbered."""
    if table is None:
        fits = all(number == label.value for number, label in labels.items())
        renumbered = {
            number: label if fits else label.model_copy(update={"value": index})
            for index, (number, label) in enumerate(labels.items(), start=1)
        }
        return renumbered, [] if fits else ["ROI numbers that are no label values were numbered from 1"]
    matches = {number: match(label, table) for number, label in labels.items()}
    known = {number: label for number, label in matches.items() if label is not None}
    others = [labels[number].name for number, label in matches.items() if label is None]
    if not known:
        first = others[0] if others else ""
        raise LabelError(
            f"{file}: none of its structures ({', '.join(others)[:200]}) is in the table", remedy=nearest(first, table.names)
        )
    remarks = [f"structures not in the table are left out: {', '.join(others)}"] if others else []
    for name in dict.fromkeys(label.name for label in known.values()):
        owners = [labels[number].name for number, label in known.items() if label.name == name]
        remarks += [f"structures {', '.join(owners)} are joined as '{name}'"] if len(owners) > 1 else []
    return known, remarks


def _in_space(
    file: Path, structures: dict[int, tuple[Label, Structure]], named: ReferencedImage, image: Volume
) -> tuple[dict[int, Label], list[str]]:
    """The labels of the structures whose coordinates are the image's, and remarks.

    Raises:
        GridMismatchError: there are none, or the image does not say in which of several frames of reference it lies.
    """
    frames = {number: _frame_of(structure, named) for number, (_, structure) in structures.items()}
    of_image = named.frames_of(image)
    different = sorted(set(filter(None, frames.values())))
    if not image.source.frame_of_reference:
        if len(different) > 1:
            raise GridMismatchError(
                f"{file}: its structures lie in {len(different)} frames of reference ({', '.join(different)}), and "
                f"{image.source.name} does not say in which it lies",
                remedy="Name the DICOM series that they were drawn on, or the structures of one of them in a label table.",
            )
        of_image = frozenset(different)
    instances = {instance[0] for instance in image.source.instances if instance}
    labels: dict[int, Label] = {}
    remarks: list[str] = []
    for number, (label, structure) in structures.items():
        frame = frames[number]
        if frame and frame not in of_image and not _instances(structure) & instances:
            remarks.append(f"structure '{label.name}' is left out: it lies in another frame of reference ({frame})")
            continue
        labels[number] = label
        if not frame and (named.series or named.others):
            remarks.append(f"structure '{label.name}' states no frame of reference: its coordinates are taken for the image's")
        elif frame and frame not in of_image:
            remarks.append(
                f"structure '{label.name}' states another frame of reference ({frame}) than the slices that it names have"
            )
    if structures and not labels:
        raise GridMismatchError(
            f"{file}: its frame of reference ({', '.join(different)}) is not that of {image.source.name} "
            f"({image.source.frame_of_reference})",
            remedy="Name the image that it was drawn on.",
        )
    return labels, remarks + check_same_image(
        file, replace(named, frame_of_reference=_common({frames[n] for n in labels} & of_image)), image
    )


def _frame_of(structure: Structure, named: ReferencedImage) -> str:
    """The frame of reference of a structure: its own, that of all the file, or that of the images that it names."""
    return structure.frame_of_reference or named.frame_of_reference or named.frame_of_instances(_instances(structure))


def _instances(structure: Structure) -> set[str]:
    """SOPInstanceUIDs that a structure's contours name."""
    return {uid for contour in structure.contours for uid, _ in contour.images}


def _common(frames: set[str]) -> str:
    """The only one of some frames of reference, empty where there are more, or none."""
    return frames.pop() if len(frames) == 1 else ""


def _boxes(file: Path, structure: Structure, image: Volume) -> tuple[list[SegmentBox], list[str]]:
    """The voxels of one structure, slice by slice, and remarks on its contours."""
    geometry = image.geometry
    slices: dict[int, list[tuple[NDArray[np.float64], bool]]] = {}
    largest, elsewhere = 0.0, 0
    for contour in structure.contours:
        index = geometry.index(flip_lps_ras(contour.points))
        k, offset = _slice_of(file, structure.label.name, index, geometry)
        largest = max(largest, offset)
        elsewhere += _names_another(contour, image, k)
        slices.setdefault(k, []).append((index[:, :2], contour.is_xor))
    remarks = list(structure.remarks)
    if largest > _REMARKABLE_OFFSET:
        remarks.append(f"contours up to {largest:.2g} slices off their slice")
    if elsewhere:
        remarks.append(f"{elsewhere} contours name another image than the slice that they lie on: their coordinates count")
    boxes, overlaps, repeated, cancelled, clipped, mixed = [], 0, 0, 0, 0, 0
    for k, contours in sorted(slices.items()):
        exclusive = {is_xor for _, is_xor in contours}
        filled = fill([points for points, _ in contours], (geometry.shape[0], geometry.shape[1]), exclusive=True in exclusive)
        overlaps, clipped, mixed = overlaps + filled.overlaps, clipped + filled.clipped, mixed + (len(exclusive) > 1)
        if True in exclusive:
            cancelled += filled.repeated
        else:
            repeated += filled.repeated
        if filled.inside.any():
            boxes.append(SegmentBox((*filled.start, k), filled.inside[:, :, None]))
    remarks += ["its contours enclose no voxel: empty"] if structure.contours and not boxes else []
    remarks += [f"{overlaps} contours overlap others in part: joined"] if overlaps else []
    remarks += [f"{repeated} contours are there twice"] if repeated else []
    remarks += [f"{cancelled} contours of type {XOR} are there twice, and cancel each other"] if cancelled else []
    remarks += [f"contours of type {XOR} and others on {mixed} slices: all combined by exclusive or"] if mixed else []
    remarks += [f"cut at the image's border on {clipped} slices"] if clipped else []
    between = max(slices) - min(slices) + 1 - len(slices) if slices else 0
    remarks += [f"no contour on {between} slices between others: empty there"] if between else []
    return boxes, remarks or ([] if structure.contours else ["no contours: empty"])


def _names_another(contour: Contour, image: Volume, k: int) -> bool:
    """A contour names images, and none of them is that of slice `k`."""
    instance = image.source.instances[k] if k < len(image.source.instances) else None
    if instance is None or not contour.images:
        return False
    return all(uid != instance[0] or frame not in (None, instance[1]) for uid, frame in contour.images)


def _slice_of(file: Path, name: str, index: NDArray[np.float64], geometry: Geometry) -> tuple[int, float]:
    """The slice that a contour lies on, and its distance from it, in slices."""
    heights = index[:, 2]
    k = int(np.clip(np.round(heights.mean()), -1, geometry.shape[2]))
    offset = float(np.abs(heights - k).max())
    if 0 <= k < geometry.shape[2] and offset <= SLICE_TOLERANCE:
        return k, offset
    spread = float(np.ptp(heights))
    how = (
        f"runs across {spread:.3g} slices" if spread > 2 * SLICE_TOLERANCE
        else f"lies at slice {heights.mean():.4g} of 0..{geometry.shape[2] - 1}"
    )  # fmt: skip
    raise GridMismatchError(
        f"{file}: a contour of structure '{name}' {how}: on no slice of the image",
        remedy="Name the image that it was drawn on, with all its slices.",
    )
