"""QualityModel: what a model knows of its training references and of its own errors, to estimate the Dice of a new scan."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from voxelry.base.schema import Frozen


class MeasureSpread(Frozen):
    """One measure over many cases.

    Attributes:
        mean, std: over the cases that have it.
        low, high: the smallest and the largest.
    """

    mean: float
    std: float = Field(ge=0)
    low: float
    high: float


class LabelPopulation(Frozen):
    """One label over the training references.

    Attributes:
        present: number of references that have it.
        measures: by the names of `voxelry.inference.case_measures`.
    """

    present: int = Field(ge=0)
    measures: dict[str, MeasureSpread] = Field(default_factory=dict)


class Population(Frozen):
    """The training references.

    Attributes:
        cases: number of references that were measured.
        labels: by name; every label of the model.
        scan: measures of the scans themselves.
    """

    cases: int = Field(ge=1)
    labels: dict[str, LabelPopulation]
    scan: dict[str, MeasureSpread] = Field(default_factory=dict)


class DiceRegression(Frozen):
    """Ridge regression of the loss of Dice on features of a prediction, whose weights are not negative.

    Attributes:
        features: names (`voxelry.inference.quality_features`).
        typical: of each feature on validation cases as they are; the regression gives their mean Dice at its mean.
        weights: loss of Dice by one unit of each feature.
        label_dice: mean Dice of each label over the validation cases.
        cases: number of validation cases.
        corrupted: number of corrupted copies of them that it learnt from too.
        error: root mean square error of a case's Dice, each case predicted by a regression that had not seen its patient.
        rank_correlation: Spearman's, of the same predictions; None where all are equal.
        review_below: predicted Dice below which a case should be looked at.
    """

    features: tuple[str, ...]
    typical: tuple[MeasureSpread, ...]
    weights: tuple[float, ...]
    label_dice: dict[str, float]
    cases: int = Field(ge=1)
    corrupted: int = Field(ge=0)
    error: float = Field(ge=0)
    rank_correlation: float | None = None
    review_below: float

    @model_validator(mode="after")
    def _as_long_as_features(self) -> Self:
        if not len(self.features) == len(self.typical) == len(self.weights):
            raise ValueError(f"{len(self.features)} features, {len(self.typical)} spreads, {len(self.weights)} weights")
        return self


class QualityModel(Frozen):
    """What quality control of a model's predictions needs, kept in its card.

    Attributes:
        version: of these fields.
        population: the training references.
        regression: None where there were too few validation cases; then there are flags only.

    Example:
        >>> from voxelry.core.quality_model import LabelPopulation, Population
        >>> QualityModel(population=Population(cases=3, labels={"liver": LabelPopulation(present=3)})).regression is None
        True
    """

    version: Literal[1] = 1
    population: Population
    regression: DiceRegression | None = None
