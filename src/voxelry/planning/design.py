"""The network's design: its widths and depth before the patch size is known, and its activations for a given patch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelry.base.schema import parse
from voxelry.core.architectures import DEFAULT_NETWORK, architecture, preset
from voxelry.core.plan import NetworkPlan
from voxelry.errors import ConfigError
from voxelry.planning.topology import Topology, halving, padded, topology
from voxelry.recipes.settings import PlanSettings


@dataclass(frozen=True)
class Design:
    """A network before the patch size is known.

    Attributes:
        name: name in `voxelry.core.architectures`, or an import path.
        classes: background included.
        first: channels of the first stage.
        widest: channels that no stage exceeds.
        most: stages; None for as many as the patch allows.
        features: channels of each stage that the user has decided; the patch may allow fewer stages.
        blocks: blocks of each encoder stage, the last repeated; empty where the network has none.
        options: keyword arguments of the network.
    """

    name: str
    classes: int
    first: int
    widest: int
    most: int | None = None
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def topology(self, patch: Sequence[float], spacing: Sequence[float]) -> Topology:
        """Strides and kernels for a patch."""
        row = architecture(self.name)
        if row.halves:
            return halving(len(patch), row.fewest)
        return topology(patch, spacing, self.most)

    def widths(self, stages: int) -> tuple[int, ...]:
        """Channels of each stage."""
        if self.features:
            return self.features[:stages]
        published = architecture(self.name).widths
        return (
            published(self.first, stages)
            if published
            else tuple(min(self.first * 2**stage, self.widest) for stage in range(stages))
        )

    def activations(self, patch: Sequence[int], strides: Sequence[Sequence[int]]) -> float:
        """Numbers that the convolutions of one patch put out, as nnU-Net counts them: its measure of memory.

        Args:
            patch: size in voxels.
            strides: strides of each stage along each axis.
        """
        widths = self.widths(len(strides))
        sizes, size = [], tuple(patch)
        for stride in strides:
            size = tuple(n // s for n, s in zip(size, stride, strict=True))
            sizes.append(math.prod(size))
        row = architecture(self.name)
        convolutions = row.convolutions(widths, strides, self.blocks)
        total = sum(count * width * voxels for count, width, voxels in zip(convolutions, widths, sizes, strict=True))
        return row.relative_activations(self.blocks, self.options) * (total + self.classes * sizes[0])

    def network(self, patch: Sequence[float], topology: Topology) -> NetworkPlan:
        """The network's plan for a patch and its topology.

        Raises:
            ConfigError: the patch allows too few stages, or the features do not suit the network.
        """
        stages, row = len(topology.strides), architecture(self.name)
        if stages < row.fewest:
            size = " x ".join(f"{edge:g}" for edge in padded(patch, topology.divisor))
            raise ConfigError(
                f"a patch of {size} voxels and {self.most or stages} stages are too small for network '{self.name}'",
                remedy=f"It has at least {row.fewest} stages, the coarsest of 4 voxels: enlarge plan.patch_size.",
            )
        parts = {
            "name": self.name,
            "features": self.widths(stages),
            "strides": topology.strides,
            "kernels": topology.kernels,
            "blocks": (self.blocks + self.blocks[-1:] * stages)[:stages],
            "deep_supervision": row.coarser_heads(stages),
            "options": self.options,
        }
        return parse(NetworkPlan, parts, "plan.network")


def _plain(value: Any) -> Any:
    """As YAML would give it back."""
    return list(value) if isinstance(value, tuple) else value


def make_design(settings: PlanSettings, classes: int, first: int, widest: int, most: int | None) -> Design:
    """A network's design from the user's settings, and the planner's choices for the rest.

    Args:
        settings: the user's.
        classes: background included.
        first: channels of the first stage where nothing else says so.
        widest: channels that no stage exceeds.
        most: stages, None for as many as the patch allows.

    Raises:
        ConfigError: no such network or preset, or features of another number of stages than the network has.
    """
    name = settings.network or DEFAULT_NETWORK
    try:
        row = architecture(name)
        size = preset(name, settings.preset or next(iter(row.presets))) if row.presets or settings.preset else None
    except ValueError as error:
        raise ConfigError(f"plan.network: {error}") from error
    if settings.features and row.halves and len(settings.features) != row.fewest:
        raise ConfigError(
            f"plan.features is {list(settings.features)}: network '{name}' has {row.fewest} stages",
            remedy=f"Give {row.fewest} numbers, or leave plan.features out.",
        )
    return Design(
        name=name,
        classes=classes,
        first=first,
        widest=widest,
        most=len(settings.features) if settings.features else row.most or most,
        features=settings.features or (),
        blocks=size.blocks if size else row.blocks,
        options={key: _plain(value) for key, value in {**(size.options if size else {}), **settings.options}.items()},
    )
