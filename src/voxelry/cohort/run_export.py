"""Exports of a ledger: a table of cases (CSV, Parquet), and the run manifest (JSON), which is the provenance of all outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file
from voxelry.base.output_folder import OutputFolder
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.errors import UsageError

MANIFEST = "voxelry-run.json"
"""The run manifest that every run leaves beside its outputs."""

MANIFEST_SCHEMA = 1
"""Version of the manifest; it grows by one where a reader of the former would be misled."""

EXPORTS = (".csv", ".parquet", ".json")
"""Endings of exports."""

_TEXTS = ("id", "state", "images", "input_hash", "request", "error_class", "error", "flags", "started", "ended")
_COUNTS = ("attempt", "peak_memory")


def export_ledger(ledger: Ledger, file: Path) -> None:
    """Write what a ledger knows.

    Args:
        ledger: the ledger.
        file: ends in ``.csv`` or ``.parquet``: a row a case, with a column for each fact; or in ``.json``: the run manifest.

    Raises:
        UsageError: another ending, or the file is no earlier export.
    """
    if file.suffix.lower() not in EXPORTS:
        raise UsageError(f"{file}: ends in none of {', '.join(EXPORTS)}", remedy="Name another file.")
    with OutputFolder(file.parent, "status").writing([file]):
        if file.suffix.lower() == ".json":
            write_manifest(ledger, file)
        else:
            _write_table(ledger, file)


def write_manifest(ledger: Ledger, file: Path) -> None:
    """Write the run manifest: who made which output from what, case by case; nothing of it is held in memory.

    Names of patients do not occur in it, beyond what paths that the user gave may say, and addresses lose their passwords.
    """
    facts = ledger.facts()
    requests = {name.removeprefix("request "): value for name, value in facts.items() if name.startswith("request ")}
    head = {
        "schema": MANIFEST_SCHEMA, "voxelry": facts.get("voxelry"), "written": _time(datetime.now(UTC).timestamp()),
        "counts": ledger.counts(), "requests": requests,
    }  # fmt: skip
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as text:
        text.write(json.dumps(head, indent=1)[:-2] + ',\n "cases": [')
        for number, case in enumerate(ledger.cases()):
            text.write((",\n  " if number else "\n  ") + json.dumps(_entry(case)))
        text.write("\n ]\n}\n")


def _entry(case: LedgerCase) -> dict[str, Any]:
    """A case in the manifest."""
    entry: dict[str, Any] = {
        "id": case.id, "state": case.state, "images": list(map(public_path, case.images)), "request": case.request,
        "input_hash": case.input_hash, "source": case.details.get("source", {}),
        "outputs": {name: {"path": row["path"], "hash": row["hash"]} for name, row in case.outputs.items()},
        "started": _time(case.started), "ended": _time(case.ended), "timings": dict(case.timings),
        "peak_memory": case.peak_memory, "flags": case.details.get("flags", []), "facts": case.details.get("facts", {}),
    }  # fmt: skip
    return entry | ({"error": case.error, "error_class": case.error_class} if case.state == "failed" else {})


def _write_table(ledger: Ledger, file: Path) -> None:
    import polars as pl

    rows = [_row(case) for case in ledger.cases()]
    columns = dict.fromkeys(name for row in rows for name in row)
    schema: dict[str, Any] = dict.fromkeys(columns or _TEXTS)
    schema |= {name: pl.String for name in schema if name in _TEXTS or name.startswith("output.")}
    schema |= {name: pl.Int64 for name in _COUNTS if name in schema}
    frame = pl.DataFrame(rows, schema=schema, infer_schema_length=None, strict=False)
    with atomic_path(file) as temporary, library_file(temporary) as target:
        if file.suffix.lower() == ".csv":
            frame.write_csv(target)
        else:
            frame.write_parquet(target)


def _row(case: LedgerCase) -> dict[str, Any]:
    """A case as a row; nested facts become columns with dots in their names."""
    return {
        "id": case.id, "state": case.state, "images": os.pathsep.join(map(public_path, case.images)),
        "input_hash": case.input_hash, "request": case.request, "attempt": case.attempt, "peak_memory": case.peak_memory,
        "started": _time(case.started), "ended": _time(case.ended), "error_class": case.error_class, "error": case.error,
        "flags": "\n".join(case.details.get("flags", ())),
        **{f"seconds.{name}": value for name, value in case.timings.items()},
        **{f"output.{name}": row["path"] for name, row in case.outputs.items()},
        **dict(_flat("", case.details.get("facts", {}))),
    }  # fmt: skip


def _flat(prefix: str, facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Single values of nested facts by name; lists become JSON."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value


def public_path(path: str) -> str:
    """A path without secrets: of an address neither user, password nor the query that may sign it.

    Example:
        >>> public_path("https://me:secret@host.org/a.nii.gz?token=x"), public_path("scans/a.nii.gz")
        ('https://host.org/a.nii.gz', 'scans/a.nii.gz')
    """
    if "://" not in path:
        return path
    parts = urlsplit(path)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC; empty for 0."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
