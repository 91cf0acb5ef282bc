"""Report of a run: one HTML page with tables, plots and a viewer of scans, whose data lie in the page or beside it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from voxelry.base.files import atomic_folder, write_text
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.errors import VoxelryError
from voxelry.reports.card_text import card_html
from voxelry.reports.case_stills import case_stills
from voxelry.reports.case_volumes import LAYERS, TWO_MODELS, case_data
from voxelry.reports.learning import learning_svgs
from voxelry.reports.run_cases import CaseImages
from voxelry.reports.run_record import KINDS, RunCase, RunRecord
from voxelry.reports.score_plots import mean_rows, pooled_rows, score_boxes
from voxelry.reports.sorted_page import render_page, static_text
from voxelry.reports.tables import ABSENT, DIFFERENCE_HEAD, difference_cells, score

log = logging.getLogger(__name__)

PAGE = "report.html"
_MOST_ROWS = 5000
"""Cases that a page lists."""
_SHORT_LIST = 3
"""Flags of a case that are shown at once, the others by a click."""
_MOST_LABELS = 8
"""Labels that have a column of their own in the table of cases."""


@dataclass(frozen=True)
class Viewing:
    """Which cases can be looked at, and where their data go.

    Attributes:
        read: reads a case.
        cases: those that can be read.
        most: number of cases: the worst, the best, the median and then the most doubtful ones.
        size: bytes of data in all, cases that exceed them left out; None for any number.
        inside: the data go into the page itself, in place of a folder beside it.
        voxels: of the largest scan that is drawn, which takes some 6 bytes of memory each; None for any number.
        progress: called as cases are read.
    """

    read: Callable[[RunCase], CaseImages]
    cases: Sequence[RunCase]
    most: int
    size: int | None = None
    inside: bool = False
    voxels: int | None = None
    progress: ProgressCallback = no_progress


def data_folder(page: Path) -> Path:
    """Beside a page: a script for each case that can be looked at, which hands its data to the page.

    Args:
        page: the page; each has a folder of its own.
    """
    return page.with_name(f"{page.stem}_cases")


def write_report(record: RunRecord, page: Path, title: str, viewing: Viewing | None = None) -> Path:
    """Write the page, and beside it the data of cases that can be looked at.

    Args:
        record: what the run left behind.
        page: the file to write.
        title: the page's heading.
        viewing: the cases to look at; None leaves the viewer out.

    Returns:
        The page.
    """
    drawn: dict[str, _Drawn] = {}
    notes, size = list(record.notes), 0
    with ExitStack() as stack:
        beside = viewing is not None and not viewing.inside
        folder = stack.enter_context(atomic_folder(data_folder(page))) if beside else None
        for case in _drawn(record, viewing, notes):
            if viewing is not None and viewing.size is not None and size + len(case.script) > viewing.size:
                notes.append(f"{case.id} is left out of the viewer: its data exceed the size that the page may have.")
                drawn[case.id] = replace(case, key="", script="")
                continue
            size += len(case.script)
            drawn[case.id] = case
            if folder is not None:
                write_text(folder / f"{case.key}.js", case.script)
                drawn[case.id] = replace(case, script="")
    reasons = dict.fromkeys(case.note for case in drawn.values() if case.note)
    notes += [f"{', '.join(case.id for case in drawn.values() if case.note == reason)}: {reason}" for reason in reasons]
    write_text(page, _html(record, title, notes, drawn, data_folder(page).name))
    return page


@dataclass(frozen=True)
class _Drawn:
    """A case on the page.

    Attributes:
        id: the case.
        key: of its data for the viewer; empty where they are left out.
        script: that hands them to the page; empty where it lies beside the page.
        caption: what its still pictures show.
        stills: name and picture of each.
        note: why its scan is not shown; empty where it is.
    """

    id: str
    key: str
    script: str
    caption: str
    stills: list[tuple[str, str]]
    note: str


def _drawn(record: RunRecord, viewing: Viewing | None, notes: list[str]) -> Iterator[_Drawn]:
    """Each case that is looked at; of one that cannot be read the notes and a warning tell."""
    if viewing is None:
        return
    cases = {case.id: case for case in viewing.cases}
    at_once = {case.id for _, case in record.shown}
    wanted = dict.fromkeys(case.id for case in (*(case for _, case in record.shown), *record.by_doubt) if case.id in cases)
    chosen = [*wanted][: viewing.most]
    for number, id in enumerate(chosen):
        viewing.progress("drawing", number, len(chosen))
        try:
            images = viewing.read(cases[id])
            voxels = math.prod(images.volume.geometry.shape)
            if viewing.voxels is not None and voxels > viewing.voxels:
                notes.append(f"{id} is not drawn: its scan has {voxels:,} voxels. `voxelry report` draws scans of any size.")
                continue
            caption, stills = case_stills(images) if id in at_once else ("", [])
            data = case_data(id, images)
        except VoxelryError as error:
            log.warning("case '%s' cannot be shown: %s", id, error)
            notes.append(f"{id} cannot be shown: {error}")
            continue
        key = f"case_{number}"
        yield _Drawn(id, key, f"voxelry.add({json.dumps(key)}, {_script_json(data)});", caption, stills, images.note)
    if chosen:
        viewing.progress("drawing", len(chosen), len(chosen))


def _script_json(data: Any) -> str:
    """JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(record: RunRecord, title: str, notes: list[str], drawn: Mapping[str, _Drawn], folder: str) -> str:
    keys = {case.id: case.key for case in drawn.values() if case.key}
    mean_head, means = mean_rows(record.scores)
    pooled_head, pooled = pooled_rows(record.pooled)
    cases = record.by_doubt
    if len(cases) > _MOST_ROWS:
        notes.append(f"Of {len(cases)} cases with a result the first {_MOST_ROWS} are listed, the most doubtful.")
    failures = [(case.id, case.error) for case in record.cases if case.error]
    if len(failures) > _MOST_ROWS:
        notes.append(f"Of {len(failures)} cases without a result {_MOST_ROWS} are listed.")
    columns = _columns_of(record, cases)
    return render_page(
        "report.html.j2",
        title=title,
        kind_text=KINDS[record.kind],
        notes=notes,
        mean_head=mean_head,
        means=means,
        pooled_head=pooled_head,
        pooled=pooled,
        boxes=score_boxes(record.scores, record.boxes),
        difference_head=DIFFERENCE_HEAD,
        differences=[difference_cells(vars(row)) for row in record.differences],
        curves=[(name, learning_svgs(points)) for name, points in record.histories.items() if points],
        failures=failures[:_MOST_ROWS],
        columns=[*columns],
        cases=[_row(case, columns, keys) for case in cases[:_MOST_ROWS]],
        shown=[_shown(name, case, drawn.get(case.id)) for name, case in record.shown if record.picks or case.id in drawn],
        has_flags=any(case.flags or case.review for case in cases),
        viewable=len(keys),
        layers=TWO_MODELS if record.kind == "compare" else LAYERS,
        folder=folder,
        cards=[(name, card_html(text)) for name, text in record.cards],
        settings=record.settings,
        niivue=Markup(static_text("niivue.umd.js")) if keys else "",
        embedded=[Markup(case.script) for case in drawn.values() if case.script],
    )


