"""Decoders written in Rust raise their panics as what no `except Exception` catches; here they become plain errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_PANIC = "PanicException"


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise a panic of a Rust extension (pyo3 derives it from BaseException) as a RuntimeError, as damaged pixels deserve.

    Raises:
        RuntimeError: in the place of a panic.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == _PANIC:
            raise RuntimeError(f"the decoder failed ({error})") from error
        raise
