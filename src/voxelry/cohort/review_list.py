"""The review list of a run: its cases in the order of doubt, with predicted Dice and what is unusual about each."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelry.base.files import atomic_path
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.prediction_facts import QUALITY

_SHOWN = ("nifti", "nrrd", "seg-nrrd", "metaimage", "png", "tiff", "dicom-seg")
"""Formats of masks that are read back for a picture, the quickest first."""

COLUMNS = ("case", "review", "doubt", "predicted_dice", "reason", "flags", "mask", "images")


@dataclass(frozen=True)
class ReviewCase:
    """One case of a review list.

    Attributes:
        id: the case.
        doubt: from 0, none, to 1; a failed case has 1.
        review: whether somebody should look at it.
        dice: predicted mean Dice over labels; None where it cannot be told.
        reason: why it cannot, or why the case failed.
        flags: what is unusual, quality control's first.
        images: files and folders of the scan.
        mask: file with its labels; None where it failed, or wrote none that can be read back.
    """

    id: str
    doubt: float
    review: bool
    dice: float | None
    reason: str
    flags: tuple[str, ...]
    images: tuple[Path, ...]
    mask: Path | None

    @property
    def title(self) -> str:
        """Its name and its predicted Dice."""
        known = f"Dice {self.dice:.2f}" if self.dice is not None else "no predicted Dice"
        return f"{self.id}: {known}{', review' if self.review else ''}"

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and tables."""
        return {
            "case": self.id,
            "review": self.review,
            "doubt": round(self.doubt, 4),
            "predicted_dice": self.dice,
            "reason": self.reason,
            "flags": [*self.flags],
            "mask": None if self.mask is None else str(self.mask),
            "images": [str(path) for path in self.images],
        }


def review_list(ledger: Ledger) -> list[ReviewCase]:
    """The cases of a run that have ended, the most doubtful first; of equal doubt in the order of the inputs.

    Args:
        ledger: of the run, which may still go on.
    """
    folder = ledger.path.parent
    cases = [_reviewed(case, folder) for state in ("done", "failed") for case in ledger.cases(state)]
    return sorted(cases, key=lambda case: -case.doubt)


def _reviewed(case: LedgerCase, folder: Path) -> ReviewCase:
    images = tuple(Path(path) for path in case.images)
    if case.state == "failed":
        return ReviewCase(case.id, 1.0, True, None, case.error, (), images, None)
    quality: Mapping[str, Any] = case.details.get("facts", {}).get(QUALITY, {})
    flags = (*quality.get("flags", ()), *case.details.get("flags", ()))
    masks = {name: folder / output["path"] for name, output in case.outputs.items()}
    return ReviewCase(
        case.id,
        float(quality.get("doubt", 0.0)),
        bool(quality.get("review", False)),
        quality.get("dice"),
        str(quality.get("reason", "" if quality else "no quality control of this case")),
        flags,
        images,
        next((masks[name] for name in _SHOWN if name in masks), None),
    )


def write_review_list(cases: Iterable[ReviewCase], path: Path) -> Path:
    """Write a review list as CSV, flags and images separated by `` | ``.

    Args:
        cases: in their order.
        path: the file.

    Returns:
        The file.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for case in cases:
            row = case.as_dict()
            table.writerow({**row, "flags": " | ".join(row["flags"]), "images": " | ".join(row["images"])})
    return path
