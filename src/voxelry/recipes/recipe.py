"""Config: a training recipe, read from a YAML file such as those in `configs/`.

Every key but `manifest` has a default; an unknown key is refused with the nearest right one. A run keeps its recipe beside its
model.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.base.device import check_device_name
from voxelry.base.files import read_yaml
from voxelry.base.schema import Frozen, parse
from voxelry.core.patch import DEFAULT_OVERLAP
from voxelry.core.plan import Configuration
from voxelry.errors import ConfigError, UsageError
from voxelry.recipes.renamed_keys import current_tree
from voxelry.recipes.settings import LossSettings, OptimiserSettings, PlanSettings

_PATHS = ("manifest", "folds", "initial", "teacher")
LENGTHS = ("steps", "epochs", "time_budget")
"""Keys that set the length of training."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Config(Frozen):
    """A training recipe.

    Attributes:
        manifest: the dataset card, relative to the recipe's own folder.
        seed: seed of weights, sampling and augmentation.
        plan: overrides of the planner.
        loss: the training objective.
        augment: random changes to training patches.
        optimiser: optimiser and learning rate schedule.
        steps: optimiser steps; or
        epochs: passes over the training cases; or
        time_budget: seconds of preparation and training (``10m``, ``90s``, ``1h``), turned into a recorded number of steps.
        patience: milestones without a better pseudo-Dice after which training stops early; None never stops early.
        oversample_foreground: share of each batch whose patches must contain a voxel of a randomly drawn label.
        mixed_precision: ``auto`` uses bfloat16 (float16 on older GPUs) where the device computes in it and passes a trial.
        compile: ``auto`` compiles the network on a GPU, where a compiler is; ``on`` and ``off`` are what they say.
        deterministic: the same run gives the same weights, bit for bit, on the same machine; slower on a GPU.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        validations: how often pseudo-Dice is measured and a checkpoint written.
        initial: a model folder to start from; layers that do not fit (other labels, other channels) start fresh.
        teacher: a model folder, also of an ensemble, whose probabilities are learnt beside the references (distillation); it must
            take the same patches, so `voxelry compress` makes such a recipe.
        folds: number of folds of a cross-validation over the ``train`` and ``val`` cases, or a file that lists the folds
            (relative to the recipe's own folder; see `voxelry.training.folds`); 0 trains on ``train`` and validates on ``val``.
        configurations: which of nnU-Net's four a cross-validation trains and compares, singly and in pairs; ``auto`` takes all
            that make sense for the data; empty takes that of `plan`.
        overlap: overlap of neighbouring patches at inference.
        flips: average predictions over mirrored copies along these axes of the oriented grid.
        track: ``tensorboard``, ``mlflow``: trackers that are written beside the JSON lines.

    Example:
        >>> config = Config(manifest="liver.yaml", time_budget="10m")
        >>> config.time_budget, config.seed
        (600.0, 0)
    """

    manifest: str
    seed: int = Field(default=0, ge=0)
    plan: PlanSettings = PlanSettings()
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    time_budget: float | None = Field(default=None, gt=0)
    patience: PositiveInt | None = None
    oversample_foreground: float = Field(default=0.34, ge=0, le=1)
    mixed_precision: Literal["auto", "off"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    device: str = "auto"
    validations: PositiveInt = 20
    initial: str | None = None
    teacher: str | None = None
    folds: Annotated[int, Field(ge=0)] | str = 0
    configurations: tuple[Configuration, ...] | Literal["auto"] = ()
    overlap: float = Field(default=DEFAULT_OVERLAP, ge=0, lt=1)
    flips: tuple[int, ...] = ()
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()

    @field_validator("time_budget", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return parse_duration(value) if isinstance(value, str) else value

    @field_validator("device")
    @classmethod
    def _device_name(cls, value: str) -> str:
        try:
            check_device_name(value)
        except UsageError as error:
            raise ValueError(f"it is none that voxelry computes on. {error.remedy}") from None
        return value

    @field_validator("mixed_precision", "compile", mode="before")
    @classmethod
    def _yaml_switch(cls, value: Any) -> Any:
        """YAML 1.1 reads a bare ``on`` or ``off`` as a truth value."""
        return ("on" if value else "off") if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is None and self.epochs is None and self.time_budget is None:
            raise ValueError("give 'steps', 'epochs' or 'time_budget', to set the length of training")
        if self.teacher is not None and self.folds:
            raise ValueError(
                "a teacher has seen the cases that a cross-validation would hold out; leave out 'folds' or 'teacher'"
            )
        if self.folds == 1:
            raise ValueError("one fold is no cross-validation; give 'folds' as 0, or 2 or more")
        if len(set(self.configurations)) < len(self.configurations) and self.configurations != "auto":
            raise ValueError(f"a configuration occurs twice in {list(self.configurations)}")
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
        The recipe, with absolute paths.

    Raises:
        MissingFileError: no such file.
        ConfigError: an unknown key (naming the nearest), or a value out of range.

    Example:
        >>> from pathlib import Path
        >>> size = Path("recipe.yaml").write_text("{manifest: liver.yaml, steps: 100}")
        >>> load_config("recipe.yaml", ("plan.patch_size=[32, 32, 32]",)).plan.patch_size
        (32, 32, 32)
    """
    tree = current_tree(read_yaml(path), str(path))
    given: dict[str, str] = {}
    twice: list[tuple[str, str]] = []
    for change in changes:
        keys = _apply(tree, change)
        twice += [(given[key], key) for key in keys if given.get(key, f"--set {change}") != f"--set {change}"]
        given.update(dict.fromkeys(keys, f"--set {change}"))
    config = parse(Config, tree, str(path), given=given)
    for other, key in twice:
        raise ConfigError(f"{other} and {given[key]} both set '{key}'", remedy="Give one of the two.")
    paths = {key: value for key in _PATHS if isinstance(value := getattr(config, key), str)}
    return config.model_copy(update={key: str((Path(path).resolve().parent / value).resolve()) for key, value in paths.items()})


def parse_config(tree: dict[str, Any], where: str) -> Config:
    """A recipe from plain data; former names of keys are understood, with a warning.

    Args:
        tree: as YAML gives it.
        where: the file it came from, for messages.

    Raises:
        ConfigError: an unknown key (naming the nearest), or a value out of range.
    """
    return parse(Config, current_tree(tree, where), where)


def changed(config: Config, **values: Any) -> Config:
    """A recipe with some values changed; a length (``steps``, ``epochs``, ``time_budget``) replaces the recipe's.

    Raises:
        ConfigError: a value out of range.

    Example:
        >>> from voxelry.recipes import Config
        >>> changed(Config(manifest="liver.yaml", steps=100), epochs=20).steps is None
        True
    """
    values_before = config.model_dump(exclude=set(LENGTHS) if set(LENGTHS) & set(values) else None, exclude_unset=True)
    given = {key: f"{key.replace('_', '-')} {value}" for key, value in values.items()}
    return parse(Config, values_before | values, "the recipe", given=given)


def _apply(tree: dict[str, Any], change: str) -> list[str]:
    """Set one key of a tree, and return it, or the keys that it stands for; a former name is understood, with a warning."""
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {change}: not KEY=VALUE", remedy="Write for example --set steps=200.")
    *branches, leaf = key.split(".")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: {text!r} is not YAML ({' '.join(str(error).split())})") from error
    node = tree
    for branch in branches:
        node = node.setdefault(branch, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change}: '{branch}' is a value, not a group of keys")
    values = _leaf(branches, leaf, value, f"--set {change}")
    node.update(values)
    return [".".join([*branches, name]) for name in values]


def _leaf(branches: list[str], leaf: str, value: Any, where: str) -> dict[str, Any]:
    """The key and value, or with new names the keys and values, that a change sets within its group."""
    change: dict[str, Any] = {leaf: value}
    for branch in reversed(branches):
        change = {branch: change}
    change = current_tree(change, where)
    for branch in branches:
        change = change[branch]
    return change
