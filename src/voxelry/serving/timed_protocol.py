"""TimedProtocol: HTTP of uvicorn whose clients must send, and take, with some speed: one that dawdles is hung up on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from voxelry.serving.serve_limits import ServeLimits

_LOOK = 1.0
"""Seconds between looks at a connection, at most."""


def timed_protocol(limits: ServeLimits) -> type[H11Protocol]:
    """The protocol with its limits, as uvicorn makes one for each connection."""
    return type("LimitedProtocol", (TimedProtocol,), {"limits": limits})


class TimedProtocol(H11Protocol):
    """A connection that is given up where its client dawdles: uvicorn alone would wait for ever.

    - The head of a request must be there `limits.head` seconds after its first byte, or after the connection began.
    - A body must come with `limits.speed` bytes a second on average, after the first `limits.silence` seconds.
    - An answer must be taken as fast, over each `limits.silence` seconds.
    - Of more than `limits.connections` connections whose clients have to send something, the one that lags most is given up.
    """

    limits: ServeLimits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at a connection."""
        super().connection_made(transport)
        self._begin()
        self._unsent: tuple[float, int] | None = None
        self._make_room()
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._look_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what came; the first bytes after a pause between requests begin a new one."""
        if self.timeout_keep_alive_task is not None:
            self._begin()
        self._received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """From now on the client is waited for again."""
        self._begin()
        super().on_response_complete()

    def lag(self, now: float) -> float:
        """Bytes that a client should have sent by now and has not; no more than 0 where it keeps up."""
        return (now - self._began) * self.limits.speed - self._received

    @property
    def is_awaited(self) -> bool:
        """Whether the client has to send something: a request, or the rest of one."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()

    def _begin(self) -> None:
        self._began, self._received = self.loop.time(), 0

    def _schedule(self) -> None:
        pause = min(_LOOK, self.limits.head / 4, self.limits.silence / 4)
        self._look_task = self.loop.call_later(pause, self._look)

    def _make_room(self) -> None:
        now = self.loop.time()
        awaited: list[TimedProtocol] = [each for each in self.connections if each.is_awaited]  # type: ignore[union-attr,misc]
        if len(awaited) > self.limits.connections:
            max(awaited, key=lambda each: each.lag(now)).give_up()

    def _look(self) -> None:
        now = self.loop.time()
        if self._sends_too_slowly(now) or self._takes_too_slowly(now):
            self.give_up()
        else:
            self._schedule()

    def _sends_too_slowly(self, now: float) -> bool:
        age, between = now - self._began, self.timeout_keep_alive_task is not None
        if self.conn.their_state is h11.IDLE:
            return age > self.limits.head and not between
        if self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            return age > self.limits.silence and self.lag(now) > self.limits.silence * self.limits.speed
        return False

    def _takes_too_slowly(self, now: float) -> bool:
        """Whether what waits to be sent has hardly grown less for long; more that is written begins anew."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unsent = None
        elif self._unsent is None or size > self._unsent[1]:
            self._unsent = now, size
        elif now - self._unsent[0] > self.limits.silence:
            if self._unsent[1] - size < self.limits.silence * self.limits.speed:
                return True
            self._unsent = now, size
        return False

    def give_up(self) -> None:
        """Hang up at once; what the client asked for ends as if it had gone away."""
        self.transport.abort()
