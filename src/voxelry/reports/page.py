"""HTML index page of a result folder, without scripts, network access or files outside the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from voxelry.base.files import write_text
from voxelry.base.version import __version__
from voxelry.errors import MissingFileError, UsageError
from voxelry.reports.curve import CurvePoint, curve_svgs
from voxelry.reports.tables import score, score_rows


@dataclass(frozen=True)
class CaseView:
    """One case on the page.

    Attributes:
        name: the case id.
        picture: its overlay PNG, or None; paths are relative to the page's folder, or absolute inside it.
        files: the case's files by description, such as ``mask (NIfTI)``; a folder may stand for a series.
        mean_dice: the mean over its labels, 0..1, or None without a reference.
        remarks: quality flags, or the reason of a failure.
        objects: name of a label whose objects are counted -> number predicted and number in the reference.

    Example:
        >>> from voxelry.reports import CaseView
        >>> CaseView("case 1", mean_dice=0.91).name
        'case 1'
    """

    name: str
    picture: str | os.PathLike[str] | None = None
    files: Mapping[str, str | os.PathLike[str]] | None = None
    mean_dice: float | None = None
    remarks: tuple[str, ...] = ()
    objects: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def write_page(
    folder: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, Any] | None,
    cases: Sequence[CaseView],
    notes: Sequence[str] = (),
    curve: Sequence[CurvePoint] = (),
) -> Path:
    """Write ``index.html`` into a folder of results.

    Args:
        folder: where the pictures and masks already lie; links are relative to it, so that it can be moved and zipped.
        title: the page's heading.
        summary: the plain mapping of the Scores over all cases, or None without references.
        cases: in the order to show them.
        notes: sentences, e.g. the command, the data, the time it took.
        curve: the training log, for the learning curve.

    Returns:
        The page's path.

    Raises:
        MissingFileError: a file to link to is missing.
        UsageError: a file to link to lies outside the folder.

    Example:
        >>> from voxelry.reports import CaseView, write_page
        >>> write_page(".", title="Kidneys", summary=None, cases=[CaseView("case 1")]).name
        'index.html'
    """
    root = Path(folder)
    environment = Environment(loader=PackageLoader("voxelry.reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters["score"] = score
    html = environment.get_template("index.html.j2").render(
        title=title,
        summary=summary,
        rows=[] if summary is None else score_rows(summary),
        objects=_object_rows(cases, {} if summary is None else summary.get("pooled", {})),
        cases=[_plain(root, case) for case in cases],
        notes=notes,
        curves=curve_svgs(curve),
        version=__version__,
    )
    page = root / "index.html"
    write_text(page, html)
    return page


def _plain(root: Path, case: CaseView) -> dict[str, Any]:
    """A case with its paths turned into links."""
    return {
        "name": case.name,
        "picture": None if case.picture is None else _link(root, case.picture),
        "files": [(text, _link(root, path)) for text, path in (case.files or {}).items()],
        "mean_dice": case.mean_dice,
        "remarks": case.remarks,
        "objects": [(label, *counts) for label, counts in case.objects.items()],
    }


def _object_rows(cases: Sequence[CaseView], pooled: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, str]]:
    """A row for each label whose objects are counted: totals, F1 over all cases, and how far counts are off."""
    rows = []
    for label in dict.fromkeys(label for case in cases for label in case.objects):
        counts = [case.objects[label] for case in cases if label in case.objects]
        errors = [abs(predicted - reference) for predicted, reference in counts]
        rows.append(
            {
                "label": label,
                "reference": str(sum(reference for _, reference in counts)),
                "predicted": str(sum(predicted for predicted, _ in counts)),
                "f1": score(pooled.get("lesion_f1", {}).get(label)),
                "error": f"{sum(errors) / len(errors):.2f}",
                "right": f"{errors.count(0)} of {len(errors)}",
            }
        )
    return rows


def _link(root: Path, path: str | os.PathLike[str]) -> str:
    """A relative URL of a file in the folder; percent-encoded, so that no name can be taken for a scheme or a query."""
    target = root / path
    if not target.exists():
        raise MissingFileError(f"{target}: the page would link to it, but there is no such file")
    try:
        relative = target.resolve().relative_to(root.resolve())
    except ValueError:
        raise UsageError(f"{target}: lies outside the page's folder {root}", remedy="Copy it into the folder first.") from None
    return quote(relative.as_posix()) + ("/" if target.is_dir() else "")
