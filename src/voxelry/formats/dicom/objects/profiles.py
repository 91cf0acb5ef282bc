"""What different viewers need of a segmentation object, named once.

All of them get BINARY without compression unless the caller asks otherwise: that is what every reader takes. The profiles
differ in what is done with emptiness, which PS3.3 A.51 leaves to the writer.

======== ============= ================ =====================================================================================
profile  absent labels frames without   why
                       a voxel
======== ============= ================ =====================================================================================
archive  described     left out         Says "looked for and not there"; the smallest file the standard knows.
ohif     left out      kept             Its loader hung on a segment without frames (OHIF/Viewers issue 3991), and viewers that
                                        count frames shift the overlay when some are left out (MONAI Deploy issue 397,
                                        highdicom issue 214). The file is as large as the whole scan.
slicer   left out      left out         Slicer's reader (dcmqi) places frames by their position, so that nothing shifts, and
                                        makes no segment of one without frames (QuantitativeReporting issue 253).
======== ============= ================ =====================================================================================

A mask without any voxel keeps its first label, with all its frames, since an object without a frame is not valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from voxelry.errors import UsageError, nearest


@dataclass(frozen=True)
class Profile:
    """How emptiness is written.

    Attributes:
        describes_absent: labels without a voxel are described as segments.
        omits_empty_frames: frames without a voxel of their segment are left out.
    """

    describes_absent: bool
    omits_empty_frames: bool


PROFILES = MappingProxyType(
    {
        "archive": Profile(describes_absent=True, omits_empty_frames=True),
        "ohif": Profile(describes_absent=False, omits_empty_frames=False),
        "slicer": Profile(describes_absent=False, omits_empty_frames=True),
    }
)
"""Name -> profile."""


def profile_of(name: str) -> Profile:
    """The profile of a name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PROFILES:
        raise UsageError(f"profile '{name}' is unknown", remedy=nearest(name, PROFILES))
    return PROFILES[name]
