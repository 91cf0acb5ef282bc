"""Fingerprint and Plan: the properties of a dataset, and the preparation and network planned from them.

Frozen types that networks, preparation, training and prediction share; a Plan is readable YAML that the user may edit.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from voxelry.base.schema import Frozen
from voxelry.core.architectures import DEFAULT_NETWORK, check_stages, checked_name
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.object_statistics import ObjectStatistics
from voxelry.core.patch import DEFAULT_OVERLAP

Configuration = Literal["2d", "3d", "3d_lowres", "3d_cascade"]
"""nnU-Net's four configurations: slices or pictures, full resolution, low resolution, and full resolution after low."""

Convention = Literal["voxelry", "nnunet"]
"""Whose conventions a scan is prepared by and patches are placed by: ours, or those of a model that nnU-Net trained."""


class ChannelStatistics(Frozen):
    """Grey values of one channel over the labelled voxels of a dataset (or all voxels, where nothing is labelled)."""

    mean: float
    std: float = Field(ge=0)
    p005: float
    p995: float


_OF_AXES = ("spacing", "spacing_fine", "content_shape")


class Fingerprint(Frozen):
    """Properties of a dataset that a plan follows from.

    Attributes:
        cases: number of cases.
        modality: DICOM's term.
        dimensions: 2 for pictures, 3 for volumes.
        channels: names, in order.
        shapes: ``(min, median, max)`` voxels along each axis, after orientation.
        spacing: median mm along each axis after orientation, None for pictures of unknown size.
        spacing_range: ``(min, max)`` mm along each axis.
        orientations: number of cases of each stored orientation.
        statistics: grey values of each channel.
        voxels: voxels of all cases together.
        label_voxels: labelled voxels of each label, by name.
        content: median share of a case's voxels inside the box of its content, outside which every channel is 0.
        extent_range: ``(min, max)`` mm that the cases cover along each axis after orientation; None where unknown.
        grey_range: of each channel the smallest and largest median of a case's voxels other than 0; None where unknown.
        tilt: the largest angle in degrees between an axis of a case and the patient axis nearest to it; None where unknown.
        spacing_fine: 10th percentile of the cases' mm along each axis; None where unknown.
        content_shape: median voxels of the box of content along each axis; None where unknown.
        objects: the objects of all things together; None where no label is a thing.
        objects_by_label: the objects of each thing, by the label's name.
        content_extent: the two middle values of the mm that these boxes cover along each axis, equal where the number of cases is
            odd; None where unknown.
        sequences: the card's rows of labels (vertebrae, teeth), with what the references show of them.

    Example:
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=2, channels=("CT",), shapes=((8, 8),) * 3, orientations={"picture": 1},
        ...     statistics=(), voxels=64, label_voxels={"liver": 9},
        ... )
        >>> fingerprint.dimensions
        2
    """

    cases: int
    modality: str
    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    spacing: tuple[float, ...] | None = None
    spacing_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    orientations: dict[str, int]
    statistics: tuple[ChannelStatistics, ...]
    voxels: int
    label_voxels: dict[str, int]
    content: float = Field(default=1.0, gt=0, le=1)
    extent_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    grey_range: tuple[tuple[float, float], ...] | None = None
    tilt: float | None = None
    spacing_fine: tuple[float, ...] | None = None
    content_shape: tuple[float, ...] | None = None
    content_extent: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    sequences: tuple[LabelSequence, ...] = ()
    objects: ObjectStatistics | None = None
    objects_by_label: dict[str, ObjectStatistics] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        """What is known of each axis is as long as there are axes, and what is known of each channel as there are channels."""
        ranges = [each for name in ("spacing_range", "extent_range") for each in getattr(self, name) or ()]
        single = [each for name in _OF_AXES if (each := getattr(self, name)) is not None]
        for values in (*self.shapes, *ranges, *single):
            if len(values) != self.dimensions:
                raise ValueError(f"{len(values)} numbers {values} for {self.dimensions} axes")
        if self.grey_range is not None and len(self.grey_range) != len(self.channels):
            raise ValueError(f"{len(self.grey_range)} ranges of grey values for {len(self.channels)} channels")
        if self.grey_range is not None and len(self.statistics) != len(self.channels):
            raise ValueError(f"{len(self.statistics)} statistics for {len(self.channels)} channels")
        return self


class Normalisation(Frozen):
    """Normalisation of the grey values of one channel to a common scale.

    ``global``: clip to `low`..`high`, subtract `mean`, divide by `std` (CT, whose values are absolute); ``image``: the
    image's own mean and standard deviation; ``mask``: those of the voxels inside the content (where any channel differs from 0,
    holes filled), outside which the result is 0; ``range``: the image's own smallest value becomes 0, its largest 1; ``none``:
    grey values stay as they are.

    Example:
        >>> Normalisation(scheme="global", low=-100, high=300, mean=40, std=80).scheme
        'global'
    """

    scheme: Literal["global", "image", "mask", "range", "none"]
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.scheme == "global" and None in (self.low, self.high, self.mean, self.std):
            raise ValueError("scheme 'global' needs low, high, mean and std")
        return self


