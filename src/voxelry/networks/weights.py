"""Model folders: saving and loading `plan.yaml`, `card.json`, `weights.safetensors`, `quality.json`. Nothing in them executes.

The second stage of a cascade has its first stage in the folder `previous`. An ensemble is a folder of such folders with
`ensemble.yaml`, which names them. `model.json` (`folder_record.py`) states the version and what each file must be. The format is
described in docs/reference/model-folder.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from voxelry.base.files import atomic_folder, leads_outside, read_json, read_yaml, write_json, write_yaml
from voxelry.core.model import CleanUp, EnsembleCard, Model, ModelCard
from voxelry.core.plan import Plan
from voxelry.core.quality_model import QualityModel
from voxelry.errors import MissingFileError, ModelError
from voxelry.networks.build import build_network
from voxelry.networks.custom import check_trusted
from voxelry.networks.folder_record import RECORD_FILE, FolderRecord, checked_record, parse_of, read_record, write_record

PLAN_FILE = "plan.yaml"
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
ENSEMBLE_FILE = "ensemble.yaml"
PREVIOUS_FOLDER = "previous"
QUALITY_FILE = "quality.json"
"""Of models trained without quality control there is none; that of an ensemble lies in the ensemble's folder."""


def save_model(model: Model, folder: str | os.PathLike[str]) -> Model:
    """Write a model folder, whole or not at all.

    Args:
        model: plan, card and weights.
        folder: where; replaced if it exists.

    Returns:
        The model with its path.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable, Volume
        >>> table = LabelTable(labels=(Label(value=1, name="blob"),))
        >>> grey = np.random.default_rng(0).normal(100, 20, (1, 24, 24, 16)).astype(np.float32)
        >>> scan = Volume(grey, Geometry.from_spacing((24, 24, 16), (1.0, 1.0, 1.0)), modality="MR")
        >>> from voxelry.core import Model, ModelCard
        >>> from voxelry.networks import build_network
        >>> from voxelry.planning import make_fingerprint, make_plan
        >>> from voxelry.recipes import PlanSettings
        >>> fingerprint = make_fingerprint([lambda: (scan, None)], ("T1",), "MR", table)
        >>> plan = make_plan(fingerprint, PlanSettings(features=(4, 8, 8)))
        >>> card = ModelCard(name="blobs", version="0", labels=table, fingerprint=fingerprint)
        >>> weights = {name: weight.detach() for name, weight in build_network(plan, classes=2).named_parameters()}
        >>> save_model(Model(plan, card, weights), "blobs").path.name
        'blobs'
    """
    target = Path(folder)
    with atomic_folder(target) as temporary:
        write_yaml(temporary / PLAN_FILE, model.plan.model_dump(mode="json", exclude_none=True))
        write_json(temporary / CARD_FILE, model.card.model_dump(mode="json", exclude_none=True))
        (temporary / WEIGHTS_FILE).write_bytes(save(model.weights))
        files = [PLAN_FILE, CARD_FILE, WEIGHTS_FILE, *_save_quality(model.quality, temporary)]
        if model.previous is not None:
            save_model(model.previous, temporary / PREVIOUS_FOLDER)
            files.append(f"{PREVIOUS_FOLDER}/{RECORD_FILE}")
        write_record(temporary, files)
    return _with_path(model, target)


