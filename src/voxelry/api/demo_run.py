"""The demo: makes phantoms (or takes a real dataset), trains, segments held-out scans, scores, exports and draws them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.base.files import write_json
from voxelry.base.output_folder import RECORD as OUTPUT_RECORD
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, StepCallback
from voxelry.cohort.batch import Outcome, segment_scans
from voxelry.cohort.scan_names import Scan
from voxelry.core.volume import Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_labels
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import ManifestError, ReadError, UsageError
from voxelry.inference.predictor import Prediction, Predictor
from voxelry.metrics.families import measure
from voxelry.metrics.scores import Scores
from voxelry.phantom.dataset import write_phantoms
from voxelry.recipes.recipe import Config
from voxelry.reports.overlay import overlay_png
from voxelry.reports.page import CaseView, write_page
from voxelry.training.options import RunOptions
from voxelry.training.result import TrainResult
from voxelry.training.run import train_model

TRAINING_SECONDS = 210.0
TRAIN_CASES, VAL_CASES, TEST_CASES = 18, 2, 5
RECORD = "scores.json"
OBJECT_METRICS = ("lesion_tp", "lesion_fp", "lesion_fn", "lesion_f1", "instance_count_error", "instance_count_error_abs")
"""Metrics of objects that the demo shows, of labels whose objects are told apart."""
_OUTPUTS = ("data", "run", "masks", "pictures", "index.html", RECORD)


@dataclass(frozen=True, eq=False)
class DemoResult:
    """The result of the demo.

    Attributes:
        scores: scores of the held-out scans.
        outcomes: outcome of each scan.
        training: the training run.
        out: the folder with all output.
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
    progress: ProgressCallback,
    on_step: StepCallback,
) -> DemoResult:
    """Run the demo; see `voxelry.demo`.

    Args:
        out: the folder for all output. An earlier demo in it is replaced; a folder with anything else is refused.
        manifest: a dataset card, None for phantoms.
        root: folder that its relative paths start from.
        seconds: seconds of training, None for the default.
        progress: called during every stage.
        on_step: called at every training step.

    Raises:
        UsageError: `out` holds something other than a demo, or the dataset; or a demo is running there.
        ManifestError: the dataset has no held-out cases with labels.
        ReadError: no held-out scan could be segmented.
    """
    began = time.monotonic()
    dataset = None if manifest is None else load_manifest(manifest, root)
    if dataset is not None:
        _held_out(dataset)
        _refuse_inside(out, dataset)
    with _own_folder(out):
        return _run(out, dataset, seconds, progress, on_step, began)


def _run(
    out: Path,
    dataset: Manifest | None,
    seconds: float | None,
    progress: ProgressCallback,
    on_step: StepCallback,
    began: float,
) -> DemoResult:
    """Run the demo in a folder of its own, with phantoms where there is no dataset."""
    data = dataset or load_manifest(_phantoms(out, progress))
    held_out = _held_out(data)
    recipe = Config(manifest=str(data.path), time_budget=TRAINING_SECONDS if seconds is None else seconds)
    training = train_model(RunOptions(recipe, data, progress=progress, on_step=on_step), out / "run")
    drawer = _CaseDrawer(data, held_out, out)
    scans = [Scan(case.id, case.images) for case in held_out]
    outcomes = segment_scans(
        Predictor(training.models),
        scans,
        out / "masks",
        _formats(held_out),
        watch=drawer.add,
        progress=progress,
    )
    if not drawer.scores:
        raise ReadError(
            f"none of the {len(scans)} held-out scans could be scored; the first, {outcomes[0].id}: {outcomes[0].error}"
        )
    scores = Scores.merge([*drawer.scores.values()])
    write_json(out / RECORD, {**scores.to_dict(), "rows": scores.rows()})
    notes = _notes(data, training, len(held_out), dataset is None)
    page = write_page(
        out,
        title=f"voxelry demo: {data.card.title}",
        summary=scores.to_dict(),
        cases=[drawer.view(outcome) for outcome in outcomes],
        notes=notes,
        curve=training.history,
    )
    return DemoResult(scores, tuple(outcomes), training, out, page, time.monotonic() - began)


