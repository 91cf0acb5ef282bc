"""Imports models that nnU-Net v2 trained: a results folder becomes a model, its folds an ensemble, a cascade both its stages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from voxelry.base.listing import shown
from voxelry.base.version import version
from voxelry.core.model import Model, ModelCard
from voxelry.errors import ConfigError, ModelError
from voxelry.exchange.foreign_values import understood
from voxelry.exchange.nnunet_checkpoint import NnunetCheckpoint, read_checkpoint
from voxelry.exchange.nnunet_names import our_weights
from voxelry.exchange.nnunet_plan import make_imported_fingerprint, make_imported_plan, make_imported_table
from voxelry.exchange.nnunet_results import (
    NnunetConfiguration,
    NnunetDataset,
    NnunetPlans,
    configuration_of,
    read_dataset,
    read_plans,
)
from voxelry.networks.weights import check_size, network_of

log = logging.getLogger(__name__)

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""Of a fold, in the order of preference."""

ALL = "all"
"""Name of the fold that is trained on every case."""


@dataclass(frozen=True)
class _Results:
    """A results folder, read."""

    folder: Path
    plans: NnunetPlans
    dataset: NnunetDataset

    def configuration(self, name: str) -> NnunetConfiguration:
        return configuration_of(self.plans, name, self.folder)


def import_results(folder: Path, folds: Sequence[str] = (), orientation: str | None = None) -> tuple[Model, ...]:
    """The models of an nnU-Net results folder, one a fold.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION``, with plans.json, dataset.json and folds. The first stage of a cascade is looked
            for beside it.
        folds: names of the folds, as ``0`` or ``all``; all numbered ones where empty, or else ``all``.
        orientation: axis codes that every training scan had, if scans to come may be stored otherwise; None takes scans as they
            are stored, as nnU-Net does, unless its reader turns them.

    Raises:
        ModelError: no results folder, a missing fold or first stage, a checkpoint that asks for code, or a network, reader,
            normalisation or resampling that is not known.
    """
    results = _Results(folder, read_plans(folder), read_dataset(folder))
    return tuple(_import_fold(results, name, orientation) for name in _folds(folder, folds))


def _folds(folder: Path, wanted: Sequence[str]) -> list[str]:
    """Names of the folds to import.

    Raises:
        ModelError: there are none, or a wanted one is missing.
    """
    present = [child.name.removeprefix("fold_") for child in folder.glob("fold_*") if _checkpoint(child) is not None]
    numbered = sorted((name for name in present if name != ALL), key=lambda name: (len(name), name))
    missing = [name for name in wanted if name not in present]
    if missing or not present:
        problem = f"fold {missing[0]} is missing" if missing else "no fold with a checkpoint"
        raise ModelError(f"{folder}: {problem}", remedy=f"Folds that are there: {shown(sorted(present)) or 'none'}.")
    return list(wanted) or numbered or [ALL]


def _checkpoint(fold: Path) -> Path | None:
    return next((fold / file for file in CHECKPOINTS if (fold / file).is_file()), None)


def _import_fold(results: _Results, fold: str, orientation: str | None) -> Model:
    file = _checkpoint(results.folder / f"fold_{fold}")
    if file is None:
        raise ModelError(f"{results.folder}: fold {fold} has no checkpoint", remedy=f"A fold holds {' or '.join(CHECKPOINTS)}.")
    if file.name != CHECKPOINTS[0]:
        log.warning("%s: no %s, taking %s", file.parent, CHECKPOINTS[0], file.name)
    checkpoint = read_checkpoint(file)
    configuration = results.configuration(checkpoint.configuration)
    _check_axes_and_channels(results, configuration, checkpoint, file)
    with understood(f"{results.folder}: plans.json, dataset.json or the checkpoint", "Copy the folder again."):
        model = _model(results, configuration, checkpoint, fold, orientation, file)
    return replace(model, previous=_first_stage(results, configuration, fold, orientation))


def _check_axes_and_channels(
    results: _Results, configuration: NnunetConfiguration, checkpoint: NnunetCheckpoint, file: Path
) -> None:
    """Refuse what the files say of one another where it does not fit."""
    axes, mirrored = len(configuration.patch_size), checkpoint.mirror_axes
    if len({axis for axis in mirrored if 0 <= axis < axes}) != len(mirrored):
        raise ModelError(f"{file}: mirrors along axes {list(mirrored)} of {axes}", remedy="Copy the checkpoint again.")
    channels, schemes = len(results.dataset.channel_names), len(configuration.normalization_schemes)
    if schemes < channels:
        raise ModelError(
            f"{results.folder}: plans.json has {schemes} normalization_schemes, dataset.json {channels} channels",
            remedy="Copy the folder again.",
        )


def _model(
    results: _Results,
    configuration: NnunetConfiguration,
    checkpoint: NnunetCheckpoint,
    fold: str,
    orientation: str | None,
    file: Path,
) -> Model:
    """The model of a fold, without the first stage of a cascade."""
    plan, order = make_imported_plan(
        results.plans, configuration, results.dataset, checkpoint.mirror_axes, orientation, results.folder
    )
    check_size(plan, checkpoint.weights, file)
    weights = {name: order.weights(tensor) for name, tensor in our_weights(checkpoint.weights, plan.network, str(file)).items()}
    card = ModelCard(
        name=results.plans.dataset_name,
        version=version(),
        labels=make_imported_table(results.dataset, results.folder),
        fingerprint=make_imported_fingerprint(results.plans, results.dataset, order),
        licence=results.dataset.licence,
        citation=(results.dataset.reference,) if results.dataset.reference else (),
        training=_record(results, checkpoint, fold),
    )
    model = Model(plan, card, weights)
    try:
        network_of(replace(model, path=file), torch.device("cpu"))
    except ModelError as error:
        raise ModelError(error.problem, remedy="Give a checkpoint of the network that plans.json describes.") from error
    except ConfigError as error:
        raise ModelError(f"{results.folder}: {error.problem}", remedy="Copy the folder again.") from error
    return model


def _first_stage(results: _Results, configuration: NnunetConfiguration, fold: str, orientation: str | None) -> Model | None:
    """The same fold of a cascade's first stage."""
    if configuration.previous_stage is None:
        return None
    beside = results.folder.resolve()
    folder = beside.with_name("__".join([*beside.name.split("__")[:-1], configuration.previous_stage]))
    if not (folder / f"fold_{fold}").is_dir():
        raise ModelError(
            f"{results.folder}: fold {fold} of the cascade's first stage is missing ({folder / f'fold_{fold}'})",
            remedy="Put the first stage's results folder beside that of the second, with the same folds.",
        )
    first = _Results(folder, read_plans(folder), read_dataset(folder))
    return _import_fold(first, fold, orientation)


def _record(results: _Results, checkpoint: NnunetCheckpoint, fold: str) -> dict[str, object]:
    """Where the model comes from."""
    return {
        "imported_from": "nnU-Net v2",
        "trainer": checkpoint.trainer,
        "plans": results.plans.plans_name,
        "configuration": checkpoint.configuration,
        "fold": fold,
        "epochs": checkpoint.epoch,
    }
