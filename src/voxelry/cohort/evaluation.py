"""Score a cohort: several cases at a time within bounded memory, a table of rows, and a summary with intervals by patient."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from voxelry.base.files import atomic_path, write_json
from voxelry.base.library_file import library_file
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.cohort.pairs import Loader, Pairs, find_pairs, is_manifest
from voxelry.cohort.statistics import POOLED_RESAMPLES, RESAMPLES, bootstrap, bootstrap_weights
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import UsageError, VoxelryError
from voxelry.metrics.families import measure
from voxelry.metrics.metric_input import Tolerance, check_tolerance
from voxelry.metrics.metric_table import check_metrics
from voxelry.metrics.pooling import ALL
from voxelry.metrics.predicted_map import PredictedMap
from voxelry.metrics.region_maps import Regions
from voxelry.metrics.scores import TRAINING, Scores
from voxelry.metrics.shared_labels import label_warnings

log = logging.getLogger(__name__)

WORKERS = 4
"""Largest number of cases in memory at a time."""


def evaluate_cohort(
    reference: Path | Manifest,
    prediction: Path,
    metrics: Sequence[str] = ("overlap",),
    root: Path | None = None,
    workers: int | None = None,
    tolerance: Tolerance = 1.0,
    regions: Regions | None = None,
    progress: ProgressCallback = no_progress,
) -> Scores:
    """Find pairs and score them, several at a time.

    Args:
        reference: a mask, a folder of masks, or a manifest, whose groups are then the patients.
        prediction: a mask, or a folder of masks.
        metrics: families, see `voxelry.metrics.metric_table.FAMILIES`.
        root: where a manifest's paths start.
        workers: cases in memory at a time; None takes one for each processor, `WORKERS` at most.
        tolerance: NSD tolerance in mm.
        regions: region name -> names of its labels; scored in place of the labels.
        progress: called as cases are scored.

    Returns:
        Scores in the order of the pairs, whatever the number of workers.

    Raises:
        MissingFileError: a file, or the prediction of a reference, is missing.
        GridMismatchError: two maps lie on different grids.
        LabelError: values that the reference does not know.
        UsageError: an unknown family, no worker, or a tolerance that is no distance.
    """
    check_metrics(metrics)
    check_tolerance(tolerance)
    if isinstance(reference, Path) and is_manifest(reference):
        reference = load_manifest(reference, root)
    manifest = reference if isinstance(reference, Manifest) else None
    scores = evaluate_pairs(find_pairs(reference, prediction), metrics, workers, tolerance, regions, progress)
    for sentence in label_warnings(scores):
        log.warning("%s", sentence)
    if manifest is None:
        return scores
    patients = {case.id: case.group or case.id for case in manifest.cases}
    splits = {case.id: case.split or "unused" for case in manifest.cases}
    scores = replace(
        scores, groups=tuple(patients[case] for case in scores.cases), splits=tuple(splits[case] for case in scores.cases)
    )
    _warn_of_training_cases(scores)
    return scores


def _warn_of_training_cases(scores: Scores) -> None:
    """Warn where cases of the split ``train`` were scored: a network that learnt from them is not measured by them."""
    trained = scores.splits.count(TRAINING)
    if trained == len(scores.cases):
        log.warning(
            "all %d scored cases are of the split '%s': unless each was held out (cross-validation), their scores say nothing "
            "about new scans",
            trained,
            TRAINING,
        )
    elif trained:
        others = ", ".join(sorted({split for split in scores.splits if split != TRAINING}))
        log.warning(
            "%d of %d scored cases are of the split '%s' and left out of the means, which are of the held-out cases (%s)",
            trained,
            len(scores.cases),
            TRAINING,
            others,
        )


def evaluate_pairs(
    pairs: Pairs,
    metrics: Sequence[str] = ("overlap",),
    workers: int | None = None,
    tolerance: Tolerance = 1.0,
    regions: Regions | None = None,
    progress: ProgressCallback = no_progress,
) -> Scores:
    """Score pairs, `workers` at a time: each reads its maps, scores them and frees them.

    A case that cannot be scored is kept with its reason in `Scores.failed`, and the others continue.

    Raises:
        UsageError: no pair, or no worker.
        VoxelryError: no case could be scored; the first one's error.
    """
    count = min(WORKERS, os.cpu_count() or 1) if workers is None else workers
    if count < 1:
        raise UsageError(f"{count} workers", remedy="Use at least one.")
    with ThreadPoolExecutor(count) as pool:
        tasks = [pool.submit(_measure, pair, metrics, tolerance, regions) for pair in pairs]
        try:
            return _collected([case for case, _, _ in pairs], tasks, progress)
        finally:
            pool.shutdown(cancel_futures=True)


def _collected(cases: Sequence[str], tasks: Sequence[Future[Scores]], progress: ProgressCallback) -> Scores:
    """The scores of all tasks, with the reasons of those that failed; raises where nothing was scored."""
    errors: list[BaseException | None] = []
    for task in tasks:
        errors.append(task.exception())
        if len(tasks) > 1:
            progress("scoring", len(errors), len(tasks))
    scored = [task.result() for task, error in zip(tasks, errors, strict=True) if error is None]
    failed: dict[str, str] = {}
    for case, error in zip(cases, errors, strict=True):
        if error is None:
            continue
        if not scored or not isinstance(error, VoxelryError):
            raise error
        log.warning("case '%s' is not scored: %s", case, error)
        failed[case] = str(error)
    return replace(Scores.merge(scored), failed=failed)


def _measure(
    pair: tuple[str, Loader, Callable[[], PredictedMap]], metrics: Sequence[str], tolerance: Tolerance, regions: Regions | None
) -> Scores:
    case, reference, prediction = pair
    return measure(reference(), prediction(), case, metrics, tolerance, regions)


def summarise(scores: Scores, seed: int = 0) -> dict[str, Any]:
    """Data of a report: the means of `Scores.to_dict`, and of each metric and label the mean, interval and numbers.

    Args:
        scores: scores of a cohort.
        seed: seed of the bootstrap.

    Returns:
        Plain data: `Scores.to_dict`, and ``metrics``: name -> label -> ``mean``, ``low``, ``high`` (95 %, by patient), ``n``,
        ``missing``, of the held-out cases (`Scores.held_out`); None for a value that does not exist. Where there are metrics of
        the whole set (`voxelry.metrics.pooling`) also ``pooled_metrics``: name -> label (and ``all labels``) -> ``mean`` (the
        value itself), ``low``, ``high``.

    Example:
        >>> from voxelry.cohort import summarise
        >>> from voxelry.metrics.families import measure
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> summarise(measure(labels, labels, "case 1"))["metrics"]["dice"]["liver"]["mean"]
        1.0
    """
    held_out = scores.held_out
    groups = held_out.groups or held_out.cases
    table = {
        name: {label: _plain(vars(bootstrap(values[:, k], groups, seed=seed))) for k, label in enumerate(scores.labels)}
        for name, values in held_out.values.items()
    }
    summary = {**scores.to_dict(), "patients": len(set(groups)), "resamples": RESAMPLES, "metrics": table}
    pooled = _pooled_intervals(scores, groups, seed)
    return {**summary, "pooled_metrics": pooled, "pooled_resamples": POOLED_RESAMPLES} if pooled else summary


def _pooled_intervals(scores: Scores, groups: Sequence[str], seed: int) -> dict[str, dict[str, dict[str, float | None]]]:
    """The metrics of the whole set with 95 % intervals by patient."""
    pool, names = scores.pool, (*scores.labels, ALL)
    values = pool.values()
    if not values:
        return {}
    drawn = [pool.values(weights) for weights in bootstrap_weights(groups, POOLED_RESAMPLES, seed)]
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    for metric, row in values.items():
        resampled = np.array([other[metric] for other in drawn]).reshape(-1, len(names))
        table[metric] = {}
        for name, value, column in zip(names, row, resampled.T, strict=True):
            known = column[~np.isnan(column)]
            low, high = np.percentile(known, (2.5, 97.5)) if known.size else (np.nan, np.nan)
            table[metric][name] = _plain({"mean": float(value), "low": float(low), "high": float(high)})
    return table


SUMMARY = "summary.json"
SCORE_FILES = ("scores.csv", "scores.parquet", SUMMARY)
"""Files of a folder of scores."""
_FILE_ENDINGS = (".json", ".csv", ".parquet")
INPUTS = "inputs"
"""Key of the summary of scores: paths, from its folder, of the reference and the prediction that were scored."""
SETTINGS = "settings"
"""Key of the summary of scores: how they were measured."""


def check_outputs(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before scoring, a place where `write_scores` would replace something.

    Raises:
        UsageError: as `write_scores`.
    """
    outputs, files = _outputs(out)
    for file in files:
        outputs.check(file, inputs)


