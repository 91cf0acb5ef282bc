"""What a file is, by its content: names and endings lie."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from isal import igzip, isal_zlib

from voxelry.errors import CorruptFileError, MissingFileError, ReadError, UnsupportedFormatError

HEAD_BYTES = 544
"""How much of a file is looked at: a NIfTI-2 header with its extension flag; more than any other signature needs."""

GZIP_ERRORS = (EOFError, OSError, zlib.error, isal_zlib.error)
"""What a damaged gzip stream raises."""

_GZIP = b"\x1f\x8b"
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
}
_KNOWN_BUT_NOT_READ = {
    b"NRRD": "NRRD",
    b"ObjectType": "MetaImage",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"%PDF": "PDF",
    b"PK\x03\x04": "zip archive",
    b"\x28\xb5\x2f\xfd": "zstd archive",
    b"\x93NUMPY": "NumPy array",
    b"\x89HDF": "HDF5",
}
_DICOM_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT OB OW PN SH SL SQ SS ST TM UI UL UN US UT".split())
_READABLE = "NIfTI (.nii, .nii.gz), DICOM, PNG, JPEG and TIFF are read."


class Format(Enum):
    """The formats that are read."""

    NIFTI = "nifti"
    DICOM_FILE = "dicom"
    DICOM_FOLDER = "dicom folder"
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"

    @property
    def is_picture(self) -> bool:
        """PNG, JPEG or TIFF."""
        return self in (Format.PNG, Format.JPEG, Format.TIFF)


def detect(path: str | os.PathLike[str]) -> Format:
    """The format of a file by its first bytes; a folder that holds a DICOM file, at any depth, is a DICOM folder.

    Args:
        path: a file or a folder.

    Returns:
        Its format.

    Raises:
        MissingFileError: nothing is there, the file is empty, or the folder holds no file.
        UnsupportedFormatError: it is in no format that is read.
        CorruptFileError: a gzip file that breaks off within its first bytes.
        ReadError: the system does not let us open it.
    """
    place = Path(path)
    if place.is_dir():
        return _detect_folder(place)
    if not place.is_file():
        raise MissingFileError(f"{place}: no such file or folder", remedy="Check the path.")
    head = head_of(place)
    found = sniff(head)
    if found is None:
        raise _unsupported(place, head)
    if found is not Format.NIFTI and is_gzip(place):
        raise UnsupportedFormatError(f"{place}: {found.value} inside gzip is not read", remedy="Decompress it first.")
    return found


def sniff(head: bytes) -> Format | None:
    """The format that a file's first `HEAD_BYTES` bytes (decompressed, for gzip) show, or None."""
    if head[128:132] == b"DICM" or _is_bare_dicom(head):  # first: a DICOM preamble may look like a TIFF
        return Format.DICOM_FILE
    for magic, name in _PICTURES.items():
        if head.startswith(magic):
            return Format(name)
    return Format.NIFTI if nifti_version(head) else None


def head_of(path: Path) -> bytes:
    """The first bytes of a file, those of the content where it is gzip.

    Raises:
        CorruptFileError: the gzip stream breaks off.
        ReadError: the file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened ({error.strerror})", remedy="Check its permissions.") from error
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


def nifti_version(head: bytes) -> int:
    """1 or 2 for the header of a single-file NIfTI of either byte order, 0 for anything else."""
    if len(head) < 348:
        return 0
    sizes = struct.unpack_from("<i", head)[0], struct.unpack_from(">i", head)[0]
    if 348 in sizes and head[344:347] == b"n+1":
        return 1
    return 2 if 540 in sizes and head[4:7] == b"n+2" else 0


def files_below(folder: Path) -> Iterator[Path]:
    """Every file at any depth, in sorted order; hidden files and folders are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def is_dicom(path: Path) -> bool:
    """The file is DICOM, with or without a preamble."""
    with path.open("rb") as stream:
        head = stream.read(132)
    return head[128:132] == b"DICM" or _is_bare_dicom(head)


def _detect_folder(folder: Path) -> Format:
    count = 0
    for file in files_below(folder):
        if is_dicom(file):
            return Format.DICOM_FOLDER
        count += 1
    if not count:
        raise MissingFileError(f"{folder}: the folder holds no file", remedy="Check the path.")
    raise UnsupportedFormatError(
        f"{folder}: none of the folder's {count} files is DICOM", remedy="Name a single file to read NIfTI or pictures."
    )


def _is_bare_dicom(head: bytes) -> bool:
    """DICOM without preamble: the data set starts with an element of group 2 or 8, explicit or implicit VR."""
    if len(head) < 16:
        return False
    group, element = struct.unpack_from("<HH", head)
    if group not in (0x0002, 0x0008) or element > 0x0070:
        return False
    return head[4:6] in _DICOM_VRS or struct.unpack_from("<I", head, 4)[0] < 1024


def _unsupported(path: Path, head: bytes) -> UnsupportedFormatError:
    for magic, name in _KNOWN_BUT_NOT_READ.items():
        if head.startswith(magic):
            return UnsupportedFormatError(f"{path}: {name} is not read", remedy=f"Convert it. {_READABLE}")
    if b"ni1" in head[344:347] or b"ni2" in head[4:7] or head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return UnsupportedFormatError(
            f"{path}: a header of an Analyze or two-file NIfTI image", remedy="Convert it to a single .nii or .nii.gz file."
        )
    return UnsupportedFormatError(f"{path}: starts with {head[:16]!r}, which is no image format known here", remedy=_READABLE)
