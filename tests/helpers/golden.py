"""What `inspect` says of every DICOM series among the real scans, as `golden_series.json` keeps it.

Each entry has a `review`: why this outcome is right, written by hand. After a change that alters outcomes on purpose,
``python tests/helpers/golden.py`` writes the file again, keeps the reviews, and leaves those of new entries empty: write them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from voxelry.formats.inspection import InspectRow, inspect

FILE = Path(__file__).parent / "golden_series.json"


def outcomes(scans: Path) -> dict[str, dict[str, Any]]:
    """Outcome by ``path|key`` of each DICOM volume and object below a folder."""
    rows = [row for row in inspect(scans) if row.format == "dicom" or row.path.endswith(".dcm")]
    return {f"{Path(row.path).relative_to(scans)}|{row.key}": _outcome(row, scans) for row in rows}


def _outcome(row: InspectRow, scans: Path) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "modality": row.modality,
        "shape": list(row.shape),
        "spacing": None if row.spacing is None else [round(value, 4) for value in row.spacing],
        "orientation": row.orientation,
        "tilt": round(row.tilt, 1),
        "gaps": row.gaps,
        "duplicates": row.duplicates,
        "facts": row.facts,
        "syntax": list(row.syntax),
        "files": row.n_files,
        "readable": row.readable,
        "reason": row.reason.replace(f"{scans}{os.sep}", ""),
        "remarks": list(row.remarks),
    }


def _write(scans: Path) -> None:
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = outcomes(scans / "dicom")
    kept = {name: {**outcome, "review": known.get(name, {}).get("review", "")} for name, outcome in found.items()}
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
