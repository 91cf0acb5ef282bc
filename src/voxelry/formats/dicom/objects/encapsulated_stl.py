"""Writer of Encapsulated STL objects (DICOM PS3.3 A.85.1): surfaces of labels in the scan's frame of reference.

The STL inside is binary, in mm and LPS, DICOM's own axes. One object holds one label.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import EncapsulatedSTLStorage

from voxelry.core.labels import Code
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.derived_object import checked_text, derived_object, save_object, sibling
from voxelry.formats.dicom.objects.references import code_item, reference_item, series_item, without_backslash
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.meshes.mesh import Mesh, meshes
from voxelry.formats.meshes.mesh_files import file_names, stl_bytes
from voxelry.formats.multi_file import save_each

_SERIES_OFFSET = 4000
_MILLIMETRE = Code(value="mm", scheme="UCUM", meaning="mm")


def write_encapsulated_stl(
    labels: LabelMap, source: Volume, path: str | os.PathLike[str], *, series_description: str = "Segmentation surfaces"
) -> Path:
    """Write labels as Encapsulated STL objects of one series.

    Args:
        labels: on the scan's grid, any number of layers.
        source: the scan as read from DICOM, ``(column, row, slice)``.
        path: ends in ``.stl.dcm``; where several labels have voxels, ``NAME_stl_dcm`` becomes a folder with an object for each.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path of the file, or of the folder.

    Raises:
        ExportError: the source is not DICOM or not as read, no voxel at all, or another ending.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.
    """
    if source.geometry.ndim != 3:
        raise ExportError(f"{path}: a projection has no surfaces", remedy="Write SEG, PNG or COCO.")
    checked_text(series_description, path)
    surfaces = meshes(labels.on_grid(source.geometry), path)
    series = source_series(source, path)
    first = derived_object(
        series.headers[0], EncapsulatedSTLStorage, "M3D", series_description=series_description, series_offset=_SERIES_OFFSET
    )
    first.ReferencedSeriesSequence = [series_item(series)]
    first.SourceInstanceSequence = [reference_item(instance) for instance in series.instances]
    objects = [_object(first, mesh, number) for number, mesh in enumerate(surfaces, start=1)]
    return save_each(Path(path), ".stl.dcm", file_names(surfaces, ".stl.dcm"), [partial(save_object, stl) for stl in objects])


def _object(first: Dataset, mesh: Mesh, number: int) -> Dataset:
    """The object of one label: Encapsulated Document and Manufacturing 3D Model modules, in the series of the first object."""
    stl, content = sibling(first, number), stl_bytes(mesh)
    stl.AcquisitionDateTime, stl.BurnedInAnnotation, stl.ConceptNameCodeSequence = None, "NO", []
    stl.DocumentTitle = stl.ContentDescription = without_backslash(mesh.label.name)
    stl.MIMETypeOfEncapsulatedDocument, stl.EncapsulatedDocumentLength = "model/stl", len(content)
    stl.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    stl.MeasurementUnitsCodeSequence = [code_item(_MILLIMETRE)]
    stl.RecommendedDisplayCIELabValue = list(mesh.label.cielab)
    return stl
