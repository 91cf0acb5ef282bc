"""A bundle's network, preprocessing, inferer and postprocessing as a Plan and a ModelCard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from voxelry.base.version import version
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import CleanUp, ModelCard
from voxelry.core.plan import Fingerprint, Normalisation, Plan
from voxelry.errors import ModelError, nearest
from voxelry.exchange.bundle_config import BundleConfig
from voxelry.exchange.bundle_network import WEIGHTS
from voxelry.exchange.bundle_stages import Arguments, axes, component, is_monais, planned_network
from voxelry.networks.classes import make_regions

UNCLIPPED = 1e30
"""Grey values that no scan has, where a scaling does not clip."""

MODES = {"bilinear": 1, "trilinear": 1, "linear": 1, "nearest": 0, "bicubic": 3, 0: 0, 1: 1, 3: 3}
"""MONAI's interpolation -> spline order."""

NO_COUNTERPART = frozenset({
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType", "SpatialPad",
    "DivisiblePad", "ToDevice", "Identity",
})  # fmt: skip
"""Transforms that a plan does by itself: reading, types, padding of scans smaller than a patch."""

AFTERWARDS = NO_COUNTERPART | {"Invert", "SaveImage", "Activations", "AsDiscrete", "CopyItems", "DeleteItems"}


@dataclass(frozen=True)
class MappedBundle:
    """A bundle as a plan.

    Attributes:
        plan: how scans are prepared, and the network.
        card: labels, and what the bundle says of itself.
        weights: path of the state dictionary in the bundle.
    """

    plan: Plan
    card: ModelCard
    weights: str


@dataclass
class _Steps:
    """What the transforms before the network do."""

    orientation: str | None = None
    spacing: tuple[float | None, ...] | None = None
    order: int = 1
    normalisation: Normalisation | None = None
    remarks: list[str] = field(default_factory=list)


def mapped_bundle(config: BundleConfig, metadata: Arguments, name: str) -> MappedBundle:
    """Map a bundle's parts.

    Args:
        config: its inference.
        metadata: of the bundle.
        name: of the bundle, where the metadata state none.

    Raises:
        ModelError: a part is missing, or has no counterpart.
    """
    network, dims, channels, outputs = planned_network(config)
    steps = _steps(config, channels)
    window = component(config, "inferer", {"SlidingWindowInferer", "SliceInferer"})[1]
    patch = axes(window.get("roi_size"), dims)
    rules, is_sigmoid = _afterwards(config)
    table = label_table(metadata, outputs, is_sigmoid)
    named = _channels(metadata, channels)
    overlap = window.get("overlap", 0.25)
    if window.get("mode", "constant") != "gaussian":
        steps.remarks.append("patches are weighted by a Gaussian where the bundle weights them alike")
    plan = Plan(
        dimensions=3 if dims == 3 else 2,
        channels=named,
        orientation=steps.orientation if dims == 3 else None,
        spacing=steps.spacing,
        image_order=1 if steps.order == 1 else 3 if steps.order == 3 else 0,
        normalisation=(steps.normalisation or _scaling(0, 1),) * channels,
        patch_size=patch,
        batch_size=1,
        network=network,
        regions=make_regions({} if table.layers > 1 else _single(table), table) if is_sigmoid else (),
        overlap=max(overlap) if isinstance(overlap, list) else overlap,
        reasons=tuple(steps.remarks),
    )
    return MappedBundle(plan, _card(metadata, table, plan, name, rules), weights_path(config))


def _transforms(config: BundleConfig, section: str, leave_out: frozenset[str]) -> list[tuple[str, Arguments]]:
    """Names of a section's transforms, without the ``d`` of dictionaries, with their arguments.

    Arguments of those to be left out are not looked at: what saves a file may compute its name.

    Raises:
        ModelError: an entry is no transform.
    """
    composed = config.raw(section)
    if composed is None:
        return []
    steps = composed.get("transforms") if isinstance(composed, Mapping) else composed
    if isinstance(steps, str):
        steps = config.plain(steps, f"{section}#transforms")
    result = []
    for number, step in enumerate(steps or []):
        if not isinstance(step, Mapping) or not isinstance(step.get("_target_"), str):
            raise ModelError(f"{config.file}: {section}#transforms#{number} is no transform")
        name = step["_target_"].rpartition(".")[2]
        if name[-1:].isupper() and name[-1] == "D":
            name = name[:-1] + "d"
        name = name.removesuffix("Dict").removesuffix("d") if name != "ToDevice" else name
        is_left = name in leave_out and is_monais(step["_target_"])
        arguments = (
            {} if is_left and name not in ("Activations", "AsDiscrete") else config.plain(step, f"{section}#transforms#{number}")
        )
        result.append((name if is_monais(step["_target_"]) else step["_target_"], arguments))
    return result


