"""RunStatus: how far the run in an output folder is, by its ledger, from any process at any time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxelry.cohort.ledger import Ledger, State

_RECENT = 200
"""Cases from whose ends the rate is computed."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        folder: the output folder.
        counts: cases in each state.
        running: case -> its worker, and seconds since it was begun.
        failed: case -> why.
        error_classes: kind of error -> cases.
        per_hour: cases that ended per hour, of late; None where none or a single one has.
        seconds_left: at this rate; None where it is not known or nothing is left.
        requests: what outputs were made with: digest -> model, settings and formats.
        review: cases that are done and marked for review by quality control.

    Example:
        >>> from pathlib import Path
        >>> RunStatus(Path("masks"), {"ready": 2, "running": 0, "done": 5, "failed": 1}).total
        8
    """

    folder: Path
    counts: Mapping[State, int]
    running: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    error_classes: Mapping[str, int] = field(default_factory=dict)
    per_hour: float | None = None
    seconds_left: float | None = None
    requests: Mapping[str, Any] = field(default_factory=dict)
    review: int = 0

    @property
    def total(self) -> int:
        """Cases in all."""
        return sum(self.counts.values())

    @property
    def left(self) -> int:
        """Cases that have not ended."""
        return self.counts["ready"] + self.counts["running"]


def status_of(ledger: Ledger, folder: Path) -> RunStatus:
    """How far the run of a ledger is.

    Args:
        ledger: the ledger, which may change meanwhile.
        folder: its folder.
    """
    counts, now = ledger.counts(), time.time()
    running = {case.id: (case.owner, round(now - case.started, 1)) for case in ledger.cases("running")}
    failed, classes = dict[str, str](), Counter[str]()
    for case in ledger.cases("failed"):
        failed[case.id] = case.error
        classes[case.error_class] += 1
    facts = ledger.facts()
    rate = hourly_rate(ledger.last_ends(_RECENT, facts.get("began", 0.0)))
    left = counts["ready"] + counts["running"]
    requests = {name.removeprefix("request "): value for name, value in facts.items() if name.startswith("request ")}
    seconds_left = left / rate * 3600 if rate and left else None
    return RunStatus(
        folder, counts, running, failed, dict(classes.most_common()), rate, seconds_left, requests, ledger.marked_for_review()
    )


def hourly_rate(ends: Sequence[tuple[float, float]]) -> float | None:
    """Cases per hour.

    Args:
        ends: when cases were begun and when they ended, seconds since 1970, the last end first.

    Returns:
        By the span from the first beginning to the last end; None of no case.

    Example:
        >>> hourly_rate([(3600.0, 7200.0), (0.0, 3600.0)])
        1.0
    """
    if not ends:
        return None
    span = max(end for _, end in ends) - min(start for start, _ in ends)
    return len(ends) / span * 3600 if span > 0 else None
