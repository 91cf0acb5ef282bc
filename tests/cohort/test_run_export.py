"""Exports of a ledger, and status: what every case became, without secrets, readable by other programs."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import voxelry as vx
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.run_export import MANIFEST_SCHEMA, export_ledger, public_path
from voxelry.cohort.run_status import hourly_rate, status_of
from voxelry.errors import MissingFileError, UsageError

DONE = LedgerCase(
    "a", 0, ("https://me:secret@host.org/a.nii.gz?sig=secret",), "digest", "stamp", "done", input_hash="hash", attempt=1,
    started=1e9, ended=1e9 + 1800, timings={"read": 0.5, "predict": 2.0}, peak_memory=5,
    outputs={"nifti": {"path": "a.nii.gz", "stamp": "s", "hash": "h"}},
    details={"flags": ["odd", "dark"], "source": {"series": "1.2.3"}, "facts": {"quality": {"dice": 0.9, "why": ["x"]}}},
)  # fmt: skip
FAILED = LedgerCase(
    "b", 1, ("b.nii.gz",), "digest", "stamp", "failed", error="no image", error_class="ReadError", started=1e9, ended=1e9 + 3600
)
WAITS = LedgerCase("c", 2, ("c.nii.gz",), "digest", "stamp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Ledger(tmp_path) as ledger:
        ledger.put([DONE, FAILED, WAITS, replace(WAITS, id="d", state="running", owner="worker 1")])
        ledger.set_facts({"request digest": {"model": {"names": ["liver"]}}, "voxelry": "0.1", "began": 1e9})
    return tmp_path


def test_the_run_manifest_says_what_every_output_was_made_of(folder: Path) -> None:
    vx.status(folder, export=folder / "run.json")
    text = (folder / "run.json").read_text()
    assert "secret" not in text
    run = json.loads(text)
    assert run["schema"] == MANIFEST_SCHEMA
    assert run["requests"] == {"digest": {"model": {"names": ["liver"]}}}
    assert [case["id"] for case in run["cases"]] == ["a", "b", "c", "d"]
    first = run["cases"][0]
    assert first["outputs"] == {"nifti": {"path": "a.nii.gz", "hash": "h"}}
    assert (first["source"], first["input_hash"], first["request"]) == ({"series": "1.2.3"}, "hash", "digest")
    assert first["started"] == "2001-09-09T01:46:40+00:00"
    assert run["cases"][1]["error_class"] == "ReadError"


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_has_a_row_a_case_and_a_column_a_fact(folder: Path, ending: str) -> None:
    file = folder / f"cases{ending}"
    for _ in range(2):  # an export may replace an export
        vx.status(folder, export=file)
    frame = pl.read_csv(file) if ending == ".csv" else pl.read_parquet(file)
    assert frame["id"].to_list() == ["a", "b", "c", "d"]
    assert frame["state"].to_list() == ["done", "failed", "ready", "running"]
    assert frame["quality.dice"].to_list() == [0.9, None, None, None]
    assert frame["seconds.predict"].to_list() == [2.0, None, None, None]
    assert frame["output.nifti"][0] == "a.nii.gz"
    assert frame["flags"][0] == "odd\ndark"
    assert "secret" not in frame["images"][0]


def test_an_export_replaces_nothing_and_has_a_known_ending(folder: Path) -> None:
    (folder / "mine.csv").write_text("mine")
    with pytest.raises(UsageError, match="not written by this command"):
        vx.status(folder, export=folder / "mine.csv")
    with pytest.raises(UsageError, match=r"\.parquet"):
        vx.status(folder, export=folder / "cases.xlsx")


def test_an_empty_ledger_is_exported(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for ending in (".csv", ".parquet", ".json"):
            export_ledger(ledger, tmp_path / f"x{ending}")
    assert pl.read_parquet(tmp_path / "x.parquet").height == 0
    assert json.loads((tmp_path / "x.json").read_text())["cases"] == []


def test_status_is_told_while_another_has_the_ledger(folder: Path) -> None:
    with Ledger(folder) as leader:
        leader.claim("worker 2", lease=60)
        state = vx.status(folder)
    assert state.counts == {"ready": 0, "running": 2, "done": 1, "failed": 1}
    assert (state.total, state.left) == (4, 2)
    assert set(state.running) == {"c", "d"}
    assert state.running["c"][0] == "worker 2"
    assert (state.failed, state.error_classes) == ({"b": "no image"}, {"ReadError": 1})
    assert state.per_hour == 2.0
    assert state.seconds_left == 3600


def test_no_run_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no ledger"):
        vx.status(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_rate_is_that_of_this_run(folder: Path) -> None:
    with Ledger(folder) as ledger:
        ledger.set_facts({"began": 2e9})
        assert status_of(ledger, folder).per_hour is None
    assert hourly_rate([(5.0, 5.0)]) is None


@pytest.mark.parametrize("path", ["a b.nii.gz", "C:\\scans\\a.nii", "s3://bucket/key/a.nii.gz"])
def test_a_path_without_secrets_stays_as_it_is(path: str) -> None:
    assert public_path(path) == path
