"""What each network needs of a plan: stages, strides, channels; and the sizes that its authors published.

The one table that the planner plans by, that a plan is checked against, and that networks are built from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from voxelry.errors import nearest

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Preset:
    """A published size of a network.

    Attributes:
        blocks: of each encoder stage, the coarsest last; longer networks repeat the last number.
        options: keyword arguments of the network.
        memory: GiB of a GPU that the size is planned for; None where its authors name none.
    """

    blocks: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: float | None = None


@dataclass(frozen=True)
class Architecture:
    """What a network needs of a plan.

    Attributes:
        fewest: stages below which it cannot be built.
        most: stages above which it cannot be built; None without such a bound.
        halves: every stage but the first halves every axis, and kernels are its own; otherwise strides are free.
        heads: stages that cannot have logits of their own beside the finest; None where no coarser stage can.
        blocks: of each encoder stage, the last repeated, where a plan names none; empty where the network has no such number.
        widths: channels of each stage from those of the first and the number of stages; None where they are free.
        first: channels of the first stage that its authors publish, None where the planner chooses.
        presets: sizes by name; the first is the default.
    """

    fewest: int = 2
    most: int | None = None
    halves: bool = False
    heads: int | None = 2
    blocks: tuple[int, ...] = ()
    widths: Callable[[int, int], tuple[int, ...]] | None = None
    first: int | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)

    def coarser_heads(self, stages: int) -> int:
        """How many decoder stages coarser than the finest can have logits of their own."""
        return 0 if self.heads is None else max(0, stages - self.heads)

    def stage_blocks(self, stages: int) -> tuple[int, ...]:
        """Blocks of each encoder stage where a plan names none; empty where the network has no such number."""
        return (self.blocks + self.blocks[-1:] * stages)[:stages]


def _doubling(first: int, stages: int) -> tuple[int, ...]:
    return tuple(first * 2**stage for stage in range(stages))


def _swin(first: int, stages: int) -> tuple[int, ...]:
    return (first, *_doubling(first, stages - 1))


_RESIDUAL = (1, 3, 4, 6)
_SMALL = (2, 2, 2, 2, 2)
_WIDE = {"encoder_expansion_ratio": (2, 3, 4, 4), "decoder_expansion_ratio": (4, 4, 3, 2), "bottleneck_expansion_ratio": 4}
_WIDEST = {"encoder_expansion_ratio": (3, 4, 8, 8), "decoder_expansion_ratio": (8, 8, 4, 3), "bottleneck_expansion_ratio": 8}

ARCHITECTURES: dict[str, Architecture] = {
    "dynunet": Architecture(fewest=3),
    "unet": Architecture(heads=None),
    "resenc": Architecture(
        blocks=_RESIDUAL,
        presets={name: Preset(_RESIDUAL, memory=memory) for name, memory in (("M", 8.0), ("L", 24.0), ("XL", 40.0))},
    ),
    "segresnet": Architecture(blocks=(1, 2, 2, 4), first=32),
    "mednext": Architecture(
        fewest=5, most=5, halves=True, heads=1, blocks=_SMALL, widths=_doubling, first=32,
        presets={
            "S": Preset(_SMALL),
            "B": Preset(_SMALL, _WIDE),
            "M": Preset((3, 4, 4, 4, 4), _WIDE),
            "L": Preset((3, 4, 8, 8, 8), _WIDEST),
        },
    ),
    "swinunetr": Architecture(fewest=6, most=6, halves=True, heads=None, widths=_swin, first=24),
}  # fmt: skip
"""By name: nnU-Net's plain U-Net, MONAI's residual U-Net, nnU-Net's residual encoder (Isensee et al. 2024, arXiv:2404.09556),
Auto3DSeg's SegResNet (Myronenko 2018, arXiv:1810.11654), MedNeXt (Roy et al. 2023, arXiv:2303.09975) and Swin UNETR (Hatamizadeh
et al. 2022, arXiv:2201.01266)."""

_OWN = Architecture(fewest=1, heads=1)


def is_import_path(name: str) -> bool:
    """Whether a network is named as ``package.module:Class``, code that is not part of voxelry."""
    return ":" in name


def checked_name(name: str) -> str:
    """A network's name, or an import path.

    Raises:
        ValueError: it is neither, with the nearest name.
    """
    if is_import_path(name):
        if not _IMPORT_PATH.fullmatch(name):
            raise ValueError(f"'{name}' is not an import path; write package.module:Class")
    elif name not in ARCHITECTURES:
        raise ValueError(f"no network '{name}'. {nearest(name, ARCHITECTURES)} Your own is named as package.module:Class.")
    return name


def architecture(name: str) -> Architecture:
    """What a network needs; one named by import path takes what it is given.

    Raises:
        ValueError: no such network, with the nearest name.
    """
    return _OWN if is_import_path(checked_name(name)) else ARCHITECTURES[name]


def preset(name: str, size: str) -> Preset:
    """A published size of a network.

    Args:
        name: of the network.
        size: such as ``M``.

    Raises:
        ValueError: the network has no sizes, or not this one.
    """
    sizes = architecture(name).presets
    if not sizes:
        others = ", ".join(other for other, needs in ARCHITECTURES.items() if needs.presets)
        raise ValueError(f"network '{name}' has no presets ({others} have)")
    if size not in sizes:
        raise ValueError(f"network '{name}' has no preset '{size}'. Known: {', '.join(sizes)}.")
    return sizes[size]


def check_stages(
    name: str, features: tuple[int, ...], strides: tuple[tuple[int, ...], ...], blocks: tuple[int, ...] = ()
) -> None:
    """Refuse stages that a network cannot be built with.

    Args:
        name: of the network.
        features: channels of each stage.
        strides: of each stage along each axis.
        blocks: of each encoder stage; empty where the plan leaves them to the network.

    Raises:
        ValueError: the number of stages, a stride or the channels do not fit.
    """
    needs, stages = architecture(name), len(features)
    if stages < needs.fewest:
        raise ValueError(f"network '{name}' has at least {needs.fewest} stages, not {stages}")
    if needs.most is not None and stages > needs.most:
        raise ValueError(f"network '{name}' has at most {needs.most} stages, not {stages}")
    seen = [axis for axis in range(len(strides[0])) if any(stride[axis] != 1 for stride in strides)]  # not that across slices
    if needs.halves and any(stride[axis] != 2 for stride in strides[1:] for axis in seen):
        raise ValueError(f"network '{name}' halves every axis at every stage after the first; strides are {strides}")
    if needs.widths is not None and features != needs.widths(features[0], stages):
        raise ValueError(f"network '{name}' has channels {needs.widths(features[0], stages)} of its stages, not {features}")
    if blocks and not needs.blocks and not is_import_path(name):
        raise ValueError(f"network '{name}' has no residual blocks to count; leave blocks out")
    if blocks and len(blocks) != stages:
        raise ValueError(f"blocks are of {len(blocks)} stages, features of {stages}")
