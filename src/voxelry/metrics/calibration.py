"""Calibration of probabilities: expected calibration error and Brier score.

Probabilities are ``(K, *spatial)``, channel 0 the background, and sum to 1 over K in every voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import IGNORE_INDEX
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError, UsageError

Values = NDArray[np.float64]

BINS = 15
"""Bins of equal width between 0 and 1, as Guo et al. 2017 use."""

SUM_TOLERANCE = 1e-2
"""Tolerance of the sum of a voxel's probabilities, which is 1: float16 files round that much."""

_CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence and accuracy of a prediction in bins of confidence, and its Brier score.

    Attributes:
        counts: ``(B,)`` int64 voxels in each bin of confidence; the b-th holds b/B < confidence <= (b+1)/B.
        confidence: ``(B,)`` mean confidence (the largest probability) in each bin, NaN in an empty one.
        accuracy: ``(B,)`` share of voxels whose most probable class is correct, NaN in an empty one.
        brier: the multi-class Brier score, 0 (best) to 2; NaN if no voxel counts.
    """

    counts: NDArray[np.int64]
    confidence: Values
    accuracy: Values
    brier: float

    @property
    def ece(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean over voxels of |accuracy - confidence| of their bin, 0..1.

        NaN if no voxel counts.
        """
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        filled = self.counts > 0
        return float((self.counts * np.abs(self.accuracy - self.confidence))[filled].sum() / total)

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest gap of a bin, 0..1; NaN if no voxel counts."""
        gaps = np.abs(self.accuracy - self.confidence)[self.counts > 0]
        return float(gaps.max()) if gaps.size else float("nan")


@dataclass(frozen=True, eq=False)
class BinCounts:
    """The voxels that a prediction gives to one label, in bins of its confidence in them; sums, so that cases can be added.

    Attributes:
        counts: ``(B,)`` voxels.
        confidence: ``(B,)`` sum of confidence.
        correct: ``(B,)`` voxels whose label is right.
    """

    counts: Values
    confidence: Values
    correct: Values

    @classmethod
    def summed(cls, cases: Iterable[BinCounts | None], weights: Values) -> BinCounts:
        """The sum of cases, each counted `weights` times; None counts nothing."""
        total = np.zeros((3, BINS))
        for case, weight in zip(cases, weights, strict=True):
            if case is not None:
                total += weight * np.array([case.counts, case.confidence, case.correct])
        return cls(*total)

    @property
    def gaps(self) -> Values:
        """``(F,)`` |accuracy - confidence| of each bin that holds voxels."""
        filled = self.counts > 0
        gaps: Values = np.abs(self.correct - self.confidence)[filled] / self.counts[filled]
        return gaps

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence| over the voxels; NaN without voxels."""
        total = float(self.counts.sum())
        return float(np.abs(self.correct - self.confidence).sum() / total) if total else float("nan")


def confidence_bins(
    confidence: NDArray[Any], truth: NDArray[Any], guess: NDArray[Any], labels: Sequence[int]
) -> dict[int, BinCounts]:
    """Confidence in the predicted class against being right, for each label in bins.

    Args:
        confidence: ``(*spatial)`` probability of the predicted class: whole numbers of 0..255 for 0..1, or floats of 0..1.
        truth: ``(*spatial)`` class indices of the reference.
        guess: ``(*spatial)`` class indices of the prediction, 0 where a voxel does not count.
        labels: class indices.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: values that are no probabilities.
    """
    if confidence.shape != truth.shape:
        raise GridMismatchError(f"a map of confidence of shape {confidence.shape} beside labels of {truth.shape}")
    highest = max(labels, default=0)
    totals = np.zeros((3, (highest + 1) * BINS))
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (confidence, truth, guess)]
    for start in range(0, truth.size, _CHUNK):
        certain, t, g = (array[start : start + _CHUNK] for array in flat)
        inside = np.flatnonzero((g > 0) & (g <= highest))
        p = _probability(certain[inside])
        cell = g[inside].astype(np.int64) * BINS + np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for row, weights in zip(totals, (None, p, t[inside] == g[inside]), strict=True):
            row += np.bincount(cell, weights, minlength=row.size)
    by_label = totals.reshape(3, highest + 1, BINS)
    return {label: BinCounts(*by_label[:, label]) for label in labels}


