"""ServeLimits: what a server takes at most, so that no request can use up its memory or disk."""

from __future__ import annotations

from dataclasses import dataclass

_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class ServeLimits:
    """What a server takes at most.

    Attributes:
        upload: bytes of a body.
        json: bytes of a body in JSON, which is held in memory.
        unpacked: bytes that a zip archive may state to unpack to.
        voxels: voxels of a scan, all channels counted; checked by its header, before pixels are decoded.
        waiting: requests that are received, wait or run at once; more are told to come again later.
        together: small pictures for one model that are run through it as one batch.
        jobs: jobs that wait.
        silence: seconds without a byte of a body after which a request is given up.
        head: seconds in which the head of a request must come.
        speed: bytes a second that a body must come with, and an answer be taken with, after `silence` seconds.
        connections: connections whose clients have to send something; of more the slowest is given up.
        opening: bytes of a body that are received before it takes one of the places of `waiting`.
        rate: requests a second of one client, on average.
        burst: requests of one client at once.
        keep: seconds that the result of a job is kept.
        collected: bytes of series that the DICOM node holds until they are complete and have their turn.
    """

    upload: int = 2 * _GIB
    json: int = 64 * _MIB
    unpacked: int = 16 * _GIB
    voxels: int = 2**29
    waiting: int = 32
    together: int = 4
    jobs: int = 100
    silence: float = 30.0
    head: float = 10.0
    speed: float = 4096.0
    connections: int = 512
    opening: int = 256 * 2**10
    rate: float = 100.0
    burst: float = 400.0
    keep: float = 24 * 3600.0
    collected: int = 64 * _GIB
