"""Pseudo-Dice: Dice over the same few patches every time, a cheap measure of training progress (nnU-Net's term)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.metrics.overlap import PairCounts, confusion
from voxelry.metrics.regions import count_regions
from voxelry.networks.build import head_channels
from voxelry.networks.classes import class_members, label_classes, winners

BATCHES = 6


class PseudoDice:
    """Dice of each class of a network over the same few patches every time.

    Args:
        sampler: makes the batch of a number.
        plan: with the regions, if there are any.
        table: the labels.
    """

    def __init__(self, sampler: Callable[[int], tuple[Tensor, Tensor]], plan: Plan, table: LabelTable) -> None:
        self.sampler, self.plan = sampler, plan
        self.members = class_members(plan, table)
        self.labels = label_classes(plan, table)
        self.head = head_channels(plan)

    @torch.inference_mode()
    def __call__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, float | None]:
        """Dice by the name of the label or region, None for those in none of the patches; the network is in evaluation mode."""
        count = len(self.labels)
        total = np.zeros((count, count), dtype=np.int64)
        for number in range(BATCHES):
            image_BC, targets_B = self.sampler(number)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                logits_BK = network(image_BC.to(device))[0][:, :count]
            classes_B = targets_B[:, 0] if self.head else targets_B
            predicted_B = self.labels[winners(logits_BK, bool(self.plan.regions)).cpu().numpy()]
            total += confusion(classes_B.numpy(), predicted_B, count, ignore=IGNORE_INDEX)
        values = np.arange(count)
        scores = count_regions(PairCounts(values, values, total), self.members).score("dice")
        return {name: None if np.isnan(score) else float(score) for name, score in zip(self.members, scores, strict=True)}