def _probability(values: NDArray[Any]) -> Values:
    """Confidence as float64 of 0..1, checked."""
    p = values / 255.0 if values.dtype.kind in "iu" else values.astype(np.float64)
    if p.size and not (p.min() >= 0 and p.max() <= 1 + SUM_TOLERANCE):
        raise LabelError(
            f"a map of confidence holds {p.min():.4g}..{p.max():.4g}",
            remedy="Give the probability of the predicted class: 0..1, or whole numbers of 0..255.",
        )
    return p


def calibration(
    probabilities: NDArray[Any], reference: NDArray[Any], *, bins: int = BINS, ignore: int | None = IGNORE_INDEX
) -> Calibration:
    """Compare probabilities with the reference.

    Args:
        probabilities: ``(K, *spatial)`` floats in 0..1 that sum to 1 over K.
        reference: ``(*spatial)`` class indices 0..K-1; `ignore` where a voxel counts nowhere.
        bins: number of bins of equal width.
        ignore: the reference value left out, or None.

    Returns:
        Bins and Brier score (Brier 1950): the mean over voxels of the squared distance between the probabilities and the
        one-hot truth, summed over classes. A binary problem with two channels gives twice what a one-channel formula gives.

    Raises:
        GridMismatchError: the shapes differ.
        LabelError: values that are not probabilities, or class indices outside 0..K-1.
        UsageError: fewer than one bin.
    """
    if bins < 1:
        raise UsageError(f"{bins} bins", remedy="Use at least one.")
    if probabilities.shape[1:] != reference.shape or probabilities.ndim < 2:
        raise GridMismatchError(
            f"probabilities of shape {probabilities.shape} (class first) against a reference of {reference.shape}"
        )
    chances = probabilities.reshape(len(probabilities), -1)
    truth = reference.reshape(-1)
    counts = np.zeros(bins, dtype=np.int64)
    confident, correct, squared = np.zeros(bins), np.zeros(bins), 0.0
    for start in range(0, truth.size, _CHUNK):
        p, t = _counted(chances[:, start : start + _CHUNK], truth[start : start + _CHUNK], ignore)
        top = p.max(axis=0)
        bin_of = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
        counts += np.bincount(bin_of, minlength=bins)
        confident += np.bincount(bin_of, top, minlength=bins)
        correct += np.bincount(bin_of, p.argmax(axis=0) == t, minlength=bins)
        squared += float((p * p).sum() - 2 * p[t, np.arange(t.size)].sum() + t.size)
    total = int(counts.sum())
    return Calibration(counts, _mean(confident, counts), _mean(correct, counts), squared / total if total else float("nan"))


def calibrate(probabilities: Volume, reference: LabelMap, *, bins: int = BINS) -> Calibration:
    """As `calibration`, for a Volume of probabilities and a LabelMap; ignored voxels of the map are left out.

    Args:
        probabilities: K channels: background, then the labels of the reference's table in order.
        reference: one layer, on the same grid up to order and direction of axes.
        bins: number of bins of equal width.

    Raises:
        GridMismatchError: the grids differ.
        LabelError: as `calibration`, or the number of channels is not that of the classes.
    """
    if probabilities.channels != len(reference.table) + 1:
        raise LabelError(
            f"{probabilities.source.name}: {probabilities.channels} channels for {len(reference.table)} labels and background"
        )
    truth = reference.on_grid(probabilities.geometry)
    return calibration(probabilities.array, truth.table.to_classes(truth.array, truth.source.name), bins=bins)


def _counted(chances: NDArray[Any], truth: NDArray[Any], ignore: int | None) -> tuple[Values, NDArray[np.int64]]:
    """The voxels that count, checked: ``(K, n)`` probabilities and ``(n,)`` class indices."""
    counted = np.ones(truth.shape, dtype=bool) if ignore is None else truth != ignore
    p, t = chances[:, counted].astype(np.float64), truth[counted].astype(np.int64)
    if t.size and not 0 <= t.min() <= t.max() < len(chances):
        raise LabelError(f"class indices {t.min()}..{t.max()} are not all in 0..{len(chances) - 1}")
    if p.size and not (
        p.min() >= -SUM_TOLERANCE and p.max() <= 1 + SUM_TOLERANCE and np.abs(p.sum(axis=0) - 1).max() <= SUM_TOLERANCE
    ):
        raise LabelError(
            f"probabilities between {p.min():.4g} and {p.max():.4g} that do not sum to 1 over the classes",
            remedy="Apply softmax to logits first, and give the background a channel.",
        )
    return p, t


def _mean(totals: Values, counts: NDArray[np.int64]) -> Values:
    result: Values = np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return result
