"""Former names of recipe keys and values: they still load, with a warning that gives the new name."""

from __future__ import annotations

import logging
from typing import Any

from voxelry.errors import ConfigError

log = logging.getLogger(__name__)

_PROBABILITIES = (
    "elastic", "noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma", "histogram", "invert",
    "collimator", "bias_field", "ghosting", "motion", "spike", "flip",
)  # fmt: skip

RENAMED_KEYS: dict[str, tuple[str, ...]] = {
    "foreground": ("oversample_foreground",),
    **{f"augment.{kind}": (f"augment.{kind}_p",) for kind in _PROBABILITIES},
    "augment.factor": ("augment.brightness_factor", "augment.contrast_factor"),
    "augment.per_channel": ("augment.blur_per_channel", "augment.low_resolution_per_channel"),
}
"""Former key -> the keys that take its value; from the recipe's root with dots, in the same group."""

RENAMED_VALUES: dict[str, dict[str, str]] = {"augment.set": {"recipe": "nnunet"}}
"""Key, from the recipe's root with dots -> former value -> value."""


def current_tree(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe's tree with the new names of all former keys and values, and one warning that lists them.

    Args:
        tree: as YAML gives it; it is not changed.
        where: the file it came from, for messages.

    Raises:
        ConfigError: both the former and the new name of a key are given.
    """
    changes: list[str] = []
    result = _current(tree, "", where, changes)
    if changes:
        log.warning("%s: former names, which still load: %s", where, "; ".join(changes))
    return result


def _current(tree: dict[str, Any], prefix: str, where: str, changes: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        former = f"{prefix}{key}"
        paths = RENAMED_KEYS.get(former, (former,))
        if paths != (former,):
            changes.append(f"'{former}' is now {' and '.join(repr(path) for path in paths)}")
        for path in paths:
            name = path.removeprefix(prefix)
            if name != key and name in tree:
                raise ConfigError(f"{where}: '{former}' is a former name of '{path}'", remedy=f"Leave '{former}' out.")
            result[name] = _current_value(path, value, where, changes)
    return result


def _current_value(path: str, value: Any, where: str, changes: list[str]) -> Any:
    if isinstance(value, dict):
        return _current(value, f"{path}.", where, changes)
    if not isinstance(value, str):
        return value
    name = RENAMED_VALUES.get(path, {}).get(value, value)
    if name != value:
        changes.append(f"'{path}: {value}' is now '{path}: {name}'")
    return name
