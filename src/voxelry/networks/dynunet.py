"""nnU-Net's plain U-Net: MONAI's DynUNet with heads of their own resolution.

Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z).

Shape legend: B batch, C input channels, K classes, then two or three spatial axes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monai.networks.blocks.dynunet_block import UnetUpBlock
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from voxelry.networks.network_spec import ACTIVATION, NORM, NetworkSpec, build_module


class DeepSupervisedDynUNet(DynUNet):  # type: ignore[misc]
    """MONAI's DynUNet with its coarser heads left at their own resolution.

    DynUNet enlarges every head to the full patch and stacks them; comparing each head with labels of its own resolution
    costs a fraction and is what nnU-Net does.
    """

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """``(B, C, *patch)`` -> logits ``(B, K, *patch)``, then those of coarser stages; in evaluation mode the first alone."""
        fine = self.output_block(self.skip_layers(x_BC))
        heads: Any = self.heads
        coarser = list(heads)
        heads[:] = [None] * len(coarser)  # kept, they would hold this pass in memory, and bar copying the network
        return [fine, *coarser] if self.training and self.deep_supervision else [fine]


class OwnKernelDynUNet(DeepSupervisedDynUNet):
    """The same with decoder stages that have the kernels of their own resolution, as nnU-Net's: MONAI's have the next coarser."""

    def get_upsamples(self) -> nn.ModuleList:
        """The decoder's stages, coarsest first."""
        stages: nn.ModuleList = self.get_module_list(
            self.filters[1:][::-1],
            self.filters[:-1][::-1],
            self.kernel_size[:-1][::-1],
            self.strides[1:][::-1],
            UnetUpBlock,
            self.upsample_kernel_size[::-1],
            trans_bias=self.trans_bias,
        )
        return stages


def make_dynunet(spec: NetworkSpec) -> nn.Module:
    """DynUNet of the plan's strides, kernels and channels; its option `own_kernels` chooses `OwnKernelDynUNet`."""
    options = dict(spec.options)
    own_kernels = options.pop("own_kernels", False)
    return build_module(
        OwnKernelDynUNet if own_kernels else DeepSupervisedDynUNet,
        replace(spec, options=options),
        kernel_size=[list(kernel) for kernel in spec.kernels],
        strides=[list(stride) for stride in spec.strides],
        upsample_kernel_size=[list(stride) for stride in spec.strides[1:]],
        filters=list(spec.features),
        norm_name=NORM,
        act_name=ACTIVATION,
        deep_supervision=spec.coarser_heads > 0,
        deep_supr_num=max(spec.coarser_heads, 1),
    )
