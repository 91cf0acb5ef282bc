"""The page of a dataset: its cases as thumbnails, their grids, grey values and labels, and what is suspicious about them."""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from markupsafe import Markup

from voxelry.base.files import write_text
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.case_profile import CaseProfile, profile_case
from voxelry.datasets.cases import Case
from voxelry.datasets.check import Problem, Problems
from voxelry.datasets.manifest import Manifest
from voxelry.datasets.suspicious_cases import size_unit, suspicious_cases
from voxelry.reports.box_plot import box_svg
from voxelry.reports.contact_sheet import planes_picture
from voxelry.reports.histogram_plot import histograms_svg
from voxelry.reports.sorted_page import render_page

_QUALITY = 60
_LISTED_LABELS = 8
"""Labels that have a column of their own in the table of cases; of more, those of most cases."""


class DatasetPage:
    """The page of a dataset, gathered while its cases are checked one by one.

    Args:
        manifest: the dataset.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._profiles: list[CaseProfile] = []
        self._pictures: dict[str, str] = {}

    def add(self, case: Case, volume: Volume, labels: LabelMap | None) -> None:
        """Take a case: its numbers and a small picture stay in memory.

        Args:
            case: its names.
            volume: the image.
            labels: its reference, or None.
        """
        self._profiles.append(profile_case(case, self._manifest.card.channels, volume, labels))
        buffer = BytesIO()
        planes_picture(volume, labels).save(buffer, format="WEBP", quality=_QUALITY)
        self._pictures[case.id] = "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()

    def suspicions(self) -> list[Problem]:
        """What is suspicious about the cases taken so far, as notes."""
        by_id = {case.id: case for case in self._manifest.cases}
        return [
            Problem(id, str(by_id[id].named_file), message, "note")
            for id, message in suspicious_cases(self._profiles, self._manifest.card.table)
        ]

    def write(self, page: Path, problems: Problems) -> Path:
        """Write the page, one file.

        Args:
            page: the file.
            problems: those of the set, suspicions among them.
        """
        card, profiles = self._manifest.card, self._profiles
        remarks: dict[str, list[str]] = defaultdict(list)
        for problem in problems:
            remarks[problem.case].append(problem.message if problem.kind == "note" else f"error: {problem.message}")
        labels, unit = self._labels(), size_unit(profiles)
        html = render_page(
            "dataset.html.j2",
            title=f"voxelry check: {card.title or card.name}",
            notes=[*self._facts(problems), *remarks.get("", ())],
            suspicious=[(case.id, remark) for case in self._manifest.cases for remark in remarks.get(case.id, ())],
            histograms=[histograms_svg(channel) for channel in zip(*(profile.histograms for profile in profiles), strict=True)],
            boxes=self._boxes(unit),
            head=[
                "case",
                "split",
                "group",
                "shape",
                "spacing (mm)",
                "axes",
                "median grey value",
                *(f"{x} ({unit})" for x in labels),
            ],
            cases=[_row(profile, labels) for profile in profiles],
            tiles=[
                (case.id, case.split or "no split", self._pictures.get(case.id, ""), remarks.get(case.id, []))
                for case in self._manifest.cases
            ],
        )
        write_text(page, html)
        return page

    def _facts(self, problems: Problems) -> list[str]:
        card = self._manifest.card
        lines = [f"{problems.cases} cases ({problems.counts}), {problems.usable} of them usable."]
        lines += [f"Labels: {', '.join(card.table.names)}."] if card.labels else []
        lines += [f"'{name}': {statistics.describe()}." for name, statistics in problems.objects.items()]
        return lines + ([f"Licence: {card.licence}."] if card.licence else [])

    def _labels(self) -> list[str]:
        """The labels with a column: those of most cases, in the table's order."""
        names = self._manifest.card.table.names
        present = {name: sum(1 for each in self._profiles if name in each.labels and each.labels[name].voxels) for name in names}
        most = sorted(names, key=lambda name: -present[name])[:_LISTED_LABELS]
        return [name for name in names if name in most]

    def _boxes(self, unit: str) -> Markup:
        columns: dict[str, list[float]] = {name: [] for name in self._manifest.card.table.names}
        for profile in self._profiles:
            for name, own in profile.labels.items():
                columns[name] += [own.size] if own.voxels else []
        return box_svg(f"Size of labels ({unit})", {name: np.array(sizes, float) for name, sizes in columns.items()})


_TIMES = "\u00a0x\u00a0"
"""Between sizes along axes, whose line does not break."""


def _row(profile: CaseProfile, labels: Sequence[str]) -> list[str]:
    spacing = "" if profile.spacing is None else _TIMES.join(f"{value:.3g}" for value in profile.spacing)
    sizes = [profile.labels.get(name) for name in labels]
    return [
        profile.id,
        profile.split or "",
        profile.group,
        _TIMES.join(map(str, profile.shape)),
        spacing,
        profile.orientation or "",
        ", ".join(_number(histogram.median) for histogram in profile.histograms),
        *("" if size is None else "-" if size.voxels == 0 else _number(size.size) for size in sizes),
    ]


def _number(value: float) -> str:
    """Four digits, or all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
