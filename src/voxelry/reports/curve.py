"""Learning curve as inline SVG: without scripts or network access, legible in light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 220
"""Of a plot, in pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 30, 38
_POINTS = 300


class CurvePoint(Protocol):
    """Fields that the curve reads of an entry of a training log, such as `voxelry.training.checkpoint.Milestone`."""

    @property
    def step(self) -> int:
        """Optimiser steps done."""

    @property
    def loss(self) -> float | None:
        """The training loss, or None where it was not measured."""

    @property
    def pseudo_dice(self) -> float | None:
        """Dice over patches of the validation cases, 0..1, or None where it was not measured."""


def curve_svgs(points: Sequence[CurvePoint]) -> list[Markup]:
    """A plot of the loss and one of the pseudo-Dice, each against steps; a plot without values is left out.

    Args:
        points: the training log, in any order.

    Returns:
        SVG elements, escaped for a page.
    """
    ordered = sorted(points, key=lambda point: point.step)
    loss = [(p.step, p.loss) for p in ordered if p.loss is not None and math.isfinite(p.loss)]
    dice = [(p.step, p.pseudo_dice) for p in ordered if p.pseudo_dice is not None and math.isfinite(p.pseudo_dice)]
    plots = [("Training loss", loss, None), ("Pseudo-Dice over patches", dice, (0.0, 1.0))]
    return [line_svg(title, line, limits) for title, line, limits in plots if line]


def line_svg(title: str, line: Sequence[tuple[float, float]], limits: tuple[float, float] | None = None) -> Markup:
    """One line as an SVG element with axes, ticks and a text alternative.

    Args:
        title: stands above the plot.
        line: ``(x, y)`` points, x ascending, at least one.
        limits: the y axis' ends; None takes round numbers around the values.
    """
    thin = _thinned(line)
    x_ticks = ticks_around(0, max(x for x, _ in thin))
    y_ticks = ticks_around(*(limits or (min(y for _, y in thin), max(y for _, y in thin))))
    x_place = _scale(x_ticks, _LEFT, WIDTH - _RIGHT)
    y_place = _scale(y_ticks, HEIGHT - _BOTTOM, _TOP)
    path = " ".join(f"{x_place(x):.1f},{y_place(y):.1f}" for x, y in thin)
    last_x, last_y = line[-1]
    text = f"{title}: from {line[0][1]:.3g} at step {line[0][0]} to {last_y:.3g} at step {last_x}"
    elements = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(text)}">',
        f'<text x="{_LEFT}" y="18" class="plot-title">{escape(title)}</text>',
    ]
    for tick in y_ticks:
        y = y_place(tick)
        elements.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        elements.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    elements += [f'<text x="{x_place(t):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{t:g}</text>' for t in x_ticks]
    elements.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">steps</text>')
    elements.append(f'<polyline points="{path}" class="line"/>')
    elements.append(f'<circle cx="{x_place(thin[-1][0]):.1f}" cy="{y_place(thin[-1][1]):.1f}" r="3.5" class="end"/></svg>')
    return Markup("\n".join(elements))


def _thinned(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_POINTS` points, each the mean of a run of points, the last in its own place."""
    if len(line) <= _POINTS:
        return list(line)
    size = math.ceil(len(line) / _POINTS)
    runs = [line[start : start + size] for start in range(0, len(line), size)]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


def ticks_around(low: float, high: float) -> list[float]:
    """Three to seven round numbers whose ends enclose `low` and `high`."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        margin = abs(high) / 20 if abs(high) > 1e-6 else 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _scale(ticks: list[float], start: float, end: float) -> Callable[[float], float]:
    """A linear map that puts the first tick at `start` and the last at `end`."""
    factor = (end - start) / (ticks[-1] - ticks[0])
    return lambda value: start + (value - ticks[0]) * factor
