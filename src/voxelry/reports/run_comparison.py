"""Makes the RunRecord of a comparison of two models that were scored on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from voxelry.cohort.comparison import Difference, compare_scores, read_scores
from voxelry.metrics.metric_table import metric_named, with_unit
from voxelry.planning.plan_file import yaml_text
from voxelry.reports.finished_run import inputs_of, mask_files, read_run, scored_cases, summary_of
from voxelry.reports.run_record import RunCase, RunRecord
from voxelry.reports.score_plots import BOXED


def read_comparison(
    a: Path, b: Path, differences: Sequence[Difference] | None = None, settings: Mapping[str, Any] | None = None
) -> RunRecord:
    """Two models' scores as one record: differences, the change of each case, both predictions of each case.

    Args:
        a: the scores of A: a folder of ``evaluate --out``, or its file.
        b: the scores of B, likewise.
        differences: of the two; None compares all that both have.
        settings: of the comparison, shown on the page.

    Raises:
        UsageError: no case in common.
        ReadError: a file that holds no scores.
    """
    rows = tuple(compare_scores(a, b) if differences is None else differences)
    wins = {side: sum(row.winner == side for row in rows) for side in ("A", "B")}
    notes = (f"A is {a}, B is {b}.", f"Of {len(rows)} labels and metrics A wins {wins['A']}, B wins {wins['B']}.")
    frame_a, frame_b = read_scores(a), read_scores(b)
    (data, masks_a), (_, masks_b) = (inputs_of(side, summary_of(side)) for side in (a, b))
    cases = _cases(frame_a, frame_b)
    of_a, of_b = mask_files(cases, masks_a), mask_files(cases, masks_b)
    known = {case.id: case for case in read_run(a).cases}
    return RunRecord(
        "compare",
        a,
        notes,
        tuple(
            replace(
                case,
                images=known[case.id].images if case.id in known else (),
                options=known[case.id].options if case.id in known else case.options,
                mask=of_a.get(case.id),
                other=of_b.get(case.id),
            )
            for case in cases
        ),
        boxes=_changes(frame_a, frame_b),
        differences=rows,
        settings=None if settings is None else ("settings", yaml_text(dict(settings))),
        data=data,
    )


def _cases(frame_a: pl.DataFrame, frame_b: pl.DataFrame) -> tuple[RunCase, ...]:
    """The cases that both have, with their mean Dice of B and its change."""
    before = {case.id: case.mean_dice for case in scored_cases(frame_a)}
    cases = []
    for case in scored_cases(frame_b):
        earlier = before.get(case.id)
        if case.mean_dice is not None and earlier is not None:
            cases.append(replace(case, change=case.mean_dice - earlier, dice={}))
    return tuple(cases)


def _changes(frame_a: pl.DataFrame, frame_b: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """B minus A of every case and label, for each of the main metrics that both have; of signed errors their sizes."""
    both = frame_a.join(frame_b, on=["case", "label"], how="inner", suffix="_b", maintain_order="left")
    changes: dict[str, dict[str, Any]] = {}
    for metric in (name for name in BOXED if f"{name}_b" in both.columns):
        known = metric_named(metric)
        a, b = (pl.col(name).cast(pl.Float64) for name in (metric, f"{metric}_b"))
        change = b.abs() - a.abs() if known is not None and known.better == "zero" else b - a
        for (label,), rows in both.partition_by("label", as_dict=True, maintain_order=True).items():
            values = rows.select(change.alias("change"))["change"].fill_null(float("nan")).to_numpy()
            changes.setdefault(f"B - A of {with_unit(metric)}", {})[str(label)] = np.asarray(values, np.float64)
    return changes
