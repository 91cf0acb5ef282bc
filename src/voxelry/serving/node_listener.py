"""NodeListener: the socket of the DICOM node; strangers are hung up on unread, and no caller fills memory or holds up others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from voxelry.serving.node_settings import NodeSettings

_LARGEST_PDU = 1 << 20
"""Bytes of a protocol data unit that are read at once; pynetdicom alone would believe any length up to 4 GiB."""
_PDU = 1 << 17
"""Bytes of a unit that callers are told to send."""
_SILENCE = 30.0
"""Seconds without a byte within a unit, or within the beginning of TLS, after which a caller is hung up on."""
_IDLE = 120.0
"""Seconds between units."""
_MOST_CALLS = 24


class BoundedReads:
    """Reads of a connection, which end where a unit, or all units of one instance, are too large.

    Args:
        read: of the connection.
        most: bytes of an instance.

    Attributes:
        count: bytes since the last instance; whoever has received one sets it to 0.
    """

    def __init__(self, read: Callable[[int], bytearray], most: int) -> None:
        self._read, self._most = read, most
        self.count = 0

    def __call__(self, size: int) -> bytearray:
        """Some bytes; none where they would be too many, which ends the connection."""
        self.count += size
        return self._read(size) if size <= _LARGEST_PDU and self.count <= self._most else bytearray()


class _BoundedHandler(RequestHandler):  # type: ignore[misc]
    """Begins associations whose reads are bounded."""

    def _create_association(self) -> Any:
        association = super()._create_association()
        connection = association.dul.socket
        association.reads = connection.recv = BoundedReads(connection.recv, self.server.most)
        return association


class NodeListener(ThreadedAssociationServer):  # type: ignore[misc]
    """A server of associations for those that may call.

    Args:
        settings: of the node.
        most: bytes of an instance.
        entity: of pynetdicom.
        contexts: presentation contexts that are taken.
        handlers: of events.
    """

    def __init__(self, settings: NodeSettings, most: int, entity: Any, contexts: Sequence[Any], handlers: Sequence[Any]) -> None:
        self._settings, self.most = settings, most
        address = (settings.host, settings.port)
        super().__init__(
            entity, address, settings.ae_title, list(contexts), settings.server_tls(), list(handlers), _BoundedHandler
        )

    def get_request(self) -> tuple[Any, Any]:
        """The next connection; the beginning of TLS is left to its own thread, so that nobody waits for it."""
        connection, address = self.socket.accept()
        try:
            if not self._settings.knows(address[0]):
                raise OSError("not on the list of callers")
            connection.settimeout(_SILENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.ssl_context:
                connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except BaseException:
            connection.close()
            raise
        return connection, address


def listen(settings: NodeSettings, most: int, contexts: Sequence[Any], handlers: Sequence[Any]) -> NodeListener:
    """Listen in threads of its own until it is shut down.

    Args:
        settings: of the node.
        most: bytes of an instance.
        contexts: presentation contexts that are taken.
        handlers: pynetdicom's handlers of events.

    Raises:
        OSError: the port is taken.
        UsageError: a PEM file cannot be used.
    """
    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = sorted({each.ae_title for each in settings.callers})
    entity.maximum_associations, entity.maximum_pdu_size = _MOST_CALLS, _PDU
    entity.acse_timeout = entity.dimse_timeout = _SILENCE
    entity.network_timeout = _IDLE
    listener = NodeListener(settings, most, entity, contexts, handlers)
    entity._servers.append(listener)
    threading.Thread(target=listener.serve_forever, name="voxelry node", daemon=True).start()
    return listener
