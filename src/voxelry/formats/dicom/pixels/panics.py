"""Panics of decoders written in Rust, which no `except Exception` catches, as plain errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_PANIC = "PanicException"


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise a panic of a Rust extension (pyo3 derives it from BaseException) as a RuntimeError.

    Raises:
        RuntimeError: instead of a panic.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == _PANIC:
            raise RuntimeError(f"the decoder failed ({error})") from error
        raise