def save_ensemble(
    models: Sequence[Model],
    folder: str | os.PathLike[str],
    *,
    clean_up: Sequence[CleanUp] = (),
    training: Mapping[str, Any] | None = None,
    quality: QualityModel | None = None,
) -> tuple[Model, ...]:
    """Write several models as one folder, whole or not at all.

    Args:
        models: the members: folds of one configuration, or several configurations.
        folder: where; replaced if it exists.
        clean_up: rules of the ensemble, in place of the members' own.
        training: how the members were made and chosen, with the scores of the whole.
        quality: what quality control of the ensemble's predictions needs.

    Returns:
        The models as `load_models` gives them.
    """
    target = Path(folder)
    names = tuple(f"member_{number}" for number in range(1, len(models) + 1))
    card = EnsembleCard(members=names, clean_up=tuple(clean_up), training=dict(training or {}))
    with atomic_folder(target) as temporary:
        for name, model in zip(names, models, strict=True):
            save_model(model, temporary / name)
        write_yaml(temporary / ENSEMBLE_FILE, card.model_dump(mode="json", exclude_none=True))
        files = [ENSEMBLE_FILE, *_save_quality(quality, temporary), *(f"{name}/{RECORD_FILE}" for name in names)]
        write_record(temporary, files)
    return tuple(_of_ensemble(_with_path(model, target / name), card, quality) for name, model in zip(names, models, strict=True))


def load_models(folder: str | os.PathLike[str], network: str | None = None) -> tuple[Model, ...]:
    """Read a model folder, or every member of an ensemble's folder.

    Args:
        folder: folder of a model or an ensemble.
        network: the import path of a network of the user's own, whose code is trusted to run.

    Returns:
        The model; or the members, each with the clean-up rules of the ensemble.

    Raises:
        ModelError: it is neither, a member is missing, a file is damaged, or a network is code that the caller did not name.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable, Volume
        >>> table = LabelTable(labels=(Label(value=1, name="blob"),))
        >>> grey = np.random.default_rng(0).normal(100, 20, (1, 24, 24, 16)).astype(np.float32)
        >>> scan = Volume(grey, Geometry.from_spacing((24, 24, 16), (1.0, 1.0, 1.0)), modality="MR")
        >>> from voxelry.core import Model, ModelCard
        >>> from voxelry.networks import build_network
        >>> from voxelry.planning import make_fingerprint, make_plan
        >>> from voxelry.recipes import PlanSettings
        >>> fingerprint = make_fingerprint([lambda: (scan, None)], ("T1",), "MR", table)
        >>> plan = make_plan(fingerprint, PlanSettings(features=(4, 8, 8)))
        >>> card = ModelCard(name="blobs", version="0", labels=table, fingerprint=fingerprint)
        >>> weights = {name: weight.detach() for name, weight in build_network(plan, classes=2).named_parameters()}
        >>> from voxelry.networks import save_model
        >>> path = save_model(Model(plan, card, weights), "blobs").path
        >>> [model.labels.names for model in load_models("blobs")]
        [('blob',)]
    """
    source = Path(folder)
    file = source / ENSEMBLE_FILE
    if not file.is_file():
        return (load_model_folder(source, network),)
    record = checked_record(source, (ENSEMBLE_FILE, QUALITY_FILE))
    card = parse_of(EnsembleCard, file, read_yaml, record)
    for name in card.members:
        if leads_outside(name):
            raise ModelError(
                f"{file}: member '{name}' lies outside the folder", remedy="Keep members inside the ensemble's folder."
            )
        if not (source / name).is_dir():
            raise ModelError(f"{file}: member '{name}' is missing", remedy="Copy the whole folder again.")
    quality = _load_quality(source, record)
    return tuple(_of_ensemble(load_model_folder(source / name, network), card, quality) for name in card.members)


def is_model_folder(folder: Path) -> bool:
    """A folder holds a model or an ensemble, by the names of its files."""
    return (folder / ENSEMBLE_FILE).is_file() or ((folder / PLAN_FILE).is_file() and (folder / CARD_FILE).is_file())


