"""Compression: a smaller student learns from a model or an ensemble, and both are compared on held-out cases.

The student has the teacher's plan, so that both see the same patches, with half of the channels in each stage and without
mirrored passes, unless the recipe says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from voxelry.core.architectures import architecture, is_import_path
from voxelry.core.model import Model
from voxelry.core.plan import Plan
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_image
from voxelry.errors import ConfigError, ModelError
from voxelry.inference.predictor import Predictor
from voxelry.metrics.scores import Scores
from voxelry.recipes.recipe import Config, parse_config
from voxelry.training.options import RunOptions
from voxelry.training.predictions import HeldOutCases, StoredPredictions, score_cases
from voxelry.training.result import TrainResult
from voxelry.training.run_files import RECIPE_FILE, save_comparison

TEACHER_FOLDER = "teacher-predictions"
"""Masks of the held-out cases by the teacher, in the folder of the run."""

NARROWEST = 4
"""Channels of a student's stage at least."""


@dataclass(frozen=True)
class Comparison:
    """A student beside its teacher, on cases that the student did not learn from.

    Attributes:
        cases: number of cases.
        teacher_dice: mean Dice of the teacher, over labels and cases; None where no case has a label.
        student_dice: that of the student.
        teacher_seconds: of a case, read already, by the teacher: the median.
        student_seconds: that of the student.
        teacher_parameters: numbers in the teacher's networks together.
        student_parameters: those in the student's.
    """

    cases: int
    teacher_dice: float | None
    student_dice: float | None
    teacher_seconds: float
    student_seconds: float
    teacher_parameters: int
    student_parameters: int

    @property
    def loss(self) -> float | None:
        """Dice that the student loses; below 0 where it gains."""
        return None if self.teacher_dice is None or self.student_dice is None else self.teacher_dice - self.student_dice

    @property
    def time(self) -> float:
        """The student's time as a share of the teacher's."""
        return self.student_seconds / self.teacher_seconds

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self), "loss": self.loss, "time": self.time}


@dataclass(frozen=True, eq=False)
class Compression:
    """A student and how it compares.

    Attributes:
        training: result of the student's training.
        comparison: beside the teacher; None where no case was held out.
    """

    training: TrainResult
    comparison: Comparison | None

    @property
    def path(self) -> Path:
        """Folder of the student."""
        return self.training.path


def recorded_recipe_of(model: Path) -> Path:
    """The recipe by which a model was trained, in the folder of its run.

    Args:
        model: folder of the model, or of its run.

    Raises:
        ModelError: it does not lie in the folder of a run.
    """
    for folder in (model, model.resolve().parent):
        if (folder / RECIPE_FILE).is_file():
            return folder / RECIPE_FILE
    raise ModelError(f"{model}: no {RECIPE_FILE} beside it", remedy="Name the recipe, as --recipe FILE.")


def student_plan(teachers: Sequence[Model], features: Sequence[int] | None, flips: Sequence[int]) -> Plan:
    """The plan of a student.

    Args:
        teachers: members of the teacher.
        features: channels of each stage; None takes half of those of the narrowest member.
        flips: axes that the student mirrors along at inference.

    Raises:
        ConfigError: the teacher's network has channels that its authors fix, and no others are given.
    """
    plan = min((model.plan for model in teachers), key=lambda plan: plan.network.features)
    name = plan.network.name
    if features is None and (is_import_path(name) or architecture(name).fixed_width):
        raise ConfigError(f"the channels of the network '{name}' are fixed", remedy="Set plan.features of the student.")
    halved = tuple(max(NARROWEST, width // 2) for width in plan.network.features)
    network = plan.network.model_copy(update={"features": tuple(features) if features is not None else halved})
    reason = f"The student has {', '.join(map(str, network.features))} channels; everything else is as the teacher's plan has it."
    return plan.model_copy(update={"network": network, "flips": tuple(flips), "reasons": (*plan.reasons, reason)})


def student_recipe(recipe: Config, teacher: Path, plan: Plan) -> Config:
    """The recipe of a student: that of its teacher, with one network of the student's plan."""
    values: dict[str, Any] = recipe.model_dump(exclude_unset=True, exclude={"folds", "configurations", "initial"})
    values |= {"teacher": str(teacher.resolve()), "flips": plan.flips, "overlap": plan.overlap, "plan": {}}
    return parse_config(values, "the student's recipe")


def compare_with_teacher(options: RunOptions, teachers: Sequence[Model], result: TrainResult, folder: Path) -> Comparison | None:
    """Compare a trained student with its teacher on the held-out cases, and write the comparison.

    Args:
        options: options of the student's run.
        teachers: members of the teacher.
        result: result of the run.
        folder: folder of the run.

    Returns:
        None where no case was held out.
    """
    held_out = [case for case in options.manifest.split("val") if case.has_labels]
    if result.scores is None or not held_out:
        return None
    comparison = _compared(options, teachers, result, held_out, folder)
    save_comparison(comparison.to_dict(), folder)
    return comparison


def _compared(
    options: RunOptions, teachers: Sequence[Model], result: TrainResult, cases: Sequence[Case], folder: Path
) -> Comparison:
    """Both models on every case, one after the other, so that a change of the machine's speed meets both."""
    store = StoredPredictions(folder / TEACHER_FOLDER, teachers[0].labels)
    predictors = [Predictor(models, options.config.device) for models in (teachers, result.models)]
    seconds: list[list[float]] = [[], []]
    for predictor in predictors:  # the first scan builds and chooses what computes the network
        predictor.scans = len(cases)
        predictor.predict(load_image(cases[0], options.manifest.card))
    for number, case in enumerate(cases, start=1):
        volume = load_image(case, options.manifest.card)
        for side, predictor in enumerate(predictors):
            began = time.perf_counter()
            prediction = predictor.predict(volume)
            seconds[side].append(time.perf_counter() - began)
            if side == 0:
                store.save(case.id, prediction.labels)
        options.progress("comparing with the teacher", number, len(cases))
    taught = score_cases(HeldOutCases(options.manifest, cases, lambda _: store), options.progress)
    assert result.scores is not None
    return Comparison(
        len(cases),
        _mean_dice(taught),
        _mean_dice(result.scores),
        median(seconds[0]),
        median(seconds[1]),
        _parameters(teachers),
        _parameters(result.models),
    )


def _mean_dice(scores: Scores) -> float | None:
    value: float | None = scores.to_dict()["mean_dice"]
    return value


def _parameters(models: Sequence[Model]) -> int:
    return sum(weights.numel() for model in models for weights in model.weights.values())
