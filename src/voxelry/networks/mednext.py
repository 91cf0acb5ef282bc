"""MedNeXt (Roy et al. 2023, arXiv:2303.09975), a U-Net of ConvNeXt blocks, as MONAI has it."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import MedNeXt
from torch import nn

from voxelry.networks.network_spec import NetworkSpec, build_module


def make_mednext(spec: NetworkSpec) -> nn.Module:
    """MedNeXt of the plan's channels and blocks, its unused heads left out."""
    *encoder, bottleneck = spec.blocks
    network = build_module(
        MedNeXt,
        spec,
        init_filters=spec.features[0],
        kernel_size=3,
        deep_supervision=spec.coarser_heads > 0,
        use_residual_connection=True,
        blocks_down=tuple(encoder),
        blocks_bottleneck=bottleneck,
        blocks_up=tuple(reversed(encoder)),
    )
    if spec.coarser_heads:
        heads: Any = network.out_blocks  # the coarsest first
        for unused in range(len(heads) - spec.coarser_heads):
            heads[unused] = nn.Identity()
    return network
