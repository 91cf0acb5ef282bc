"""Reads the RunRecord of a finished run from the folder that ``train``, ``predict`` or ``evaluate --out`` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from voxelry.base.files import read_json, read_text, read_yaml
from voxelry.cohort.ledger import LEDGER, Ledger, LedgerCase
from voxelry.cohort.pairs import masks_in
from voxelry.cohort.prediction_facts import QUALITY
from voxelry.cohort.run_settings import MODELS
from voxelry.errors import MissingFileError
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.planning.plan_file import yaml_text
from voxelry.reports.run_record import RunCase, RunRecord
from voxelry.reports.tables import score
from voxelry.training.run_files import (
    CHOICE_FILE,
    COMPRESSION_FILE,
    ENSEMBLES_FOLDER,
    HISTORY_FILE,
    MODEL_FOLDER,
    PREDICTIONS_FOLDER,
    RECIPE_FILE,
    VALIDATION_FILE,
)

_CARD = "README.md"
_STORED = ".npz"


def read_run(folder: Path, summary: Mapping[str, Any] | None = None) -> RunRecord:
    """Read what a run left behind.

    Args:
        folder: a folder that ``train --out``, ``predict --out`` or ``evaluate --out`` wrote, or a file of scores.
        summary: of the scores, as `voxelry.cohort.write_scores` returns it; None reads it where it is kept.

    Raises:
        MissingFileError: no run is there.
        ReadError: its files are damaged.
    """
    if (folder / RECIPE_FILE).is_file():
        return _trained(folder)
    if (folder / LEDGER).is_file():
        return _predicted(folder)
    from voxelry.cohort.evaluation import SUMMARY  # metrics, which the process that leads a cohort does without

    if folder.is_file() or (folder / SUMMARY).is_file():
        return _evaluated(folder, summary_of(folder) if summary is None else summary)
    raise MissingFileError(
        f"{folder}: holds no run of voxelry", remedy="Name a folder that train, predict or evaluate wrote by --out."
    )


def _trained(folder: Path) -> RunRecord:
    from voxelry.cohort.comparison import read_scores

    validation = read_json(folder / VALIDATION_FILE) if (folder / VALIDATION_FILE).is_file() else {}
    scores = read_scores(folder / VALIDATION_FILE) if validation.get("rows") else None
    histories = {file.parent.relative_to(folder).as_posix(): _history(file) for file in sorted(folder.rglob(HISTORY_FILE))}
    steps = max((points[-1].step for points in histories.values() if points), default=0)
    masks, cases = _held_out_masks(folder), scored_cases(scores)
    return RunRecord(
        "train",
        folder,
        (
            f"{len(histories)} networks, {steps} steps each." if len(histories) > 1 else f"{steps} steps.",
            *_mean_note(validation, len(cases)),
            *_comparison_note(folder / COMPRESSION_FILE),
        ),
        tuple(replace(case, mask=masks.get(case.id)) for case in cases),
        scores,
        histories={("network" if name == "." else name): points for name, points in histories.items()},
        settings=(RECIPE_FILE, read_text(folder / RECIPE_FILE)),
        data=_beside(folder, read_yaml(folder / RECIPE_FILE).get("manifest")),
        cards=_cards([folder / MODEL_FOLDER]),
    )


def _mean_note(validation: Mapping[str, Any], cases: int) -> list[str]:
    """The mean Dice of held-out cases, in a sentence."""
    mean = validation.get("mean_dice")
    return [] if mean is None else [f"Mean Dice {score(mean)}; held-out cases: {cases}."]


def _comparison_note(file: Path) -> list[str]:
    """How a student compares with its teacher, in a sentence; nothing of another run."""
    if not file.is_file():
        return []
    values = read_json(file)
    teacher, student = (score(values[f"{side}_dice"]) for side in ("teacher", "student"))
    return [f"{student} beside {teacher} of its teacher, in {values['time']:.0%} of the time of a case."]


def _held_out_masks(folder: Path) -> dict[str, Path]:
    """The stored predictions of held-out cases, of the network or of the networks that a cross-validation chose."""
    homes = [folder]
    if (folder / CHOICE_FILE).is_file():
        chosen = str(read_json(folder / CHOICE_FILE).get("chosen"))
        homes = [home for place in (chosen, f"{ENSEMBLES_FOLDER}/{chosen}") for home in sorted((folder / place).glob("fold_*"))]
    files = [file for home in homes for file in sorted((home / PREDICTIONS_FOLDER).glob(f"*{_STORED}"))]
    return {file.name.removesuffix(_STORED): file for file in files}


def summary_of(scores: Path) -> Mapping[str, Any]:
    """The summary of a folder or file of scores; empty where none is kept, as in a table."""
    from voxelry.cohort.evaluation import SUMMARY

    file = scores / SUMMARY if scores.is_dir() else scores
    return read_json(file) if file.is_file() and file.suffix.lower() == ".json" else {}


def _evaluated(folder: Path, summary: Mapping[str, Any]) -> RunRecord:
    from voxelry.cohort.comparison import read_scores
    from voxelry.cohort.evaluation import INPUTS, SETTINGS

    scores = read_scores(folder)
    failed = [RunCase(case, error=str(reason)) for case, reason in summary.get("failed", {}).items()]
    reference, prediction = inputs_of(folder, summary)
    run = _predicted(prediction) if prediction is not None and (prediction / LEDGER).is_file() else None
    known = {case.id: case for case in (run.cases if run else ())}
    cases = [
        replace(known[case.id], mean_dice=case.mean_dice, dice=case.dice, error="") if case.id in known else case
        for case in scored_cases(scores)
    ]
    notes = [f"{len(cases)} cases scored, {len(failed)} failed."]
    notes += [
        f"{name} of {means['cases']} cases: mean Dice {score(means['mean_dice'])}."
        for name, means in summary.get("splits", {}).items()
    ]
    settings = {name: summary[name] for name in (INPUTS, SETTINGS) if name in summary}
    return RunRecord(
        "evaluate",
        folder,
        tuple(notes),
        (*with_masks(cases, prediction), *failed),
        scores,
        pooled=summary.get("pooled_metrics", {}),
        settings=("settings", yaml_text(settings)) if settings else None,
        cards=run.cards if run else (),
        data=reference,
    )


def inputs_of(scores: Path, summary: Mapping[str, Any]) -> tuple[Path | None, Path | None]:
    """Reference and prediction that scores are of; None where nothing is there any more.

    Args:
        scores: their folder or file, from which the summary names paths.
        summary: of the scores.
    """
    from voxelry.cohort.evaluation import INPUTS

    home = scores if scores.is_dir() else scores.parent
    reference, prediction = [*(_beside(home, path) for path in summary.get(INPUTS, ())), None, None][:2]
    return reference, prediction


def _predicted(folder: Path) -> RunRecord:
    with Ledger(folder, read_only=True) as ledger:
        facts = ledger.facts()
        cases = tuple(_ledger_case(case, facts) for case in ledger.cases())
        counts = ledger.counts()
        volumes = _volumes(ledger)
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    notes, review = [f"{len(cases)} scans: {text}."], sum(case.review for case in cases)
    if review:
        notes.append(f"Quality control asks for a look at {review} of them.")
    requests = {name: value for name, value in facts.items() if name.startswith("request ")}
    models = [folder / str(path) for path in facts.get(MODELS, ())]
    return RunRecord(
        "predict",
        folder,
        tuple(notes),
        with_masks(cases, folder),
        boxes=volumes,
        settings=("settings", yaml_text(requests)) if requests else None,
        cards=_cards(models),
    )


def _ledger_case(case: LedgerCase, facts: dict[str, Any]) -> RunCase:
    quality = case.details.get("facts", {}).get(QUALITY, {})
    flags = dict.fromkeys([*case.details.get("flags", ()), *quality.get("flags", ())])
    return RunCase(
        case.id,
        tuple(map(Path, case.images)),
        predicted_dice=quality.get("dice"),
        doubt=quality.get("doubt"),
        review=bool(quality.get("review")),
        flags=tuple(flags),
        error=case.error or ("" if case.state == "done" else f"the scan is {case.state}"),
        options=_options(case, facts.get(f"request {case.request}", {}).get("read", {})),
    )


def _options(case: LedgerCase, read: dict[str, Any]) -> ReadOptions:
    """How a scan was read: the very series, where its folder may hold several."""
    series = case.details.get("source", {}).get("series") if len(case.images) == 1 else None
    return replace(PLAIN, series=series or read.get("series"), repair=tuple(read.get("repair", ())))


def _volumes(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The size of each label in every case that has it, in ml, or in mm2 of pictures; objects of a case are summed."""
    units = {"volume_mm3": ("Volume (ml)", 1000.0), "area_mm2": ("Area (mm2)", 1.0)}
    sizes: dict[str, dict[str, list[float]]] = {}
    for _, columns in ledger.measurements():
        for column, (title, scale) in units.items():
            of_case: dict[str, float] = {}
            for label, value in zip(columns.get("label", ()), columns.get(column, ()), strict=False):
                of_case[label] = of_case.get(label, 0.0) + (value or 0.0) / scale
            for label, value in of_case.items():
                if value > 0:
                    sizes.setdefault(title, {}).setdefault(label, []).append(value)
    return {title: {label: np.array(values) for label, values in labels.items()} for title, labels in sizes.items()}


