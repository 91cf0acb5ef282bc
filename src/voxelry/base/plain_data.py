"""Parses YAML and JSON into plain values, and refuses texts that are made to take all time or memory.

A key given twice is refused, not overwritten. Nesting is limited, since parsers and checks recurse; so is what a few lines of
YAML may stand for by aliases of aliases.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

DEEPEST = 64
"""Most levels of lists and mappings within each other; cards and recipes have five."""

ALIAS_GROWTH = 100
"""By this factor aliases may make a YAML tree larger than its text, and by `ALIAS_NODES` anyway."""

ALIAS_NODES = 10_000


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, by the safe loader.

    Raises:
        ValueError: it is not YAML, a key is given twice, it is nested beyond `DEEPEST`, or aliases make it too large.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(_place_and_hint(error, text)) from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (AttributeError, TypeError, LookupError) as error:  # the loader's own, of tags on the wrong kind of value
        raise ValueError(f"{type(error).__name__}: {error}") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, a key is given twice, or it is nested beyond `DEEPEST`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check(value, DEEPEST)
    return value


def _place_and_hint(error: yaml.YAMLError, text: str) -> str:
    """Where a YAML text is wrong and why, with what helps in the two common cases: braces without quotes, and tabs."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return str(error)
    line = next(iter(text.splitlines()[mark.line : mark.line + 1]), "")
    hint = "; indent by spaces, not by tabs" if "\t" in line else ""
    hint = "; write text with braces in quotes, as 'images/{id}.nii.gz'" if "{" in line and not hint else hint
    return f"{getattr(error, 'problem', '') or error} in line {mark.line + 1}, column {mark.column + 1}{hint}"


_TOO_DEEP = f"lists and mappings within each other on more than {DEEPEST} levels"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose keys occurs once."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' occurs twice")
    return value


def _check(value: Any, levels: int) -> None:
    """Refuse what is nested beyond so many levels, and text that no file can hold."""
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair: a UnicodeEncodeError is a ValueError
    elif isinstance(value, dict | list):
        if not levels:
            raise ValueError(_TOO_DEEP)
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _check(item, levels - 1)


class _Loader(yaml.SafeLoader):
    """The safe loader that refuses a key given twice, and trees too deep or too large by their aliases."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as pyyaml composes it, its keys checked."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in keys:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' occurs twice", problem_mark=key.start_mark)
            keys.add(str(key.value) if isinstance(key.value, str) else "")
        return node

    def get_single_node(self) -> Any:
        """The root of the tree, once it is known to be of a reasonable size."""
        node = super().get_single_node()
        sizes: dict[int, int] = {}
        if node is not None and _nodes(node, sizes, DEEPEST) > ALIAS_NODES + ALIAS_GROWTH * len(sizes):
            raise yaml.MarkedYAMLError(problem="aliases of aliases stand for too many values", problem_mark=node.start_mark)
        return node


def _nodes(node: Any, sizes: dict[int, int], levels: int) -> int:
    """Nodes below and including one, those of aliases counted wherever they stand.

    Args:
        node: of a YAML tree.
        sizes: gets the result of each node; 0 while it is being counted.
        levels: how deep the tree may go on.
    """
    known = sizes.get(id(node))
    if known == 0:
        raise yaml.MarkedYAMLError(problem="an alias stands for what holds it", problem_mark=node.start_mark)
    if levels < 0:
        raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=node.start_mark)
    if known is None:
        sizes[id(node)] = 0
        if isinstance(node, yaml.ScalarNode):
            _check(node.value, 0)
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        below = [child for item in inner for child in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(_nodes(child, sizes, levels - 1) for child in below)
    return sizes[id(node)]
