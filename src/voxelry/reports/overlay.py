"""Overlay picture of a case: planes of the scan with labels drawn on, the reference as a dashed outline, and a legend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from voxelry.base.files import atomic_path
from voxelry.core.labels import Label
from voxelry.core.panel import Panel, panels_of
from voxelry.core.volume import LabelMap, Volume

_BOX = (420, 360)
_PICTURE_BOX = (630, 540)
_GAP = 12
_LINE = 24
_TEXT = 14
_BACKGROUND = (16, 18, 22)
_INK = (226, 229, 235)
_FAINT = (150, 156, 166)
_INDENT = 22
_LEGEND_ROWS = 5

_LegendEntry = tuple[str, tuple[int, int, int] | None]
"""A legend entry: its text and colour, None for the dashed line of the reference."""


def overlay_png(
    volume: Volume,
    labels: LabelMap,
    path: str | os.PathLike[str],
    *,
    reference: LabelMap | None = None,
    title: str = "",
) -> Path:
    """Draw a case's labels on its image and write the picture as PNG.

    Volumes are shown in three planes through the most labelled slices, by radiological convention and at true aspect ratio;
    pictures with and without labels. Several objects of one label (`LabelMap.instances`) have colours of their own. CT is
    shown in a soft-tissue window, all else between its 0.5 and 99.5 percentiles.

    Args:
        volume: the image; of several channels the first is shown.
        labels: the prediction; brought to the image's grid where only its axis order differs.
        path: the PNG file to write.
        reference: drawn as a dashed outline over the prediction.
        title: a line above the picture.

    Returns:
        The path written.

    Raises:
        GridMismatchError: the labels or the reference lie on another grid.
        ReadError: the image cannot be decoded.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.reports import overlay_png
        >>> phantom = small_phantom()
        >>> overlay_png(phantom.volume, phantom.labels, "overlay.png").name
        'overlay.png'
    """
    picture = overlay_picture(volume, labels, reference=reference, title=title)
    target = Path(path)
    with atomic_path(target) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    return target


def overlay_picture(
    volume: Volume, labels: LabelMap, *, reference: LabelMap | None = None, title: str = "", through: LabelMap | None = None
) -> Image.Image:
    """What `overlay_png` writes.

    Args:
        volume: the image.
        labels: the prediction.
        reference: drawn as a dashed outline over the prediction.
        title: a line above the picture.
        through: labels whose slices are shown, in place of those of `labels`.

    Raises:
        GridMismatchError: the labels or the reference lie on another grid.
        ReadError: the image cannot be decoded.
    """
    own = labels.on_grid(volume.geometry)
    other, guide = (None if each is None else each.on_grid(volume.geometry) for each in (reference, through))
    return _montage(panels_of(volume, own, other, guide), own, title, reference is not None)


def _montage(panels: list[Panel], labels: LabelMap, title: str, with_reference: bool) -> Image.Image:
    """Title, panels side by side, captions, legend."""
    box = _BOX if len(panels) > 2 else _PICTURE_BOX
    width = _GAP + len(panels) * (box[0] + _GAP)
    legend = _legend(_shown(panels, labels), panels[-1].colours.counts, with_reference, width - 2 * _GAP)
    top = _GAP + (_LINE if title else 0)
    canvas = Image.new("RGB", (width, top + box[1] + _LINE + _GAP + legend.height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((_GAP, _GAP), _cut(title, width - 2 * _GAP), fill=_INK, font=_font(_TEXT + 2))
    for place, panel in enumerate(panels):
        left = _GAP + place * (box[0] + _GAP)
        _put(canvas, panel, labels, (left, top), box)
    canvas.paste(legend, (_GAP, top + box[1] + _LINE + _GAP))
    return canvas


def _put(canvas: Image.Image, panel: Panel, labels: LabelMap, corner: tuple[int, int], box: tuple[int, int]) -> None:
    """Draw a panel in the middle of its box on the canvas, with its letters and caption."""
    picture = panel.draw(labels.table, box)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((*corner, corner[0] + box[0] - 1, corner[1] + box[1] - 1), fill=(0, 0, 0))
    canvas.paste(picture, (corner[0] + (box[0] - picture.width) // 2, corner[1] + (box[1] - picture.height) // 2))
    middle, half = corner[0] + box[0] // 2, corner[1] + box[1] // 2
    places = [
        (corner[0] + 6, half, "lm"),
        (corner[0] + box[0] - 6, half, "rm"),
        (middle, corner[1] + 5, "ma"),
        (middle, corner[1] + box[1] - 5, "md"),
    ]
    for letter, (x, y, anchor) in zip(panel.letters, places, strict=False):
        draw.text((x, y), letter, fill=_INK, font=_font(_TEXT + 2), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    draw.text((middle, corner[1] + box[1] + 5), panel.caption, fill=_FAINT, font=_font(_TEXT), anchor="ma")


def _shown(panels: list[Panel], labels: LabelMap) -> list[Label]:
    """Labels that are visible on any panel, in the table's order."""
    return [
        label
        for label in labels.table.labels
        if any(label.layer < len(panel.layers) and (panel.layers[label.layer] == label.value).any() for panel in panels)
    ]


