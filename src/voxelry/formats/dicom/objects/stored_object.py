"""A DICOM object that is no image, parsed as a whole: a segmentation or a structure set."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pydicom
from pydicom.dataset import FileDataset

from voxelry.errors import UnsupportedFormatError
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import quiet_pydicom, text_of, transfer_syntax
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES, syntax_name
from voxelry.formats.dicom.planes import file_meta
from voxelry.formats.file_content import HEAD_BYTES, FileContent


def read_object(path: Path, content: FileContent | None = None, *, tags: Sequence[str] | None = None) -> FileDataset:
    """Parse the file of an object.

    Args:
        path: the file.
        content: of `path`, where it is open already; None opens it.
        tags: keywords of the elements to parse, none of them pixels; None parses all.

    Raises:
        UnsupportedFormatError: a transfer syntax that is not known, so that nothing says how the elements are coded.
        Exception: any of `elements.PARSE_ERRORS`, where the file is damaged.
    """
    if content is None:
        with path.open("rb") as file:
            return _parsed(path, file, tags)
    stream = io.BytesIO(content.head) if len(content.head) >= content.size else content.stream()
    stream.seek(0)
    return _parsed(path, stream, tags)


def _parsed(path: Path, stream: IO[bytes], tags: Sequence[str] | None) -> FileDataset:
    with quiet_pydicom():
        syntax = text_of(file_meta(stream.read(HEAD_BYTES)), "TransferSyntaxUID")
        if syntax and syntax not in TRANSFER_SYNTAXES:
            raise UnsupportedFormatError(
                f"{path}: the transfer syntax '{syntax_name(syntax)}' is not known, so its elements cannot be read",
                remedy="Export it again in explicit VR little endian.",
            )
        wanted = None if tags is None else list(tags)
        with open_inflated(path, stream) as plain:
            data = pydicom.dcmread(plain, stop_before_pixels=tags is not None, force=True, specific_tags=wanted)
    if not syntax:
        data.file_meta.TransferSyntaxUID = transfer_syntax(data)
    return data
