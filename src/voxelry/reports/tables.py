"""Score tables: for the terminal, for the HTML page, and as Markdown or LaTeX for a paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from voxelry.errors import UsageError, nearest
from voxelry.metrics.metric_table import with_unit
from voxelry.metrics.scores import TRAINING

STYLES = ("markdown", "latex")
"""Styles of tables for a paper."""

_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    "–": "--",
}

DIFFERENCE_HEAD = ("metric", "label", "A", "B", "B - A (95 % CI)", "p (Holm)", "n", "winner")
"""Columns of a table of paired differences."""

ABSENT = "–"
"""Shown where a score is not defined: the label is in neither the reference nor the prediction."""


class ScoreRow(NamedTuple):
    """One line of a score table, as text.

    Attributes:
        label: the label's name, or ``mean``.
        dice: Dice coefficient, three decimals, or `ABSENT`.
        iou: intersection over union, three decimals, or `ABSENT`.
    """

    label: str
    dice: str
    iou: str


def score_rows(scores: Mapping[str, Any]) -> list[ScoreRow]:
    """The rows of a score table: each label, then the mean over cases and labels.

    Args:
        scores: the plain mapping of a Scores: ``mean_dice`` and ``mean_iou`` (a number in 0..1 or None), and ``labels``, a
            mapping of each name to its ``dice`` and ``iou``.

    Returns:
        A row per label in the mapping's order, and last the row ``mean``.
    """
    rows = [ScoreRow(name, score(values.get("dice")), score(values.get("iou"))) for name, values in scores["labels"].items()]
    return [*rows, ScoreRow("mean", score(scores["mean_dice"]), score(scores["mean_iou"]))]


def score_table(scores: Mapping[str, Any]) -> Table:
    """The score table for a terminal.

    Args:
        scores: as for `score_rows`, and ``cases``, their number.

    Example:
        >>> from voxelry.reports import score_table
        >>> scores = {"cases": 1, "mean_dice": 0.9, "mean_iou": 0.8, "labels": {"liver": {"dice": 0.9, "iou": 0.8}}}
        >>> score_table(scores).row_count
        2
    """
    title = f"Overlap with the reference over {_cases(scores['cases'])}{_of_splits(scores)}"
    table = Table(title=title, min_width=len(title))
    table.add_column("label")
    table.add_column("Dice", justify="right")
    table.add_column("IoU", justify="right")
    rows = score_rows(scores)
    for row in rows[:-1]:
        table.add_row(escape(row.label), row.dice, row.iou)
    table.add_section()
    table.add_row(*rows[-1], style="bold")
    return table


def splits_table(scores: Mapping[str, Any]) -> Table | None:
    """The means of each split for a terminal; None where fewer than two were scored.

    Args:
        scores: as for `score_table`, and ``splits``, split -> ``cases``, ``mean_dice``, ``mean_iou``.
    """
    splits = scores.get("splits", {})
    if len(splits) < 2:
        return None
    table = Table("split", title="Means of each split")
    for head in ("cases", "Dice", "IoU"):
        table.add_column(head, justify="right")
    for name, means in splits.items():
        note = " (not in the means above)" if name == TRAINING else ""
        table.add_row(f"{name}{note}", str(means["cases"]), score(means["mean_dice"]), score(means["mean_iou"]))
    return table


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _of_splits(scores: Mapping[str, Any]) -> str:
    """The splits of the cases that enter the means, in brackets."""
    splits = scores.get("splits", {})
    counted = [name for name in splits if name != TRAINING] or [*splits]
    named = ", ".join(f"{splits[name]['cases']} {name}" for name in counted)
    return f" ({named})" if counted else ""


def measures_table(scores: Mapping[str, Any]) -> Table | None:
    """The other metrics for a terminal, a row per metric and a column per label; None where there are none.

    Where cases lack a score, the cell says how many have one, as ``1.250 (3 of 5)``.

    Args:
        scores: as for `score_table`; a label may have ``missing``, metric -> number of cases without a score.
    """
    labels = scores["labels"]
    names = [name for name in next(iter(labels.values()), {}) if name not in ("dice", "iou", "cases", "missing")]
    if not names:
        return None
    missing = any(values.get("missing", {}).get(name) for values in labels.values() for name in names)
    caption = (
        "(3 of 5): cases that have a score. The others have none, such as a distance where a mask is empty." if missing else None
    )
    table = Table("metric", title="Means over the cases that have a score", caption=caption)
    for label in labels:
        table.add_column(escape(label), justify="right")
    for name in names:
        cells = [
            score(values[name]) + _of_cases(scores["cases"] - values.get("missing", {}).get(name, 0), scores["cases"])
            for values in labels.values()
        ]
        table.add_row(escape(with_unit(name)), *cells)
    return table


def pooled_table(scores: Mapping[str, Any]) -> Table | None:
    """The metrics of the whole set for a terminal, a row per metric and a column per label; None where there are none.

    Args:
        scores: as for `score_table`, and ``pooled``, metric -> label -> value.
    """
    pooled = scores.get("pooled")
    if not pooled:
        return None
    table = Table("metric", title="Of all cases taken together")
    for label in next(iter(pooled.values())):
        table.add_column(escape(label), justify="right")
    for name, values in pooled.items():
        table.add_row(escape(name), *map(score, values.values()))
    return table


def _of_cases(scored: int, cases: int) -> str:
    """How many cases have a score, where not all have."""
    return "" if scored == cases else f" ({scored} of {cases})"


def score(value: float | None) -> str:
    """A score in 0..1 with three decimals, or `ABSENT` for None and NaN."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.3f}"


