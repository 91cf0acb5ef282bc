"""How every network speaks: a list of logits, finest first, whatever the network inside returns and however many axes it has.

Shape legend: B batch, C input channels, K classes (background first), then two or three spatial axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxelry.errors import ConfigError


class Wrapped(nn.Module):
    """A network that returns its logits as a tensor, a list, a dictionary with ``out``, or stacked.

    Args:
        body: the network; of two axes where `slice_axis` is given, and without a background where `regions`.
        coarser: how many coarser heads are kept in training.
        slice_axis: the axis of a window, one voxel deep, that the body does not see.
        regions: classes may overlap, and the body gives theirs alone: the background's logit is 0.
    """

    def __init__(self, body: nn.Module, coarser: int = 0, slice_axis: int | None = None, regions: bool = False) -> None:
        super().__init__()
        self.body = body
        self.coarser, self.slice_axis, self.regions = coarser, slice_axis, regions

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """Logits from fine to coarse.

        Args:
            x_BC: ``(B, C, *window)``.

        Returns:
            ``[(B, K, *window), (B, K, *window / 2), ...]``; in evaluation mode the first alone.
        """
        if self.slice_axis is not None:
            x_BC = x_BC.squeeze(self.slice_axis + 2)
        heads = self.heads(x_BC)
        heads = heads[: 1 + self.coarser] if self.training else heads[:1]
        if self.regions:
            heads = [torch.cat([torch.zeros_like(head[:, :1]), head], 1) for head in heads]
        if self.slice_axis is not None:
            heads = [head.unsqueeze(self.slice_axis + 2) for head in heads]
        return heads

    def heads(self, x_BC: Tensor) -> list[Tensor]:
        """What the network inside gives, as a list."""
        return as_list(self.body(x_BC), x_BC.ndim)


class DeepSupervised(Wrapped):
    """MONAI's DynUNet with its coarser heads left at their own resolution.

    DynUNet enlarges every head to the full window and stacks them; comparing each head with labels of its own resolution
    costs a fraction and is what nnU-Net does (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
    """

    def heads(self, x_BC: Tensor) -> list[Tensor]:
        """The finest head, and those that the network's stages leave in its list on the way."""
        body: Any = self.body
        fine = body.output_block(body.skip_layers(x_BC))
        coarser = list(body.heads)
        body.heads[:] = [None] * len(coarser)  # kept, they would hold this pass in memory, and bar copying the network
        return [fine, *coarser] if self.training and self.coarser else [fine]


def as_list(given: Any, ndim: int) -> list[Tensor]:
    """Logits as a list.

    Args:
        given: a tensor; a list or tuple of tensors; a dictionary with ``out``; or a tensor with one more axis, after the batch's,
            for the heads.
        ndim: axes of the network's input.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(given, dict) and "out" in given:
        given = given["out"]
    if isinstance(given, Tensor):
        return list(given.unbind(1)) if given.ndim == ndim + 1 else [given]
    if isinstance(given, list | tuple) and given and all(isinstance(head, Tensor) for head in given):
        return list(given)
    raise ConfigError(
        f"the network returns {_kind(given)}",
        remedy="Return logits (B, K, ...), a list of them with the finest first, or a dictionary with 'out'.",
    )


def _kind(given: Any) -> str:
    if isinstance(given, dict):
        return f"a dictionary of {', '.join(map(str, given)) or 'nothing'}"
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__} of {', '.join(sorted({type(part).__name__ for part in given})) or 'nothing'}"
    return type(given).__name__
