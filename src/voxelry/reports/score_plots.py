"""Scores on a page: means with intervals, metrics of all cases taken together, and box plots of each label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from voxelry.cohort.statistics import bootstrap
from voxelry.metrics.metric_table import metric_named, with_unit
from voxelry.metrics.scores import TRAINING
from voxelry.reports.box_plot import box_svg
from voxelry.reports.tables import interval

BOXED = ("dice", "nsd", "hd95", "volume_error", "lesion_f1")
"""Metrics that have a box plot, where they were measured."""

Rows = list[list[str]]


def _held_out(scores: pl.DataFrame) -> pl.DataFrame:
    """Without the cases of training, where there are others."""
    if "split" not in scores.columns:
        return scores
    others = scores.filter(pl.col("split") != TRAINING)
    return others if len(others) else scores


def _columns(scores: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Metric, label and rows of each column of numbers that is a metric's."""
    labels = _held_out(scores).partition_by("label", as_dict=True, maintain_order=True)
    for metric in (name for name in scores.columns if metric_named(name) is not None):
        for (label,), rows in labels.items():
            yield metric, str(label), rows


def _values(rows: pl.DataFrame, metric: str) -> Any:
    return rows[metric].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def mean_rows(scores: pl.DataFrame | None) -> tuple[list[str], Rows]:
    """Headings, and a row for each label: the mean of each metric with its interval, and how many cases have a score.

    Args:
        scores: rows as `voxelry.cohort.comparison.read_scores` gives them, or None.
    """
    rows: dict[str, list[str]] = {}
    metrics: dict[str, None] = {}
    for metric, label, own in _columns(scores) if scores is not None else ():
        mean = bootstrap(_values(own, metric), own["group" if "group" in own.columns else "case"].to_list())
        plain = {name: None if np.isnan(value) else value for name, value in vars(mean).items()}
        of = f" ({mean.n} of {mean.n + mean.missing})" if mean.missing else ""
        rows.setdefault(label, [label]).append(_unbroken(interval(plain)) + of)
        metrics[with_unit(metric)] = None
    return ["label", *metrics], [*rows.values()]


def _unbroken(text: str) -> str:
    """A mean and its interval, whose line may break before the interval and not within."""
    return text.replace(", ", ",\u00a0")


def pooled_rows(pooled: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> tuple[list[str], Rows]:
    """Headings, and a row for each label: each metric of all cases taken together, with its interval.

    Args:
        pooled: metric -> label -> ``mean``, ``low``, ``high``.
    """
    labels = dict.fromkeys(label for row in pooled.values() for label in row)
    nothing: dict[str, float | None] = {"mean": None, "low": None, "high": None}
    rows = [[label, *(_unbroken(interval(row.get(label, nothing))) for row in pooled.values())] for label in labels]
    return ["label", *map(with_unit, pooled)], rows


def score_boxes(scores: pl.DataFrame | None, more: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
    """A box plot for each of the main metrics, and for other values.

    Args:
        scores: as of `mean_rows`.
        more: title -> label -> ``(N,)`` values.
    """
    plots: dict[str, dict[str, Any]] = {}
    for metric, label, rows in _columns(scores) if scores is not None else ():
        if metric in BOXED:
            plots.setdefault(with_unit(metric), {})[label] = _values(rows, metric)
    return [svg for title, columns in (*plots.items(), *more.items()) if (svg := box_svg(title, columns))]
