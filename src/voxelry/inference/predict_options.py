"""PredictOptions: how scans are segmented (memory, overlap, mirroring, averaging, region of interest, confidence, backend)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import UsageError, nearest
from voxelry.recipes.settings import parse_memory

log = logging.getLogger(__name__)

RoiMode = Literal["whole", "body", "coarse"]
ConfidenceMode = Literal["", "probability", "entropy"]
AverageMode = Literal["logits", "probabilities"]

PROBABILITY: ConfidenceMode = "probability"
"""The map of confidence that scores of segments are means of."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "roi": get_args(RoiMode), "confidence": get_args(ConfidenceMode), "average": get_args(AverageMode),
    "weights": ("gaussian", "constant"),
}  # fmt: skip


@dataclass(frozen=True)
class PredictOptions:
    """How scans are segmented. None stands for the model's plan.

    Attributes:
        memory: bytes that the whole process may take; None for three quarters of the machine's. `parse_memory` reads ``4GiB``.
        device_memory: bytes that a GPU may be asked for; None for nine tenths of its free memory.
        overlap: overlap of neighbouring patches, as a share of a patch, 0 to below 1.
        flips: whether patches are mirrored along the plan's axes and averaged.
        average: ``logits`` or ``probabilities`` of ensembles and mirrored copies.
        weights: weights of the voxels of a patch, ``gaussian`` or ``constant``.
        roi: ``whole`` runs every patch, ``body`` leaves out those that hold nothing but air, ``coarse`` first runs patches
            side by side and then only those near labels.
        confidence: a map beside the labels: ``probability`` of the winner, ``entropy``, or none.
        instances: whether objects are told apart. True of a model without an instance plan gives the components of its things,
            or of all labels where none is a thing.
        batch: patches at a time; None for as many as fit.
        backend: backend of the network: ``torch``, ``compile``, ``openvino``, ``onnxruntime``, or ``auto`` for the fastest
            of those installed whose labels agree with PyTorch's.
        mixed_precision: ``auto`` computes in a half type where the device is fast at it, ``off`` in float32.

    Raises:
        UsageError: a value out of range.

    Example:
        >>> from voxelry.inference import PredictOptions
        >>> PredictOptions.of(memory="2GiB", overlap=0.25).memory == 2 << 30
        True
    """

    memory: int | None = None
    device_memory: int | None = None
    overlap: float | None = None
    flips: bool | None = None
    average: AverageMode = "logits"
    weights: Literal["gaussian", "constant"] = "gaussian"
    roi: RoiMode = "whole"
    confidence: ConfidenceMode = ""
    instances: bool | None = None
    batch: int | None = None
    backend: str = "torch"
    mixed_precision: Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} '{value}'", remedy=nearest(str(value), [choice for choice in choices if choice]))
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError(f"an overlap of {self.overlap:g} of a patch", remedy="Give a share from 0 to below 1, such as 0.5.")
        for name in ("memory", "device_memory", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}", remedy="Give a number above 0.")

    def instance_plan(self, plan: Plan, table: LabelTable) -> InstancePlan | None:
        """How objects are told apart in predictions by models of a plan; None where they are not."""
        if self.instances is False:
            return None
        if plan.instances is None and self.instances:
            things = tuple(label.name for label in table.labels if label.kind == "thing")
            return InstancePlan(labels=things or table.names, decoder="components", diameter=1)
        return plan.instances

    @classmethod
    def of(cls, **choices: Any) -> PredictOptions:
        """Options by name; memory may be text such as ``4GiB``.

        The former option ``step``, the distance of neighbouring patches, is still read, with a warning.

        Raises:
            UsageError: an unknown name, or a value out of range.
        """
        choices = _without_step(choices)
        known = [field.name for field in fields(cls)]
        for name in choices:
            if name not in known:
                raise UsageError(f"no choice '{name}' about prediction", remedy=nearest(name, known))
        sizes = {name: parse_memory(choices[name]) for name in ("memory", "device_memory") if choices.get(name) is not None}
        return cls(**{**choices, **sizes})


def _without_step(choices: dict[str, Any]) -> dict[str, Any]:
    """Choices in which ``step`` has become ``overlap``, its complement.

    Raises:
        UsageError: both are given, or a step out of range.
    """
    others = {name: value for name, value in choices.items() if name != "step"}
    step = choices.get("step")
    if step is None:
        return others
    if not 0 < step <= 1:
        raise UsageError(f"a step of {step:g} of a patch", remedy="Give an overlap, from 0 to below 1, such as 0.5.")
    overlap = round(1 - step, 12)
    if others.get("overlap") is not None:
        raise UsageError("both step and overlap", remedy=f"Give the overlap alone; this step is an overlap of {overlap:g}.")
    log.warning("'step' %g is now 'overlap' %g, its complement", step, overlap)
    return {**others, "overlap": overlap}
