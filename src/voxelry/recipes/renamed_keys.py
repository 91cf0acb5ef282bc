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


def current_keys(key: str, where: str) -> tuple[str, ...]:
    """The keys that take the value of a key: itself, or the new names of a former key, with a warning.

    Args:
        key: from the recipe's root, with dots.
        where: where the key is written, for the warning.
    """
    keys = RENAMED_KEYS.get(key, (key,))
    if keys != (key,):
        log.warning("%s: the key '%s' is now called %s", where, key, _quoted(keys))
    return keys


def current_tree(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe's tree with the new names of all former keys and values; a warning is logged for each.

    Args:
        tree: as YAML gives it; it is not changed.
        where: the file it came from, for the warnings.

    Raises:
        ConfigError: both the former and the new name of a key are given.
    """
    return _current(tree, "", where)


def _current(tree: dict[str, Any], prefix: str, where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        paths = current_keys(f"{prefix}{key}", where)
        for path in paths:
            name = path.removeprefix(prefix)
            if name != key and name in tree:
                raise ConfigError(f"{where}: '{prefix}{key}' is a former name of '{path}'", remedy=f"Leave '{prefix}{key}' out.")
            inner = _current(value, f"{path}.", where) if isinstance(value, dict) else _current_value(path, value, where)
            result[name] = inner
    return result


def _current_value(path: str, value: Any, where: str) -> Any:
    name = RENAMED_VALUES.get(path, {}).get(value, value) if isinstance(value, str) else value
    if name != value:
        log.warning("%s: the value '%s' of '%s' is now called '%s'", where, value, path, name)
    return name


def _quoted(keys: tuple[str, ...]) -> str:
    return " and ".join(f"'{key}'" for key in keys)
