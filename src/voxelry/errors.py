"""Every error that voxelry raises, as one tree.

Each message names the problem, the value, and the remedy. `assert` is kept for our own invariants.

    VoxelryError
    ├── UsageError                 the call or a configuration is wrong (exit code 2)
    │   ├── ConfigError            an unknown key, a value out of range
    │   ├── ManifestError          a dataset card or its cases cannot be used
    │   │   └── SplitLeakError     one patient on both sides of a split
    │   ├── BudgetError            a memory budget is too small; it names the smallest that suffices
    │   └── MissingExtraError      an optional dependency is not installed
    ├── ReadError                  a file cannot be read
    │   ├── MissingFileError       nothing is there, or the folder is empty
    │   ├── UnsupportedFormatError it is there, but not in a format we read
    │   ├── CorruptFileError       it is truncated or contradicts itself
    │   ├── SeriesError            DICOM slices that are not one plain regular series
    │   │   ├── MissingSlicesError     slices are missing between others
    │   │   ├── DuplicateSlicesError   several images lie at one position
    │   │   ├── SpacingError           slices are unevenly spaced, or shift sideways unevenly
    │   │   └── SelectionError         several volumes, and the selection fits none or more than one
    │   ├── PartlyReadError        some of several volumes cannot be read; it holds those that can
    │   └── NonFiniteError         NaN or infinite voxels
    ├── GeometryError              a grid that cannot be used
    │   └── GridMismatchError      two objects that must share a grid do not
    ├── LabelError                 label values or names that are not in the table
    ├── ModelError                 a model folder that cannot be used
    ├── TrainingError              training cannot start or go on
    ├── ExportError                a mask or a model cannot be written in the requested format
    ├── PacsError                  a DICOM archive cannot be reached, refuses, or answers wrongly
    └── UnexpectedError            a fault of voxelry or of a library; in a batch the other scans go on
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class VoxelryError(Exception):
    """Base of every error that voxelry raises on purpose.

    Args:
        problem: the problem, with the file and the value.
        remedy: the fix for the user; appended to the message.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.read("scan.nii.gz")
        ... except voxelry.VoxelryError as error:
        ...     print(error)
        scan.nii.gz: no such file or folder. Check the path.
    """

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem.rstrip('.')}. {remedy}".strip() if remedy else problem)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.problem, self.remedy), vars(self))


def _rebuild(kind: type[VoxelryError], problem: str, remedy: str) -> VoxelryError:
    return kind(problem, remedy=remedy)


class UsageError(VoxelryError):
    """The call itself is wrong: an argument, a flag, a configuration."""


class ConfigError(UsageError):
    """A configuration has an unknown key or a value out of range."""


class ManifestError(UsageError):
    """A dataset card, or a case it lists, cannot be used."""


class SplitLeakError(ManifestError):
    """A patient is on both sides of a split."""


class BudgetError(UsageError):
    """The work does not fit into its memory budget.

    Args:
        problem: as of every error.
        remedy: as of every error.
        needed: bytes of the smallest budget that suffices, 0 where that is not known.
    """

    def __init__(self, problem: str, *, remedy: str = "", needed: int = 0) -> None:
        super().__init__(problem, remedy=remedy)
        self.needed = needed


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""


class ReadError(VoxelryError):
    """A file cannot be read."""


class MissingFileError(ReadError):
    """There is no such file, or a folder holds nothing to read."""


class UnsupportedFormatError(ReadError):
    """The file is not in a format that voxelry reads."""


class CorruptFileError(ReadError):
    """The file is truncated, or its parts contradict each other."""


class SeriesError(ReadError):
    """DICOM slices do not form one plain, regular series.

    Args:
        problem: as of every error.
        remedy: as of every error.
        files: all files concerned; the message names the first few. Empty where no single files are concerned.
    """

    def __init__(self, problem: str, *, remedy: str = "", files: Iterable[str] = ()) -> None:
        super().__init__(problem, remedy=remedy)
        self.files = tuple(files)


class MissingSlicesError(SeriesError):
    """Slices are missing between others; `files` holds the two on either side of each hole."""


class DuplicateSlicesError(SeriesError):
    """Several images lie at one position; `files` holds them, position after position."""


class SpacingError(SeriesError):
    """Slices are unevenly spaced, or shift sideways unevenly; `files` holds those that lie off the grid."""


class SelectionError(SeriesError):
    """There are several volumes, and the selection fits none of them, or more than one.

    Args:
        problem: as of every error.
        remedy: as of every error.
        choices: the keys of the volumes to choose from, as `series` takes them.
    """

    def __init__(self, problem: str, *, remedy: str = "", choices: Iterable[str] = ()) -> None:
        super().__init__(problem, remedy=remedy)
        self.choices = tuple(choices)


class PartlyReadError(ReadError):
    """Of several volumes some cannot be read.

    Args:
        problem: as of every error.
        remedy: as of every error.
        volumes: those that can be read.
        failed: key and reason of those that cannot.
    """

    def __init__(
        self, problem: str, *, remedy: str = "", volumes: Iterable[object] = (), failed: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__(problem, remedy=remedy)
        self.volumes = list(volumes)
        self.failed = tuple(failed)


class NonFiniteError(ReadError):
    """An image holds NaN or infinite voxels."""


class GeometryError(VoxelryError):
    """A grid cannot be used: singular affine, wrong number of axes."""


class GridMismatchError(GeometryError):
    """Two objects that must lie on one grid do not."""


class LabelError(VoxelryError):
    """A label value or name that is not in the label table."""


class ModelError(VoxelryError):
    """A model folder is missing, incomplete, or does not fit the input."""


class TrainingError(VoxelryError):
    """Training cannot start or continue."""


class ExportError(VoxelryError):
    """A mask or a model cannot be written in the requested format."""


class PacsError(VoxelryError):
    """A DICOM archive cannot be reached, refuses, or answers wrongly."""


class UnexpectedError(VoxelryError):
    """A fault of voxelry or of a library, met while one scan of many was worked on; its cause is chained."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to a mistyped one.

    Args:
        word: the word that the user wrote.
        known: the valid words.

    Returns:
        ``"Did you mean 'x'?"``, or the list of known words when none is close.
    """
    options = sorted(known)
    by_lower = {option.lower(): option for option in reversed(options)}
    close = get_close_matches(word.lower(), sorted(by_lower), n=1, cutoff=0.6)
    return f"Did you mean '{by_lower[close[0]]}'?" if close else f"Known: {', '.join(options)}."
