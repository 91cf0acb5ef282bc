"""The table of a run: the same rows in both files, whatever the cases hold."""

import polars as pl
import pytest

from voxelry.cohort.measurement_table import TABLE_NAMES, packed, write_measurements
from voxelry.metrics.measurement_columns import COLUMNS, measurement_rows
from voxelry.phantom import small_phantom


@pytest.fixture(scope="module")
def cases():
    torso, teeth = small_phantom(), small_phantom("dental-panoramic")
    return {
        'a, "quoted"': measurement_rows(torso.labels, torso.volume),
        "nothing": [],
        "007": measurement_rows(teeth.labels),
    }


def test_both_files_hold_every_row(cases, tmp_path):
    table, binary = write_measurements(((case, packed(rows)) for case, rows in cases.items()), tmp_path)
    assert (table.name, binary.name) == TABLE_NAMES
    frame = pl.read_parquet(binary)
    expected = [{"case": case, **row} for case, rows in cases.items() for row in rows]
    assert frame.to_dicts() == expected
    assert pl.read_csv(table, schema=frame.schema).equals(frame)
    assert table.read_text().partition("\n")[0].split(",") == ["case", *COLUMNS]


def test_many_cases_are_written_in_pieces(cases, tmp_path, monkeypatch):
    monkeypatch.setattr("voxelry.cohort.measurement_table._CASES", 2)
    rows = cases['a, "quoted"']
    _, binary = write_measurements(((f"case {n}", packed(rows)) for n in range(5)), tmp_path)
    assert pl.read_parquet(binary)["case"].to_list() == [f"case {n}" for n in range(5) for _ in rows]


def test_a_run_without_a_case_has_a_table_without_a_row(tmp_path):
    table, binary = write_measurements([], tmp_path)
    assert pl.read_parquet(binary).height == 0
    assert len(table.read_text().splitlines()) == 1


def test_packing_keeps_every_value(cases):
    for rows in cases.values():
        columns = packed(rows)
        assert [{name: columns.get(name, [None] * len(rows))[n] for name in COLUMNS} for n in range(len(rows))] == rows
