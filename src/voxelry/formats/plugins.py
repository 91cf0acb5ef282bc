"""Formats of other packages: entry points of the group `voxelry.formats`, each naming a `Format`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from voxelry.errors import UsageError
from voxelry.formats.file_format import Format

GROUP = "voxelry.formats"
"""The entry points that add a format."""

_REMEDY = "Update or uninstall the plugin."


def plugin_formats() -> list[Format]:
    """The formats that installed packages add, in the order of their names; each knows its package as `Format.plugin`.

    Raises:
        UsageError: one cannot be imported, or is no `Format`.
    """
    return [_loaded(point) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def _loaded(point: EntryPoint) -> Format:
    package = point.dist.name if point.dist is not None else point.value
    try:
        row = point.load()
    except Exception as error:
        raise UsageError(
            f"format '{point.name}' of the plugin '{package}' cannot be loaded ({type(error).__name__}: {error})", remedy=_REMEDY
        ) from error
    if not isinstance(row, Format):
        raise UsageError(
            f"entry point '{point.name}' of the plugin '{package}' names {point.value}, which is {type(row).__name__} and no "
            "voxelry.formats.Format",
            remedy=_REMEDY,
        )
    return replace(row, plugin=package)


def with_plugins(built_in: Sequence[Format], plugins: Sequence[Format]) -> list[Format]:
    """Formats of voxelry and of plugins in one list.

    Raises:
        UsageError: a plugin takes a name or an ending that another format has; a format may share endings with the one it lies
            within.
    """
    rows = list(built_in)
    for plugin in plugins:
        for row in rows:
            if row.name == plugin.name:
                raise _clash(f"the name '{row.name}'", plugin, row)
            shared = sorted(set(row.all_endings) & set(plugin.all_endings))
            if shared and row.family != plugin.family:
                raise _clash(f"the ending '{shared[0]}'", plugin, row)
        if plugin.within and plugin.within not in {row.name for row in rows}:
            raise UsageError(
                f"format '{plugin.name}' of the plugin '{plugin.plugin}' lies within '{plugin.within}', which is no format",
                remedy=_REMEDY,
            )
        rows.append(plugin)
    return rows


def _clash(what: str, plugin: Format, row: Format) -> UsageError:
    owner = f"of the plugin '{row.plugin}'" if row.plugin else "of voxelry"
    return UsageError(
        f"format '{plugin.name}' of the plugin '{plugin.plugin}' takes {what}, which format '{row.name}' {owner} has",
        remedy=_REMEDY,
    )
