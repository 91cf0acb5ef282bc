"""A network before its window is known: how wide and deep it may be, and how many numbers it then computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelry.base.schema import parse
from voxelry.core.architectures import architecture, preset
from voxelry.core.plan import NetworkPlan
from voxelry.errors import ConfigError
from voxelry.planning.topology import Topology, halving, padded, topology
from voxelry.recipes.settings import PlanSettings

COSTS = {"unet": 0.3, "segresnet": 1.2, "swinunetr": 5.0}
"""Numbers that a network keeps for its gradients, as a measured multiple of those of a plain U-Net of the same stages."""


@dataclass(frozen=True)
class Design:
    """What is known of a network before its window.

    Attributes:
        name: of `voxelry.core.architectures`, or an import path.
        classes: background included.
        first: channels of the first stage.
        widest: channels that no stage exceeds.
        most: stages; None for as many as the window allows.
        features: channels of each stage that the user has decided; the window may allow fewer stages.
        blocks: of each encoder stage, the last repeated; empty where the network has none.
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
        """Strides and kernels for a window."""
        needs = architecture(self.name)
        if needs.halves:
            return halving(len(patch), needs.fewest)
        return topology(patch, spacing, self.most)

    def widths(self, stages: int) -> tuple[int, ...]:
        """Channels of each stage."""
        if self.features:
            return self.features[:stages]
        given = architecture(self.name).widths
        return given(self.first, stages) if given else tuple(min(self.first * 2**stage, self.widest) for stage in range(stages))

    def activations(self, patch: Sequence[int], strides: Sequence[Sequence[int]]) -> float:
        """Numbers that the convolutions of one window put out, as nnU-Net counts them: its measure of memory.

        Args:
            patch: window in voxels.
            strides: of each stage along each axis.
        """
        widths = self.widths(len(strides))
        sizes, size = [], tuple(patch)
        for stride in strides:
            size = tuple(n // s for n, s in zip(size, stride, strict=True))
            sizes.append(math.prod(size))
        residual = self.name == "resenc"
        convolutions = [self._encoder(stage, widths, strides[stage]) for stage in range(len(strides))]
        for stage in range(len(strides) - 1):
            convolutions[stage] += 2 if residual else 3  # of the decoder, the transposed one included
        total = sum(count * width * voxels for count, width, voxels in zip(convolutions, widths, sizes, strict=True))
        return self._cost() * (total + self.classes * sizes[0])

    def _cost(self) -> float:
        """Of `COSTS`; a MedNeXt's grows with the blocks of its finest stage and the channels within them (as measured)."""
        if self.name != "mednext":
            return COSTS.get(self.name, 1.0)
        wider = self.options.get("encoder_expansion_ratio", 2)
        return float(self.blocks[0] * (wider if isinstance(wider, int) else wider[0]))

    def _encoder(self, stage: int, widths: Sequence[int], stride: Sequence[int]) -> int:
        """Convolutions of an encoder stage: two, or with residual blocks two each, one past each change, and the stem."""
        if self.name != "resenc":
            return 2
        blocks = (self.blocks + self.blocks[-1:] * stage)[stage]
        changes = stage > 0 and (widths[stage] != widths[stage - 1] or any(s != 1 for s in stride))
        return 2 * blocks + (1 if changes or stage == 0 else 0)

    def network(self, patch: Sequence[float], found: Topology) -> NetworkPlan:
        """The network's plan for a window.

        Raises:
            ConfigError: the window allows too few stages, or the features do not suit the network.
        """
        stages, needs = len(found.strides), architecture(self.name)
        if stages < needs.fewest:
            window = " x ".join(f"{edge:g}" for edge in padded(patch, found.divisor))
            raise ConfigError(
                f"a window of {window} voxels and {self.most or stages} stages are too small for network '{self.name}'",
                remedy=f"It has at least {needs.fewest} stages, the coarsest of 4 voxels: enlarge plan.patch_size.",
            )
        parts = {
            "name": self.name,
            "features": self.widths(stages),
            "strides": found.strides,
            "kernels": found.kernels,
            "blocks": (self.blocks + self.blocks[-1:] * stages)[:stages],
            "deep_supervision": needs.coarser_heads(stages),
            "options": self.options,
        }
        return parse(NetworkPlan, parts, "plan.network")


def _plain(value: Any) -> Any:
    """As YAML would give it back."""
    return list(value) if isinstance(value, tuple) else value


def design(settings: PlanSettings, classes: int, first: int, widest: int, most: int | None) -> Design:
    """What the user has decided of the network, and the planner's choices for the rest.

    Args:
        settings: the user's.
        classes: background included.
        first: channels of the first stage where nothing else says so.
        widest: channels that no stage exceeds.
        most: stages, None for as many as the window allows.

    Raises:
        ConfigError: no such network or preset, or features of another number of stages than the network has.
    """
    name = settings.network or "dynunet"
    try:
        needs = architecture(name)
        size = preset(name, settings.preset or next(iter(needs.presets))) if needs.presets or settings.preset else None
    except ValueError as error:
        raise ConfigError(f"plan.network: {error}") from error
    if settings.features and needs.halves and len(settings.features) != needs.fewest:
        raise ConfigError(
            f"plan.features is {list(settings.features)}: network '{name}' has {needs.fewest} stages",
            remedy=f"Give {needs.fewest} numbers, or leave plan.features out.",
        )
    return Design(
        name=name,
        classes=classes,
        first=first,
        widest=widest,
        most=len(settings.features) if settings.features else needs.most or most,
        features=settings.features or (),
        blocks=size.blocks if size else needs.blocks,
        options={key: _plain(value) for key, value in {**(size.options if size else {}), **settings.options}.items()},
    )
