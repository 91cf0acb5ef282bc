"""A bundle's network, preprocessing, inferer and postprocessing as a Plan and a ModelCard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from voxelry.base.files import leads_outside
from voxelry.base.version import version
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import ModelCard
from voxelry.core.plan import Fingerprint, Normalisation, Plan
from voxelry.errors import ModelError, nearest
from voxelry.exchange.bundle_config import BundleConfig
from voxelry.exchange.bundle_network import WEIGHTS
from voxelry.exchange.bundle_postprocessing import clean_up_rules, label_decision
from voxelry.exchange.bundle_stages import NO_COUNTERPART, RUNS_TRUSTED, Arguments, axes, component, planned_network, transforms
from voxelry.networks.classes import make_regions

UNCLIPPED = 1e30
"""Grey values that no scan has, where a scaling does not clip."""

MODES = {"bilinear": 1, "trilinear": 1, "linear": 1, "nearest": 0, "bicubic": 3, 0: 0, 1: 1, 3: 3}
"""MONAI's interpolation -> spline order."""


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
    if dims == 2 and steps.spacing is not None:
        raise ModelError(f"{config.file}: preprocessing resamples pictures to mm, which they do not have", remedy=RUNS_TRUSTED)
    window = component(config, "inferer", {"SlidingWindowInferer"})[1]
    patch = _window(config, window.get("roi_size"), dims)
    rules, is_sigmoid = label_decision(config, dims, outputs, steps.remarks)
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


def _window(config: BundleConfig, size: object, dims: int) -> tuple[int, ...]:
    """Voxels of the sliding window.

    Raises:
        ModelError: it is as large as each scan, or no size.
    """
    try:
        window = axes(size, dims)
    except (TypeError, ValueError):
        window = ()
    if len(window) != dims or min(window) < 1:
        raise ModelError(
            f"{config.file}: inferer has roi_size {size}, where a plan has a number of voxels for each of {dims} axes",
            remedy=RUNS_TRUSTED,
        )
    return window


def _steps(config: BundleConfig, channels: int) -> _Steps:
    """What happens before the network.

    Raises:
        ModelError: a transform has no counterpart in a plan.
    """
    steps = _Steps()
    for name, arguments in transforms(config, "preprocessing", NO_COUNTERPART):
        if name in NO_COUNTERPART:
            continue
        if name not in BEFORE:
            raise ModelError(
                f"{config.file}: preprocessing has {name}, which no plan has",
                remedy=f"{nearest(name, BEFORE)} {RUNS_TRUSTED}",
            )
        try:
            reason = BEFORE[name](steps, arguments, channels)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = f"whose arguments cannot be used ({type(error).__name__}: {error})"
        if reason:
            raise ModelError(f"{config.file}: preprocessing has {name}, {reason}", remedy=RUNS_TRUSTED)
    return steps


_AXIS_OF_CODE = {"L": "R", "P": "A", "I": "S"}
"""Codes of one axis -> its usual code."""


def _orient(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    codes = arguments.get("axcodes") or ("RAS" if arguments.get("as_closest_canonical") else "")
    steps.orientation = "".join(codes)
    is_known = sorted(_AXIS_OF_CODE.get(code, code) for code in steps.orientation) == ["A", "R", "S"]
    return "" if is_known else f"whose orientation '{steps.orientation}' is none"


def _space(steps: _Steps, arguments: Arguments, channels: int) -> str:  # noqa: ARG001
    spacing = arguments["pixdim"]
    given = spacing if isinstance(spacing, list) else [spacing]
    values = [*given, *[given[-1]] * (3 - len(given))]  # MONAI repeats the last
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
        return _normalise(steps, _scaling(float(mean), float(std) or 1.0))  # MONAI divides by 1 in place of 0
    if mean is not None or std is not None:
        return "whose numbers differ among channels"
    if channels > 1 and not arguments.get("channel_wise"):
        return "which scales all channels by one number"
    if arguments.get("nonzero"):
        steps.remarks.append("grey values are scaled by those of the content, holes filled, where the bundle takes those above 0")
    return _normalise(steps, Normalisation(scheme="mask" if arguments.get("nonzero") else "image"))


def _unit(steps: _Steps, arguments: Arguments, channels: int) -> str:
    if (arguments.get("minv", 0), arguments.get("maxv", 1), arguments.get("factor")) != (0, 1, None):
        return "which scales to another range than 0..1"
    if channels > 1 and not arguments.get("channel_wise"):
        return "which scales all channels by one range"
    return _normalise(steps, Normalisation(scheme="range"))


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
    "ScaleIntensity": _unit,
    "ScaleIntensityRange": _range,
    "NormalizeIntensity": _intensity,
    "CropForeground": _crop,
}
"""Transforms before the network that a plan has; each gives a reason why not, or nothing."""


