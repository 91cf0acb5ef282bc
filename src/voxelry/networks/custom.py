"""A network of the user's own, by import path: any class or function, given the arguments that it takes.

Nothing is subclassed: ``package.module:Class`` is called with what its signature names among `spatial_dims`, `in_channels`,
`out_channels` (or `num_classes`), `img_size` and `deep_supervision`; with `features`, `strides`, `kernels` and `blocks`
where it demands them; and with the plan's `options`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from voxelry.core.architectures import is_import_path
from voxelry.errors import ConfigError, ModelError, nearest
from voxelry.networks.network_spec import Order, called, check_options, one_line, takes_any
from voxelry.networks.shape_inference import dry_pass


def custom_network(order: Order) -> nn.Module:
    """The network that an import path names.

    Raises:
        ConfigError: it cannot be imported or built.
    """
    maker = _imported(order.name)
    check_options(maker, order)
    given = _arguments(maker, order) | dict(order.options)
    missing = [name for name, one in inspect.signature(maker).parameters.items() if _demanded(one) and name not in given]
    if missing:
        raise ConfigError(
            f"network '{order.name}' demands {', '.join(missing)}", remedy="Give what it demands in the network's options."
        )
    return called(maker, order, given)


def check_shapes(network: nn.Module, name: str, image: Sequence[int], classes: int) -> None:
    """Refuse a network whose logits are not those of its windows, before anything is trained.

    Args:
        network: ``(B, C, *window)`` -> list of logits.
        name: its import path.
        image: ``(C, *window)``.
        classes: K.

    Raises:
        ConfigError: the pass fails, or a head has another number of classes, of axes, or is larger than the window.
    """
    try:
        heads = dry_pass(network, (2, *image)).heads
    except ConfigError as error:
        raise ConfigError(f"network '{name}': {error.problem}", remedy=error.remedy) from error
    except Exception as error:
        raise ConfigError(
            f"network '{name}' cannot take windows of shape {(2, *image)} ({type(error).__name__}: {one_line(error)})",
            remedy="Change plan.patch_size or the network's options.",
        ) from error
    window = tuple(image[1:])
    for number, head in enumerate(heads):
        right = len(head) == len(window) + 2 and head[:2] == (2, classes)
        smaller = all(edge <= whole for edge, whole in zip(head[2:], window, strict=False))
        if not right or not smaller or (number == 0 and head[2:] != window):
            raise ConfigError(
                f"network '{name}' gives logits of shape {head} as head {number} of {len(heads)} "
                f"for windows of shape {(2, *image)} and {classes} classes",
                remedy=f"The first are to be of shape {(2, classes, *window)}, those after it the same or coarser.",
            )


def check_trusted(name: str, trusted: str | None, where: str | Path) -> None:
    """Refuse a stored model that would run code of its choice; the user has to name the code.

    Args:
        name: of the network, as the model's plan says.
        trusted: the import path that the user named, None if none.
        where: the model's folder.

    Raises:
        ModelError: the plan names an import path, and the user another or none.
    """
    if is_import_path(name) and name != trusted:
        named = "" if trusted is None else f", not '{trusted}'"
        raise ModelError(
            f"{where}: the network is '{name}'{named}, which is code outside voxelry and runs when it is loaded",
            remedy=f"If you trust that code, name it: network='{name}' in Python, --network {name} on the command line.",
        )


def _imported(path: str) -> Callable[..., Any]:
    package, _, attribute = path.partition(":")
    try:
        with _working_folder():
            module = importlib.import_module(package)
    except Exception as error:
        raise ConfigError(
            f"network '{path}': '{package}' cannot be imported ({type(error).__name__}: {error})",
            remedy="Install its package, add its folder to PYTHONPATH, or run in its folder.",
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [name for name, one in vars(module).items() if inspect.isclass(one) and issubclass(one, nn.Module)]
        raise ConfigError(
            f"network '{path}': '{package}' has no '{attribute}'", remedy=nearest(attribute, names) if names else ""
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def _working_folder() -> Iterator[None]:
    """Modules in the working folder are found, after all others."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _arguments(maker: Callable[..., Any], order: Order) -> dict[str, Any]:
    known = {
        "spatial_dims": order.dims,
        "in_channels": order.channels,
        "out_channels": order.outputs,
        "num_classes": order.outputs,
        "img_size": order.window,
        "deep_supervision": order.coarser > 0,
    }
    numbers = {"features": order.features, "strides": order.strides, "kernels": order.kernels, "blocks": order.blocks}
    takes = inspect.signature(maker).parameters
    if takes_any(maker) and not takes.keys() & {"out_channels", "num_classes"}:
        return {key: known[key] for key in ("spatial_dims", "in_channels", "out_channels")}
    given = {key: value for key, value in known.items() if key in takes}
    return given | {key: value for key, value in numbers.items() if key in takes and _demanded(takes[key])}


def _demanded(one: inspect.Parameter) -> bool:
    return one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
