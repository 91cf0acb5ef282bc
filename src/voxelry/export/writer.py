"""One door to every format: the ending of the path, or a name, picks the writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from voxelry.errors import ExportError, nearest
from voxelry.volume import LabelMap, Volume

Writer = Callable[[LabelMap | Volume, Path, Volume | None], Path]


@dataclass(frozen=True)
class Format:
    """A format we write.

    Attributes:
        ending: the ending a file of this format is given.
        also: other endings that mean it.
        writer: called with what to write, the path and the scan it belongs to.
    """

    ending: str
    also: tuple[str, ...]
    writer: Writer


def write(
    labels: LabelMap | Volume,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    source: Volume | None = None,
) -> Path:
    """Write labels, or an image, in the format that the path's ending or `format` names.

    Args:
        labels: what to write; images go to NIfTI only.
        path: the file; replaced if it exists, and never left half-written.
        format: a name of `FORMATS`; None to go by the ending.
        source: the scan the labels belong to, which DICOM SEG refers to.

    Returns:
        The path.

    Raises:
        ExportError: an unknown format, or one that cannot hold this.
        GridMismatchError: the labels lie on another grid than `source`.
        LabelError: values that the table does not know.
    """
    return FORMATS[format_of(path) if format is None else _known(format)].writer(labels, Path(path), source)


def format_of(path: str | os.PathLike[str]) -> str:
    """The name of the format that a path's ending means.

    Raises:
        ExportError: no format has that ending.
    """
    name = Path(path).name.lower()
    for known, kind in FORMATS.items():
        if name.endswith((kind.ending, *kind.also)):
            return known
    endings = [ending for kind in FORMATS.values() for ending in (kind.ending, *kind.also)]
    hint = nearest("".join(Path(name).suffixes[-2:]), endings)
    raise ExportError(f"{path}: its ending names no format we write", remedy=hint)


def _known(name: str) -> str:
    if name not in FORMATS:
        raise ExportError(f"unknown format '{name}'", remedy=nearest(name, FORMATS))
    return name


def _nifti(labels: LabelMap | Volume, path: Path, source: Volume | None) -> Path:
    from voxelry.export.nifti import write_nifti, write_nifti_image

    if isinstance(labels, Volume):
        return write_nifti_image(labels, path)
    return write_nifti(labels if source is None else labels.on_grid(source.geometry), path)


def _dicom_seg(labels: LabelMap | Volume, path: Path, source: Volume | None) -> Path:
    from voxelry.export.dicom_seg import write_dicom_seg

    if source is None:
        raise ExportError(f"{path}: a DICOM SEG refers to the scan it was made on", remedy="Give the DICOM scan as `source`.")
    return write_dicom_seg(_only_labels(labels, path), source, path)


def _png(labels: LabelMap | Volume, path: Path, source: Volume | None) -> Path:
    from voxelry.export.picture import write_png

    only = _only_labels(labels, path)
    return write_png(only if source is None else only.on_grid(source.geometry), path)


def _only_labels(labels: LabelMap | Volume, path: Path) -> LabelMap:
    if isinstance(labels, Volume):
        raise ExportError(f"{path}: this format holds labels, not an image", remedy="Write images as .nii.gz.")
    return labels


FORMATS = MappingProxyType(
    {
        "nifti": Format(".nii.gz", (".nii",), _nifti),
        "dicom-seg": Format(".seg.dcm", (".dcm",), _dicom_seg),
        "png": Format(".png", (), _png),
    }
)
"""Name -> format: what `write` and ``voxelry predict --format`` know."""
