"""Writes a network as ONNX or OpenVINO, for one patch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxelry.base.extras import extra
from voxelry.core.model import Model
from voxelry.core.plan import Plan
from voxelry.inference.backends import need_onnx, onnx_bytes, openvino_model
from voxelry.networks.build import input_channels
from voxelry.networks.classes import label_classes

FACTS_FILE = "network.json"


@dataclass(frozen=True)
class NetworkFormat:
    """A format of a network's file.

    Attributes:
        file: its name; a format of several files is named by the first.
        write: writes it: the network, a patch ``(1, C, *patch)`` of zeros, the path.
        runtime: the module that runs it.
        title: what it is called.
    """

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    runtime: str
    title: str


def write_onnx(network: nn.Module, patch_BC: Tensor, path: Path) -> None:
    """The network as ONNX, weights in float32 included."""
    need_onnx("export as ONNX")
    path.write_bytes(onnx_bytes(network, patch_BC))


def write_openvino(network: nn.Module, patch_BC: Tensor, path: Path) -> None:
    """The network as OpenVINO's intermediate representation, weights in float32 in the ``.bin`` beside it."""
    openvino = extra("openvino", "export as OpenVINO")
    openvino.save_model(openvino_model(network, patch_BC), path, compress_to_fp16=False)


NETWORK_FORMATS = {
    "onnx": NetworkFormat("network.onnx", write_onnx, "onnxruntime", "ONNX"),
    "openvino": NetworkFormat("network.xml", write_openvino, "openvino", "OpenVINO"),
}
"""Name -> format of a network's file."""


def empty_patch(model: Model) -> Tensor:
    """``(1, C, *patch)`` zeros, as the model's network takes them."""
    plan = model.plan
    return torch.zeros((1, input_channels(plan, len(model.labels) + 1), *plan.patch_size))


def network_facts(model: Model, format: NetworkFormat) -> dict[str, Any]:
    """Input and output of an exported network, for programs that run it without voxelry."""
    plan, classes = model.plan, len(model.labels) + 1
    names = ["background", *(region.name for region in plan.regions)] if plan.regions else ["background", *model.labels.names]
    given = label_classes(plan, model.labels).tolist()
    values = [0, *(label.value for label in model.labels.labels)]
    channels = input_channels(plan, classes)
    return {
        "file": format.file,
        "input": {
            "name": "patch",
            "shape": [1, channels, *plan.patch_size],
            "axes": _axes(plan),
            "channels": [*plan.channels, *(f"first stage: {name}" for name in model.labels.names)][:channels],
        },
        "output": {
            "name": "logits",
            "shape": [1, len(names) + plan.head_channels, *plan.patch_size],
            "channels": [*names, *(f"instance head {number + 1}" for number in range(plan.head_channels))],
            "decision": "the last region whose logit is above 0" if plan.regions else "the largest logit",
            "stored_values": [values[number] for number in given],
        },
        "mirrored_axes": list(plan.flips),
        "overlap": plan.overlap,
    }


def _axes(plan: Plan) -> list[str]:
    spatial = ["rows", "columns"] if plan.dimensions == 2 else list(plan.orientation or "ijk")
    return ["batch", "channel", *spatial]