def _legend(labels: list[Label], counts: Mapping[str, int], with_reference: bool, width: int) -> Image.Image:
    """A strip with each label's colour and name, and how many objects of it have colours of their own.

    Entries are wrapped to the width; those beyond the last row are counted.
    """
    texts = [f"{label.name}: {counts[label.name]} objects" if label.name in counts else label.name for label in labels]
    entries: list[_LegendEntry] = [(text, label.rgb) for text, label in zip(texts, labels, strict=True)]
    entries = entries or [("nothing labelled", _BACKGROUND)]
    if with_reference:
        entries.insert(0, ("reference (dashed)", None))
    rows = _wrapped(entries, width)
    left_out = sum(len(row) for row in rows[_LEGEND_ROWS:])
    strip = Image.new("RGB", (width, _LINE * (min(len(rows), _LEGEND_ROWS) + bool(left_out))), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for line, row in enumerate(rows[:_LEGEND_ROWS]):
        for x, (name, colour) in row:
            _swatch(draw, (x, line * _LINE + 5), colour)
            draw.text((x + _INDENT, line * _LINE + 4), name, fill=_INK, font=_font(_TEXT))
    if left_out:
        draw.text((0, _LEGEND_ROWS * _LINE + 4), f"and {left_out} more", fill=_FAINT, font=_font(_TEXT))
    return strip


def _wrapped(entries: list[_LegendEntry], width: int) -> list[list[tuple[int, _LegendEntry]]]:
    """The legend's entries in rows, each entry with its left edge in pixels."""
    rows: list[list[tuple[int, _LegendEntry]]] = [[]]
    x = 0
    for name, colour in entries:
        short = _cut(name, width // 2)
        wide = _INDENT + int(_font(_TEXT).getlength(short))
        if rows[-1] and x + wide > width:
            rows.append([])
            x = 0
        rows[-1].append((x, (short, colour)))
        x += wide + 20
    return rows


def _swatch(draw: ImageDraw.ImageDraw, corner: tuple[int, int], colour: tuple[int, int, int] | None) -> None:
    """A square of the colour, or a dashed line for the reference (None)."""
    x, y = corner
    if colour is not None:
        draw.rectangle((x, y, x + 14, y + 14), fill=colour)
        return
    for start in range(0, 16, 6):
        draw.line((x + start, y + 7, x + start + 3, y + 7), fill=(255, 255, 255), width=2)


def _cut(text: str, width: int) -> str:
    """`text`, its end replaced by dots where it is wider than `width` pixels."""
    font = _font(_TEXT + 2)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size=size)
