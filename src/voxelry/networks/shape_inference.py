"""Shape inference: a network's logits and convolutions, and the bytes that a training step keeps, without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class ShapeInference:
    """The result of a forward pass in training mode without values.

    Attributes:
        heads: shapes of the logits, batch and classes included.
        saved_bytes: bytes of all tensors that the backward pass needs, weights not counted.
        largest_bytes: bytes of the largest of these tensors.
        has_narrow_inputs: whether a convolution's input is narrower than its kernel along any axis.
    """

    heads: tuple[tuple[int, ...], ...]
    saved_bytes: int
    largest_bytes: int
    has_narrow_inputs: bool


def infer_shapes(network: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> ShapeInference:
    """Send a batch through a network without memory or time for its voxels.

    Tensors have shapes and types and no values (PyTorch's FakeTensorMode); a network whose control flow depends on values is
    computed.

    Args:
        network: ``(B, C, *patch)`` -> list of logits.
        shape: shape of a batch.
        dtype: type in which convolutions are computed.

    Example:
        >>> import torch
        >>> infer_shapes(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3)), (2, 1, 512, 512)).heads
        ((4, 510, 510), (4, 510, 510))
    """
    shared = {id(parameter): parameter for parameter in network.parameters()}
    replica = copy.deepcopy(network, shared).train()  # discarded with all that layers remember of the pass
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _measure(replica, shape, dtype)
    except RuntimeError:
        return _measure(replica, shape, dtype)


class _NarrowInputs(TorchFunctionMode):
    """Notices convolutions whose input is narrower than their kernel, of layers and functions alike."""

    def __init__(self) -> None:
        super().__init__()
        self.occurred = False

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if function in (torch.conv1d, torch.conv2d, torch.conv3d):
            image, weight = (named[name] if name in named else args[place] for place, name in enumerate(("input", "weight")))
            dilation = named.get("dilation", args[5] if len(args) > 5 else 1)
            sizes, kernels = image.shape[-(weight.ndim - 2) :], weight.shape[2:]
            steps = [dilation] * len(kernels) if isinstance(dilation, int) else dilation
            self.occurred |= any(n < (k - 1) * step + 1 for n, k, step in zip(sizes, kernels, steps, strict=True))
        return function(*args, **named)


def _measure(network: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> ShapeInference:
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = (tensor, storage.nbytes())  # kept alive, so that no other storage takes its address
        return tensor

    device = next(network.parameters()).device
    layout = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    batch = torch.zeros(tuple(shape), device=device).contiguous(memory_format=layout)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
        _NarrowInputs() as narrow,
    ):
        heads = network(batch)
    sizes = [size for _, size in saved.values()]
    return ShapeInference(tuple(tuple(head.shape) for head in heads), sum(sizes), max(sizes, default=0), narrow.occurred)
