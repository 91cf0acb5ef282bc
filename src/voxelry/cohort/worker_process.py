"""WorkerProcess: a child process that takes and gives JSON, one object a line, seen from the process that leads a batch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from voxelry.base.memory import short_memory

_CHUNK = 1 << 16
_LONGEST_TAIL = 600
"""Bytes of a dead worker's last words that are shown."""

Message = Mapping[str, Any]


class WorkerProcess:
    """A running worker.

    Args:
        name: its name, for the ledger and messages.
        command: program and arguments; the number of the socket that it talks on is added as the last one.
        environment: variables that differ from this process's own.

    Attributes:
        ended_by: why this process was killed from here; empty where it was not.
        peak_memory: most bytes that it was seen to hold.
        is_lost: its machine is gone, which is no fault of its scans; never for a process of this machine.
    """

    is_lost = False

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name, self.ended_by, self.peak_memory = name, "", 0
        self._is_over_memory = False
        self._buffer = b""
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._socket, other = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*command, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                pass_fds=[other.fileno()],
                env={**os.environ, **environment},
            )
        except BaseException:
            self._socket.close()
            self._words.close()
            raise
        finally:
            other.close()

    def fileno(self) -> int:
        """Of its socket, for `selectors`."""
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost, as its death will be noticed."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def messages(self) -> Iterator[Message]:
        """Messages that have come; to be called when the socket is readable.

        Raises:
            EOFError: the worker is gone, and no message is left.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def memory(self) -> int:
        """Bytes that it holds now (its resident set); 0 where the system does not say."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        held = pages * os.sysconf("SC_PAGE_SIZE")
        self.peak_memory = max(self.peak_memory, held)
        return held

    def kill(self, reason: str, *, is_memory: bool = False) -> None:
        """End it at once.

        Args:
            reason: for `death`.
            is_memory: it holds more than it may.
        """
        self.ended_by = self.ended_by or reason
        self._is_over_memory |= is_memory
        with suppress(OSError):
            self._process.kill()

    @property
    def may_lack_memory(self) -> bool:
        """Of a worker that ended: it passed its limit of memory, or the system killed it, as it does where memory runs out."""
        return self._is_over_memory or (not self.ended_by and self._process.wait() == -signal.SIGKILL)

    def close(self, patience: float = 0.0) -> None:
        """Release it; a process that still runs after `patience` seconds is killed."""
        self._socket.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def death(self) -> str:
        """Why it ended, in words: the limit that it passed, a signal, or its exit status, and its last words."""
        status = self._process.wait()
        held = f" with {short_memory(self.peak_memory)} of memory" if self.peak_memory else ""
        if self.ended_by:
            return f"{self.ended_by}{held}"
        if status < 0:
            name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
            killer = "; the system may have run out of memory" if -status == signal.SIGKILL else ""
            return f"its process was ended by {name}{held}{killer}{self._last_words()}"
        return f"its process ended with status {status}{held}{self._last_words()}"

    def _last_words(self) -> str:
        self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, self._words.tell() - _LONGEST_TAIL))
        text = " ".join(self._words.read().decode(errors="replace").split())
        return f" ({text})" if text else ""
