"""Detection: the format of a file by its content, since names and endings may be wrong."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from isal import igzip, isal_zlib

from voxelry.base.files import no_such_file
from voxelry.errors import CorruptFileError, MissingFileError, ReadError, UnsupportedFormatError
from voxelry.formats.file_content import FileContent, open_content
from voxelry.formats.file_format import Format
from voxelry.formats.signatures import HEAD_BYTES, is_dicom
from voxelry.formats.table import all_formats, dicom_object, format_by_ending, format_named

GZIP_ERRORS = (EOFError, OSError, OverflowError, zlib.error, isal_zlib.error)
"""Exceptions that a damaged gzip stream raises."""

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_ZIP_ENDINGS = {".npz": "NumPy's archive of arrays", ".docx": "a Word document", ".xlsx": "an Excel workbook"}
_KNOWN_BUT_NOT_READ = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"%PDF": "PDF",
    _ZIP: "a zip archive as a mask",
    b"\x28\xb5\x2f\xfd": "zstd archive",
    b"\x93NUMPY": "NumPy array",
    b"\x89HDF": "HDF5",
}


def detect(path: str | os.PathLike[str]) -> Format:
    """The format of a file by its content; a folder that holds a DICOM file, at any depth, is DICOM.

    The voxels of a two-file image (``.img``) have no first bytes to know them by: its header beside it speaks for them.

    Args:
        path: a file or a folder.

    Returns:
        Its row of the table of formats.

    Raises:
        MissingFileError: nothing is there, the file is empty, or the folder holds no file.
        UnsupportedFormatError: it is in no format that is read.
        CorruptFileError: a gzip file that breaks off within its first bytes.
        ReadError: the system does not let us open it.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable, write
        >>> from voxelry.formats import detect
        >>> labels = LabelMap.of(np.eye(3, dtype=np.uint8), Geometry((3, 3)), LabelTable.numbered([1]))
        >>> detect(write(labels, "mask.png")).name
        'png'
    """
    place = Path(path)
    if place.is_dir():
        return _detect_folder(place)
    file = existing_file(place)
    with open_content(file) as content:
        return format_of(file, content)


def format_of(file: Path, content: FileContent) -> Format:
    """As `detect`, of an existing file that is open.

    Raises:
        ReadError: as `detect`.
    """
    return _specific(general_format(file, content), file, content)


def existing_file(path: Path) -> Path:
    """The file that shows the format of a path: the path itself, or the header beside the voxels of a two-file image.

    Raises:
        MissingFileError: nothing is there.
    """
    if not path.is_file():
        raise no_such_file(path)
    return header_beside(path)


def general_format(file: Path, content: FileContent) -> Format:
    """As `detect`, by the first bytes alone: DICOM for a DICOM SEG, NRRD for a Slicer segmentation.

    Args:
        file: an existing file, the header of a two-file image.
        content: of it.

    Raises:
        ReadError: as `detect`.
    """
    claimed = format_by_ending(file) if not content.size else None
    if claimed is not None and claimed.may_be_empty:
        return claimed
    head = _decompressed(file, content.head[:HEAD_BYTES])
    row = sniff(head) or _named_text(file)
    if row is None:
        raise _unsupported(file, head)
    if not row.gzip and content.head.startswith(_GZIP):
        raise UnsupportedFormatError(f"{file}: {row.name} inside gzip is not read", remedy="Decompress it first.")
    return row


def sniff(head: bytes) -> Format | None:
    """The format that a file's first `HEAD_BYTES` bytes (decompressed, for gzip) show, or None.

    DICOM comes first in the table, since its preamble may look like a TIFF.
    """
    for row in all_formats().values():
        if row.recognise and not row.within and row.call(row.recognise, head):
            return row
    return None


def _named_text(file: Path) -> Format | None:
    """The format of plain lines, which may have no first bytes to know them by, that a file's whole ending names."""
    claimed = format_by_ending(file)
    is_lines = claimed is not None and claimed.may_be_empty and file.name.lower().endswith(claimed.endings)
    return claimed if is_lines else None


