"""Frozen, the base of every pydantic type here, and `parse`, which turns validation errors into messages with a remedy."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from voxelry.errors import ConfigError, UsageError, nearest


class Frozen(BaseModel):
    """A frozen mapping of named fields in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Schema = TypeVar("Schema", bound=Frozen)


def parse(kind: type[Schema], value: Any, where: str, error: type[UsageError] = ConfigError) -> Schema:
    """Validate a plain mapping as a frozen type.

    Args:
        kind: the class.
        value: plain data, as YAML or JSON give it.
        where: the file that the data came from, for the message.
        error: the class to raise.

    Returns:
        The frozen object.

    Raises:
        UsageError: (as `error`) naming `where`, every wrong key with the value seen, and the nearest right key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as failure:
        lines = [_explain(kind, item) for item in failure.errors()]
        raise error(f"{where}: " + "; ".join(lines)) from None


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = ".".join(str(key) for key in item["loc"])
    if item["type"] == "extra_forbidden":
        owner = _owner(kind, item["loc"][:-1])
        hint = nearest(str(item["loc"][-1]), owner.model_fields) if owner is not None else ""
        return f"unknown key '{path}'. {hint}".strip()
    if item["type"] == "missing":
        return f"key '{path}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict | BaseModel):
        return f"{path}: {message}" if path else message
    value = repr(item["input"])
    value = value if len(value) <= 80 else f"{value[:76]} ..."
    return f"key '{path}' is {value}: {message}" if path else f"{value}: {message}"


def _owner(kind: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model class that has the keys at `path` below `kind`."""
    owner: type[BaseModel] = kind
    for key in path:
        if not isinstance(key, str) or key not in owner.model_fields:
            continue
        inner = _models_in(owner.model_fields[key].annotation)
        if not inner:
            return None
        owner = inner[0]
    return owner


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
