"""Score tables: the same rows for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

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
        scores: as for `score_rows`, and ``cases``, how many there are.
    """
    title = f"Overlap with the reference over {scores['cases']} case{'' if scores['cases'] == 1 else 's'}"
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


def score(value: float | None) -> str:
    """A score in 0..1 with three decimals, or `ABSENT` for None."""
    return ABSENT if value is None else f"{value:.3f}"
