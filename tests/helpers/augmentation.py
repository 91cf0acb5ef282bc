"""Augmenters, patches and single changes for the tests of augmentation."""

import inspect
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from helpers.plans import SIDED, tiny_network, tiny_plan
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.augmentation.augmentation import AugmentationParams, Change, IntensityAugmentation
from voxelry.augmentation.augmenter import Augmenter
from voxelry.augmentation.registry import AUGMENTATIONS
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan

PROBABILITIES = [key for key in AugmentSettings.model_fields if key.endswith("_p")]
INTENSITY = [each for each in AUGMENTATIONS if isinstance(each, IntensityAugmentation)]


def only(**changes: Any) -> AugmentSettings:
    """Settings that change nothing but what is named."""
    channels = {"blur_per_channel": 1, "low_resolution_per_channel": 1}
    return AugmentSettings(set="nnunet", **(dict.fromkeys(PROBABILITIES, 0) | channels | changes))


EVERYTHING = only(**dict.fromkeys(PROBABILITIES, 1))


def plan_of(patch: tuple[int, ...], **changes: Any) -> Plan:
    """A plan with patches of a size."""
    network = tiny_network(len(patch), strides=((1,) * len(patch),) * 3)
    return tiny_plan(len(patch), patch_size=patch, network=network, **changes)


def augmenter(
    settings: AugmentSettings, patch: tuple[int, ...] = (12, 12, 12), table: LabelTable = SIDED, **changes: Any
) -> Augmenter:
    """An augmenter of patches of a size."""
    return Augmenter(plan_of(patch, **changes), settings, table)


def box(size: list[int], seed: int = 0, channels: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Random grey values and class indices."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(channels, *size)).astype(np.float32), rng.integers(-1, 4, size).astype(np.int16)


def grey(shape: tuple[int, ...] = (14, 15, 17), seed: int = 0) -> NDArray[np.float32]:
    """Smooth grey values."""
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1).astype(np.float32) * 3 + 0.4


def changed(image: NDArray[np.float32], augmentation: IntensityAugmentation[Any, Any], params: Any) -> NDArray[np.float32]:
    """A copy of a channel with one change."""
    copy = np.ascontiguousarray(image, dtype=np.float32).copy()
    augmentation.apply(copy, params)
    return copy


def params_of(record: AugmentationParams, kind: str) -> list[Any]:
    """The parameters of all changes of a kind."""
    return [change.params for change in record.changes if change.kind == kind]


def flips_of(record: AugmentationParams) -> tuple[int, ...]:
    """The mirrored axes of a record."""
    return tuple(axis for flip in params_of(record, "flip") for axis in flip.axes)


def as_json(record: AugmentationParams) -> str:
    """A record as JSON."""
    return json.dumps([[change.kind, change.channel, change.params._asdict()] for change in record.changes])


def from_json(text: str) -> AugmentationParams:
    """A record read back from JSON."""
    modules = [inspect.getmodule(type(each)) for each in AUGMENTATIONS]
    names = {name: value for module in modules for name, value in vars(module).items() if name.endswith("Params")}
    return AugmentationParams(tuple(_change(names, *entry) for entry in json.loads(text)))


def _change(names: dict[str, Any], kind: str, channel: int | None, values: dict[str, Any]) -> Change:
    name = {"inverted_gamma": "GammaParams"}.get(kind, "".join(word.capitalize() for word in kind.split("_")) + "Params")
    return Change(kind, channel, names[name](**{key: _frozen(value) for key, value in values.items()}))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
