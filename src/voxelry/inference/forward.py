"""Forward pass of a network over batches of patches, halved where memory runs out; backends plug in as `Forward` functions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from voxelry.errors import BudgetError
from voxelry.inference.shared_passes import SharedPasses

Forward = Callable[[Tensor], Tensor]
"""``(B, C, *patch)`` float32 on the device -> ``(B, K, *patch)`` logits of any float type."""

ForwardBuilder = Callable[[nn.Module, torch.device, torch.dtype], Forward]
"""Makes a network's forward pass on a device, with convolutions in a dtype."""


def torch_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """PyTorch as it is."""
    return autocast_forward(optimised_for_cpu(network) if device.type == "cpu" else network, device, dtype)


def autocast_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """A network as a function: convolutions in `dtype`, channels last in memory."""

    def forward(patches_BC: Tensor) -> Tensor:
        memory_format = torch.channels_last_3d if patches_BC.ndim == 5 else torch.channels_last
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(patches_BC.contiguous(memory_format=memory_format))[0]
        return logits

    return forward


def optimised_for_cpu(network: nn.Module) -> nn.Module:
    """The same network as a CPU computes it fastest: channels last, instance norms as group norms, convolutions by oneDNN.

    A group of one channel is an instance (Wu and He 2018, section 3.1), so logits agree to rounding; PyTorch's instance norm goes
    through batch norm, which takes longer. Of a single patch in float32 PyTorch computes smaller 3D convolutions by its own code,
    which takes up to twenty times as long as oneDNN's. The weights are shared with `network`.
    """
    optimised = copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
    norms: dict[int, nn.GroupNorm] = {}
    for parent in optimised.modules():
        for name, child in parent._modules.items():
            if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d) and not child.track_running_stats:
                parent._modules[name] = norms.setdefault(id(child), _group_norm(child))
            elif type(child) is nn.Conv3d and child.padding_mode == "zeros" and _has_onednn():
                child.__class__ = _OneDNNConv3d
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    sizes = {parameter.ndim for parameter in optimised.parameters()} & formats.keys()
    return optimised.to(memory_format=formats[sizes.pop()]) if len(sizes) == 1 else optimised  # type: ignore[call-overload]


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class _OneDNNConv3d(nn.Conv3d):
    """A convolution by oneDNN, however small its input.

    Other types than float32 go there by themselves; PyTorch's compiler does not know this way.
    """

    def forward(self, input: Tensor) -> Tensor:
        is_float = input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not is_float or isinstance(self.padding, str) or torch.compiler.is_compiling():
            return super().forward(input)
        sizes = self.padding, self.stride, self.dilation, self.groups
        output: Tensor = torch.mkldnn_convolution(input, self.weight, self.bias, *sizes)
        return output


def _group_norm(norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> nn.GroupNorm:
    groups = nn.GroupNorm(norm.num_features, norm.num_features, eps=norm.eps, affine=norm.affine)
    groups.weight, groups.bias = norm.weight, norm.bias
    return groups


class Batches:
    """Runs patches through networks, as many at a time as the device's memory holds.

    Args:
        size: patches at a time; halved whenever the device runs out of memory, after which the batch is tried again.
        passes: where other scans wait for the same networks; None for a scan by itself.
    """

    def __init__(self, size: int, passes: SharedPasses | None = None) -> None:
        self.size, self._passes = size, passes

    def run(self, forward: Forward, patches_BC: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Logits of every patch, in order.

        Args:
            forward: the network.
            patches_BC: ``(B, C, *patch)``.

        Yields:
            The number of a batch's first patch, and the batch's logits ``(b, K, *patch)``.

        Raises:
            BudgetError: the device's memory does not hold one patch.
        """
        done = 0
        while done < len(patches_BC):
            batch_BC = patches_BC[done : done + self.size]
            logits = self._try(forward, batch_BC)
            if logits is not None:
                yield done, logits
                del logits  # before the next batch, or two would be held
                done += len(batch_BC)

    def _try(self, forward: Forward, batch_BC: Tensor) -> Tensor | None:
        """Logits, or None after `size` was halved for want of memory."""
        try:
            return forward(batch_BC) if self._passes is None else self._passes.run(forward, batch_BC)
        except torch.OutOfMemoryError as error:
            if len(batch_BC) == 1:
                raise BudgetError(
                    "the device ran out of memory on a single patch",
                    remedy="Use another device, or a model with smaller patches.",
                ) from error
        self.size = max(1, min(self.size, len(batch_BC)) // 2)
        if batch_BC.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def swap_sides(logits_K: Tensor, mirror_map: Sequence[int] | Tensor) -> Tensor:
    """Classes in the order of their counterparts on the other side of the body."""
    return logits_K[torch.as_tensor(mirror_map, device=logits_K.device)]
