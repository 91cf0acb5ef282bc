"""The table of file formats: one row per format, from which detection, reading, writing, discovery and the documentation derive.

To add a format, add a row to `BUILT_IN`, or, from another package, an entry point of the group `voxelry.formats` that names a
`Format`. Rows are recognised in their order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from voxelry.errors import ExportError, UsageError, nearest
from voxelry.formats.file_format import Format
from voxelry.formats.plugins import plugin_formats, with_plugins

_AUTHOR = ("algorithm", "series_description")
_FLAT, _ANY = (2,), (2, 3)
_NAMES, _CODES = "names, codes and colours", "codes and colours"

BUILT_IN = (
    Format(
        name="dicom", title="DICOM", noun="a DICOM image", kind="image", endings=(".dcm", ".dicom", ".ima"), axes=_ANY,
        recognise=".signatures:is_dicom",
        read_image=".dicom.dicom_reader:read_dicom",
        read_all=".dicom.dicom_reader:read_all_dicom", takes_content=True,
        cannot_hold="labels: of DICOM, SEG and RTSTRUCT files are read as labels, not images",
    ),
    Format(
        name="dicom-seg", title="DICOM SEG", noun="a DICOM SEG", kind="labels", endings=(".seg.dcm", ".dcm"), axes=_ANY,
        within="dicom", sop_classes=("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
        read_labels=".dicom.objects.seg_read:read_dicom_seg", takes_content=True, label_options=("threshold",),
        write_labels=".dicom.objects.seg_write:write_dicom_seg", instances="inside", source="required", sheared=False,
        options=("kind", "compression", "profile", *_AUTHOR),
    ),
    Format(
        name="rtstruct", title="RTSTRUCT", noun="an RTSTRUCT", kind="labels", endings=(".rtstruct.dcm",),
        within="dicom", sop_classes=("1.2.840.10008.5.1.4.1.1.481.3",),
        read_labels=".dicom.objects.rtstruct_read:read_rtstruct", takes_content=True, label_options=("reference",),
        write_labels=".dicom.objects.rtstruct_write:write_rtstruct", source="required",
        instances="inside", options=("smooth", *_AUTHOR),
    ),
    Format(
        name="dicom-sr", title="DICOM SR", noun="a DICOM SR", kind="labels", endings=(".sr.dcm",), within="dicom",
        write_labels=".dicom.objects.sr_write:write_dicom_sr", instances="inside", source="required", sheared=False,
        options=("segmentation", *_AUTHOR), required_options=("segmentation",),
    ),
    Format(
        name="secondary-capture", title="secondary capture", noun="an overlay series", kind="labels", endings=(".sc",), axes=_ANY,
        within="dicom", write_labels=".dicom.objects.secondary_capture:write_secondary_capture", source="required",
        options=("series_description",), cannot_hold="labels, but a picture of them",
    ),
    Format(
        name="encapsulated-stl", title="encapsulated STL", noun="an encapsulated STL", kind="labels", endings=(".stl.dcm",),
        within="dicom", write_labels=".dicom.objects.encapsulated_stl:write_encapsulated_stl", source="required",
        instances="inside", options=("series_description",),
    ),
    Format(
        name="png", title="PNG", noun="a PNG", kind="both", endings=(".png",), axes=_FLAT, layers=False,
        recognise=".signatures:is_png",
        read_image=".pictures.picture_read:read_picture",
        read_header=".pictures.picture_read:picture_header",
        read_labels=".plain_labels:picture_labels",
        write_labels=".pictures.picture_write:write_png", instances="beside",
        write_ids=".pictures.picture_write:write_png_ids", cannot_hold=_NAMES,
    ),
    Format(
        name="jpeg", title="JPEG", noun="a JPEG", kind="image", endings=(".jpg", ".jpeg"), axes=_FLAT,
        recognise=".signatures:is_jpeg",
        read_image=".pictures.picture_read:read_picture",
        read_header=".pictures.picture_read:picture_header",
        cannot_hold="labels: it is lossy and changes their values",
    ),
    Format(
        name="tiff", title="TIFF", noun="a TIFF", kind="both", endings=(".tif", ".tiff"), axes=_FLAT, layers=False,
        recognise=".signatures:is_tiff",
        read_image=".pictures.picture_read:read_picture",
        read_header=".pictures.picture_read:picture_header",
        read_labels=".plain_labels:picture_labels",
        write_labels=".pictures.picture_write:write_tiff", instances="beside",
        write_ids=".pictures.picture_write:write_tiff_ids", cannot_hold=_NAMES,
    ),
    Format(
        name="nifti", title="NIfTI", noun="a NIfTI file", kind="both", endings=(".nii.gz", ".nii"), axes=_ANY, layers=False,
        recognise=".signatures:is_nifti", gzip=True,
        open_grid=".grids.nifti_read:open_nifti", label_options=("threshold",),
        write_labels=".grids.nifti_write:write_nifti", instances="beside", write_image=".grids.nifti_write:write_nifti_image",
        write_ids=".grids.nifti_write:write_nifti_ids",
    ),
    Format(
        name="nrrd", title="NRRD", noun="a plain NRRD", kind="both", endings=(".nrrd",), read_only_endings=(".nhdr",), axes=_ANY,
        recognise=".signatures:is_nrrd",
        open_grid=".grids.nrrd_read:open_nrrd", label_options=("threshold",),
        write_labels=".grids.nrrd_write:write_nrrd", instances="beside", layers=False,
        write_ids=".grids.nrrd_write:write_nrrd_ids",
    ),
    Format(
        name="seg-nrrd", title=".seg.nrrd", noun="a Slicer segmentation", kind="labels", endings=(".seg.nrrd",),
        within="nrrd", recognise=".grids.seg_nrrd_read:is_segmentation",
        read_labels=".grids.seg_nrrd_read:read_seg_nrrd",
        write_labels=".grids.seg_nrrd_write:write_seg_nrrd", instances="inside",
    ),
    Format(
        name="metaimage", title="MetaImage", noun="a MetaImage", kind="both", endings=(".mha",), read_only_endings=(".mhd",),
        axes=_ANY, recognise=".signatures:is_metaimage",
        open_grid=".grids.metaimage_read:open_metaimage", label_options=("threshold",),
        write_labels=".grids.metaimage_write:write_metaimage", instances="beside",
        write_ids=".grids.metaimage_write:write_metaimage_ids",
        layers=False, sheared=False, cannot_hold=_NAMES,
    ),
    Format(
        name="analyze", title="Analyze", noun="an Analyze image", kind="both",
        endings=(".hdr", ".hdr.gz"), voxel_endings=(".img", ".img.gz"), recognise=".signatures:is_analyze", gzip=True,
        open_grid=".grids.nifti_read:open_nifti", label_options=("threshold",), cannot_hold=f"orientation, {_NAMES}",
    ),
    Format(
        name="mgh", title="MGH", noun="an MGH image", kind="both", endings=(".mgz", ".mgh"),
        recognise=".signatures:is_mgh", gzip=True,
        open_grid=".grids.mgh_read:open_mgh", label_options=("threshold",), cannot_hold=_NAMES,
    ),
    Format(
        name="stl", title="STL", noun="an STL", kind="labels", endings=(".stl",),
        write_labels=".meshes.mesh_files:write_stl", instances="inside", options=("space",), cannot_hold=_CODES,
    ),
    Format(
        name="ply", title="PLY", noun="a PLY", kind="labels", endings=(".ply",),
        write_labels=".meshes.mesh_files:write_ply", instances="inside", options=("space",), cannot_hold="codes",
    ),
    Format(
        name="obj", title="OBJ", noun="an OBJ", kind="labels", endings=(".obj",),
        write_labels=".meshes.mesh_files:write_obj", instances="inside", options=("space",), cannot_hold="codes",
    ),
    Format(
        name="glb", title="GLB", noun="a GLB", kind="labels", endings=(".glb",),
        write_labels=".meshes.mesh_files:write_glb", instances="inside", options=("space",),
    ),
    Format(
        name="coco", title="COCO", noun="a COCO file", kind="labels", endings=(".coco.json",), axes=_FLAT,
        shared_endings=(".json",), recognise=".signatures:is_coco", read_labels=".pictures.coco_read:read_coco",
        label_options=("reference",), write_labels=".pictures.coco:write_coco", source="optional",
        instances="inside", options=("shape", "scores"),
    ),
    Format(
        name="darwin", title="Darwin", noun="a Darwin file", kind="labels", endings=(".darwin.json",), axes=_FLAT,
        recognise=".signatures:is_darwin", read_labels=".pictures.darwin_read:read_darwin", label_options=("reference",),
    ),
    Format(
        name="overlay", title="overlay", noun="an overlay picture", kind="labels", endings=(".overlay.png",), within="png",
        axes=_FLAT, write_labels=".pictures.overlay_write:write_overlay", source="optional", options=("outline",),
        cannot_hold="labels, but a picture of them",
    ),
    Format(
        name="csv", title="CSV", noun="a table of objects", kind="labels", endings=(".objects.csv",), axes=_ANY,
        shared_endings=(".csv",), write_labels=".object_table:write_object_table", source="optional", instances="inside",
        cannot_hold="voxels, but measurements of each object",
    ),
    Format(
        name="rle", title="RLE", noun="an RLE file", kind="labels", endings=(".rle.json",), axes=_FLAT,
        write_labels=".pictures.rle:write_rle", instances="inside", cannot_hold=_CODES,
    ),
    Format(
        name="yolo", title="YOLO", noun="a YOLO label file", kind="labels", endings=(".yolo.txt",), axes=_FLAT,
        shared_endings=(".txt",), recognise=".signatures:is_yolo", may_be_empty=True,
        read_labels=".pictures.yolo_read:read_yolo", label_options=("reference",),
        write_labels=".pictures.yolo:write_yolo", instances="inside", cannot_hold=_NAMES,
    ),
)  # fmt: skip


@cache
def all_formats() -> Mapping[str, Format]:
    """Every format by name: those of voxelry, then those that installed plugins add; loaded once.

    Raises:
        UsageError: a plugin cannot be loaded, or takes a name or an ending that another format has.

    Examples:
        >>> from voxelry.formats import all_formats
        >>> all_formats()["nifti"].endings
        ('.nii.gz', '.nii')
        >>> [name for name, row in all_formats().items() if row.write_image]
        ['nifti']
    """
    return MappingProxyType({row.name: row for row in with_plugins(BUILT_IN, plugin_formats())})


def format_named(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: there is none.
    """
    formats = all_formats()
    if name not in formats:
        raise UsageError(f"unknown format '{name}'", remedy=nearest(name, formats))
    return formats[name]


