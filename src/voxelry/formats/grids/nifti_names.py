"""Reads the label table in a NIfTI file: JSON in a comment extension, as `nifti_write` writes it.

Other programs may store anything there: content that is not a valid table is ignored with a remark.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isal import igzip

from voxelry.base.schema import parse
from voxelry.core.labels import LabelTable
from voxelry.errors import LabelError, UsageError
from voxelry.formats.detection import GZIP_ERRORS, is_gzip
from voxelry.formats.grids.nifti_header import NiftiHeader, read_header

COMMENT = 6
"""The extension code of NIfTI-1 for plain text."""
TABLE_KEY = "label_table"

_LARGEST = 1 << 24
"""Bytes of extensions that are read; 65535 labels with codes take less."""


def stored_table(path: str | os.PathLike[str], values: Iterable[int]) -> tuple[LabelTable | None, str]:
    """The label table that a file carries.

    Args:
        path: a NIfTI file.
        values: the label values that occur in it, which the table must know.

    Returns:
        The table, or None where there is none or it cannot be used; and in the latter case why, as a remark.
    """
    header = read_header(Path(path))
    for text in _comments(header):
        try:
            content = json.loads(text)
            if isinstance(content, dict) and TABLE_KEY in content:
                return _checked(content[TABLE_KEY], values), ""
        except (UsageError, LabelError) as error:
            return None, f"the file's own label table cannot be used ({error.problem})"
        except (ValueError, RecursionError):
            continue
    return None, ""


def _checked(content: Any, values: Iterable[int]) -> LabelTable:
    table = parse(LabelTable, content, TABLE_KEY)
    if table.layers > 1:
        raise LabelError(f"it is for {table.layers} layers, the file holds one")
    table.check_values(values, TABLE_KEY)
    return table


def _comments(header: NiftiHeader) -> Iterator[bytes]:
    """The text extensions between the header and the first voxel (NIfTI-1.1, section "extended header")."""
    data = _before_voxels(header)[header.size :]
    at = 4
    while data[:1] not in (b"", b"\0") and at + 8 <= len(data):
        size, code = struct.unpack_from(f"{header.byte_order}ii", data, at)
        if size < 8:
            return
        if code == COMMENT:
            yield data[at + 8 : at + size].rstrip(b"\0")
        at += size


def _before_voxels(header: NiftiHeader) -> bytes:
    """The file up to its first voxel, as far as it can be read."""
    try:
        with igzip.open(header.path, "rb") if is_gzip(header.path) else header.path.open("rb") as stream:
            head: bytes = stream.read(min(header.extension_end, _LARGEST))
            return head
    except GZIP_ERRORS:
        return b""
