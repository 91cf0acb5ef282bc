"""Memory that training a network takes, estimated before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from voxelry.base.memory import Footprint, short_memory
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError
from voxelry.networks.build import count_parameters, input_channels
from voxelry.networks.network_spec import one_line
from voxelry.networks.shape_inference import infer_shapes

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
    shape = (batch or plan.batch_size, input_channels(plan, classes), *plan.patch_size)
    try:
        inference = infer_shapes(network, shape, dtype)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"network '{plan.network.name}' cannot be trained on patches of {plan.patch_size} voxels "
            f"({type(error).__name__}: {one_line(error)})",
            remedy="Enlarge plan.patch_size, or take fewer stages.",
        ) from error
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
