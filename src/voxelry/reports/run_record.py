"""RunRecord: what a finished run left behind, read from its folder: scores, curves, cases, failures, settings, model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from voxelry.base.files import read_json, read_text, read_yaml
from voxelry.cohort.comparison import Difference, compare_scores, read_scores
from voxelry.cohort.evaluation import INPUTS, SUMMARY
from voxelry.cohort.ledger import LEDGER, Ledger, LedgerCase
from voxelry.cohort.pairs import masks_in
from voxelry.errors import MissingFileError
from voxelry.reports.curve import CurvePoint
from voxelry.training.checkpoint import HISTORY_FILE
from voxelry.training.run_files import MODEL_FOLDER, RECIPE_FILE, VALIDATION_FILE

KINDS = {
    "train": "A training run.",
    "predict": "Scans segmented by a model.",
    "evaluate": "Predictions scored against references.",
    "compare": "Two models scored on the same cases.",
}


@dataclass(frozen=True)
class RunCase:
    """One case of a run.

    Attributes:
        id: the case.
        images: the files or folders of its scan; empty where they are not known.
        mask: its predicted mask, or None.
        mean_dice: over its labels, 0..1, or None without a reference.
        doubt: 0..1, from the quality control of the prediction, or None.
        flags: what is unusual, in sentences.
        error: why there is no result; empty where there is one.
    """

    id: str
    images: tuple[Path, ...] = ()
    mask: Path | None = None
    mean_dice: float | None = None
    doubt: float | None = None
    flags: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What a run left behind.

    Attributes:
        kind: one of `KINDS`.
        folder: the run's folder.
        notes: facts in sentences.
        cases: every case.
        scores: rows of scores as `voxelry.cohort.comparison.read_scores` gives them, or None.
        differences: of two models.
        histories: milestones of each network.
        settings: file name and text of the settings, or None.
        card: file name and text of the model card, or None.
        data: the manifest or folder of references that the run names, or None.
    """

    kind: str
    folder: Path
    notes: tuple[str, ...]
    cases: tuple[RunCase, ...] = ()
    scores: pl.DataFrame | None = None
    differences: tuple[Difference, ...] = ()
    histories: Mapping[str, Sequence[CurvePoint]] = field(default_factory=dict)
    settings: tuple[str, str] | None = None
    card: tuple[str, str] | None = None
    data: Path | None = None

    @property
    def scored(self) -> list[RunCase]:
        """Cases with a mean Dice, the worst first."""
        cases = [case for case in self.cases if case.mean_dice is not None]
        return sorted(cases, key=lambda case: case.mean_dice or 0.0)

    @property
    def picks(self) -> dict[str, RunCase]:
        """The worst, the median and the best case."""
        cases = self.scored
        if not cases:
            return {}
        return {"Worst": cases[0], "median": cases[(len(cases) - 1) // 2], "best": cases[-1]}

    @property
    def by_doubt(self) -> list[RunCase]:
        """Every case with a result, the most doubtful first; those that are alike in the order of the run."""
        return sorted((case for case in self.cases if not case.error), key=_doubt)


def _doubt(case: RunCase) -> tuple[float, float, int]:
    return (
        -(case.doubt if case.doubt is not None else -1.0),
        case.mean_dice if case.mean_dice is not None else 2.0,
        -len(case.flags),
    )


def read_run(folder: Path, other: Path | None = None) -> RunRecord:
    """Read what a run left behind.

    Args:
        folder: a folder that ``train --out``, ``predict --out`` or ``evaluate --out`` wrote.
        other: the scores of another model, a folder of ``evaluate --out``; the two are compared.

    Raises:
        MissingFileError: no run is there.
        ReadError: its files are damaged.
    """
    if other is not None:
        return _compared(folder, other)
    if (folder / RECIPE_FILE).is_file():
        return _trained(folder)
    if (folder / LEDGER).is_file():
        return _predicted(folder)
    if (folder / SUMMARY).is_file():
        return _evaluated(folder)
    raise MissingFileError(
        f"{folder}: holds no run of voxelry", remedy="Name a folder that train, predict or evaluate wrote by --out."
    )


def _trained(folder: Path) -> RunRecord:
    scores = _frame(folder / VALIDATION_FILE)
    card = folder / MODEL_FOLDER / "README.md"
    recipe = read_text(folder / RECIPE_FILE)
    histories = {file.parent.relative_to(folder).as_posix(): _history(file) for file in sorted(folder.rglob(HISTORY_FILE))}
    steps = max((points[-1].step for points in histories.values() if points), default=0)
    return RunRecord(
        "train",
        folder,
        (f"{len(histories)} networks, {steps} steps each." if len(histories) > 1 else f"{steps} steps.",),
        _scored_cases(scores),
        scores,
        histories={("network" if name == "." else name): points for name, points in histories.items()},
        settings=(RECIPE_FILE, recipe),
        data=_beside(folder, read_yaml(folder / RECIPE_FILE).get("manifest")),
        card=(f"{MODEL_FOLDER}/README.md", read_text(card)) if card.is_file() else None,
    )


def _evaluated(folder: Path) -> RunRecord:
    scores, summary = read_scores(folder), read_json(folder / SUMMARY)
    failed = [RunCase(case, error=str(reason)) for case, reason in summary.get("failed", {}).items()]
    reference, prediction = [*(_beside(folder, path) for path in summary.get(INPUTS, ())), None, None][:2]
    cases = with_masks(_scored_cases(scores), prediction)
    notes = [f"{len(cases)} cases scored, {len(failed)} failed."]
    notes += [
        f"{name} of {means['cases']} cases: mean Dice {means['mean_dice']}" for name, means in summary.get("splits", {}).items()
    ]
    return RunRecord("evaluate", folder, tuple(notes), (*cases, *failed), scores, data=reference)


def _compared(a: Path, b: Path) -> RunRecord:
    differences = tuple(compare_scores(a, b))
    frame_a, frame_b = read_scores(a), read_scores(b)
    wins = {side: sum(row.winner == side for row in differences) for side in ("A", "B")}
    notes = (f"A is {a}, B is {b}.", f"Of {len(differences)} labels and metrics A wins {wins['A']}, B wins {wins['B']}.")
    scores_a, scores_b = ({case.id: case.mean_dice for case in _scored_cases(frame)} for frame in (frame_a, frame_b))
    cases = []
    for id, dice in scores_b.items():
        before = scores_a.get(id)
        if dice is not None and before is not None:
            cases.append(RunCase(id, mean_dice=dice, flags=(f"{dice - before:+.3f} against A",)))
    return RunRecord("compare", a, notes, tuple(cases), differences=differences)


def _predicted(folder: Path) -> RunRecord:
    with Ledger(folder, read_only=True) as ledger:
        cases = tuple(map(_ledger_case, ledger.cases()))
        counts = ledger.counts()
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return RunRecord("predict", folder, (f"{len(cases)} scans: {text}.",), with_masks(cases, folder))


def _ledger_case(case: LedgerCase) -> RunCase:
    facts = case.details.get("facts", {}).get("quality", {})
    flags = dict.fromkeys([*case.details.get("flags", ()), *facts.get("flags", ())])
    error = case.error or ("" if case.state == "done" else f"the scan is {case.state}")
    return RunCase(case.id, tuple(map(Path, case.images)), None, None, facts.get("doubt"), tuple(flags), error)


def _history(file: Path) -> list[Any]:
    fields = ("step", "loss", "pseudo_dice", "validation")
    lines = [json.loads(line) for line in read_text(file).splitlines() if line]
    return [SimpleNamespace(**{name: line.get(name) for name in fields}) for line in lines]


def _frame(file: Path) -> pl.DataFrame | None:
    return read_scores(file) if file.is_file() and read_json(file).get("rows") else None


def _scored_cases(scores: pl.DataFrame | None) -> tuple[RunCase, ...]:
    """Each case with the mean of its labels' Dice."""
    if scores is None:
        return ()
    means = scores.group_by("case", maintain_order=True).agg(pl.col("dice").mean())
    return tuple(RunCase(id, mean_dice=None if dice is None or np.isnan(dice) else dice) for id, dice in means.iter_rows())


def _beside(folder: Path, path: Any) -> Path | None:
    """A path that a summary states from its own folder; None where nothing is there any more."""
    place = folder / path if isinstance(path, str) else None
    return place if place is not None and place.exists() else None


def with_masks(cases: Sequence[RunCase], masks: Path | None) -> tuple[RunCase, ...]:
    """The cases with their predicted masks.

    Args:
        cases: of a run.
        masks: a folder of masks named as the cases, a mask file of the only case, or None.
    """
    if masks is None:
        return tuple(cases)
    try:
        files = (
            {id: files[0] for id, files in masks_in(masks).items()} if masks.is_dir() else {case.id: masks for case in cases[:1]}
        )
    except MissingFileError:  # every scan failed
        files = {}
    return tuple(replace(case, mask=None if case.error else files.get(case.id)) for case in cases)
