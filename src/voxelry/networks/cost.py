"""What training a network takes, known before anything is trained: its memory, and the type that it must be computed in."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from voxelry.base.device import compute_dtype
from voxelry.base.memory import Footprint, short_memory
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError
from voxelry.networks.build import count_parameters, input_channels
from voxelry.networks.network_spec import one_line
from voxelry.networks.shape_inference import ShapeInference, infer_shapes

FLOAT = 4
"""Bytes of a float32."""

LOSS_COPIES = 4
"""Copies of the logits in float32 while a loss and its gradient are computed: probabilities, targets, products, gradients."""

LAYER_COPIES = 6
"""Copies of the largest saved tensor beside it: gradients of a layer's output and input, what a convolution reorders, and what
the allocator has not given back; measured on a CPU."""


@dataclass(frozen=True)
class NetworkCost:
    """Memory of a network while it is trained.

    Attributes:
        parameters: trainable numbers.
        footprint: bytes of a training step by part, without the program itself and the data.
    """

    parameters: int
    footprint: Footprint

    @property
    def total(self) -> int:
        """Bytes of a training step."""
        return self.footprint.total

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.2f} million parameters, about {short_memory(self.total)} a step"


def network_cost(
    network: nn.Module,
    plan: Plan,
    classes: int,
    *,
    batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    moments: int = 2,
) -> NetworkCost:
    """The memory that training takes.

    Nothing is computed: a batch without values passes the network (`voxelry.networks.shape_inference`).

    Args:
        network: ``(B, C, *patch)`` -> list of logits.
        plan: patch size, channels and batch.
        classes: labels and the background.
        batch: patches a step; None takes the plan's.
        dtype: type in which convolutions are computed.
        moments: numbers that the optimiser keeps for each weight: AdamW two, SGD with momentum one; a moving average is one more.

    Returns:
        An estimate; measured steps were within a third of it for every network (`tests/networks/test_cost.py`).

    Raises:
        ConfigError: the network cannot take the plan's patches.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> from voxelry.networks import build_network
        >>> cost = network_cost(build_network(plan, 3), plan, 3)
        >>> cost.total == sum(cost.footprint.parts.values())
        True
    """
    inference = _step_shapes(network, plan, classes, batch or plan.batch_size, dtype)
    parameters = count_parameters(network)
    logits = FLOAT * sum(prod(head) for head in inference.heads)
    footprint = Footprint(
        {
            "weights": FLOAT * parameters,
            "weight gradients": FLOAT * parameters,
            "optimiser state": FLOAT * moments * parameters,
            "activations": inference.saved_bytes,
            "loss": LOSS_COPIES * logits,
            "layer gradients": LAYER_COPIES * inference.largest_bytes,
        }
    )
    return NetworkCost(parameters, footprint)


def training_dtype(network: nn.Module, plan: Plan, classes: int, device: torch.device, mixed_precision: str) -> torch.dtype:
    """The type in which a network's convolutions are computed in training: `compute_dtype`, or float32 where that is unsafe.

    On a CPU the gradient of a convolution's weights in bfloat16 is wrong where its input is narrower than its kernel, as in a
    stage of two voxels: oneDNN reads memory that it never wrote (PyTorch 2.13, instructions AVX-512 BF16; along the last axis of
    pictures with AMX too). So such a network is computed in float32.

    Args:
        network: ``(B, C, *patch)`` -> list of logits.
        plan: patch size, channels and batch.
        classes: labels and the background.
        device: where it is trained.
        mixed_precision: as in a recipe.

    Raises:
        ConfigError: the network cannot take the plan's patches.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(8, 8), batch_size=2, network=network)
        >>> from voxelry.networks import build_network
        >>> training_dtype(build_network(plan, 3), plan, 3, torch.device("cpu"), "auto")  # 2 x 2 pixels at last
        torch.float32
    """
    dtype = compute_dtype(device, mixed_precision)
    is_safe = device.type != "cpu" or dtype == torch.float32
    if is_safe or not _step_shapes(network, plan, classes, plan.batch_size, dtype).has_narrow_inputs:
        return dtype
    return torch.float32


def _step_shapes(network: nn.Module, plan: Plan, classes: int, batch: int, dtype: torch.dtype) -> ShapeInference:
    """The shapes of a training step.

    Raises:
        ConfigError: the network cannot take the plan's patches.
    """
    try:
        return infer_shapes(network, (batch, input_channels(plan, classes), *plan.patch_size), dtype)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"network '{plan.network.name}' cannot be trained on patches of {plan.patch_size} voxels "
            f"({type(error).__name__}: {one_line(error)})",
            remedy="Enlarge plan.patch_size, or take fewer stages.",
        ) from error
