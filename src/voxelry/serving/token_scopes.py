"""Scopes of bearer tokens, and which of them a request needs."""

from __future__ import annotations

from typing import Literal

Scope = Literal["segment", "results", "metrics"]
"""``segment`` sends scans and deletes jobs, ``results`` reads jobs, ``metrics`` reads the server's counts."""

METRICS_PATH = "/metrics"
_JOBS = "/jobs/"
_READS = ("GET", "HEAD")


def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None where any token will do.

    Args:
        method: of HTTP.
        path: of the address.
    """
    if method not in _READS:
        return "segment"
    if path == METRICS_PATH:
        return "metrics"
    return "results" if path.startswith(_JOBS) else None
