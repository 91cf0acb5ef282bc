"""Compilation of loops by Numba: ahead of time for given types, without the interpreter's lock, cached on disk.

The machine code is cached beside the module, or in the user's cache folder where that is read-only, so only the first run
compiles. Only modules of kernels import this: it loads the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def compiled(*signatures: Any, fastmath: bool = False) -> Callable[[_Loop], _Loop]:
    """Compile a loop for given types, or without any for those of its first call.

    Args:
        signatures: numba's, or their text.
        fastmath: sums may be reordered; infinities and NaN are then undefined.
    """
    types = list(signatures) or None
    decorate: Callable[[_Loop], _Loop] = numba.njit(types, nogil=True, cache=True, fastmath=fastmath, error_model="numpy")
    return decorate


def jitable(function: _Loop) -> _Loop:
    """Mark a function that compiled loops may call; for Python it stays a plain function."""
    marked: _Loop = numba.extending.register_jitable(function)
    return marked


def inlined(function: _Loop) -> _Loop:
    """Mark a function that is inlined into compiled loops, so that they can be vectorised across it."""
    marked: _Loop = numba.njit(inline="always")(function)
    return marked


def readonly(kind: Any, axes: int = 1, layout: str = "C") -> Any:
    """The type of an array that a loop does not write; writeable arrays are accepted too."""
    return numba.types.Array(kind, axes, layout, readonly=True)
