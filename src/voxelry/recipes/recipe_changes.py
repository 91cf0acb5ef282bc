"""What differs between two recipes, or two plans, key by key with both values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """The keys of two trees that differ, each with both values.

    Args:
        before: plain data.
        now: plain data of the same kind.
        ignored: keys at the top that may differ.

    Returns:
        Such as ``optimiser.learning_rate: 0.01, now 0.1``; a key without a value is ``not set``.

    Example:
        >>> differences({"seed": 0, "plan": {"batch_size": 2}}, {"seed": 0, "plan": {"batch_size": 4}})
        ['plan.batch_size: 2, now 4']
    """
    old, new = (_leaves({key: tree[key] for key in tree if key not in ignored}) for tree in (before, now))
    return [
        f"{key}: {_text(old.get(key))}, now {_text(new.get(key))}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{above}{name}.") if isinstance(value, Mapping) and value else {above + name: value}
    return {name: value for name, value in leaves.items() if value not in ({}, [], ())}


def _text(value: Any) -> str:
    return "not set" if value is None else json.dumps(value) if not isinstance(value, str) else value
