"""Predictions of validation cases on disk: one compressed array a case, on the scan's own grid, each whole or not there."""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxelry.base.files import atomic_path
from voxelry.base.progress import ProgressCallback
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.errors import GeometryError, TrainingError
from voxelry.inference.cleanup import clean
from voxelry.inference.predictor import Predictor
from voxelry.metrics.families import measure
from voxelry.metrics.scores import Scores
from voxelry.training.clean_up_choice import CleanUpChoice

log = logging.getLogger(__name__)

_REMEDY = "Delete it, then go on with --resume."


@dataclass(frozen=True)
class Predictions:
    """The predictions that one model, or one ensemble, made for cases it has not seen.

    Attributes:
        folder: one file a case.
        table: the labels.
    """

    folder: Path
    table: LabelTable

    def file(self, case: str) -> Path:
        """Where a case's prediction lies."""
        return self.folder / f"{case}.npz"

    def identity(self, case: str) -> str:
        """Changes with a case's prediction."""
        return hashlib.sha256(self.file(case).read_bytes()).hexdigest()

    def save(self, case: str, labels: LabelMap) -> None:
        """Keep a prediction."""
        with atomic_path(self.file(case)) as temporary:
            np.savez_compressed(temporary, labels=labels.array)

    def load(self, case: str, geometry: Geometry) -> LabelMap:
        """A prediction on its scan's grid.

        Raises:
            TrainingError: there is none, or none of this scan that can be read.
        """
        try:
            with self.file(case).open("rb") as file, np.load(file) as stored:
                array = stored["labels"]
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
            raise TrainingError(f"{self.file(case)}: cannot be read ({error})", remedy=_REMEDY) from error
        if array.shape != geometry.shape:
            raise TrainingError(f"{self.file(case)}: {array.shape} voxels, the scan has {geometry.shape}", remedy=_REMEDY)
        return LabelMap.of(array, geometry, self.table)


@dataclass(frozen=True)
class Held:
    """Cases to score, and where their predictions lie.

    Attributes:
        manifest: the dataset.
        cases: with labels.
        store: of each case.
    """

    manifest: Manifest
    cases: Sequence[Case]
    store: Callable[[Case], Predictions]


def predict_cases(make: Callable[[], Predictor], held: Held, progress: ProgressCallback) -> None:
    """Segment the cases that have no prediction yet, one in memory at a time.

    Args:
        make: loads the model, when the first case needs it.
        held: the cases.
        progress: called as cases are done.
    """
    predictor = None
    for number, case in enumerate(held.cases, start=1):
        if not held.store(case).file(case.id).is_file():
            predictor = predictor or make()
            held.store(case).save(case.id, predictor.predict(load_case(case, held.manifest)[0]).labels)
        progress("validating", number, len(held.cases))


def score_cases(
    held: Held,
    progress: ProgressCallback,
    *,
    rules: Sequence[CleanUp] = (),
    surfaces: bool = False,
    name: str = "scoring",
) -> Scores:
    """Score stored predictions on their scans' own grids.

    Args:
        held: the cases, all of which are predicted.
        progress: called as cases are done.
        rules: applied before scoring.
        surfaces: measure distances of surfaces too: in mm, or in pixels where their size is not known; not on sheared grids.
        name: under which progress is told.

    Returns:
        The scores, with the patients as groups.
    """
    parts = []
    for number, (case, reference, predicted) in enumerate(_pairs(held), start=1):
        parts.append(_measured(reference, clean(predicted, rules), case.id, surfaces))
        progress(name, number, len(held.cases))
    scores = Scores.merge(parts)
    return Scores(scores.cases, scores.labels, scores.confusions, scores.measures, tuple(case.group for case in held.cases))


def score_cleaned(held: Held, progress: ProgressCallback, choice: CleanUpChoice) -> Scores:
    """Choose clean-up rules by stored predictions, then score those with the rules applied, surfaces included.

    Args:
        held: the cases, all of which are predicted.
        progress: called as cases are done.
        choice: is shown every case; knows its rules afterwards.
    """
    for number, (_, reference, predicted) in enumerate(_pairs(held), start=1):
        choice.add(reference, predicted)
        progress("choosing clean-up rules", number, len(held.cases))
    return score_cases(held, progress, rules=choice.rules(), surfaces=True)


def _pairs(held: Held) -> Iterator[tuple[Case, LabelMap, LabelMap]]:
    """Each case with its reference and its prediction, one in memory at a time."""
    for case in held.cases:
        volume, reference = load_case(case, held.manifest)
        assert reference is not None
        yield case, reference, held.store(case).load(case.id, volume.geometry)


def _measured(reference: LabelMap, predicted: LabelMap, case: str, surfaces: bool) -> Scores:
    if surfaces:
        family = "surface_pixels" if reference.geometry.spacing is None else "surface"
        try:
            return measure(reference, predicted, case, ("overlap", family))
        except GeometryError as error:
            log.info("case '%s': no distances of surfaces (%s)", case, error.problem)
    return measure(reference, predicted, case)
