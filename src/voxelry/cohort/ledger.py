"""Ledger: the state of every case of a batch, in one SQLite file of the output folder.

A case is `ready`, `running`, `done` or `failed`. The file is written ahead (WAL) and synced at each change of state, so that a
loss of power leaves the last state that was reported. Where several machines see the folder, WAL is not safe, as it needs
memory that processes share: there the file is journalled, and only the one process that leads the batch writes it.

One process leads a batch and changes its ledger; its workers report to it. Any other may read: `voxelry status`.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from voxelry.errors import CorruptFileError, MissingFileError, UsageError

LEDGER = ".voxelry-ledger.sqlite"
SCHEMA = 1
"""Version of the tables, in SQLite's `user_version`."""

State = Literal["ready", "running", "done", "failed"]
STATES: tuple[State, ...] = ("ready", "running", "done", "failed")

_WAIT = 30.0
"""Seconds to wait for another process that has the file."""

_SHARED = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "beegfs", "gpfs", "ceph", "glusterfs", "afs", "9p", "fuse.sshfs")
"""Types of file systems that several machines see."""

_TABLES = """
CREATE TABLE IF NOT EXISTS cases (
    id TEXT PRIMARY KEY, rank INTEGER NOT NULL, state TEXT NOT NULL, images TEXT NOT NULL, request TEXT NOT NULL,
    input_stamp TEXT NOT NULL, input_hash TEXT NOT NULL DEFAULT '', attempt INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '', lease_until REAL NOT NULL DEFAULT 0, started REAL NOT NULL DEFAULT 0,
    ended REAL NOT NULL DEFAULT 0, timings TEXT NOT NULL DEFAULT '{}', peak_memory INTEGER NOT NULL DEFAULT 0,
    outputs TEXT NOT NULL DEFAULT '{}', details TEXT NOT NULL DEFAULT '{}', error TEXT NOT NULL DEFAULT '',
    error_class TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS cases_by_state ON cases (state, rank);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS measurements (id TEXT PRIMARY KEY, columns TEXT NOT NULL) STRICT;
"""
_OF_JSON = ("images", "timings", "outputs", "details")


@dataclass(frozen=True)
class LedgerCase:
    """What the ledger knows of one case.

    Attributes:
        id: the case.
        rank: its place in the order of the inputs.
        state: one of `STATES`.
        images: the files and folders of the scan.
        request: digest of model, settings and formats that the outputs were, or will be, made with.
        input_stamp, input_hash: of `images` (`voxelry.cohort.content_hash`); the hash is empty until the scan was read.
        attempt: how often it was begun.
        owner: the worker that has it.
        lease_until: seconds since 1970 at which a worker that has given no sign of life is given up.
        started, ended: seconds since 1970 of the last attempt.
        timings: seconds of each part, such as ``read``, ``predict``, ``write``.
        peak_memory: bytes.
        outputs: name of a format -> path from the output folder, stamp and hash.
        details: flags, remarks, and what later steps know of the case.
        error, error_class: why it failed.
    """

    id: str
    rank: int
    images: tuple[str, ...]
    request: str
    input_stamp: str
    state: State = "ready"
    input_hash: str = ""
    attempt: int = 0
    owner: str = ""
    lease_until: float = 0
    started: float = 0
    ended: float = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    error_class: str = ""


_COLUMNS = tuple(each.name for each in fields(LedgerCase))


