"""The table of networks: one row per network, from which the planner, the checks, the builder and the docs derive.

Each row names the function that builds the network by its import path, since building needs PyTorch and this room does not
import it. `docs/how-to/add-a-network.md` shows how to add a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelry.errors import nearest

GIGABYTE = 10**9

DEFAULT_NETWORK = "dynunet"
"""The network of plans that name none."""

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

REFERENCE_BATCH = {2: 12, 3: 2}
"""Patches of 2 or 3 axes that are one step on the GPU of a `GpuReference`."""


@dataclass(frozen=True)
class GpuReference:
    """The GPU that a network's authors plan for, and the size of a patch that is known to fit it.

    Attributes:
        memory: bytes.
        outputs: numbers that the convolutions of one patch of 2 or 3 axes may put out, `REFERENCE_BATCH` patches being a step.
        patches: patches of 2 or 3 axes that must fit, at the least.
        share: share of all voxels of the dataset that one step may see, so that no step learns the dataset by heart.
    """

    memory: int
    outputs: Mapping[int, float]
    patches: Mapping[int, int] = field(default_factory=lambda: REFERENCE_BATCH)
    share: float = 1.0


@dataclass(frozen=True)
class Preset:
    """A published size of a network.

    Attributes:
        blocks: blocks of each encoder stage, the coarsest last; longer networks repeat the last number.
        options: keyword arguments of the network.
        gpu: GPU that this size is planned for; None takes the network's.
    """

    blocks: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    gpu: GpuReference | None = None


def plain_convolutions(widths: Sequence[int], strides: Sequence[Sequence[int]], blocks: Sequence[int]) -> list[int]:  # noqa: ARG001 - as every count
    """Convolutions of each stage of a plain U-Net: two in the encoder, three in the decoder with the transposed one.

    Args:
        widths: channels of each stage.
        strides: strides of each stage along each axis.
        blocks: blocks of each encoder stage; unused.
    """
    return [5] * (len(strides) - 1) + [2]


def residual_convolutions(widths: Sequence[int], strides: Sequence[Sequence[int]], blocks: Sequence[int]) -> list[int]:
    """Convolutions of each stage of nnU-Net's residual encoder U-Net.

    Two in each residual block, one past each change of width or size, the stem; two in the decoder with the transposed one.

    Args:
        widths: channels of each stage.
        strides: strides of each stage along each axis.
        blocks: blocks of each encoder stage, the last repeated.
    """
    counts = []
    for stage, stride in enumerate(strides):
        changes = stage > 0 and (widths[stage] != widths[stage - 1] or any(s != 1 for s in stride))
        encoder = 2 * blocks[min(stage, len(blocks) - 1)] + (1 if changes or stage == 0 else 0)
        counts.append(encoder + (2 if stage < len(strides) - 1 else 0))
    return counts


_PLAIN_GPU = GpuReference(8 * GIGABYTE, {2: 85e6, 3: 560e6}, {2: 2, 3: 2}, 0.05)
"""nnU-Net's plain U-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

_RESENC_GPUS = {
    "M": GpuReference(8 * GIGABYTE, {2: 135e6, 3: 680e6}),
    "L": GpuReference(24 * GIGABYTE, {2: 380e6, 3: 2100e6}),
    "XL": GpuReference(40 * GIGABYTE, {2: 560e6, 3: 3600e6}),
}
"""nnU-Net's residual encoder U-Net (Isensee et al. 2024, arXiv:2404.09556)."""


