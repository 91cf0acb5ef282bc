"""Report of a run: one HTML page with tables, plots and a viewer of scans, whose data lie in the page or beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from voxelry.base.files import atomic_folder, write_text
from voxelry.cohort.statistics import bootstrap
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import VoxelryError
from voxelry.metrics.metric_table import metric_named, with_unit
from voxelry.metrics.scores import TRAINING
from voxelry.reports.box_plot import box_svg
from voxelry.reports.case_volumes import case_data
from voxelry.reports.curve import curve_svgs
from voxelry.reports.run_record import KINDS, RunCase, RunRecord
from voxelry.reports.sorted_page import render_page, static_text
from voxelry.reports.tables import DIFFERENCE_HEAD, difference_cells, interval, score

log = logging.getLogger(__name__)

PAGE = "report.html"
DATA_FOLDER = "report_cases"
"""Beside the page: a script for each case that can be looked at, which hands its data to the page."""
_BOXED = ("dice", "nsd", "hd95", "volume_error", "lesion_f1")
"""Metrics that have a box plot, where they were measured."""

CaseReader = Callable[[RunCase], tuple[Volume, LabelMap | None, LabelMap | None]]
"""Reads a case: image, prediction, reference."""


@dataclass(frozen=True)
class Viewing:
    """Which cases can be looked at, and where their data go.

    Attributes:
        read: reads a case.
        cases: those that can be read.
        most: number of cases: the worst, the best, the median and then the most doubtful ones.
        embed: bytes of data that go into the page itself, cases that exceed them left out; None puts all beside the page.
    """

    read: CaseReader
    cases: Sequence[RunCase]
    most: int
    embed: int | None = None


def write_report(record: RunRecord, page: Path, title: str, viewing: Viewing | None = None) -> Path:
    """Write the page, and beside it the data of cases that can be looked at.

    Args:
        record: what the run left behind.
        page: the file to write.
        title: the page's heading.
        viewing: the cases to look at; None leaves the viewer out.

    Returns:
        The page.
    """
    keys: dict[str, str] = {}
    embedded: list[Markup] = []
    notes = list(record.notes)
    with ExitStack() as stack:
        beside = viewing is not None and viewing.embed is None
        folder = stack.enter_context(atomic_folder(page.parent / DATA_FOLDER)) if beside else None
        for key, id, script in _scripts(record, viewing):
            if folder is not None:
                write_text(folder / f"{key}.js", script)
            elif viewing is not None and sum(map(len, embedded)) + len(script) <= (viewing.embed or 0):
                embedded.append(Markup(script))
            else:
                notes.append(f"{id} is left out of the viewer: its data exceed the size that the page may have.")
                continue
            keys[id] = key
    write_text(page, _html(record, title, notes, keys, embedded))
    return page


def _scripts(record: RunRecord, viewing: Viewing | None) -> Iterator[tuple[str, str, str]]:
    """Key, id and script of each case that is looked at; one that cannot be read is left out, with a warning."""
    if viewing is None:
        return
    readable = {case.id for case in viewing.cases}
    wanted = dict.fromkeys(case.id for case in (*record.picks.values(), *record.by_doubt) if case.id in readable)
    cases = {case.id: case for case in viewing.cases}
    for number, id in enumerate([*wanted][: viewing.most]):
        try:
            data = case_data(id, *viewing.read(cases[id]))
        except VoxelryError as error:
            log.warning("case '%s' cannot be shown: %s", id, error)
            continue
        key = f"case_{number}"
        yield key, id, f"voxelry.add({json.dumps(key)}, {_script_json(data)});"


def _script_json(data: Any) -> str:
    """JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(record: RunRecord, title: str, notes: Sequence[str], keys: dict[str, str], embedded: Sequence[Markup]) -> str:
    mean_head, means = _means(record.scores)
    card, settings = record.card or ("", ""), record.settings or ("", "")
    return render_page(
        "report.html.j2",
        title=title,
        kind_text=KINDS[record.kind],
        notes=notes,
        mean_head=mean_head,
        means=means,
        boxes=_boxes(record.scores),
        difference_head=DIFFERENCE_HEAD,
        differences=[difference_cells(vars(row)) for row in record.differences],
        curves=[(name, curve_svgs(points)) for name, points in record.histories.items() if points],
        failures=[(case.id, case.error) for case in record.cases if case.error],
        cases=[_row(case, keys) for case in record.by_doubt],
        picks=[(name, case.id) for name, case in record.picks.items()],
        viewable=len(keys),
        folder=DATA_FOLDER,
        card_name=card[0],
        card=card[1],
        settings_name=settings[0],
        settings=settings[1],
        niivue=Markup(static_text("niivue.umd.js")) if keys else "",
        embedded=embedded,
    )


def _row(case: RunCase, keys: dict[str, str]) -> dict[str, str]:
    return {
        "id": case.id,
        "dice": score(case.mean_dice),
        "doubt": score(case.doubt),
        "flags": "; ".join(case.flags),
        "key": keys.get(case.id, ""),
    }


def _held_out(scores: pl.DataFrame | None) -> pl.DataFrame | None:
    """Without the cases of training, where there are others."""
    if scores is None or "split" not in scores.columns:
        return scores
    others = scores.filter(pl.col("split") != TRAINING)
    return others if len(others) else scores


def _columns(scores: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Metric, label and rows of each column of numbers that is a metric's."""
    labels = scores.partition_by("label", as_dict=True, maintain_order=True)
    for metric in (name for name in scores.columns if metric_named(name) is not None):
        for (label,), rows in labels.items():
            yield metric, str(label), rows


def _values(rows: pl.DataFrame, metric: str) -> Any:
    return rows[metric].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _means(scores: pl.DataFrame | None) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each label: the mean of each metric with its interval, and how many cases have a score."""
    held_out = _held_out(scores)
    rows: dict[str, list[str]] = {}
    metrics: dict[str, None] = {}
    for metric, label, own in _columns(held_out) if held_out is not None else ():
        mean = bootstrap(_values(own, metric), own["group" if "group" in own.columns else "case"].to_list())
        plain = {name: None if np.isnan(value) else value for name, value in vars(mean).items()}
        of = f" ({mean.n} of {mean.n + mean.missing})" if mean.missing else ""
        rows.setdefault(label, [label]).append(interval(plain) + of)
        metrics[with_unit(metric)] = None
    return ["label", *metrics], [*rows.values()]


def _boxes(scores: pl.DataFrame | None) -> list[Markup]:
    """A box plot for each of the main metrics."""
    held_out = _held_out(scores)
    if held_out is None:
        return []
    columns: dict[str, dict[str, Any]] = {}
    for metric, label, rows in _columns(held_out):
        if metric in _BOXED:
            columns.setdefault(metric, {})[label] = _values(rows, metric)
    return [svg for metric, values in columns.items() if (svg := box_svg(with_unit(metric), values))]
