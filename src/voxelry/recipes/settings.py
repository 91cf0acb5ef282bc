"""The groups of a training recipe's settings: what must not be planned, the loss, the random changes to windows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from voxelry.base.schema import Frozen
from voxelry.core.architectures import checked_name, preset
from voxelry.core.plan import Configuration
from voxelry.errors import UsageError

Share = Annotated[float, Field(ge=0, le=1)]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class PlanSettings(Frozen):
    """What the planner must not decide by itself; every key left out is planned from the data.

    Attributes:
        configuration: ``2d`` (slice by slice on volumes), ``3d``, ``3d_lowres`` or ``3d_cascade``; None takes what the data are.
        memory: of a GPU to plan for, such as ``8GB``, whatever the device at hand; None takes what nnU-Net plans for (8 GB, or
            what the preset needs), or the device's own where that is less, and on a CPU what a CPU affords.
        orientation: axis codes to bring volumes to, such as ``RAS``; ``stored`` leaves them as they are.
        spacing: target spacing in mm along the oriented axes.
        long_side: pixels of a picture's longer edge after scaling.
        patch_size: window in voxels.
        batch_size: windows a step.
        features: channels of each network stage, finest first.
        network: a network by name (`voxelry.core.architectures`), or by import path as ``package.module:Class``.
        preset: size of a network that has sizes, such as ``M``, ``L`` or ``XL`` of ``resenc``.
        options: further keyword arguments of the network.
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

    @model_validator(mode="after")
    def _known_network(self) -> Self:
        if self.network is not None:
            checked_name(self.network)
        if self.preset is not None:
            if self.network is None:
                raise ValueError(f"preset '{self.preset}' is of no network; give 'network' too, such as resenc")
            preset(self.network, self.preset)
        return self

    @field_validator("memory")
    @classmethod
    def _amount(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                parse_memory(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value


class LossSettings(Frozen):
    """What training makes small.

    Attributes:
        name: ``dice_ce`` (soft Dice + cross-entropy), ``dice_focal``, ``tversky`` or ``generalised_dice``; with `regions`, each
            region is a class of its own and cross-entropy is binary.
        weights: of single labels or regions by name; the others, and the background, weigh 1.
        regions: region name -> names of the labels that make it up; regions may overlap. The order matters: where several regions
            hold a voxel, the last one says its label.
        batch_dice: sum Dice over the batch before the ratio, so that a window without a class does not count as a failure.
        focal_gamma: exponent of the focal loss.
        alpha, beta: of false positives and false negatives in the Tversky index.
    """

    name: Literal["dice_ce", "dice_focal", "tversky", "generalised_dice"] = "dice_ce"
    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    regions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    batch_dice: bool = True
    focal_gamma: float = Field(default=2.0, ge=0)
    alpha: PositiveFloat = 0.3
    beta: PositiveFloat = 0.7


AUGMENT_SETS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "light": {
        "rotation_p": 0.3,
        "rotation": 15.0,
        "scale_p": 0.3,
        "scale": (0.8, 1.25),
        "shift_p": 0.3,
        "noise": 0.15,
        "blur": 0.1,
        "brightness": 0.2,
        "contrast": 0.2,
        "low_resolution": 0.0,
        "inverted_gamma": 0.0,
        "gamma": 0.2,
        "flip_axes": (),
    },
    "xray": {
        "rotation_p": 0.3,
        "rotation": 15.0,
        "scale_p": 0.3,
        "scale": (0.8, 1.25),
        "shift_p": 0.2,
        "noise": 0.2,
        "blur": 0.1,
        "brightness": 0.2,
        "contrast": 0.2,
        "low_resolution": 0.1,
        "histogram": 0.3,
        "invert": 0.05,
        "collimator": 0.15,
        "flip_axes": "sides",
    },
}
"""What each named set puts in place of the defaults, which are the recipe's."""

_RADIOGRAPHS = ("CR", "DX", "RG", "MG", "PX", "IO")


class AugmentSettings(Frozen):
    """Random changes to training windows: for each a probability, and a range where it has one.

    The defaults are nnU-Net's. They pay off over the hundreds of thousands of windows that a GPU sees in a day; over the few
    thousand that a CPU sees, gentler changes learn faster (set ``light``). Chest films and their like are neither turned by
    half a circle nor mirrored top to bottom, but come from many makers' look-up tables, exposures and collimators, sometimes
    inverted (set ``xray``).

    Attributes:
        set: where keys left out get their values: ``recipe``, ``light`` or ``xray``; ``auto`` takes ``xray`` for radiographs,
            else ``light`` on a CPU and ``recipe`` on a GPU.
        rotation_p, rotation: by up to so many degrees about each axis; None is 30 in volumes, 180 in the plane of pictures,
            slices and anisotropic volumes, 15 where a picture is more than 1.5 times as long as wide.
        scale_p, scale: zoom factor; above 1 enlarges.
        shift_p, shift: by up to this share of the window's edge.
        elastic, elastic_voxels: smooth deformation by up to so many voxels.
        noise, noise_sigma: Gaussian noise of a standard deviation up to this, in normalised grey values.
        blur, blur_sigma: Gaussian blur, sigma in voxels, of each axis.
        brightness, contrast, factor: grey values, or their distances from the mean, are multiplied.
        low_resolution, low_resolution_scale: the grid made coarser by this factor, and back.
        per_channel: probability of each channel to be blurred or made coarse where a window is.
        gamma, inverted_gamma, gamma_range: a gamma curve (of the negative) that keeps mean and standard deviation.
        histogram: a random rising grey value curve, as makers' look-up tables differ.
        invert: the negative.
        collimator, collimator_share: borders of up to this share of an edge blackened, and their labels ignored.
        bias_field, bias_field_strength: MRI's smooth inhomogeneity: the largest coefficient of its polynomial's logarithm.
        ghosting, ghosting_strength: MRI's copies along one axis: what share of every n-th line of k-space is lost.
        motion, motion_degrees, motion_voxels: the head moves while MRI's k-space is filled.
        spike, spike_strength: one wrong point of MRI's k-space: stripes so many standard deviations high.
        flip, flip_axes: probability of each axis to be mirrored; ``auto`` takes every axis across which nothing is lost: where
            labels have a side, mirror twins are swapped, and the axis is left alone where twins or the orientation are unknown.
            ``sides`` takes of these the axis from side to side alone. Axes that are named are mirrored whatever the labels.
    """

    set: Literal["auto", "recipe", "light", "xray"] = "auto"
    rotation_p: Share = 0.2
    rotation: float | None = Field(default=None, ge=0, le=180)
    scale_p: Share = 0.2
    scale: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.4)
    shift_p: Share = 0.0
    shift: float = Field(default=0.05, ge=0, le=0.5)
    elastic: Share = 0.0
    elastic_voxels: float = Field(default=4.0, ge=0)
    noise: Share = 0.1
    noise_sigma: float = Field(default=0.1, ge=0)
    blur: Share = 0.2
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: Share = 0.15
    contrast: Share = 0.15
    factor: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.25)
    low_resolution: Share = 0.25
    low_resolution_scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)
    per_channel: Share = 0.5
    inverted_gamma: Share = 0.1
    gamma: Share = 0.3
    gamma_range: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.5)
    histogram: Share = 0.0
    invert: Share = 0.0
    collimator: Share = 0.0
    collimator_share: float = Field(default=0.15, ge=0, le=0.4)
    bias_field: Share = 0.0
    bias_field_strength: float = Field(default=0.5, ge=0)
    ghosting: Share = 0.0
    ghosting_strength: tuple[float, float] = (0.3, 0.8)
    motion: Share = 0.0
    motion_degrees: float = Field(default=5.0, ge=0, le=180)
    motion_voxels: float = Field(default=3.0, ge=0)
    spike: Share = 0.0
    spike_strength: tuple[float, float] = (0.3, 1.0)
    flip: Share = 0.5
    flip_axes: tuple[int, ...] | Literal["auto", "sides"] = "auto"

    @field_validator(
        "scale", "blur_sigma", "factor", "low_resolution_scale", "gamma_range", "ghosting_strength", "spike_strength"
    )
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("a range is written low before high, neither below 0")
        return value

    @field_validator("low_resolution_scale", "ghosting_strength")
    @classmethod
    def _at_most_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("a share is at most 1")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, tree: Any) -> Any:
        return {**AUGMENT_SETS.get(str(tree.get("set")), {}), **tree} if isinstance(tree, dict) else tree

    @model_serializer(mode="wrap")
    def _plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """While the set is not decided only what was given, so that what is read back leaves out the same keys."""
        tree: dict[str, Any] = write(self)
        return {key: tree[key] for key in tree if self.set != "auto" or key == "set" or key in self.model_fields_set}

    def chosen(self, modality: str, dimensions: int, device: str) -> AugmentSettings:
        """These settings with ``auto`` decided.

        Args:
            modality: of the data, DICOM's term.
            dimensions: 2 for pictures, 3 for volumes.
            device: that trains, such as ``cpu``.
        """
        if self.set != "auto":
            return self
        radiograph = dimensions == 2 and modality.upper() in _RADIOGRAPHS
        name = "xray" if radiograph else "light" if device.startswith("cpu") else "recipe"
        given = {key: getattr(self, key) for key in self.model_fields_set}
        return AugmentSettings.model_validate({**given, "set": name})


