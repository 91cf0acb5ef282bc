"""The folder of a Model: `plan.yaml`, `card.json`, `weights.safetensors`. Nothing in it executes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from voxelry.errors import ModelError, UsageError
from voxelry.files import atomic_folder, read_json, read_yaml, write_json, write_yaml
from voxelry.model import Model, ModelCard
from voxelry.networks.build import build_network
from voxelry.plan import Plan
from voxelry.schema import parse

PLAN_FILE = "plan.yaml"
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"


def save_model(model: Model, folder: str | os.PathLike[str]) -> Model:
    """Write a model folder, whole or not at all.

    Args:
        model: plan, card and weights.
        folder: where; replaced if it exists.

    Returns:
        The model with its path.
    """
    target = Path(folder)
    with atomic_folder(target) as temporary:
        write_yaml(temporary / PLAN_FILE, model.plan.model_dump(mode="json", exclude_none=True))
        write_json(temporary / CARD_FILE, model.card.model_dump(mode="json", exclude_none=True))
        save_file(model.weights, temporary / WEIGHTS_FILE)
    return Model(model.plan, model.card, model.weights, target)


def load_model_folder(folder: str | os.PathLike[str]) -> Model:
    """Read a model folder.

    Raises:
        ModelError: it is not a model folder, or a file in it is damaged.
    """
    source = Path(folder)
    missing = [name for name in (PLAN_FILE, CARD_FILE, WEIGHTS_FILE) if not (source / name).is_file()]
    if missing:
        inner = source / "model"
        hint = f"Did you mean {inner}?" if (inner / PLAN_FILE).is_file() else "Give the folder 'model' that train wrote."
        raise ModelError(f"{source}: not a model folder ({', '.join(missing)} missing)", remedy=hint)
    try:
        plan = parse(Plan, read_yaml(source / PLAN_FILE), str(source / PLAN_FILE))
        card = parse(ModelCard, read_json(source / CARD_FILE), str(source / CARD_FILE))
    except UsageError as error:
        raise ModelError(error.problem, remedy="Copy the folder anew.") from error
    try:
        weights = load_file(source / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{source / WEIGHTS_FILE}: cannot be read ({error})", remedy="Copy the folder anew.") from error
    return Model(plan, card, weights, source)


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer once, on the CPU, under its first name (MONAI's DynUNet registers layers twice)."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named}


def network_of(model: Model, device: torch.device) -> nn.Module:
    """The model's network with its weights, in evaluation mode.

    Raises:
        ModelError: weights and plan do not belong together.
    """
    network = build_network(model.plan, len(model.labels) + 1)
    wanted = {name: tuple(tensor.shape) for name, tensor in weights_of(network).items()}
    given = {name: tuple(tensor.shape) for name, tensor in model.weights.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise ModelError(
            f"{model.path}: the weights do not fit the plan ({len(wrong)} differ; "
            f"{name} is {given.get(name)}, not {wanted.get(name)})",
            remedy=f"Restore {PLAN_FILE} and {CARD_FILE} as training wrote them.",
        )
    network.load_state_dict(model.weights, strict=False)  # strict: checked above; the twice registered names are absent
    return network.to(device).eval()
