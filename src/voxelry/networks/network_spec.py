"""NetworkSpec: the parameters of a network, from the plan (in two or three axes) and the user's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from voxelry.core.architectures import architecture
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError, nearest

NORM: tuple[str, dict[str, Any]] = ("INSTANCE", {"affine": True, "eps": 1e-5})
ACTIVATION: tuple[str, dict[str, Any]] = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
"""nnU-Net's norm and activation, in MONAI's words."""

_FIXED = ("spatial_dims", "in_channels", "out_channels")
"""Arguments that follow from the data, which no option may change."""


@dataclass(frozen=True)
class NetworkSpec:
    """The numbers that a network is built from.

    Attributes:
        name: name of the network.
        spatial_dims: its spatial axes; 2 for volumes that are segmented slice by slice.
        in_channels, out_channels: input channels, and logits.
        patch_size: voxels along each axis.
        features: channels of each stage.
        strides, kernels: strides and kernels of each stage along each axis.
        blocks: blocks of each encoder stage; empty where the network has no such number.
        coarser_heads: decoder stages, besides the finest, with a head.
        options: further keyword arguments.
    """

    name: str
    spatial_dims: int
    in_channels: int
    out_channels: int
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    coarser_heads: int
    options: Mapping[str, Any]

    @staticmethod
    def of(plan: Plan, in_channels: int, out_channels: int) -> NetworkSpec:
        """The network of a plan, without the axis across its slices."""
        network, row = plan.network, architecture(plan.network.name)
        axes = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]

        def flat(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(values[axis] for axis in axes)

        stages = len(network.features)
        return NetworkSpec(
            name=network.name,
            spatial_dims=len(axes),
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=flat(plan.patch_size),
            features=network.features,
            strides=tuple(flat(stride) for stride in network.strides),
            kernels=tuple(flat(kernel) for kernel in network.kernels),
            blocks=network.blocks or row.stage_blocks(stages),
            coarser_heads=min(network.deep_supervision, row.coarser_heads(stages)),
            options=network.options,
        )


def build_module(builder: Callable[..., Any], spec: NetworkSpec, **arguments: Any) -> nn.Module:
    """Call a network's class with axes, channels and further arguments; the plan's options win.

    Args:
        builder: a class, or a function that returns a module; it takes `spatial_dims`, `in_channels` and `out_channels`.
        spec: the numbers.
        arguments: the plan's numbers under the names that `builder` gives them; an option may change them.

    Raises:
        ConfigError: an option that `builder` does not take, or numbers that it refuses.
    """
    fixed = {key: getattr(spec, key) for key in _FIXED}
    check_options(builder, spec)
    return call_builder(builder, spec.name, fixed | arguments | dict(spec.options))


def stage_arguments(spec: NetworkSpec) -> dict[str, Any]:
    """The plan's numbers of each stage, for networks that take them by these names."""
    return {key: getattr(spec, key) for key in ("features", "strides", "kernels", "blocks", "coarser_heads")}


def check_options(builder: Callable[..., Any], spec: NetworkSpec) -> None:
    """Refuse options that a network does not take, or that the data decide.

    Raises:
        ConfigError: naming the option and the nearest right one.
    """
    parameters = inspect.signature(builder).parameters
    for key in spec.options:
        if key in _FIXED:
            raise ConfigError(f"network.options: '{key}' follows from the data", remedy="Leave it out.")
        if key not in parameters and not takes_any_keyword(builder):
            raise ConfigError(
                f"network.options: '{spec.name}' takes no '{key}'",
                remedy=nearest(key, [name for name in parameters if name not in _FIXED]),
            )


def takes_any_keyword(builder: Callable[..., Any]) -> bool:
    """Whether a function takes keyword arguments that it does not name."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(builder).parameters.values())


def call_builder(builder: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call a network's class or function, and turn its refusal into one typed error.

    Args:
        builder: a class, or a function that returns a module.
        name: name of the network, for messages.
        arguments: keyword arguments.

    Raises:
        ConfigError: it raised, or returned no module.
    """
    try:
        network = builder(**arguments)
    except Exception as error:
        raise ConfigError(
            f"network '{name}' cannot be built with {_as_text(arguments)} ({type(error).__name__}: {one_line(error)})",
            remedy="Change the plan's network, or its options.",
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network '{name}' is a {type(network).__name__}, not a torch.nn.Module")
    return network


def _as_text(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def one_line(error: Exception) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:200]
