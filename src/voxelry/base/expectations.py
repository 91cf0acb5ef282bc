"""Our words for what pydantic expects: one phrase for each of its kinds of error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

_EXPECTED = " is expected"
_WHOLE, _NUMBER, _SWITCH = "a whole number is expected", "a number is expected", "true or false is expected"
_DATE = "a date is expected, as 2026-01-31"

_PHRASES: dict[str, str] = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "a smaller number is expected",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number is expected",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "greater_than": "a number above {gt} is expected",
    "greater_than_equal": "a number of at least {ge} is expected",
    "less_than": "a number below {lt} is expected",
    "less_than_equal": "a number of at most {le} is expected",
    "path_type": "the path of a file is expected",
    "literal_error": "{expected} is expected",
    "dict_type": "a mapping is expected, such as {{key: value}}",
    "too_short": "a list of at least {min_length} is expected",
    "too_long": "a list of at most {max_length} is expected",
    "string_too_short": "a text of at least {min_length} characters is expected",
    "string_too_long": "a text of at most {max_length} characters is expected",
    "invalid_key": "keys must be text; write this one in quotes",
    "none_required": "nothing is expected here",
    "string_pattern_mismatch": "it is not of the form {pattern}",
}
"""Kind of error -> phrase; the names in braces are pydantic's."""


def expectation(item: Any, keys: Sequence[str]) -> str:
    """What is expected in the place of a wrong value, with the remedy where there is a plain one.

    Args:
        item: one error of pydantic's `ValidationError.errors`.
        keys: keys that a mapping in this place needs, or that the mappings of a list need.

    Example:
        >>> expectation({"type": "string_type", "input": 7}, ())
        "a text is expected; write it in quotes, as '7'"
    """
    kind = item["type"]
    if kind in ("value_error", "assertion_error"):
        return str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _DETAILED:
        return _DETAILED[kind](item["input"], keys)
    phrase = _PHRASES.get(kind)
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()}
    return phrase.format(**limits) if phrase else "a value of another kind is expected"


def either(phrases: Iterable[str]) -> str:
    """Several expectations of which one would do.

    Example:
        >>> either(["a whole number is expected", "a text is expected"])
        'a whole number or a text is expected'
    """
    *others, last = phrases
    return " or ".join([*(phrase.partition(_EXPECTED)[0] for phrase in others), last])


def _text(value: Any, _: Sequence[str]) -> str:
    if isinstance(value, bool):
        return "a text is expected; write it in quotes (YAML takes yes, no, on and off for true and false)"
    if value is None or isinstance(value, dict | list | tuple):
        return "a text is expected"
    return f"a text is expected; write it in quotes, as '{value}'"


def _list(value: Any, keys: Sequence[str]) -> str:
    if keys:
        return f"a list is expected, such as [{_sample(keys)}]"
    if isinstance(value, str | int | float):
        return f"a list is expected; write it in brackets, as [{value}]"
    return "a list is expected, such as [first, second]"


def _mapping(_: Any, keys: Sequence[str]) -> str:
    return f"a mapping is expected, such as {_sample(keys)}" if keys else "a mapping of keys to values is expected"


def _sample(keys: Sequence[str]) -> str:
    return "{" + ", ".join(f"{key}: ..." for key in keys) + "}"


_DETAILED: dict[str, Callable[[Any, Sequence[str]], str]] = {
    "string_type": _text,
    "tuple_type": _list,
    "list_type": _list,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
}
"""Kinds of error whose remedy depends on the value seen."""
