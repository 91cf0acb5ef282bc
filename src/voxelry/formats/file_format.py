"""Format: one row of the table of formats, with the functions that recognise, read and write its files named by import path."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from voxelry.errors import ExportError, ReadError, UsageError, VoxelryError, nearest

if TYPE_CHECKING:
    from voxelry.core.geometry import Geometry
    from voxelry.core.volume import LabelMap, Volume

Kind = Literal["image", "labels", "both"]
Instances = Literal["inside", "beside", ""]
SourceUse = Literal["grid", "optional", "required"]

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: its names, and the functions that recognise, read and write it.

    Functions are named as ``"package.module:function"`` and imported when they are first called, so that the table stays light;
    a name that starts with a dot lies below `voxelry.formats`. A format of one header and one grid of numbers needs `open_grid`
    alone to be read. A format without any function for writing is read only, one without any for reading is written only.

    Attributes:
        name: name of the format, as ``--format`` takes it.
        title: its name in lists.
        noun: its name in sentences, with an article.
        kind: usual content of its files. A file of ``labels`` is never taken for a scan, one of ``image`` never for a mask.
        endings: endings of its files, lower case; the first is given to new files.
        read_only_endings: endings of files that are read and not written.
        shared_endings: endings that files of other kinds have too, as ``.json``: written, and read where such a file is named,
            but none in a folder is taken for one of these.
        voxel_endings: endings of the second file of an image in two files, beside the header of the same name.
        within: the more general format of its files, which is recognised first: ``dicom`` for a DICOM SEG.
        recognise: takes the first `HEAD_BYTES` bytes of a file (decompressed), and tells whether they are of this format; takes
            the path instead where `within` is set.
        sop_classes: in place of `recognise`, where `within` is ``dicom``: the SOPClassUIDs of its objects.
        may_be_empty: a file without a byte is one of this format, by its ending.
        gzip: the whole file may be gzip.
        open_grid: takes a path and `ReadOptions`, and gives a `GridFile`, from which images, time points and labels are read.
        read_image: takes a path and `ReadOptions`, and gives a Volume. Files of a format `within` another are read by that.
        read_all: likewise, and gives every Volume; only where a file or folder can hold several.
        takes_content: `read_image` and `read_all` take the open `FileContent` too, or None, so that a file is opened once; and
            `read_labels` takes it by the keyword ``content``.
        read_header: takes a path, and gives shape and pixel type; only where `read_image` decodes pixels at once.
        read_labels: takes a path and a label table or None, and gives a LabelMap.
        label_options: which of ``reference`` and ``threshold`` reading labels takes, by keyword.
        write_labels: takes a LabelMap, the source Volume where `source` is ``required``, and a path; gives the path written.
        write_image: takes a Volume and a path; gives the path written.
        instances: instance ids are kept ``inside`` the file, or in a file ``beside`` it (`ids_beside`); empty where they are
            lost.
        write_ids: takes ids of objects ``(*spatial)`` uint32, their Geometry and a path; writes a map of 16 bits or more and
            gives the path. Only of formats that hold one number a voxel.
        axes: numbers of spatial axes it can hold: 3, and 2 for pictures and projections.
        layers: labels may overlap.
        source: ``required`` where it refers to the DICOM scan the labels were made on, ``optional`` where it can use the scan,
            ``grid`` where labels are only laid onto the scan's grid, if a scan is given.
        sheared: it holds grids of tilted slices.
        options: keyword arguments of `write_labels`.
        required_options: those of them that have no default.
        cannot_hold: properties that are lost in it, or why it is not read as labels, in words; empty where it holds all.
        plugin: the distribution that added it by an entry point; empty for formats of voxelry.

    Examples:
        >>> from voxelry.formats import Format
        >>> row = Format(name="x", title="X", noun="an X file", kind="labels", endings=(".x",), write_labels="mypackage:write_x")
        >>> row.ending, row.is_read
        ('.x', False)
    """

    name: str
    title: str
    noun: str
    kind: Kind
    endings: tuple[str, ...]
    read_only_endings: tuple[str, ...] = ()
    shared_endings: tuple[str, ...] = ()
    voxel_endings: tuple[str, ...] = ()
    within: str = ""
    recognise: str = ""
    sop_classes: tuple[str, ...] = ()
    may_be_empty: bool = False
    gzip: bool = False
    open_grid: str = ""
    read_image: str = ""
    read_all: str = ""
    takes_content: bool = False
    read_header: str = ""
    read_labels: str = ""
    label_options: tuple[str, ...] = ()
    write_labels: str = ""
    write_image: str = ""
    instances: Instances = ""
    write_ids: str = ""
    axes: tuple[int, ...] = (3,)
    layers: bool = True
    source: SourceUse = "grid"
    sheared: bool = True
    options: tuple[str, ...] = ()
    required_options: tuple[str, ...] = ()
    cannot_hold: str = ""
    plugin: str = ""

    @property
    def ending(self) -> str:
        """The ending that new files get."""
        return self.endings[0]

    @property
    def written_endings(self) -> tuple[str, ...]:
        """The endings of files to be written."""
        return (*self.endings, *self.shared_endings)

    @property
    def own_endings(self) -> tuple[str, ...]:
        """The endings by which its files are found in a folder."""
        return (*self.endings, *self.read_only_endings, *self.voxel_endings)

    @property
    def all_endings(self) -> tuple[str, ...]:
        """Every ending of its files."""
        return (*self.own_endings, *self.shared_endings)

    @property
    def family(self) -> str:
        """The name of the format its files are recognised as first: `within`, or its own."""
        return self.within or self.name

    @property
    def reads_images(self) -> bool:
        """It has a reader of images."""
        return bool(self.open_grid or self.read_image)

    @property
    def reads_labels(self) -> bool:
        """It has a reader of labels."""
        return bool(self.open_grid or self.read_labels)

    @property
    def is_read(self) -> bool:
        """Its files can be read, as images or as labels."""
        return self.reads_images or self.reads_labels

    @property
    def is_picture(self) -> bool:
        """It holds pictures and projections alone."""
        return self.axes == (2,)

    def write(
        self,
        labels: LabelMap | Volume,
        path: str | os.PathLike[str],
        source: Volume | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> Path:
        """Write labels, or an image where the format holds images.

        Args:
            labels: labels to write.
            path: the file (or folder, for a series); replaced if it exists, and never left half-written.
            source: the scan the labels belong to.
            options: keyword arguments of the format's function.

        Returns:
            The path, or the folder named after it where a format needs a file for each label.

        Raises:
            ExportError: the format cannot hold this.
            UsageError: an option it does not have.
            GridMismatchError: the labels lie on another grid than `source`.
            LabelError: values that the table does not know.
        """
        from voxelry.core.volume import Volume  # the table stays light

        for option in options:
            if option not in self.options:
                raise UsageError(f"{self.noun} has no option '{option}'", remedy=nearest(option, self.options or ("none",)))
        written: Path
        if isinstance(labels, Volume):
            if not self.write_image:
                raise ExportError(f"{path}: {self.noun} is written from labels, not an image", remedy="Write images as .nii.gz.")
            written = self.call(self.write_image, labels, Path(path))
            return written
        self._check(labels, path, source, options)
        if self.source == "required":
            written = self.call(self.write_labels, labels, source, Path(path), **options)
            return written
        on_grid = labels if source is None else labels.on_grid(source.geometry)
        more = {"source": source} if self.source == "optional" else {}
        written = self.call(self.write_labels, on_grid, Path(path), **more, **options)
        return written

    def _check(self, labels: LabelMap, path: str | os.PathLike[str], source: Volume | None, options: Mapping[str, Any]) -> None:
        """Refuse labels that the format cannot hold.

        Raises:
            ExportError: it is so.
        """
        if not self.write_labels:
            raise ExportError(f"{path}: {self.noun} is read and not written", remedy="Write labels as .nii.gz or .seg.nrrd.")
        missing = [option for option in self.required_options if option not in options]
        if missing:
            raise ExportError(f"{path}: {self.noun} cannot be written without its {missing[0]}", remedy="Give it as an option.")
        self._check_axes(labels.geometry, path)
        if len(labels.layers) > 1 and not self.layers:
            raise ExportError(
                f"{path}: labels overlap and lie on {len(labels.layers)} layers, {self.noun} holds one",
                remedy="Write .seg.nrrd, DICOM SEG or RTSTRUCT, or each layer to a file of its own.",
            )
        if self.source == "required" and source is None:
            raise ExportError(f"{path}: {self.noun} refers to the scan it was made on", remedy="Give the DICOM scan as `source`.")

    def _check_axes(self, geometry: Geometry, path: str | os.PathLike[str]) -> None:
        if geometry.ndim not in self.axes:
            flat = geometry.ndim == 2
            raise ExportError(
                f"{path}: {self.noun} holds {'a volume' if flat else 'a picture'}, not {geometry.describe()}",
                remedy="Write pictures as .png or .json." if flat else "Write volumes as .nii.gz.",
            )

    def check_scan(self, scan: Volume, path: str | os.PathLike[str]) -> None:
        """Refuse a scan whose labels the format cannot hold, before they are computed.

        Args:
            scan: as it was read; labels will lie on its grid.
            path: the file that labels will be written to, for messages.

        Raises:
            ExportError: a volume for a format of pictures or the other way round, a tilted grid for one of upright grids, or no
                DICOM scan for an object of DICOM that refers to one.
        """
        self._check_axes(scan.geometry, path)
        if self.source == "required" and self.family == "dicom" and scan.source.kind != "dicom":
            raise ExportError(
                f"{path}: the scan {scan.source.name} was read as {scan.source.kind}, and {self.noun} refers to DICOM instances",
                remedy="Segment the DICOM series, or write NIfTI.",
            )
        if not self.sheared and not scan.geometry.is_orthogonal:
            raise ExportError(
                f"{path}: the slices of {scan.source.name} are sheared (gantry tilt), which {self.noun} does not hold",
                remedy="Write .nii.gz or, of DICOM, .rtstruct.dcm; or read the series with repair tilt.",
            )

    def call(self, function: str, *arguments: Any, **options: Any) -> Any:
        """Call one of the row's functions.

        Args:
            function: its import path, a field of this row.
            arguments: for the function.
            options: for the function.

        Raises:
            UsageError: there is no such function.
            ReadError: the function of a plugin raised something that is no error of voxelry.
        """
        called = self._imported(function)
        if not self.plugin:
            return called(*arguments, **options)
        try:
            return called(*arguments, **options)
        except VoxelryError:
            raise
        except Exception as error:
            file = next((f"{argument}: " for argument in arguments if isinstance(argument, Path)), "")
            raise ReadError(
                f"{file}{function} of the plugin '{self.plugin}' failed ({type(error).__name__}: {error})",
                remedy="Report it to the plugin's authors, or uninstall it.",
            ) from error

    def _imported(self, function: str) -> Callable[..., Any]:
        try:
            return imported(function)
        except (ImportError, AttributeError) as error:
            if not self.plugin:
                raise
            raise UsageError(
                f"format '{self.name}' of the plugin '{self.plugin}' names the function {function}, which cannot be imported "
                f"({error})",
                remedy="Update or uninstall the plugin.",
            ) from error


def imported(function: str) -> Callable[..., Any]:
    """The function that an import path names, ``"package.module:function"``; a leading dot stands for `voxelry.formats`.

    Raises:
        ImportError: no such module.
        AttributeError: the module has no such function.
    """
    module, _, name = function.partition(":")
    called: Callable[..., Any] = getattr(import_module(module, "voxelry.formats"), name)
    return called