def written_formats() -> Mapping[str, Format]:
    """The formats that labels are written in, by name."""
    return {name: row for name, row in all_formats().items() if row.write_labels}


def written_format(name: str) -> Format:
    """The format of a name, for writing labels.

    Raises:
        UsageError: there is none, or it is only read.
    """
    writable = written_formats()
    if name not in writable:
        problem = f"format '{name}' is read and not written" if name in all_formats() else f"unknown format '{name}'"
        raise UsageError(problem, remedy=nearest(name, writable))
    return writable[name]


def dicom_object(sop_class: str) -> Format | None:
    """The format of DICOM objects of a SOP class, None for images and for objects that are not read."""
    return next((row for row in all_formats().values() if sop_class in row.sop_classes), None)


def format_to_write(path: str | os.PathLike[str]) -> Format:
    """The format that a path's ending means for a file to be written; the longest ending counts.

    Raises:
        ExportError: no format that is written has that ending.
    """
    name = Path(path).name.lower()
    rows = [row for row in all_formats().values() if row.write_labels or row.write_image]
    endings = {ending: row for row in rows for ending in row.written_endings}
    matches = [ending for ending in endings if name.endswith(ending)]
    if matches:
        return endings[max(matches, key=len)]
    raise ExportError(f"{path}: its ending names no format we write", remedy=nearest("".join(Path(name).suffixes[-2:]), endings))


