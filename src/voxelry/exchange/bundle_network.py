"""The network of an exported bundle: a class of MONAI with its arguments, or TorchScript where there is none."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxelry.core.model import Model
from voxelry.errors import ExportError
from voxelry.exchange.network_files import empty_patch
from voxelry.inference.backends import FinestLogits
from voxelry.networks.build import head_channels, input_channels, output_classes
from voxelry.networks.network_spec import ACTIVATION, NORM, NetworkSpec
from voxelry.networks.weights import network_of

WEIGHTS, SCRIPT = "models/model.pt", "models/model.ts"


@dataclass(frozen=True)
class BundleNetwork:
    """The network as a bundle's configuration names it.

    Attributes:
        definition: ``network_def``.
        is_script: whether that is TorchScript, which holds its weights.
        channels_in, channels_out: C and K of the network.
    """

    definition: dict[str, Any]
    is_script: bool
    channels_in: int
    channels_out: int


class AveragedLogits(nn.Module):
    """The mean of the finest logits of several networks."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(FinestLogits(network) for network in networks)

    def forward(self, x_BC: Tensor) -> Tensor:
        """``(B, C, *patch)`` -> ``(B, K, *patch)``."""
        total: Tensor = self.networks[0](x_BC)
        for network in list(self.networks)[1:]:
            total = total + network(x_BC)
        return total / len(self.networks)


def write_network(models: Sequence[Model], folder: Path) -> BundleNetwork:
    """Write the weights, and TorchScript, of one model or of several that are averaged.

    Args:
        models: of one plan.
        folder: the bundle's.

    Raises:
        ExportError: TorchScript cannot hold the network.
    """
    cpu = torch.device("cpu")
    plan, classes = models[0].plan, len(models[0].labels) + 1
    channels, outputs = input_channels(plan, classes), output_classes(plan, classes) + head_channels(plan)
    networks = [network_of(model, cpu) for model in models]
    (folder / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    definition = _monai_definition(models[0], channels, outputs - bool(plan.regions)) if len(models) == 1 else None
    if definition is not None and _takes_weights(definition, networks[0].body):
        torch.save(_state(networks[0].body), folder / WEIGHTS)
        return BundleNetwork(definition, False, channels, outputs - bool(plan.regions))
    averaged = AveragedLogits(networks).eval()
    torch.save(_state(averaged), folder / WEIGHTS)
    _write_script(averaged, empty_patch(models[0]), folder / SCRIPT)
    script = {"_target_": "torch.jit.load", "f": f"$@bundle_root + '/{SCRIPT}'", "map_location": "@device"}
    return BundleNetwork(script, True, channels, outputs)


def _state(network: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _monai_definition(model: Model, channels: int, outputs: int) -> dict[str, Any] | None:
    """The class and arguments of MONAI that make the plan's network; None where it is none of MONAI's."""
    spec = NetworkSpec.of(model.plan, channels, outputs)
    fixed = {"spatial_dims": spec.spatial_dims, "in_channels": channels, "out_channels": outputs}
    shared = {"norm": list(NORM), "act": list(ACTIVATION)}
    if model.plan.slice_axis is not None:
        return None
    if spec.name == "dynunet":
        numbers: dict[str, Any] = {
            "kernel_size": spec.kernels,
            "strides": spec.strides,
            "upsample_kernel_size": spec.strides[1:],
            "filters": spec.features,
            "norm_name": list(NORM),
            "act_name": list(ACTIVATION),
            "deep_supervision": spec.coarser_heads > 0,
            "deep_supr_num": max(spec.coarser_heads, 1),
        }
        target = "monai.networks.nets.DynUNet"
    elif spec.name == "unet":
        numbers = {"channels": spec.features, "strides": spec.strides[1:], "num_res_units": 2, **shared}
        target = "monai.networks.nets.UNet"
    else:
        return None
    plain: dict[str, Any] = json.loads(json.dumps({"_target_": target, **fixed, **numbers, **spec.options}))
    return plain


def _takes_weights(definition: dict[str, Any], body: Any) -> bool:
    """Whether MONAI's class, with these arguments, has exactly the network's weights."""
    import monai.networks.nets as nets

    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    builder = getattr(nets, definition["_target_"].rpartition(".")[2])
    if not set(arguments) <= set(inspect.signature(builder).parameters):
        return False
    wanted = {name: tensor.shape for name, tensor in body.state_dict().items()}
    return {name: tensor.shape for name, tensor in builder(**arguments).state_dict().items()} == wanted


def _write_script(network: nn.Module, patch_BC: Tensor, path: Path) -> None:
    """TorchScript of a patch's pass.

    Raises:
        ExportError: PyTorch cannot trace it.
    """
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of PyTorch, about its successor and the tracer's constants
            torch.jit.save(torch.jit.trace(network, patch_BC, check_trace=False), path)  # type: ignore[no-untyped-call]
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"the network cannot become TorchScript ({reason})", remedy="Export it as ONNX or OpenVINO.") from error
