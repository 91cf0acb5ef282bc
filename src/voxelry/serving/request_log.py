"""RequestLog: a line of each request, a number to find it by, and counts; none says anything of a patient.

A line names the route (never the address that was asked, nor its query), the client by the name of its token or its address, the
status, bytes and seconds, and the job. Names of files, headers and bodies are in none.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
import traceback
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from voxelry.serving.gatekeeper import client_of
from voxelry.serving.server_metrics import ServerMetrics

log = logging.getLogger(__name__)

_HEADER = b"x-request-id"
_NO_ROUTE = "none"
_FAULT = 500
_FIELDS = "fields"
_request: ContextVar[str] = ContextVar("request", default="")


@dataclass(frozen=True)
class RequestLog:
    """Notes every request of an application.

    Attributes:
        app: the application behind it.
        metrics: where it is counted.
    """

    app: Any
    metrics: ServerMetrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on one request, and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id = secrets.token_hex(8)  # our own: what a client gives may say anything
        _request.set(id)
        began, status, received, sent = time.perf_counter(), _FAULT, 0, 0

        async def counted_receive() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Any) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (_HEADER, id.encode())]}
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, counted_receive, counted_send)
        finally:
            seconds = time.perf_counter() - began
            self._note(scope, status, received, sent, seconds)

    def _note(self, scope: Any, status: int, received: int, sent: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self.metrics.count(scope["method"], route, status, received, seconds)
        fields = {
            "client": client_of(scope),
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "received": received,
            "sent": sent,
            "seconds": round(seconds, 4),
        }
        job = scope.get("job") or scope.get("path_params", {}).get("job")
        if job and status < 400:
            fields["job"] = job
        log.info("request", extra={_FIELDS: fields})


class JsonLines(logging.Formatter):
    """A record as one line of JSON; of an exception its kind and the places it passed, but not its words."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        if _request.get():
            line["request"] = _request.get()
        line |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["exception"] = record.exc_info[0].__name__
            line["places"] = " ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
        return json.dumps(line)
