"""The base of every pydantic word, and the one place where a validation error becomes a message with a remedy."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from voxelry.errors import ConfigError, UsageError, nearest


class Frozen(BaseModel):
    """A frozen mapping of named fields in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Word = TypeVar("Word", bound=Frozen)


def parse(kind: type[Word], value: Any, where: str, error: type[UsageError] = ConfigError) -> Word:
    """Validate a plain mapping as a word.

    Args:
        kind: the word's class.
        value: plain data, as YAML or JSON give it.
        where: the file the data came from, for the message.
        error: the class to raise.

    Returns:
        The frozen word.

    Raises:
        UsageError: (as `error`) naming `where`, every wrong key with the value seen, and the nearest right key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as failure:
        lines = [_explain(kind, item) for item in failure.errors()]
        raise error(f"{where}: " + "; ".join(lines)) from None


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        owner = _owner(kind, item["loc"][:-1])
        hint = nearest(str(item["loc"][-1]), owner.model_fields) if owner is not None else ""
        return f"unknown key '{path}'. {hint}".strip()
    if item["type"] == "missing":
        return f"key '{path}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict | BaseModel):
        return f"{path}: {message}" if path else message
    seen = repr(item["input"])
    seen = seen if len(seen) <= 80 else f"{seen[:76]} ..."
    return f"key '{path}' is {seen}: {message}" if path else f"{seen}: {message}"


def _owner(kind: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model class that holds the keys at `path` below `kind`."""
    owner: type[BaseModel] = kind
    for part in path:
        if not isinstance(part, str) or part not in owner.model_fields:
            continue
        inner = _models_in(owner.model_fields[part].annotation)
        if not inner:
            return None
        owner = inner[0]
    return owner


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