def label_table(metadata: Arguments, outputs: int, is_sigmoid: bool) -> LabelTable:
    """Labels by the names of the output's channels; of classes that decide for themselves each on a layer of its own."""
    given = _channel_names(_data_format(metadata, "outputs", "pred"))
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
    given = _channel_names(_data_format(metadata, "inputs", "image"))
    names = [str(given.get(str(number)) or f"channel {number}") for number in range(count)]
    return tuple(name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names))


def _channel_names(described: Arguments) -> Arguments:
    """Number -> name of each channel, also from a list."""
    given = described.get("channel_def")
    if isinstance(given, list):
        return {str(number): name for number, name in enumerate(given)}
    return given if isinstance(given, Mapping) else {}


def _data_format(metadata: Arguments, side: str, name: str) -> Arguments:
    formats = metadata.get("network_data_format")
    for key in (side, name):
        formats = formats.get(key) if isinstance(formats, Mapping) else None
    return formats if isinstance(formats, Mapping) else {}


def _card(metadata: Arguments, table: LabelTable, plan: Plan, name: str, rules: Sequence[tuple[str, Arguments]]) -> ModelCard:
    modality = str(_data_format(metadata, "inputs", "image").get("modality") or "OT")
    fingerprint = Fingerprint(
        cases=0, modality=modality, dimensions=plan.dimensions, channels=plan.channels, shapes=(plan.patch_size,) * 3,
        orientations={}, statistics=(), voxels=math.prod(plan.patch_size), label_voxels={},
    )  # fmt: skip
    references = metadata.get("references") or ()
    imported = {key: metadata.get(key) for key in ("version", "task", "description", "authors", "data_source")}
    return ModelCard(
        name=str(metadata.get("name") or name),
        version=version(),
        labels=table,
        fingerprint=fingerprint,
        licence=str(metadata.get("copyright") or ""),
        citation=tuple(str(each) for each in (references if isinstance(references, list | tuple) else [references])),
        training={"imported": {"from": "MONAI Bundle", **imported, "differences": list(plan.reasons)}},
        clean_up=clean_up_rules(table, rules),
    )


def weights_path(config: BundleConfig) -> str:
    """Path of the state dictionary: that of the bundle's checkpoint loader, or the usual one.

    Raises:
        ModelError: it is outside the bundle.
    """
    handlers = config.raw("handlers")
    loaders = [config.raw("checkpointloader"), *(handlers if isinstance(handlers, list) else [])]
    for loader in loaders:
        if isinstance(loader, Mapping) and str(loader.get("_target_", "")).rpartition(".")[2] == "CheckpointLoader":
            path = str(config.plain(loader.get("load_path", ""), "checkpointloader#load_path"))
            if "models/" in path:
                inside = WEIGHTS.partition("/")[0] + "/" + path.rpartition("models/")[2]
                if leads_outside(inside):
                    raise ModelError(f"{config.file}: checkpointloader loads {path}, which is outside the bundle")
                return inside
    return WEIGHTS
