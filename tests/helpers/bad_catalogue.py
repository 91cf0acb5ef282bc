"""The catalogue of series that go wrong: how a case is entered, and what many of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from helpers.bad_series import (
    MARKED,
    Case,
    Reads,
    Refuses,
    copies,
    stack,
    stored,
    truth,
    uid,
    write,
)

CASES: dict[str, Case] = {}
Writer = Callable[[Path], Sequence[Reads]]


def case(name: str, one: Refuses | None = None, **choices: Any) -> Callable[[Writer], Writer]:
    """Enter a series into the catalogue; `one` where `read` of the whole folder must refuse."""

    def enter(function: Writer) -> Writer:
        assert name not in CASES
        CASES[name] = Case(function, one, choices)
        return function

    return enter


def plain(name: str, *, names: Sequence[str] | None = None, syntax: str = ExplicitVRLittleEndian, **making: Any) -> None:
    """A series that reads as its headers say."""

    def build(folder: Path) -> Sequence[Reads]:
        series = stack(**making)
        write(series, folder, names, syntax)
        return [truth(series)]

    case(name)(build)


def refused(name: str, error: str, says: str = "", files: Sequence[int] = (), **choices: Any) -> Callable[[Any], Any]:
    """A function that spoils a plain series, which is then refused."""

    def enter(spoil: Callable[[list[Dataset]], list[Dataset] | None]) -> Any:
        def build(folder: Path) -> Sequence[Reads]:
            series = stack()
            write(spoil(series) or series, folder)
            return []

        listed = tuple(f"IM{index:03d}.dcm" for index in files)
        case(name, Refuses(error, says, listed), **choices)(build)
        return spoil

    return enter


def several(name: str, *, says: str = "") -> Callable[[Callable[[], Sequence[Sequence[Dataset]]]], Any]:
    """Several volumes in one folder: `read` asks which, `read_all` gives each."""

    def enter(make: Callable[[], Sequence[Sequence[Dataset]]]) -> Any:
        @case(name, Refuses("SeriesError", says))
        def build(folder: Path) -> Sequence[Reads]:
            volumes = make()
            write([data for series in volumes for data in series], folder)
            return [truth(series) for series in volumes]

        return make

    return enter


def again(number: int, count: int = 6, **elements: Any) -> list[Dataset]:
    """A like series with marks of its own values."""
    return marked(copies(stack(count), number, **elements), number)


def marked(series: list[Dataset], number: int) -> list[Dataset]:
    """Other values for the marks, and UIDs of their own."""
    for data in series:
        data.SOPInstanceUID = uid(1, number, data.InstanceNumber)
        values = stored(data).copy()
        values[values >= MARKED] += 100 * number
        data.PixelData = values.tobytes()
    return series


def covered(series: Sequence[Dataset]) -> int:
    """Voxels that a scan fills on any grid of its pixels: moved by a part of one, a slice loses a row."""
    return sum((data.Rows - 1) * data.Columns for data in series) - 1