@dataclass(frozen=True)
class Architecture:
    """A row of the table: a network's builder, its requirements of a plan, and its memory.

    Attributes:
        builder: import path ``module:function`` that builds it from a `voxelry.networks.network_spec.NetworkSpec`; empty for
            networks of the user's own.
        title: short description, for the docs.
        source: the publication.
        modules: optional dependencies that it imports (`voxelry.base.extras`).
        fewest: stages below which it cannot be built.
        most: stages above which it cannot be built; None without such a bound.
        fallback: the network used instead where the user named none and the patch allows fewer stages; None for an error.
        halves: every stage but the first halves every axis, and kernels are its own; otherwise strides are free.
        heads: stages that cannot have logits of their own beside the finest; None where no coarser stage can.
        blocks: of each encoder stage, the last repeated, where a plan names none; empty where the network has no such number.
        widths: channels of each stage from those of the first and the number of stages; None where they are free.
        first: channels of the first stage that its authors publish, None where the planner chooses.
        presets: sizes by name; the first is the default.
        gpu: GPU that it is planned for, where the preset names none.
        convolutions: how many each stage has, from channels, strides and blocks; the measure of memory.
        activations: numbers that it keeps for its gradients, as a multiple of those of a plain U-Net of the same convolutions, as
            measured; a function of blocks and options where it depends on them.

    Example:
        >>> row = Architecture("my_package.nets:make_tiny", "a tiny network", fewest=1, heads=None)
        >>> row.coarser_heads(4)
        0
    """

    builder: str
    title: str
    source: str = ""
    modules: tuple[str, ...] = ()
    fewest: int = 2
    most: int | None = None
    fallback: str | None = None
    halves: bool = False
    heads: int | None = 2
    blocks: tuple[int, ...] = ()
    widths: Callable[[int, int], tuple[int, ...]] | None = None
    first: int | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    gpu: GpuReference = _PLAIN_GPU
    convolutions: Callable[[Sequence[int], Sequence[Sequence[int]], Sequence[int]], list[int]] = plain_convolutions
    activations: float | Callable[[Sequence[int], Mapping[str, Any]], float] = 1.0

    @property
    def fixed_width(self) -> bool:
        """The authors fix the channels of each stage, alone or with a preset."""
        return self.widths is not None or bool(self.presets)

    def coarser_heads(self, stages: int) -> int:
        """The number of decoder stages coarser than the finest that can have logits of their own."""
        return 0 if self.heads is None else max(0, stages - self.heads)

    def stage_blocks(self, stages: int) -> tuple[int, ...]:
        """Blocks of each encoder stage where a plan names none; empty where the network has no such number."""
        return (self.blocks + self.blocks[-1:] * stages)[:stages]

    def relative_activations(self, blocks: Sequence[int], options: Mapping[str, Any]) -> float:
        """`activations` of a network with these blocks and options."""
        return self.activations if isinstance(self.activations, float) else self.activations(blocks, options)


def _doubling(first: int, stages: int) -> tuple[int, ...]:
    return tuple(first * 2**stage for stage in range(stages))


def _swin_widths(first: int, stages: int) -> tuple[int, ...]:
    return (first, *_doubling(first, stages - 1))


def _mednext_activations(blocks: Sequence[int], options: Mapping[str, Any]) -> float:
    """Grows with the blocks of the finest stage and the channels within them."""
    wider = options.get("encoder_expansion_ratio", 2)
    return float(blocks[0] * (wider if isinstance(wider, int) else wider[0]))


_RESIDUAL = (1, 3, 4, 6)
_SMALL = (2, 2, 2, 2, 2)
_WIDE = {"encoder_expansion_ratio": (2, 3, 4, 4), "decoder_expansion_ratio": (4, 4, 3, 2), "bottleneck_expansion_ratio": 4}
_WIDEST = {"encoder_expansion_ratio": (3, 4, 8, 8), "decoder_expansion_ratio": (8, 8, 4, 3), "bottleneck_expansion_ratio": 8}