def _steps(config: BundleConfig, channels: int) -> _Steps:
    """What happens before the network.

    Raises:
        ModelError: a transform has no counterpart in a plan.
    """
    steps = _Steps()
    for name, arguments in _transforms(config, "preprocessing", NO_COUNTERPART):
        if name in NO_COUNTERPART:
            continue
        if name not in BEFORE:
            raise ModelError(
                f"{config.file}: preprocessing has {name}, which no plan has",
                remedy=f"{nearest(name, BEFORE)} In Python, voxelry.exchange.BundlePredictor runs a bundle that you trust.",
            )
        reason = BEFORE[name](steps, arguments, channels)
        if reason:
            raise ModelError(f"{config.file}: preprocessing has {name}, {reason}")
    return steps


def _orient(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    steps.orientation = arguments.get("axcodes") or ("RAS" if arguments.get("as_closest_canonical") else None)
    return "" if steps.orientation else "which names no orientation"


def _space(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    spacing = arguments["pixdim"]
    values = spacing if isinstance(spacing, list) else [spacing] * 3
    steps.spacing = tuple(float(each) if each and each > 0 else None for each in values)
    mode = arguments.get("mode", "bilinear")
    mode = mode[0] if isinstance(mode, list) else mode
    steps.order = MODES.get(mode, -1)
    steps.remarks.append(
        "grids are aligned at the edges of their voxels, where MONAI's Spacing aligns the centres of the corners"
    )
    return f"whose mode '{mode}' no plan has" if steps.order < 0 else ""


def _range(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    low, high = float(arguments["a_min"]), float(arguments["a_max"])
    new_low, new_high = arguments.get("b_min"), arguments.get("b_max")
    if new_low is None or new_high is None or high <= low or new_high <= new_low:
        return "which scales to no range"
    std = (high - low) / (new_high - new_low)
    return _normalise(steps, _scaling(low - new_low * std, std, (low, high) if arguments.get("clip") else None))


def _intensity(steps: _Steps, arguments: Arguments, channels: int) -> str:
    mean, std = arguments.get("subtrahend"), arguments.get("divisor")
    if isinstance(mean, int | float) and isinstance(std, int | float):
        return _normalise(steps, _scaling(float(mean), float(std)))
    if mean is not None or std is not None:
        return "whose numbers differ among channels"
    if channels > 1 and not arguments.get("channel_wise"):
        return "which scales all channels by one number"
    if arguments.get("nonzero"):
        steps.remarks.append("grey values are scaled by those of the content, holes filled, where the bundle takes those above 0")
    return _normalise(steps, Normalisation(scheme="mask" if arguments.get("nonzero") else "image"))


def _crop(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    steps.remarks.append("scans are cropped to where they differ from 0")
    return "" if not arguments.get("select_fn") else "whose content is chosen by code"


def _normalise(steps: _Steps, scheme: Normalisation) -> str:
    if steps.normalisation is not None:
        return "a second scaling of grey values"
    steps.normalisation = scheme
    return ""


def _scaling(mean: float, std: float, limits: tuple[float, float] | None = None) -> Normalisation:
    low, high = limits or (-UNCLIPPED, UNCLIPPED)
    return Normalisation(scheme="global", low=low, high=high, mean=mean, std=std)


BEFORE: dict[str, Callable[[_Steps, Arguments, int], str]] = {
    "Orientation": _orient,
    "Spacing": _space,
    "ScaleIntensityRange": _range,
    "NormalizeIntensity": _intensity,
    "CropForeground": _crop,
}
"""Transforms before the network that a plan has; each gives a reason why not, or nothing."""


def _afterwards(config: BundleConfig) -> tuple[list[tuple[str, Arguments]], bool]:
    """Rules of clean-up, and whether each class decides for itself.

    Raises:
        ModelError: a transform has no counterpart.
    """
    rules, is_sigmoid = [], False
    for name, arguments in _transforms(config, "postprocessing", AFTERWARDS):
        if name in ("KeepLargestConnectedComponent", "FillHoles"):
            rules.append((name, arguments))
        elif name not in AFTERWARDS:
            raise ModelError(
                f"{config.file}: postprocessing has {name}, which no plan has",
                remedy="In Python, voxelry.exchange.BundlePredictor runs a bundle that you trust as it is.",
            )
        is_sigmoid |= name == "Activations" and bool(arguments.get("sigmoid"))
        threshold = arguments.get("threshold")
        if name == "AsDiscrete" and threshold not in (None, 0.5, True, False):
            raise ModelError(f"{config.file}: postprocessing decides at {threshold}, where a plan decides at 0.5")
    return rules, is_sigmoid


def label_table(metadata: Arguments, outputs: int, is_sigmoid: bool) -> LabelTable:
    """Labels by the names of the output's channels; of classes that decide for themselves each on a layer of its own."""
    given = _data_format(metadata, "outputs", "pred").get("channel_def") or {}
    numbers = range(outputs) if is_sigmoid else range(1, outputs)
    names = [str(given.get(str(number)) or f"label {number}")[:64] for number in numbers]
    unique = [name if names.count(name) == 1 else f"{name[:58]} {place}" for place, name in enumerate(names, start=1)]
    layered = is_sigmoid and outputs > 1
    return LabelTable(
        labels=tuple(
            Label(value=place, name=name, layer=place - 1 if layered else 0) for place, name in enumerate(unique, start=1)
        )
    )


def _single(table: LabelTable) -> dict[str, Sequence[str]]:
    return {label.name: [label.name] for label in table.labels}


def _channels(metadata: Arguments, count: int) -> tuple[str, ...]:
    given = _data_format(metadata, "inputs", "image").get("channel_def") or {}
    names = [str(given.get(str(number)) or f"channel {number}") for number in range(count)]
    return tuple(name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names))


def _data_format(metadata: Arguments, side: str, name: str) -> Arguments:
    formats = metadata.get("network_data_format")
    described = formats.get(side, {}).get(name, {}) if isinstance(formats, Mapping) else {}
    return described if isinstance(described, Mapping) else {}


def _card(metadata: Arguments, table: LabelTable, plan: Plan, name: str, rules: Sequence[tuple[str, Arguments]]) -> ModelCard:
    modality = str(_data_format(metadata, "inputs", "image").get("modality") or "OT")
    fingerprint = Fingerprint(
        cases=0, modality=modality, dimensions=plan.dimensions, channels=plan.channels, shapes=(plan.patch_size,) * 3,
        orientations={}, statistics=(), voxels=math.prod(plan.patch_size), label_voxels={},
    )  # fmt: skip
    imported = {key: metadata.get(key) for key in ("version", "task", "description", "authors", "data_source")}
    return ModelCard(
        name=str(metadata.get("name") or name),
        version=version(),
        labels=table,
        fingerprint=fingerprint,
        licence=str(metadata.get("copyright") or ""),
        citation=tuple(str(each) for each in metadata.get("references") or ()),
        training={"imported": {"from": "MONAI Bundle", **imported, "differences": list(plan.reasons)}},
        clean_up=_clean_up(table, rules),
    )


def _clean_up(table: LabelTable, rules: Sequence[tuple[str, Arguments]]) -> tuple[CleanUp, ...]:
    """Rules of each label."""
    result: dict[str, CleanUp] = {}
    for name, arguments in rules:
        wanted = arguments.get("applied_labels")
        values = [wanted] if isinstance(wanted, int) else wanted
        for label in table.labels:
            if values is None or label.value in values:
                rule = result.get(label.name) or CleanUp(label=label.name)
                change = {"keep_largest" if name == "KeepLargestConnectedComponent" else "fill_holes": True}
                result[label.name] = rule.model_copy(update=change)
    return tuple(result.values())


def weights_path(config: BundleConfig) -> str:
    """Path of the state dictionary: that of the bundle's checkpoint loader, or the usual one."""
    loaders = [config.raw("checkpointloader"), *(config.raw("handlers") or [])]
    for loader in loaders:
        if isinstance(loader, Mapping) and str(loader.get("_target_", "")).rpartition(".")[2] == "CheckpointLoader":
            path = str(config.plain(loader.get("load_path", ""), "checkpointloader#load_path"))
            if "models/" in path:
                return WEIGHTS.partition("/")[0] + "/" + path.rpartition("models/")[2]
    return WEIGHTS
