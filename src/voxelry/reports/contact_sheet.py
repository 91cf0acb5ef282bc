"""Contact sheets: many cases on a page, each with its planes, labels drawn on, and what quality control says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from voxelry.base.files import atomic_path
from voxelry.core.labels import LabelTable
from voxelry.core.panel import panels_of
from voxelry.core.volume import LabelMap, Volume

COLUMNS, ROWS = 3, 5
"""Of cases on a sheet."""

_PANEL = (150, 150)
_PANELS = 3
_GAP = 8
_LINE = 15
_TEXT = 12
_LINES = 6
_WIDTH = _PANELS * (_PANEL[0] + 2) + _GAP
_HEIGHT = _PANEL[1] + _LINE * _LINES + 2 * _GAP
_BACKGROUND, _INK, _FAINT, _WARNING = (16, 18, 22), (226, 229, 235), (150, 156, 166), (255, 170, 70)


@dataclass(frozen=True, eq=False)
class ContactTile:
    """One case of a contact sheet.

    Attributes:
        title: its name and what is said of it in short.
        notes: sentences below its planes; those that do not fit are counted.
        picture: its planes side by side; None where there is nothing to show.
        is_marked: whether its title stands out.

    Example:
        >>> from voxelry.reports import ContactTile
        >>> ContactTile("case 1: Dice 0.71", ("liver is missing",), is_marked=True).picture is None
        True
    """

    title: str
    notes: tuple[str, ...] = ()
    picture: Image.Image | None = None
    is_marked: bool = False


def planes_picture(volume: Volume, labels: LabelMap | None) -> Image.Image:
    """The planes of a case side by side, small, labels drawn on: three of a volume, a picture without and with its labels.

    Args:
        volume: the scan; of several channels the first is shown.
        labels: brought to the scan's grid where only its axis order differs; None draws none.

    Raises:
        GridMismatchError: the labels lie on another grid.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.reports import planes_picture
        >>> phantom = small_phantom()
        >>> planes_picture(phantom.volume, phantom.labels).size
        (456, 150)
    """
    own = None if labels is None else labels.on_grid(volume.geometry)
    table = LabelTable(labels=()) if own is None else own.table
    panels = panels_of(volume, own, None)
    strip = Image.new("RGB", (_PANELS * (_PANEL[0] + 2), _PANEL[1]))
    for place, panel in enumerate(panels[:_PANELS]):
        drawn = panel.draw(table, _PANEL)
        left = place * (_PANEL[0] + 2) + (_PANEL[0] - drawn.width) // 2
        strip.paste(drawn, (left, (_PANEL[1] - drawn.height) // 2))
    return strip


def write_contact_sheets(tiles: Iterable[ContactTile], folder: Path, total: int) -> list[Path]:
    """Write ``sheet_001.png``, ``sheet_002.png``..., cases row by row in their order.

    Args:
        tiles: of the cases; those of one sheet are in memory at a time.
        folder: where; made if missing.
        total: number of cases, for the heading.

    Returns:
        The files.

    Example:
        >>> from pathlib import Path
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.reports import ContactTile, planes_picture, write_contact_sheets
        >>> phantom = small_phantom()
        >>> tile = ContactTile("case 1: Dice 0.71", ("liver is missing",), planes_picture(phantom.volume, phantom.labels), True)
        >>> [file.name for file in write_contact_sheets([tile], Path("qc"), 1)]
        ['sheet_001.png']
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left, shown = iter(tiles), 0
    while chosen := tuple(islice(left, COLUMNS * ROWS)):
        sheet = _sheet(chosen, f"cases {shown + 1} to {shown + len(chosen)} of {total}, the most doubtful first")
        shown += len(chosen)
        target = folder / f"sheet_{len(files) + 1:03d}.png"
        with atomic_path(target) as temporary:
            sheet.save(temporary, format="PNG")
        files.append(target)
    return files


def _sheet(tiles: tuple[ContactTile, ...], heading: str) -> Image.Image:
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (_GAP + columns * (_WIDTH + _GAP), 2 * _GAP + _LINE + rows * _HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), heading, fill=_FAINT, font=_font())
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        _draw(sheet, draw, tile, (_GAP + column * (_WIDTH + _GAP), 2 * _GAP + _LINE + row * _HEIGHT))
    return sheet


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: ContactTile, corner: tuple[int, int]) -> None:
    left, top = corner
    draw.text((left, top), _shortened(tile.title), fill=_WARNING if tile.is_marked else _INK, font=_font())
    top += _LINE + 2
    if tile.picture is not None:
        sheet.paste(tile.picture, (left, top))
    top += _PANEL[1] + 2
    lines = [*_wrapped(tile.notes)]
    if len(lines) > _LINES - 1:
        lines = [*lines[: _LINES - 2], f"and {len(lines) - _LINES + 2} more lines"]
    for line in lines:
        draw.text((left, top), line, fill=_FAINT, font=_font())
        top += _LINE


def _wrapped(notes: tuple[str, ...]) -> Iterator[str]:
    """Notes as lines that fit below the planes."""
    characters = int(_WIDTH / _font().getlength("n"))
    for note in notes:
        yield from wrap(note, characters, subsequent_indent="  ")


def _shortened(text: str) -> str:
    font = _font()
    while text and font.getlength(text) > _WIDTH:
        text = text[:-1]
    return text


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_TEXT)
