"""SeriesInbox: instances that the DICOM node was sent, in a folder for each series, until the series is complete.

An instance is on the disk before its sender is told that it is stored, so that a restart loses none. A series that is complete is
moved away under a name of its own, `ReleasedSeries.token`: what comes later begins a new one.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from voxelry.base.files import atomic_path

_COLLECTING, _RELEASED = "collecting", "released"
_BETWEEN = "~"
_PATIENCE = 6
"""Quiet times after which a sender that stays connected and sends nothing, and instances that are missing, are not waited for."""

_LONGEST = 60
"""Quiet times after which a series is complete, whatever else its sender goes on sending."""


@dataclass(frozen=True)
class SeriesKey:
    """UIDs of a study and a series of it."""

    study: str
    series: str

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.study}{_BETWEEN}{self.series}"


@dataclass(frozen=True)
class ReleasedSeries:
    """A series that is complete, or is not waited for any more.

    Attributes:
        token: its name, which no other has.
        key: its UIDs.
        files: its instances, named by their SOPInstanceUID.
        expected: how many its headers count; None where they do not.
    """

    token: str
    key: SeriesKey
    files: tuple[Path, ...]
    expected: int | None = None


@dataclass
class _Growing:
    """A series that grows: when it last did, who is connected that sent some of it, how many instances it should have."""

    last: float
    senders: set[int] = field(default_factory=set)
    expected: int | None = None
    is_counted: bool = False


class SeriesInbox:
    """The series that were sent.

    Args:
        folder: where they lie.
        quiet: seconds without an instance after which a series is complete, once none of its senders is connected.
        most: bytes that it holds at most.
        asks: whether somebody else counts the instances of a series, and `note_count` is called for each of `uncounted`.
    """

    def __init__(self, folder: Path, quiet: float, most: int, asks: bool = False) -> None:
        self._folder, self._quiet, self._most, self._asks = folder, quiet, most, asks
        self._guard = threading.Lock()
        self._growing: dict[SeriesKey, _Growing] = {}
        self._active: dict[int, float] = {}
        self._expected: dict[str, int | None] = {}
        for name in (_COLLECTING, _RELEASED):
            (folder / name).mkdir(parents=True, exist_ok=True)
        now = time.monotonic()
        for each in (folder / _COLLECTING).iterdir():
            self._growing[_key_of(each.name)] = _Growing(now)
        self._size = sum(file.stat().st_size for file in folder.rglob("*.dcm"))

    def add(self, source: Path, key: SeriesKey, instance: str, sender: int, expected: int | None) -> None:
        """Keep an instance; one of the same UID that came before is replaced.

        Args:
            source: its file, which is copied.
            key: its series.
            instance: its SOPInstanceUID, which is safe as a file name.
            sender: number of the connection it came by.
            expected: number of the series' instances, where its header says.

        Raises:
            OSError: there is no room for it.
        """
        size = source.stat().st_size
        with self._guard:
            if self._size + size > self._most:
                raise OSError(f"the node holds {self._size} bytes of series already")
            self._size += size
            growing = self._growing.setdefault(key, _Growing(0.0))
            growing.last = self._active[sender] = time.monotonic()
            growing.senders.add(sender)
            growing.expected = expected or growing.expected
            target = self._folder / _COLLECTING / key.folder / f"{instance}.dcm"
            earlier = target.stat().st_size if target.exists() else 0
            try:
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
            except OSError:
                self._size -= size
                raise
            self._size -= earlier

    def leave(self, sender: int) -> None:
        """A connection has ended."""
        with self._guard:
            self._active.pop(sender, None)
            for growing in self._growing.values():
                growing.senders.discard(sender)

    def released(self) -> list[ReleasedSeries]:
        """The series that are complete and not yet dropped, those of an earlier run too, oldest first."""
        now = time.monotonic()
        with self._guard:
            due = [key for key, growing in self._growing.items() if self._is_due(key, growing, now)]
            for key in due:
                token = f"{time.time_ns():020d}{secrets.token_hex(8)}"
                self._expected[token] = self._growing.pop(key).expected
                place = self._folder / _RELEASED / token
                place.mkdir()
                (self._folder / _COLLECTING / key.folder).rename(place / key.folder)
            return [series for place in sorted((self._folder / _RELEASED).iterdir()) for series in self._in(place)]

    def uncounted(self) -> list[SeriesKey]:
        """The series that would be complete now, were it not for a count of their instances."""
        now = time.monotonic()
        with self._guard:
            return [key for key, growing in self._growing.items() if self._lacks_count(growing) and self._is_quiet(growing, now)]

    def note_count(self, key: SeriesKey, count: int | None) -> None:
        """Wait for more instances of a series, where it has more.

        Args:
            key: the series.
            count: number of its instances; None where nobody knows.
        """
        with self._guard:
            growing = self._growing.get(key)
            if growing is not None:
                growing.is_counted = True
                if count is not None and count > self._held(key):
                    growing.expected = count

    def _lacks_count(self, growing: _Growing) -> bool:
        return self._asks and growing.expected is None and not growing.is_counted

    def _held(self, key: SeriesKey) -> int:
        return sum(1 for _ in (self._folder / _COLLECTING / key.folder).glob("*.dcm"))

    def _in(self, place: Path) -> list[ReleasedSeries]:
        expected = self._expected.get(place.name)
        return [
            ReleasedSeries(place.name, _key_of(each.name), tuple(sorted(each.glob("*.dcm"))), expected)
            for each in place.iterdir()
        ]

    def _is_due(self, key: SeriesKey, growing: _Growing, now: float) -> bool:
        if growing.expected is not None and self._held(key) >= growing.expected:
            return True
        return self._is_quiet(growing, now) and not self._lacks_count(growing)

    def _is_quiet(self, growing: _Growing, now: float) -> bool:
        """Whether nothing more of a series is waited for."""
        patience = self._quiet * _PATIENCE
        if now - growing.last >= self._quiet * _LONGEST:
            return True
        if any(now - self._active.get(sender, now - patience) < patience for sender in growing.senders):
            return False
        return now - growing.last >= (self._quiet if growing.expected is None else patience)

    def drop(self, token: str) -> None:
        """Delete a series that was released: it is kept elsewhere now, or was refused."""
        place = self._folder / _RELEASED / token
        freed = sum(file.stat().st_size for file in place.rglob("*.dcm"))
        shutil.rmtree(place, ignore_errors=True)
        with self._guard:
            self._size -= freed
            self._expected.pop(token, None)


def _key_of(folder: str) -> SeriesKey:
    study, _, series = folder.partition(_BETWEEN)
    return SeriesKey(study, series)
