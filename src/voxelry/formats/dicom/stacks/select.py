"""Selects one of several volumes by its key, SeriesInstanceUID, ``name=value`` filters, or as the largest; never by a guess."""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.errors import SelectionError, UsageError, nearest
from voxelry.formats.dicom.stacks.groups import PlaneGroup

LARGEST = "largest"
_SHOWN = 12


def select_group(groups: Sequence[PlaneGroup], series: str | None, where: str) -> PlaneGroup:
    """The selected group, or the only one.

    Args:
        groups: at least one.
        series: a group's key; a SeriesInstanceUID; ``name=value`` filters joined by commas, all of which must match, alone or
            after a SeriesInstanceUID and a slash; or ``largest``, by voxels. None selects the only group.
        where: the folder, for messages.

    Returns:
        The one group that matches.

    Raises:
        SelectionError: none or several match; the choices are listed in the message and in `choices`.
        UsageError: a filter by an unknown name.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> from voxelry.formats.dicom.stacks import group_planes
        >>> groups = group_planes(scan_headers(folder).planes)
        >>> select_group(groups, "modality=CT", "scan").files[0].name
        'IM0001.dcm'
    """
    if series is None:
        fitting, problem = list(groups), f"holds {len(groups)} volumes"
    else:
        fitting = matching_groups(groups, series)
        problem = f"'{series}' fits {len(fitting) or 'none'} of the {len(groups)} volumes here"
    if len(fitting) == 1:
        return fitting[0]
    listed = fitting or list(groups)
    raise SelectionError(
        f"{where}: {problem}: {_listing(listed)}",
        remedy="Name one by `series` (--series): its key, a filter such as number=3, or 'largest'; `read_all` returns all.",
        choices=[group.key for group in listed],
    )


def matching_groups(groups: Sequence[PlaneGroup], series: str) -> list[PlaneGroup]:
    """The groups that match a selection.

    Args:
        groups: the groups to select from.
        series: as in `select_group`.

    Raises:
        UsageError: a filter by an unknown name.
    """
    exact = [group for group in groups if group.key == series]
    if exact:
        return exact
    if series == LARGEST:
        most = max(group.voxels for group in groups)
        return [group for group in groups if group.voxels == most]
    uid, _, filters = series.partition("/") if "=" not in series.partition("/")[0] else ("", "", series)
    fitting = [group for group in groups if uid in ("", group.first.series)]
    for name, value in _filters(filters, groups):
        fitting = [group for group in fitting if _fits(group, name, value)]
    return fitting


def _filters(text: str, groups: Sequence[PlaneGroup]) -> list[tuple[str, str]]:
    """Pairs of name and value."""
    names = sorted({name for group in groups for name in group.traits})
    pairs: list[tuple[str, str]] = []
    for pair in filter(None, text.split(",")):
        name, equals, value = (word.strip() for word in pair.partition("="))
        if not equals or name not in names:
            raise UsageError(f"series '{pair}' is no filter by anything these volumes have", remedy=nearest(name, names))
        pairs.append((name, value))
    return pairs


def _fits(group: PlaneGroup, name: str, value: str) -> bool:
    """Numbers match as numbers, a description by a part of it, other text without regard to case."""
    trait = group.traits.get(name, "")
    if name == "description":
        return value.lower() in trait.lower()
    try:
        return float(trait) == float(value)
    except ValueError:
        return trait.lower() == value.lower()


def _listing(groups: Sequence[PlaneGroup]) -> str:
    shown = "; ".join(f"{group.title}, series={group.key}" for group in groups[:_SHOWN])
    return shown + (f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
