"""OutputFolder: a record of what voxelry wrote into a folder, so that nothing else is ever replaced or deleted.

A hidden file in the folder has a line of JSON for each output: its path, the command and inputs that it was made from, and size,
time and checksum of its files. What is not in the record, or was changed since, belongs to the user.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxelry.base.files import irregular
from voxelry.errors import UsageError

log = logging.getLogger(__name__)

RECORD = ".voxelry-outputs.jsonl"
_CHUNK = 1 << 22
_CANNOT_LOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)

Stamps = Mapping[str, Sequence[int]]
"""Size, time in ns and CRC-32 of an output's files, by their path in it; an output of one file has the path ``""``."""


class OutputFolder:
    """A folder that a command writes into.

    Args:
        folder: the folder; it need not exist.
        command: the verb. Outputs of another verb are not replaced.

    Example:
        >>> from pathlib import Path
        >>> outputs = OutputFolder(Path("masks"), "predict")
        >>> with outputs.writing([Path("masks/a.txt")], inputs=[Path("a")]):
        ...     size = Path("masks/a.txt").write_text("mask")
        >>> outputs.check(Path("masks/a.txt"), inputs=[Path("a")])  # the same again may replace it
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self.command = command
        self._known: dict[str, dict[str, Any]] = {}
        self._read_bytes = 0

    @property
    def record(self) -> Path:
        """The file that lists the outputs."""
        return self.folder / RECORD

    def check(self, path: Path, inputs: Sequence[Path] = ()) -> None:
        """Refuse to replace what this command did not write from these inputs, and a file that is one of them.

        Args:
            path: a file or folder in the folder, which may not exist.
            inputs: files and folders that the output is made from.

        Raises:
            UsageError: it is an input, a pipe or a device; or it exists and is not in the record, was made from something else,
                or was changed since.
        """
        refuse_input(path, inputs)
        if not _is_there(path):
            return
        if path.exists() and not path.is_file() and not path.is_dir():
            raise irregular(path)
        entry = self._entries().get(self._name(path))
        remedy = "Write elsewhere, or move it away."
        if entry is None:
            raise UsageError(f"{path}: exists, and was not written by this command", remedy=remedy)
        if entry["command"] != self.command or entry["inputs"] != self._inputs(inputs):
            raise UsageError(
                f"{path}: was written by voxelry {entry['command']}, from other inputs or for another purpose", remedy=remedy
            )
        changed = None if entry["files"] is None else _changed(path, entry["files"])
        if changed is not None:
            raise UsageError(f"{changed}: was changed or added since voxelry wrote {path}, and would be lost", remedy=remedy)

    @contextmanager
    def writing(self, paths: Sequence[Path], inputs: Sequence[Path] = ()) -> Iterator[None]:
        """Check outputs, and record them when the block ends; an interrupted command leaves them recorded as its own.

        Args:
            paths: files and folders in the folder that the block writes, all or some of them.
            inputs: files and folders that they are made from.

        Raises:
            UsageError: as `check`.
        """
        for path in paths:
            self.check(path, inputs)
        is_new, before = not self.record.exists(), dict(self._entries())
        self._make()
        try:
            self._add(dict.fromkeys(paths), inputs)
        except OSError as error:
            if is_new:
                with suppress(OSError):
                    self.record.unlink(missing_ok=True)
            error.filename = str(paths[0])
            raise
        try:
            yield
        except BaseException:
            with suppress(OSError):
                if is_new and not any(map(_is_there, paths)):
                    self.record.unlink(missing_ok=True)
                else:
                    self._restore(paths, before)
            raise
        with suppress(OSError):  # a disk that is full now: they stay recorded as being written
            self._add({path: _stamps(path) for path in paths if _is_there(path)}, inputs)
            self._restore([path for path in paths if not _is_there(path)], {})

    def claim(self, paths: Iterable[Path]) -> None:
        """Record outputs as being written: until `stamp`, they are the command's whatever is in them."""
        self._make()
        self._add(dict.fromkeys(paths), ())

    def stamp(self, paths: Sequence[Path]) -> None:
        """Record outputs as they are now; those that do not exist are no longer the command's."""
        with suppress(OSError):
            self._add({path: _stamps(path) for path in paths if _is_there(path)}, ())
            self._restore([path for path in paths if not _is_there(path)], {})

    def has(self, path: Path) -> bool:
        """Whether an output of this command is recorded and exists."""
        entry = self._entries().get(self._name(path))
        return entry is not None and entry["command"] == self.command and _is_there(path)

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever recorded."""
        return not self._entries()

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other runs out of the folder meanwhile; a run that is killed leaves no lock.

        Args:
            wait: wait for a run that has it.

        Raises:
            UsageError: another run has it.
        """
        if sys.platform == "win32":
            yield
            return
        import fcntl

        is_new = not self.folder.exists()
        self._make()
        with self.record.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _CANNOT_LOCK:
                    log.warning("%s: folders cannot be locked here, so let no other run write into it", self.folder)
                elif wait:
                    log.warning("%s: waits for another run that writes into this folder", self.folder)
                    fcntl.flock(file, fcntl.LOCK_EX)
                else:
                    raise UsageError(
                        f"{self.folder}: another run is writing into this folder",
                        remedy="Wait until it ends, or choose another --out.",
                    ) from None
            try:
                yield
            finally:
                if self.is_blank:  # refused before anything was written
                    self.record.unlink(missing_ok=True)
                    with suppress(OSError):
                        self.folder.rmdir() if is_new else None

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{error.filename}: is a file, no folder", remedy="Name another folder to write into.") from None

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _inputs(self, inputs: Sequence[Path]) -> str:
        """A digest of inputs by their paths from the folder, so that folders moved together still fit."""
        here = os.path.realpath(self.folder)
        names = [Path(os.path.relpath(os.path.realpath(path), here)).as_posix() for path in inputs]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16] if names else ""

    def _entries(self) -> dict[str, dict[str, Any]]:
        """What is recorded of each output; of a record that grew, its new lines alone are read."""
        try:
            with self.record.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._read_bytes:
                    self._known, self._read_bytes = {}, 0
                file.seek(self._read_bytes)
                content = file.read()
        except OSError:
            self._known, self._read_bytes = {}, 0
            return self._known
        _take(content, self._known)
        self._read_bytes += content.rfind(b"\n") + 1
        return self._known

    def _add(self, outputs: Mapping[Path, Stamps | None], inputs: Sequence[Path]) -> None:
        common = {"command": self.command, "inputs": self._inputs(inputs)}
        self._append([{"output": self._name(path), **common, "files": files} for path, files in outputs.items()])

    def _restore(self, paths: Sequence[Path], before: Mapping[str, dict[str, Any]]) -> None:
        """Record outputs as they were recorded before, or as nobody's."""
        names = [self._name(path) for path in paths]
        self._append([{"output": name, **before.get(name, {"gone": True})} for name in names])

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        lines = [json.dumps(entry) + "\n" for entry in entries]
        with self.record.open("ab+", buffering=0) as file:
            is_cut = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write(("\n" * is_cut + "".join(lines)).encode())  # after a line that a full disk cut off


