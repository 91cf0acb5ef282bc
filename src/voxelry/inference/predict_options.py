"""The choices a caller may make about segmenting scans."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from voxelry.errors import UsageError, nearest
from voxelry.recipes.settings import parse_memory

Region = Literal["whole", "body", "coarse"]
Trust = Literal["", "probability", "entropy"]
Average = Literal["logits", "probabilities"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "roi": get_args(Region), "confidence": get_args(Trust), "average": get_args(Average), "weights": ("gaussian", "constant"),
}  # fmt: skip


@dataclass(frozen=True)
class PredictOptions:
    """How scans are segmented. What is None is as the model's plan has it.

    Attributes:
        memory: bytes that the whole process may take; None for three quarters of the machine's. `parse_memory` reads ``4GiB``.
        device_memory: bytes that a GPU may be asked for; None for nine tenths of what is free.
        step: distance of neighbouring windows, as a share of the window, above 0 to 1.
        flips: whether windows are mirrored along the plan's axes and averaged.
        average: what ensembles and mirrored copies are averaged on, ``logits`` or ``probabilities``.
        weights: of the voxels of a window, ``gaussian`` or ``constant``.
        roi: ``whole`` looks at every window, ``body`` leaves out those that hold nothing but air, ``coarse`` first looks at
            windows side by side and then only where these found something.
        confidence: a map beside the labels: ``probability`` of the winner, ``entropy``, or none.
        batch: windows at a time; None for what fits.
        backend: what computes the network: ``torch``, ``compile``, ``openvino``, ``onnxruntime``, or ``auto`` for the fastest
            of those installed whose labels agree with PyTorch's.
        mixed_precision: ``auto`` computes in a half type where the device is fast at it, ``off`` in float32.

    Raises:
        UsageError: a value out of range.
    """

    memory: int | None = None
    device_memory: int | None = None
    step: float | None = None
    flips: bool | None = None
    average: Average = "logits"
    weights: Literal["gaussian", "constant"] = "gaussian"
    roi: Region = "whole"
    confidence: Trust = ""
    batch: int | None = None
    backend: str = "torch"
    mixed_precision: Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} '{value}'", remedy=nearest(str(value), [choice for choice in choices if choice]))
        if self.step is not None and not 0 < self.step <= 1:
            raise UsageError(f"a step of {self.step:g} of a window", remedy="Give a share above 0 and at most 1, such as 0.5.")
        for name in ("memory", "device_memory", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}", remedy="Give a number above 0.")

    @classmethod
    def of(cls, **choices: Any) -> PredictOptions:
        """Options by name; memory may be text such as ``4GiB``.

        Raises:
            UsageError: an unknown name, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in choices:
            if name not in known:
                raise UsageError(f"no choice '{name}' about prediction", remedy=nearest(name, known))
        sizes = {name: parse_memory(choices[name]) for name in ("memory", "device_memory") if choices.get(name) is not None}
        return cls(**{**choices, **sizes})
