"""Volume, LabelMap and Source: images and labels on their grid, never a bare array beside a loose affine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.failures import read_failures
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import LabelTable
from voxelry.errors import GeometryError, GridMismatchError, LabelError

SPARSE = "dicom-seg"
SPARSE_KINDS = (SPARSE, "seg-nrrd")
"""The kinds of a Source that leave out slices without labels: beyond its grid all voxels are background."""

_LEAST_BYTES, _MOST_BYTES = 1, 8
"""Of a voxel while it is decoded, where the header is not asked: a picture's byte; a stored float and its copy."""


@dataclass(frozen=True)
class Source:
    """The origin of a Volume or LabelMap: files, series, instances, and the reader's decisions.

    Attributes:
        kind: ``dicom``, ``dicom-seg``, ``rtstruct``, ``nifti``, ``analyze``, ``mgh``, ``nrrd``, ``seg-nrrd``, ``metaimage``,
            ``picture``, ``coco``, ``darwin``, ``mask-files`` or ``memory``.
        files: the files read, each once, in slice order for a DICOM series; fewer than slices where a file holds several, or
            where slices were interpolated. Of a zip archive its path, followed by the member's.
        series_uid: SeriesInstanceUID, empty where there is none.
        instances: per slice the ``(SOPInstanceUID, frame number from 1)`` an exporter must reference; None for a slice
            that no instance holds.
        remarks: decisions a reader made: which affine was used, whether grey values were inverted, where the pixel
            size came from.
        repairs: repairs that the caller asked for, a sentence each with its numbers; empty for a file read as it is.
        frame_of_reference: FrameOfReferenceUID, in whose coordinates positions are; empty where the file has none.
        tracking: instance id, tracking id and tracking UID of each object that a file of labels tracks (PS3.3 C.8.20.2.4).
        is_spacing_assumed: of a map of `SPARSE`: the position of each slice is known, the distance between slices is not.

    Example:
        >>> Source(kind="nifti", files=("scans/a.nii.gz",)).name
        'scans/a.nii.gz'
    """

    kind: str = "memory"
    files: tuple[str, ...] = ()
    series_uid: str = ""
    instances: tuple[tuple[str, int] | None, ...] = ()
    remarks: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    frame_of_reference: str = ""
    is_spacing_assumed: bool = False
    tracking: tuple[tuple[int, str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its name in messages: its only file, or the folder of its series."""
        if not self.files:
            return f"<{self.kind}>"
        return self.files[0] if len(self.files) == 1 else self.files[0].rpartition("/")[0] or "."


@dataclass(frozen=True)
class Window:
    """A VOI display window: a range of grey values to display an image with (DICOM PS3.3 section C.11.2.1.2).

    Attributes:
        center: center of the range, in the units of the image.
        width: width of the range, positive.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
        name: its purpose, as ``BONE``; empty where the file does not say.

    Example:
        >>> Window(center=40, width=400, name="SOFT TISSUE").function
        'LINEAR'
    """

    center: float
    width: float
    function: str = "LINEAR"
    name: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on its grid. Header first: pixels are decoded when `array` is first used.

    Attributes:
        pixels: ``(C, *spatial)`` array, or a function that decodes it.
        geometry: the grid of the spatial axes.
        channels: C.
        modality: DICOM's term: ``CT``, ``MR``, ``CR``, ``DX``, ``MG``...; empty where unknown.
        source: its origin.
        windows: for display, the default first.
        outside: ``(*spatial)`` bool, or a function that computes it: voxels the scanner did not image; None where it imaged all.
        channel_names: name of each channel, where the file has them (the segments of probabilities); else empty.
        decoding: bytes of memory that decoding the pixels takes at its peak, at the least and at the most, by the header; None
            where only their number is known.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry
        >>> volume = Volume(np.zeros((1, 4, 4, 2), np.int16), Geometry.from_spacing((4, 4, 2), (1, 1, 5)), modality="CT")
        >>> volume.shape, volume.spacing
        ((1, 4, 4, 2), (1.0, 1.0, 5.0))
    """

    pixels: NDArray[Any] | Callable[[], NDArray[Any]] = field(repr=False)
    geometry: Geometry
    channels: int = 1
    modality: str = ""
    source: Source = Source()
    windows: tuple[Window, ...] = ()
    outside: NDArray[np.bool_] | Callable[[], NDArray[np.bool_]] | None = field(default=None, repr=False)
    channel_names: tuple[str, ...] = ()
    decoding: tuple[int, int] | None = None

    @cached_property
    def array(self) -> NDArray[Any]:
        """``(C, *spatial)``, int16 where that is lossless, else uint8/uint16 (pictures) or float32.

        Raises:
            ReadError: the pixels cannot be decoded.
            GeometryError: they have another shape than the header said.
        """
        with read_failures(self.source.name):
            value = self.pixels() if callable(self.pixels) else self.pixels
        expected = (self.channels, *self.geometry.shape)
        if value.shape != expected:
            raise GeometryError(f"{self.source.name}: pixels have shape {value.shape}, the header states {expected}")
        return value

    @cached_property
    def padding(self) -> NDArray[np.bool_]:
        """``(*spatial)``: voxels without a measured value (DICOM's PixelPaddingValue), computed on first use.

        Their grey value is the lowest measured one of the image.

        Raises:
            ReadError: the pixels cannot be decoded.
        """
        if self.outside is None:
            return np.zeros(self.geometry.shape, dtype=np.bool_)
        with read_failures(self.source.name):
            return self.outside() if callable(self.outside) else self.outside

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, *spatial)``, known without decoding."""
        return (self.channels, *self.geometry.shape)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Millimetres along each spatial axis, or None for a picture of unknown size."""
        return self.geometry.spacing

    @property
    def undecoded_bytes(self) -> tuple[int, int]:
        """Bytes of memory that decoding the pixels will take, at the least and at the most; 0 once they are decoded."""
        if not callable(self.pixels) or "array" in self.__dict__:
            return 0, 0
        voxels = math.prod(self.shape)
        return self.decoding or (voxels * _LEAST_BYTES, voxels * _MOST_BYTES)

    def _repr_html_(self) -> str:
        """Planes and facts, for a notebook."""
        from voxelry.core.notebook_view import volume_html

        return volume_html(self, self.source.name, self.source.remarks)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """The viewer, for a notebook where ipyniivue is installed."""
        from voxelry.core.notebook_viewer import viewer_bundle

        return viewer_bundle(self, None)

    def reindexed(self, change: Reindex) -> Volume:
        """The same image with its spatial axes permuted and flipped; every voxel keeps its position in the patient."""
        source = replace(self.source, instances=()) if not change.is_identity else self.source
        outside = None if self.outside is None else change.apply(self.padding)
        geometry = self.geometry.reindexed(change)
        return replace(self, pixels=change.apply(self.array), geometry=geometry, source=source, outside=outside)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels on a grid.

    Attributes:
        layers: ``(L, *spatial)`` unsigned integers, stored values of `table`; labels that overlap lie on different layers.
        geometry: the grid of the spatial axes.
        table: the meaning of the values.
        source: its origin.
        instances: ``(L, *spatial)`` uint32 instance ids, 0 where there is none; None for semantic maps.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable
        >>> table = LabelTable(labels=(Label(value=3, name="liver"),))
        >>> labels = LabelMap.of(np.full((4, 4, 2), 3, np.uint8), Geometry.from_spacing((4, 4, 2), (1, 1, 5)), table)
        >>> int(labels.mask("liver").sum())
        32
    """

    layers: NDArray[Any] = field(repr=False)
    geometry: Geometry
    table: LabelTable
    source: Source = Source()
    instances: NDArray[np.uint32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.layers.shape[1:] != self.geometry.shape:
            raise GeometryError(f"labels of shape {self.layers.shape} (layer first) do not fit a grid of {self.geometry.shape}")
        if self.layers.dtype.kind not in "ui":
            raise LabelError(f"labels are whole numbers, not {self.layers.dtype}")
        if self.instances is not None and self.instances.shape != self.layers.shape:
            raise GeometryError(f"instance ids of shape {self.instances.shape} beside labels of shape {self.layers.shape}")

    @classmethod
    def of(cls, array: NDArray[Any], geometry: Geometry, table: LabelTable, source: Source | None = None) -> LabelMap:
        """A single-layer map from a ``(*spatial)`` array."""
        return cls(array[None], geometry, table, source or Source())

    @property
    def array(self) -> NDArray[Any]:
        """``(*spatial)``, the single layer.

        Raises:
            LabelError: there are several layers.
        """
        if len(self.layers) != 1:
            raise LabelError(
                f"{self.source.name}: labels overlap and lie on {len(self.layers)} layers", remedy="Use `.layers`, or pick one."
            )
        single: NDArray[Any] = self.layers[0]
        return single

    def mask(self, label: int | str) -> NDArray[np.bool_]:
        """``(*spatial)`` bool: where a label (by stored value or name) is.

        Raises:
            LabelError: the table does not know it.
        """
        row = self.table[label]
        mask: NDArray[np.bool_] = self.layers[row.layer] == row.value
        return mask

    def _repr_html_(self) -> str:
        """Planes and a table of labels, for a notebook."""
        from voxelry.core.notebook_view import label_map_html

        return label_map_html(self, f"LabelMap {self.source.name}")

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """The viewer, for a notebook where ipyniivue is installed."""
        from voxelry.core.notebook_viewer import viewer_bundle

        return viewer_bundle(None, self)

    def on_grid(self, geometry: Geometry) -> LabelMap:
        """These labels on an equal grid, re-indexed where only axis order or direction differ.

        A map from a source of `SPARSE_KINDS` may also cover a box of the grid; the rest becomes background. One whose spacing is
        assumed is laid slice by slice, as by `on_slices`.

        Args:
            geometry: the grid of the image the labels belong to.

        Returns:
            A map whose array lies on `geometry`, voxel for voxel.

        Raises:
            GridMismatchError: no flip or permutation of axes makes the grids equal, or labels lie beyond `geometry`.
        """
        change = self.geometry.reindexing_to(geometry)
        into_box = self.geometry.reindexing_into(geometry) if change is None and self.source.kind in SPARSE_KINDS else None
        if into_box is not None:
            box = self._reindexed(into_box)
            start = geometry.offset_of(box.geometry)
            assert start is not None
            return box._placed(geometry, start)
        if change is None and self.source.is_spacing_assumed:
            return self.on_slices(geometry)
        if change is None:
            raise GridMismatchError(
                f"{self.source.name}: its grid ({self.geometry.describe()}) is not the image's ({geometry.describe()}; "
                f"{_apart(self.geometry, geometry)})",
                remedy="Resample one onto the other's grid first.",
            )
        return replace(self._reindexed(change), geometry=geometry)

    def on_slices(self, geometry: Geometry) -> LabelMap:
        """Each labelled slice on that slice of a grid which lies at its position, whatever lies between; the rest is background.

        Args:
            geometry: the grid of the image whose slices the labels were drawn on.

        Raises:
            GridMismatchError: a labelled slice lies on none of the grid's slices, or labels lie beyond `geometry`.
        """
        labelled = np.flatnonzero(self.layers.any(axis=tuple(range(self.layers.ndim - 1))))
        result = self._blank(geometry)
        change: Reindex | None = None
        for k in labelled.tolist() or [0]:
            grid = self.geometry.cropped((0, 0, k), (*self.geometry.shape[:2], 1))
            ids = None if self.instances is None else self.instances[..., k : k + 1]
            piece = replace(self, layers=self.layers[..., k : k + 1], geometry=grid, instances=ids)
            change = change or grid.reindexing_into(geometry)
            start = None if change is None else geometry.offset_of(grid.reindexed(change))
            if change is None or start is None:
                raise GridMismatchError(
                    f"{self.source.name}: slice {k} ({grid.describe()}) is no slice of the image ({geometry.describe()})",
                    remedy="Resample one onto the other's grid first.",
                )
            piece._reindexed(change)._fill(result, start)
        return result

    def _reindexed(self, change: Reindex) -> LabelMap:
        if change.is_identity:
            return self
        instances = None if self.instances is None else change.apply(self.instances)
        geometry, source = self.geometry.reindexed(change), replace(self.source, instances=())
        return replace(self, layers=change.apply(self.layers), geometry=geometry, source=source, instances=instances)

    def _placed(self, geometry: Geometry, start: tuple[int, ...]) -> LabelMap:
        """This map within a grid that shares its lattice, from voxel `start` on."""
        result = self._blank(geometry)
        self._fill(result, start)
        return result

    def _blank(self, geometry: Geometry) -> LabelMap:
        """A map of background on another grid, with as many layers, and with instance ids where this one has them."""
        shape = (len(self.layers), *geometry.shape)
        ids = None if self.instances is None else np.zeros(shape, np.uint32)
        source = replace(self.source, instances=())
        return replace(self, layers=np.zeros(shape, self.layers.dtype), geometry=geometry, source=source, instances=ids)

    def _fill(self, target: LabelMap, start: tuple[int, ...]) -> None:
        """Write this map's labels and ids into a map whose grid shares its lattice, from voxel `start` on."""
        layers, shape = target.layers, target.geometry.shape
        ends = [(first, first + size) for first, size in zip(start, self.geometry.shape, strict=True)]
        overlaps = [(max(0, first), min(last, n)) for (first, last), n in zip(ends, shape, strict=True)]
        there = (slice(None), *(slice(low, max(low, high)) for low, high in overlaps))
        here = (
            slice(None),
            *(slice(low - first, max(low, high) - first) for (low, high), first in zip(overlaps, start, strict=True)),
        )
        layers[there] = self.layers[here]
        if self.instances is not None and target.instances is not None:
            target.instances[there] = self.instances[here]
        lost = int(np.count_nonzero(self.layers)) - int(np.count_nonzero(layers[there]))
        if lost:
            raise GridMismatchError(
                f"{self.source.name}: {lost} labelled voxels lie beyond the grid of {' x '.join(map(str, shape))} voxels",
                remedy="Use the image that the segmentation was made on.",
            )


def _apart(grid: Geometry, other: Geometry) -> str:
    if grid.shape != other.shape:
        return "different shapes"
    return f"voxels up to {grid.distance(other):.4g} mm apart, tolerance {grid.grid_tolerance:.4g} mm"
