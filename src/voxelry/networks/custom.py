"""Networks of the user's own by import path: any class or function, called with the arguments that it takes.

No base class is needed: ``package.module:Class`` is called with the arguments that its signature names among `spatial_dims`,
`in_channels`, `out_channels` (or `num_classes`), `img_size` and `deep_supervision`; with `features`, `strides`, `kernels` and
`blocks` where they are required; and with the plan's `options`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from voxelry.core.architectures import is_import_path
from voxelry.errors import ConfigError, ModelError, nearest
from voxelry.networks.network_spec import NetworkSpec, call_builder, check_options, one_line, takes_any_keyword
from voxelry.networks.shape_inference import infer_shapes


def custom_network(spec: NetworkSpec) -> nn.Module:
    """The network that an import path names.

    Raises:
        ConfigError: it cannot be imported or built.
    """
    builder = _import_builder(spec.name)
    check_options(builder, spec)
    arguments = _arguments(builder, spec) | dict(spec.options)
    parameters = inspect.signature(builder).parameters
    missing = [name for name, parameter in parameters.items() if _is_required(parameter) and name not in arguments]
    if missing:
        raise ConfigError(
            f"network '{spec.name}' requires {', '.join(missing)}", remedy="Give these arguments in the network's options."
        )
    return call_builder(builder, spec.name, arguments)


def check_shapes(network: nn.Module, name: str, image: Sequence[int], classes: int) -> None:
    """Refuse a network whose logits do not fit its patches, before anything is trained.

    Args:
        network: ``(B, C, *patch)`` -> list of logits.
        name: its import path.
        image: ``(C, *patch)``.
        classes: K.

    Raises:
        ConfigError: the pass fails, or a head has another number of classes, of axes, or is larger than the patch.
    """
    try:
        heads = infer_shapes(network, (2, *image)).heads
    except ConfigError as error:
        raise ConfigError(f"network '{name}': {error.problem}", remedy=error.remedy) from error
    except Exception as error:
        raise ConfigError(
            f"network '{name}' cannot take patches of shape {(2, *image)} ({type(error).__name__}: {one_line(error)})",
            remedy="Change plan.patch_size or the network's options.",
        ) from error
    patch = tuple(image[1:])
    for number, head in enumerate(heads):
        fits = len(head) == len(patch) + 2 and head[:2] == (2, classes)
        smaller = all(edge <= whole for edge, whole in zip(head[2:], patch, strict=False))
        if not fits or not smaller or (number == 0 and head[2:] != patch):
            raise ConfigError(
                f"network '{name}' gives logits of shape {head} as head {number} of {len(heads)} "
                f"for patches of shape {(2, *image)} and {classes} classes",
                remedy=f"The first must be of shape {(2, classes, *patch)}, those after it the same or coarser.",
            )


MONAIS = frozenset({"monai.networks.nets:SegResNet", "monai.networks.nets:BasicUNet"})
"""Networks of MONAI that imported bundles have: voxelry needs MONAI anyway, so nobody has to trust them."""


def check_trusted(name: str, trusted: str | None, where: str | Path) -> None:
    """Refuse a stored model that would run code of its choice; the user has to name the code.

    Args:
        name: name of the network, as the model's plan says.
        trusted: the import path that the user named, None if none.
        where: the model's folder.

    Raises:
        ModelError: the plan names an import path, and the user another or none.
    """
    if is_import_path(name) and name not in MONAIS and name != trusted:
        named = "" if trusted is None else f", not '{trusted}'"
        raise ModelError(
            f"{where}: the network is '{name}'{named}, which is code outside voxelry and runs when it is loaded",
            remedy=f"If you trust that code, name it: network='{name}' in Python, --network {name} on the command line.",
        )


def _import_builder(path: str) -> Callable[..., Any]:
    package, _, attribute = path.partition(":")
    try:
        with nullcontext() if path in MONAIS else _working_folder():
            module = importlib.import_module(package)
    except Exception as error:
        raise ConfigError(
            f"network '{path}': '{package}' cannot be imported ({type(error).__name__}: {error})",
            remedy="Install its package, add its folder to PYTHONPATH, or run in its folder.",
        ) from error
    builder = getattr(module, attribute, None)
    if not callable(builder):
        names = [name for name, member in vars(module).items() if inspect.isclass(member) and issubclass(member, nn.Module)]
        raise ConfigError(
            f"network '{path}': '{package}' has no '{attribute}'", remedy=nearest(attribute, names) if names else ""
        )
    return builder  # type: ignore[no-any-return]


@contextmanager
def _working_folder() -> Iterator[None]:
    """Modules in the working folder can be imported, after all others."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _arguments(builder: Callable[..., Any], spec: NetworkSpec) -> dict[str, Any]:
    known = {
        "spatial_dims": spec.spatial_dims,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "num_classes": spec.out_channels,
        "img_size": spec.patch_size,
        "deep_supervision": spec.coarser_heads > 0,
    }
    numbers = {"features": spec.features, "strides": spec.strides, "kernels": spec.kernels, "blocks": spec.blocks}
    parameters = inspect.signature(builder).parameters
    if takes_any_keyword(builder) and not parameters.keys() & {"out_channels", "num_classes"}:
        return {key: known[key] for key in ("spatial_dims", "in_channels", "out_channels")}
    arguments = {key: value for key, value in known.items() if key in parameters}
    return arguments | {key: value for key, value in numbers.items() if key in parameters and _is_required(parameters[key])}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
