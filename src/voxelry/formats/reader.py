"""Reading a file or folder of any format: `read` an image, `read_all` its volumes, `read_labels` a mask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from voxelry.base.failures import read_failures
from voxelry.core.instance_form import Form, InstanceForm
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UnsupportedFormatError, UsageError
from voxelry.formats.detection import detect, existing_file, format_of, general_format
from voxelry.formats.dicom.archive import is_zip
from voxelry.formats.file_content import FileContent, open_content
from voxelry.formats.file_format import Format
from voxelry.formats.read_options import PLAIN, PixelSize, Polarity, ReadOptions, Repair, Transform
from voxelry.formats.table import all_formats, format_named

_OF_OPTION = {"reference": "a reference is for", "threshold": "a threshold is for probabilities:"}


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
    """Read an image of any format, recognised by its content: DICOM, NIfTI, Analyze, MGH, NRRD, MetaImage, PNG, JPEG or TIFF.

    Volumes are header first: shape, geometry and source are read at once, pixels when `Volume.array` is first used.
    `Source.remarks` lists the reader's decisions, `Source.repairs` its repairs.

    Args:
        path: a file; of DICOM also a folder, a zip archive or a DICOMDIR.
        series: which of several DICOM volumes: a key that `inspect` lists, a SeriesInstanceUID, filters such as
            ``modality=MR,echo=2``, or ``largest``.
        repair: permitted repairs: ``gap`` interpolates missing slices, ``duplicates`` drops exact copies, ``spacing`` resamples
            uneven slices to a regular grid, ``tilt`` resamples a sheared grid to an orthogonal one.
        polarity: polarity of DICOM radiographs: ``dense-bright`` makes dense tissue bright (where XA or RF do not state which
            values are dense, a remark says so), ``stored`` leaves values alone.
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
        SeriesError: DICOM planes that are not one regular stack, without a permitted repair.
        UsageError: an unknown choice, a series of something that is not DICOM, SUV of something that is no PET.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, Volume
        >>> from voxelry.formats import read, write
        >>> image = Volume(np.zeros((1, 8, 8, 4), np.int16), Geometry.from_spacing((8, 8, 4), (1, 1, 2.5)))
        >>> scan = read(write(image, "scan.nii.gz"))
        >>> scan.shape, scan.geometry.spacing
        ((1, 8, 8, 4), (1.0, 1.0, 2.5))
    """
    options = ReadOptions(
        series, (repair,) if isinstance(repair, str) else tuple(repair), polarity, pixel_size, suv, dpi, transform
    )
    return read_file(Path(path), options)


def read_file(path: Path, options: ReadOptions = PLAIN) -> Volume:
    """As `read`, with its options as one object.

    Args:
        path: a file, or a folder.
        options: as the keyword arguments of `read`.

    Raises:
        VoxelryError: as `read`.
    """
    with read_failures(str(path)), _opened(path) as (row, content):
        if options.series is not None and row.name != "dicom":
            raise UsageError(f"{path}: a series is chosen of DICOM; this is {row.name}", remedy="Leave it out.")
        volume: Volume
        if row.open_grid:
            volume = row.call(row.open_grid, path, options).volume()
        else:
            volume = row.call(row.read_image, path, options, *([content] if row.takes_content else []))
        return volume


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Format, FileContent | None]]:
    """The format that reads images at a path, and the content of a file; folders and archives are DICOM, whatever they hold."""
    dicom = format_named("dicom")
    if path.is_dir():
        yield dicom, None
        return
    file = existing_file(path)
    with open_content(file) as content:
        yield (dicom if is_zip(content.head) else general_format(file, content)), content


def read_all(
    path: str | os.PathLike[str],
    *,
    repair: Sequence[Repair] | Repair = (),
    polarity: Polarity = "dense-bright",
    pixel_size: PixelSize = "auto",
    suv: bool = False,
) -> list[Volume]:
    """Every volume of a path: the series, echoes, phases and stacks of a DICOM folder, or the time points of a 4D file.

    A volume that cannot be read is an error, not left out: a study must not lose a phase unnoticed. The error lists each with its
    reason, and holds the volumes that can be read.

    Args:
        path: a folder, a zip archive, a DICOMDIR, or a file of any format.
        repair: as `read`.
        polarity: as `read`.
        pixel_size: as `read`.
        suv: as `read`; other volumes are read unchanged.

    Returns:
        Volumes in the order that `inspect` lists them, at least one. Each is header first.

    Raises:
        PartlyReadError: some cannot be read; `volumes` has the others, `failed` the keys and reasons.
        UsageError: a file whose channels are colours or components of a vector, not time points.
        ReadError: as `read`, where there is only one.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, Volume
        >>> from voxelry.formats import read_all, write
        >>> times = Volume(np.zeros((5, 8, 8, 4), np.int16), Geometry.from_spacing((8, 8, 4), (1, 1, 2)), channels=5)
        >>> len(read_all(write(times, "perfusion.nii.gz")))
        5
    """
    options = ReadOptions(None, (repair,) if isinstance(repair, str) else tuple(repair), polarity, pixel_size, suv)
    place = Path(path)
    with read_failures(str(place)), _opened(place) as (row, content):
        volumes: list[Volume]
        if row.read_all:
            volumes = row.call(row.read_all, place, options, *([content] if row.takes_content else []))
        elif row.open_grid:
            volumes = row.call(row.open_grid, place, options).time_points()
        else:
            volumes = [row.call(row.read_image, place, options)]
        return volumes


def read_labels(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    instances: InstanceForm | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read a label map: NIfTI, Analyze, MGH, NRRD, .seg.nrrd, MetaImage, DICOM SEG, RTSTRUCT, PNG, TIFF, COCO or Darwin.

    Args:
        path: the file.
        table: meaning of the values; None takes the table that the file carries (segments, structures, or that of a NIfTI file of
            ours), and else numbers the values that occur. Segments and structures are found in `table` by name, then by code.
        reference: the image that an RTSTRUCT was drawn on, or its path; None looks for the series it names beside the file.
        threshold: probability from which a voxel of a FRACTIONAL SEG, or of a map of probabilities, gets its label.
        instances: how objects of things are told apart: a form of `InstanceForm`, as ``components`` or ``mask_ids`` (values that
            are ids of objects), or the path of an id map beside the mask. Without a table every label is a thing. None takes
            what the file itself lists.

    Returns:
        A LabelMap, uint8 or uint16; of one layer, unless labels overlap; with `instances` where objects are told apart.

    Raises:
        LabelError: fractions without a threshold, negative values, colours, or values that `table` does not know.
        UnsupportedFormatError: other DICOM, JPEG, or a format that is not read.
        GridMismatchError: contours of an RTSTRUCT that do not lie on the slices of its reference.
        UsageError: a reference or a threshold for a file that takes none, or a threshold out of range.
        ReadError: as `read`.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, Label, LabelMap, LabelTable
        >>> from voxelry.formats import read_labels, write
        >>> table = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> mask = LabelMap.of(np.ones((4, 4, 2), np.uint8), Geometry.from_spacing((4, 4, 2), (1, 1, 1)), table)
        >>> read_labels(write(mask, "mask.seg.nrrd")).table.names
        ('liver',)
        >>> read_labels("mask.seg.nrrd", instances="components").instances.max()
        np.uint32(1)
    """
    if instances is not None:
        read = partial(read_labels, path, table, reference=reference, threshold=threshold)
        return _with_objects(path, table, instances, read)
    place = Path(path)
    options = {name: value for name, value in (("reference", reference), ("threshold", threshold)) if value is not None}
    with read_failures(str(place)):
        if place.is_dir():
            return _labels_of(place, detect(place), None, table, options)
        file = existing_file(place)
        with open_content(file) as content:
            return _labels_of(place, format_of(file, content), content, table, options)


