"""Quality control ranks cases by their true Dice, and finds corrupted scans, without a reference.

    VOXELRY_DATA=... voxelry train configs/hippocampus.yaml --out runs/hippocampus
    VOXELRY_DATA=... python benchmarks/quality.py runs/hippocampus

Spearman's correlation of predicted and true Dice over the validation cases, each predicted by a calibration that has not seen its
patient: with and without corrupted copies to learn from, and of each feature alone. Then 20 corrupted scans, of ten kinds of
which calibration knows half: AUC of finding them among the validation cases, and how many of each are marked for review.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import print_rows
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import rankdata, spearmanr

from voxelry.core.quality_model import Population, QualityModel
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.inference.case_measures import measure_case
from voxelry.inference.predictor import Predictor
from voxelry.inference.quality import Quality, assess_measures
from voxelry.inference.quality_features import FEATURES
from voxelry.metrics.evaluate import score
from voxelry.networks.weights import load_models
from voxelry.recipes.recipe import load_config
from voxelry.training.dice_regression import CalibrationCase, fit_regression
from voxelry.training.quality_calibration import dice_of, measure_population
from voxelry.training.scan_corruptions import CORRUPTIONS, corrupted

SCANS = 20
BARS = {"spearman": 0.3, "auc": 0.8}
Pair = tuple[Volume, LabelMap]


@dataclass(frozen=True, eq=False)
class Collected:
    """Predictions of a run's validation cases, of copies to learn from, and of corrupted scans to find."""

    population: Population
    real: list[CalibrationCase]
    learnt: list[CalibrationCase]
    hidden: list[tuple[str, CalibrationCase]]


