"""Compare two models: paired differences per label and metric, with significance tests and Holm's correction."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from voxelry.base.files import read_json
from voxelry.base.listing import shown
from voxelry.cohort.evaluation import frame_of
from voxelry.cohort.statistics import bootstrap, holm, patient_means, permutation_test, wilcoxon_test
from voxelry.errors import CorruptFileError, MissingFileError, UsageError, nearest
from voxelry.metrics.metric_table import metric_named
from voxelry.metrics.scores import TRAINING, Scores

log = logging.getLogger(__name__)

PairedTest = Literal["permutation", "wilcoxon"]

SIGNIFICANT = 0.05
"""Corrected p below which a model wins."""

_TEXT = ("case", "group", "split", "label")
_NO_METRIC = {*_TEXT, "reference_voxels", "prediction_voxels"}


@dataclass(frozen=True)
class Difference:
    """Difference of two models in one metric on one label.

    Attributes:
        metric: its name.
        label: the label's name.
        mean_a: mean of A over the cases that both have a score for; of absolute values for signed errors.
        mean_b: mean of B over the same cases.
        difference: mean of B minus A.
        low: lower end of its 95 % bootstrap interval by patient; None with one patient.
        high: upper end.
        p: two-sided, of patients' mean differences.
        p_corrected: p by Holm's method over the labels of the metric.
        n: cases compared.
        missing: cases left out, A or B having no score.
        winner: ``A``, ``B``, ``neither`` where `p_corrected` is not below `SIGNIFICANT`, ``unknown`` where the table of
            metrics does not say which value is better.

    Example:
        >>> from voxelry.cohort import Difference
        >>> Difference("dice", "liver", 0.9, 0.8, -0.1, -0.2, 0.0, 0.03, 0.03, n=9, missing=0, winner="A").winner
        'A'
    """

    metric: str
    label: str
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_corrected: float | None
    n: int
    missing: int
    winner: str


def compare_scores(
    a: Scores | Path, b: Scores | Path, metrics: Sequence[str] = (), test: PairedTest = "permutation", seed: int = 0
) -> list[Difference]:
    """Compare the scores of two models on the same cases.

    Cases of the split ``train`` are left out where there are others, as in the means of `Scores`. A warning names them, and the
    cases that only one side has.

    Args:
        a: scores, or an output of `voxelry evaluate --out`: a folder, ``.parquet``, ``.csv`` or ``.json``.
        b: likewise.
        metrics: names of columns; empty takes all that both have.
        test: ``permutation`` (signs of differences flipped) or ``wilcoxon`` (signed ranks).
        seed: seed of permutations and bootstrap.

    Returns:
        A row for each metric and label, in the order of A.

    Raises:
        UsageError: an unknown metric or test, or no case in common.
        ReadError: a file that holds no scores, or a case and label twice.

    Example:
        >>> from voxelry.cohort import compare_scores
        >>> from voxelry.metrics.families import measure
        >>> from voxelry.phantom import small_phantom
        >>> labels = small_phantom().labels
        >>> scores = measure(labels, labels, "case 1")
        >>> [(row.label, row.metric, row.winner) for row in compare_scores(scores, scores, ["dice"])][0]
        ('liver', 'dice', 'neither')
    """
    if test not in get_args(PairedTest):
        raise UsageError(f"unknown test '{test}'", remedy=nearest(test, get_args(PairedTest)))
    frame_a, frame_b = (frame_of(side) if isinstance(side, Scores) else read_scores(side) for side in (a, b))
    common = [name for name in frame_a.columns if name in frame_b.columns and name not in _NO_METRIC]
    for name in metrics:
        if name not in common:
            raise UsageError(f"both sides need the metric '{name}'", remedy=nearest(name, common))
    both = frame_a.join(frame_b, on=["case", "label"], how="inner", suffix="_b", maintain_order="left")
    if both.is_empty():
        raise UsageError("the two sides have no case and label in common", remedy="Score both against the same references.")
    _warn_of_unpaired(frame_a, frame_b)
    both = _held_out(both)
    rows: list[Difference] = []
    for metric in metrics or common:
        rows += _of_metric(both, metric, test, seed)
    return rows


def read_scores(path: Path) -> pl.DataFrame:
    """Read rows that `voxelry.cohort.evaluation.write_scores` wrote.

    Returns:
        The rows: ids and names as text, all other columns as float64, null where there is no score. Columns of text that are no
        metric's are left out.

    Raises:
        MissingFileError: no such file, or a folder without scores.
        CorruptFileError: no table of scores, a score that is no number, or a case and label twice.
        ConfigError: not JSON.
    """
    file = path / "scores.parquet" if path.is_dir() else path
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file", remedy="Write it with voxelry evaluate --out.")
    kind = file.suffix.lower()
    try:
        if kind == ".json":
            frame = pl.DataFrame(read_json(file).get("rows", []), infer_schema_length=None)
        else:
            frame = pl.read_parquet(file) if kind == ".parquet" else pl.read_csv(file, infer_schema=False)
        if not {"case", "label"} <= set(frame.columns):
            raise CorruptFileError(f"{file}: has no columns 'case' and 'label'", remedy="Write it with voxelry evaluate --out.")
        frame = frame.with_columns(pl.col(name).cast(pl.String) for name in _TEXT if name in frame.columns)
        numbers = frame.select(pl.exclude(_TEXT).cast(pl.Float64, strict=False))
    except (pl.exceptions.PolarsError, UnicodeDecodeError, TypeError) as error:
        raise CorruptFileError(f"{file}: holds no table of scores ({type(error).__name__})") from error
    twice = frame.filter(frame.select("case", "label").is_duplicated())
    if len(twice):
        raise CorruptFileError(
            f"{file}: case '{twice['case'][0]}' has label '{twice['label'][0]}' twice", remedy="Keep one row for each of them."
        )
    return frame.with_columns(numbers).drop(_not_numbers(frame, numbers, file))


def _not_numbers(frame: pl.DataFrame, numbers: pl.DataFrame, file: Path) -> list[str]:
    """Columns that hold text; those of metrics are refused."""
    names = [name for name in numbers.columns if numbers[name].null_count() > frame[name].null_count()]
    for name in names:
        if metric_named(name) is not None:
            text = frame[name].filter(numbers[name].is_null() & frame[name].is_not_null())[0]
            raise CorruptFileError(f"{file}: {name} is '{text}', which is no number", remedy="Leave the cell empty for no score.")
    return names


def _warn_of_unpaired(a: pl.DataFrame, b: pl.DataFrame) -> None:
    """Warn of cases, and of labels, that only one side has."""
    for column in ("case", "label"):
        sides = [frame[column].unique(maintain_order=True).to_list() for frame in (a, b)]
        for letter, own, other in (("A", *sides), ("B", *sides[::-1])):
            alone = [name for name in own if name not in set(other)]
            if alone:
                log.warning(
                    "%d of %d %ss are in %s alone and not compared: %s", len(alone), len(own), column, letter, shown(alone)
                )


def _held_out(both: pl.DataFrame) -> pl.DataFrame:
    """The rows without the cases of the split ``train``, where there are others."""
    if "split" not in both.columns:
        return both
    trained = (both["split"] == TRAINING).fill_null(value=False)
    if trained.all() or not trained.any():
        return both
    log.warning("%d cases of the split '%s' are left out", both.filter(trained)["case"].n_unique(), TRAINING)
    return both.filter(~trained)


def _of_metric(both: pl.DataFrame, metric: str, test: PairedTest, seed: int) -> list[Difference]:
    """A row for each label, the p values corrected over them."""
    labels = both["label"].unique(maintain_order=True).to_list()
    by_label = [both.filter(pl.col("label") == label) for label in labels]
    values = [(_column(rows, metric), _column(rows, f"{metric}_b")) for rows in by_label]
    groups = [rows["group" if "group" in rows.columns else "case"].cast(pl.String).to_list() for rows in by_label]
    p = np.array([_test(b - a, group, test, seed) for (a, b), group in zip(values, groups, strict=True)])
    differences = []
    for label, (a, b), group, chance, corrected in zip(labels, values, groups, p, holm(p), strict=True):
        change = bootstrap(b - a, group, seed=seed)
        known = ~np.isnan(b - a)
        differences.append(
            Difference(
                metric=metric,
                label=label,
                mean_a=_plain(a[known].mean()) if known.any() else None,
                mean_b=_plain(b[known].mean()) if known.any() else None,
                difference=_plain(change.mean),
                low=_plain(change.low),
                high=_plain(change.high),
                p=_plain(chance),
                p_corrected=_plain(corrected),
                n=change.n,
                missing=change.missing,
                winner=_winner(metric, change.mean, corrected),
            )
        )
    return differences


def _test(differences: NDArray[np.float64], groups: list[str], test: PairedTest, seed: int) -> float:
    means = patient_means(differences, groups)
    return permutation_test(means, seed) if test == "permutation" else wilcoxon_test(means)


def _winner(metric: str, difference: float, p: float) -> str:
    known = metric_named(metric)
    if known is None:
        return "unknown"
    if not p < SIGNIFICANT or difference == 0:
        return "neither"
    return "B" if (difference > 0) == (known.better == "higher") else "A"


def _column(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as float64, NaN where it is null; absolute values of signed errors."""
    values: NDArray[np.float64] = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = metric_named(name.removesuffix("_b"))
    return np.abs(values) if known is not None and known.better == "zero" else values


def _plain(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
