"""Writes the de-identified copy of a DICOM file: elements by the profile, new meta information, and pixels byte for byte.

The pixels are copied piece by piece from file to file and never decoded, so that memory holds the header alone. A
deflated file is written inflated. What stands behind the pixels (signatures, padding) is left out.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from voxelry.base.files import atomic_path
from voxelry.errors import CorruptFileError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.deflated import SYNTAX, open_inflated
from voxelry.formats.dicom.elements import PARSE_ERRORS, quiet_pydicom, short_message, text_of, transfer_syntax
from voxelry.formats.dicom.pixels.fragments import UNDEFINED, PixelElement, find_pixel_element, fragments_of_frames
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES, syntax_name
from voxelry.formats.dicom.planes import file_meta
from voxelry.formats.dicom.privacy.attribute_types import type_of
from voxelry.formats.dicom.privacy.deidentifier import Deidentifier
from voxelry.formats.dicom.scan import DIRECTORY_CLASS
from voxelry.formats.file_content import HEAD_BYTES, cannot_be_opened
from voxelry.formats.signatures import is_dicom

_PIECE = 1 << 22
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
"""Ends a sequence of fragments, in little endian as all encapsulated pixels are."""


def is_dicom_file(path: Path) -> bool:
    """A file is DICOM by its first bytes.

    Raises:
        ReadError: it cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            return is_dicom(stream.read(HEAD_BYTES))
    except OSError as error:
        raise cannot_be_opened(path, error) from error


def write_deidentified(source: Path, deidentifier: Deidentifier, place: Callable[[Dataset], Path | None]) -> Path | None:
    """Write the de-identified copy of a file.

    Args:
        source: a DICOM file.
        deidentifier: the profile.
        place: called with the elements as they are; says where the copy goes, None for nowhere.

    Returns:
        The copy, or None.

    Raises:
        CorruptFileError: it is truncated or damaged.
        UnsupportedFormatError: a DICOMDIR, or a transfer syntax that is not known.
        ReadError: it cannot be opened.
    """
    try:
        with source.open("rb") as stream, quiet_pydicom():
            syntax = text_of(file_meta(stream.read(HEAD_BYTES)), "TransferSyntaxUID")
            _refuse_unknown(source, syntax)
            with open_inflated(source, stream) as plain:
                data = pydicom.dcmread(plain, stop_before_pixels=True, force=True)
                _refuse_nameless(source, data)
                pixels, plain_syntax = _pixels(source, plain, data), _plain_syntax(data, syntax)
                target = place(data)
                if target is None:
                    return None
                deidentifier.apply(data)
                data.file_meta, data.preamble = _meta(data, plain_syntax), b"\0" * 128
                with atomic_path(target) as temporary, temporary.open("wb") as file:
                    pydicom.dcmwrite(file, data, enforce_file_format=True)
                    if pixels is not None:
                        _copy(plain, file, pixels)
                return target
    except (ReadError, UnsupportedFormatError):
        raise
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{source}: cannot be de-identified ({short_message(error)})", remedy="Export or copy the file again."
        ) from error


def _refuse_unknown(source: Path, syntax: str) -> None:
    if syntax and syntax not in TRANSFER_SYNTAXES:
        raise UnsupportedFormatError(
            f"{source}: the transfer syntax '{syntax_name(syntax)}' is not known, so its elements cannot be read",
            remedy="Export it again in explicit VR little endian.",
        )


def _plain_syntax(data: FileDataset, syntax: str) -> str:
    if syntax == SYNTAX:
        return str(pydicom.uid.ExplicitVRLittleEndian)
    return syntax or transfer_syntax(data)


def _pixels(source: Path, stream: IO[bytes], data: FileDataset) -> tuple[int, int, bool] | None:
    """Where the pixel element starts and ends, and whether a delimiter follows; None where a file has none."""
    start = stream.tell()
    element = find_pixel_element(stream, data)
    if element is None:
        _refuse_truncated(source, stream, start, data)
        return None
    return (start, *_end(source, stream, element))


def _refuse_truncated(source: Path, stream: IO[bytes], start: int, data: FileDataset) -> None:
    """Refuse a file without pixels that should have some, or that ends within an element."""
    size = stream.seek(0, io.SEEK_END)
    elements = list(data.values())
    last = elements[-1] if elements else None
    is_cut = isinstance(last, RawDataElement) and last.length != UNDEFINED and last.value_tell + last.length != size
    needs_pixels = type_of(text_of(data, "SOPClassUID"), ("PixelData",)) == "1" and "PixelDataProviderURL" not in data
    if start < size or is_cut or needs_pixels:
        raise CorruptFileError(f"{source}: breaks off before its end", remedy="The file is truncated: copy it again.")


def _end(source: Path, stream: IO[bytes], element: PixelElement) -> tuple[int, bool]:
    if element.length == UNDEFINED:
        [fragments] = fragments_of_frames(stream, element, 1, source)
        return sum(fragments[-1]), True
    end = element.offset + element.length
    if stream.seek(0, io.SEEK_END) < end:
        raise CorruptFileError(f"{source}: breaks off within its pixels", remedy="The file is truncated: copy it again.")
    return end, False


def _refuse_nameless(source: Path, data: FileDataset) -> None:
    if (text_of(data, "SOPClassUID") or text_of(data.file_meta, "MediaStorageSOPClassUID")) == DIRECTORY_CLASS:
        raise UnsupportedFormatError(f"{source}: a DICOMDIR, which names patients", remedy="Make a new one of the copies.")
    if not (text_of(data, "SOPClassUID") and text_of(data, "SOPInstanceUID")):
        raise CorruptFileError(f"{source}: has no SOP class or instance UID", remedy="Export or copy the file again.")


def _meta(data: Dataset, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "VOXELRY"
    return meta


def _copy(stream: IO[bytes], file: IO[bytes], pixels: tuple[int, int, bool]) -> None:
    start, end, is_encapsulated = pixels
    stream.seek(start)
    left = end - start
    while left:
        piece = stream.read(min(_PIECE, left))
        if not piece:
            raise EOFError("the file ends within its pixels")
        file.write(piece)
        left -= len(piece)
    if is_encapsulated:
        file.write(_DELIMITER)
