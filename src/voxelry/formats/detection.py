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
_READABLE = "NIfTI, Analyze, MGH, NRRD, MetaImage, DICOM, PNG, JPEG and TIFF are read."
_HEADER_ENDINGS = (".hdr", ".hdr.gz", ".HDR")
_VOXEL_ENDINGS = (".img", ".img.gz", ".IMG")
_NIFTI_MAGIC = {b"n+1\0": (1, False), b"ni1\0": (1, True), b"n+2\0": (2, False), b"ni2\0": (2, True)}
_META_KEYS = (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType")
_MGH_TYPES = (0, 1, 3, 4, 10)
"""Unsigned char, int, float, short, unsigned short."""


class Format(Enum):
    """The formats that are read."""

    NIFTI = "nifti"
    ANALYZE = "analyze"
    MGH = "mgh"
    NRRD = "nrrd"
    METAIMAGE = "metaimage"
    DICOM_FILE = "dicom"
    DICOM_FOLDER = "dicom folder"
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"

    @property
    def is_picture(self) -> bool:
        """PNG, JPEG or TIFF."""
        return self in (Format.PNG, Format.JPEG, Format.TIFF)

    @property
    def is_grid(self) -> bool:
        """A header and one grid of numbers: NIfTI, Analyze, MGH, NRRD or MetaImage."""
        return self in (Format.NIFTI, Format.ANALYZE, Format.MGH, Format.NRRD, Format.METAIMAGE)


def detect(path: str | os.PathLike[str]) -> Format:
    """The format of a file by its first bytes; a folder that holds a DICOM file, at any depth, is a DICOM folder.

    The voxels of a two-file image (``.img``) have no first bytes to know them by: its header beside it speaks for them.

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
    place = header_beside(place)
    head = head_of(place)
    found = sniff(head)
    if found is None:
        raise _unsupported(place, head)
    if found not in (Format.NIFTI, Format.ANALYZE, Format.MGH) and is_gzip(place):
        raise UnsupportedFormatError(f"{place}: {found.value} inside gzip is not read", remedy="Decompress it first.")
    return found


def sniff(head: bytes) -> Format | None:
    """The format that a file's first `HEAD_BYTES` bytes (decompressed, for gzip) show, or None."""
    if head[128:132] == b"DICM" or _is_bare_dicom(head):  # first: a DICOM preamble may look like a TIFF
        return Format.DICOM_FILE
    for magic, name in _PICTURES.items():
        if head.startswith(magic):
            return Format(name)
    if nifti_version(head):
        return Format.NIFTI
    if head.startswith(b"NRRD0"):
        return Format.NRRD
    if _is_metaimage(head):
        return Format.METAIMAGE
    if _is_analyze(head):
        return Format.ANALYZE
    return Format.MGH if _is_mgh(head) else None


def header_beside(path: Path) -> Path:
    """The header file of a two-file image whose voxel file is `path`; any other path as it is."""
    return _partner(path, _VOXEL_ENDINGS, _HEADER_ENDINGS) or path


def voxels_beside(path: Path) -> Path | None:
    """The voxel file of a two-file image whose header is `path`, where it is there."""
    return _partner(path, _HEADER_ENDINGS, _VOXEL_ENDINGS)


def _partner(path: Path, endings: tuple[str, ...], others: tuple[str, ...]) -> Path | None:
    for ending in endings:
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            return next((path.with_name(stem + other) for other in others if path.with_name(stem + other).is_file()), None)
    return None


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
    """1 or 2 for the header of a NIfTI, of one file or two, in either byte order; 0 for anything else."""
    if len(head) < 348:
        return 0
    sizes = struct.unpack_from("<i", head)[0], struct.unpack_from(">i", head)[0]
    if 348 in sizes and head[344:348] in _NIFTI_MAGIC:
        return 1
    return 2 if 540 in sizes and head[4:8] in _NIFTI_MAGIC else 0


def is_nifti_pair(head: bytes) -> bool:
    """The header is of a NIfTI whose voxels are in another file."""
    return head[344:347] == b"ni1" or head[4:7] == b"ni2"


def _is_analyze(head: bytes) -> bool:
    """Analyze 7.5 has no signature: the header's size, and a number of axes in the same byte order, are all there is."""
    if len(head) < 348:
        return False
    return any(struct.unpack_from(f"{o}i", head)[0] == 348 and 1 <= struct.unpack_from(f"{o}h", head, 40)[0] <= 7 for o in "<>")


def _is_mgh(head: bytes) -> bool:
    """MGH: version 1, four sizes from 1 and a known type, big endian."""
    if len(head) < 284:
        return False
    version, *sizes, kind = struct.unpack_from(">6i", head)
    return version == 1 and min(sizes) >= 1 and kind in _MGH_TYPES


def _is_metaimage(head: bytes) -> bool:
    """MetaImage is text: its first line is one of a few keys, an equals sign, a value."""
    key, equals, _ = head.partition(b"\n")[0].partition(b"=")
    return bool(equals) and key.strip() in _META_KEYS


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
    return UnsupportedFormatError(f"{path}: starts with {head[:4]!r}, which is no image format known here", remedy=_READABLE)