def read_cards(folder: Path) -> tuple[Plan, ModelCard, dict[str, Any]]:
    """Plan and card of a model, or of the first member of an ensemble with its rules, and the training record; no weights.

    Args:
        folder: folder of a model or an ensemble. Its files are not compared with `model.json`.

    Raises:
        ModelError: a file is missing or damaged.
    """
    record, first, training, clean_up = read_record(folder), folder, None, None
    if (folder / ENSEMBLE_FILE).is_file():
        ensemble = parse_of(EnsembleCard, folder / ENSEMBLE_FILE, read_yaml, record)
        first, training, clean_up = folder / ensemble.members[0], ensemble.training, ensemble.clean_up
        record = read_record(first)
    try:
        plan = parse_of(Plan, first / PLAN_FILE, read_yaml, record)
        card = parse_of(ModelCard, first / CARD_FILE, read_json, record)
    except MissingFileError as error:
        raise ModelError(error.problem, remedy="Copy the whole folder again.") from error
    if clean_up is not None:
        card = card.model_copy(update={"clean_up": clean_up})
    return plan, card, card.training if training is None else training


def _with_path(model: Model, folder: Path) -> Model:
    """The model with the folder that it was written to."""
    previous = None if model.previous is None else _with_path(model.previous, folder / PREVIOUS_FOLDER)
    return replace(model, path=folder, previous=previous)


def _of_ensemble(model: Model, card: EnsembleCard, quality: QualityModel | None) -> Model:
    """A member with the clean-up rules and the quality control of its ensemble."""
    return replace(model, card=model.card.model_copy(update={"clean_up": card.clean_up}), quality=quality)


def _save_quality(quality: QualityModel | None, folder: Path) -> list[str]:
    """Write what quality control needs, where there is something; the file's name in a list."""
    if quality is None:
        return []
    write_json(folder / QUALITY_FILE, quality.model_dump(mode="json"))
    return [QUALITY_FILE]


def _load_quality(folder: Path, record: FolderRecord | None) -> QualityModel | None:
    """What quality control needs; None in the folder of an older model.

    Raises:
        ModelError: the file is damaged.
    """
    file = folder / QUALITY_FILE
    if not file.is_file():
        return None
    remedy = f"Copy the folder again, or delete this file and {RECORD_FILE} to do without quality control."
    return parse_of(QualityModel, file, read_json, record, remedy)


def load_model_folder(folder: str | os.PathLike[str], network: str | None = None) -> Model:
    """Read a model folder, with the first stage of a cascade.

    Args:
        folder: folder of a model.
        network: the import path of a network of the user's own, whose code is trusted to run.

    Raises:
        ModelError: it is not a model folder, a file in it is damaged, or its network is code that the caller did not name.
    """
    source = Path(folder)
    if (source / ENSEMBLE_FILE).is_file():
        raise ModelError(
            f"{source}: an ensemble, where a single model is needed", remedy="Give the folder of one of its members."
        )
    missing = [name for name in (PLAN_FILE, CARD_FILE, WEIGHTS_FILE) if not (source / name).is_file()]
    if missing:
        inner = source / "model"
        is_run = any((inner / name).is_file() for name in (PLAN_FILE, ENSEMBLE_FILE))
        hint = f"Did you mean {inner}?" if is_run else "Give the folder 'model' that train wrote."
        raise ModelError(f"{source}: not a model folder ({', '.join(missing)} missing)", remedy=hint)
    record = checked_record(source, (PLAN_FILE, CARD_FILE, WEIGHTS_FILE, QUALITY_FILE, f"{PREVIOUS_FOLDER}/{RECORD_FILE}"))
    plan = parse_of(Plan, source / PLAN_FILE, read_yaml, record)
    card = parse_of(ModelCard, source / CARD_FILE, read_json, record)
    check_trusted(plan.network.name, network, source)
    try:
        weights = _full_precision(load_file(source / WEIGHTS_FILE))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{source / WEIGHTS_FILE}: cannot be read ({error})", remedy="Copy the folder again.") from error
    return Model(plan, card, weights, source, _previous(plan, source, network), _load_quality(source, record))


