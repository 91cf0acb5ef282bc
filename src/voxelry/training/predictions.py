"""Predictions of held-out cases on disk, and their scores: one compressed array per case, on the scan's own grid."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from voxelry.base.files import atomic_path, sha256_of
from voxelry.base.progress import ProgressCallback
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap, Volume
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

LabelShares = Mapping[str, float | None]
"""Label -> share (0..1), None where there is none."""

NO_SHARES: LabelShares = MappingProxyType({})

Watch = Callable[[Case, Volume, LabelMap], None]

_REMEDY = "Delete it, then continue with --resume."


@dataclass(frozen=True)
class StoredPredictions:
    """The predictions of one model, or one ensemble, for cases it has not seen.

    Attributes:
        folder: holds one file per case.
        table: the labels.
    """

    folder: Path
    table: LabelTable

    def file(self, case: str) -> Path:
        """The file of a case's prediction."""
        return self.folder / f"{case}.npz"

    def identity(self, case: str) -> str:
        """A hash of a case's prediction."""
        return sha256_of(self.file(case))

    def save(self, case: str, labels: LabelMap, confidence: LabelShares = NO_SHARES, agreement: LabelShares = NO_SHARES) -> None:
        """Write a prediction, with the confidence and the agreement of its networks where they are known."""
        arrays: dict[str, Any] = {"labels": labels.layers} | ({} if labels.instances is None else {"instances": labels.instances})
        for name, shares in (("confidence", confidence), ("agreement", agreement)):
            if shares:
                values = [shares.get(label) for label in self.table.names]
                arrays[name] = np.array([np.nan if value is None else value for value in values])
        with atomic_path(self.file(case)) as temporary:
            np.savez_compressed(temporary, **arrays)

    def shares(self, case: str) -> tuple[dict[str, float], dict[str, float]]:
        """Confidence and agreement of each label of a prediction, as far as they are known.

        Raises:
            TrainingError: there is no file, or it cannot be read.
        """
        with self._opened(case) as stored:
            arrays = [stored.get(name) for name in ("confidence", "agreement")]
        confidence, agreement = (
            {}
            if values is None
            else {name: float(value) for name, value in zip(self.table.names, values, strict=True) if value == value}
            for values in arrays
        )
        return confidence, agreement

    @contextmanager
    def _opened(self, case: str) -> Iterator[Any]:
        """The arrays of a prediction.

        Raises:
            TrainingError: there is no file, or it cannot be read.
        """
        try:
            with self.file(case).open("rb") as file, np.load(file) as stored:
                yield stored
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
            raise TrainingError(f"{self.file(case)}: cannot be read ({error})", remedy=_REMEDY) from error

    def load(self, case: str, geometry: Geometry) -> LabelMap:
        """A prediction on its scan's grid.

        Raises:
            TrainingError: there is no file, it cannot be read, or it is of another scan.
        """
        with self._opened(case) as stored:
            array, ids = stored["labels"], stored.get("instances")
        expected = (self.table.layers, *geometry.shape)
        if array.shape != expected or (ids is not None and ids.shape != expected):
            raise TrainingError(f"{self.file(case)}: {array.shape} voxels on layers, the scan has {expected}", remedy=_REMEDY)
        return LabelMap(array, geometry, self.table, instances=ids)


@dataclass(frozen=True)
class HeldOutCases:
    """Cases to score, and the stores of their predictions.

    Attributes:
        manifest: the dataset.
        cases: with labels.
        store: gives the store of a case.
    """

    manifest: Manifest
    cases: Sequence[Case]
    store: Callable[[Case], StoredPredictions]


def predict_cases(make: Callable[[], Predictor], held_out: HeldOutCases, progress: ProgressCallback) -> None:
    """Segment the cases that have no prediction yet, one in memory at a time.

    Args:
        make: loads the model when the first case needs it.
        held_out: the cases.
        progress: called as cases are done.
    """
    predictor = None
    for number, case in enumerate(held_out.cases, start=1):
        if not held_out.store(case).file(case.id).is_file():
            predictor = predictor or make()
            prediction = predictor.predict(load_case(case, held_out.manifest)[0])
            held_out.store(case).save(case.id, prediction.labels, prediction.confidence, prediction.agreement)
        progress("validating", number, len(held_out.cases))


def score_cases(
    held_out: HeldOutCases,
    progress: ProgressCallback,
    *,
    rules: Sequence[CleanUp] = (),
    surfaces: bool = False,
    what: str = "scoring",
    watch: Watch = lambda *_: None,
) -> Scores:
    """Score stored predictions on their scans' own grids.

    Args:
        held_out: the cases, all of them with predictions.
        progress: called as cases are done.
        rules: applied before scoring.
        surfaces: measure surface distances too: in mm, or in pixels where their size is not known; not on sheared grids.
        what: name of this stage for `progress`.
        watch: called with each case, its scan and its prediction, after the rules.

    Returns:
        The scores, with the patients as groups.
    """
    case_scores = []
    for number, (case, volume, reference, predicted) in enumerate(_loaded(held_out), start=1):
        cleaned = clean(predicted, rules)
        case_scores.append(_measured(reference, cleaned, case.id, surfaces))
        watch(case, volume, cleaned)
        progress(what, number, len(held_out.cases))
    scores = Scores.merge(case_scores)
    return Scores(scores.cases, scores.labels, scores.confusions, scores.measures, tuple(case.group for case in held_out.cases))


def score_cleaned(
    held_out: HeldOutCases, progress: ProgressCallback, choice: CleanUpChoice, watch: Watch = lambda *_: None
) -> Scores:
    """Choose clean-up rules by stored predictions, then score these with the rules applied, surface distances included.

    Args:
        held_out: the cases, all of them with predictions.
        progress: called as cases are done.
        choice: gets every case; has its rules afterwards.
        watch: as of `score_cases`.
    """
    for number, (_, _, reference, predicted) in enumerate(_loaded(held_out), start=1):
        choice.add(reference, predicted)
        progress("choosing clean-up rules", number, len(held_out.cases))
    return score_cases(held_out, progress, rules=choice.rules(), surfaces=True, watch=watch)


def _loaded(held_out: HeldOutCases) -> Iterator[tuple[Case, Volume, LabelMap, LabelMap]]:
    """Each case with its scan, its reference and its prediction, one in memory at a time."""
    for case in held_out.cases:
        volume, reference = load_case(case, held_out.manifest)
        assert reference is not None
        yield case, volume, reference, held_out.store(case).load(case.id, volume.geometry)


def _measured(reference: LabelMap, predicted: LabelMap, case: str, surfaces: bool) -> Scores:
    """The scores of one case; those of objects too where both maps tell them apart."""
    families = ("overlap",) if reference.instances is None or predicted.instances is None else ("overlap", "instances")
    if surfaces:
        family = "surface_pixels" if reference.geometry.spacing is None else "surface"
        try:
            return measure(reference, predicted, case, (*families, family))
        except GeometryError as error:
            log.info("case '%s': no surface distances (%s)", case, error.problem)
    return measure(reference, predicted, case, families)