def paper_table(summary: Mapping[str, Any], style: str = "markdown", metrics: Sequence[str] = ()) -> str:
    """A table of labels by metrics for a paper: mean and 95 % interval, and how many cases have a score where not all have.

    Args:
        summary: summary of `voxelry.cohort.evaluation.summarise`: ``metrics``, name -> label -> mean, low, high, n, missing.
        style: ``markdown`` or ``latex`` (with the package booktabs).
        metrics: names to show; empty shows all.

    Raises:
        UsageError: an unknown style or metric.

    Example:
        >>> from voxelry.reports import paper_table
        >>> print(paper_table({"metrics": {"dice": {"liver": {"mean": 0.9, "low": 0.85, "high": 0.95}}}}))
        | label | dice |
        | --- | ---: |
        | liver | 0.900 (0.850, 0.950) |
        <BLANKLINE>
    """
    table = summary["metrics"]
    for name in metrics:
        if name not in table:
            raise UsageError(f"no metric '{name}' was measured", remedy=nearest(name, table))
    shown = list(metrics or table)
    labels = list(table[shown[0]])
    rows = [[label, *(interval(table[name][label]) + _scored(table[name][label]) for name in shown)] for label in labels]
    return text_table(["label", *map(with_unit, shown)], rows, style)


def _scored(entry: Mapping[str, Any]) -> str:
    return _of_cases(entry["n"], entry["n"] + entry["missing"]) if entry.get("missing") else ""


def comparison_table(differences: Sequence[Mapping[str, Any]], style: str = "markdown") -> str:
    """A table of paired differences for a paper.

    Args:
        differences: the fields of `voxelry.cohort.comparison.Difference`, a mapping per row.
        style: ``markdown`` or ``latex`` (with the package booktabs).

    Raises:
        UsageError: an unknown style.

    Example:
        >>> from voxelry.cohort import Difference
        >>> from voxelry.reports import comparison_table
        >>> row = vars(Difference("dice", "liver", 0.9, 0.8, -0.1, -0.2, 0.0, 0.03, 0.03, n=9, missing=0, winner="A"))
        >>> comparison_table([row]).splitlines()[0]
        '| metric | label | A | B | B - A (95 % CI) | p (Holm) | n | winner |'
    """
    return text_table(DIFFERENCE_HEAD, [difference_cells(row) for row in differences], style)


def difference_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of a paired difference below `DIFFERENCE_HEAD`.

    Args:
        row: the fields of `voxelry.cohort.comparison.Difference`.
    """
    return [
        with_unit(row["metric"]),
        row["label"],
        score(row["mean_a"]),
        score(row["mean_b"]),
        interval({"mean": row["difference"], "low": row["low"], "high": row["high"]}),
        ABSENT if row["p_corrected"] is None else "< 0.001" if row["p_corrected"] < 0.001 else f"{row['p_corrected']:.3f}",
        f"{row['n']} of {row['n'] + row['missing']}" if row["missing"] else str(row["n"]),
        row["winner"],
    ]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """Text in columns as ``markdown`` or ``latex``, special characters escaped, numbers to the right.

    Raises:
        UsageError: an unknown style.
    """
    if style not in STYLES:
        raise UsageError(f"unknown style of table '{style}'", remedy=nearest(style, STYLES))
    if style == "markdown":
        lines = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in (head, *rows)]
        lines.insert(1, ["---", *["---:"] * (len(head) - 1)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    body = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in (head, *rows)]
    columns = "l" + "r" * (len(head) - 1)
    table = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join(table) + "\n"


def _latex(text: str) -> str:
    """Text with the characters that LaTeX takes for commands escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def interval(entry: Mapping[str, Any]) -> str:
    """A mean and its interval, as ``0.912 (0.900, 0.925)``."""
    if entry["low"] is None:
        return score(entry["mean"])
    return f"{score(entry['mean'])} ({score(entry['low'])}, {score(entry['high'])})"