def format_by_ending(path: str | os.PathLike[str]) -> Format | None:
    """The format that a path's ending claims, of all that are read or written; the longest ending counts.

    Of a format and the one it lies within, which share an ending (``.dcm``), the general one is meant. Content may prove
    the claim wrong: `detect` looks at that.
    """
    ending = _ending(Path(path).name)
    return _by_ending()[ending] if ending else None


def stem_of(path: str | os.PathLike[str]) -> str:
    """A file's name without its ending: ``a.b`` of ``a.b.seg.nrrd``; as it is where no format has the ending."""
    name = Path(path).name
    return name[: len(name) - len(_ending(name))]


def image_formats() -> Iterator[Format]:
    """The formats whose files are taken for scans: read as images, and not as a rule labels."""
    return (row for row in all_formats().values() if row.reads_images and row.kind != "labels")


def label_formats() -> Iterator[Format]:
    """The formats whose files are taken for masks: read as labels, and not as a rule an image."""
    return (row for row in all_formats().values() if row.reads_labels and row.kind != "image")


def claims_image(path: str | os.PathLike[str]) -> bool:
    """A file's ending is one of an image."""
    return _ending(Path(path).name) in {ending for row in image_formats() for ending in row.own_endings}


def claims_labels(path: str | os.PathLike[str]) -> bool:
    """A file's ending is one of a mask."""
    return _ending(Path(path).name) in {ending for row in label_formats() for ending in row.own_endings}


@cache
def _by_ending() -> Mapping[str, Format]:
    """Ending -> format, the longest first; the general format of those that share one."""
    rows = [(ending, row) for row in all_formats().values() for ending in row.all_endings]
    specific_first = sorted(rows, key=lambda pair: (-len(pair[0]), not pair[1].within))
    return dict(specific_first)


def _ending(name: str) -> str:
    """The longest ending of any format that a file name has, never the whole name; empty where it has none."""
    lower = name.lower()
    return next((ending for ending in _by_ending() if lower.endswith(ending) and len(ending) < len(name)), "")
