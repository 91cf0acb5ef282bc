"""Turns whatever a library raises into one typed error, so that a hostile file or a lack of memory ends one task and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from voxelry.errors import BudgetError, CorruptFileError, ReadError, UnexpectedError, VoxelryError

_LONGEST = 200
_OUT_OF_MEMORY = ("OutOfMemoryError", "ArrayMemoryError", "bad_alloc")
_ALLOCATION_FAILS = "can't allocate memory"
"""In the RuntimeError of PyTorch's allocator on a CPU, which has no type of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """An exception says that memory, of the machine or a GPU, could not be had."""
    return isinstance(error, MemoryError) or type(error).__name__ in _OUT_OF_MEMORY or _ALLOCATION_FAILS in str(error)


@contextmanager
def read_failures(where: str) -> Iterator[None]:
    """Within the block, reading a file fails by a VoxelryError.

    Args:
        where: the file, for messages.

    Raises:
        ReadError: the system does not let the file be read, or memory does not suffice.
        CorruptFileError: any other exception, which its content provoked in a library.
    """
    try:
        yield
    except VoxelryError:
        raise
    except OSError as error:
        raise ReadError(
            f"{where}: cannot be read ({error.strerror or error})", remedy="Check its permissions and disk."
        ) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise ReadError(f"{where}: does not fit into memory", remedy="Crop the image, or take a larger machine.") from error
        raise CorruptFileError(
            f"{where}: cannot be read ({_in_short(error)})", remedy="Export or copy the file again."
        ) from error


@contextmanager
def task_failures(where: str) -> Iterator[None]:
    """Within the block, a task on one scan fails by a VoxelryError or an OSError.

    Args:
        where: the scan, for messages.

    Raises:
        BudgetError: memory ran out.
        UnexpectedError: any other exception.
    """
    try:
        yield
    except (VoxelryError, OSError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise BudgetError(
                f"{where}: memory ran out", remedy="Give --memory that is free, close other programs, or crop the scan."
            ) from error
        raise UnexpectedError(
            f"{where}: an unexpected error ({_in_short(error)})", remedy="This is a fault of voxelry: please report it."
        ) from error


def _in_short(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
