"""Figures of scans: labels as colours or outlines on planes and on slices, and objects with their numbers and sizes.

Volumes are shown by radiological convention (the patient's right at the left) at true aspect ratio, with letters of the
directions at the edges. Pictures are shown as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, cast

import numpy as np

from voxelry.core.labels import Label, LabelTable
from voxelry.core.objects import objects_of
from voxelry.core.panel import PLANES, CutScan, Panel, panels_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import UsageError
from voxelry.metrics.segmentation_task import labels_of_task
from voxelry.plot.drawing import (
    FAINT,
    draw_fills,
    draw_grey,
    draw_legend,
    draw_outlines,
    draw_reference,
    new_figure,
    plain_axes,
    plain_text,
    row_of_axes,
    size_unit,
    unit_rgb,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Draw = Callable[["Axes", Panel, LabelTable], None]
_SLICE_INCHES = 2.0


def overlay(
    volume: Volume,
    labels: LabelMap,
    *,
    reference: LabelMap | None = None,
    plane: str | None = None,
    index: int | None = None,
    title: str = "",
) -> Figure:
    """Labels in their colours on the image, and the outline of a reference.

    Args:
        volume: the image; of several channels the first is shown, of a colour picture the mean.
        labels: on the image's grid, whatever the order of its axes.
        reference: drawn as a dashed outline.
        plane: ``axial``, ``coronal`` or ``sagittal``; None shows the three.
        index: number of the slice from 0, counted from the head, the front or the patient's right; None takes the slice with
            most labelled voxels.
        title: stands above.

    Returns:
        A figure; ``.savefig("a.pdf")`` writes it.

    Raises:
        GridMismatchError: the labels or the reference lie on another grid.
        UsageError: no such plane or slice, or a plane of a picture.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import overlay
        >>> phantom = small_phantom()
        >>> [axes.get_title() for axes in overlay(phantom.volume, phantom.labels, plane="axial").axes]
        ['axial 7 of 16']
    """
    return _figure(volume, labels, reference, plane, index, title, _fill_and_edge)


def contours(
    volume: Volume,
    labels: LabelMap,
    *,
    reference: LabelMap | None = None,
    plane: str | None = None,
    index: int | None = None,
    title: str = "",
) -> Figure:
    """Labels as outlines along voxel sides, so that the image stays visible inside; otherwise as `overlay`.

    Args:
        volume: the image.
        labels: on the image's grid.
        reference: drawn as a dashed outline.
        plane: as for `overlay`.
        index: as for `overlay`.
        title: stands above.

    Raises:
        GridMismatchError: the labels or the reference lie on another grid.
        UsageError: no such plane or slice, or a plane of a picture.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import contours
        >>> phantom = small_phantom("chest-xray")
        >>> len(contours(phantom.volume, phantom.labels).axes)
        2
    """
    return _figure(volume, labels, reference, plane, index, title, draw_outlines)


def montage(
    volume: Volume,
    labels: LabelMap | None = None,
    *,
    reference: LabelMap | None = None,
    plane: str = "axial",
    slices: int | Sequence[int] = 12,
    columns: int = 6,
    title: str = "",
) -> Figure:
    """Slices of a volume side by side, from the head, the front or the patient's right on.

    Args:
        volume: the image.
        labels: on the image's grid; None shows the image alone.
        reference: drawn as a dashed outline.
        plane: ``axial``, ``coronal`` or ``sagittal``.
        slices: how many, at even distances across the labelled ones, or their numbers from 0.
        columns: slices in a row.
        title: stands above.

    Raises:
        GeometryError: a picture, which has no slices.
        GridMismatchError: the labels or the reference lie on another grid.
        UsageError: no such plane or slice, or none at all.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import montage
        >>> phantom = small_phantom()
        >>> len(montage(phantom.volume, phantom.labels, slices=4).axes)
        4
    """
    own, other = (None if map is None else map.on_grid(volume.geometry) for map in (labels, reference))
    scan = CutScan.of(volume, own, other)
    if isinstance(slices, int):
        if slices < 1:
            raise UsageError(f"{slices} slices", remedy="Ask for one at least.")
        chosen = scan.spread(plane, slices)
    else:
        chosen = list(slices)
    if not chosen or columns < 1:
        raise UsageError(f"{len(chosen)} slices in {columns} columns", remedy="Ask for one at least.")
    panels = [scan.panel(plane, number) for number in chosen]
    axes = row_of_axes(len(panels), columns, _SLICE_INCHES)
    return _drawn(axes, panels, own, other is not None, title, _fill_and_edge)


def instances(volume: Volume, labels: LabelMap, *, plane: str = "axial", title: str = "") -> Figure:
    """Objects in colours of their own with their numbers, and the sizes of all objects.

    Args:
        volume: the image.
        labels: on the image's grid; without instance ids objects are connected components, of things or, where the table has
            none, of every label, and the figure says so.
        plane: the plane that is shown of a volume, through the slice with most labelled voxels.
        title: stands above.

    Returns:
        The picture at the left, at the right for each label a row of points: the size of each object in ml, mm2 or pixels.

    Raises:
        UsageError: no such plane.
        GridMismatchError: the labels lie on another grid.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import instances
        >>> phantom = small_phantom()
        >>> instances(phantom.volume, phantom.labels).axes[1].get_xlabel()
        'size (ml)'
    """
    own, how = labels_of_task(labels.on_grid(volume.geometry), "instance")
    panel = panels_of(volume, own, None)[-1] if volume.geometry.affine is None else CutScan.of(volume, own).panel(plane)
    figure = new_figure(8, 4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    _draw([left], [panel], own.table, _fill_and_edge)
    _number_objects(left, panel)
    _draw_sizes(right, own)
    right.set_title("\n".join(wrap(how, 60)), fontsize=7, color=FAINT)
    figure.suptitle(plain_text(title))
    return figure


def _figure(
    volume: Volume,
    labels: LabelMap,
    reference: LabelMap | None,
    plane: str | None,
    index: int | None,
    title: str,
    draw: _Draw,
) -> Figure:
    """The planes of a case, drawn by `draw`."""
    own = labels.on_grid(volume.geometry)
    other = None if reference is None else reference.on_grid(volume.geometry)
    if plane is None and index is not None:
        raise UsageError(f"slice {index} of no plane", remedy=f"Name a plane: {', '.join(PLANES)}.")
    panels = panels_of(volume, own, other) if plane is None else [CutScan.of(volume, own, other).panel(plane, index)]
    return _drawn(row_of_axes(len(panels)), panels, own, other is not None, title, draw)


def _drawn(
    axes: Sequence[Axes], panels: Sequence[Panel], labels: LabelMap | None, with_reference: bool, title: str, draw: _Draw
) -> Figure:
    """Panels on axes, with a legend and a title."""
    table = LabelTable(labels=()) if labels is None else labels.table
    _draw(axes, panels, table, draw)
    figure = cast("Figure", axes[0].figure)
    draw_legend(figure, [(label.name, label.rgb) for label in table.labels if _is_shown(label, panels)], with_reference)
    figure.suptitle(plain_text(title))
    return figure


def _draw(axes: Sequence[Axes], panels: Sequence[Panel], table: LabelTable, draw: _Draw) -> None:
    for ax, panel in zip(axes, panels, strict=True):
        draw_grey(ax, panel)
        draw(ax, panel, table)
        draw_reference(ax, panel)


def _fill_and_edge(ax: Axes, panel: Panel, table: LabelTable) -> None:
    draw_fills(ax, panel, table)
    draw_outlines(ax, panel, table)


def _is_shown(label: Label, panels: Sequence[Panel]) -> bool:
    return any(label.layer < len(panel.layers) and (panel.layers[label.layer] == label.value).any() for panel in panels)


def _number_objects(ax: Axes, panel: Panel) -> None:
    """The id of each object in the middle of what is seen of it."""
    for ids in () if panel.ids is None else panel.ids:
        for number in np.unique(ids[ids > 0]).tolist():
            row, column = (float(places.mean()) + 0.5 for places in np.nonzero(ids == number))
            place = (column * panel.spacing[1], row * panel.spacing[0])
            ax.text(*place, str(number), color="white", fontsize=7, ha="center", va="center", fontweight="bold")


def _draw_sizes(ax: Axes, labels: LabelMap) -> None:
    """A row of points for each label that has objects."""
    unit, scale = size_unit(labels)
    sizes: dict[str, list[float]] = {}
    colours: dict[str, tuple[float, float, float]] = {}
    for item in objects_of(labels, labels.source.name):
        if item.instance and item.voxels:
            sizes.setdefault(item.label.name, []).append(item.voxels * scale)
            colours[item.label.name] = unit_rgb(item.label.rgb)
    for place, (name, values) in enumerate(sizes.items()):
        ax.plot(values, np.full(len(values), place), "o", color=colours[name], alpha=0.7, markeredgewidth=0)
    plain_axes(ax)
    ax.set_yticks(range(len(sizes)), [f"{plain_text(name)} ({len(values)})" for name, values in sizes.items()])
    ax.set_ylim(-0.7, max(len(sizes), 1) - 0.3)
    ax.set_xlabel(f"size ({unit})")
    ax.set_xlim(left=0)
