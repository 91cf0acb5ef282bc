"""Quality: an estimate of a prediction's Dice without a reference, and flags about what is unlike the training cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voxelry.core.model import Model
from voxelry.core.quality_model import DiceRegression, Population, QualityModel
from voxelry.core.volume import Volume
from voxelry.inference.case_measures import CaseMeasures, measure_case
from voxelry.inference.predictor import Prediction
from voxelry.inference.quality_features import features_of
from voxelry.inference.quality_flags import flags_of

EXPECTED = 0.5
"""Share of the training references from which on a label counts as expected in every scan."""

_TRUST = 0.9
"""What a flag leaves of the trust in a prediction."""

OLD_MODEL = "the model was trained before quality control, or without labels: train it again"
UNCALIBRATED = "too few validation cases to calibrate on"


@dataclass(frozen=True)
class Quality:
    """What quality control says of one prediction.

    Attributes:
        dice: predicted mean Dice over labels, 0..1; None where it cannot be told.
        reason: why it cannot; empty where it can.
        label_dice: predicted Dice of each label.
        review: whether somebody should look at it: the predicted Dice is below that of nearly all validation cases, or a flag is
            serious (a missing organ, labels the other way up, a size or a place that no training case has).
        flags: what is unusual, in sentences with numbers.
        features: label -> feature -> value (`voxelry.inference.quality_features`).

    Example:
        >>> from voxelry.inference import Quality
        >>> round(Quality(0.8, flags=("liver is missing",)).doubt, 2), Quality(0.9).as_dict()["dice"]
        (0.28, 0.9)
    """

    dice: float | None
    reason: str = ""
    label_dice: Mapping[str, float] = field(default_factory=dict)
    review: bool = False
    flags: tuple[str, ...] = ()
    features: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def doubt(self) -> float:
        """From 0, none, to 1: by the predicted Dice, of which each flag takes a tenth; without it by flags alone."""
        if self.dice is None:
            return 1.0 if self.review else 1 - _TRUST ** len(self.flags)
        return 1 - self.dice * _TRUST ** len(self.flags)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, rounded, for JSON."""
        return {
            "dice": None if self.dice is None else round(self.dice, 4),
            "reason": self.reason,
            "label_dice": {name: round(value, 4) for name, value in self.label_dice.items()},
            "review": self.review,
            "doubt": round(self.doubt, 4),
            "flags": [*self.flags],
            "features": {name: {key: round(value, 3) for key, value in row.items()} for name, row in self.features.items()},
        }


def assess(volume: Volume, prediction: Prediction, model: Model) -> Quality:
    """Estimate how good a prediction is.

    Args:
        volume: the scan.
        prediction: of the scan.
        model: that predicted it, or the first of an ensemble.

    Returns:
        The estimate; without a predicted Dice where the model was not calibrated.

    Example:
        >>> from voxelry.core import Fingerprint, Model, ModelCard, NetworkPlan, Normalisation, Plan
        >>> from voxelry.inference import Prediction, assess
        >>> from voxelry.phantom import small_phantom
        >>> phantom = small_phantom()
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1,) * 3, (2,) * 3, (2,) * 3), kernels=((3,) * 3,) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=3, channels=("CT",), normalisation=(norm,), patch_size=(8,) * 3, batch_size=1, network=network)
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=3, channels=("CT",), shapes=((8, 8, 8),) * 3, orientations={"RAS": 1},
        ...     statistics=(), voxels=512, label_voxels={},
        ... )
        >>> card = ModelCard(name="torso", version="0.1", labels=phantom.labels.table, fingerprint=fingerprint)
        >>> assess(phantom.volume, Prediction(phantom.labels, {"liver": 0.9}), Model(plan, card, weights={})).reason
        'the model was trained before quality control, or without labels: train it again'
    """
    if model.quality is None:
        return Quality(None, OLD_MODEL)
    measures = measure_case(volume, prediction.labels)
    return assess_measures(measures, prediction.confidence, prediction.agreement, model.quality)


def assess_measures(
    measures: CaseMeasures,
    confidence: Mapping[str, float | None],
    agreement: Mapping[str, float | None],
    known: QualityModel,
) -> Quality:
    """The same of measures that were made before.

    Args:
        measures: of the prediction.
        confidence: label -> mean probability.
        agreement: label -> Dice between passes.
        known: what the model knows of its training references and its errors.
    """
    population, regression = known.population, known.regression
    features = features_of(measures, population, confidence, agreement)
    flags, is_serious = flags_of(measures, features, population, regression)
    if regression is None:
        return Quality(None, UNCALIBRATED, {}, is_serious, flags, features)
    label_dice = predicted_label_dice(measures, features, population, regression)
    dice = sum(label_dice.values()) / len(label_dice) if label_dice else 0.0
    review = is_serious or dice < regression.review_below
    return Quality(dice, "", label_dice, review, flags, features)


def predicted_label_dice(
    measures: CaseMeasures,
    features: Mapping[str, Mapping[str, float]],
    population: Population,
    regression: DiceRegression,
) -> dict[str, float]:
    """Predicted Dice (0..1) of each label that is there or should be.

    A label that is missing has the Dice it would have if all is well, times the share of training references without it: 0 for
    one that all of them have. It is left out where fewer than half of them have it.
    """
    label_dice = {}
    for name, known in population.labels.items():
        usual = regression.label_dice.get(name)
        if usual is None:
            continue
        if measures.labels.get(name):
            label_dice[name] = min(1.0, max(0.0, usual - loss(features.get(name, {}), regression)))
        elif known.present >= EXPECTED * population.cases:
            label_dice[name] = usual * (1 - known.present / population.cases)
    return label_dice


def loss(features: Mapping[str, float], regression: DiceRegression) -> float:
    """Dice that a label loses by its features, against the mean of the validation cases; an unknown feature costs nothing."""
    parts = zip(regression.features, regression.typical, regression.weights, strict=True)
    return math.fsum(weight * (features[name] - typical.mean) for name, typical, weight in parts if name in features)
