"""Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266), a transformer encoder with a convolutional decoder, as MONAI has it."""

from __future__ import annotations

from monai.networks.nets import SwinUNETR
from torch import nn

from voxelry.networks.network_spec import NetworkSpec, build_module


def make_swinunetr(spec: NetworkSpec) -> nn.Module:
    """SwinUNETR of the plan's first channels; strides and the other channels are its own."""
    return build_module(SwinUNETR, spec, feature_size=spec.features[0])