def _specific(general: Format, path: Path, content: FileContent) -> Format:
    """The format within a general one that a file is of, or the general one."""
    if general.name == "dicom":
        return dicom_object(_sop_class(content)) or general
    for row in all_formats().values():
        try:
            if row.within == general.name and row.recognise and row.call(row.recognise, path):
                return row
        except ReadError:  # damaged: the general reader says how
            continue
    return general


def _sop_class(content: FileContent) -> str:
    from voxelry.formats.dicom.planes import sop_class_of  # pydicom, which other formats do without

    return sop_class_of(content)


def header_beside(path: Path) -> Path:
    """The header file of a two-file image whose voxel file is `path`; any other path as it is."""
    row = format_by_ending(path)
    return path if row is None else _partner(path, row.voxel_endings, row.endings) or path


def voxels_beside(path: Path) -> Path | None:
    """The voxel file of a two-file image whose header is `path`, where it is there."""
    row = format_by_ending(path)
    return None if row is None else _partner(path, row.endings, row.voxel_endings)


def _partner(path: Path, endings: tuple[str, ...], others: tuple[str, ...]) -> Path | None:
    """The file beside `path` that has the same stem and one of the other endings, in either case."""
    lower = path.name.lower()
    ending = max((ending for ending in endings if lower.endswith(ending)), key=len, default="")
    if not ending:
        return None
    stem = path.name[: -len(ending)]
    names = [stem + spelt for other in others for spelt in (other, other.upper())]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, those of the content where it is gzip.

    Raises:
        MissingFileError: the file is empty.
        CorruptFileError: the gzip stream breaks off.
        ReadError: the file cannot be opened.
    """
    with open_content(path) as content:
        return _decompressed(path, content.head[:HEAD_BYTES])


def _decompressed(path: Path, head: bytes) -> bytes:
    """The first bytes of a file's content: `head` itself, or where it is gzip what it unpacks to."""
    if not head:
        raise MissingFileError(f"{path}: the file is empty (0 bytes)", remedy="Copy it again from where it came from.")
    if not head.startswith(_GZIP):
        return head
    try:
        with igzip.open(path, "rb") as stream:
            content: bytes = stream.read(HEAD_BYTES)
            return content
    except GZIP_ERRORS as error:
        raise CorruptFileError(
            f"{path}: the gzip stream is damaged ({error})", remedy="Copy or download the file again."
        ) from error


def is_gzip(path: Path) -> bool:
    """The file starts as a gzip stream does."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def files_below(folder: Path) -> Iterator[Path]:
    """Every file at any depth, in sorted order; hidden files and folders are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _detect_folder(folder: Path) -> Format:
    count = 0
    for file in files_below(folder):
        with file.open("rb") as stream:
            if is_dicom(stream.read(132)):
                return format_named("dicom")
        count += 1
    if not count:
        raise MissingFileError(f"{folder}: the folder holds no file", remedy="Check the path.")
    raise UnsupportedFormatError(
        f"{folder}: none of the folder's {count} files is DICOM", remedy="Name a single file to read NIfTI or pictures."
    )


def _unsupported(path: Path, head: bytes) -> UnsupportedFormatError:
    *titles, last = (row.title for row in all_formats().values() if row.recognise and not row.within)
    readable = f"{', '.join(titles)} and {last} are read."
    for magic, name in _KNOWN_BUT_NOT_READ.items():
        if head.startswith(magic):
            name = _ZIP_ENDINGS.get(path.suffix.lower(), name) if magic == _ZIP else name
            return UnsupportedFormatError(f"{path}: {name} is not read", remedy=f"Convert it. {readable}")
    return UnsupportedFormatError(f"{path}: starts with {head[:4]!r}, which is no image format known here", remedy=readable)
