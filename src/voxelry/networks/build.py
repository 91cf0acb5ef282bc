"""From a plan to a network by name, 2D and 3D from the same classes, on MONAI.

Shape legend: B batch, C input channels, K classes (background first), then two or three spatial axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from voxelry.base.extras import extra
from voxelry.core.architectures import is_import_path
from voxelry.core.plan import Plan
from voxelry.errors import UsageError
from voxelry.networks.custom import check_shapes, custom_network
from voxelry.networks.network_spec import ACTIVATION, NORM, Order, made
from voxelry.networks.wrapped import DeepSupervised, Wrapped


def build_network(plan: Plan, classes: int) -> nn.Module:
    """The network a plan names, with fresh weights.

    Args:
        plan: a plan.
        classes: labels and the background; how many the network tells apart follows from this and the plan's regions.

    Returns:
        A module: ``(B, C, *window)`` -> list of logits ``(B, K, *window)``, finest first; in evaluation mode the first alone.
        C and K are `input_channels` and `output_classes`.

    Raises:
        ConfigError: the network cannot be built with the plan's options, or its logits have another shape.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    recipe, regions = plan.network, bool(plan.regions)
    order = Order.of(plan, input_channels(plan, classes), output_classes(plan, classes) - regions)
    kind = DeepSupervised if recipe.name == "dynunet" else Wrapped
    network = kind(build_body(order), order.coarser, plan.slice_axis, regions)
    if is_import_path(recipe.name):
        check_shapes(network, order.name, (order.channels, *plan.patch_size), output_classes(plan, classes))
    return network


def build_body(order: Order) -> nn.Module:
    """The network itself, before it is wrapped.

    Raises:
        ConfigError: it cannot be built.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    return custom_network(order) if is_import_path(order.name) else _MAKERS[order.name](order)


def input_channels(plan: Plan, classes: int) -> int:
    """C: the plan's channels, and in a cascade's second stage one more for each label of the first.

    Args:
        plan: a plan.
        classes: labels and the background.
    """
    return len(plan.channels) + (classes - 1 if plan.configuration == "3d_cascade" else 0)


def output_classes(plan: Plan, classes: int) -> int:
    """K: the background, and the plan's regions or else the labels.

    Args:
        plan: a plan.
        classes: labels and the background.
    """
    return len(plan.regions) + 1 if plan.regions else classes


def _dynunet(order: Order) -> nn.Module:
    from monai.networks.nets import DynUNet

    return made(
        DynUNet,
        order,
        kernel_size=[list(kernel) for kernel in order.kernels],
        strides=[list(stride) for stride in order.strides],
        upsample_kernel_size=[list(stride) for stride in order.strides[1:]],
        filters=list(order.features),
        norm_name=NORM,
        act_name=ACTIVATION,
        deep_supervision=order.coarser > 0,
        deep_supr_num=max(order.coarser, 1),
    )


def _unet(order: Order) -> nn.Module:
    from monai.networks.nets import UNet

    return made(
        UNet, order, channels=order.features, strides=order.strides[1:], num_res_units=2, norm=NORM, act=ACTIVATION
    )  # fmt: skip


def _resenc(order: Order) -> nn.Module:
    from voxelry.networks.resenc import ResidualEncoderUNet

    return made(ResidualEncoderUNet, order, **_stages(order))


def _segresnet(order: Order) -> nn.Module:
    from voxelry.networks.segresnet import SegResNet

    return made(SegResNet, order, **_stages(order))


def _stages(order: Order) -> dict[str, Any]:
    """The plan's numbers, for the networks that take them as they are."""
    return {
        "features": order.features,
        "strides": order.strides,
        "kernels": order.kernels,
        "blocks": order.blocks,
        "coarser": order.coarser,
    }


def _mednext(order: Order) -> nn.Module:
    from monai.networks.nets import MedNeXt

    *encoder, bottleneck = order.blocks
    network = made(
        MedNeXt,
        order,
        init_filters=order.features[0],
        kernel_size=3,
        deep_supervision=order.coarser > 0,
        use_residual_connection=True,
        blocks_down=tuple(encoder),
        blocks_bottleneck=bottleneck,
        blocks_up=tuple(reversed(encoder)),
    )
    if order.coarser:
        heads: Any = network.out_blocks  # the coarsest first
        for unused in range(len(heads) - order.coarser):
            heads[unused] = nn.Identity()
    return network


def _swinunetr(order: Order) -> nn.Module:
    extra("einops", "the network 'swinunetr'")
    from monai.networks.nets import SwinUNETR

    return made(SwinUNETR, order, feature_size=order.features[0])


_MAKERS = {
    "dynunet": _dynunet,
    "unet": _unet,
    "resenc": _resenc,
    "segresnet": _segresnet,
    "mednext": _mednext,
    "swinunetr": _swinunetr,
}


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
