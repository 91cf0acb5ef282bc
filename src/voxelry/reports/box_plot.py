"""Box plot as inline SVG: the scores of each label as quartiles and points, legible in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from voxelry.reports.curve import ticks_around

_LEFT, _TOP, _PLOT, _COLUMN = 52, 30, 200, 64
_LETTER, _TITLE_LETTER = 6.6, 8.6
"""Pixels of a letter of a name and of the title."""
_ANGLE = 60
"""Degrees by which names are turned."""
_ENLARGED = 1.3
"""At most, so that the words of a plot of few labels do not shout."""
_LONGEST = 24
_MOST_POINTS = 200


def box_svg(title: str, columns: Mapping[str, NDArray[np.float64]]) -> Markup:
    """A box (quartiles and median), whiskers to the extremes, and points for each column.

    Args:
        title: stands above.
        columns: name -> ``(N,)`` values; NaN is left out, and so is a column without a value.

    Returns:
        An SVG element with a text alternative; empty where no column has a value.
    """
    known = {name: values[~np.isnan(values)] for name, values in columns.items()}
    known = {name: values for name, values in known.items() if len(values)}
    if not known:
        return Markup("")
    everything = np.concatenate([*known.values()])
    ticks = ticks_around(float(everything.min()), float(everything.max()))
    bottom = _TOP + _PLOT
    shorts = {name: _shortened(name) for name in known}
    names = max(map(len, shorts.values())) * _LETTER * math.sin(math.radians(_ANGLE)) + 20

    def place(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - _TOP)

    width = max(_LEFT + _COLUMN * len(known) + 12, round(_LEFT + len(title) * _TITLE_LETTER))
    text = f"{title}: " + ", ".join(f"{name} median {np.median(values):.3g}" for name, values in known.items())
    shape = f'viewBox="0 0 {width} {bottom + names:.0f}" style="max-width: {width * _ENLARGED:.0f}px"'
    parts = [
        f'<svg class="boxes" {shape} role="img" aria-label="{escape(text)}">',
        f'<text x="{_LEFT}" y="18" class="plot-title">{escape(title)}</text>',
    ]
    for tick in ticks:
        y = place(tick)
        parts.append(f'<line x1="{_LEFT}" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number, (name, values) in enumerate(known.items()):
        middle, short = _LEFT + _COLUMN * (number + 0.5), escape(shorts[name])
        low, first, median, third, high = (place(float(q)) for q in np.percentile(values, (0, 25, 50, 75, 100)))
        parts += [
            f'<line class="whisker" x1="{middle}" x2="{middle}" y1="{low:.1f}" y2="{first:.1f}"/>',
            f'<line class="whisker" x1="{middle}" x2="{middle}" y1="{third:.1f}" y2="{high:.1f}"/>',
            f'<rect x="{middle - 16}" y="{third:.1f}" width="32" height="{first - third:.1f}"/>',
            f'<line class="median" x1="{middle - 16}" x2="{middle + 16}" y1="{median:.1f}" y2="{median:.1f}"/>',
            *_points(middle, [place(float(value)) for value in values[:_MOST_POINTS]]),
            f'<text transform="translate({middle + 4} {bottom + 14}) rotate(-{_ANGLE})" text-anchor="end">{short}</text>',
        ]
    return Markup("\n".join([*parts, "</svg>"]))


def _shortened(name: str) -> str:
    """A name that fits below its box: of a long one the beginning and the end, since labels often differ in these."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"


def _points(middle: float, heights: list[float]) -> list[str]:
    """Points spread sideways by a fixed sequence, the same on every page."""
    places = (middle + 20 * ((number * 0.618034) % 1 - 0.5) for number in range(len(heights)))
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in zip(places, heights, strict=True)]
