"""How loops are compiled: ahead of time for given types, without the interpreter's lock, kept on disk.

The machine code is kept beside the module, or in the user's cache folder where that is read-only, so only the first run ever pays
for it. Only modules of kernels import this: it loads the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def compiled(*signatures: Any, fastmath: bool = False) -> Callable[[_Loop], _Loop]:
    """Compile a loop for given types, or for those of its first call where none are given.

    Args:
        signatures: numba's, or their text.
        fastmath: sums may be reordered; infinities and NaN are then not to be relied on.
    """
    types = list(signatures) or None
    decorate: Callable[[_Loop], _Loop] = numba.njit(types, nogil=True, cache=True, fastmath=fastmath, error_model="numpy")
    return decorate


def jitable(part: _Loop) -> _Loop:
    """Mark a part of compiled loops, which stays a plain function for Python."""
    marked: _Loop = numba.extending.register_jitable(part)
    return marked


def inlined(part: _Loop) -> _Loop:
    """Mark a part of compiled loops that is put in place of its call, so that vector instructions reach across it."""
    marked: _Loop = numba.njit(inline="always")(part)
    return marked


def readonly(kind: Any, axes: int = 1, layout: str = "C") -> Any:
    """The type of an array that a loop does not write; arrays that may be written are taken too."""
    return numba.types.Array(kind, axes, layout, readonly=True)
