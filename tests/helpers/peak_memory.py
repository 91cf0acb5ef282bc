"""The peak of Python's and numpy's allocations during a call."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def peak_megabytes(call: Callable[[], object]) -> float:
    """MB beyond what is held before, after a first call that compiles."""
    call()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return (peak - before) / 1e6
