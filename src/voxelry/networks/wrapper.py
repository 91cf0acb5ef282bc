"""NetworkWrapper: one interface to every network: a list of logits, finest first, whatever the network returns.

Shape legend: B batch, C input channels, K classes (background first), then two or three spatial axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxelry.errors import ConfigError


class NetworkWrapper(nn.Module):
    """A network whose body returns its logits as a tensor, a list, a dictionary with ``out``, or stacked.

    Args:
        body: the network; of two axes where `slice_axis` is given, and without a background where `regions`.
        coarser_heads: how many are kept in training, beside the finest.
        slice_axis: the axis of a patch, one voxel deep, that the body does not get.
        regions: classes may overlap, and the body gives theirs alone: the background's logit is 0.
    """

    def __init__(self, body: nn.Module, coarser_heads: int = 0, slice_axis: int | None = None, regions: bool = False) -> None:
        super().__init__()
        self.body = body
        self.coarser_heads, self.slice_axis, self.regions = coarser_heads, slice_axis, regions

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """Logits from fine to coarse.

        Args:
            x_BC: ``(B, C, *patch)``.

        Returns:
            ``[(B, K, *patch), (B, K, *patch / 2), ...]``; in evaluation mode the first alone.
        """
        if self.slice_axis is not None:
            x_BC = x_BC.squeeze(self.slice_axis + 2)
        heads = as_list(self.body(x_BC), x_BC.ndim)
        heads = heads[: 1 + self.coarser_heads] if self.training else heads[:1]
        if self.regions:
            heads = [torch.cat([torch.zeros_like(head[:, :1]), head], 1) for head in heads]
        if self.slice_axis is not None:
            heads = [head.unsqueeze(self.slice_axis + 2) for head in heads]
        return heads


def as_list(output: Any, ndim: int) -> list[Tensor]:
    """Logits as a list.

    Args:
        output: a tensor; a list or tuple of tensors; a dictionary with ``out``; or a tensor with one more axis, after the
            batch's, for the heads.
        ndim: axes of the network's input.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(output, dict) and "out" in output:
        output = output["out"]
    if isinstance(output, Tensor):
        return list(output.unbind(1)) if output.ndim == ndim + 1 else [output]
    if isinstance(output, list | tuple) and output and all(isinstance(head, Tensor) for head in output):
        return list(output)
    raise ConfigError(
        f"the network returns {_kind(output)}",
        remedy="Return logits (B, K, ...), a list of them with the finest first, or a dictionary with 'out'.",
    )


def _kind(output: Any) -> str:
    if isinstance(output, dict):
        return f"a dictionary of {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {', '.join(sorted({type(item).__name__ for item in output})) or 'nothing'}"
    return type(output).__name__
