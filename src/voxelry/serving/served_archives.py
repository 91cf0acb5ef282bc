"""ServedArchives: the DICOM archives that a server speaks to, and by what rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from voxelry.serving.node_settings import NodeSettings


@dataclass(frozen=True)
class ServedArchives:
    """The archives that a server speaks to.

    Attributes:
        node: settings of the DICOM node; None where there is none.
        web: base addresses of the DICOMweb services that the reference of a job may name.
        token: bearer token for DICOMweb.
    """

    node: NodeSettings | None = None
    web: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