class Ledger:
    """The ledger of an output folder.

    Args:
        folder: the output folder, which exists.
        read_only: open it to look at; nothing is created.

    Raises:
        MissingFileError: there is none to look at.
        CorruptFileError: the file is no ledger, or damaged.
        UsageError: a newer version of voxelry wrote it.

    Example:
        >>> from pathlib import Path
        >>> with Ledger(Path(".")) as ledger:
        ...     ledger.put([LedgerCase("a", 0, ("a.nii.gz",), "request", "stamp")])
        ...     case = ledger.claim("worker 1", lease=60)
        ...     ledger.finish(case.id, "done")
        ...     ledger.counts()
        {'ready': 0, 'running': 0, 'done': 1, 'failed': 0}
    """

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        self.path = folder / LEDGER
        if read_only and not self.path.is_file():
            raise MissingFileError(f"{folder}: no ledger of a batch", remedy="Name the --out folder of a `voxelry predict`.")
        self.is_shared = file_system_of(folder) in _SHARED
        try:
            self._connection = self._open(read_only)
        except sqlite3.DatabaseError as error:
            if isinstance(_of_system(error, self.path), OSError):
                raise _of_system(error, self.path) from error
            raise CorruptFileError(
                f"{self.path}: cannot be used as a ledger ({error})", remedy="Move it away; outputs are kept, and made again."
            ) from error

    def _open(self, read_only: bool) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={_reading_mode(self.path) if read_only else 'rwc'}"
        connection = sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise UsageError(
                    f"{self.path}: written by a newer voxelry (version {version} of the ledger, {SCHEMA} is known)",
                    remedy="Update voxelry, or write into another folder.",
                )
            if read_only:
                connection.execute("PRAGMA query_only=ON")
            else:
                connection.execute(f"PRAGMA journal_mode={'DELETE' if self.is_shared else 'WAL'}")
                connection.execute("PRAGMA synchronous=FULL")
                connection.executescript(_TABLES)
                if version != SCHEMA:
                    connection.execute(f"PRAGMA user_version={SCHEMA}")
            connection.execute("SELECT count(*) FROM cases").fetchone()
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was written ahead is moved into it."""
        with suppress(sqlite3.OperationalError, sqlite3.ProgrammingError):  # not where it is closed already
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    @property
    def is_blank(self) -> bool:
        """Whether it holds no case."""
        return self._connection.execute("SELECT 1 FROM cases LIMIT 1").fetchone() is None

    def remove(self) -> None:
        """Close it and delete its files."""
        self.close()
        for ending in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A short transaction.

        Raises:
            OSError: the disk is full; what the ledger held before stays.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.OperationalError):  # SQLite itself rolls back where the disk is full
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise _of_system(error, self.path) from error

    def put(self, cases: Iterable[LedgerCase]) -> None:
        """Add cases, or replace those of the same id, in one transaction."""
        marks = ", ".join(f":{name}" for name in _COLUMNS)
        with self._transaction() as connection:
            connection.executemany(f"INSERT OR REPLACE INTO cases ({', '.join(_COLUMNS)}) VALUES ({marks})", map(_as_row, cases))

    def forget(self, ids: Iterable[str]) -> None:
        """Remove cases, such as those that are no longer among the inputs."""
        with self._transaction() as connection:
            for id in ids:
                connection.execute("DELETE FROM cases WHERE id = ?", (id,))
                connection.execute("DELETE FROM measurements WHERE id = ?", (id,))

    def claim(self, owner: str, lease: float) -> LedgerCase | None:
        """The next case that is ready, or whose worker gave no sign of life, now running.

        Args:
            owner: name of the worker.
            lease: seconds until it is given up, unless `heartbeat` extends them.

        Returns:
            The case, its attempt counted; None where nothing is left to begin.
        """
        now = time.time()
        with self._transaction() as connection:
            row = connection.execute(
                "UPDATE cases SET state = 'running', owner = ?, lease_until = ?, started = ?, ended = 0, attempt = attempt + 1 "
                "WHERE id = (SELECT id FROM cases WHERE state = 'ready' OR (state = 'running' AND lease_until < ?) "
                "ORDER BY rank LIMIT 1) RETURNING *",
                (owner, now + lease, now, now),
            ).fetchone()
        return None if row is None else _of_row(row)

    def heartbeat(self, owner: str, lease: float) -> None:
        """Extend the lease of a worker's cases to `lease` seconds from now."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE cases SET lease_until = ? WHERE owner = ? AND state = 'running'", (time.time() + lease, owner)
            )

    def finish(self, id: str, state: State, measurements: Mapping[str, Any] | None = None, **changes: Any) -> None:
        """End a case's attempt.

        Args:
            id: the case.
            state: ``done`` or ``failed``; ``ready`` gives it back for another attempt.
            measurements: of its labels, column by column; None keeps those of an earlier attempt.
            changes: further attributes of `LedgerCase`.

        Raises:
            UsageError: no such case.
        """
        changes = {"state": state, "owner": "", "lease_until": 0.0, "ended": time.time(), **changes}
        values = {name: json.dumps(value) if name in _OF_JSON else value for name, value in changes.items()}
        with self._transaction() as connection:
            settings = ", ".join(f"{name} = :{name}" for name in values)
            changed = connection.execute(f"UPDATE cases SET {settings} WHERE id = :id", {**values, "id": id}).rowcount
            if measurements is not None:
                connection.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?)", (id, json.dumps(measurements)))
        if not changed:
            raise UsageError(f"{self.path}: no case '{id}'", remedy="It was removed from the ledger meanwhile; run again.")

    def measurements(self) -> Iterator[tuple[str, dict[str, list[Any]]]]:
        """Id and measurements of every case that is done and was measured, in the order of the inputs."""
        wanted = "SELECT id, columns FROM measurements JOIN cases USING (id) WHERE state = 'done' ORDER BY rank, id"
        with closing(self._connection.execute(wanted)) as rows:
            yield from ((row[0], json.loads(row[1])) for row in rows)

    def waiting(self) -> Iterator[str]:
        """The ids of cases that are ready."""
        with closing(self._connection.execute("SELECT id FROM cases WHERE state = 'ready'")) as rows:
            yield from (row[0] for row in rows)

    def fulfilled(self, request: str) -> Iterator[tuple[str, str, str]]:
        """Id, stamp of the input, and outputs as JSON of every case that was done by a request."""
        wanted = "SELECT id, input_stamp, outputs FROM cases WHERE state = 'done' AND request = ?"
        with closing(self._connection.execute(wanted, (request,))) as rows:
            yield from map(tuple, rows)

    def give_back(self) -> int:
        """Make all running cases ready: of a batch whose leading process is gone, nobody works on them.

        Returns:
            How many there were.
        """
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE cases SET state = 'ready', owner = '', lease_until = 0 WHERE state = 'running'"
            ).rowcount

    def case(self, id: str) -> LedgerCase | None:
        """One case, None where there is none of that id."""
        row = self._connection.execute("SELECT * FROM cases WHERE id = ?", (id,)).fetchone()
        return None if row is None else _of_row(row)

    def cases(self, state: State | None = None) -> Iterator[LedgerCase]:
        """The cases, of one state or all, in the order of the inputs."""
        where, values = ("", ()) if state is None else ("WHERE state = ? ", (state,))
        with closing(self._connection.execute(f"SELECT * FROM cases {where}ORDER BY rank, id", values)) as rows:
            yield from map(_of_row, rows)

    def counts(self) -> dict[State, int]:
        """How many cases are in each state."""
        counted = dict(self._connection.execute("SELECT state, count(*) FROM cases GROUP BY state").fetchall())
        return {state: counted.get(state, 0) for state in STATES}

    def last_ends(self, count: int, since: float) -> list[tuple[float, float]]:
        """When the cases that ended last were begun and when they ended, the last first; those that ended since a time."""
        ended = "SELECT started, ended FROM cases WHERE ended >= ? AND state IN ('done', 'failed') ORDER BY ended DESC LIMIT ?"
        return self._connection.execute(ended, (since, count)).fetchall()

    def marked_for_review(self) -> int:
        """How many cases that are done are marked for review by quality control."""
        marked = "json_extract(details, '$.facts.quality.review')"
        return int(self._connection.execute(f"SELECT count(*) FROM cases WHERE state = 'done' AND {marked}").fetchone()[0])

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Keep facts about the whole batch, by name."""
        with self._transaction() as connection:
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def facts(self) -> dict[str, Any]:
        """Facts about the whole batch."""
        return {name: json.loads(value) for name, value in self._connection.execute("SELECT name, value FROM facts")}


def file_system_of(folder: Path) -> str:
    """The type of the file system that holds a folder, as Linux names it; empty where it is not known.

    Example:
        >>> from pathlib import Path
        >>> isinstance(file_system_of(Path(".")), str)
        True
    """
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    here = os.path.realpath(folder)
    best, kind = "", ""
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        place = parts[1].replace("\\040", " ")
        if (here == place or here.startswith(place.rstrip("/") + "/")) and len(place) >= len(best):
            best, kind = place, parts[2]
    return kind


def _of_system(error: sqlite3.DatabaseError, path: Path) -> OSError | sqlite3.DatabaseError:
    """The error of the system behind one of SQLite: a full disk, or one that fails; else the same error."""
    numbers = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO, sqlite3.SQLITE_READONLY: errno.EROFS}
    number = numbers.get(error.sqlite_errorcode & 0xFF) if hasattr(error, "sqlite_errorcode") else None
    return error if number is None else OSError(number, os.strerror(number), str(path))


def _reading_mode(path: Path) -> str:
    """How SQLite opens a ledger to read it: who may write leaves no companion files behind, who may not makes none."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "rw"
    return "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"


def _as_row(case: LedgerCase) -> dict[str, Any]:
    values = {name: getattr(case, name) for name in _COLUMNS}
    return values | {name: json.dumps(values[name]) for name in _OF_JSON}


def _of_row(row: sqlite3.Row) -> LedgerCase:
    values: dict[str, Any] = dict(row)
    values |= {name: json.loads(values[name]) for name in _OF_JSON}
    return LedgerCase(**values | {"images": tuple(values["images"])})
