"""Cross-validation: every configuration with every fold, judged on cases that it has not seen, and the best kept as a model.

A run's folder holds `folds.json`; of each configuration `<configuration>/plan.yaml` and `<configuration>/fold_<n>/` with
checkpoint, history, model, predictions and scores; and at the end `choice.json`, `model/` (the folds' networks together),
`validation.json` and `validation.csv` (all cases, each predicted by networks that have not seen it). A fold with scores is
finished and is not trained again.

Plans are made from all cases together, as nnU-Net's are: a fold's network learns from its own cases alone, but median sizes and,
of CT, the range of grey values come from the others too.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelry.base.files import write_json
from voxelry.core.model import Model
from voxelry.core.plan import Configuration, Plan
from voxelry.datasets.cases import Case
from voxelry.errors import TrainingError
from voxelry.inference.predictor import Predictor
from voxelry.metrics.scores import Scores
from voxelry.networks.weights import load_models, save_ensemble
from voxelry.training.checkpoint import CHECKPOINT_FILE, Milestone, load_checkpoint
from voxelry.training.clean_up_choice import CleanUpChoice
from voxelry.training.find_best_configuration import Candidate, Choice, candidates, name_of
from voxelry.training.fit import MODEL_FOLDER, PREDICTIONS_FOLDER, Run, Task, fit, refuse_begun
from voxelry.training.folds import Folds
from voxelry.training.model_card import write_model_card
from voxelry.training.predictions import Held, Predictions, predict_cases, score_cases, score_cleaned
from voxelry.training.result import TrainResult
from voxelry.training.run_files import VALIDATION_FILE, save_validation, whole_scores
from voxelry.training.tracking import track_result

log = logging.getLogger(__name__)

CHOICE_FILE = "choice.json"
ENSEMBLES_FOLDER = "ensembles"
FIRST_STAGE: Configuration = "3d_lowres"
SECOND_STAGE: Configuration = "3d_cascade"


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A cross-validation.

    Attributes:
        run: recipe, dataset and folder.
        plans: of each configuration; a cascade's first stage stands before its second.
        folds: who is held out when.
        cases: all that take part.
        share: seconds that each network may take, where the whole command has a time budget; None elsewhere.
        began: monotonic time at which the command began.
    """

    run: Run
    plans: Mapping[Configuration, Plan]
    folds: Folds
    cases: Sequence[Case]
    share: float | None
    began: float

    def home(self, configuration: Configuration, fold: int) -> Path:
        """The folder of one network."""
        return self.run.folder / configuration / f"fold_{fold}"

    def is_finished(self, configuration: Configuration, fold: int) -> bool:
        """It was trained and scored."""
        return (self.home(configuration, fold) / VALIDATION_FILE).is_file()

    def train(self, folds: Sequence[int], *, resume: bool) -> dict[Configuration, dict[int, Scores]]:
        """Train and score the networks of some folds that are not finished.

        Args:
            folds: their numbers.
            resume: go on with networks that were begun.

        Returns:
            The scores of those that were trained now.

        Raises:
            UsageError: a network was begun, and `resume` is not asked for.
            TrainingError: the second stage of a cascade needs a fold of the first that is not finished; or as `fit`.
        """
        todo = [(name, fold) for name in self.plans for fold in folds if not self.is_finished(name, fold)]
        if not resume:
            for name in self.plans:
                for fold in folds:
                    refuse_begun(self.home(name, fold))
        scores: dict[Configuration, dict[int, Scores]] = {}
        last = self.began
        for number, (name, fold) in enumerate(todo):
            self.run.progress("networks", number, len(todo))
            log.info("%s, fold %d of %d", name, fold, len(self.folds))
            now = time.monotonic()
            spent = now - last if self.share is None else max(0.0, now - self.began - number * self.share)
            scores.setdefault(name, {})[fold] = self._train(name, fold, spent)
            last = time.monotonic()
        self.run.progress("networks", len(todo), len(todo))
        if todo:
            shutil.rmtree(self.run.folder / ENSEMBLES_FOLDER, ignore_errors=True)
        return scores

    def _train(self, name: Configuration, fold: int, spent: float) -> Scores:
        training, validation = self.folds.sides(fold, self.cases)
        home = self.home(name, fold)
        task = Task(self.plans[name], training, validation, home, *self._first_stage(name, fold))
        model, state = fit(self.run, task, resume=(home / CHECKPOINT_FILE).is_file(), spent=spent)
        held = Held(self.run.manifest, validation, lambda _: self.store(name, fold))
        predict_cases(lambda: Predictor(model, self.run.config.device), held, self.run.progress)
        scores = score_cases(held, self.run.progress)
        track_result(self.run.config, task.plan, home, state, whole_scores(scores), home / MODEL_FOLDER)
        save_validation(scores, home, task.plan.regions)
        return scores

    def _first_stage(self, name: Configuration, fold: int) -> tuple[Model, Held] | tuple[()]:
        """Of a second stage the first: this fold's network, and what networks found in all cases that they had not seen."""
        if name != SECOND_STAGE:
            return ()
        missing = [str(other) for other in range(len(self.folds)) if not self.is_finished(FIRST_STAGE, other)]
        if missing:
            raise TrainingError(
                f"{self.run.folder}: a cascade's second stage needs every fold of its first, and fold {', '.join(missing)} of "
                f"{FIRST_STAGE} is not finished",
                remedy="Train the other folds, then come back with --resume.",
            )
        return self.model(FIRST_STAGE, fold), self.held((FIRST_STAGE,))

    def model(self, configuration: Configuration, fold: int) -> Model:
        """A finished network."""
        return load_models(self.home(configuration, fold) / MODEL_FOLDER, self.run.config.plan.network)[0]

    def store(self, configuration: str, fold: int) -> Predictions:
        """Where a fold's held-out cases are predicted."""
        return Predictions(self.run.folder / configuration / f"fold_{fold}" / PREDICTIONS_FOLDER, self.run.manifest.card.table)

    def held(self, candidate: Candidate) -> Held:
        """All cases, each with the prediction of networks that have not seen it."""
        fold_of = {id: fold for fold, part in enumerate(self.folds.parts) for id in part}
        place = candidate[0] if len(candidate) == 1 else f"{ENSEMBLES_FOLDER}/{name_of(candidate)}"
        return Held(self.run.manifest, self.cases, lambda case: self.store(place, fold_of[case.id]))

    def compare(self) -> Choice:
        """Score every candidate on all cases; predictions of two together are made here."""
        mean_dice = {}
        for candidate in candidates(list(self.plans)):
            if len(candidate) > 1:
                self._predict_together(candidate)
            scores = score_cases(self.held(candidate), self.run.progress, name=f"scoring {name_of(candidate)}")
            mean_dice[candidate] = scores.mean_dice
            if len(candidate) == 1:
                save_validation(scores, self.run.folder / candidate[0], self.plans[candidate[0]].regions)
        return Choice(mean_dice)

    def _predict_together(self, candidate: Candidate) -> None:
        held = self.held(candidate)
        for fold in range(len(self.folds)):
            _, validation = self.folds.sides(fold, self.cases)
            models = [self.model(name, fold) for name in candidate]
            predict_cases(
                lambda models=models: Predictor(models, self.run.config.device),  # type: ignore[misc]
                Held(held.manifest, validation, held.store),
                self.run.progress,
            )

    def finish(self) -> TrainResult:
        """Choose by all folds, and keep the chosen networks together as a model."""
        choice = self.compare()
        held = self.held(choice.best)
        table = self.run.manifest.card.table
        clean_up = CleanUpChoice(table, self.plans[choice.best[0]].dimensions)
        scores = score_cleaned(held, self.run.progress, clean_up)
        record = {**choice.record(), "clean_up": clean_up.record()}
        write_json(self.run.folder / CHOICE_FILE, record)
        members = [self.model(name, fold) for name in choice.best for fold in range(len(self.folds))]
        path = self.run.folder / MODEL_FOLDER
        training = {**record, "folds": len(self.folds), "scores": scores.to_dict()}
        models = save_ensemble(members, path, clean_up=clean_up.rules(), training=training)
        write_model_card(path, models, self.run.manifest.card, scores, _in_words(choice, len(self.folds)))
        save_validation(scores, self.run.folder, self.plans[choice.best[0]].regions)
        return TrainResult(self.run.folder, path, models, scores, self.histories(), time.monotonic() - self.began)

    def histories(self) -> dict[str, tuple[Milestone, ...]]:
        """The milestones of every network there is, by its name."""
        homes = {(name, fold): self.home(name, fold) for name in self.plans for fold in range(len(self.folds))}
        return {
            f"{name}, fold {fold}": tuple(load_checkpoint(home).history)
            for (name, fold), home in homes.items()
            if (home / CHECKPOINT_FILE).is_file()
        }

    def one_fold(self, fold: int, scores: Mapping[Configuration, Mapping[int, Scores]]) -> TrainResult:
        """What training a single fold left: the network of the last configuration, and the scores of its held-out cases."""
        name = list(self.plans)[-1]
        path = self.home(name, fold) / MODEL_FOLDER
        _, validation = self.folds.sides(fold, self.cases)
        known = scores.get(name, {}).get(fold)
        if known is None:
            known = score_cases(Held(self.run.manifest, validation, lambda _: self.store(name, fold)), self.run.progress)
        return TrainResult(
            self.run.folder, path, (self.model(name, fold),), known, self.histories(), time.monotonic() - self.began
        )


def _in_words(choice: Choice, folds: int) -> str:
    """The comparison as Markdown."""
    record = choice.record()
    rows = [f"| {name} | {'' if value is None else f'{value:.4f}'} |" for name, value in record["mean_dice"].items()]
    head = f"{record['chosen']}, by mean Dice over all cases of {folds} folds, each predicted by networks that had not seen it."
    return "\n".join([head, "", "| candidate | mean Dice |", "| --- | --- |", *rows])