def main() -> int:
    """Collect, or take what was kept, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("--keep", type=Path, help="file to keep predictions in, or to take them from")
    options = parser.parse_args()
    if options.keep and options.keep.is_file():
        collected = pickle.loads(options.keep.read_bytes())
    else:
        collected = collect(options.run)
        if options.keep:
            options.keep.write_bytes(pickle.dumps(collected))
    return report(options.run.name, collected)


def collect(run: Path) -> Collected:
    """Predict everything."""
    manifest = load_manifest(Path(load_config(run / "recipe.yaml").manifest))
    models = load_models(run / "model")
    predictor, table = Predictor(models), models[0].labels
    population = measure_population(manifest, manifest.split("train"), table, lambda *_: None)
    assert population is not None
    cases = [case for case in manifest.split("val") if case.has_labels]
    real = [_predicted(predictor, case, load_pair(case, manifest)) for case in cases]
    kinds = [*CORRUPTIONS]
    learnt, hidden = [], []
    for number, case in enumerate(cases[: 2 * SCANS]):
        pair = load_pair(case, manifest)
        kind = kinds[number % len(kinds)]
        learnt.append(_predicted(predictor, case, corrupted(*pair, kind, number), corrupted=True))
    for number in range(SCANS):
        case = cases[(3 * number + 1) % len(cases)]
        kind = [*HIDDEN][number % len(HIDDEN)]
        pair = HIDDEN[kind](*_as_float(*load_pair(case, manifest)), np.random.default_rng(number))
        hidden.append((kind, _predicted(predictor, case, pair, corrupted=True)))
    return Collected(population, real, learnt, hidden)


def load_pair(case: Case, manifest: Manifest) -> Pair:
    """A case with its reference."""
    volume, reference = load_case(case, manifest)
    assert reference is not None
    return volume, reference


def _predicted(predictor: Predictor, case: Case, pair: Pair, corrupted: bool = False) -> CalibrationCase:
    volume, reference = pair
    prediction = predictor.predict(volume)
    dice = dice_of(score(reference, prediction.labels, case.id), 0)
    measures = measure_case(volume, prediction.labels)
    return CalibrationCase(case.group or case.id, measures, prediction.confidence, prediction.agreement, dice, corrupted)


def report(name: str, given: Collected) -> int:
    """Print what was measured; 1 where a bar is missed."""
    truth = _mean_dice(given.real)
    choices = {
        "all features, validation cases alone": ([], FEATURES),
        "all features, corrupted copies too": (given.learnt, FEATURES),
    }
    choices |= {f"{feature} alone, corrupted copies too": (given.learnt, (feature,)) for feature in FEATURES}
    rows = []
    for what, (learnt, features) in choices.items():
        regression = fit_regression([*given.real, *learnt], given.population, features)
        assert regression is not None
        weights = dict(zip(regression.features, (round(weight, 3) for weight in regression.weights), strict=True))
        rows.append({"learnt from": what, "Spearman": regression.rank_correlation, "RMSE": regression.error, "weights": weights})
    print(f"{name}: {len(truth)} validation cases, Dice {truth.mean():.3f} ({truth.min():.3f} to {truth.max():.3f})")
    print_rows(rows, ("scipy", "torch"))
    real = judged(given, given.real, given.learnt)
    hidden = judged(given, [case for _, case in given.hidden], given.learnt)
    auc = _auc([quality.doubt for quality in hidden], [quality.doubt for quality in real])
    alone = judged(given, [case for _, case in given.hidden], [])
    auc_alone = _auc([q.doubt for q in alone], [q.doubt for q in judged(given, given.real, [])])
    hurt = _mean_dice([case for _, case in given.hidden])
    lines = [
        {
            "corruption": kind,
            "Dice": round(dice, 3),
            "predicted": round(quality.dice or 0.0, 3),
            "review": quality.review,
            "flags": "; ".join(quality.flags)[:120],
        }
        for (kind, _), quality, dice in zip(given.hidden, hidden, hurt, strict=True)
    ]
    print_rows(lines, ())
    spearman = float(rows[1]["Spearman"] or 0.0)
    both = _spearman([quality.dice for quality in (*real, *hidden)], np.concatenate([truth, hurt]))
    print(f"Spearman {spearman:.2f} on validation cases, {both:.2f} with the corrupted ones")
    print(f"AUC {auc:.2f}, {auc_alone:.2f} without corrupted copies to learn from")
    is_low = hurt < np.percentile(truth, 5)
    marked = np.array([quality.review for quality in hidden])
    print(f"marked for review: {marked.sum()} of {len(hidden)} corrupted, {marked[is_low].sum()} of {is_low.sum()} of low Dice")
    print(f"marked for review: {sum(quality.review for quality in real)} of {len(real)} validation cases")
    return int(spearman < BARS["spearman"] or auc < BARS["auc"])


def judged(
    given: Collected, cases: Sequence[CalibrationCase], learnt: Sequence[CalibrationCase], features: Sequence[str] = FEATURES
) -> list[Quality]:
    """Each case by a calibration that has not seen its patient."""
    results = []
    known: dict[str, QualityModel] = {}
    for case in cases:
        if case.patient not in known:
            others = [other for other in (*given.real, *learnt) if other.patient != case.patient]
            regression = fit_regression(others, given.population, features)
            known[case.patient] = QualityModel(population=given.population, regression=regression)
        results.append(assess_measures(case.measures, case.confidence, case.agreement, known[case.patient]))
    return results


def _mean_dice(cases: Sequence[CalibrationCase]) -> NDArray[np.float64]:
    return np.array([np.mean([*case.dice.values()]) for case in cases])


def _spearman(guess: Sequence[float | None], truth: NDArray[np.float64]) -> float:
    values = np.array(guess, np.float64)
    return float(spearmanr(values, truth).statistic) if np.ptp(values) > 0 else 0.0


def _auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive ranks above a negative (Mann and Whitney)."""
    ranks = rankdata([*positive, *negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def _as_float(volume: Volume, reference: LabelMap) -> Pair:
    return replace(volume, pixels=volume.array.astype(np.float32), outside=None), reference


def _grey(change: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]) -> Callable[..., Pair]:
    def apply(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
        return replace(volume, pixels=change(volume.array, rng).astype(np.float32)), reference

    return apply


def _moved(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[..., Pair]:
    def apply(volume: Volume, reference: LabelMap, _: np.random.Generator) -> Pair:
        array, layers = (np.ascontiguousarray(change(each)) for each in (volume.array, reference.layers))
        return replace(volume, pixels=array), replace(reference, layers=layers)

    return apply


def _cut(volume: Volume, reference: LabelMap, rng: np.random.Generator) -> Pair:
    shape = list(volume.geometry.shape)
    axis = int(rng.integers(len(shape)))
    shape[axis] = shape[axis] * 6 // 10
    box = (slice(None), *(slice(0, n) for n in shape))
    geometry = volume.geometry.cropped([0] * len(shape), shape)
    return replace(volume, pixels=volume.array[box], geometry=geometry), replace(
        reference, layers=reference.layers[box], geometry=geometry
    )


def _block(grey: NDArray[Any], _: np.random.Generator) -> NDArray[Any]:
    """A third of each axis in the middle of the scan is black, as under a metal plate."""
    covered = grey.copy()
    covered[(slice(None), *(slice(n // 3, 2 * n // 3) for n in grey.shape[1:]))] = grey.min()
    return covered


def _ghosts(grey: NDArray[Any], _: np.random.Generator) -> NDArray[Any]:
    """Two displaced copies over the image, as of motion."""
    far = [n / 6 for n in grey.shape[1:]]
    copies = [
        np.stack([shift(channel, [sign * d for d in far], order=1, mode="nearest") for channel in grey]) for sign in (1, -1)
    ]
    return (grey + 0.6 * (copies[0] + copies[1])) / 2.2


def _width(grey: NDArray[Any]) -> float:
    low, high = np.percentile(grey, (5, 95))
    return float(high - low) or 1.0


def _head_axis(array: NDArray[Any]) -> int:
    return 1 if array.ndim == 3 else 3  # rows of a picture; the sets of volumes here are stored RAS


HIDDEN: dict[str, Callable[..., Pair]] = {
    "upside down": _moved(lambda array: np.flip(array, _head_axis(array))),
    "noise": _grey(lambda grey, rng: grey + 0.6 * _width(grey) * rng.standard_normal(grey.shape)),
    "blur": _grey(lambda grey, _: np.stack([gaussian_filter(channel, 3.0) for channel in grey])),
    "cut": _cut,
    "power": _grey(lambda grey, _: grey.min() + _width(grey) * (np.clip(grey - grey.min(), 0, None) / _width(grey)) ** 2.5),
    "quarter turn": _moved(lambda array: _turned(array)),
    "inverted": _grey(lambda grey, _: grey.max() - grey),
    "ghosts": _grey(_ghosts),
    "block": _grey(_block),
    "salt": _grey(lambda grey, rng: np.where(rng.random(grey.shape) < 0.1, np.percentile(grey, 99), grey)),
}
"""Of the first five calibration knows the like, of the others not."""


def _turned(array: NDArray[Any]) -> NDArray[Any]:
    """A quarter turn in the plane of the first two axes, cut or padded to the old shape."""
    turned = np.rot90(array, axes=(1, 2))
    result = np.zeros_like(array)
    both = tuple(slice(0, min(a, b)) for a, b in zip(turned.shape, array.shape, strict=True))
    result[both] = turned[both]
    return result


if __name__ == "__main__":
    raise SystemExit(main())
