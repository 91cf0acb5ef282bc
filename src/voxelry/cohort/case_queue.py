"""CaseQueue: the cases of a run between its ledger and its workers; which are left to do, and what became of each."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxelry.cohort.content_hash import stamp_of
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.supervisor import Task

LEASE = 120.0
"""Seconds after its last sign of life at which a worker is given up."""

LATER = "later"
"""Owner of cases that wait for all of the memory."""

_FOREVER = 1e12
_KEPT = ("flags", "remarks", "source", "facts")
"""Of a worker's message, what the ledger keeps of a case beside its files."""


@dataclass
class CaseQueue:
    """Hands out the cases of a run, and writes down how they end (a `TaskSource`).

    Attributes:
        ledger: of the output folder.
        out: the output folder.
        scans: all scans of the run, by id.
        request: digest of model, settings and formats.
        ended: called when a case is done (True) or has failed (False).
        left: ids of the cases that were to be done when the run began.
        may_defer: whether cases that lack memory are kept for later, when they can have all of it.
        deferred: those that were.
    """

    ledger: Ledger
    out: Path
    scans: Mapping[str, Scan]
    request: str
    ended: Callable[[bool], None]
    may_defer: bool = False
    deferred: list[Task] = field(default_factory=list)
    left: frozenset[str] = frozenset()
    _owners: set[str] = field(default_factory=set)
    _last_beat: float = 0.0

    def begin(self, check: Callable[[Scan], None]) -> None:
        """Write all scans into the ledger that are not done.

        Args:
            check: refuses outputs of a scan that is to be done which would replace something of the user's.
        """
        done = self._done()
        left = [self._left(rank, scan) for rank, scan in enumerate(self.scans.values()) if scan.id not in done]
        for case in left:
            check(self.scans[case.id])
        self.ledger.give_back()  # nothing was written before: a run that is refused changes nothing
        self.ledger.forget([id for id in self.ledger.waiting() if id not in self.scans])
        self.ledger.put(left)
        self.left = frozenset(case.id for case in left)

    def _done(self) -> set[str]:
        """The scans whose input and outputs have the stamps of when they were done; a hundred thousand take a second or two."""
        done = set[str]()
        for id, stamp, outputs in self.ledger.fulfilled(self.request):
            scan = self.scans.get(id)
            if scan is not None and _stamp(scan) == stamp:
                rows = json.loads(outputs).values()
                if all(stamp_of([os.path.join(self.out, row["path"])]) == row["stamp"] for row in rows):  # noqa: PTH118
                    done.add(id)
        return done

    def _left(self, rank: int, scan: Scan) -> LedgerCase:
        """The case of a scan as it is to be done.

        Where the same request was fulfilled, and stamps alone have changed, hashes will tell: they are kept.
        """
        case = LedgerCase(scan.id, rank, tuple(map(os.fspath, scan.images)), self.request, _stamp(scan))
        known = self.ledger.case(scan.id)
        if known is None or known.request != self.request or known.state == "failed" or not known.input_hash:
            return case
        if not all((self.out / row["path"]).exists() for row in known.outputs.values()):
            return case
        return replace(case, input_hash=known.input_hash, outputs=known.outputs, details=known.details)

    def next(self, worker: str) -> Task | None:
        """The next case, now running; None where none is left."""
        self._owners.add(worker)
        self._beat_all()
        case = self.ledger.claim(worker, LEASE)
        if case is None:
            return None
        known = {"input": case.input_hash, "outputs": case.outputs} if case.input_hash else None
        scan = self.scans[case.id]
        more = {"remark": scan.remark, "series": scan.series, "urls": scan.urls}
        return Task(case.id, {"images": case.images, **more, "known": known})

    def done(self, task: Task, message: Mapping[str, Any], peak_memory: int) -> None:
        """A case was ended by its last message.

        Raises:
            OSError: the disk is full; the case waits for the next run.
        """
        seconds = {name: round(value, 4) for name, value in message["timings"].items()}
        if message["event"] == "done":
            changes: dict[str, Any] = {"outputs": message["outputs"], "timings": seconds, "peak_memory": peak_memory}
            if not message.get("is_unchanged"):
                changes |= {"input_hash": message["input_hash"], "details": {name: message[name] for name in _KEPT}}
            self.ledger.finish(task.id, "done", message.get("measurements"), **changes)
        elif message["is_full"]:
            self.ledger.finish(task.id, "ready")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.out))
        elif (message["is_memory"] or message["is_budget"]) and self.may_defer:
            self._defer(task)
            return
        else:
            self._fail(task, message["error"], message["error_class"], peak_memory)
        self.ended(message["event"] == "done")

    def died(self, task: Task, reason: str, peak_memory: int, is_memory: bool) -> None:
        """A case ended its worker as often as allowed."""
        if is_memory and self.may_defer:
            self._defer(task)
            return
        self._fail(task, f"{task.order['images'][0]}: {reason}", "WorkerDeath", peak_memory)
        self.ended(False)

    def beat(self, worker: str) -> None:
        """A worker lives."""
        self.ledger.heartbeat(worker, LEASE)

    def _beat_all(self) -> None:
        """Extend all leases before a claim: after a sleep of the machine they have run out, though nobody is dead."""
        now = time.time()
        if now - self._last_beat > LEASE / 4:
            self._last_beat = now
            for owner in self._owners:
                self.beat(owner)

    def _defer(self, task: Task) -> None:
        self.ledger.finish(task.id, "running", owner=LATER, lease_until=_FOREVER)
        self.deferred.append(task)

    def _fail(self, task: Task, error: str, error_class: str, peak_memory: int) -> None:
        cleared: dict[str, Any] = {"outputs": {}, "input_hash": "", "details": {}}
        self.ledger.finish(task.id, "failed", error=error, error_class=error_class, peak_memory=peak_memory, **cleared)


def _stamp(scan: Scan) -> str:
    """The stamp of a scan's files, and which series of theirs it is."""
    return " ".join([scan.version or stamp_of(scan.images), *scan.series])


@dataclass
class DeferredCases:
    """The cases that a queue deferred, handed out once more (a `TaskSource`).

    Attributes:
        queue: where they were deferred.
        tasks: those left.
    """

    queue: CaseQueue
    tasks: list[Task]

    def next(self, _: str) -> Task | None:
        """The next one."""
        return self.tasks.pop(0) if self.tasks else None

    def done(self, task: Task, message: Mapping[str, Any], peak_memory: int) -> None:
        """As of the queue."""
        self.queue.done(task, message, peak_memory)

    def died(self, task: Task, reason: str, peak_memory: int, is_memory: bool) -> None:
        """As of the queue."""
        self.queue.died(task, reason, peak_memory, is_memory)

    def beat(self, _: str) -> None:
        """Their leases do not end."""


def fresh(tasks: Sequence[Task]) -> list[Task]:
    """Tasks as they were before their first attempt."""
    return [Task(task.id, task.order) for task in tasks]
