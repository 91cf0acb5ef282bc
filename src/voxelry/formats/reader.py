"""The verbs: `read` an image of any format, `read_all` of a place, and `read_labels`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.formats.detection import detect, header_beside
from voxelry.formats.dicom.dicom_reader import read_all_dicom, read_dicom
from voxelry.formats.dicom.scan import is_dicom_content
from voxelry.formats.file_content import open_content
from voxelry.formats.grid_formats import open_grid
from voxelry.formats.masks import read_mask
from voxelry.formats.pictures.picture_read import read_picture
from voxelry.formats.read_options import PLAIN, PixelSize, Polarity, ReadOptions, Repair, Transform
from voxelry.formats.time_points import time_points


def read(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    repair: Sequence[Repair] | Repair = (),
    polarity: Polarity = "dense-bright",
    pixel_size: PixelSize = "auto",
    suv: bool = False,
    dpi: bool = False,
    transform: Transform = "sform",
) -> Volume:
    """Read an image of any format, told by its content: DICOM, NIfTI, Analyze, MGH, NRRD, MetaImage, PNG, JPEG or TIFF.

    Volumes are header first: shape, geometry and source are known at once, pixels are decoded when `Volume.array` is asked
    for. `Source.remarks` says what a reader decided, `Source.repairs` what it mended.

    Args:
        path: a file; of DICOM also a folder, a zip archive or a DICOMDIR.
        series: which of several DICOM volumes: a key that `inspect` lists, a SeriesInstanceUID, filters such as
            ``modality=MR,echo=2``, or ``largest``.
        repair: what may be mended: ``gap`` interpolates missing slices, ``duplicates`` drops exact copies, ``spacing`` resamples
            uneven slices to a regular grid, ``tilt`` resamples a sheared grid to an orthogonal one.
        polarity: of DICOM radiographs: ``dense-bright`` makes dense tissue bright, ``stored`` leaves values alone.
        pixel_size: of radiographs: ``auto`` (calibrated, else by the imager with magnification, else none), ``calibrated``,
            ``imager``, or ``none``.
        suv: scale PET to standardised uptake values by body weight.
        dpi: take the pixel size of a picture from its DPI.
        transform: which affine of a NIfTI file counts where both are coded and differ: ``sform`` or ``qform``.

    Returns:
        A Volume ``(C, *spatial)`` in RAS+ mm; radiographs and pictures ``(C, rows, columns)``.

    Raises:
        MissingFileError: nothing there, or an empty folder.
        UnsupportedFormatError: a format that is not read.
        CorruptFileError: truncated, or at odds with itself.
        SelectionError: several volumes, of which `series` names none or more than one; `choices` has their keys.
        SeriesError: DICOM planes that are not one regular stack, and may not be mended.
        UsageError: an unknown choice, a series of something that is not DICOM, SUV of something that is no PET.
    """
    options = ReadOptions(
        series, (repair,) if isinstance(repair, str) else tuple(repair), polarity, pixel_size, suv, dpi, transform
    )
    return read_file(Path(path), options)


def read_file(path: Path, options: ReadOptions = PLAIN) -> Volume:
    """As `read`, with the choices as one value.

    Args:
        path: a file, or a folder.
        options: what is asked for.

    Raises:
        VoxelryError: as `read`.
    """
    if path.is_dir():
        return read_dicom(path, options)
    if path.is_file() and header_beside(path) == path:
        with open_content(path) as content:
            if is_dicom_content(content):
                return read_dicom(path, options, content)
    found = detect(path)
    if options.series is not None:
        raise UsageError(f"{path}: a series is chosen of DICOM; this is {found.value}", remedy="Leave it out.")
    if found.is_grid:
        return open_grid(path, found, options).volume()
    return read_picture(path, options)


def read_all(
    path: str | os.PathLike[str],
    *,
    repair: Sequence[Repair] | Repair = (),
    polarity: Polarity = "dense-bright",
    pixel_size: PixelSize = "auto",
    suv: bool = False,
) -> list[Volume]:
    """Every volume of a place: the series, echoes, phases and stacks of a DICOM folder, or the time points of a 4D file.

    A volume that cannot be read is not passed over: a study of which one phase is missing without a word would be a study
    of something else. The error lists each with its reason, and holds those that can be read.

    Args:
        path: a folder, a zip archive, a DICOMDIR, or a file of any format.
        repair: as `read`.
        polarity: as `read`.
        pixel_size: as `read`.
        suv: as `read`; volumes that are no PET are read as they are.

    Returns:
        Volumes in the order that `inspect` lists them, at least one. Each is header first.

    Raises:
        PartlyReadError: some cannot be read; `volumes` has the others, `failed` the keys and reasons.
        ReadError: as `read`, where there is only one.
    """
    options = ReadOptions(None, (repair,) if isinstance(repair, str) else tuple(repair), polarity, pixel_size, suv)
    place = Path(path)
    if place.is_dir():
        return read_all_dicom(place, options)
    if place.is_file() and header_beside(place) == place:
        with open_content(place) as content:
            if is_dicom_content(content):
                return read_all_dicom(place, options, content)
    found = detect(place)
    return time_points(open_grid(place, found, options).volume()) if found.is_grid else [read_picture(place)]


def read_labels(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
    threshold: float | None = None,
) -> LabelMap:
    """Read a label map: NIfTI, Analyze, MGH, NRRD, .seg.nrrd, MetaImage, DICOM SEG, RTSTRUCT, PNG or TIFF.

    Args:
        path: the file.
        table: what the values mean; None takes the table that the file carries (segments, structures, or that of a NIfTI file of
            ours), and else numbers the values that occur. Segments and structures are found in `table` by name, then by code.
        reference: the image that an RTSTRUCT was drawn on, or its path; None looks for the series it names beside the file.
        threshold: from which probability on a voxel of a FRACTIONAL SEG, or of a map of probabilities, has its label.

    Returns:
        A LabelMap, uint8 or uint16; of one layer, unless labels overlap.

    Raises:
        LabelError: fractions without a threshold, negative values, colours, or values that `table` does not know.
        UnsupportedFormatError: other DICOM, JPEG, or a format that is not read.
        GridMismatchError: contours of an RTSTRUCT that do not lie on the slices of its reference.
        UsageError: a reference or a threshold for a file that takes none.
        ReadError: as `read`.
    """
    return read_mask(path, table, reference, threshold, read)
