"""Signatures: the format of a file by its first bytes, one function per format; names and endings are ignored.

Each function takes the first `HEAD_BYTES` bytes of a file, those of its content where the file is gzip.
"""

from __future__ import annotations

import re
import struct

HEAD_BYTES = 544
"""Bytes of a file that are inspected: a NIfTI-2 header with its extension flag; more than any other signature needs."""

_DICOM_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT OB OW PN SH SL SQ SS ST TM UI UL UN US UT".split())
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_NIFTI_MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")
_META_KEYS = frozenset(
    b"ObjectType ObjectSubType NDims DimSize Comment BinaryData BinaryDataByteOrderMSB ElementByteOrderMSB CompressedData "
    b"CompressedDataSize TransformMatrix CenterOfRotation AnatomicalOrientation ElementSpacing ElementSize ElementType "
    b"ElementNumberOfChannels ElementDataFile".split()
)
_COCO_KEYS = frozenset(b"info licenses images annotations categories label_table type".split())
_DARWIN_KEYS = frozenset(b"version schema_ref dataset item image".split())
_DARWIN_MARKS = (b'"schema_ref"', b'"item"', b'"original_filename"', b'"workview_url"', b'"annotated"')
_FIRST_KEY = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(\w+)"\s*:')
_YOLO_LINE = re.compile(rb"\s*\d{1,5}(?: +(?:[01](?:\.\d+)?(?:[eE]-?\d+)?|[2-9](?:\.\d+)?[eE]-\d+)){4,}(?: |\r|\n|$)")
_META_FIELD = re.compile(rb"\s*([A-Za-z][\w .-]*?)\s*[=:]")
_MGH_TYPES = (0, 1, 3, 4, 10)
"""Unsigned char, int, float, short, unsigned short."""


def is_dicom(head: bytes) -> bool:
    """DICOM, with a preamble or without: then the data set starts with an element of group 2 or 8, explicit or implicit VR."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    group, element = struct.unpack_from("<HH", head)
    if group not in (0x0002, 0x0008) or element > 0x0070:
        return False
    return head[4:6] in _DICOM_VRS or struct.unpack_from("<I", head, 4)[0] < 1024


def is_png(head: bytes) -> bool:
    """PNG."""
    return head.startswith(b"\x89PNG\r\n\x1a\n")


def is_jpeg(head: bytes) -> bool:
    """JPEG."""
    return head.startswith(b"\xff\xd8\xff")


def is_tiff(head: bytes) -> bool:
    """TIFF and BigTIFF, of either byte order."""
    return head.startswith(_TIFF)


def is_nrrd(head: bytes) -> bool:
    """NRRD."""
    return head.startswith(b"NRRD0")


def is_nifti(head: bytes) -> bool:
    """NIfTI of either version, of one file or two."""
    return nifti_version(head) > 0


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


def is_analyze(head: bytes) -> bool:
    """Analyze 7.5 has no signature: the header's size, and a number of axes in the same byte order, are all there is."""
    if len(head) < 348 or is_nifti(head):
        return False
    return any(struct.unpack_from(f"{o}i", head)[0] == 348 and 1 <= struct.unpack_from(f"{o}h", head, 40)[0] <= 7 for o in "<>")


def is_mgh(head: bytes) -> bool:
    """MGH: version 1, four sizes from 1 and a known type, big endian."""
    if len(head) < 284:
        return False
    version, *sizes, kind = struct.unpack_from(">6i", head)
    return version == 1 and min(sizes) >= 1 and kind in _MGH_TYPES


def is_coco(head: bytes) -> bool:
    """A JSON object whose first key is one of COCO's."""
    key = _FIRST_KEY.match(head)
    return key is not None and key.group(1) in _COCO_KEYS


def is_yolo(head: bytes) -> bool:
    """Text whose first line is the number of a class and at least four fractions of 0 to 1."""
    return _YOLO_LINE.match(head) is not None


def is_darwin(head: bytes) -> bool:
    """A JSON object that begins as V7's Darwin files do: a key of theirs first, and another that others do not have."""
    key = _FIRST_KEY.match(head)
    return key is not None and key.group(1) in _DARWIN_KEYS and any(mark in head for mark in _DARWIN_MARKS)


def is_metaimage(head: bytes) -> bool:
    """MetaImage is text: lines of a key, an equals sign (or colon) and a value, in any order, among them keys of its own."""
    for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        field = _META_FIELD.match(line)
        if field and field.group(1) in _META_KEYS:
            return True
        if not field and line.strip() and not line.startswith(b"#"):
            return False
    return False