def half_precision(model: Model) -> Model:
    """The model with kernels in float16, as `save_model` then stores them; loading gives float32 again.

    Kernels alone are rounded: biases, norms and running statistics are few, and a variance near zero would become it. A kernel
    with values that float16 cannot hold stays as it is.

    Args:
        model: with weights in float32.

    Example:
        >>> import torch
        >>> from voxelry.core import Fingerprint, Label, LabelTable, Model, ModelCard, NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=2, channels=("CT",), shapes=((8, 8),) * 3, orientations={"picture": 1},
        ...     statistics=(), voxels=64, label_voxels={"liver": 9},
        ... )
        >>> labels = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> weights = {"kernel": torch.ones(4, 1, 3, 3), "bias": torch.ones(4)}
        >>> model = Model(plan, ModelCard(name="liver", version="0.1", labels=labels, fingerprint=fingerprint), weights)
        >>> {name: str(weight.dtype) for name, weight in half_precision(model).weights.items()}
        {'kernel': 'torch.float16', 'bias': 'torch.float32'}
    """
    weights = {name: _rounded(weight) for name, weight in model.weights.items()}
    return replace(model, weights=weights, previous=None if model.previous is None else half_precision(model.previous))


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim <= 1 or weight.dtype != torch.float32:
        return weight
    half = weight.half()
    return half if bool(half.isfinite().all()) else weight


def _full_precision(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of 16 bits in float32, in which every network is built."""
    half = (torch.float16, torch.bfloat16)
    return {name: weight.float() if weight.dtype in half else weight for name, weight in weights.items()}


def _previous(plan: Plan, source: Path, network: str | None) -> Model | None:
    """The first stage of a cascade, where the plan is of its second."""
    if plan.configuration != "3d_cascade":
        return None
    folder = source / PREVIOUS_FOLDER
    if not folder.is_dir():
        raise ModelError(
            f"{source}: the second stage of a cascade without its first ('{PREVIOUS_FOLDER}' is missing)",
            remedy="Copy the whole folder again.",
        )
    return load_model_folder(folder, network)


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer once, on the CPU, under its first name (MONAI's DynUNet registers layers twice)."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named}


def _form(tensor: torch.Tensor) -> str:
    """Shape of weights, and their type where it is none of floats."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else f' of {tensor.dtype}'}"


def check_size(plan: Plan, weights: Mapping[str, torch.Tensor], where: object) -> None:
    """Refuse a network of another program with far more weights than are there, before it takes its memory.

    Args:
        plan: with the channels of each stage; two stages that follow each other are joined by at least their product of weights.
        weights: by name.
        where: the file, for the message.

    Raises:
        ModelError: naming both numbers.
    """
    features = plan.network.features
    least, stored = max(map(prod, pairwise(features)), default=0), sum(tensor.numel() for tensor in weights.values())
    if least > stored:
        raise ModelError(
            f"{where}: {stored} weights, where a network of {', '.join(map(str, features))} channels has over {least}",
            remedy="Use the configuration and the weights of one model.",
        )


def network_of(model: Model, device: torch.device) -> nn.Module:
    """The model's network with its weights, in evaluation mode.

    Raises:
        ModelError: weights and plan do not belong together.
    """
    network = build_network(model.plan, len(model.own_labels) + 1)
    expected = {name: _form(tensor) for name, tensor in weights_of(network).items()}
    stored = {name: _form(tensor) for name, tensor in model.weights.items()}
    wrong = sorted(name for name in expected.keys() | stored.keys() if expected.get(name) != stored.get(name))
    if wrong:
        name = wrong[0]
        raise ModelError(
            f"{model.path}: the weights do not fit the plan ({len(wrong)} differ; "
            f"{name} is {stored.get(name)}, not {expected.get(name)})",
            remedy=f"Restore {PLAN_FILE} and {CARD_FILE} as training wrote them.",
        )
    network.load_state_dict(model.weights, strict=False)  # strict: checked above; the twice registered names are absent
    return network.to(device).eval()
