"""The table of a run: the measurements of every case, as CSV and as Parquet, case by case, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file
from voxelry.metrics.measurement_columns import COLUMNS

TABLE_NAMES = ("measurements.csv", "measurements.parquet")
"""The files of a run's table in its output folder."""

_TYPES: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
_CASES = 256
"""Cases of which the rows are in memory at a time."""


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of `measurement_rows` column by column, without columns that have no value: plain data, shorter than rows.

    Example:
        >>> packed([{"label": "liver", "voxels": 8, "area_mm2": None}])
        {'label': ['liver'], 'voxels': [8]}
    """
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def write_measurements(cases: Iterable[tuple[str, Mapping[str, Sequence[Any]]]], folder: Path) -> tuple[Path, Path]:
    """Write the table of all cases.

    Args:
        cases: case id and its rows as `packed` has them, in the order of the table.
        folder: gets ``measurements.csv`` and ``measurements.parquet``, with the same rows: ``case`` and the columns of
            `voxelry.metrics.measurement_rows`. Replaced if they exist, each at once.

    Returns:
        Both files.
    """
    table, binary = (folder / name for name in TABLE_NAMES)
    schema = {"case": pl.String, **{name: _TYPES[kind] for name, kind in COLUMNS.items()}}
    with atomic_path(table) as text, atomic_path(binary) as parquet:
        with library_file(text) as file:
            pl.DataFrame(schema=schema).write_csv(file)
            for frame in _frames(cases, schema):
                frame.write_csv(file, include_header=False)
        with library_file(parquet) as file:
            pl.scan_csv(text, schema=schema).sink_parquet(file)
    return table, binary


def _frames(cases: Iterable[tuple[str, Mapping[str, Sequence[Any]]]], schema: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
    """The rows of a few cases at a time."""
    remaining = iter(cases)
    while chunk := list(islice(remaining, _CASES)):
        frames = []
        for case, columns in chunk:
            count = len(columns.get("label", ()))
            known = {"case": [case] * count, **columns}
            frames.append(pl.DataFrame({name: known.get(name, [None] * count) for name in schema}, schema=schema))
        yield pl.concat(frames)
