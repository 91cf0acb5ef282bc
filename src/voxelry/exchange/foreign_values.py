"""Other programs' files: values that our types refuse become one error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from voxelry.base.expectations import expectation
from voxelry.errors import ModelError, VoxelryError
from voxelry.networks.network_spec import one_line

MOST = 3
"""Wrong values that a message lists."""


@contextmanager
def understood(where: Path | str, remedy: str) -> Iterator[None]:
    """What goes wrong inside is a `ModelError` that names the file; errors of our own pass.

    Args:
        where: the file, or files, whose values are used.
        remedy: of the error.
    """
    try:
        yield
    except VoxelryError:
        raise
    except ValidationError as failure:
        wrong = [f"{'.'.join(map(str, item['loc']))}: {expectation(item, ())}" for item in failure.errors()[:MOST]]
        raise ModelError(f"{where}: {'; '.join(each.removeprefix(': ') for each in wrong)}", remedy=remedy) from failure
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = one_line(error) or "nothing said"
        raise ModelError(f"{where}: cannot be used ({type(error).__name__}: {reason})", remedy=remedy) from error
