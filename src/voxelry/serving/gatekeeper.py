"""Gatekeeper: who may ask a server: a bearer token, the addresses a browser may name, and headers that keep pages apart."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

_OPEN = ("/", "/health", "/web/app.js", "/web/app.css")
"""What needs no token: the page that asks for one, and whether the server lives."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer: a page of ours loads from here alone, and no other page shows or stores what is answered."""


def is_loopback(host: str) -> bool:
    """An address that only this machine reaches."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


@dataclass(frozen=True)
class Gatekeeper:
    """Refuses requests before anything of their body is read.

    Attributes:
        app: the application behind it.
        token_hash: SHA-256 of the bearer token; None where none is asked for, which a server does on loopback alone.
    """

    app: Any
    token_hash: bytes | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, or pass on, one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in names]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        if self.token_hash is None and _host_name(headers.get("host", "")) not in _LOOPBACK:
            return _refused(403, "without a token the server is asked by the names of this machine alone. Ask http://127.0.0.1.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return _refused(
                403, f"a page of {origin[:200]} may not ask this server. Ask it from a program, or from its own page."
            )
        is_open = method in ("GET", "HEAD") and (path in _OPEN or path.endswith("/health"))
        if self.token_hash is None or is_open or hmac.compare_digest(_hash(_bearer(headers)), self.token_hash):
            return None
        refusal = _refused(401, "the bearer token is missing or wrong. Send the header 'Authorization: Bearer TOKEN'.")
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return _hash(token)


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host_name(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host


def _refused(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)
