"""GridFile: a parsed header and the location of its voxels, for NIfTI, Analyze, MGH, NRRD and MetaImage.

The module of a format turns a path into a `GridFile`, from which images and labels are read in the same way. Axes beyond the
third become channels; a 2D image becomes a picture ``(rows, columns)`` where its format stores no position in the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Affine, Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import Source, Volume
from voxelry.errors import CorruptFileError, GeometryError, LabelError, UsageError
from voxelry.formats.grids.stored import Stored
from voxelry.formats.voxels import as_ids, as_labels, check_finite, rescaled

COMPONENTS = "channels are components of one quantity (colour, vector), not time points"
"""Remark on a file whose channels are one quantity."""

NO_ORIENTATION = "no orientation stored: axes taken to run left, posterior, superior (LPS), as ITK does"
"""Remark on an NRRD or MetaImage file that stores no directions, and names no space."""


@dataclass(frozen=True)
class GridFile:
    """A parsed header and the location of its voxels.

    Attributes:
        kind: ``nifti``, ``analyze``, ``mgh``, ``nrrd`` or ``metaimage``.
        files: the header's file, and that of the voxels where it is another.
        geometry: the grid of the spatial axes, RAS+ mm, or a picture's.
        channels: C.
        sizes: sizes of the stored axes, fastest first; their product is the number of stored numbers.
        order: the stored axes in the order ``(channel axes..., *spatial)``.
        stored: the location of the numbers, or a function that decodes them (one-dimensional, file order).
        slope, intercept: grey value = slope * stored + intercept.
        remarks: decisions of the reader.
        components: the channels are components of one quantity (colour, vector), not time points.
        stored_table: takes the label values that occur, and gives the label table that the file carries, or None and why it
            cannot be used; None for formats that carry none.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from voxelry import Geometry
        >>> from voxelry.formats import GridFile
        >>> grid = Geometry.from_spacing((4, 3, 2), (1, 1, 2))
        >>> parts = {"files": (Path("a.x"),), "geometry": grid, "channels": 1, "sizes": (4, 3, 2, 1), "order": (3, 0, 1, 2)}
        >>> GridFile(kind="x", stored=lambda: np.arange(24), **parts).volume().array.shape
        (1, 4, 3, 2)
    """

    kind: str
    files: tuple[Path, ...]
    geometry: Geometry
    channels: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    stored: Stored | Callable[[], NDArray[Any]]
    slope: float = 1.0
    intercept: float = 0.0
    remarks: tuple[str, ...] = ()
    components: bool = False
    stored_table: Callable[[Iterable[int]], tuple[LabelTable | None, str]] | None = None

    @property
    def path(self) -> Path:
        """The file of the header."""
        return self.files[0]

    @property
    def source(self) -> Source:
        """The Source of a Volume or LabelMap."""
        remarks = (*self.remarks, COMPONENTS) if self.components else self.remarks
        return Source(kind=self.kind, files=tuple(str(file) for file in self.files), remarks=remarks)

    def volume(self) -> Volume:
        """The image; voxels are decoded when `Volume.array` is first used."""
        return Volume(self._image, self.geometry, self.channels, source=self.source, decoding=self._decoding())

    def time_points(self) -> list[Volume]:
        """The channels as volumes of one channel each, in order; decoded together when one is first used.

        Raises:
            UsageError: the channels are colours or components of a vector.
        """
        if self.components:
            raise UsageError(f"{self.path}: {COMPONENTS}", remedy="Read it as one image.")
        volume = self.volume()
        return [_channel(volume, index) for index in range(self.channels)] if self.channels > 1 else [volume]

    def labels(self) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Geometry, Source]:
        """The labels ``(*spatial)`` of a file of one channel, in the smallest unsigned type, their grid and source.

        Raises:
            LabelError: fractions, negative values, or several channels.
            ReadError: the voxels cannot be decoded.
        """
        return as_labels(self._whole_numbers(), str(self.path)), self.geometry, self.source

    def ids(self) -> tuple[NDArray[np.uint32], Geometry, Source]:
        """The ids of objects ``(*spatial)`` of a file of one channel, their grid and source.

        Raises:
            LabelError: fractions, negative values, or several channels.
            ReadError: the voxels cannot be decoded.
        """
        return as_ids(self._whole_numbers(), str(self.path)), self.geometry, self.source

    def _whole_numbers(self) -> NDArray[Any]:
        """``(*spatial)`` the values of a mask; unscaled ones as stored, since float32 does not hold every number of 32 bits."""
        if self.channels != 1:
            raise LabelError(
                f"{self.path}: a label file has one channel, this one {self.channels}",
                remedy="Merge one-hot channels into one map, or split them into a file each.",
            )
        array = self.numbers() if (self.slope, self.intercept) == (1, 0) else self.scaled()
        values: NDArray[Any] = array[0]
        return values

    def numbers(self) -> NDArray[Any]:
        """``(C, *spatial)`` as stored."""
        flat = self.stored.numbers() if isinstance(self.stored, Stored) else self.stored()
        axes = len(self.sizes)
        array = flat.reshape(self.sizes[::-1]).transpose([axes - 1 - axis for axis in self.order])
        return array.reshape((self.channels, *self.geometry.shape))

    def scaled(self) -> NDArray[Any]:
        """``(C, *spatial)`` after slope and intercept."""
        return rescaled(self.numbers(), self.slope, self.intercept)

    def _decoding(self) -> tuple[int, int] | None:
        """Bytes that `_image` takes, at the least and at the most: the stored numbers, and what `rescaled` makes of them."""
        if not isinstance(self.stored, Stored):
            return None
        dtype, count = self.stored.dtype, prod(self.sizes)
        if dtype == np.int16 and dtype.isnative and self.slope == 1 and self.intercept == 0:
            return 2 * count, 2 * count
        least, most = (4, 4) if dtype.kind == "f" else (2, 6)
        return count * (dtype.itemsize + least), count * (dtype.itemsize + most)

    def _image(self) -> NDArray[Any]:
        array = self.scaled()
        check_finite(array, str(self.path))
        return array


def _channel(volume: Volume, index: int) -> Volume:
    """One time point of a volume; the decoded pixels of all are shared."""
    remarks = (*volume.source.remarks, f"time point {index + 1} of {volume.channels}")
    source = replace(volume.source, remarks=remarks)
    return replace(volume, pixels=lambda: volume.array[index : index + 1], channels=1, source=source)


def grid(shape: tuple[int, ...], affine: Affine | None, size: tuple[float, float] | None, path: Path, fields: str) -> Geometry:
    """A Geometry; impossible numbers raise the error of a damaged file.

    Args:
        shape: spatial sizes.
        affine: voxel -> RAS+ mm, or None for a picture.
        size: a picture's pixel size in mm, rows then columns.
        path: the file, for the message.
        fields: the header fields that the user should repair.

    Raises:
        CorruptFileError: the numbers span no grid.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return Geometry(shape, affine, size)
    except GeometryError as error:
        raise CorruptFileError(f"{path}: {error.problem}", remedy=f"Repair {fields}.") from error
