"""Auto3DSeg's SegResNet with the plan's strides, kernels and channels, of MONAI's blocks.

MONAI's SegResNetDS halves all axes at once or in an order that follows from the voxel's size alone; a plan says for each stage
which axes are halved. Layers and their names are SegResNetDS's (Myronenko 2018, arXiv:1810.11654), and so are its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.blocks.upsample import UpSample
from monai.networks.layers.factories import Conv
from monai.networks.nets.segresnet_ds import SegResBlock
from torch import Tensor, nn

from voxelry.networks.network_spec import NORM, NetworkSpec, build_module, stage_arguments

ACTIVATION = ("relu", {"inplace": True})

Sizes = Sequence[int]


class SegResNet(nn.Module):
    """Residual encoder, additive skips, a head at each of the finer decoder stages.

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        out_channels: K.
        features: channels of each stage, finest first.
        strides, kernels: strides and kernels of each stage along each axis.
        blocks: residual blocks of each encoder stage; a decoder stage has one.
        coarser_heads: decoder stages, besides the finest, with a head.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sizes,
        strides: Sequence[Sizes],
        kernels: Sequence[Sizes],
        blocks: Sizes,
        coarser_heads: int,
    ) -> None:
        super().__init__()
        dims, last = spatial_dims, len(features) - 1
        self.encoder = nn.ModuleDict(
            {
                "conv_init": _convolution(dims, in_channels, features[0], kernels[0], (1,) * dims),
                "layers": nn.ModuleList(
                    nn.ModuleDict(
                        {
                            "blocks": _blocks(dims, features[n], kernels[n], blocks[n]),
                            "downsample": nn.Identity()
                            if n == last
                            else _convolution(dims, features[n], features[n + 1], _reach(strides[n + 1]), strides[n + 1]),
                        }
                    )
                    for n in range(last + 1)
                ),
            }
        )
        self.up_layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "upsample": UpSample(
                        dims, features[n + 1], features[n], tuple(strides[n + 1]), _reach(strides[n + 1]), bias=False
                    ),
                    "blocks": _blocks(dims, features[n], kernels[n], 1),
                    "head": Conv["CONV", dims](features[n], out_channels, 1) if n <= coarser_heads else nn.Identity(),
                }
            )
            for n in reversed(range(last))
        )
        self.coarser_heads = coarser_heads

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """``(B, C, *patch)`` -> logits, finest first; in evaluation mode the first alone."""
        encoder: Any = self.encoder
        up_layers: Any = self.up_layers
        x, skips = encoder["conv_init"](x_BC), []
        for level in encoder["layers"]:
            x = level["blocks"](x)
            skips.append(x)
            x = level["downsample"](x)
        heads: list[Tensor] = []
        for stage, level in zip(reversed(range(len(up_layers))), up_layers, strict=True):
            x = level["blocks"](level["upsample"](x) + skips[stage])
            if stage == 0 or (self.training and stage <= self.coarser_heads):
                heads.append(level["head"](x))
        return heads[::-1]


def make_segresnet(spec: NetworkSpec) -> nn.Module:
    """SegResNet of the plan's stages."""
    return build_module(SegResNet, spec, **stage_arguments(spec))


def _reach(stride: Sizes) -> tuple[int, ...]:
    """Kernel of a change of resolution: 3 voxels along the axes that it changes."""
    return tuple(3 if step > 1 else 1 for step in stride)


def _convolution(dims: int, width_in: int, width_out: int, kernel: Sizes, stride: Sizes) -> nn.Module:
    padding = tuple(size // 2 for size in kernel)
    block: nn.Module = Conv["CONV", dims](width_in, width_out, tuple(kernel), tuple(stride), padding, bias=False)
    return block


def _blocks(dims: int, channels: int, kernel: Sizes, count: int) -> nn.Module:
    return nn.Sequential(*(SegResBlock(dims, channels, NORM, tuple(kernel), ACTIVATION) for _ in range(count)))
