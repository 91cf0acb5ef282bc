"""Searches text by a regular expression of the user, within a time limit.

A pattern such as ``(a+)+$`` takes years on forty letters, and nothing can stop the `re` module from within the process. Patterns
that may be slow run in a child process, which is ended when its time is over.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
from functools import cache
from typing import Any

from voxelry.errors import ConfigError

SECONDS = 5.0
"""The longest search."""

_QUICK_STEPS = 1_000_000
_CHILD = """
import json, re, sys
for line in sys.stdin:
    pattern, text = json.loads(line)
    match = re.search(pattern, text)
    print(json.dumps(match and [match[0], *match.groups()]), flush=True)
"""


def search_groups(pattern: str, text: str) -> tuple[str | None, ...] | None:
    """Search a text.

    Args:
        pattern: a valid regular expression.
        text: where to search.

    Returns:
        The match and its groups; None where there is no match.

    Raises:
        ConfigError: the search takes longer than `SECONDS`.
    """
    if len(text) ** (1 + _repeats(pattern)) <= _QUICK_STEPS:
        match = re.search(pattern, text)
        return None if match is None else (match[0], *match.groups())
    child = _child()
    assert child.stdin is not None
    assert child.stdout is not None
    timer = threading.Timer(SECONDS, child.kill)
    timer.start()
    try:
        child.stdin.write(json.dumps([pattern, text]) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    except OSError:
        answer = ""
    finally:
        timer.cancel()
    if not answer:
        _end(child)
        _child.cache_clear()
        raise ConfigError(
            f"the pattern '{pattern}' takes more than {SECONDS:g} s on '{text}'", remedy="Write it without repeats of repeats."
        )
    groups = json.loads(answer)
    return None if groups is None else tuple(groups)


@cache
def _child() -> subprocess.Popen[str]:
    """The process that searches; it lives as long as this one."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    atexit.register(_end, child)
    return child


def _end(child: subprocess.Popen[str]) -> None:
    atexit.unregister(_end)
    child.kill()
    child.communicate()


@cache
def _repeats(pattern: str) -> int:
    """Repeats of variable length, each of which may take as many steps as the text has characters; 1000 where they are nested."""
    try:
        from re import _parser  # type: ignore[attr-defined]

        return _count(_parser.parse(pattern), nested=False)
    except (ImportError, AttributeError, TypeError):
        return 1000


def _count(tree: Any, nested: bool) -> int:
    total = 0
    for operator, argument in tree:
        name = str(operator)
        if nested and name in ("BRANCH", "GROUPREF"):
            return 1000
        inner = nested
        if name.endswith("REPEAT"):
            varies = argument[0] != argument[1]
            if varies and nested:
                return 1000
            total, inner = total + varies, argument[1] > 1
        total += sum(_count(pattern, inner) for pattern in _subpatterns(argument))
    return total


def _subpatterns(argument: Any) -> list[Any]:
    """The patterns within an operator's argument."""
    if type(argument).__name__ == "SubPattern":
        return [argument]
    return [pattern for item in argument for pattern in _subpatterns(item)] if isinstance(argument, list | tuple) else []
