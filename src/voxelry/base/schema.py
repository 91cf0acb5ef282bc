"""Frozen, the base of every pydantic type here, and `parse`, which turns validation errors into our words, with a remedy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from voxelry.base.expectations import either, expectation
from voxelry.errors import ConfigError, UsageError, nearest

_LONGEST_LINE = 1000
"""Characters that say what is wrong with a key."""

_MOST_LINES = 20
"""Wrong keys that a message lists."""

_ALTERNATIVES = 2
"""Keys of a mapping that takes one of them."""

_LONGEST = 80
"""Characters of a wrong value that a message shows."""

_Key = str | int
_Path = tuple[_Key, ...]


class Frozen(BaseModel):
    """A frozen mapping of named fields in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


Schema = TypeVar("Schema", bound=Frozen)


def parse(
    kind: type[Schema],
    value: Any,
    where: str,
    error: type[UsageError] = ConfigError,
    given: Mapping[str, str] | None = None,
) -> Schema:
    """Validate a plain mapping as a frozen type.

    Args:
        kind: the class.
        value: plain data, as YAML or JSON give it.
        where: the file that the data came from, for the message.
        error: the class to raise.
        given: keys, with dots, that came from elsewhere, such as an option of the command line, and the words for their origin.

    Returns:
        The frozen object.

    Raises:
        UsageError: (as `error`) naming `where`, every wrong key with the value seen, and the nearest right key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as failure:
        lines = _lines(kind, failure, where, given or {})
        raise error("; ".join(f"{origin}: {_first(texts)}" for origin, texts in lines.items())) from None


def parse_known(kind: type[Schema], value: Any, where: str) -> tuple[Schema, list[str]]:
    """As `parse`, for data that a later version may have written: keys that are not known are left out.

    Args:
        kind: the class.
        value: plain data, as YAML or JSON give it.
        where: the file that the data came from, for the message.

    Returns:
        The frozen object, and the keys left out, with dots.

    Raises:
        ConfigError: as `parse`, of anything but an unknown key.
    """
    kept, ignored = copy.deepcopy(value), list[str]()
    while True:
        try:
            return kind.model_validate(kept), ignored
        except ValidationError as failure:
            extra = [_path(kind, item) for item in failure.errors() if item["type"] == "extra_forbidden"]
            unknown = list(dict.fromkeys(path for path in extra if path[-1] not in _keys(kind, path[:-1])))
        if not unknown:
            parse(kind, kept, where)  # raises what else is wrong
        for path in unknown:
            holder = kept
            for key in path[:-1]:
                holder = holder[key]
            del holder[path[-1]]
        ignored += map(_dotted, unknown)


def _first(texts: list[str]) -> str:
    """The first of the texts, and how many more there are."""
    more = len(texts) - _MOST_LINES
    return "; ".join([*texts[:_MOST_LINES], *([f"and {more} more"] if more > 0 else [])])


def reasons(failure: ValidationError) -> str:
    """The reasons of a validation error in our words, without keys.

    Args:
        failure: raised by the validation of a `Frozen` type.
    """
    return "; ".join(dict.fromkeys(expectation(item, ()) for item in failure.errors()))


def _lines(kind: type[BaseModel], failure: ValidationError, where: str, given: Mapping[str, str]) -> dict[str, list[str]]:
    """What is wrong, by where it came from."""
    by_path: dict[_Path, list[Any]] = {}
    for item in failure.errors():
        by_path.setdefault(_path(kind, item), []).append(item)
    lines: dict[str, list[str]] = {}
    for path, items in _without_other_branches(by_path).items():
        lines.setdefault(_origin(path, where, given), []).append(_cut(_explain(kind, path, items), _LONGEST_LINE))
    return lines


def _origin(path: _Path, where: str, given: Mapping[str, str]) -> str:
    """The words for where the value at a path came from; what concerns several keys came from all of them."""
    if not path and given:
        return f"{where} with {', '.join(dict.fromkeys(given.values()))}"
    dotted = _dotted(path)
    return next((origin for key, origin in given.items() if f"{dotted}.".startswith(f"{key}.")), where)


def _explain(kind: type[BaseModel], path: _Path, items: list[Any]) -> str:
    item, key = items[0], _dotted(path)
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'. {nearest(str(path[-1]), _keys(kind, path[:-1]))}"
    if item["type"] == "missing":
        return f"key '{key}' is missing" if isinstance(path[-1], str) else f"key '{_dotted(path[:-1])}' has too few entries"
    expected = either(dict.fromkeys(expectation(each, _keys_needed(kind, path)) for each in items))
    if item["type"] == "value_error" and isinstance(item["input"], dict | BaseModel):
        return f"{key}: {expected}" if key else expected
    value = _cut(repr(str(item["input"]) if isinstance(item["input"], date) else item["input"]), _LONGEST)
    return f"key '{key}' is {value}: {expected}" if key else f"{value}: {expected}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."


def _dotted(path: _Path) -> str:
    return ".".join(map(str, path))


def _without_other_branches(by_path: dict[_Path, list[Any]]) -> dict[_Path, list[Any]]:
    """Errors without those that follow from others.

    Of a union these are the branches that the value was not meant for, since it is of another kind; and a list is too short where
    its wrong entries do not count.
    """
    kept = {}
    for path, items in by_path.items():
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in by_path)
        fitting = [item for item in items if not item["type"].endswith("_type") and not (deeper and item["type"] == "too_short")]
        if fitting or not deeper:
            kept[path] = fitting or items
    return kept


def _path(kind: type[BaseModel], item: Any) -> _Path:
    """The keys that lead to a wrong value, without the names that pydantic gives to the branches of a union."""
    keys: list[_Key] = []
    annotations: list[Any] = [kind]
    for key in item["loc"]:
        inner = [annotation for outer in annotations for annotation in _inside(outer, key)]
        if inner or (key == item["loc"][-1] and item["type"] == "extra_forbidden"):
            keys.append(key)
            annotations = inner
    return tuple(keys)


def _inside(annotation: Any, key: _Key) -> list[Any]:
    """The types of the value at a key of a value of some type; empty where the type has no such key."""
    inner: list[Any] = []
    for option in _options(annotation):
        origin = get_origin(option) or option
        if isinstance(option, type) and issubclass(option, BaseModel):
            inner += [option.model_fields[str(key)].annotation] if key in option.model_fields else []
        elif isinstance(key, int) and origin in (tuple, list):
            inner += [argument for argument in get_args(option) if argument is not ...]
        elif isinstance(key, str) and origin is dict:
            inner += get_args(option)[1:] or [Any]
    return inner


def _options(annotation: Any) -> list[Any]:
    """The types that a union stands for, or the type itself."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for argument in get_args(annotation) for option in _options(argument)]
    return [annotation]


def _models_at(kind: type[BaseModel], path: _Path) -> list[type[BaseModel]]:
    """The classes of the mapping at a path below `kind`."""
    annotations: list[Any] = [kind]
    for key in path:
        annotations = [annotation for outer in annotations for annotation in _inside(outer, key)]
    options = [option for annotation in annotations for option in _options(annotation)]
    items = [inner for option in options for inner in ([option] if not get_args(option) else get_args(option))]
    return [item for item in items if isinstance(item, type) and issubclass(item, BaseModel)]


def _keys(kind: type[BaseModel], path: _Path) -> list[str]:
    return [key for model in _models_at(kind, path) for key in model.model_fields]


def _keys_needed(kind: type[BaseModel], path: _Path) -> tuple[str, ...]:
    """The keys that a mapping at a path must have, or the first that it may have; of settings, which have many, none."""
    fields = {key: field for model in _models_at(kind, path)[:1] for key, field in model.model_fields.items()}
    needed = tuple(key for key, field in fields.items() if field.is_required())
    return needed or tuple(fields)[: len(fields) == _ALTERNATIVES]
