"""Profiles of a DICOM SEG for archives, OHIF and 3D Slicer: whether absent labels and empty frames are written.

All profiles are BINARY without compression unless the caller asks otherwise, since every reader takes that. They differ in absent
labels and empty frames, which PS3.3 A.51 leaves to the writer.

======== ============= ================ =====================================================================================
profile  absent labels frames without   why
                       a voxel
======== ============= ================ =====================================================================================
archive  described     left out         Records that a label was looked for and is absent; the smallest valid file.
ohif     left out      kept             Its loader hung on a segment without frames (OHIF/Viewers issue 3991), and viewers that
                                        count frames shift the overlay when some are left out (MONAI Deploy issue 397,
                                        highdicom issue 214). The file is as large as the whole scan.
slicer   left out      left out         Slicer's reader (dcmqi) places frames by their position, so that nothing shifts, and
                                        drops a segment without frames (QuantitativeReporting issue 253).
======== ============= ================ =====================================================================================

A mask without any voxel keeps its first label with all its frames, since an object without frames is invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from voxelry.errors import UsageError, nearest


@dataclass(frozen=True)
class SegProfile:
    """Whether absent labels and empty frames are written.

    Attributes:
        describes_absent: labels without a voxel are described as segments.
        omits_empty_frames: frames without a voxel of their segment are left out.
    """

    describes_absent: bool
    omits_empty_frames: bool


PROFILES = MappingProxyType(
    {
        "archive": SegProfile(describes_absent=True, omits_empty_frames=True),
        "ohif": SegProfile(describes_absent=False, omits_empty_frames=False),
        "slicer": SegProfile(describes_absent=False, omits_empty_frames=True),
    }
)
"""Name -> profile."""


def profile_of(name: str) -> SegProfile:
    """The profile of that name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in PROFILES:
        raise UsageError(f"profile '{name}' is unknown", remedy=nearest(name, PROFILES))
    return PROFILES[name]
