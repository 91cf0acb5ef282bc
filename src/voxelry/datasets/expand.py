"""Expands a manifest's list of cases: fills in placeholders, finds files, checks ids and files."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxelry.base.bounded_regex import search_groups
from voxelry.base.distinct_names import folded
from voxelry.base.files import free_name, read_json
from voxelry.base.listing import counted, shown
from voxelry.datasets.cases import (
    SPLITS,
    Case,
    CaseList,
    CaseRow,
    CaseRows,
    FoundFiles,
    MaskFiles,
    SplitName,
    TableFiles,
    read_table,
)
from voxelry.datasets.file_patterns import Claim, FileFinder, files_beside, find_ids, matching_files
from voxelry.datasets.mask_names import masks_by_name
from voxelry.errors import ConfigError, ManifestError, SplitLeakError, UsageError, nearest
from voxelry.formats.table import claims_image, claims_labels

log = logging.getLogger(__name__)

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_SHOWN = 3
_REMEDY = "Check the paths, or name the folder they start from by --root or the environment variable VOXELRY_DATA."


def is_below(cases: CaseList, root: Path) -> bool:
    """The first file of the list exists below `root`; True for an empty list."""
    if isinstance(cases, TableFiles):
        return (root / cases.table).is_file()
    if isinstance(cases, FoundFiles):
        return bool(find_ids(cases.images[0], root))
    return not cases.cases or (root / cases.cases[0].images[0]).exists()


@dataclass(frozen=True)
class _ManifestContext:
    """Context of a list of cases: root folder, label names, the manifest's name for messages, and the finder of files."""

    root: Path
    names: tuple[str, ...]
    where: str
    finder: FileFinder

    def file(self, path: str) -> Path:
        """A table or split file below the root that must be there."""
        file = self.root / path
        if not file.is_file():
            raise ManifestError(f"{self.where}: no file {file}", remedy=_REMEDY)
        return file


def expand(cases: CaseList, root: Path, names: Iterable[str], where: str) -> tuple[Case, ...]:
    """Turn a list of cases into Cases whose files exist.

    Args:
        cases: one of the forms.
        root: the folder that relative paths start from.
        names: label names, for masks that are one file per label.
        where: the manifest's file, for messages.

    Returns:
        The cases: rows in their order, found files sorted by id.

    Raises:
        ManifestError: no files, missing files, an id twice or unfit as a file name, an unknown column or split.
        SplitLeakError: an id is in two splits of a split file.
    """
    context = _ManifestContext(root, tuple(names), where, FileFinder(where))
    if isinstance(cases, CaseRows):
        expanded = tuple(_from_row(row, root) for row in cases.cases)
    elif isinstance(cases, FoundFiles):
        expanded = _expand_found(cases, context)
    else:
        expanded = tuple(_from_cells(cases, cells, context) for cells in _rows(cases, context))
    _check_ids([case.id for case in expanded], where)
    _check_files(expanded, where)
    return expanded


def _from_row(row: CaseRow, root: Path) -> Case:
    labels, instances = (root / file if file else None for file in (row.labels, row.instances))
    images = tuple(root / image for image in row.images)
    return Case(row.id, images, labels, (), row.group or row.id, row.split, row.site or "", instances=instances)


def _expand_found(rule: FoundFiles, context: _ManifestContext) -> tuple[Case, ...]:
    ids = _image_ids(rule, context)
    if not ids:
        others = [file.name for file in files_beside(rule.images[0], context.root) if claims_image(file.name)]
        there = f"; beside it are {counted(len(others), 'image', 'images')}: {shown(others)}" if others else ""
        raise ManifestError(f"{context.where}: no file fits '{rule.images[0]}' below {context.root}{there}", remedy=_REMEDY)
    _check_ids(ids, context.where)
    splits = _read_splits(rule, set(ids), context)
    return tuple(_with_files(rule, Case(id, (), group=id, split=splits.get(id)), {"id": id}, context) for id in ids)


def _image_ids(rule: FoundFiles, context: _ManifestContext) -> list[str]:
    """The ids of the first pattern of images, without those whose file is the mask of another id."""
    files: dict[str, set[Path]] = {}
    for id, file in matching_files(rule.images[0], context.root):
        files.setdefault(id, set()).add(file)
    if rule.labels is None:
        return sorted(set(files) - masks_by_name(list(files)))
    patterns = rule.reference_patterns(context.names)
    masks = {
        file for pattern in patterns if "{id}" in pattern for id, file in matching_files(pattern, context.root) if id in files
    }
    return sorted(id for id, own in files.items() if own - masks)


def _rows(rule: TableFiles, context: _ManifestContext) -> list[dict[str, str]]:
    """The rows of a table that `where` names.

    Raises:
        ManifestError: an unknown column, or none is left.
    """
    rows = list(read_table(context.file(rule.table)))
    wanted = {f"{{{column}}}": value for column, value in rule.where.items()}
    kept = [cells for cells in rows if all(_fill(column, cells, context.where) == value for column, value in wanted.items())]
    if rows and not kept:
        raise ManifestError(
            f"{context.where}: none of {len(rows)} rows of {rule.table} has {rule.where}", remedy="Correct `where`."
        )
    return kept


def _from_cells(rule: TableFiles, cells: Mapping[str, str], context: _ManifestContext) -> Case:
    id = _fill(rule.id, cells, context.where)
    group = _fill(rule.group, cells, context.where) if rule.group else id
    split = _split(_fill(rule.split, cells, context.where), rule.split_names, context.where) if rule.split else None
    site = _fill(rule.site, cells, context.where) if rule.site else ""
    return _with_files(rule, Case(id, (), group=group, split=split, site=site), cells, context)


