"""A 4D image as a list of 3D ones: time points, phases, echoes."""

from __future__ import annotations

from dataclasses import replace

from voxelry.core.volume import Volume
from voxelry.errors import UsageError
from voxelry.formats.grids.grid_file import COMPONENTS


def time_points(volume: Volume) -> list[Volume]:
    """The channels of a 4D image as volumes of their own, in order; decoded together when the first is asked for.

    Args:
        volume: an image whose channels are times, phases, echoes or the like.

    Returns:
        C volumes of one channel on the same grid.

    Raises:
        UsageError: the channels are colours or components of a vector.
    """
    if COMPONENTS in volume.source.remarks:
        raise UsageError(f"{volume.source.name}: {COMPONENTS}", remedy="Read it as one image.")
    total = volume.channels

    def one(index: int) -> Volume:
        said = (*volume.source.remarks, f"time point {index + 1} of {total}")
        source = replace(volume.source, remarks=said) if total > 1 else volume.source
        return replace(volume, pixels=lambda: volume.array[index : index + 1], channels=1, source=source)

    return [one(index) for index in range(total)]
