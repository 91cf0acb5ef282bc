"""A training recipe: a frozen tree of settings, one YAML file each in `configs/`.

Every key has a default but `manifest`; an unknown key is refused with the nearest right one. A run keeps the recipe it used,
verbatim, beside its model.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from voxelry.errors import ConfigError
from voxelry.files import read_yaml
from voxelry.schema import Frozen, parse

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class PlanSettings(Frozen):
    """What the planner must not decide by itself; every key left out is planned from the data.

    Attributes:
        orientation: axis codes to bring volumes to, such as ``RAS``; ``stored`` leaves them as they are.
        spacing: target spacing in mm along the oriented axes.
        long_side: pixels of a picture's longer edge after scaling.
        patch_size: window in voxels.
        batch_size: windows a step.
        features: channels of each network stage, finest first.
        network: which network (`voxelry.networks.build`).
    """

    orientation: str | None = None
    spacing: tuple[PositiveFloat, ...] | None = None
    long_side: PositiveInt | None = None
    patch_size: tuple[PositiveInt, ...] | None = None
    batch_size: PositiveInt | None = None
    features: tuple[PositiveInt, ...] | None = None
    network: Literal["dynunet", "unet"] | None = None


class AugmentSettings(Frozen):
    """Random changes to training windows: for each a probability, and a range where it has one.

    Rotation is in degrees, scale a zoom factor, noise a standard deviation of normalised grey values, blur a sigma in
    voxels, brightness and contrast factors, gamma an exponent. Flips mirror an axis with probability one half.
    """

    spatial: float = Field(default=0.4, ge=0, le=1)
    rotation: float = Field(default=20.0, ge=0, le=180)
    scale: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    shift: float = Field(default=0.05, ge=0, le=0.5)
    noise: float = Field(default=0.15, ge=0, le=1)
    noise_sigma: float = Field(default=0.1, ge=0)
    blur: float = Field(default=0.1, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    factor: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.25)
    gamma: float = Field(default=0.2, ge=0, le=1)
    gamma_range: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.5)
    flip_axes: tuple[int, ...] = ()

    @field_validator("scale", "blur_sigma", "factor", "gamma_range")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("a range is written low before high, neither below 0")
        return value


class Config(Frozen):
    """A training recipe.

    Attributes:
        manifest: the dataset card, relative to the recipe's own folder.
        seed: of weights, sampling and augmentation.
        plan: what the planner must not decide by itself.
        augment: random changes to training windows.
        steps: optimiser steps; or
        time_budget: seconds of training (``10m``, ``90s``, ``1h``), turned into a recorded number of steps.
        learning_rate, weight_decay: AdamW's.
        poly: exponent of the learning rate's decay.
        clip: largest norm of the gradient.
        foreground: share of each batch whose windows are centred on a labelled voxel.
        mixed_precision: ``auto`` uses bfloat16 (float16 on older GPUs) where the device computes in it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        validations: how often pseudo-Dice is measured and a checkpoint written.
        overlap: overlap of neighbouring windows at inference.
        flips: average predictions over mirrored copies along these axes of the oriented grid.
    """

    manifest: str
    seed: int = Field(default=0, ge=0)
    plan: PlanSettings = PlanSettings()
    augment: AugmentSettings = AugmentSettings()
    steps: PositiveInt | None = None
    time_budget: float | None = Field(default=None, gt=0)
    learning_rate: PositiveFloat = 2e-3
    weight_decay: float = Field(default=1e-4, ge=0)
    poly: PositiveFloat = 0.9
    clip: PositiveFloat = 12.0
    foreground: float = Field(default=0.34, ge=0, le=1)
    mixed_precision: Literal["auto", "off"] = "auto"
    device: str = "auto"
    validations: PositiveInt = 20
    overlap: float = Field(default=0.5, ge=0, lt=1)
    flips: tuple[int, ...] = ()

    @field_validator("time_budget", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return parse_duration(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is None and self.time_budget is None:
            raise ValueError("give 'steps' or 'time_budget', so that training knows when to end")
        return self


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1.5h``.

    Raises:
        ValueError: anything else, with what is expected.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match:
        raise ValueError(f"'{text}' is not a duration; write 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def load_config(path: str | os.PathLike[str], changes: tuple[str, ...] = ()) -> Config:
    """Read a recipe and apply ``KEY=VALUE`` changes to it.

    Args:
        path: a YAML file.
        changes: such as ``("steps=200", "plan.patch_size=[32, 32, 32]")``; dots go down the tree, values are YAML.

    Returns:
        The recipe, its manifest's path made absolute.

    Raises:
        MissingFileError: no such file.
        ConfigError: an unknown key (naming the nearest), or a value out of range.
    """
    tree = read_yaml(path)
    for change in changes:
        _apply(tree, change)
    config = parse(Config, tree, str(path))
    return config.model_copy(update={"manifest": str((Path(path).resolve().parent / config.manifest).resolve())})


def _apply(tree: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {change}: not KEY=VALUE", remedy="Write for example --set steps=200.")
    node = tree
    *branches, leaf = key.split(".")
    for branch in branches:
        node = node.setdefault(branch, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change}: '{branch}' is a value, not a group of keys")
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: {text!r} is not YAML ({' '.join(str(error).split())})") from error