def _with_files(rule: FoundFiles | TableFiles, case: Case, cells: Mapping[str, str], context: _ManifestContext) -> Case:
    """The case with its files, and its group extracted by `group_pattern`."""

    def file(template: str, claim: Claim = claims_labels, besides: Collection[Path] = (), **more: str) -> Path:
        return context.finder.find(context.root / _fill(template, {**cells, **more}, context.where), claim, besides)

    labels = file(rule.labels) if isinstance(rule.labels, str) else None
    images = tuple(file(image, claims_image, () if labels is None else (labels,)) for image in rule.images)
    group = _patient(case.group, rule.group_pattern, context.where)
    case = replace(case, images=images, group=group, labels=labels, instances=file(rule.instances) if rule.instances else None)
    if not isinstance(rule.labels, MaskFiles):
        return case
    if rule.labels.per_object is not None:
        return replace(case, objects=_object_files(rule.labels.per_object, cells, context))
    template = rule.labels.per_label or ""
    return replace(case, masks=tuple((name, file(template, label=name)) for name in context.names))


def _object_files(template: str, cells: Mapping[str, str], context: _ManifestContext) -> tuple[tuple[str, Path], ...]:
    """Label and file of each object of a case; none where the folder is there and empty.

    Raises:
        ManifestError: no such folder, or a pattern that leaves open which of several labels an object has.
    """
    if "{label}" not in template and len(context.names) > 1:
        raise ManifestError(
            f"{context.where}: '{template}' does not say which of {len(context.names)} labels an object has",
            remedy="Put {label} into the pattern, for the label's name.",
        )
    files = []
    for name in context.names:
        path = context.root / _fill(template, {**cells, "label": name}, context.where)
        matches = context.finder.find_all(path, claims_labels)
        if not matches and "*" not in str(path.parent) and not path.parent.is_dir():
            raise ManifestError(f"{context.where}: no folder {path.parent}, where the files of objects should be", remedy=_REMEDY)
        files += [(name, file) for file in matches]
    return tuple(files)


def _patient(group: str, pattern: str | None, where: str) -> str:
    if not pattern:
        return group
    try:
        groups = search_groups(pattern, group)
    except ConfigError as error:
        raise ManifestError(f"{where}: group_pattern: {error.problem}", remedy=error.remedy) from error
    if groups is None:
        raise ManifestError(f"{where}: group_pattern '{pattern}' does not fit '{group}'")
    return next((text for text in groups[1:] if text is not None), groups[0]) or ""


def _fill(template: str, cells: Mapping[str, str], where: str) -> str:
    for name in _PLACEHOLDER.findall(template):
        if name not in cells:
            raise ManifestError(f"{where}: '{template}' asks for {{{name}}}", remedy=nearest(name, cells))
    return _PLACEHOLDER.sub(lambda match: cells[match[1]], template)


def _read_splits(rule: FoundFiles, ids: set[str], context: _ManifestContext) -> dict[str, SplitName]:
    if rule.split_file is None:
        return {}
    file = context.file(rule.split_file)
    lists = read_json(file)
    names: dict[SplitName, str] = rule.split_names or {name: name for name in SPLITS if name in lists}
    splits: dict[str, SplitName] = {}
    for split, list_name in names.items():
        if list_name not in lists:
            raise ManifestError(
                f"{file}: no list '{list_name}', which split_names gives for {split}", remedy=nearest(list_name, lists)
            )
        if not isinstance(lists[list_name], list):
            raise ManifestError(f"{file}: '{list_name}' is {lists[list_name]!r}", remedy="A list of case ids is expected.")
        for id in map(str, lists[list_name]):
            if splits.setdefault(id, split) != split:
                raise SplitLeakError(f"{file}: case '{id}' is in {splits[id]} and in {split}", remedy="Take it out of one.")
    absent = sorted(set(splits) - ids)
    if absent:
        raise ManifestError(f"{file}: {len(absent)} of its cases have no image, the first: {', '.join(absent[:_SHOWN])}")
    log.info("%s: %d of %d cases are in no split of %s", context.where, len(ids - set(splits)), len(ids), file.name)
    return splits


def _split(value: str, names: Mapping[SplitName, str], where: str) -> SplitName | None:
    if not value:
        return None
    for ours in SPLITS:
        if value == names.get(ours, ours if not names else None):
            return ours
    known = ", ".join(names.values() or SPLITS)
    raise ManifestError(f"{where}: split '{value}' is unknown (known: {known})", remedy="Add it to split_names.")


def _check_ids(ids: Sequence[str], where: str) -> None:
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ManifestError(f"{where}: case id {', '.join(map(repr, twice[:_SHOWN]))} occurs twice", remedy="Ids must differ.")
    first: dict[str, str] = {}
    for id in ids:
        if (other := first.setdefault(folded(id), id)) != id:
            raise ManifestError(
                f"{where}: case ids '{other}' and '{id}' name one file on some disks", remedy="Let ids differ in more than case."
            )
        try:
            free_name(id)
        except UsageError as error:
            raise ManifestError(f"{where}: {error.problem}", remedy=error.remedy) from None


def _check_files(cases: tuple[Case, ...], where: str) -> None:
    """Refuse missing images and masks; of masks with one file per label only the first is checked, since a case may have 100."""
    ids = [case.instances for case in cases if case.instances is not None]
    files = [*(file for case in cases for file in (*case.images, *case.label_files[:1])), *ids]
    missing = [str(file) for file in files if not os.path.lexists(file) or not file.exists()]  # lexists takes names of any length
    if missing:
        listed = shown(missing, _SHOWN)
        raise ManifestError(f"{where}: {len(missing)} files of {len(cases)} cases are missing: {listed}", remedy=_REMEDY)
