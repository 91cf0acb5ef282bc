"""Former names of recipe keys and values: they still load, with a warning that says the new name."""

from __future__ import annotations

import logging
from typing import Any

from voxelry.errors import ConfigError

log = logging.getLogger(__name__)

RENAMED_KEYS: dict[str, str] = {"foreground": "oversample_foreground"}
"""Former key -> key, both from the recipe's root with dots, in the same group."""

RENAMED_VALUES: dict[str, dict[str, str]] = {}
"""Key (by its name today, with dots) -> former value -> value."""


def current_key(key: str, where: str) -> str:
    """Today's name of a key; a warning is logged where it is another.

    Args:
        key: from the recipe's root, with dots.
        where: where the key is written, for the warning.
    """
    name = RENAMED_KEYS.get(key, key)
    if name != key:
        log.warning("%s: the key '%s' is now called '%s'", where, key, name)
    return name


def current_tree(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe's tree with every former key and value under its name of today; a warning is logged for each.

    Args:
        tree: as YAML gives it; it is not changed.
        where: the file it came from, for the warnings.

    Raises:
        ConfigError: a key is given by both of its names.
    """
    return _current(tree, "", where)


def _current(tree: dict[str, Any], prefix: str, where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        path = current_key(f"{prefix}{key}", where)
        name = path.removeprefix(prefix)
        if name != key and name in tree:
            raise ConfigError(f"{where}: '{prefix}{key}' and '{path}' are one key", remedy=f"Leave '{prefix}{key}' out.")
        result[name] = _current(value, f"{path}.", where) if isinstance(value, dict) else _current_value(path, value, where)
    return result


def _current_value(path: str, value: Any, where: str) -> Any:
    name = RENAMED_VALUES.get(path, {}).get(value, value) if isinstance(value, str) else value
    if name != value:
        log.warning("%s: '%s: %s' is now written '%s: %s'", where, path, value, path, name)
    return name
