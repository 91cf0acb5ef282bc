"""Optimisers (AdamW, SGD with Nesterov momentum) and learning rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from voxelry.recipes.settings import OptimiserSettings


def make_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, in its fused form, which passes over the weights once.

    AdamW is that of Loshchilov and Hutter 2019; SGD has Nesterov momentum (Sutskever et al. 2013), as nnU-Net's.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.name == "adamw":
        return torch.optim.AdamW(weights, lr=settings.rate, weight_decay=settings.decay, fused=True)
    nesterov = settings.momentum > 0
    return torch.optim.SGD(
        weights, lr=settings.rate, momentum=settings.momentum, weight_decay=settings.decay, nesterov=nesterov, fused=True
    )


def learning_rate(settings: OptimiserSettings, step: int, warm_up: int, share: float) -> float:
    """The learning rate of a step.

    Args:
        settings: settings of the optimiser.
        step: steps done before.
        warm_up: steps over which the rate rises.
        share: share of the decay after them that is done, 0..1.

    Returns:
        A linear rise to ``settings.rate``, then ``(1 - share) ** power`` of it (``poly``), half a period of the cosine
        (Loshchilov and Hutter 2017), or all of it (``constant``).
    """
    if step < warm_up:
        return settings.rate * (step + 1) / warm_up
    if settings.schedule == "poly":
        return float(settings.rate * (1 - share) ** settings.power)
    if settings.schedule == "cosine":
        return settings.rate * (1 + math.cos(math.pi * share)) / 2
    return settings.rate