ARCHITECTURES: dict[str, Architecture] = {
    "dynunet": Architecture(
        "voxelry.networks.dynunet:make_dynunet",
        "nnU-Net's plain U-Net",
        "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z",
        fewest=3,
        fallback="unet",
    ),
    "unet": Architecture(
        "voxelry.networks.unet:make_unet",
        "MONAI's residual U-Net",
        "Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40",
        heads=None,
        activations=0.3,
    ),
    "resenc": Architecture(
        "voxelry.networks.resenc:make_resenc",
        "nnU-Net's residual encoder U-Net",
        "Isensee et al. 2024, arXiv:2404.09556",
        blocks=_RESIDUAL,
        presets={name: Preset(_RESIDUAL, gpu=gpu) for name, gpu in _RESENC_GPUS.items()},
        gpu=_RESENC_GPUS["M"],
        convolutions=residual_convolutions,
    ),
    "segresnet": Architecture(
        "voxelry.networks.segresnet:make_segresnet",
        "Auto3DSeg's SegResNet",
        "Myronenko 2018, arXiv:1810.11654",
        blocks=(1, 2, 2, 4),
        first=32,
        activations=1.2,
    ),
    "mednext": Architecture(
        "voxelry.networks.mednext:make_mednext",
        "MedNeXt",
        "Roy et al. 2023, arXiv:2303.09975",
        fewest=5,
        most=5,
        halves=True,
        heads=1,
        blocks=_SMALL,
        widths=_doubling,
        first=32,
        presets={
            "S": Preset(_SMALL),
            "B": Preset(_SMALL, _WIDE),
            "M": Preset((3, 4, 4, 4, 4), _WIDE),
            "L": Preset((3, 4, 8, 8, 8), _WIDEST),
        },
        activations=_mednext_activations,
    ),
    "swinunetr": Architecture(
        "voxelry.networks.swinunetr:make_swinunetr",
        "Swin UNETR",
        "Hatamizadeh et al. 2022, arXiv:2201.01266",
        modules=("einops",),
        fewest=6,
        most=6,
        halves=True,
        heads=None,
        widths=_swin_widths,
        first=24,
        activations=5.0,
    ),
}
"""By name, as recipes, plans and models name them."""

_OWN = Architecture("", "a network of the user's own", fewest=1, heads=1)


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
    """The row of a network; one named by import path takes whatever stages it is given.

    Raises:
        ValueError: no such network, with the nearest name.

    Example:
        >>> row = architecture("resenc")
        >>> row.title, list(row.presets)
        ("nnU-Net's residual encoder U-Net", ['M', 'L', 'XL'])
    """
    return _OWN if is_import_path(checked_name(name)) else ARCHITECTURES[name]


def with_presets() -> tuple[str, ...]:
    """Names of the networks that have published sizes."""
    return tuple(name for name, row in ARCHITECTURES.items() if row.presets)


def preset(name: str, size: str) -> Preset:
    """A published size of a network.

    Args:
        name: name of the network.
        size: such as ``M``.

    Raises:
        ValueError: the network has no sizes, or not this one.
    """
    sizes = architecture(name).presets
    if not sizes:
        raise ValueError(f"network '{name}' has no presets ({', '.join(with_presets())} have)")
    if size not in sizes:
        raise ValueError(f"network '{name}' has no preset '{size}'. Known: {', '.join(sizes)}.")
    return sizes[size]


def check_stages(
    name: str, features: tuple[int, ...], strides: tuple[tuple[int, ...], ...], blocks: tuple[int, ...] = ()
) -> None:
    """Refuse stages that a network cannot be built with.

    Args:
        name: name of the network.
        features: channels of each stage.
        strides: strides of each stage along each axis.
        blocks: blocks of each encoder stage; empty where the plan leaves them to the network.

    Raises:
        ValueError: the number of stages, a stride or the channels do not fit.
    """
    row, stages = architecture(name), len(features)
    if stages < row.fewest:
        raise ValueError(f"network '{name}' has at least {row.fewest} stages, not {stages}")
    if row.most is not None and stages > row.most:
        raise ValueError(f"network '{name}' has at most {row.most} stages, not {stages}")
    axes = [axis for axis in range(len(strides[0])) if any(stride[axis] != 1 for stride in strides)]  # not that across slices
    if row.halves and any(stride[axis] != 2 for stride in strides[1:] for axis in axes):
        raise ValueError(f"network '{name}' halves every axis at every stage after the first; strides are {strides}")
    if row.widths is not None and features != row.widths(features[0], stages):
        raise ValueError(f"network '{name}' has channels {row.widths(features[0], stages)} of its stages, not {features}")
    if blocks and not row.blocks and not is_import_path(name):
        raise ValueError(f"network '{name}' has no residual blocks to count; leave blocks out")
    if blocks and len(blocks) != stages:
        raise ValueError(f"blocks are of {len(blocks)} stages, features of {stages}")
