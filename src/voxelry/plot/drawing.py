"""New figures and axes of matplotlib, with one look for all; no global state of matplotlib is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from voxelry.base.extras import extra
from voxelry.core.labels import LabelTable
from voxelry.core.panel import Panel
from voxelry.core.volume import LabelMap
from voxelry.formats.outline import outlines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILL = 0.35
"""Opacity of the colour inside a label."""
INCHES = 3.2
"""Width and height of a plane."""
INK, FAINT, ACCENT = "#1b1f26", "#8a93a2", "#0b63b8"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that is laid out by itself, outside pyplot: it is freed with its last reference, and shown in a notebook.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    extra("matplotlib", "vx.plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from voxelry.plot.notebook_figure import NotebookFigure

    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_of(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw on: those given, or new ones on a figure of this size in inches."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def row_of_axes(count: int, columns: int | None = None, inches: float = INCHES) -> list[Axes]:
    """Axes of a new figure, side by side or in rows; those of an unfinished row are left out.

    Args:
        count: number of axes, at least 1.
        columns: axes in a row; None for all in one.
        inches: width and height of one.
    """
    wide = min(count, columns or count)
    tall = -(-count // wide)
    figure = new_figure(wide * inches, tall * inches + 0.5)
    return [figure.add_subplot(tall, wide, number + 1) for number in range(count)]


def draw_grey(ax: Axes, panel: Panel) -> None:
    """A panel's image at its true aspect ratio, with its letters and caption and without axes."""
    rows, columns = panel.grey.shape
    height, width = rows * panel.spacing[0], columns * panel.spacing[1]
    ax.imshow(panel.grey, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), aspect="equal", interpolation="nearest")
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    ax.set_title(panel.caption, fontsize=8, color=FAINT)
    draw_letters(ax, panel.letters)


def draw_letters(ax: Axes, letters: str) -> None:
    """The directions at the left, right, top and bottom edge, white with a black rim so that they show on any image."""
    from matplotlib.patheffects import withStroke

    places: list[tuple[float, float, Any, Any]] = [
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    ]
    rim = [withStroke(linewidth=2, foreground="black")]
    for letter, (x, y, across, up) in zip(letters, places, strict=False):
        ax.text(x, y, letter, transform=ax.transAxes, ha=across, va=up, color="white", fontsize=10, path_effects=rim)


def draw_fills(ax: Axes, panel: Panel, table: LabelTable) -> None:
    """The inside of labels in their colours, half transparent; objects that are told apart in colours of their own."""
    rows, columns = panel.grey.shape
    for layer, values in enumerate(panel.layers):
        colours, inside = _colours(values, table, layer)
        if panel.ids is not None:
            panel.colours.paint(colours, panel.ids[layer])
        rgba = np.dstack([colours, inside * (FILL * 255)]).astype(np.uint8)
        extent = (0, columns * panel.spacing[1], rows * panel.spacing[0], 0)
        ax.imshow(rgba, extent=extent, aspect="equal", interpolation="nearest")


def draw_outlines(ax: Axes, panel: Panel, table: LabelTable) -> None:
    """The edges of labels in their colours, a line along voxel sides; of objects where they are told apart."""
    for layer, values in enumerate(panel.layers):
        for label in table.labels:
            if label.layer != layer:
                continue
            mask = values == label.value
            numbers = [0] if panel.ids is None else np.unique(panel.ids[layer][mask]).tolist()
            for number in numbers:
                own = mask if panel.ids is None else mask & (panel.ids[layer] == number)
                colour = panel.colours.by_id.get(number, label.rgb)
                _outline(ax, own, panel.spacing, unit_rgb(colour))


def draw_reference(ax: Axes, panel: Panel) -> None:
    """The edges of the reference, dashed white on black."""
    if panel.reference is None:
        return
    for values in panel.reference:
        for number in np.unique(values[values > 0]).tolist():
            _outline(ax, values == number, panel.spacing, (0.0, 0.0, 0.0), width=1.6)
            _outline(ax, values == number, panel.spacing, (1.0, 1.0, 1.0), (0, (3, 2)), 1.0)


def draw_legend(figure: Figure, names: Sequence[tuple[str, tuple[int, int, int]]], with_reference: bool) -> None:
    """Names and colours of labels below a figure, and the dashed line of the reference."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=unit_rgb(rgb), label=plain_text(name)) for name, rgb in names]
    if with_reference:
        handles.append(Line2D([], [], color="black", linestyle=(0, (3, 2)), label="reference"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False, fontsize=8)


def plain_axes(ax: Axes) -> None:
    """Axes without a box, with faint lines across."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#d9dde4", linewidth=0.6)
    ax.set_axisbelow(True)


def plain_text(text: str) -> str:
    """Text that matplotlib takes for no formula; a name that begins with _ would be left out of a legend."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def size_unit(labels: LabelMap) -> tuple[str, float]:
    """The unit of a map's sizes (ml, mm2 or pixels), and the size of one voxel in it."""
    cell = labels.geometry.voxel_volume
    return ("pixels", 1.0) if cell is None else ("ml", cell / 1000) if labels.geometry.ndim == 3 else ("mm2", cell)


def unit_rgb(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """0..255 -> 0..1."""
    return rgb[0] / 255, rgb[1] / 255, rgb[2] / 255


def _colours(values: NDArray[Any], table: LabelTable, layer: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """``(rows, cols, 3)`` colours of a layer, and where labels are."""
    colours = np.zeros((*values.shape, 3), np.float32)
    inside = np.zeros(values.shape, np.bool_)
    for label in table.labels:
        if label.layer == layer:
            colours[values == label.value] = label.rgb
            inside |= values == label.value
    return colours, inside


def _outline(
    ax: Axes,
    mask: NDArray[np.bool_],
    spacing: tuple[float, float],
    colour: tuple[float, float, float],
    style: Any = "solid",
    width: float = 1.2,
) -> None:
    """Lines along the sides of voxels between a mask, ``(rows, cols)``, and what is not of it."""
    from matplotlib.collections import LineCollection

    step = np.array([spacing[1], spacing[0]])
    lines = [np.concatenate([ring, ring[:1]]) * step + step / 2 for ring in _rings(mask)]
    if lines:
        ax.add_collection(LineCollection(lines, colors=[colour], linewidths=width, linestyles=[style]), autolim=False)


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed lines around the parts of a mask and around its holes, without the keyholes of polygons that are to be filled."""
    if not mask.any():
        return []
    filled = binary_fill_holes(mask)
    return [*outlines(filled.T), *_rings(filled & ~mask)]
