"""What a network is built from: the plan's numbers as a network of two or three axes sees them, and the user's options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from voxelry.core.architectures import architecture
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError, nearest

NORM = ("INSTANCE", {"affine": True, "eps": 1e-5})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
"""nnU-Net's, in MONAI's words."""

_FIXED = ("spatial_dims", "in_channels", "out_channels")
"""What follows from the data, which no option may change."""


@dataclass(frozen=True)
class Order:
    """A network that is wanted.

    Attributes:
        name: of the network.
        dims: its spatial axes; 2 of volumes that are segmented slice by slice.
        channels, outputs: C, and the logits of its own.
        window: voxels along each axis.
        features: channels of each stage.
        strides, kernels: of each stage along each axis.
        blocks: of each encoder stage; empty where the network has no such number.
        coarser: decoder stages, besides the finest, with a head.
        options: further keyword arguments.
    """

    name: str
    dims: int
    channels: int
    outputs: int
    window: tuple[int, ...]
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    coarser: int
    options: Mapping[str, Any]

    @staticmethod
    def of(plan: Plan, channels: int, outputs: int) -> Order:
        """What a plan wants, without the axis across its slices."""
        recipe, needs = plan.network, architecture(plan.network.name)
        seen = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]

        def flat(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(values[axis] for axis in seen)

        stages = len(recipe.features)
        return Order(
            name=recipe.name,
            dims=len(seen),
            channels=channels,
            outputs=outputs,
            window=flat(plan.patch_size),
            features=recipe.features,
            strides=tuple(flat(stride) for stride in recipe.strides),
            kernels=tuple(flat(kernel) for kernel in recipe.kernels),
            blocks=recipe.blocks or needs.stage_blocks(stages),
            coarser=min(recipe.deep_supervision, needs.coarser_heads(stages)),
            options=recipe.options,
        )


def made(maker: Callable[..., Any], order: Order, **numbers: Any) -> nn.Module:
    """Build a network, its options last.

    Args:
        maker: a class, or a function that returns a module.
        order: what is wanted.
        numbers: the plan's numbers under the names that `maker` gives them; an option may change them.

    Raises:
        ConfigError: an option that `maker` does not take, or numbers that it refuses.
    """
    fixed = {"spatial_dims": order.dims, "in_channels": order.channels, "out_channels": order.outputs}
    check_options(maker, order)
    return called(maker, order, fixed | numbers | dict(order.options))


def check_options(maker: Callable[..., Any], order: Order) -> None:
    """Refuse options that a network does not take, or that the data decide.

    Raises:
        ConfigError: naming the option and the nearest right one.
    """
    takes = inspect.signature(maker).parameters
    for key in order.options:
        if key in _FIXED:
            raise ConfigError(f"network.options: '{key}' follows from the data", remedy="Leave it out.")
        if key not in takes and not takes_any(maker):
            raise ConfigError(
                f"network.options: '{order.name}' takes no '{key}'",
                remedy=nearest(key, [name for name in takes if name not in _FIXED]),
            )


def takes_any(maker: Callable[..., Any]) -> bool:
    """Whether a function takes keyword arguments that it does not name."""
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(maker).parameters.values())


def called(maker: Callable[..., Any], order: Order, arguments: Mapping[str, Any]) -> nn.Module:
    """What `maker` returns, its refusal as one typed error.

    Raises:
        ConfigError: it raised, or returned no module.
    """
    try:
        network = maker(**arguments)
    except Exception as error:
        raise ConfigError(
            f"network '{order.name}' cannot be built with {_seen(arguments)} ({type(error).__name__}: {one_line(error)})",
            remedy="Change the plan's network, or its options.",
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network '{order.name}' is a {type(network).__name__}, not a torch.nn.Module")
    return network


def _seen(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def one_line(error: Exception) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:200]
