"""Panel of an overlay picture: a plane of the image with its labels drawn on, at its true aspect ratio.

Planes are shown as radiology shows them, whatever the scan's own axis order: on axial and coronal planes the patient's
right is at the left of the picture, front and head are up; on sagittal planes the front is at the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.reports.object_colours import NO_COLOURS, ObjectColours

CT_WINDOW_HU = (-160.0, 240.0)
"""The soft-tissue window: level 40, width 400."""

_DISPLAY_AXES = "LPI"
_PERCENTILES = (0.5, 99.5)
_SAMPLES = 1_000_000
_FILL = 0.35
_DASH_PX = 4


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
        for label in table.labels:
            if label.layer == layer:
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


def panels_of(volume: Volume, labels: LabelMap, reference: LabelMap | None) -> list[Panel]:
    """The panels of a case.

    A volume is cut in its axial, coronal and sagittal plane, each through the slice with most labelled voxels (of a single
    slice only that); a picture is shown without and with its labels.

    Args:
        volume: the image; of several channels the first is shown.
        labels: the prediction, on the image's grid.
        reference: the reference on the image's grid, or None.

    Returns:
        Three panels for a volume, one for a single slice, two for a picture.
    """
    return _of_picture(volume, labels, reference) if volume.geometry.affine is None else _of_volume(volume, labels, reference)


def _of_picture(volume: Volume, labels: LabelMap, reference: LabelMap | None) -> list[Panel]:
    spacing = volume.geometry.pixel_size or (1.0, 1.0)
    grey = _windowed(volume.array.mean(axis=0, dtype=np.float32), *_window(volume))
    outlines = None if reference is None else _parts(reference)
    return [
        Panel("image", "", grey, labels.layers[:0], None, spacing),
        Panel("labels", "", grey, _without_ignored(labels), outlines, spacing, labels.instances, ObjectColours.of(labels)),
    ]


def _of_volume(volume: Volume, labels: LabelMap, reference: LabelMap | None) -> list[Panel]:
    change = volume.geometry.reindexing_to_orientation(_DISPLAY_AXES)
    x_step, y_step, z_step = volume.geometry.reindexed(change).spacing or (1.0, 1.0, 1.0)
    image = change.apply(volume.array[0])
    layers = change.apply(_without_ignored(labels))
    outlines = None if reference is None else change.apply(_parts(reference))
    ids, colours = None if labels.instances is None else change.apply(labels.instances), ObjectColours.of(labels)
    low, high = _window(volume)

    def panel(name: str, letters: str, axis: int, spacing: tuple[float, float]) -> Panel:
        index = _fullest(layers if outlines is None or layers.any() else outlines, axis)
        take = (slice(None),) * axis + (index,)
        return Panel(
            f"{name} {index + 1} of {image.shape[axis]}",
            letters,
            _windowed(image[take].T, low, high),
            layers[(slice(None), *take)].swapaxes(1, 2),
            None if outlines is None else outlines[(slice(None), *take)].swapaxes(1, 2),
            spacing,
            None if ids is None else ids[(slice(None), *take)].swapaxes(1, 2),
            colours,
        )

    panels = [
        panel("axial", "RLAP", 2, (y_step, x_step)),
        panel("coronal", "RLSI", 1, (z_step, x_step)),
        panel("sagittal", "APSI", 0, (z_step, y_step)),
    ]
    return [panel for panel in panels if min(panel.grey.shape) > 1] or panels


def _without_ignored(labels: LabelMap) -> NDArray[Any]:
    """The layers with the ignore value set to background."""
    ignore = labels.table.ignore
    return labels.layers if ignore is None else np.where(labels.layers == ignore, 0, labels.layers)


def _parts(labels: LabelMap) -> NDArray[Any]:
    """The layers with another number for every label and object, the ignore value set to background."""
    layers = _without_ignored(labels)
    if labels.instances is None:
        return layers
    return np.where(labels.instances > 0, labels.instances + np.uint32(layers.max(initial=0)), layers.astype(np.uint32))


def _fullest(layers: NDArray[Any], axis: int) -> int:
    """The slice along a spatial axis with most labelled voxels; the middle one where nothing is labelled."""
    labelled = (layers > 0).any(axis=0)
    area = labelled.sum(axis=tuple(other for other in range(3) if other != axis))
    if not area.any():
        return int(labelled.shape[axis] // 2)
    return int(np.median(np.flatnonzero(area == area.max())))


def _window(volume: Volume) -> tuple[float, float]:
    """The grey values shown black and white."""
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