class Region(Frozen):
    """Labels that are learnt together as one class; regions may overlap (BraTS's whole tumour).

    Attributes:
        name: name of the region.
        labels: names of its labels.
        label: name of the label of a voxel whose last region this is.

    Example:
        >>> Region(name="whole", labels=("edema", "core"), label="edema").labels
        ('edema', 'core')
    """

    name: str
    labels: tuple[str, ...] = Field(min_length=1)
    label: str


class NetworkPlan(Frozen):
    """A network by name, and the numbers that build it.

    Attributes:
        name: one of `voxelry.core.architectures`, such as ``dynunet`` (nnU-Net's plain U-Net as MONAI has it), or an import path,
            ``package.module:Class``.
        features: channels of each stage, finest first.
        strides: strides of each stage along each axis; the first stage's are 1. Patch sizes must be divisible by their product.
        kernels: kernel size of each stage along each axis.
        blocks: residual blocks of each encoder stage, where the network has them.
        deep_supervision: how many coarser decoder stages are trained beside the finest.
        options: further keyword arguments of the network.

    Example:
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> network.name, network.divisor
        ('dynunet', (4, 4))
    """

    name: str = DEFAULT_NETWORK
    features: tuple[PositiveInt, ...]
    strides: tuple[tuple[PositiveInt, ...], ...]
    kernels: tuple[tuple[PositiveInt, ...], ...]
    blocks: tuple[PositiveInt, ...] = ()
    deep_supervision: int = Field(default=2, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked_name(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stages = {len(self.features), len(self.strides), len(self.kernels)}
        if len(stages) != 1 or stages == {0}:
            raise ValueError(
                f"features, strides and kernels are of {len(self.features)}, {len(self.strides)} and {len(self.kernels)} stages"
            )
        if len({len(numbers) for numbers in (*self.strides, *self.kernels)}) != 1:
            raise ValueError("strides and kernels do not all have the same number of axes")
        check_stages(self.name, self.features, self.strides, self.blocks)
        return self

    @property
    def divisor(self) -> tuple[int, ...]:
        """The number by which each axis of a patch must be divisible."""
        result = [1] * len(self.strides[0])
        for stride in self.strides:
            result = [a * b for a, b in zip(result, stride, strict=True)]
        return tuple(result)


class Plan(Frozen):
    """The preparation of a scan, and the network that segments it.

    Preparation permutes, flips, crops and zooms along the scan's own axes and never rotates, so each step can be undone exactly.

    Attributes:
        dimensions: 2 or 3.
        channels: names of the input channels.
        reference_channel: the name of the channel on whose grid the others are resampled; None where all lie on one grid.
        configuration: one of nnU-Net's four. The second stage of a cascade has one more input channel for each label: the first
            stage's prediction.
        slice_axis: of volumes segmented slice by slice, the oriented axis across the slices: patches are one voxel deep there,
            and the network is 2D.
        orientation: axis codes volumes are brought to; None leaves them as stored (and pictures always).
        spacing: target mm along the oriented axes, None along an axis that stays as stored; None altogether leaves the stored
            grid (or, for pictures, see `long_side`).
        long_side: pixels of a picture's longer edge after scaling.
        image_order: spline order of image resampling; labels and logits are resampled linearly.
        coarse_axis: the axis along which voxels are so much longer than across that nothing is interpolated between slices:
            images, labels and logits take the nearest value there (order 0).
        normalisation: one per channel.
        patch_size: size of the network's input, in voxels along the oriented axes.
        batch_size: patches a training step.
        network: the network.
        regions: the network's classes after the background, in place of the labels; they may overlap.
        instances: how objects are told apart; None where labels are semantic alone.
        sequences: rows of labels (vertebrae, teeth) whose objects are named by their order.
        overlap: overlap of neighbouring patches at inference, as a share of a patch, 0 to below 1.
        flips: axes mirrored at inference, predictions averaged.
        convention: ``nnunet`` for a model that nnU-Net trained: grey values are normalised before they are resampled, half a
            voxel more is rounded to the even number, slices are kept apart wherever the scan's voxels or the plan's are more than
            three times as thick as wide, patches lie at even distances, and every axis of `flips` is mirrored as it is.
        reasons: the planner's, in sentences.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> plan.image_orders
        (3, 3)
    """

    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    reference_channel: str | None = None
    configuration: Configuration = "3d"
    slice_axis: int | None = None
    orientation: str | None = None
    spacing: tuple[PositiveFloat | None, ...] | None = None
    long_side: PositiveInt | None = None
    image_order: Literal[0, 1, 3] = 3
    coarse_axis: int | None = None
    normalisation: tuple[Normalisation, ...]
    patch_size: tuple[PositiveInt, ...]
    batch_size: PositiveInt
    network: NetworkPlan
    regions: tuple[Region, ...] = ()
    instances: InstancePlan | None = None
    sequences: tuple[LabelSequence, ...] = ()
    overlap: float = Field(default=DEFAULT_OVERLAP, ge=0, lt=1)
    flips: tuple[int, ...] = ()
    convention: Convention = "voxelry"
    reasons: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """The main numbers and the planner's reasons, for a notebook."""
        from voxelry.base.notebook_html import block, facts, sentences

        stages = f"{self.network.name}, {len(self.network.features)} stages, {self.network.features[0]} channels in the first"
        spacing = None if self.spacing is None else " x ".join("as stored" if s is None else f"{s:g} mm" for s in self.spacing)
        rows = [
            ("configuration", self.configuration),
            ("channels", ", ".join(self.channels)),
            ("orientation", self.orientation),
            ("spacing", spacing),
            ("patch", " x ".join(map(str, self.patch_size)) + f", {self.batch_size} a step"),
            ("network", stages),
            ("regions", ", ".join(region.name for region in self.regions)),
        ]
        return block("Plan", facts(rows), sentences(self.reasons))

    @property
    def reference(self) -> int | None:
        """Index of the reference channel; None where all lie on one grid."""
        return None if self.reference_channel is None else self.channels.index(self.reference_channel)

    @property
    def image_orders(self) -> tuple[int, ...]:
        """Spline order of image resampling along each axis."""
        return tuple(0 if axis == self.coarse_axis else self.image_order for axis in range(self.dimensions))

    @property
    def label_orders(self) -> tuple[int, ...]:
        """Order of resampling labels, and of restoring logits, along each axis: 1, or 0 along the coarse axis."""
        return tuple(0 if axis == self.coarse_axis else 1 for axis in range(self.dimensions))

    @property
    def head_channels(self) -> int:
        """Channels of the network's instance head, behind its classes; 0 without one."""
        return 0 if self.instances is None else self.instances.head_channels

    @property
    def side_axis(self) -> int:
        """The spatial axis that runs from one side of the body to the other: columns of a picture, R or L of a volume."""
        if self.dimensions == 2:
            return 1
        return next((axis for axis, code in enumerate(self.orientation or "RAS") if code in "RL"), 0)

    @field_validator("orientation")
    @classmethod
    def _axis_codes(cls, value: str | None) -> str | None:
        return None if value is None else axis_codes(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        axes = {"patch_size": self.patch_size, "spacing": self.spacing, "network.strides": self.network.strides[0]}
        for name, values in axes.items():
            if values is not None and len(values) != self.dimensions:
                raise ValueError(f"{name} has {len(values)} axes, dimensions is {self.dimensions}")
        if len(set(self.flips)) != len(self.flips) or not set(self.flips) <= set(range(self.dimensions)):
            raise ValueError(f"flips {self.flips} are not among the axes 0..{self.dimensions - 1}, each once")
        if self.coarse_axis is not None and not 0 <= self.coarse_axis < self.dimensions:
            raise ValueError(f"coarse_axis {self.coarse_axis} is not among the axes 0..{self.dimensions - 1}")
        if self.slice_axis is not None and (self.dimensions == 2 or self.patch_size[self.slice_axis] != 1):
            raise ValueError(f"slice_axis {self.slice_axis} needs volumes, and patches one voxel deep along it")
        if self.reference_channel is not None and self.reference_channel not in self.channels:
            raise ValueError(f"reference_channel '{self.reference_channel}' is not among the channels {self.channels}")
        bad = [f"{p} % {d}" for p, d in zip(self.patch_size, self.network.divisor, strict=True) if p % d]
        if bad:
            raise ValueError(f"patch_size {self.patch_size} is not divisible by the network's strides ({', '.join(bad)})")
        if len(self.normalisation) != len(self.channels):
            raise ValueError(f"{len(self.normalisation)} normalisations for {len(self.channels)} channels")
        return self


def axis_codes(text: str) -> str:
    """An orientation in capitals.

    Raises:
        ValueError: not three letters, one of each pair R/L, A/P, S/I.
    """
    codes = text.upper()
    if len(codes) != 3 or any(len(set(pair) & set(codes)) != 1 for pair in ("RL", "AP", "SI")):
        raise ValueError(f"'{text}' is not an orientation; use one of each pair R/L, A/P and S/I, as RAS")
    return codes
