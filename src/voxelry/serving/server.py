"""Runs the application on a port until it is told to end; what runs is finished first."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import uvicorn

from voxelry.errors import UsageError
from voxelry.serving.access_tokens import AccessTokens
from voxelry.serving.application import Application
from voxelry.serving.gatekeeper import Gatekeeper, is_loopback
from voxelry.serving.rate_limit import RateLimit
from voxelry.serving.request_log import RequestLog
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import load_served
from voxelry.serving.timed_protocol import timed_protocol

_SHORTEST_TOKEN = 16
"""Characters of a token, below which it could be guessed."""
_KEEP_ALIVE = 15
"""Seconds that an idle connection stays open."""
_GRACE = 40
"""Seconds after the order to end in which clients may take answers that are under way; who stopped reading is cut off."""


class ModelServer(uvicorn.Server):
    """A uvicorn server that says where it listens, and turns waiting work away as soon as it is told to end.

    Args:
        application: what answers.
        host, port: where to listen; port 0 takes any that is free.
        tokens: who may ask for what.
        limits: what is taken at most.
        on_start: called with the server's address.
    """

    def __init__(
        self,
        application: Application,
        host: str,
        port: int,
        tokens: AccessTokens,
        limits: ServeLimits,
        on_start: Callable[[str], None],
    ) -> None:
        guarded = Gatekeeper(application.api, tokens, RateLimit(limits.rate, limits.burst))
        config = uvicorn.Config(
            RequestLog(guarded, application.metrics),
            host,
            port,
            http=timed_protocol(limits),
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
            lifespan="on",
        )
        super().__init__(config)
        self._application, self._on_start = application, on_start

    async def startup(self, sockets: object = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT: no new work, waiting requests are told to come again, running ones are finished."""
        threading.Thread(target=self._application.queue.close).start()  # the signal may have come while its lock is held
        super().handle_exit(sig, frame)


def run_server(
    models: Sequence[Path],
    host: str,
    port: int,
    *,
    token: str | None,
    tokens: Path | None,
    device: str,
    jobs: Path | None,
    limits: ServeLimits,
    network: str | None,
    archives: Callable[[tuple[str, ...]], ServedArchives],
    on_start: Callable[[str], None],
) -> None:
    """Serve models until the process is told to end.

    Args:
        models: model folders; the first answers at ``/``.
        host: address to listen at.
        port: port to listen at.
        token: bearer token that requests must carry.
        tokens: file of more of them.
        device: ``auto``, ``cpu``, ``cuda``, or several GPUs: ``cuda:0,cuda:1``.
        jobs: folder that keeps jobs over a restart; None for a temporary one.
        limits: what is taken at most.
        network: import path of a network of the user's own.
        archives: the archives that it speaks to, by the names of the models.
        on_start: called with the server's address once it listens.

    Raises:
        ConfigError: the file of tokens is wrong.
        UsageError: an address that others reach without a token, a token that could be guessed, or a port that is taken.
        ModelError: a model cannot be used.
    """
    known = AccessTokens(token, tokens)
    check_access(host, token, known.is_needed)
    refuse_taken(host, port, "--port")
    with ExitStack() as stack:
        folder = jobs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voxelry-serve-")))
        served = load_served(models, device, network)
        spoken = archives(tuple(served))
        if spoken.node is not None:
            refuse_taken(spoken.node.host, spoken.node.port, "`port` of the node")
        application = Application(served, folder, limits, spoken)
        ModelServer(application, host, port, known, limits, on_start).run()


def refuse_taken(host: str, port: int, setting: str) -> None:
    """Refuse an address at which this machine cannot listen, before models are loaded.

    Raises:
        UsageError: another program listens there, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot listen at {host}, port {port}: {reason}", remedy=f"Change {setting}, or end what listens there."
        ) from error


def check_access(host: str, token: str | None, has_tokens: bool = False) -> None:
    """Refuse a server that others could ask, or whose token they could guess.

    Args:
        host: where it listens.
        token: that requests must carry.
        has_tokens: whether they must carry any at all.

    Raises:
        UsageError: it is so.
    """
    if token is None and not has_tokens and not is_loopback(host):
        raise UsageError(
            f"--host {host} without a token: anyone who reaches this machine could send scans and read results",
            remedy="Set VOXELRY_TOKEN or --tokens, or leave --host at 127.0.0.1.",
        )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"a token of {len(token)} characters, fewer than {_SHORTEST_TOKEN}", remedy="Make one: openssl rand -hex 32."
        )
