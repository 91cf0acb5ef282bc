"""The formats that labels are written in, and the DICOM objects among files."""

from pathlib import Path

from voxelry.formats import table
from voxelry.formats.dicom.planes import sop_class_of
from voxelry.formats.file_content import open_content

FORMATS = table.written_formats()


def dicom_object(path: Path) -> str:
    """``dicom-seg``, ``rtstruct``, or empty for any other file."""
    with open_content(path) as content:
        sop_class = sop_class_of(content)
    row = table.dicom_object(sop_class)
    return "" if row is None else row.name
