"""Pseudo-Dice: Dice over the same few patches every time, a cheap measure of training progress (nnU-Net's term)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.metrics.overlap import Counts, PairCounts, confusion
from voxelry.metrics.regions import RegionCounts, count_regions
from voxelry.networks.build import head_channels
from voxelry.networks.classes import class_members, label_classes, layer_sizes, layer_winners, winners

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
        self.layers, self.head = layer_sizes(table), head_channels(plan)
        self.inside = np.zeros((len(self.members), LabelCombinations(table).count + 1), dtype=bool)
        for row, indices in zip(self.inside, self.members.values(), strict=True):
            row[list(indices)] = True

    @torch.inference_mode()
    def __call__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, float | None]:
        """Dice by the name of the label or region, None for those in none of the patches; the network is in evaluation mode."""
        counts = np.zeros((4, len(self.members)), dtype=np.int64)
        for number in range(BATCHES):
            image_BC, targets_B = self.sampler(number)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                logits_BK = network(image_BC.to(device))[0][:, : len(self.labels)]
            classes_B = targets_B[:, 0] if self.head else targets_B
            counts += self._count_layers(logits_BK, classes_B) if self.layers else self._count(logits_BK, classes_B)
        scores = RegionCounts(tuple(self.members), *counts).score("dice")
        return {name: None if np.isnan(score) else float(score) for name, score in zip(self.members, scores, strict=True)}

    def _count(self, logits_BK: Tensor, classes_B: Tensor) -> Counts:
        """``(4, R)``: true and false positives and negatives of a batch, by the labels that voxels get."""
        values = np.arange(len(self.labels))
        predicted_B = self.labels[winners(logits_BK, bool(self.plan.regions)).cpu().numpy()]
        pairs = PairCounts(values, values, confusion(classes_B.numpy(), predicted_B, len(values), ignore=IGNORE_INDEX))
        counts = count_regions(pairs, self.members)
        return np.stack([counts.tp, counts.fp, counts.fn, counts.tn])

    def _count_layers(self, logits_BK: Tensor, classes_B: Tensor) -> Counts:
        """As `_count`, with labels on several layers."""
        truth_B = classes_B.numpy()
        planes_LB = torch.stack(layer_winners(logits_BK, self.layers)).cpu().numpy()
        counted_B = truth_B != IGNORE_INDEX
        columns = []
        for number, inside in enumerate(self.inside, start=1):
            truth, guess = inside[truth_B][counted_B], (planes_LB == number).any(axis=0)[counted_B]
            columns.append([(truth & guess).sum(), (~truth & guess).sum(), (truth & ~guess).sum(), (~truth & ~guess).sum()])
        return np.array(columns, dtype=np.int64).T
