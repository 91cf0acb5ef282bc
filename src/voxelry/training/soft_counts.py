"""Soft counts: probabilities summed over voxels, from which overlap losses are made (soft intersection, soft volume, volume).

Memory is bounded: of arrays with all classes, one is kept for the gradient and one is the gradient; no one-hot array is made.

Shape legend: B batch, K channels, N voxels of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class SoftCounts:
    """The sums from which overlap losses are computed; ignored voxels are left out of all of them.

    Attributes:
        overlap: ``(B, K)`` probabilities summed over the voxels where a channel is true.
        predicted: ``(B, K)`` probabilities summed over all voxels.
        truth: ``(B, K)`` voxels where a channel is true.
        log_p: log probability of the true class: ``(B, N)`` of classes, ``(B, K, N)`` of regions.
        counted: ``(B, N)`` bool, voxels that are not ignored.
    """

    overlap: Tensor
    predicted: Tensor
    truth: Tensor
    log_p: Tensor
    counted: Tensor

    def pooled(self) -> tuple[Tensor, Tensor, Tensor]:
        """`overlap`, `predicted` and `truth` summed over the batch, each ``(1, K)``."""
        return self.overlap.sum(0, keepdim=True), self.predicted.sum(0, keepdim=True), self.truth.sum(0, keepdim=True)


def soft_counts_of_classes(logits_BKN: Tensor, target_BN: Tensor, counted_BN: Tensor) -> SoftCounts:
    """Soft counts of classes that exclude each other: probabilities by softmax.

    Args:
        logits_BKN: float32 or float64.
        target_BN: int64, 0..K-1; anything in that range where a voxel is ignored.
        counted_BN: bool.
    """
    overlap, predicted, log_p = _Softmax.apply(logits_BKN, target_BN, counted_BN)  # type: ignore[no-untyped-call]
    truth = _by_class(counted_BN.to(logits_BKN.dtype), target_BN, logits_BKN.shape[1])
    return SoftCounts(overlap, predicted, truth, log_p, counted_BN)


def soft_counts_of_regions(logits_BKN: Tensor, inside_BKN: Tensor, counted_BN: Tensor) -> SoftCounts:
    """Soft counts of regions that may overlap: probabilities by sigmoid, each region by itself.

    Args:
        logits_BKN: float32 or float64, background left out.
        inside_BKN: bool, which voxels lie in which region.
        counted_BN: bool.
    """
    counted = counted_BN[:, None]
    predicted = logits_BKN.sigmoid() * counted
    inside = inside_BKN & counted
    log_p = torch.nn.functional.logsigmoid(torch.where(inside, logits_BKN, -logits_BKN))
    return SoftCounts((predicted * inside).sum(2), predicted.sum(2), inside.sum(2, dtype=logits_BKN.dtype), log_p, counted_BN)


class _Softmax(torch.autograd.Function):
    """Sums of softmax probabilities, with their gradient written out: autograd would keep an array of all classes per step.

    With p the probabilities, t the true class of a voxel, a and b the gradients of `overlap` and `predicted` and c that of
    `log_p`, the gradient of logit k is ``p_k (b_k - e) + [k = t] d``, where ``d = a_t p_t + c`` and ``e = d + sum_j b_j p_j``.
    """

    @staticmethod
    def forward(ctx: Any, logits_BKN: Tensor, target_BN: Tensor, counted_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`overlap`, `predicted`, `log_p`."""
        log_probabilities = logits_BKN.log_softmax(1)
        true = target_BN[:, None]
        log_p = log_probabilities.gather(1, true)[:, 0] * counted_BN
        probabilities = log_probabilities.exp_().mul_(counted_BN[:, None])
        overlap = _by_class(probabilities.gather(1, true)[:, 0], target_BN, probabilities.shape[1])
        ctx.save_for_backward(probabilities, target_BN, counted_BN)
        return overlap, probabilities.sum(2), log_p

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the logits; 0 in ignored voxels, whose probabilities are 0."""
        overlap, predicted, log_p = gradients
        probabilities, target, counted = ctx.saved_tensors
        true = target[:, None]
        direct = overlap.gather(1, target) * probabilities.gather(1, true)[:, 0] + log_p * counted
        result = probabilities * predicted[:, :, None]
        result.addcmul_(probabilities, (result.sum(1) + direct)[:, None], value=-1)
        return result.scatter_add_(1, true, direct[:, None]), None, None


def _by_class(values_BN: Tensor, target_BN: Tensor, count: int) -> Tensor:
    """``(B, K)``: values summed by class, in double precision, which suffices for patches of any size."""
    if values_BN.device.type != "cpu":
        return summed_by_comparison(values_BN, target_BN, count)
    rows = torch.arange(len(target_BN))[:, None] * count
    sums = torch.zeros(len(target_BN) * count, dtype=torch.float64)
    sums.index_add_(0, (target_BN + rows).flatten(), values_BN.double().flatten())
    return sums.view(-1, count).to(values_BN.dtype)


def summed_by_comparison(values_BN: Tensor, target_BN: Tensor, count: int) -> Tensor:
    """``(B, K)``: values summed by class, fast and repeatable on a GPU.

    With index_add, many threads would contend for the same few sums, and add in an order that differs from run to run.
    """
    return torch.stack([torch.where(target_BN == k, values_BN, 0).sum(1) for k in range(count)], 1)
