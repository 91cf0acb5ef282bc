"""The network of a bundle to import, as a plan's stages, and what is common to reading its parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from voxelry.core.plan import NetworkPlan
from voxelry.errors import ModelError, nearest
from voxelry.exchange.bundle_config import BundleConfig
from voxelry.exchange.foreign_values import understood

Arguments = Mapping[str, Any]

RUNS_TRUSTED = "In Python, voxelry.exchange.BundlePredictor runs a bundle that you trust as it is."

NO_COUNTERPART = frozenset({
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType", "SpatialPad",
    "DivisiblePad", "ToDevice", "Identity",
})  # fmt: skip
"""Transforms that a plan does by itself: reading, types, padding of scans smaller than a patch."""


def component(config: BundleConfig, section: str, known: set[str]) -> tuple[str, Arguments]:
    """The class, without its package, and the arguments of a section.

    Raises:
        ModelError: it is missing, or of a class that is not known.
    """
    value = config.value(section)
    if not isinstance(value, Mapping) or "_target_" not in value:
        raise ModelError(f"{config.file}: no '{section}' with a _target_", remedy="Give a bundle of the model zoo's form.")
    target = str(value["_target_"])
    name = target.rpartition(".")[2]
    if name not in known or not is_monais(target):
        raise ModelError(
            f"{config.file}: {section} is a {target}, which no plan has",
            remedy=f"{nearest(name, known)} In Python, voxelry.exchange.BundlePredictor runs a bundle that you trust as it is.",
        )
    return name, {key: each for key, each in value.items() if key != "_target_"}


def is_monais(target: str) -> bool:
    """Whether a ``_target_`` is of MONAI."""
    return "." not in target or target.startswith("monai.")


def axes(value: Any, dims: int) -> tuple[int, ...]:
    """A number for each axis, from one for all or from a list."""
    return tuple(int(each) for each in value) if isinstance(value, list | tuple) else (int(value),) * dims


def transforms(config: BundleConfig, section: str, leave_out: frozenset[str]) -> list[tuple[str, Arguments]]:
    """Names of a section's transforms, without the ``d`` of dictionaries, with their arguments.

    Arguments of those to be left out are not looked at: what saves a file may compute its name.

    Raises:
        ModelError: an entry is no transform.
    """
    composed = config.raw(section)
    if isinstance(composed, str):
        section = composed.removeprefix("@")
        composed = config.raw(section)
    if composed is None:
        return []
    steps = composed.get("transforms") if isinstance(composed, Mapping) else composed
    if isinstance(steps, str):
        steps = config.plain(steps, f"{section}#transforms")
    result = []
    if not isinstance(steps, list | None):
        raise ModelError(f"{config.file}: {section} is no list of transforms")
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


def planned_network(config: BundleConfig) -> tuple[NetworkPlan, int, int, int]:
    """The network, its axes, and its input and output channels."""
    name, given = component(config, "network_def", set(NETWORKS))
    with understood(f"{config.file}: network_def", RUNS_TRUSTED):
        arguments = _with_defaults(name, given, config.file)
        dims = int(arguments["spatial_dims"])
        features, strides, kernels, kept = NETWORKS[name](arguments, dims)
        fixed = {"spatial_dims", "in_channels", "out_channels", *kept}
        options = {key: value for key, value in arguments.items() if key not in fixed and value is not None}
        path = OWN_NAMES.get(name, f"monai.networks.nets:{name}")
        plan = NetworkPlan(name=path, features=features, strides=strides, kernels=kernels, deep_supervision=0, options=options)
        return plan, dims, int(arguments["in_channels"]), int(arguments["out_channels"])


def _with_defaults(name: str, given: Arguments, file: Path) -> dict[str, Any]:
    """The arguments of MONAI's class, those that the bundle leaves out at MONAI's defaults."""
    import monai.networks.nets as nets

    parameters = inspect.signature(getattr(nets, name)).parameters
    unknown = sorted(set(given) - set(parameters))
    if unknown:
        raise ModelError(f"{file}: MONAI's {name} takes no '{unknown[0]}'", remedy=nearest(unknown[0], parameters))
    defaults = {key: each.default for key, each in parameters.items() if each.default is not inspect.Parameter.empty}
    missing = [key for key in parameters if key not in given and key not in defaults]
    if missing:
        raise ModelError(f"{file}: MONAI's {name} needs '{missing[0]}'", remedy="Name it in the bundle's network_def.")
    return {**{key: _plain(value) for key, value in defaults.items()}, **given}


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value.value if hasattr(value, "value") else value


Stages = tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], set[str]]
"""Features, strides and kernels of each stage, and the arguments that they come from."""


def _unet(arguments: Arguments, dims: int) -> Stages:
    features = tuple(int(each) for each in arguments["channels"])
    strides = ((1,) * dims, *(axes(each, dims) for each in arguments["strides"]))
    return features, strides, (axes(arguments["kernel_size"], dims),) * len(features), {"channels", "strides"}


def _dynunet(arguments: Arguments, dims: int) -> Stages:
    strides = tuple(axes(each, dims) for each in arguments["strides"])
    kernels = tuple(axes(each, dims) for each in arguments["kernel_size"])
    widths = arguments["filters"] or [min(2 ** (5 + stage), 320 if dims == 3 else 512) for stage in range(len(strides))]
    return tuple(map(int, widths)), strides, kernels, {"strides", "kernel_size", "filters", "deep_supr_num", "deep_supervision"}


def _halving(stages: int, first: int, dims: int) -> Stages:
    """Stages of a network that halves every axis at each."""
    features = tuple(first * 2**stage for stage in range(stages))
    strides = ((1,) * dims, *((2,) * dims,) * (stages - 1))
    return features, strides, ((3,) * dims,) * stages, set()


def _segresnet(arguments: Arguments, dims: int) -> Stages:
    return _halving(len(arguments["blocks_down"]), int(arguments["init_filters"]), dims)


def _basic_unet(arguments: Arguments, dims: int) -> Stages:
    return _halving(5, int(arguments["features"][0]), dims)


def _swinunetr(arguments: Arguments, dims: int) -> Stages:
    features, strides, kernels, _ = _halving(5, int(arguments["feature_size"]), dims)
    return (features[0], *features), (strides[0], *strides[1:], (2,) * dims), (*kernels, (3,) * dims), {"feature_size"}


NETWORKS: dict[str, Callable[[Arguments, int], Stages]] = {
    "UNet": _unet, "DynUNet": _dynunet, "SegResNet": _segresnet, "BasicUNet": _basic_unet, "SwinUNETR": _swinunetr,
}  # fmt: skip
"""Networks of MONAI that a bundle may name -> their stages."""

OWN_NAMES = {"UNet": "unet", "DynUNet": "dynunet", "SwinUNETR": "swinunetr"}
"""Those that `voxelry.core.architectures` lists; the others are named by their place in MONAI."""
