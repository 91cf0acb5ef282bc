"""nnU-Net's residual encoder U-Net, of MONAI's convolutions.

Isensee et al. 2024, "nnU-Net Revisited" (arXiv:2404.09556): a U-Net whose encoder is a ResNet-D (He et al. 2019,
arXiv:1812.01187) and whose decoder has one convolution per stage. Convolutions keep their biases, as nnU-Net's plans say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Act, Pool
from torch import Tensor, nn

from voxelry.networks.network_spec import ACTIVATION, NORM, NetworkSpec, build_module, stage_arguments

SLOPE = float(ACTIVATION[1]["negative_slope"])

Sizes = Sequence[int]


class AveragePool3d(nn.AvgPool3d):
    """Average pooling whose kernel is its stride; deterministic on a GPU too, where PyTorch's gradient is not."""

    def __init__(self, stride: Sizes) -> None:
        self.steps = a, b, c = stride
        super().__init__((a, b, c))

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, *n)`` -> ``(B, C, *n / stride)``; n is a multiple of the stride."""
        if not torch.are_deterministic_algorithms_enabled():
            return super().forward(input)
        a, b, c = self.steps
        shifted = [input[..., i::a, j::b, k::c] for i, j, k in product(range(a), range(b), range(c))]
        return torch.stack(shifted).mean(0)


class ResidualBlock(nn.Module):
    """Two convolutions and their input added; a strided block averages its input instead of skipping voxels."""

    def __init__(self, dims: int, width_in: int, width_out: int, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        self.first = _convolution(dims, width_in, width_out, kernel, stride)
        self.second = _convolution(dims, width_out, width_out, kernel, (1,) * dims, activated=False)
        shortcut: list[nn.Module] = []
        if any(step != 1 for step in stride):
            shortcut.append(AveragePool3d(stride) if dims == 3 else Pool["AVG", dims](tuple(stride)))
        if width_in != width_out:
            shortcut.append(_convolution(dims, width_in, width_out, (1,) * dims, (1,) * dims, activated=False, bias=False))
        self.around = nn.Sequential(*shortcut)
        self.act = Act[ACTIVATION[0]](**ACTIVATION[1])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width_in, *n)`` -> ``(B, width_out, *n / stride)``."""
        result: Tensor = self.act(self.second(self.first(x)) + self.around(x))
        return result


class ResidualEncoderUNet(nn.Module):
    """A residual encoder and a plain decoder with heads of their own resolution.

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        out_channels: K.
        features: channels of each stage, finest first.
        strides, kernels: strides and kernels of each stage along each axis.
        blocks: residual blocks of each encoder stage.
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
        dims, ones = spatial_dims, (1,) * spatial_dims
        self.stem = _convolution(dims, in_channels, features[0], kernels[0], ones)
        before = (features[0], *features)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(dims, width_in, width_out, kernel, stride),
                *(ResidualBlock(dims, width_out, width_out, kernel, ones) for _ in range(count - 1)),
            )
            for width_in, width_out, kernel, stride, count in zip(before, features, kernels, strides, blocks, strict=False)
        )
        levels = range(len(features) - 1)
        self.up = nn.ModuleList(_upsampling(dims, features[n + 1], features[n], strides[n + 1]) for n in levels)
        self.decoder = nn.ModuleList(_convolution(dims, 2 * features[n], features[n], kernels[n], ones) for n in levels)
        self.heads = nn.ModuleList(_head(dims, features[n], out_channels) for n in levels if n <= coarser_heads)
        self.apply(_he)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.second.get_parameter("adn.N.weight"))  # every block starts as its input

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """``(B, C, *patch)`` -> logits, finest first; in evaluation mode the first alone."""
        x, skips = self.stem(x_BC), []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        heads: list[Tensor] = []
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](torch.cat([self.up[level](x), skips[level]], 1))
            if level == 0 or (self.training and level < len(self.heads)):
                heads.append(self.heads[level](x))
        return heads[::-1]


def make_resenc(spec: NetworkSpec) -> nn.Module:
    """ResidualEncoderUNet of the plan's stages."""
    return build_module(ResidualEncoderUNet, spec, **stage_arguments(spec))


def _convolution(
    dims: int, width_in: int, width_out: int, kernel: Sizes, stride: Sizes, activated: bool = True, bias: bool = True
) -> nn.Module:
    """A convolution and its norm, then the activation."""
    act = ACTIVATION if activated else None
    block: nn.Module = Convolution(dims, width_in, width_out, tuple(stride), tuple(kernel), "NA", act, NORM, bias=bias)
    return block


def _upsampling(dims: int, width_in: int, width_out: int, stride: Sizes) -> nn.Module:
    """A transposed convolution whose kernel is its stride."""
    size = tuple(stride)
    block: nn.Module = Convolution(
        dims, width_in, width_out, size, size, is_transposed=True, conv_only=True, padding=0, output_padding=0
    )  # fmt: skip
    return block


def _head(dims: int, width_in: int, classes: int) -> nn.Module:
    block: nn.Module = Convolution(dims, width_in, classes, 1, 1, conv_only=True)
    return block


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