def outputs_in(folder: Path) -> set[str]:
    """The names of files and folders in a folder that voxelry wrote, by its record."""
    return set(OutputFolder(folder, "")._entries())


def refuse_input(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is an input, by whatever name or link, or a folder that holds one.

    Raises:
        UsageError: it is.
    """
    for source in inputs:
        is_same = path.exists() and source.exists() and path.samefile(source)
        if is_same or (path.is_dir() and Path(os.path.realpath(source)).is_relative_to(os.path.realpath(path))):
            raise UsageError(f"{path}: is the input {source}, or holds it", remedy="Write elsewhere.")


def _take(content: bytes, entries: dict[str, dict[str, Any]]) -> None:
    """Lines of a record: the last one of each output counts, and lines that are damaged are passed over."""
    for line in content.decode("utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            if "gone" in entry:
                entries.pop(entry["output"], None)
            else:
                entries[entry["output"]] = {key: entry[key] for key in ("command", "inputs", "files")}


def _is_there(path: Path) -> bool:
    """Something has that name; an empty folder is nothing."""
    return os.path.lexists(path) and not (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """The files of an output, by their path in it; records of inner folders are not counted."""
    if path.is_dir() and not path.is_symlink():
        for file in sorted(path.rglob("*")):
            if file.name != RECORD and (file.is_symlink() or not file.is_dir()):
                yield file.relative_to(path).as_posix(), file
    else:
        yield "", path


def _stamps(path: Path) -> dict[str, list[int]]:
    return {name: [*_stamp(file), _checksum(file)] for name, file in _files(path)}


def _stamp(file: Path) -> list[int]:
    status = file.lstat()
    return [status.st_size, status.st_mtime_ns]


def _checksum(file: Path) -> int:
    value = 0
    if file.is_symlink():
        return value
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _changed(path: Path, stamps: Stamps) -> Path | None:
    """The first file of an output that is not as it was recorded; a file that is gone loses nothing."""
    for name, file in _files(path):
        known = stamps.get(name)
        if known is None:
            return file
        size, time = _stamp(file)
        if size != known[0] or (time != known[1] and _checksum(file) != known[2]):
            return file
    return None
