"""Histograms of many cases on one axis as inline SVG: a line for each, so that those unlike the others stand out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from voxelry.datasets.case_profile import GreyProfile
from voxelry.reports.curve import ticks_around

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 240, 12, 14, 30, 26


def histograms_svg(histograms: Sequence[GreyProfile]) -> Markup:
    """The grey values of one channel over all cases.

    Args:
        histograms: of each case, at least one.

    Returns:
        An SVG element with a text alternative; each line's height is relative to its own highest bin.
    """
    name = f"Grey values of {histograms[0].channel}"
    ticks = ticks_around(min(each.low for each in histograms), max(each.high for each in histograms))
    floor = _HEIGHT - _BOTTOM

    def across(value: float) -> float:
        return _LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - _LEFT - _RIGHT)

    medians = [each.median for each in histograms]
    text = f"{name} of {len(histograms)} cases: medians from {min(medians):.4g} to {max(medians):.4g}"
    parts = [
        f'<svg class="histograms" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(text)}">',
        f'<text x="{_LEFT}" y="18" class="plot-title">{escape(name)}, a line for each case</text>',
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}" class="grid"/>',
    ]
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"]
    for tick, anchor in zip(ticks, anchors, strict=True):
        parts.append(f'<text x="{across(tick):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{tick:g}</text>')
    for each in histograms:
        centres = np.linspace(each.low, each.high, 2 * len(each.shares) + 1)[1::2]
        heights = floor - each.shares / max(float(each.shares.max()), 1e-12) * (floor - _TOP)
        path = " ".join(f"{across(float(x)):.0f},{y:.0f}" for x, y in zip(centres, heights, strict=True))
        parts.append(f'<polyline points="{path}" class="line"/>')
    return Markup("\n".join([*parts, "</svg>"]))
