"""From a plan to a network, 2D and 3D from the same classes, all MONAI's.

Shape legend: B batch, C input channels, K classes (background first), then two or three spatial axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxelry.errors import UsageError
from voxelry.plan import NetworkPlan, Plan

_NORM = ("INSTANCE", {"affine": True, "eps": 1e-5})
_ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


class DeepSupervised(nn.Module):
    """MONAI's DynUNet with its coarser heads left at their own resolution.

    DynUNet enlarges every head to the full window and stacks them; comparing each head with labels of its own resolution
    costs a fraction and is what nnU-Net does (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """Logits from fine to coarse.

        Args:
            x_BC: ``(B, C, *spatial)``.

        Returns:
            ``[(B, K, *spatial), (B, K, *spatial / 2), ...]``; in evaluation mode the first alone.
        """
        body: Any = self.body
        fine = body.output_block(body.skip_layers(x_BC))
        return [fine, *body.heads] if self.training and body.deep_supervision else [fine]


class Plain(nn.Module):
    """A network without coarser heads, speaking as `DeepSupervised` does."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x_BC: Tensor) -> list[Tensor]:
        """``[(B, K, *spatial)]`` logits."""
        return [self.body(x_BC)]


def build_network(plan: Plan, classes: int) -> nn.Module:
    """The network a plan names, with fresh weights.

    Args:
        plan: a plan.
        classes: K, background included.

    Returns:
        A module: ``(B, C, *spatial)`` -> list of logits, finest first.
    """
    recipe = plan.network
    if recipe.name == "unet":
        return Plain(_unet(plan, recipe, classes))
    return DeepSupervised(_dynunet(plan, recipe, classes))


def _dynunet(plan: Plan, recipe: NetworkPlan, classes: int) -> nn.Module:
    from monai.networks.nets import DynUNet

    heads = min(recipe.deep_supervision, len(recipe.features) - 2)
    network: nn.Module = DynUNet(
        spatial_dims=plan.dimensions,
        in_channels=len(plan.channels),
        out_channels=classes,
        kernel_size=[list(kernel) for kernel in recipe.kernels],
        strides=[list(stride) for stride in recipe.strides],
        upsample_kernel_size=[list(stride) for stride in recipe.strides[1:]],
        filters=list(recipe.features),
        norm_name=_NORM,
        act_name=_ACTIVATION,
        deep_supervision=heads > 0,
        deep_supr_num=max(heads, 1),
    )
    return network


def _unet(plan: Plan, recipe: NetworkPlan, classes: int) -> nn.Module:
    from monai.networks.nets import UNet

    network: nn.Module = UNet(
        spatial_dims=plan.dimensions,
        in_channels=len(plan.channels),
        out_channels=classes,
        channels=recipe.features,
        strides=recipe.strides[1:],
        num_res_units=2,
        norm=_NORM,
        act=_ACTIVATION,
    )
    return network


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def choose_device(name: str) -> torch.device:
    """The device a recipe names; ``auto`` is the first GPU, else the CPU.

    Raises:
        UsageError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device '{name}' cannot be used: {reason}", remedy="Use 'auto', 'cpu' or 'cuda'.") from error
    return device


def compute_dtype(device: torch.device, mixed_precision: str) -> torch.dtype:
    """The type convolutions are computed in: a half type where the device has units for it, else float32.

    On a CPU bfloat16 pays where it has matrix tiles (AMX) or bfloat16 vector instructions; elsewhere it is emulated, and slow.
    """
    if mixed_precision == "off":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return torch.bfloat16 if found.get("amx_bf16") or found.get("avx512_bf16") else torch.float32
    return torch.float32
