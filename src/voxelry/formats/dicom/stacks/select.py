"""One of several volumes: by its key, its SeriesInstanceUID, ``name=value`` filters, or as the largest; never by a guess."""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.errors import SelectionError, UsageError, nearest
from voxelry.formats.dicom.stacks.groups import PlaneGroup

LARGEST = "largest"
_SHOWN = 12


def select_group(groups: Sequence[PlaneGroup], wanted: str | None, where: str) -> PlaneGroup:
    """The group that was asked for, or the only one.

    Args:
        groups: what was found, at least one.
        wanted: a group's key; a SeriesInstanceUID; ``name=value`` filters joined by commas, all of which must hold, alone or
            after a SeriesInstanceUID and a slash; or ``largest``, by voxels. None where nothing was asked for.
        where: the folder, for messages.

    Returns:
        The one group that fits.

    Raises:
        SelectionError: none fits, or several do; the choices are listed in the message and in `choices`.
        UsageError: a filter by a name that no group has.
    """
    if wanted is None:
        fitting, problem = list(groups), f"holds {len(groups)} volumes"
    else:
        fitting = matching_groups(groups, wanted)
        problem = f"'{wanted}' fits {len(fitting) or 'none'} of the {len(groups)} volumes here"
    if len(fitting) == 1:
        return fitting[0]
    listed = fitting or list(groups)
    raise SelectionError(
        f"{where}: {problem}: {_listing(listed)}",
        remedy="Name one by `series` (--series): its key, a filter such as number=3, or 'largest'; `read_all` returns all.",
        choices=[group.key for group in listed],
    )


def matching_groups(groups: Sequence[PlaneGroup], wanted: str) -> list[PlaneGroup]:
    """The groups that fit what was asked for.

    Args:
        groups: what was found.
        wanted: as in `choose`.

    Raises:
        UsageError: a filter by a name that no group has.
    """
    exact = [group for group in groups if group.key == wanted]
    if exact:
        return exact
    if wanted == LARGEST:
        most = max(group.voxels for group in groups)
        return [group for group in groups if group.voxels == most]
    uid, _, told = wanted.partition("/") if "=" not in wanted.partition("/")[0] else ("", "", wanted)
    fitting = [group for group in groups if uid in ("", group.first.series)]
    for name, value in _filters(told, groups):
        fitting = [group for group in fitting if _fits(group, name, value)]
    return fitting


def _filters(told: str, groups: Sequence[PlaneGroup]) -> list[tuple[str, str]]:
    """Pairs of name and value."""
    known = sorted({name for group in groups for name in group.traits})
    pairs: list[tuple[str, str]] = []
    for part in filter(None, told.split(",")):
        name, equals, value = (text.strip() for text in part.partition("="))
        if not equals or name not in known:
            raise UsageError(f"series '{part}' is no filter by anything these volumes have", remedy=nearest(name, known))
        pairs.append((name, value))
    return pairs


def _fits(group: PlaneGroup, name: str, value: str) -> bool:
    """Numbers are equal as numbers, a description holds the words, anything else is the same but for case."""
    own = group.traits.get(name, "")
    if name == "description":
        return value.lower() in own.lower()
    try:
        return float(own) == float(value)
    except ValueError:
        return own.lower() == value.lower()


def _listing(groups: Sequence[PlaneGroup]) -> str:
    shown = "; ".join(f"{group.title}, series={group.key}" for group in groups[:_SHOWN])
    return shown + (f"; and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
