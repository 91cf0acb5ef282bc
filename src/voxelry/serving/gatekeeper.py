"""Gatekeeper: who may ask a server: a bearer token, the addresses a browser may name, and headers that keep pages apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from voxelry.serving.access_tokens import Access, AccessTokens
from voxelry.serving.rate_limit import RateLimit
from voxelry.serving.token_scopes import scope_of

_PROBES = ("/health", "/ready")
_OPEN = ("/", "/web/app.js", "/web/app.css", *_PROBES)
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
_UNKNOWN = "unknown"


def is_loopback(host: str) -> bool:
    """An address that only this machine reaches."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def client_of(scope: Any) -> str:
    """Who asks, for turns, limits and logs: the name of the token, else the address."""
    access: Access | None = scope.get("access")
    if access is not None:
        return access.name
    address = scope.get("client")
    return address[0] if address else _UNKNOWN


@dataclass(frozen=True)
class Gatekeeper:
    """Refuses requests before anything of their body is read; it notes the `Access` of a token in the scope.

    Attributes:
        app: the application behind it.
        tokens: of which requests must carry one; where there is none, none is asked for, which a server does on loopback alone.
        limit: of requests of one client.
    """

    app: Any
    tokens: AccessTokens
    limit: RateLimit

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

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Any, headers: Headers) -> JSONResponse | None:
        method, path = scope["method"], scope["path"]
        if not self.tokens.is_needed and _host_name(headers.get("host", "")) not in _LOOPBACK:
            return _refused(403, "without a token the server is asked by the names of this machine alone. Ask http://127.0.0.1.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return _refused(
                403, f"a page of {origin[:200]} may not ask this server. Ask it from a program, or from its own page."
            )
        is_read = method in ("GET", "HEAD")
        if is_read and (path in _PROBES or (path.startswith("/models/") and path.endswith("/health"))):
            return None
        access = self.tokens.find(_bearer(headers)) if self.tokens.is_needed else None
        if access is not None:
            scope["access"] = access
        wait = self.limit.wait(client_of(scope))
        if wait:
            refusal = _refused(429, "too many requests. Send fewer a second.")
            refusal.headers["retry-after"] = str(math.ceil(wait))
            return refusal
        if not self.tokens.is_needed or (is_read and path in _OPEN):
            return None
        return _without_access(access, method, path)


def _without_access(access: Access | None, method: str, path: str) -> JSONResponse | None:
    if access is None:
        refusal = _refused(401, "the bearer token is missing or wrong. Send the header 'Authorization: Bearer TOKEN'.")
        refusal.headers["www-authenticate"] = "Bearer"
        return refusal
    needed = scope_of(method, path)
    if needed is None or needed in access.scopes:
        return None
    return _refused(403, f"the token lacks the scope '{needed}'. Make one: voxelry token FILE NAME --scope {needed}.")


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host_name(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host


def _refused(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)
