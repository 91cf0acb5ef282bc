"""Digest of a model: plan, card and weights, wherever they lie. What a model of another digest made is made again."""

from __future__ import annotations

import hashlib
import json

import torch

from voxelry.core.model import Model


def model_digest(model: Model) -> str:
    """SHA-256 of a model, and of the first stage of a cascade.

    Args:
        model: with its weights; the folder does not count, so that a copy has the same digest.
    """
    digest = hashlib.sha256()
    for description in (model.plan, model.card):
        digest.update(json.dumps(description.model_dump(mode="json"), sort_keys=True).encode())
    for name in sorted(model.weights):
        weight: torch.Tensor = model.weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{weight.dtype}\0{tuple(weight.shape)}\0".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    if model.previous is not None:
        digest.update(model_digest(model.previous).encode())
    return digest.hexdigest()
