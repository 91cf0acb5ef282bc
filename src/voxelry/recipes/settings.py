"""Groups of a recipe's settings: overrides of the planner, the loss, the optimiser."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from voxelry.base.schema import Frozen
from voxelry.core.architectures import checked_name, preset, with_presets
from voxelry.core.instance_plan import Decoder
from voxelry.core.plan import Configuration
from voxelry.errors import UsageError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class PlanSettings(Frozen):
    """Overrides of the planner; every key left out is planned from the data.

    Attributes:
        configuration: ``2d`` (slice by slice on volumes), ``3d``, ``3d_lowres`` or ``3d_cascade``; None follows from the data.
        memory: memory of a GPU to plan for, such as ``8GB``, whatever the device; None takes what the network's authors plan for
            (8 GB, or the preset's), at most the device's own, and on a CPU the limits of a CPU.
        orientation: axis codes to bring volumes to, such as ``RAS``; ``stored`` leaves them as they are.
        spacing: target spacing in mm along the oriented axes.
        long_side: pixels of a picture's longer edge after scaling.
        patch_size: size of the network's input, in voxels.
        batch_size: patches a step.
        features: channels of each network stage, finest first.
        network: a network by name (`voxelry.core.architectures`), or by import path as ``package.module:Class``.
        preset: size of a network that has sizes, such as ``M``, ``L`` or ``XL`` of ``resenc``.
        options: further keyword arguments of the network.
        instances: how the objects of things are told apart: ``components`` (touching voxels are one object), ``watershed`` (the
            network learns their borders, cores and distances), or ``none`` (labels alone); None follows from the data.

    Example:
        >>> PlanSettings(network="resenc", preset="L").memory is None
        True
    """

    configuration: Configuration | None = None
    memory: str | None = None
    orientation: str | None = None
    spacing: tuple[PositiveFloat | None, ...] | None = None
    long_side: PositiveInt | None = None
    patch_size: tuple[PositiveInt, ...] | None = None
    batch_size: PositiveInt | None = None
    features: tuple[PositiveInt, ...] | None = None
    network: str | None = None
    preset: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    instances: Decoder | Literal["none"] | None = None

    @model_validator(mode="after")
    def _known_network(self) -> Self:
        if self.network is not None:
            checked_name(self.network)
        if self.preset is not None:
            if self.network is None:
                raise ValueError(f"preset '{self.preset}' needs a network; give 'network' too: {' or '.join(with_presets())}")
            preset(self.network, self.preset)
        return self

    @field_validator("memory", mode="before")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        """A bare number has no unit, whether it is text or not."""
        try:
            if isinstance(value, str | int | float):
                parse_memory(str(value))
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value


class LossSettings(Frozen):
    """The training objective.

    Attributes:
        name: of a row of `voxelry.training.loss.LOSSES`; with `regions`, each region is a class of its own and cross-entropy is
            binary.
        weights: weights of single labels or regions by name; the others, and the background, weigh 1.
        regions: region name -> names of its labels; regions may overlap. Where several regions contain a voxel, the last one
            gives its label.
        batch_dice: sum Dice over the batch before the ratio, so that a patch without a class does not count as a failure.
        focal_gamma: exponent of the focal loss.
        alpha, beta: weights of false positives and false negatives in the Tversky index.
        instances: weight of the instance head's loss beside that of the classes, where the plan has such a head.
        distillation: share of the loss that a teacher's probabilities give; the references give the rest.

    Example:
        >>> LossSettings(name="tversky", beta=0.8).alpha
        0.3
    """

    name: Literal["dice_ce", "dice_focal", "tversky", "generalised_dice"] = "dice_ce"
    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    regions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    batch_dice: bool = True
    focal_gamma: float = Field(default=2.0, ge=0)
    alpha: PositiveFloat = 0.3
    beta: PositiveFloat = 0.7
    instances: PositiveFloat = 1.0
    distillation: float = Field(default=0.5, ge=0, le=1)


class OptimiserSettings(Frozen):
    """The optimiser and its learning rate schedule.

    Attributes:
        name: ``adamw``, or ``sgd`` with Nesterov momentum (nnU-Net's).
        learning_rate: the highest; None is 2e-3 with AdamW and 1e-2 with SGD.
        weight_decay: None is 1e-4 with AdamW and 3e-5 with SGD.
        momentum: SGD's.
        schedule: schedule of the learning rate: to zero by ``poly`` (with the exponent `power`) or ``cosine``, or ``constant``.
        power: exponent of ``poly``.
        warm_up: steps over which the learning rate rises linearly at first.
        clip: largest norm of the gradient.
        accumulate: batches whose gradients are averaged before one step.
        ema: decay of the moving average of the weights, which becomes the model; 0 keeps the last weights.

    Example:
        >>> OptimiserSettings(name="sgd").rate
        0.01
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat | None = None
    weight_decay: float | None = Field(default=None, ge=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: PositiveFloat = 0.9
    warm_up: int = Field(default=24, ge=0)
    clip: PositiveFloat = 12.0
    accumulate: PositiveInt = 1
    ema: float = Field(default=0.0, ge=0, lt=1)

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (2e-3 if self.name == "adamw" else 1e-2)

    @property
    def moments(self) -> int:
        """Numbers that the optimiser keeps for each weight: AdamW two, SGD one, and one for the moving average."""
        return (2 if self.name == "adamw" else 1) + (self.ema > 0)

    @property
    def decay(self) -> float:
        """The weight decay."""
        return self.weight_decay if self.weight_decay is not None else (1e-4 if self.name == "adamw" else 3e-5)


def parse_memory(amount: str | int) -> int:
    """Bytes of ``4GiB``, ``500MB``, ``2G`` (powers of 1000 without an i) or ``900B``; a number that is no text is bytes.

    Raises:
        UsageError: no amount of memory, or text without a unit.
    """
    if isinstance(amount, int) and amount > 0:
        return int(amount)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", str(amount).upper())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"'{amount}' is no amount of memory", remedy="Write it as 4GiB or 500MB.")
    if not match[2]:
        raise UsageError(f"'{amount}' has no unit", remedy=f"Write {match[1]}GiB, or {match[1]}B for bytes.")
    if match[2].removesuffix("B") not in _UNITS:
        raise UsageError(f"'{amount}' is no amount of memory", remedy="Write it as 4GiB or 500MB.")
    return int(float(match[1]) * _UNITS[match[2].removesuffix("B")])