def _columns_of(record: RunRecord, cases: Sequence[RunCase]) -> dict[str, Callable[[RunCase], str]]:
    """Heading of each column of numbers that some case has -> its text."""
    labels = [*dict.fromkeys(label for case in cases for label in case.dice)]
    possible: dict[str, Callable[[RunCase], float | None]] = {
        "mean Dice of B" if record.kind == "compare" else "mean Dice": lambda case: case.mean_dice,
        "B - A": lambda case: case.change,
        "predicted Dice": lambda case: case.predicted_dice,
        "doubt": lambda case: case.doubt,
    }
    if 1 < len(labels) <= _MOST_LABELS:
        possible |= {f"Dice of {label}": partial(_dice_of, label=label) for label in labels}
    return {name: partial(_number, value) for name, value in possible.items() if any(value(case) is not None for case in cases)}


def _shown(name: str, case: RunCase, drawn: _Drawn | None) -> dict[str, Any]:
    """What is seen of a case at once: what it is, its numbers, and its still pictures."""
    numbers = {"mean Dice": case.mean_dice, "B - A": case.change, "predicted Dice": case.predicted_dice, "doubt": case.doubt}
    return {
        "name": name[0].upper() + name[1:],
        "id": case.id,
        "key": drawn.key if drawn else "",
        "text": ", ".join(f"{what} {score(number)}" for what, number in numbers.items() if number is not None),
        "caption": drawn.caption if drawn else "",
        "stills": drawn.stills if drawn else [],
    }


def _dice_of(case: RunCase, label: str) -> float | None:
    return case.dice.get(label)


def _number(value: Callable[[RunCase], float | None], case: RunCase) -> str:
    number = value(case)
    return ABSENT if number is None else score(number)


def _row(case: RunCase, columns: dict[str, Callable[[RunCase], str]], keys: dict[str, str]) -> dict[str, Any]:
    flags = [*(["to review"] if case.review else []), *case.flags]
    return {
        "id": case.id,
        "numbers": [text(case) for text in columns.values()],
        "flags": "; ".join(flags[:_SHORT_LIST]),
        "more": flags[_SHORT_LIST:],
        "key": keys.get(case.id, ""),
    }
