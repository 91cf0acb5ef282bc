"""Leftovers of a manifest's patterns: images that they pass over, and masks without an image."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from voxelry.base.listing import counted, shown
from voxelry.datasets.cases import FoundFiles
from voxelry.datasets.file_patterns import ANY_ENDING, ID, files_beside, matching_files
from voxelry.formats.table import claims_image, claims_labels, stem_of


def leftovers(rule: FoundFiles, root: Path, ids: Collection[str]) -> tuple[str, ...]:
    """What lies in the folders of the patterns and belongs to no case, in sentences.

    Args:
        rule: the patterns.
        root: the folder that they start from.
        ids: the cases.
    """
    remarks, pattern = [], rule.images[0]
    images = _passed_over(rule, root, ids)
    if images:
        is_name = pattern.rindex(ID) > pattern.rfind("/") and not pattern.endswith(ANY_ENDING)
        hint = f" ('{pattern[: pattern.rindex(ID)]}{ID}{ANY_ENDING}' takes every ending)" if is_name else ""
        remarks.append(f"{counted(len(images), 'image does', 'images do')} not fit '{pattern}'{hint}: {shown(images)}")
    if rule.labels is None:
        named = [file.name for id, file in matching_files(pattern, root) if id not in ids]
        if named:
            remarks.append(f"{counted(len(named), 'file is', 'files are')} passed over as masks by name: {shown(named)}")
    if isinstance(rule.labels, str):
        remarks += without_image(rule.labels, root, ids)
    return tuple(remarks)


def without_image(masks: str, root: Path, ids: Collection[str]) -> list[str]:
    """A sentence about the masks of a pattern that belong to no case; nothing where there are none."""
    matches = matching_files(masks, root, claims_labels) if ID in masks else ()
    names = [file.name for id, file in matches if id not in ids]
    return [f"{counted(len(names), 'mask has', 'masks have')} no image: {shown(names)}"] if names else []


def _passed_over(rule: FoundFiles, root: Path, ids: Collection[str]) -> list[str]:
    """Names of the images in the folders of the first pattern that fit none of the patterns and belong to no case.

    A file belongs to a case where its folder, or its name up to a separator, is the case's id.
    """
    patterns = [*rule.images, *([rule.labels] if isinstance(rule.labels, str) else [])]
    fitting = {file for pattern in patterns if ID in pattern for _, file in matching_files(pattern, root)}
    used = {file.parent for file in fitting} if ID in rule.images[0].rpartition("/")[0] else set()
    files = [file for file in files_beside(rule.images[0], root) if file not in fitting and file.parent not in used]
    for mask_pattern in rule.reference_patterns(("*",)):
        masks = {file for _, file in matching_files(mask_pattern, root, claims_labels)} if ID in mask_pattern else set()
        files = [file for file in files if file not in masks]
    return [file.relative_to(root).as_posix() for file in files if claims_image(file.name) and not _belongs(file, ids)]


def _belongs(file: Path, ids: Collection[str]) -> bool:
    stem = stem_of(file)
    starts = {stem[: match.start()] for match in re.finditer(r"[-_. ]", stem)}
    return not starts.isdisjoint(ids)
