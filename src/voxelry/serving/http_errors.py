"""Errors as answers of HTTP: a status, and JSON with the key ``error``."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from voxelry.errors import MissingExtraError, UnexpectedError, UnsupportedFormatError, VoxelryError
from voxelry.serving.device_queue import ClosingError, QueueFullError
from voxelry.serving.job_store import CancelledJobError, without_path

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[VoxelryError], int], ...] = (
    (QueueFullError, 429), (ClosingError, 503), (UnexpectedError, 500), (MissingExtraError, 500), (UnsupportedFormatError, 415),
)  # fmt: skip
_UNPROCESSABLE = 422
"""Status of every other error: of what was sent."""
_CLOSED_BY_CLIENT = 499
"""nginx's status of a request whose client is gone; nobody reads it."""
_RETRY_AFTER = 10
_DISK_FAILS = "the server could not read or write its disk. Try again later."

HANDLED = (VoxelryError, OSError, AnyHTTPException, RequestValidationError, ClientDisconnect)
"""The errors that `answer_error` answers."""


def public_error(error: VoxelryError, folder: Path) -> Exception:
    """An error as its client may see it: without paths of the server.

    Args:
        error: what happened.
        folder: of the job or request.
    """
    if isinstance(error, QueueFullError | ClosingError | CancelledJobError):
        return error
    status = _status_of(error)
    if status >= 500:
        log.exception("a request failed", exc_info=error)
    detail = {"error": without_path(error, folder)}
    choices = list(getattr(error, "choices", ()))
    return HTTPException(status, {**detail, "choices": choices} if choices else detail)


async def answer_error(_: Request, error: Exception) -> Response:
    """The answer to a request that failed."""
    if isinstance(error, ClientDisconnect | CancelledJobError):
        return Response(status_code=_CLOSED_BY_CLIENT)
    if isinstance(error, RequestValidationError):
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return JSONResponse({"error": f"the request is wrong: {'; '.join(lines)}."}, _UNPROCESSABLE)
    if isinstance(error, OSError):
        log.error("a request failed", exc_info=error)
        return JSONResponse({"error": _DISK_FAILS}, 507 if error.errno == errno.ENOSPC else 500)
    if isinstance(error, AnyHTTPException):
        detail: Any = error.detail
        content = detail if isinstance(detail, dict) else {"error": detail}
        return JSONResponse(content, error.status_code, error.headers)
    assert isinstance(error, VoxelryError)
    status = _status_of(error)
    retry = {"Retry-After": str(getattr(error, "retry_after", _RETRY_AFTER))} if status in (429, 503) else None
    return JSONResponse({"error": str(error)}, status, retry)


def _status_of(error: VoxelryError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), _UNPROCESSABLE)