def _outputs(out: Path) -> tuple[OutputFolder, list[Path]]:
    """Where `write_scores` writes: the folder with its record of outputs, and the files."""
    if out.suffix.lower() in _FILE_ENDINGS:
        return OutputFolder(out.parent, "evaluate"), [out]
    if out.is_file():
        raise UsageError(f"{out}: is no folder, and ends in none of .json, .csv and .parquet", remedy="Name another folder.")
    return OutputFolder(out, "evaluate"), [out / name for name in SCORE_FILES]


def write_scores(
    scores: Scores, out: Path, inputs: Sequence[Path] = (), settings: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Write scores: a table of rows as ``.csv`` or ``.parquet``, all in one ``.json``, or a folder with the three.

    Args:
        scores: scores of a cohort.
        out: ends in ``.json`` (summary and rows), ``.csv`` or ``.parquet`` (rows), or is a folder that gets ``scores.csv``,
            ``scores.parquet`` and ``summary.json``.
        inputs: the files or folders that were scored; files are replaced only by scores of the same.
        settings: how they were measured, as plain values; kept in the summary.

    Returns:
        The summary, which a table alone does not hold: `summarise`, and where there are some the inputs, named from the folder
        that the scores lie in, and settings.

    Raises:
        UsageError: a file would be replaced that was not written from these inputs, or was changed since.

    Example:
        >>> from pathlib import Path
        >>> from voxelry.cohort import write_scores
        >>> from voxelry.metrics.families import measure
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> summary = write_scores(measure(labels, labels, "case 1"), Path("scores.csv"))
        >>> Path("scores.csv").read_text().splitlines()[1].split(",")[0]
        'case 1'
    """
    frame = frame_of(scores)
    outputs, files = _outputs(out)
    home = files[0].parent
    named = {INPUTS: [Path(os.path.relpath(path, home)).as_posix() for path in inputs]} if inputs else {}
    summary = {**summarise(scores), **named, **({SETTINGS: dict(settings)} if settings else {})}
    with outputs.writing(files, inputs), ExitStack() as stack:  # all are complete before the first gets its name
        for file in files:
            temporary = stack.enter_context(atomic_path(file))
            if file.suffix.lower() == ".json":
                write_json(temporary, summary if len(files) > 1 else {**summary, "rows": scores.rows()})
            else:
                _write_frame(frame, temporary)
    return summary


def frame_of(scores: Scores) -> pl.DataFrame:
    """The rows as a table; null where a score is missing."""
    rows = scores.rows()
    text = [name for name in ("case", "group", "split", "label") if rows and name in rows[0]]
    columns = list(rows[0]) if rows else []
    counts = ("reference_voxels", "prediction_voxels")
    schema = {name: pl.String if name in text else pl.Int64 if name in counts else pl.Float64 for name in columns}
    return pl.DataFrame(rows, schema=schema)


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    with library_file(path) as file:
        if path.suffix.lower() == ".csv":
            frame.write_csv(file)
        else:
            frame.write_parquet(file)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