def _with_objects(
    path: str | os.PathLike[str],
    table: LabelTable | None,
    instances: InstanceForm | str | os.PathLike[str],
    read: Callable[[], LabelMap],
) -> LabelMap:
    """Labels with the ids of their objects; `instances` is a form, its name, or the path of an id map."""
    from voxelry.formats.reference_objects import labels_with_objects  # cc3d, which reading labels alone does without

    is_form = isinstance(instances, InstanceForm) or instances in get_args(Form)
    form = InstanceForm.model_validate(instances) if is_form else None
    id_map = None if is_form else Path(instances)  # type: ignore[arg-type]  # the form is gone
    told = labels_with_objects(path, table, form, read, id_map)
    source = told.labels.source
    return replace(told.labels, source=replace(source, remarks=(*source.remarks, *told.remarks)))


def _labels_of(
    path: Path, row: Format, content: FileContent | None, table: LabelTable | None, options: Mapping[str, object]
) -> LabelMap:
    """The labels of a file, by the reader of its format."""
    reader = _label_format(path, row, options)
    if reader.open_grid:
        from voxelry.formats.plain_labels import grid_labels

        labels: LabelMap = grid_labels(reader.call(reader.open_grid, path, PLAIN), table, **options)  # type: ignore[arg-type]
    else:
        opened = {"content": content} if reader.takes_content else {}
        labels = reader.call(reader.read_labels, path, table, **options, **opened)
    if row.family == "dicom" or labels.instances is not None or "threshold" in options:
        return labels
    from voxelry.formats.ids_beside import with_ids

    return with_ids(labels, path, table)


def _label_format(path: Path, row: Format, options: Mapping[str, object]) -> Format:
    """The format whose reader of labels takes a file: its own, or the more general one where only that takes the options.

    Raises:
        UsageError: neither takes one of the options.
        UnsupportedFormatError: the format holds no labels.
    """
    general = format_named(row.family)
    readers = [form for form in (row, general) if form.reads_labels]
    reader = next((form for form in readers if options.keys() <= set(form.label_options)), None)
    if reader is not None:
        return reader
    refused = next((name for name in options if name not in row.label_options), "")
    if refused:
        takers = [form.title for form in all_formats().values() if refused in form.label_options]
        raise UsageError(f"{path}: {_OF_OPTION[refused]} {', '.join(takers)}; this is {row.name}", remedy="Leave it out.")
    raise UnsupportedFormatError(
        f"{path}: {row.noun} does not hold {row.cannot_hold or 'labels'}", remedy="Name the file that holds labels."
    )