class _CaseDrawer:
    """Scores and draws each held-out scan while it is in memory."""

    def __init__(self, data: Manifest, cases: Sequence[Case], out: Path) -> None:
        self.data = data
        self.cases = {case.id: case for case in cases}
        self.out = out
        self.scores: dict[str, Scores] = {}

    @property
    def _things(self) -> list[str]:
        """Names of the labels whose objects are counted."""
        return [label.name for label in self.data.card.labels if label.kind == "thing"]

    def add(self, scan: Scan, volume: Volume, prediction: Prediction) -> None:
        reference = load_labels(self.cases[scan.id], self.data.card, volume.geometry)
        assert reference is not None
        metrics = ("overlap", "lesions", "instances") if self._things else ("overlap",)
        scores = self._of_things(measure(reference, prediction.labels, scan.id, metrics))
        overlay_png(volume, prediction.labels, self.out / "pictures" / f"{scan.id}.png", reference=reference, title=scan.id)
        self.scores[scan.id] = scores

    def view(self, outcome: Outcome) -> CaseView:
        if outcome.error:
            return CaseView(outcome.id, remarks=(outcome.error,))
        files: dict[str, str | os.PathLike[str]] = {f"mask ({name})": path.resolve() for name, path in outcome.files.items()}
        picture = Path("pictures", f"{outcome.id}.png")
        scores = self.scores[outcome.id]
        return CaseView(outcome.id, picture, files, scores.mean_dice, outcome.flags, self._counts(scores))

    def _counts(self, scores: Scores) -> dict[str, tuple[int, int]]:
        """Label -> number of objects predicted and in the reference."""
        counts = {}
        for name in self._things:
            hits, misses, error = (
                int(scores.measures[metric][0, scores.labels.index(name)])
                for metric in ("lesion_tp", "lesion_fn", "instance_count_error")
            )
            counts[name] = (hits + misses + error, hits + misses)
        return counts

    def _of_things(self, scores: Scores) -> Scores:
        """The scores with few metrics of objects, and those of things alone."""
        is_thing = np.isin(scores.labels, self._things)
        kept = {name: np.where(is_thing, values, np.nan) for name, values in scores.measures.items() if name in OBJECT_METRICS}
        return replace(scores, measures=kept)


def _refuse_inside(out: Path, data: Manifest) -> None:
    """Refuse a dataset inside the folder that the demo clears."""
    files = (data.path, *(file for case in data.cases for file in (*case.images, *case.label_files)))
    inside = next((file for file in files if file.resolve().is_relative_to(out.resolve())), None)
    if inside is not None:
        raise UsageError(f"{inside}: is inside {out}, which the demo clears", remedy="Choose another folder with --out.")


@contextmanager
def _own_folder(out: Path) -> Iterator[None]:
    """Remove an earlier demo from the folder, and record what the block writes; a folder with anything else is refused."""
    outputs, paths = OutputFolder(out, "demo"), [out / name for name in _OUTPUTS]
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file", remedy="Choose another folder with --out.")
    is_empty = not out.exists() or all(path.name == OUTPUT_RECORD for path in out.iterdir())
    if not is_empty and not any(map(outputs.has, paths)):
        raise UsageError(f"{out}: is not empty and holds no earlier demo", remedy="Choose another folder with --out.")
    with outputs.locked():
        for path in paths:
            outputs.check(path)
        outputs.claim(paths)
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        try:
            yield
        finally:
            outputs.stamp(paths)


def _phantoms(out: Path, progress: ProgressCallback) -> Path:
    count = TRAIN_CASES + VAL_CASES + TEST_CASES
    progress("making phantoms", 0, count)
    manifest = write_phantoms(out / "data", "torso-ct", count, val=VAL_CASES, test=TEST_CASES)
    progress("making phantoms", count, count)
    return manifest


def _held_out(data: Manifest) -> list[Case]:
    for split in ("test", "val"):
        cases = [case for case in data.split(split) if case.has_labels]
        if cases:
            return cases
    raise ManifestError(f"{data.path}: no labelled cases in split 'test' or 'val' to hold out", remedy="Give some cases a split.")


def _formats(cases: Sequence[Case]) -> tuple[str, ...]:
    """NIfTI always; DICOM SEG where the scans came as DICOM series."""
    are_series = all(len(case.images) == 1 and case.images[0].is_dir() for case in cases)
    return ("nifti", "dicom-seg") if are_series else ("nifti",)


def _notes(data: Manifest, training: TrainResult, held_out: int, is_phantom: bool) -> list[str]:
    record: dict[str, Any] = training.model.card.training
    kind = (
        "Synthetic scans, made by voxelry.phantom; they show no real person."
        if is_phantom
        else f"Licence of the scans: {data.card.licence}."
    )
    return [
        kind,
        f"Trained on {len(data.split('train'))} scans, scored on {held_out} held-out scans.",
        f"{record['steps']} steps in {record['seconds']:.0f} s on {record['device']} ({record['computed_in']}), "
        f"{record['parameters'] / 1e6:.2f} million parameters.",
    ]
