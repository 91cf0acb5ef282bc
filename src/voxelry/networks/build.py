"""Builds the network that a plan names, by the table of networks, with one interface for all.

Shape legend: B batch, C input channels, K classes (background first), then two or three spatial axes.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from voxelry.base.extras import extra
from voxelry.core.architectures import architecture, is_import_path
from voxelry.core.plan import Plan
from voxelry.networks.custom import check_shapes, custom_network
from voxelry.networks.network_spec import NetworkSpec
from voxelry.networks.wrapper import NetworkWrapper


def build_network(plan: Plan, classes: int) -> nn.Module:
    """The network a plan names, with fresh weights.

    Args:
        plan: a plan.
        classes: labels and the background; how many the network tells apart follows from this and the plan's regions.

    Returns:
        A module: ``(B, C, *patch)`` -> list of logits ``(B, K + H, *patch)``, finest first; in evaluation mode the first alone.
        C and K are `input_channels` and `output_classes`, H is `head_channels`.

    Raises:
        ConfigError: the network cannot be built with the plan's options, or its logits have another shape.
        MissingExtraError: it needs an optional dependency that is not installed.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> import torch
        >>> logits = build_network(plan, classes=3)(torch.zeros(2, 1, 32, 32))
        >>> [tuple(head.shape) for head in logits]
        [(2, 3, 32, 32), (2, 3, 16, 16)]
    """
    regions = bool(plan.regions)
    outputs = output_classes(plan, classes) + head_channels(plan)
    spec = NetworkSpec.of(plan, input_channels(plan, classes), outputs - regions)
    network = NetworkWrapper(build_body(spec), spec.coarser_heads, plan.slice_axis, regions)
    if is_import_path(spec.name):
        check_shapes(network, spec.name, (spec.in_channels, *plan.patch_size), outputs)
    return network


def build_body(spec: NetworkSpec) -> nn.Module:
    """The network itself, without the wrapper.

    Raises:
        ConfigError: it cannot be built.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    if is_import_path(spec.name):
        return custom_network(spec)
    row = architecture(spec.name)
    for module in row.modules:
        extra(module, f"the network '{spec.name}'")
    path, _, function = row.builder.partition(":")
    network: nn.Module = getattr(import_module(path), function)(spec)
    return network


def input_channels(plan: Plan, classes: int) -> int:
    """C: the plan's channels, and in a cascade's second stage one more for each label of the first.

    Args:
        plan: a plan.
        classes: labels and the background.
    """
    return len(plan.channels) + (classes - 1 if plan.configuration == "3d_cascade" else 0)


def output_classes(plan: Plan, classes: int) -> int:
    """K: the background, and the plan's regions or else the labels.

    Args:
        plan: a plan.
        classes: labels and the background.
    """
    return len(plan.regions) + 1 if plan.regions else classes


def head_channels(plan: Plan) -> int:
    """H: outputs of the instance head, after those of the classes.

    Args:
        plan: a plan.
    """
    return 0 if plan.instances is None else plan.instances.head_channels


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in a network.

    Example:
        >>> import torch
        >>> count_parameters(torch.nn.Conv2d(1, 4, 3))
        40
    """
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
