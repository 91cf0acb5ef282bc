"""InstancePlan: how objects of one kind are told apart: the labels, the channels of the network's instance head, the decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from voxelry.base.schema import Frozen

HEAD_CHANNELS = ("border", "core", "distance")
"""Channels of the instance head, after the network's classes: logits of a voxel at an object's border and in its core, and the
signed distance to the object's surface in mm divided by the object's radius, positive inside, -1..1."""

Decoder = Literal["components", "watershed"]
"""``components``: touching voxels are one object, no head. ``watershed``: peaks of the distance, grown along it."""


class InstancePlan(Frozen):
    """How the objects of a dataset's things are told apart.

    Attributes:
        labels: names of the labels whose objects are told apart, all by one head: an object has one label.
        decoder: how objects are found in the network's output.
        diameter: median diameter of the training objects, of the ball (or disc) of the same volume (or area), in mm; in pixels
            for pictures of unknown pixel size.
        border: thickness of the border that training targets mark, in mm; in pixels of the network's grid where their size is
            unknown.
        erosion: depth by which training targets shrink an object to its core, in the same unit.
        coarse_axis: the oriented axis across slices more than three times as thick as the voxels within them, along which
            nothing is eroded; None where there is none.
        persistence: how far a peak of the distance must stand above its highest saddle to be an object of its own.
        smoothing: standard deviation of the Gaussian that smooths the distance before, as a share of the diameter of the scan's
            own objects, by the slope of the distance.
        min_peak: the least highest distance of a piece of foreground; one that stays below is dropped.
        smallest: the smallest volume of an object, in mm^3; area in mm^2 of pictures; pixels where their size is unknown.

    Example:
        >>> InstancePlan(labels=("nucleus",), diameter=21, border=2, erosion=3).decoder
        'watershed'
    """

    labels: tuple[str, ...] = Field(min_length=1)
    decoder: Decoder = "watershed"
    diameter: PositiveFloat
    border: float = Field(default=0, ge=0)
    erosion: float = Field(default=0, ge=0)
    coarse_axis: int | None = None
    persistence: float = Field(default=0.03, ge=0, le=2)
    smoothing: float = Field(default=0.09, ge=0, le=1)
    min_peak: float = Field(default=0.3, ge=-1, le=1)
    smallest: float = Field(default=0, ge=0)

    @property
    def head_channels(self) -> int:
        """Channels that the network has beside those of its classes."""
        return len(HEAD_CHANNELS) if self.decoder == "watershed" else 0
