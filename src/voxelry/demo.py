"""The whole toolkit in one run: phantoms (or a real set), training, unseen scans segmented, scored, exported and drawn."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelry.cohort.inputs import Scan
from voxelry.cohort.segment import Outcome, segment_scans
from voxelry.config import Config
from voxelry.errors import ManifestError, UsageError
from voxelry.files import write_json
from voxelry.manifest.cases import Case
from voxelry.manifest.load import load_labels
from voxelry.manifest.manifest import Manifest, load_manifest
from voxelry.measure.evaluate import score
from voxelry.measure.scores import Scores
from voxelry.phantom.dataset import write_phantoms
from voxelry.predict.predictor import Prediction, Predictor
from voxelry.read.detect import Format, detect
from voxelry.report.overlay import overlay_png
from voxelry.report.page import CaseView, write_page
from voxelry.train.loop import Report
from voxelry.train.run import Stage, TrainResult, train_model
from voxelry.volume import Volume

TRAINING_SECONDS = 210.0
TRAIN_CASES, VAL_CASES, TEST_CASES = 18, 2, 5
RECORD = "scores.json"


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demo made.

    Attributes:
        scores: of the held-out scans.
        outcomes: what became of each.
        training: the run.
        out: the folder with everything.
        page: its index page.
        seconds: wall time of the whole demo.
    """

    scores: Scores
    outcomes: tuple[Outcome, ...]
    training: TrainResult
    out: Path
    page: Path
    seconds: float


def run_demo(
    out: Path,
    manifest: str | os.PathLike[str] | None,
    root: str | os.PathLike[str] | None,
    seconds: float | None,
    version: str,
    stage: Stage,
    report: Report,
) -> DemoResult:
    """Run the demo; see `voxelry.demo`.

    Args:
        out: the folder for everything. An earlier demo in it is replaced, anything else is left alone.
        manifest: a dataset card, None for phantoms.
        root: where its relative paths start.
        seconds: of training.
        version: of voxelry, for the model's card.
        stage: told of what is being done.
        report: told of every training step.

    Raises:
        UsageError: `out` holds something that is no demo.
        ManifestError: the set has no held-out cases with labels.
    """
    began = time.monotonic()
    _clear(out)
    data = load_manifest(_phantoms(out, stage) if manifest is None else manifest, root)
    held_out = _held_out(data)
    recipe = Config(manifest=str(data.path), time_budget=seconds or TRAINING_SECONDS)
    training = train_model(recipe, data, out / "run", version=version, resume=False, stage=stage, report=report)
    desk = _Desk(data, held_out, out)
    scans = [Scan(case.id, case.images) for case in held_out]
    outcomes = segment_scans(
        Predictor(training.model),
        scans,
        out / "masks",
        _formats(held_out[0]),
        lambda number, _: stage("segmenting held-out scans", number, len(scans)),
        desk.look,
    )
    scores = Scores.merge(desk.scores)
    write_json(out / RECORD, {**scores.to_dict(), "rows": scores.rows()})
    notes = _notes(data, training, len(held_out), manifest is None)
    page = write_page(
        out,
        title=f"voxelry demo: {data.card.title}",
        summary=scores.to_dict(),
        cases=[desk.view(outcome) for outcome in outcomes],
        notes=notes,
        curve=training.history,
    )
    return DemoResult(scores, tuple(outcomes), training, out, page, time.monotonic() - began)


class _Desk:
    """Scores and draws each held-out scan while it is in memory."""

    def __init__(self, data: Manifest, cases: Sequence[Case], out: Path) -> None:
        self.data = data
        self.cases = {case.id: case for case in cases}
        self.out = out
        self.scores: list[Scores] = []

    def look(self, scan: Scan, volume: Volume, prediction: Prediction) -> None:
        reference = load_labels(self.cases[scan.id], self.data.card.table, volume.geometry)
        assert reference is not None
        self.scores.append(score(reference, prediction.labels, scan.id))
        overlay_png(volume, prediction.labels, self.out / "pictures" / f"{scan.id}.png", reference=reference, title=scan.id)

    def view(self, outcome: Outcome) -> CaseView:
        if outcome.error:
            return CaseView(outcome.id, remarks=(outcome.error,))
        mine = next(one for one in self.scores if one.cases == (outcome.id,))
        picture = self.out / "pictures" / f"{outcome.id}.png"
        return CaseView(outcome.id, picture, _absolute(outcome.files), mine.mean_dice, outcome.flags)


def _absolute(files: dict[str, Path]) -> dict[str, str | os.PathLike[str]]:
    return {f"mask ({name})": path.resolve() for name, path in files.items()}


def _clear(out: Path) -> None:
    """Make room: an earlier demo goes, a folder of something else is refused."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / "data").is_dir() and not (out / "run").is_dir()):
        raise UsageError(f"{out}: is not empty and holds no earlier demo", remedy="Choose another folder with --out.")
    for name in ("data", "run", "masks", "pictures"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("index.html", RECORD):
        (out / name).unlink(missing_ok=True)


def _phantoms(out: Path, stage: Stage) -> Path:
    count = TRAIN_CASES + VAL_CASES + TEST_CASES
    stage("making phantoms", 0, count)
    manifest = write_phantoms(out / "data", "torso-ct", count, val=VAL_CASES, test=TEST_CASES)
    stage("making phantoms", count, count)
    return manifest


def _held_out(data: Manifest) -> list[Case]:
    for split in ("test", "val"):
        cases = [case for case in data.split(split) if case.has_labels]
        if cases:
            return cases
    raise ManifestError(f"{data.path}: no labelled cases in split 'test' or 'val' to hold out", remedy="Give some cases a split.")


def _formats(case: Case) -> tuple[str, ...]:
    """NIfTI always; DICOM SEG where the scan came as a DICOM series."""
    is_series = len(case.images) == 1 and detect(case.images[0]) is Format.DICOM_FOLDER
    return ("nifti", "dicom-seg") if is_series else ("nifti",)


def _notes(data: Manifest, training: TrainResult, held_out: int, is_phantom: bool) -> list[str]:
    record: dict[str, Any] = training.model.card.training
    kind = (
        "Synthetic scans, made by voxelry.phantom; they show nobody."
        if is_phantom
        else f"Licence of the scans: {data.card.licence}."
    )
    return [
        kind,
        f"Trained on {len(data.split('train'))} scans, scored on {held_out} that training never saw.",
        f"{record['steps']} steps in {record['seconds']:.0f} s on {record['device']} ({record['computed_in']}), "
        f"{record['parameters'] / 1e6:.2f} million parameters.",
    ]
