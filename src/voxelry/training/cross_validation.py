"""Cross-validation: every configuration with every fold, scored on held-out cases; the best becomes one ensemble of all folds.

A run's folder holds `folds.json`; for each configuration `<configuration>/plan.yaml` and `<configuration>/fold_<n>/` with
checkpoint, history, model, predictions and scores; and at the end `choice.json`, `model/` (the folds' networks together),
`validation.json` and `validation.csv` (all cases, each predicted by networks that have not seen it). A fold with scores is
finished and is not trained again.

Plans are made from all cases together, as nnU-Net's are: a fold's network learns from its own cases alone, but median sizes and,
for CT, the range of grey values come from the others too. What is usual in rows of labels (`sequences`) comes from a fold's own
training cases: it names the objects of held-out ones.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from voxelry.base.files import write_json
from voxelry.base.output_folder import OutputFolder
from voxelry.core.model import CleanUp, Model
from voxelry.core.plan import Configuration, Fingerprint, Plan
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.errors import TrainingError
from voxelry.inference.predictor import Predictor
from voxelry.metrics.scores import Scores
from voxelry.networks.weights import load_models, save_ensemble
from voxelry.planning.sequence_survey import SequenceSurvey
from voxelry.training.checkpoint import CHECKPOINT_FILE, Milestone, load_checkpoint
from voxelry.training.clean_up_choice import CleanUpChoice
from voxelry.training.find_best_configuration import Candidate, ConfigurationComparison, candidate_name, candidates
from voxelry.training.fit import CACHE_FOLDER, NetworkTask, fit
from voxelry.training.folds import Folds
from voxelry.training.model_card import write_model_card
from voxelry.training.options import RunOptions
from voxelry.training.predictions import HeldOutCases, StoredPredictions, predict_cases, score_cases, score_cleaned
from voxelry.training.quality_calibration import WITHOUT_DISAGREEMENT, QualityCalibration, measure_population
from voxelry.training.result import TrainResult
from voxelry.training.run_files import (
    CHOICE_FILE,
    ENSEMBLES_FOLDER,
    MODEL_FOLDER,
    PREDICTIONS_FOLDER,
    ROWS_FILE,
    VALIDATION_FILE,
    dice_by_name,
    save_validation,
)
from voxelry.training.run_folder import cross_validation_end, network_folder, refuse_existing_run
from voxelry.training.time_budget import seconds_spent
from voxelry.training.tracking import track_result

log = logging.getLogger(__name__)

FIRST_STAGE: Configuration = "3d_lowres"
SECOND_STAGE: Configuration = "3d_cascade"


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A cross-validation.

    Attributes:
        options: options of the run.
        folder: folder of the run.
        fingerprint: fingerprint of the dataset.
        plans: plan of each configuration; a cascade's first stage precedes its second.
        folds: the cases that each fold holds out.
        cases: all that take part.
        began: monotonic time at which the command began.
    """

    options: RunOptions
    folder: Path
    fingerprint: Fingerprint
    plans: Mapping[Configuration, Plan]
    folds: Folds
    cases: Sequence[Case]
    began: float

    def fold_folder(self, configuration: str, fold: int) -> Path:
        """The folder of one network."""
        return self.folder / configuration / f"fold_{fold}"

    def is_finished(self, configuration: Configuration, fold: int) -> bool:
        """Whether the network was trained and scored."""
        return (self.fold_folder(configuration, fold) / VALIDATION_FILE).is_file()

    def train(self, folds: Sequence[int]) -> dict[Configuration, dict[int, Scores]]:
        """Train and score the networks of some folds that are not finished.

        Args:
            folds: their numbers.

        Returns:
            The scores of those that were trained now.

        Raises:
            UsageError: a network was begun, and the options do not say to resume.
            TrainingError: the second stage of a cascade needs a fold of the first that is not finished; or as `fit`.
        """
        progress = self.options.progress
        todo = [(name, fold) for name in self.plans for fold in folds if not self.is_finished(name, fold)]
        if not self.options.resume:
            for name in self.plans:
                for fold in folds:
                    refuse_existing_run(self.fold_folder(name, fold))
        scores: dict[Configuration, dict[int, Scores]] = {}
        last = self.began
        for number, (name, fold) in enumerate(todo):
            progress("networks", number, len(todo))
            log.info("%s, fold %d of %d", name, fold, len(self.folds))
            spent = seconds_spent(self.options, number, self.began, last)
            folder = self.fold_folder(name, fold)
            with network_folder(folder, resume=(folder / CHECKPOINT_FILE).is_file()):
                scores.setdefault(name, {})[fold] = self._train(name, fold, spent)
            last = time.monotonic()
        progress("networks", len(todo), len(todo))
        if todo:
            OutputFolder(self.folder, "train").check(self.folder / ENSEMBLES_FOLDER)
            shutil.rmtree(self.folder / ENSEMBLES_FOLDER, ignore_errors=True)
        return scores

    def _train(self, name: Configuration, fold: int, spent: float) -> Scores:
        options = self.options
        training, validation = self.folds.sides(fold, self.cases)
        plan = self._plan(name, training)
        folder = self.fold_folder(name, fold)
        task = NetworkTask(
            plan, self.fingerprint, training, validation, folder, self.folder / CACHE_FOLDER, *self._first_stage(name, fold)
        )
        model, state = fit(options, task, resume=(folder / CHECKPOINT_FILE).is_file(), spent=spent)
        held_out = HeldOutCases(options.manifest, validation, lambda _: self.store(name, fold))
        predict_cases(lambda: Predictor(model, options.config.device), held_out, options.progress)
        scores = score_cases(held_out, options.progress)
        track_result(options.config, plan, folder, state, dice_by_name(scores), folder / MODEL_FOLDER)
        save_validation(scores, folder, plan.regions)
        return scores

    def _plan(self, name: Configuration, training: Sequence[Case]) -> Plan:
        """A configuration's plan, with the rows of labels as a fold's training cases show them."""
        plan = self.plans[name]
        if not plan.sequences:
            return plan
        survey = SequenceSurvey(plan.sequences)
        for case in training:
            _, labels = load_case(case, self.options.manifest)
            assert labels is not None
            survey.add(labels)
        return plan.model_copy(update={"sequences": survey.result()})

    def _first_stage(self, name: Configuration, fold: int) -> tuple[Model, HeldOutCases] | tuple[()]:
        """The first stage of a second stage: this fold's network, and masks of all cases by networks not trained on them."""
        if name != SECOND_STAGE:
            return ()
        missing = [str(other) for other in range(len(self.folds)) if not self.is_finished(FIRST_STAGE, other)]
        if missing:
            raise TrainingError(
                f"{self.folder}: a cascade's second stage needs every fold of its first, and fold {', '.join(missing)} of "
                f"{FIRST_STAGE} is not finished",
                remedy="Train the other folds, then continue with --resume.",
            )
        return self.model(FIRST_STAGE, fold), self.held_out((FIRST_STAGE,))

    def model(self, configuration: Configuration, fold: int) -> Model:
        """A finished network."""
        return load_models(self.fold_folder(configuration, fold) / MODEL_FOLDER, self.options.config.plan.network)[0]

    def store(self, configuration: str, fold: int) -> StoredPredictions:
        """The predictions of a fold's held-out cases."""
        return StoredPredictions(self.fold_folder(configuration, fold) / PREDICTIONS_FOLDER, self.options.manifest.card.table)

    def held_out(self, candidate: Candidate) -> HeldOutCases:
        """All cases that a fold holds out, each with the prediction of networks that have not seen it."""
        fold_of = {id: fold for fold, ids in enumerate(self.folds.parts) for id in ids}
        name = candidate[0] if len(candidate) == 1 else f"{ENSEMBLES_FOLDER}/{candidate_name(candidate)}"
        cases = [case for case in self.cases if case.id in fold_of]
        return HeldOutCases(self.options.manifest, cases, lambda case: self.store(name, fold_of[case.id]))

    def compare(self) -> ConfigurationComparison:
        """Score every candidate on all cases; predictions of pairs are made here."""
        mean_dice = {}
        for candidate in candidates(list(self.plans)):
            if len(candidate) > 1:
                self._predict_pair(candidate)
            scores = score_cases(self.held_out(candidate), self.options.progress, what=f"scoring {candidate_name(candidate)}")
            mean_dice[candidate] = scores.mean_dice
            if len(candidate) == 1:
                save_validation(scores, self.folder / candidate[0], self.plans[candidate[0]].regions)
        return ConfigurationComparison(mean_dice)

    def _predict_pair(self, candidate: Candidate) -> None:
        held_out = self.held_out(candidate)
        for fold in range(len(self.folds)):
            _, validation = self.folds.sides(fold, self.cases)
            models = [self.model(name, fold) for name in candidate]
            predict_cases(
                lambda models=models: Predictor(models, self.options.config.device),  # type: ignore[misc]
                HeldOutCases(held_out.manifest, validation, held_out.store),
                self.options.progress,
            )

    def finish(self) -> TrainResult:
        """Choose the best candidate over all folds, and keep its networks together as a model."""
        of_each = [f"{name}/{file}" for name in self.plans for file in (VALIDATION_FILE, ROWS_FILE)]
        with cross_validation_end(self.folder, (CHOICE_FILE, ENSEMBLES_FOLDER, *of_each)):
            return self._finish()

    def _finish(self) -> TrainResult:
        comparison, card = self.compare(), self.options.manifest.card
        best = comparison.best
        clean_up = CleanUpChoice(card.table, self.plans[best[0]].dimensions)
        predictor = lru_cache(1)(lambda fold: self._predictor(best, clean_up.rules(), fold))
        calibration = QualityCalibration(self.held_out(best), lambda case: predictor(self.folds.of(case)), WITHOUT_DISAGREEMENT)
        scores = score_cleaned(self.held_out(best), self.options.progress, clean_up, calibration.watch)
        record = {**comparison.record(), "clean_up": clean_up.record()}
        write_json(self.folder / CHOICE_FILE, record)
        members = [self._member(name, fold) for name in best for fold in range(len(self.folds))]
        population = measure_population(self.options.manifest, self.cases, card.table, self.options.progress)
        quality = None if population is None else calibration.fit(population, scores, self.options.progress)
        path = self.folder / MODEL_FOLDER
        training = {**record, "folds": len(self.folds), "scores": scores.to_dict()}
        models = save_ensemble(members, path, clean_up=clean_up.rules(), training=training, quality=quality)
        write_model_card(path, models, card, scores, _comparison_text(comparison, len(self.folds)))
        save_validation(scores, self.folder, self.plans[best[0]].regions)
        return TrainResult(self.folder, path, models, scores, self.histories(), time.monotonic() - self.began)

    def _member(self, name: Configuration, fold: int) -> Model:
        """A finished network for new scans, whose rows of labels are as all cases show them."""
        model, sequences = self.model(name, fold), self.plans[name].sequences
        return replace(model, plan=model.plan.model_copy(update={"sequences": sequences}))

    def _predictor(self, candidate: Candidate, rules: Sequence[CleanUp], fold: int) -> Predictor:
        """The networks of a candidate that have not seen a fold's cases, with the clean-up rules of the whole."""
        models = [self.model(name, fold) for name in candidate]
        cards = [model.card.model_copy(update={"clean_up": tuple(rules)}) for model in models]
        ready = [replace(model, card=card) for model, card in zip(models, cards, strict=True)]
        return Predictor(ready, self.options.config.device)

    def histories(self) -> dict[str, tuple[Milestone, ...]]:
        """The milestones of every network trained so far, by its name."""
        folders = {(name, fold): self.fold_folder(name, fold) for name in self.plans for fold in range(len(self.folds))}
        return {
            f"{name}, fold {fold}": tuple(load_checkpoint(folder).history)
            for (name, fold), folder in folders.items()
            if (folder / CHECKPOINT_FILE).is_file()
        }

    def fold_result(self, fold: int, scores: Mapping[Configuration, Mapping[int, Scores]]) -> TrainResult:
        """The result of training a single fold: the network of the last configuration, and its scores on held-out cases."""
        name = list(self.plans)[-1]
        path = self.fold_folder(name, fold) / MODEL_FOLDER
        known = scores.get(name, {}).get(fold)
        if known is None:
            _, validation = self.folds.sides(fold, self.cases)
            held_out = HeldOutCases(self.options.manifest, validation, lambda _: self.store(name, fold))
            known = score_cases(held_out, self.options.progress)
        return TrainResult(self.folder, path, (self.model(name, fold),), known, self.histories(), time.monotonic() - self.began)


def _comparison_text(comparison: ConfigurationComparison, folds: int) -> str:
    """The comparison as Markdown."""
    record = comparison.record()
    rows = [f"| {name} | {'' if value is None else f'{value:.4f}'} |" for name, value in record["mean_dice"].items()]
    head = f"{record['chosen']}, by mean Dice over all cases of {folds} folds, each predicted by networks that had not seen it."
    return "\n".join([head, "", "| candidate | mean Dice |", "| --- | --- |", *rows])
