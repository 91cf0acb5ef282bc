"""Panel of an overlay picture: a plane of the image with its labels drawn on, at its true aspect ratio.

Planes are shown as radiology shows them, whatever the scan's own axis order: on axial and coronal planes the patient's
right is at the left of the picture, front and head are up; on sagittal planes the front is at the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.object_palette import NO_COLOURS, Labelled, ObjectColours
from voxelry.errors import GeometryError, UsageError, nearest

CT_WINDOW_HU = (-160.0, 240.0)
"""The soft-tissue window: level 40, width 400."""

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = get_args(Plane)

_DISPLAY_AXES = "LPI"
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
_ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis, of `_DISPLAY_AXES`, across a plane."""
_PERCENTILES = (0.5, 99.5)
_SAMPLES = 1_000_000
_FILL = 0.35
_DASH_PX = 4


class Pictured(Protocol):
    """What is drawn of a Volume: it draws itself in a notebook, so that drawing knows no more of it than this."""

    @property
    def array(self) -> NDArray[Any]:
        """``(C, *spatial)``."""

    @property
    def geometry(self) -> Geometry:
        """The grid."""

    @property
    def modality(self) -> str:
        """DICOM's term."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A plane to draw.

    Attributes:
        caption: the plane's name and slice, such as ``axial 12 of 40``.
        letters: directions at the left, right, top and bottom edge (``R``, ``L``, ``A``...); empty where unknown.
        grey: ``(rows, cols)`` float, 0 black to 1 white.
        layers: ``(L, rows, cols)`` stored label values.
        reference: ``(L', rows, cols)`` numbers between which the reference's edges are, 0 the background, or None.
        spacing: ``(row, column)`` spacing, in mm or relative.
        ids: ``(L, rows, cols)`` instance ids, or None.
        colours: of the objects that are drawn one by one.
    """

    caption: str
    letters: str
    grey: NDArray[np.floating[Any]]
    layers: NDArray[Any]
    reference: NDArray[Any] | None
    spacing: tuple[float, float]
    ids: NDArray[Any] | None = None
    colours: ObjectColours = NO_COLOURS

    def draw(self, table: LabelTable, box: tuple[int, int]) -> Image.Image:
        """The panel as an RGB picture that fits into `box` at the plane's true aspect ratio.

        Args:
            table: the labels' colours.
            box: ``(width, height)`` in pixels.

        Returns:
            A picture that fills the box in one direction at least.
        """
        width, height = self._size(box)
        grey = Image.fromarray(np.round(self.grey * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        picture = np.repeat(np.asarray(grey, dtype=np.float32)[..., None], 3, axis=2)
        for layer, values in enumerate(self.layers):
            ids = np.zeros_like(values) if self.ids is None else self.ids[layer]
            self._paint(picture, _enlarged(values, width, height), _enlarged(ids, width, height), table, layer)
        if self.reference is not None:
            for values in self.reference:
                _outline(picture, _enlarged(values, width, height))
        return Image.fromarray(np.round(picture).astype(np.uint8))

    def _paint(
        self, picture: NDArray[np.float32], values: NDArray[Any], ids: NDArray[Any], table: LabelTable, layer: int
    ) -> None:
        """Blend the colours of labels and objects in, with a solid border just inside their edges."""
        edges = find_boundaries(values, mode="inner") | find_boundaries(ids, mode="inner")
        colours, inside = np.zeros_like(picture), np.zeros(values.shape, dtype=bool)
        present = set(np.unique(values).tolist())
        for label in table.labels:
            if label.layer == layer and label.value in present:
                colours[values == label.value] = label.rgb
                inside |= values == label.value
        self.colours.paint(colours, ids)
        picture[inside] = picture[inside] * (1 - _FILL) + colours[inside] * _FILL
        border = binary_dilation(edges) & inside
        picture[border] = colours[border]

    def _size(self, box: tuple[int, int]) -> tuple[int, int]:
        """``(width, height)`` in pixels of the drawn plane."""
        tall, wide = (count * step for count, step in zip(self.grey.shape, self.spacing, strict=True))
        scale = min(box[0] / wide, box[1] / tall)
        return max(1, round(wide * scale)), max(1, round(tall * scale))


def panels_of(
    volume: Pictured, labels: Labelled | None, reference: Labelled | None, through: Labelled | None = None
) -> list[Panel]:
    """The panels of a case.

    A volume is cut in its axial, coronal and sagittal plane, each through the slice with most labelled voxels (of a single
    slice only that); a picture is shown without and with its labels.

    Args:
        volume: the image; of several channels the first is shown.
        labels: the prediction, on the image's grid, or None.
        reference: the reference on the image's grid, or None.
        through: labels whose slices are taken in place of those of `labels`, so that several pictures show the same place.

    Returns:
        Three panels for a volume, one for a single slice, two for a picture, or one where nothing is drawn on it.
    """
    if volume.geometry.affine is None:
        return _of_picture(volume, labels, reference)
    scan = CutScan.of(volume, labels, reference)
    guide = scan if through is None else CutScan.of(volume, through)
    panels = [scan.panel(plane, guide.fullest(plane)) for plane in PLANES]
    return [panel for panel in panels if min(panel.grey.shape) > 1] or panels


def _of_picture(volume: Pictured, labels: Labelled | None, reference: Labelled | None) -> list[Panel]:
    spacing = volume.geometry.pixel_size or (1.0, 1.0)
    grey = _windowed(volume.array.mean(axis=0, dtype=np.float32), *grey_window(volume))
    outlines = None if reference is None else _parts(reference)
    blank = Panel("image", "", grey, np.zeros((0, *grey.shape), np.uint8), None, spacing)
    if labels is None:
        return [blank]
    drawn = Panel("labels", "", grey, _without_ignored(labels), outlines, spacing, labels.instances, ObjectColours.of(labels))
    return [blank, drawn]


@dataclass(frozen=True, eq=False)
class CutScan:
    """A volume with its labels in the order of display (to the patient's left, back and feet), to be cut into panels.

    Attributes:
        image: ``(X, Y, Z)`` grey values.
        layers: ``(L, X, Y, Z)`` stored label values, the ignore value set to background.
        outlines: ``(L', X, Y, Z)`` numbers between which the reference's edges are, or None.
        ids: ``(L, X, Y, Z)`` instance ids, or None.
        steps: mm along each axis.
        window: the grey values shown black and white.
        colours: of the objects that are drawn one by one.
    """

    image: NDArray[Any]
    layers: NDArray[Any]
    outlines: NDArray[Any] | None
    ids: NDArray[Any] | None
    steps: tuple[float, ...]
    window: tuple[float, float]
    colours: ObjectColours

    @classmethod
    def of(cls, volume: Pictured, labels: Labelled | None = None, reference: Labelled | None = None) -> CutScan:
        """Bring a volume and labels on its grid into the order of display.

        Raises:
            GeometryError: a picture, which has no planes.
        """
        if volume.geometry.affine is None:
            raise GeometryError("a picture has no slices to cut", remedy="Draw it as it is (overlay, contours).")
        change = volume.geometry.reindexing_to_orientation(_DISPLAY_AXES)
        layers = np.zeros((0, *volume.geometry.shape), np.uint8) if labels is None else _without_ignored(labels)
        instances = None if labels is None else labels.instances
        return cls(
            change.apply(volume.array[0]),
            change.apply(layers),
            None if reference is None else change.apply(_parts(reference)),
            None if instances is None else change.apply(instances),
            volume.geometry.reindexed(change).spacing or (1.0, 1.0, 1.0),
            grey_window(volume),
            NO_COLOURS if labels is None else ObjectColours.of(labels),
        )

    def panel(self, plane: str, index: int | None = None) -> Panel:
        """The panel of a plane.

        Args:
            plane: ``axial``, ``coronal`` or ``sagittal``.
            index: number of the slice from 0, counted from the head, the front or the patient's right; None takes the one with
                most labelled voxels.

        Raises:
            UsageError: no such plane or slice.
        """
        axis = _across(plane)
        chosen = self.fullest(plane) if index is None else index
        if not 0 <= chosen < self.image.shape[axis]:
            raise UsageError(f"{plane} slice {chosen} of {self.image.shape[axis]}", remedy="Slices are counted from 0.")
        take = (slice(None),) * axis + (chosen,)
        width, height = (step for other, step in enumerate(self.steps) if other != axis)
        return Panel(
            f"{plane} {chosen + 1} of {self.image.shape[axis]}",
            _LETTERS[plane],
            _windowed(self.image[take].T, *self.window),
            _cut(self.layers, take),
            None if self.outlines is None else _cut(self.outlines, take),
            (height, width),
            None if self.ids is None else _cut(self.ids, take),
            self.colours,
        )

    def fullest(self, plane: str) -> int:
        """The slice with most labelled voxels, of the reference where nothing is predicted; the middle one without labels."""
        area = self._area(plane)
        if not area.any():
            return int(len(area) // 2)
        return int(np.median(np.flatnonzero(area == area.max())))

    def spread(self, plane: str, count: int) -> list[int]:
        """Slices at even distances across the labelled ones, or across all where nothing is labelled.

        Args:
            plane: a plane.
            count: number of slices, at least 1; fewer are returned where there are fewer.
        """
        area = self._area(plane)
        labelled = np.flatnonzero(area) if area.any() else np.arange(len(area))
        places = (np.arange(count) + 0.5) / count
        return sorted({int(labelled[0] + place * (labelled[-1] + 1 - labelled[0])) for place in places})

    def _area(self, plane: str) -> NDArray[Any]:
        """Labelled voxels of each slice."""
        axis = _across(plane)
        shown = self.layers if self.outlines is None or self.layers.any() else self.outlines
        area: NDArray[Any] = (shown > 0).any(axis=0).sum(axis=tuple(other for other in range(3) if other != axis))
        return area


def _across(plane: str) -> int:
    if plane not in _ACROSS:
        raise UsageError(f"no plane '{plane}'", remedy=nearest(plane, PLANES))
    return _ACROSS[plane]


def _cut(layers: NDArray[Any], take: tuple[slice | int, ...]) -> NDArray[Any]:
    """A slice of all layers, ``(L, rows, cols)``."""
    cut: NDArray[Any] = layers[(slice(None), *take)].swapaxes(1, 2)
    return cut


def _without_ignored(labels: Labelled) -> NDArray[Any]:
    """The layers with the ignore value set to background."""
    ignore = labels.table.ignore
    return labels.layers if ignore is None else np.where(labels.layers == ignore, 0, labels.layers)


def _parts(labels: Labelled) -> NDArray[Any]:
    """The layers with another number for every label and object, the ignore value set to background."""
    layers = _without_ignored(labels)
    if labels.instances is None:
        return layers
    return np.where(labels.instances > 0, labels.instances + np.uint32(layers.max(initial=0)), layers.astype(np.uint32))


def grey_window(volume: Pictured) -> tuple[float, float]:
    """The grey values shown black and white.

    Args:
        volume: the image, of which the first channel is looked at.
    """
    if volume.modality == "CT":
        return CT_WINDOW_HU
    flat = volume.array[0].reshape(-1)
    low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLES)], _PERCENTILES)
    return float(low), float(high)


def _windowed(values: NDArray[Any], low: float, high: float) -> NDArray[np.floating[Any]]:
    scaled: NDArray[np.floating[Any]] = np.clip((values.astype(np.float32) - low) / ((high - low) or 1.0), 0, 1)
    return scaled


def _enlarged(values: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """``(height, width)`` by nearest neighbour, so that voxels stay visible."""
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    enlarged: NDArray[Any] = values[np.ix_(rows, columns)]
    return enlarged


def _outline(picture: NDArray[np.float32], values: NDArray[Any]) -> None:
    """Draw the edges of `values` as a thin white line, dashed with black so that it shows on white too."""
    rows, columns = np.nonzero(find_boundaries(values, mode="inner"))
    picture[rows, columns] = np.where((rows + columns) // _DASH_PX % 2 == 0, 255, 0)[:, None]
