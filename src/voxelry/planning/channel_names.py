"""Names of channels that decide how their grey values are scaled, as in nnU-Net's `channel_names`.

Source: nnU-Net's documentation of its dataset format: ``CT``, ``noNorm`` and ``rgb_to_0_1`` have schemes of their own, every
other name is brought to mean 0 and deviation 1 (here ``rescale_to_0_1`` too: the two differ by a linear map of each image).
"""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.core.modalities import modality_term
from voxelry.core.plan import Normalisation

_ABSOLUTE = "CT"
_LIMIT = 3e38

FIXED_SCALES = {
    "nonorm": Normalisation(scheme="global", low=-_LIMIT, high=_LIMIT, mean=0, std=1),
    "rgb_to_0_1": Normalisation(scheme="global", low=0, high=255, mean=0, std=255),
}
"""Name of a channel in lower case -> its scaling, whatever the data."""


def absolute_channels(channels: Sequence[str], modality: str) -> list[bool]:
    """For each channel whether its grey values are absolute, as those of CT.

    Where a channel is called ``CT``, those alone are; else in a set of CT all whose names say nothing else.

    Args:
        channels: their names.
        modality: of the set, DICOM's term.

    Example:
        >>> absolute_channels(["PET", "CT"], "PT"), absolute_channels(["arterial", "PET"], "CT")
        ([False, True], [True, False])
    """
    named = [name.strip().upper() == _ABSOLUTE for name in channels]
    if any(named) or modality != _ABSOLUTE:
        return named
    return [_own_modality(name) in (None, _ABSOLUTE) and name.casefold() not in FIXED_SCALES for name in channels]


def _own_modality(name: str) -> str | None:
    """The modality that a channel's name says, None where it says none."""
    try:
        return modality_term(name)
    except ValueError:
        return None