def _cards(folders: Iterable[Path]) -> tuple[tuple[str, str], ...]:
    """The cards of models that are there."""
    files = [folder / _CARD for folder in folders]
    return tuple((f"{file.parent.name}/{file.name}", read_text(file)) for file in files if file.is_file())


def _history(file: Path) -> list[Any]:
    fields = ("step", "loss", "pseudo_dice", "validation")
    lines = [json.loads(line) for line in read_text(file).splitlines() if line]
    return [SimpleNamespace(**{name: line.get(name) for name in fields}) for line in lines]


def scored_cases(scores: pl.DataFrame | None) -> tuple[RunCase, ...]:
    """Each case with the Dice of its labels, and their mean.

    Args:
        scores: rows as `voxelry.cohort.comparison.read_scores` gives them, or None.
    """
    if scores is None:
        return ()
    dice: dict[str, dict[str, float | None]] = {}
    for case, label, value in scores.select("case", "label", "dice").iter_rows():
        dice.setdefault(case, {})[label] = None if value is None or np.isnan(value) else float(value)
    return tuple(RunCase(case, mean_dice=_mean(labels.values()), dice=labels) for case, labels in dice.items())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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
    files = mask_files(cases, masks)
    return (
        tuple(cases) if masks is None else tuple(replace(case, mask=None if case.error else files.get(case.id)) for case in cases)
    )


def mask_files(cases: Sequence[RunCase], masks: Path | None) -> dict[str, Path]:
    """The predicted mask of each case that has one; see `with_masks`."""
    if masks is None:
        return {}
    if not masks.is_dir():
        return {case.id: masks for case in cases[:1]}
    try:
        return {id: files[0] for id, files in masks_in(masks).items()}
    except MissingFileError:  # every scan failed
        return {}
