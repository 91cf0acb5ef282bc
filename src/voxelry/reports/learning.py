"""Learning curves of a run as files: an HTML page and one SVG picture, without scripts or network access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup, escape

from voxelry.base.files import write_text
from voxelry.reports.curve import HEIGHT, WIDTH, CurvePoint, curve_svgs, line_svg
from voxelry.training.run_files import CURVE_FILES

if TYPE_CHECKING:
    from voxelry.training.checkpoint import Milestone

_HEADING = 26
_STYLE = """\
text { font-family: system-ui, sans-serif; font-size: 12px; fill: #667; }
text.plot-title, text.heading { font-size: 14px; font-weight: 600; fill: #223; }
.grid { stroke: #dde; } .line { fill: none; stroke: #2a6fdb; stroke-width: 2; stroke-linejoin: round; } .end { fill: #2a6fdb; }
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; background: #fff; color: #223; }
.curves { display: flex; flex-wrap: wrap; gap: 1rem; } .curve { flex: 1 1 18rem; max-width: 29rem; height: auto; }"""


class WholePoint(CurvePoint, Protocol):
    """A point with the Dice of whole cases, such as `voxelry.training.checkpoint.Milestone`."""

    @property
    def validation(self) -> float | None:
        """Mean Dice of whole validation cases, 0..1, or None where it was not measured."""


def write_curves(histories: Mapping[str, Sequence[Milestone]], folder: Path, title: str) -> tuple[Path, Path]:
    """Draw loss, pseudo-Dice and, where it was measured, the Dice of whole cases, each against steps.

    Args:
        histories: milestones of each network, by its name.
        folder: where `curves.html` and `curves.svg` are written.
        title: title of the page.

    Returns:
        The page and the picture.
    """
    plots = {name: learning_svgs(points) for name, points in histories.items()}
    page, picture = (folder / name for name in CURVE_FILES)
    write_text(page, _page(plots, title))
    write_text(picture, _picture(plots))
    return page, picture


def learning_svgs(points: Sequence[WholePoint]) -> list[Markup]:
    """Plots of the loss, of pseudo-Dice, and of the Dice of whole validation cases where it was measured.

    Args:
        points: milestones of a network.
    """
    whole = [(point.step, point.validation) for point in points if point.validation is not None]
    return curve_svgs(points) + ([line_svg("Dice of whole validation cases", whole, (0.0, 1.0))] if whole else [])


def _page(plots: Mapping[str, Sequence[Markup]], title: str) -> str:
    parts = [f'<h2>{escape(name)}</h2>\n<div class="curves">\n' + "\n".join(svgs) + "\n</div>" for name, svgs in plots.items()]
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>'
    body = f"<h1>{escape(title)}</h1>\n" + "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _picture(plots: Mapping[str, Sequence[Markup]]) -> str:
    """A row of plots for each network."""
    row = HEIGHT + _HEADING
    width, height = WIDTH * max((len(svgs) for svgs in plots.values()), default=1), row * len(plots)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<style>{_STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (name, svgs) in enumerate(plots.items()):
        parts.append(f'<text x="8" y="{number * row + 18}" class="heading">{escape(name)}</text>')
        for column, svg in enumerate(svgs):
            place = f'x="{column * WIDTH}" y="{number * row + _HEADING}" width="{WIDTH}" height="{HEIGHT}"'
            parts.append(svg.replace("<svg ", Markup(f"<svg {place} "), 1))
    return "\n".join([*parts, "</svg>"]) + "\n"
