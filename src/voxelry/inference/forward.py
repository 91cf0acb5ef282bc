"""The network as a function of a batch of windows: the one place where a backend plugs in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from voxelry.errors import BudgetError

Forward = Callable[[Tensor], Tensor]
"""``(B, C, *window)`` float32 on the device -> ``(B, K, *window)`` logits of any float type."""

Maker = Callable[[nn.Module, torch.device, torch.dtype], Forward]


def torch_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """PyTorch as it is."""
    return casting(quick_on_cpu(network) if device.type == "cpu" else network, device, dtype)


def casting(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """A network as a function: convolutions in `dtype`, channels last in memory."""

    def forward(windows_BC: Tensor) -> Tensor:
        layout = torch.channels_last_3d if windows_BC.ndim == 5 else torch.channels_last
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(windows_BC.contiguous(memory_format=layout))[0]
        return logits

    return forward


def quick_on_cpu(network: nn.Module) -> nn.Module:
    """The same network as a CPU computes it fastest: weights with channels last, instance norms as group norms.

    A group of one channel is an instance (Wu and He 2018, section 3.1), so logits agree to rounding; PyTorch's instance norm goes
    through batch norm, which takes longer. The weights are shared with `network`.
    """
    quick = copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})
    made: dict[int, nn.GroupNorm] = {}
    for parent in quick.modules():
        for name, child in parent._modules.items():
            if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d) and not child.track_running_stats:
                parent._modules[name] = made.setdefault(id(child), _group_norm(child))
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    sizes = {parameter.ndim for parameter in quick.parameters()} & layouts.keys()
    return quick.to(memory_format=layouts[sizes.pop()]) if len(sizes) == 1 else quick  # type: ignore[call-overload]


def _group_norm(norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> nn.GroupNorm:
    groups = nn.GroupNorm(norm.num_features, norm.num_features, eps=norm.eps, affine=norm.affine)
    groups.weight, groups.bias = norm.weight, norm.bias
    return groups


class Batches:
    """Runs windows through networks, as many at a time as the device's memory holds.

    Args:
        size: windows at a time; halved whenever the device runs out of memory, and what was not yet done is done then.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, forward: Forward, windows_BC: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Logits of every window, in order.

        Args:
            forward: the network.
            windows_BC: ``(B, C, *window)``.

        Yields:
            The number of the first window of a part, and its logits ``(b, K, *window)``.

        Raises:
            BudgetError: the device's memory does not hold one window.
        """
        done = 0
        while done < len(windows_BC):
            part = windows_BC[done : done + self.size]
            logits = self._tried(forward, part)
            if logits is not None:
                yield done, logits
                del logits  # before the next part, or two would be held
                done += len(part)

    def _tried(self, forward: Forward, part: Tensor) -> Tensor | None:
        """Logits, or None after the batch was halved for want of memory."""
        try:
            return forward(part)
        except torch.OutOfMemoryError as error:
            if len(part) == 1:
                raise BudgetError(
                    "the device ran out of memory on a single window",
                    remedy="Use another device, or a model with smaller windows.",
                ) from error
        self.size = max(1, min(self.size, len(part)) // 2)
        if part.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def swapped(logits_K: Tensor, twins: Sequence[int] | Tensor) -> Tensor:
    """Classes in the order of their twins on the other side of the body."""
    return logits_K[torch.as_tensor(twins, device=logits_K.device)]
