"""A scan or label map in a notebook: its planes as a picture, and tables of facts and labels."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from voxelry.base.notebook_html import Cell, block, facts, grid, sentences, swatch
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.object_palette import Labelled
from voxelry.core.panel import Pictured, panels_of
from voxelry.errors import VoxelryError

_BOX = (260, 220)
"""Of a plane, in pixels."""


@dataclass(frozen=True, eq=False)
class _Black:
    """An image of nothing, to draw labels on."""

    geometry: Geometry
    modality: str = ""

    @property
    def array(self) -> NDArray[np.uint8]:
        return np.broadcast_to(np.uint8(0), (1, *self.geometry.shape))


def volume_html(volume: Pictured, name: str, remarks: Sequence[str]) -> str:
    """An image: planes and facts; pixels that cannot be decoded are a sentence.

    Args:
        volume: the image.
        name: where it came from.
        remarks: the reader's.
    """
    title, about = f"Volume {name}", _facts(volume.geometry, ("modality", volume.modality))
    try:
        return block(title, _planes(volume, None), about, sentences(remarks))
    except VoxelryError as error:
        return block(title, about, sentences([str(error)]))


def label_map_html(labels: Labelled, title: str, confidence: Mapping[str, float | None] | None = None) -> str:
    """A label map: planes, facts and a table of labels.

    Args:
        labels: a label map.
        title: stands above.
        confidence: label name -> 0..1, shown in the table.
    """
    return block(title, _planes(_Black(labels.geometry), labels), _facts(labels.geometry), _labels(labels, confidence))


def _planes(volume: Pictured, labels: Labelled | None) -> Markup:
    """The planes of a case as pictures, the letters of its directions below each.

    Args:
        volume: the image.
        labels: drawn on it, on its grid, or None.
    """
    table = LabelTable(labels=()) if labels is None else labels.table
    figures = []
    for panel in panels_of(volume, labels, None):
        with io.BytesIO() as file:
            panel.draw(table, _BOX).save(file, format="PNG")
            data = base64.b64encode(file.getvalue()).decode()
        sides = f", {panel.letters[0]} at the left, {panel.letters[2]} on top" if panel.letters else ""
        figures.append(
            Markup(
                '<figure style="display:inline-block;margin:4px"><img alt="{0}" src="data:image/png;base64,{1}">'
                "<figcaption>{0}</figcaption></figure>"
            ).format(panel.caption + sides, data)
        )
    return Markup("<div>{}</div>").format(Markup("").join(figures))


def _facts(geometry: Geometry, *more: tuple[str, Cell]) -> Markup:
    """Shape, spacing and orientation of a grid, and further facts."""
    spacing = None if geometry.spacing is None else " x ".join(f"{step:.4g}" for step in geometry.spacing) + " mm"
    shape = " x ".join(map(str, geometry.shape))
    return facts([("shape", shape), ("spacing", spacing), ("orientation", geometry.orientation), *more])


def _labels(labels: Labelled, confidence: Mapping[str, float | None] | None) -> Markup:
    """Each label with its colour, voxels, size, objects where they have ids, and confidence where it is given.

    Args:
        labels: a label map.
        confidence: label name -> 0..1.
    """
    cell = labels.geometry.voxel_volume
    unit, scale = ("ml", 1000.0) if labels.geometry.ndim == 3 else ("mm2", 1.0)
    head = ["", "label", "value", "voxels", *([unit] if cell else []), *(["objects"] if labels.instances is not None else [])]
    rows: list[list[Cell]] = []
    for label in labels.table.labels:
        mask = labels.layers[label.layer] == label.value
        voxels = int(np.count_nonzero(mask))
        row: list[Cell] = [swatch(label.rgb), label.name, label.value, voxels]
        row += [voxels * cell / scale] if cell else []
        if labels.instances is not None:
            row += [len(np.setdiff1d(labels.instances[label.layer][mask], 0))]
        rows.append([*row, confidence.get(label.name)] if confidence else row)
    return grid([*head, "confidence"] if confidence else head, rows)
