"""Volume and LabelMap: the only currency between stages, never a bare array beside a loose affine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import LabelTable
from voxelry.errors import GeometryError, GridMismatchError, LabelError

SPARSE = "dicom-seg"
SPARSE_KINDS = (SPARSE, "seg-nrrd")
"""The kinds of a Source that leave slices without labels out: what lies beyond its grid is background."""


@dataclass(frozen=True)
class Source:
    """Where a Volume or LabelMap came from, and what was done to it on the way in.

    Attributes:
        kind: ``dicom``, ``dicom-seg``, ``rtstruct``, ``nifti``, ``analyze``, ``mgh``, ``nrrd``, ``seg-nrrd``, ``metaimage``,
            ``picture`` or ``memory``.
        files: the files read, each once, in slice order for a DICOM series; fewer than slices where a file holds several, or
            where slices were interpolated.
        series_uid: SeriesInstanceUID, empty where there is none.
        instances: per slice the ``(SOPInstanceUID, frame number from 1)`` an exporter must reference; None for a slice
            that no instance holds.
        remarks: decisions a reader made: which affine was used, whether grey values were inverted, where the pixel
            size came from.
        repairs: what was mended as the caller asked, a sentence each with its numbers; empty for a file read as it is.
        frame: FrameOfReferenceUID, whose coordinates positions are in; empty where the file names none.
    """

    kind: str = "memory"
    files: tuple[str, ...] = ()
    series_uid: str = ""
    instances: tuple[tuple[str, int] | None, ...] = ()
    remarks: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    frame: str = ""

    @property
    def name(self) -> str:
        """What to call it in a message: its only file, or the folder of its series."""
        if not self.files:
            return f"<{self.kind}>"
        return self.files[0] if len(self.files) == 1 else self.files[0].rpartition("/")[0] or "."


@dataclass(frozen=True)
class Window:
    """A range of grey values that an image is meant to be displayed with (DICOM PS3.3 section C.11.2.1.2).

    Attributes:
        center: of the range, in the units of the image.
        width: of the range, positive.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
        name: what it is for, as ``BONE``; empty where the file does not say.
    """

    center: float
    width: float
    function: str = "LINEAR"
    name: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on its grid. Header first: pixels are decoded when `array` is first asked for.

    Attributes:
        pixels: ``(C, *spatial)`` array, or a function that decodes it.
        geometry: the grid of the spatial axes.
        channels: C.
        modality: DICOM's term: ``CT``, ``MR``, ``CR``, ``DX``, ``MG``...; empty where unknown.
        source: where it came from.
        windows: for display, the first the one to begin with.
        outside: ``(*spatial)`` bool, or a function that finds it: voxels the scanner did not image; None where it imaged all.
        channel_names: what each channel shows, where the file says so (the segments of probabilities); else empty.
    """

    pixels: NDArray[Any] | Callable[[], NDArray[Any]] = field(repr=False)
    geometry: Geometry
    channels: int = 1
    modality: str = ""
    source: Source = Source()
    windows: tuple[Window, ...] = ()
    outside: NDArray[np.bool_] | Callable[[], NDArray[np.bool_]] | None = field(default=None, repr=False)
    channel_names: tuple[str, ...] = ()

    @cached_property
    def array(self) -> NDArray[Any]:
        """``(C, *spatial)``, int16 where that is lossless, else uint8/uint16 (pictures) or float32.

        Raises:
            ReadError: the pixels cannot be decoded.
            GeometryError: they have another shape than the header said.
        """
        value = self.pixels() if callable(self.pixels) else self.pixels
        expected = (self.channels, *self.geometry.shape)
        if value.shape != expected:
            raise GeometryError(f"{self.source.name}: pixels have shape {value.shape}, the header says {expected}")
        return value

    @cached_property
    def padding(self) -> NDArray[np.bool_]:
        """``(*spatial)``: voxels without a measured value (DICOM's PixelPaddingValue), found when first asked for.

        Their grey value is the lowest measured one of the image.

        Raises:
            ReadError: the pixels cannot be decoded.
        """
        if self.outside is None:
            return np.zeros(self.geometry.shape, dtype=np.bool_)
        return self.outside() if callable(self.outside) else self.outside

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, *spatial)``, known without decoding."""
        return (self.channels, *self.geometry.shape)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Millimetres along each spatial axis, or None for a picture of unknown size."""
        return self.geometry.spacing

    def reindexed(self, change: Reindex) -> Volume:
        """The same image with its spatial axes permuted and flipped; every voxel keeps its place in the patient."""
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
        table: what the values mean.
        source: where it came from.
        instances: ``(L, *spatial)`` uint32 instance ids, 0 where there is none; None for semantic maps.
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
        known = self.table[label]
        found: NDArray[np.bool_] = self.layers[known.layer] == known.value
        return found

    def on_grid(self, geometry: Geometry) -> LabelMap:
        """These labels on an equal grid, re-indexed where only axis order or direction differ.

        A map from a source of `SPARSE_KINDS` may also be a part of the grid; the rest becomes background.

        Args:
            geometry: the grid of the image the labels belong to.

        Returns:
            A map whose array lies on `geometry`, voxel for voxel.

        Raises:
            GridMismatchError: no flip or permutation of axes makes the grids equal, or labels lie beyond `geometry`.
        """
        change = self.geometry.reindexing_to(geometry)
        part = self.geometry.reindexing_into(geometry) if change is None and self.source.kind in SPARSE_KINDS else None
        if part is not None:
            turned = self._reindexed(part)
            start = geometry.offset_of(turned.geometry)
            assert start is not None
            return turned._placed(geometry, start)
        if change is None:
            raise GridMismatchError(
                f"{self.source.name}: its grid ({self.geometry.describe()}) is not the image's ({geometry.describe()}; "
                f"{_apart(self.geometry, geometry)})",
                remedy="Resample one onto the other's grid first.",
            )
        return replace(self._reindexed(change), geometry=geometry)

    def _reindexed(self, change: Reindex) -> LabelMap:
        if change.is_identity:
            return self
        instances = None if self.instances is None else change.apply(self.instances)
        geometry, source = self.geometry.reindexed(change), replace(self.source, instances=())
        return replace(self, layers=change.apply(self.layers), geometry=geometry, source=source, instances=instances)

    def _placed(self, geometry: Geometry, start: tuple[int, ...]) -> LabelMap:
        """This map within a grid that shares its lattice, from voxel `start` on."""
        ends = [(first, first + size) for first, size in zip(start, self.geometry.shape, strict=True)]
        kept = [(max(0, first), min(last, n)) for (first, last), n in zip(ends, geometry.shape, strict=True)]
        there = (slice(None), *(slice(low, max(low, high)) for low, high in kept))
        here = (
            slice(None),
            *(slice(low - first, max(low, high) - first) for (low, high), first in zip(kept, start, strict=True)),
        )
        layers = np.zeros((len(self.layers), *geometry.shape), dtype=self.layers.dtype)
        layers[there] = self.layers[here]
        lost = int(np.count_nonzero(self.layers)) - int(np.count_nonzero(layers))
        if lost:
            raise GridMismatchError(
                f"{self.source.name}: {lost} labelled voxels lie beyond the grid of {geometry.describe()}",
                remedy="Use the image that the segmentation was made on.",
            )
        return LabelMap(layers, geometry, self.table, replace(self.source, instances=()))


def _apart(one: Geometry, other: Geometry) -> str:
    if one.shape != other.shape:
        return "different shapes"
    return f"voxels up to {one.distance(other):.4g} mm apart, tolerance {one.grid_tolerance:.4g} mm"
