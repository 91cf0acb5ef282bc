"""CheckedModel: whether a model folder is whole, of a version that is read, and computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from voxelry.core.architectures import is_import_path
from voxelry.core.model import Model
from voxelry.errors import ModelError
from voxelry.networks.build import input_channels
from voxelry.networks.folder_record import read_record
from voxelry.networks.network_spec import one_line
from voxelry.networks.weights import is_model_folder, load_models, network_of, read_cards


@dataclass(frozen=True)
class CheckedModel:
    """A model folder that can be used.

    Attributes:
        folder: the folder.
        format: version of its format; empty for a folder from before versions, whose files could not be compared.
        writer: version of voxelry that wrote it, where that is recorded.
        networks: networks in it: members of an ensemble, first stages of cascades.
        numbers: parameters and buffers of all of them.
        labels: their names.
        not_run: import paths of networks whose code was not named, and which have not computed.
    """

    folder: Path
    format: str
    writer: str
    networks: int
    numbers: int
    labels: tuple[str, ...]
    not_run: tuple[str, ...] = ()


def check_model(folder: str | os.PathLike[str], network: str | None = None) -> CheckedModel:
    """Load every network of a model folder and let it compute a patch of zeros.

    Args:
        folder: a model folder.
        network: import path of the model's custom network, whose code is trusted to run; without it that network is not computed.

    Raises:
        ModelError: a file is missing, truncated or changed, of a later version, or plan and weights do not belong together.

    Example:
        >>> import voxelry
        >>> from voxelry.zoo import check_model
        >>> try:
        ...     check_model("nowhere")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        nowhere: not a model folder (plan.yaml, card.json, weights.safetensors missing)
    """
    path = Path(folder)
    stated = read_cards(path)[0].network.name if network is None and is_model_folder(path) else network
    members = load_models(path, stated)  # a custom network's code is imported where it is built, not here
    networks = [stage for member in members for stage in _stages(member)]
    trusted = [model for model in networks if model.plan.network.name == network or not is_import_path(model.plan.network.name)]
    for model in trusted:
        _compute(model)
    record = read_record(path)
    format, writer = ("", "") if record is None else (record.version, record.writer)
    numbers = sum(weight.numel() for model in networks for weight in model.weights.values())
    not_run = tuple(dict.fromkeys(model.plan.network.name for model in networks if model not in trusted))
    return CheckedModel(path, format, writer, len(networks), numbers, members[0].labels.names, not_run)


def _stages(model: Model) -> list[Model]:
    return [model, *([] if model.previous is None else _stages(model.previous))]


def _compute(model: Model) -> None:
    """Compute a patch of zeros.

    Raises:
        ModelError: weights that do not fit, or logits that are not finite.
    """
    network = network_of(model, torch.device("cpu"))
    channels = input_channels(model.plan, len(model.own_labels) + 1)
    try:
        with torch.inference_mode():
            logits = network(torch.zeros(1, channels, *model.plan.patch_size))[0]
    except RuntimeError as error:
        raise ModelError(
            f"{model.path}: a patch of {model.plan.patch_size} voxels cannot be computed ({one_line(error)})",
            remedy="Restore the plan as training wrote it.",
        ) from error
    if not bool(logits.isfinite().all()):
        raise ModelError(f"{model.path}: the network gives logits that are not finite", remedy="Train it again.")
