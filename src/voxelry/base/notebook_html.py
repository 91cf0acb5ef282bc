"""Pieces of HTML by which objects show themselves in a notebook; every text is escaped, so that a name is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

Cell = str | int | float | None
"""Text (`Markup` stays markup), a number, or None for a value that does not exist."""


def block(title: str, *parts: Markup) -> str:
    """A heading with parts below it, as `_repr_html_` returns it.

    Args:
        title: in bold.
        parts: HTML.
    """
    return str(Markup("<div><strong>{}</strong>{}</div>").format(title, Markup("").join(parts)))


def facts(rows: Iterable[tuple[str, Cell]]) -> Markup:
    """Names and values in two columns; rows whose value is None or empty are left out."""
    shown = [(name, value) for name, value in rows if value is not None and value != ""]
    return _table(Markup("").join(_row([name, value]) for name, value in shown))


def grid(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """A table with a line of headings; numbers with three decimals."""
    heads = Markup("").join(Markup('<th style="text-align:left">{}</th>').format(text) for text in head)
    return _table(Markup("<tr>{}</tr>").format(heads) + Markup("").join(map(_row, rows)))


def sentences(texts: Iterable[str]) -> Markup:
    """A list of sentences, nothing where there are none."""
    items = Markup("").join(Markup("<li>{}</li>").format(text) for text in texts)
    return Markup("<ul>{}</ul>").format(items) if items else items


def swatch(rgb: tuple[int, int, int]) -> Markup:
    """A small square of a colour.

    Args:
        rgb: 0..255.
    """
    return Markup('<span style="display:inline-block;width:1em;height:1em;background:rgb({},{},{})"></span>').format(*rgb)


def _table(rows: Markup) -> Markup:
    return Markup("<table>{}</table>").format(rows)


def _row(cells: Sequence[Cell]) -> Markup:
    return Markup("<tr>{}</tr>").format(
        Markup("").join(Markup('<td style="text-align:left">{}</td>').format(_text(cell)) for cell in cells)
    )


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else cell if isinstance(cell, str) else str(cell)
