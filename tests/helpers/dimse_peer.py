"""An archive of DIMSE in this process, which answers C-STORE as it is told."""

from contextlib import contextmanager

import pynetdicom
from pynetdicom.sop_class import CTImageStorage, Verification

TITLE = "PEER"


@contextmanager
def peer(answer, *, classes=(CTImageStorage,), syntaxes=("1.2.840.10008.1.2.1",), context=None):
    """Its address, for as long as the block lasts.

    Args:
        answer: called with the event of each C-STORE; the status.
        classes: what it takes, beside C-ECHO.
        syntaxes: encodings that it takes.
        context: of TLS.
    """
    entity = pynetdicom.AE(TITLE)
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    for each in classes:
        entity.add_supported_context(each, list(syntaxes))
    handlers = [(pynetdicom.evt.EVT_C_STORE, answer)]
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    try:
        scheme = "dicom" if context is None else "dicom-tls"
        yield f"{scheme}://{TITLE}@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