class OptimiserSettings(Frozen):
    """How weights are changed, step by step.

    Attributes:
        name: ``adamw``, or ``sgd`` with Nesterov momentum (nnU-Net's).
        learning_rate: the highest; None is 2e-3 with AdamW and 1e-2 with SGD.
        weight_decay: None is 1e-4 with AdamW and 3e-5 with SGD.
        momentum: SGD's.
        schedule: how the learning rate falls to zero: ``poly`` (by the exponent `power`), ``cosine``, or not (``constant``).
        power: exponent of ``poly``.
        warm_up: steps over which the learning rate rises linearly at first.
        clip: largest norm of the gradient.
        accumulate: batches whose gradients are averaged before one step.
        ema: decay of the moving average of the weights, which is what is kept as the model; 0 keeps the weights themselves.
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
        """Numbers that are remembered of each weight: AdamW's two, SGD's one, and the moving average."""
        return (2 if self.name == "adamw" else 1) + (self.ema > 0)

    @property
    def decay(self) -> float:
        """The weight decay."""
        return self.weight_decay if self.weight_decay is not None else (1e-4 if self.name == "adamw" else 3e-5)


def parse_memory(text: str | int) -> int:
    """Bytes of ``4GiB``, ``500MB``, ``2G`` (powers of 1000 without an i) or a plain number.

    Raises:
        UsageError: it is no amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if not found or found[2] not in _UNITS or float(found[1]) <= 0:
        raise UsageError(f"'{text}' is no amount of memory", remedy="Write it as 4GiB or 500MB.")
    return int(float(found[1]) * _UNITS[found[2]])
