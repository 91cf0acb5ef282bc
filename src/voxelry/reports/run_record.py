"""RunRecord: what a finished run left behind: scores, curves, cases, failures, settings, model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from numpy.typing import NDArray

from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.reports.learning import WholePoint

if TYPE_CHECKING:
    from voxelry.cohort.comparison import Difference

KINDS = {
    "train": "A training run.",
    "predict": "Scans segmented by a model.",
    "evaluate": "Predictions scored against references.",
    "compare": "Two models scored on the same cases.",
}


_SHOWN = 3
"""Cases to see at once where none is the worst or the best."""


@dataclass(frozen=True)
class RunCase:
    """One case of a run.

    Attributes:
        id: the case.
        images: the files or folders of its scan; empty where they are not known.
        mask: its predicted mask, or None.
        other: the mask of the second of two models, or None.
        mean_dice: over its labels, 0..1, or None without a reference.
        dice: label -> its Dice, None where there is no score.
        change: mean Dice of the second of two models minus that of the first, or None.
        predicted_dice: by the quality control of the prediction, or None.
        doubt: 0..1, likewise, or None.
        review: quality control asks for a look.
        flags: what is unusual, in sentences.
        error: why there is no result; empty where there is one.
        options: how the scan is read.
    """

    id: str
    images: tuple[Path, ...] = ()
    mask: Path | None = None
    other: Path | None = None
    mean_dice: float | None = None
    dice: Mapping[str, float | None] = field(default_factory=dict)
    change: float | None = None
    predicted_dice: float | None = None
    doubt: float | None = None
    review: bool = False
    flags: tuple[str, ...] = ()
    error: str = ""
    options: ReadOptions = PLAIN


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run left behind.

    Attributes:
        kind: one of `KINDS`.
        folder: the run's folder.
        notes: facts in sentences.
        cases: every case.
        scores: rows of scores as `voxelry.cohort.comparison.read_scores` gives them, or None.
        pooled: metric of all cases taken together -> label -> ``mean``, ``low``, ``high``, each of which may be None.
        boxes: title of a box plot -> label -> ``(N,)`` values, beside those of `scores`.
        differences: of two models.
        histories: milestones of each network.
        settings: file name and text of the settings, or None.
        cards: name and text of each model card.
        data: the manifest or folder of references that the run names, or None.
    """

    kind: str
    folder: Path
    notes: tuple[str, ...]
    cases: tuple[RunCase, ...] = ()
    scores: pl.DataFrame | None = None
    pooled: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    boxes: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    histories: Mapping[str, Sequence[WholePoint]] = field(default_factory=dict)
    settings: tuple[str, str] | None = None
    cards: tuple[tuple[str, str], ...] = ()
    data: Path | None = None

    @property
    def picks(self) -> dict[str, RunCase]:
        """The worst, the median and the best case by mean Dice; of two models those of the largest loss and gain."""
        changed = sorted((case for case in self.cases if case.change is not None), key=lambda case: case.change or 0.0)
        scored = sorted((case for case in self.cases if case.mean_dice is not None), key=lambda case: case.mean_dice or 0.0)
        cases, names = (changed, _changes(changed)) if changed else (scored, ("Worst", "median", "best"))
        if not cases:
            return {}
        return dict(zip(names, (cases[0], cases[(len(cases) - 1) // 2], cases[-1]), strict=True))

    @property
    def shown(self) -> list[tuple[str, RunCase]]:
        """Cases to see at once, with what they are: the `picks`; where nothing is scored the first to look at."""
        first = [("Most doubtful", case) for case in self.by_doubt[:_SHOWN] if case.doubt is not None]
        named = [*self.picks.items()] or first or [("Case", case) for case in self.by_doubt[:_SHOWN]]
        unique: dict[str, tuple[str, RunCase]] = {}
        for name, case in named:
            unique.setdefault(case.id, (name, case))
        return [*unique.values()]

    @property
    def by_doubt(self) -> list[RunCase]:
        """Every case with a result, the most doubtful first; those that are alike in the order of the run."""
        return sorted((case for case in self.cases if not case.error), key=_doubt)


def _changes(cases: Sequence[RunCase]) -> tuple[str, str, str]:
    """What the first, the middle and the last of cases are, from the largest loss to the largest gain."""
    lowest, highest = cases[0].change or 0.0, cases[-1].change or 0.0
    return "Largest loss" if lowest < 0 else "Least gain", "median", "largest gain" if highest > 0 else "least loss"


def _doubt(case: RunCase) -> tuple[bool, float, float, int]:
    return (
        not case.review,
        -(case.doubt if case.doubt is not None else -1.0),
        case.change if case.change is not None else case.mean_dice if case.mean_dice is not None else 2.0,
        -len(case.flags),
    )
