"""Sliding windows over a prepared scan.

Shape legend: B batch of windows, C channels, K classes, then spatial axes of the network's grid.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelry.plan import Plan

GAUSSIAN_SIGMA = 0.125
"""Width of the weights of a window, as a share of its edge (Isensee et al. 2021)."""


def window_logits(
    network: nn.Module, image_C: NDArray[np.float32], plan: Plan, device: torch.device, dtype: torch.dtype, twins: Tensor
) -> Tensor:
    """Logits of a whole prepared scan: overlapping windows, Gaussian weights, mirrored copies averaged where planned.

    Args:
        network: in evaluation mode, ``(B, C, *patch)`` -> list of logits.
        image_C: ``(C, *shape)`` normalised; smaller than a window is padded with 0.
        plan: patch, overlap, batch, flips.
        device: where the network is.
        dtype: convolutions are computed in.
        twins: ``(K,)`` class that each class becomes when left and right are swapped.

    Returns:
        ``(K, *shape)`` float32 on the CPU.
    """
    layout = torch.channels_last_3d if plan.dimensions == 3 else torch.channels_last

    def forward(windows_BC: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(windows_BC.contiguous(memory_format=layout))[0]
        return logits.float()

    def mirrored(windows_BC: Tensor) -> Tensor:
        total = forward(windows_BC)
        copies = [axes for n in range(1, len(plan.flips) + 1) for axes in itertools.combinations(plan.flips, n)]
        for axes in copies:
            spatial = [axis + 2 for axis in axes]
            logits = forward(windows_BC.flip(spatial)).flip(spatial)
            total += logits[:, twins.to(logits.device)] if plan.side_axis in axes else logits
        return total / (len(copies) + 1)

    with torch.inference_mode():
        logits_BK: Tensor = sliding_window_inference(
            torch.from_numpy(image_C)[None].to(device),
            roi_size=plan.patch_size,
            sw_batch_size=plan.batch_size,
            predictor=mirrored,
            overlap=plan.overlap,
            mode="gaussian",
            sigma_scale=GAUSSIAN_SIGMA,
            device=torch.device("cpu"),
            sw_device=device,
        )
    return logits_BK[0]
