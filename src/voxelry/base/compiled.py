"""Compilation of loops by Numba: ahead of time for given types, without the interpreter's lock, cached on disk.

The machine code is cached beside the module, or in the user's cache folder where that is read-only, so only the first run
compiles. Numba looks at the file of a loop alone, not at those of the functions that it takes in; so a digest of all of them is
part of the cache's name. Only modules of kernels import this: it loads the compiler.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


_PACKAGE = Path(__file__).parents[1]
_IMPORTS = re.compile(r"^from voxelry\.([\w.]+) import", re.MULTILINE)


@cache
def kernel_digest() -> str:
    """16 hexadecimal digits of the sources of all modules of kernels, and of all that these import, however far away."""
    files = {file: file.read_bytes() for file in _PACKAGE.rglob("*.py")}
    sources: set[Path] = set()
    waiting = {file for file, source in files.items() if b"voxelry.base.compiled import" in source}
    while waiting:
        sources |= waiting
        names = {name for file in waiting for name in _IMPORTS.findall(files[file].decode())}
        waiting = ({_PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in names} & files.keys()) - sources
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(file.name.encode() + b"\0" + files[file] + b"\0")
    return digest.hexdigest()[:16]


class _CacheFile(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return f"{super().get_filename_base(fullname, abiflags)}-{kernel_digest()}"


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, under a name that changes with any kernel."""

    _impl_class = _CacheFile


def compiled(*signatures: Any, fastmath: bool = False) -> Callable[[_Loop], _Loop]:
    """Compile a loop for given types, or without any for those of its first call.

    Args:
        signatures: numba's, or their text.
        fastmath: sums may be reordered; infinities and NaN are then undefined.
    """

    def decorate(loop: _Loop) -> _Loop:
        dispatcher = numba.njit(nogil=True, fastmath=fastmath, error_model="numpy")(loop)
        dispatcher._cache = _KernelCache(loop)  # what cache=True would do, with a name of our own
        for types in signatures:
            dispatcher.compile(types)
        if signatures:
            dispatcher.disable_compile()
        typed: _Loop = dispatcher
        return typed

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
