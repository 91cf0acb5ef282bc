"""MONAI's residual U-Net (Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40), the smallest of the networks."""

from __future__ import annotations

from monai.networks.nets import UNet
from torch import nn

from voxelry.networks.network_spec import ACTIVATION, NORM, NetworkSpec, build_module


def make_unet(spec: NetworkSpec) -> nn.Module:
    """UNet of the plan's strides and channels, two convolutions per residual unit."""
    return build_module(UNet, spec, channels=spec.features, strides=spec.strides[1:], num_res_units=2, norm=NORM, act=ACTIVATION)
