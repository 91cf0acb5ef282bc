"""Charts of results: scores and sizes of labels, agreement of measurements, differences of two models, learning curves."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxelry.cohort.comparison import SIGNIFICANT, Difference
from voxelry.core.volume import LabelMap
from voxelry.errors import CorruptFileError, MissingFileError, UsageError, nearest
from voxelry.metrics.metric_table import with_unit
from voxelry.metrics.scores import Scores
from voxelry.plot.drawing import ACCENT, FAINT, INK, axes_of, new_figure, plain_axes, plain_text, size_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMITS = 1.959964
"""Standard deviations between the bias and the limits of agreement: 95 % of differences lie within (Bland and Altman 1986)."""
_HISTORY = "history.jsonl"
_LONGEST = 24
"""Characters of a name on an axis."""


def scores(scores: Scores, *, metric: str = "dice", ax: Axes | None = None) -> Figure:
    """The scores of each label over the held-out cases: a box (quartiles, median), whiskers, and a point a case.

    Args:
        scores: scores of a cohort, as `voxelry.evaluate` returns them.
        metric: a column, such as ``dice`` or ``hd95``.
        ax: axes to draw on; None makes a figure.

    Raises:
        UsageError: the metric was not measured.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.metrics.families import measure
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import scores
        >>> labels = small_phantom().labels
        >>> scores(measure(labels, labels, "case 1")).axes[0].get_ylabel()
        'dice'
    """
    table = scores.held_out.values
    if metric not in table:
        raise UsageError(f"no metric '{metric}' was measured", remedy=nearest(metric, table))
    axes = axes_of(ax, 1.5 + 0.7 * len(scores.labels), 3.6)
    _boxes(axes, {name: table[metric][:, k] for k, name in enumerate(scores.labels)})
    axes.set_ylabel(with_unit(metric))
    return cast("Figure", axes.figure)


def volumes(labels: LabelMap | Sequence[LabelMap], *, ax: Axes | None = None) -> Figure:
    """The size of each label over one or several maps: ml of volumes, mm2 of pictures, pixels where their size is unknown.

    Args:
        labels: maps of one kind; a label that a map does not have is left out of its box.
        ax: axes to draw on; None makes a figure.

    Raises:
        UsageError: no map, or volumes beside pictures.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.plot import volumes
        >>> volumes([small_phantom(seed=seed).labels for seed in (0, 1)]).axes[0].get_ylabel()
        'size (ml)'
    """
    maps = [labels] if isinstance(labels, LabelMap) else list(labels)
    units = sorted({size_unit(map)[0] for map in maps})
    if len(units) != 1:
        raise UsageError(f"maps of {len(units)} kinds of size ({', '.join(units)})", remedy="Give maps of one kind.")
    sizes: dict[str, list[float]] = {}
    for map in maps:
        for label in map.table.labels:
            voxels = np.count_nonzero(map.layers[label.layer] == label.value)
            sizes.setdefault(label.name, []).append(voxels * size_unit(map)[1] if voxels else math.nan)
    axes = axes_of(ax, 1.5 + 0.7 * len(sizes), 3.6)
    _boxes(axes, {name: np.array(values) for name, values in sizes.items()})
    axes.set_ylabel(f"size ({units[0]})")
    axes.set_ylim(bottom=0)
    return cast("Figure", axes.figure)


def bland_altman(reference: ArrayLike, prediction: ArrayLike, *, unit: str = "ml", ax: Axes | None = None) -> Figure:
    """Agreement of two measurements of the same cases: their difference against their mean, with bias and limits of agreement.

    Bland and Altman, Lancet 1986: the bias is the mean difference, the limits lie 1.96 standard deviations (n - 1) from it.

    Args:
        reference: ``(N,)`` measurements, such as volumes.
        prediction: ``(N,)`` of the same cases; pairs of which one is NaN are left out.
        unit: their unit.
        ax: axes to draw on; None makes a figure.

    Raises:
        UsageError: different numbers of measurements, or fewer than two pairs.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.plot import bland_altman
        >>> bland_altman([10, 20, 30], [11, 19, 33]).axes[0].get_xlabel()
        'mean of both (ml)'
    """
    a, b = np.asarray(reference, np.float64), np.asarray(prediction, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError(f"measurements of shapes {a.shape} and {b.shape}", remedy="Give two lists of the same cases.")
    known = ~(np.isnan(a) | np.isnan(b))
    if known.sum() < 2:
        raise UsageError(f"{int(known.sum())} pairs of measurements", remedy="Give two at least.")
    mean, difference = (a + b)[known] / 2, (b - a)[known]
    bias, spread = float(difference.mean()), LIMITS * float(difference.std(ddof=1))
    axes = axes_of(ax, 4.6, 3.6)
    axes.plot(mean, difference, "o", color=ACCENT, alpha=0.7, markeredgewidth=0)
    for value, name in ((bias, "bias"), (bias - spread, "lower limit"), (bias + spread, "upper limit")):
        axes.axhline(value, color=INK, linewidth=1, linestyle="solid" if name == "bias" else "dashed", label=name)
        axes.annotate(f"{name} {value:.3g}", (1, value), xycoords=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
    plain_axes(axes)
    axes.set_xlabel(f"mean of both ({plain_text(unit)})")
    axes.set_ylabel(f"prediction - reference ({plain_text(unit)})")
    return cast("Figure", axes.figure)


def compare(
    differences: Sequence[Difference], *, metric: str = "", names: tuple[str, str] = ("A", "B"), ax: Axes | None = None
) -> Figure:
    """The difference of two models for each label with its 95 % interval; filled where it is significant.

    Args:
        differences: as `voxelry.compare` returns them.
        metric: of which; empty takes the first.
        names: of the two models.
        ax: axes to draw on; None makes a figure.

    Raises:
        UsageError: no difference, or none in this metric.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from voxelry.cohort import Difference
        >>> from voxelry.plot import compare
        >>> row = Difference("dice", "liver", 0.9, 0.8, -0.1, -0.2, 0.0, 0.03, 0.03, n=9, missing=0, winner="A")
        >>> compare([row]).axes[0].get_xlabel()
        'dice: B - A'
    """
    known = list(dict.fromkeys(row.metric for row in differences))
    chosen = metric or next(iter(known), "")
    rows = [row for row in differences if row.metric == chosen and row.difference is not None]
    if not rows:
        raise UsageError(f"no difference in the metric '{chosen}'", remedy=nearest(chosen, known) if known else "Compare first.")
    axes = axes_of(ax, 5, 1.2 + 0.35 * len(rows))
    axes.axvline(0, color=FAINT, linewidth=1)
    for place, row in enumerate(rows):
        assert row.difference is not None
        is_significant = row.p_corrected is not None and row.p_corrected < SIGNIFICANT
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=ACCENT, linewidth=1.5)
        axes.plot(row.difference, place, "o", color=ACCENT, markerfacecolor=ACCENT if is_significant else "white")
    plain_axes(axes)
    axes.set_yticks(range(len(rows)), [_short(row.label) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{with_unit(chosen)}: {plain_text(names[1])} - {plain_text(names[0])}")
    return cast("Figure", axes.figure)


def learning(run: str | os.PathLike[str]) -> Figure:
    """The learning curves of a run: training loss, pseudo-Dice over patches and, where measured, the Dice of whole cases.

    Args:
        run: the folder that `voxelry.train` wrote, of one network or of folds; each network is a line.

    Raises:
        MissingFileError: no run is there.
        CorruptFileError: a history that cannot be read.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from pathlib import Path
        >>> from voxelry.plot import learning
        >>> line = '{"step": 10, "loss": 0.9, "pseudo_dice": 0.5, "validation": null}'
        >>> _ = Path("history.jsonl").write_text(line)
        >>> [axes.get_ylabel() for axes in learning(".").axes]
        ['training loss', 'pseudo-Dice']
    """
    histories = _histories(Path(run))
    wanted = {"loss": "training loss", "pseudo_dice": "pseudo-Dice", "validation": "Dice of whole cases"}
    lines = {
        key: {
            name: [(point["step"], point[key]) for point in points if point.get(key) is not None]
            for name, points in histories.items()
        }
        for key in wanted
    }
    shown = [key for key in wanted if any(lines[key].values())]
    figure = new_figure(4.2 * max(len(shown), 1), 3.4)
    for place, key in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        for name, points in lines[key].items():
            axes.plot(*np.array(points).reshape(-1, 2).T, linewidth=1.5, label=plain_text(name))
        plain_axes(axes)
        axes.set_xlabel("steps")
        axes.set_ylabel(wanted[key])
        if key != "loss":
            axes.set_ylim(0, 1)
    if len(histories) > 1:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _histories(run: Path) -> dict[str, list[dict[str, float | None]]]:
    """The milestones of each network of a run, by the folder that holds them."""
    files = sorted(run.rglob(_HISTORY)) if run.is_dir() else []
    if not files:
        raise MissingFileError(
            f"{run}: no {_HISTORY} of a training run is in it", remedy="Name the folder that train --out wrote."
        )
    histories: dict[str, list[dict[str, float | None]]] = {}
    for file in files:
        name = file.parent.relative_to(run).as_posix()
        try:
            histories[name] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
        except ValueError as error:
            raise CorruptFileError(f"{file}: is no history of training ({error})") from None
    return histories


def _boxes(ax: Axes, columns: Mapping[str, NDArray[np.float64]]) -> None:
    """A box and points for each column; NaN is left out."""
    values = [column[~np.isnan(column)] for column in columns.values()]
    ax.boxplot(
        values,
        showfliers=False,
        widths=0.5,
        medianprops={"color": INK},
        boxprops={"color": FAINT},
        whiskerprops={"color": FAINT},
        capprops={"color": FAINT},
    )
    for place, column in enumerate(values, start=1):
        aside = 0.28 * ((np.arange(len(column)) * 0.618034) % 1 - 0.5)  # the same in every figure, unlike random numbers
        ax.plot(place + aside, column, "o", color=ACCENT, alpha=0.6, markersize=4, markeredgewidth=0)
    plain_axes(ax)
    names = [_short(name) for name in columns]
    ax.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right", rotation_mode="anchor")


def _short(name: str) -> str:
    return plain_text(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...")
