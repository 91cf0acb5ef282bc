"""Cases by nnU-Net's names of files: ``imagesTr/{case}_{channel:04d}{ending}`` and ``labelsTr/{case}{ending}``.

Read too: all channels in the one file ``{case}_0000`` (colour pictures), and, of one channel, names without its number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxelry.base.listing import counted, shown
from voxelry.datasets.cases import FoundFiles
from voxelry.datasets.file_patterns import ID, find_ids, matching_files
from voxelry.datasets.leftovers import leftovers
from voxelry.formats.table import claims_image, stem_of

FIRST = "_0000"
"""What follows the case's id in the name of the file of the first channel."""

_FOLDERS = (("Tr", None), ("Ts", "test"))


def nnunet_rows(ending: str, channels: int, folder: Path, remarks: list[str]) -> list[dict[str, Any]]:
    """The cases of a folder of nnU-Net's, as rows of a manifest.

    Args:
        ending: of all files, such as ``.nii.gz``.
        channels: number of channels.
        folder: it holds ``imagesTr``, ``labelsTr``, perhaps ``imagesTs`` and ``labelsTs``.
        remarks: filled with what was decided and what is left over, in sentences.
    """
    rows: list[dict[str, Any]] = []
    for suffix, split in _FOLDERS:
        pattern, files = _pattern(f"images{suffix}/", ending, channels, folder, remarks)
        labels = f"labels{suffix}/{ID}{ending}"
        ids = find_ids(pattern, folder)
        for id in ids:
            images = [f"images{suffix}/{id}{number}{ending}" for number in files]
            mask = labels.replace(ID, id)
            needed = suffix == "Tr" or (folder / mask).is_file()
            rows.append({"id": id, "images": images, "labels": mask if needed else None, "split": split})
        remarks += leftovers(FoundFiles(images=(pattern,), labels=labels), folder, set(ids))
    return rows


def _pattern(images: str, ending: str, channels: int, folder: Path, remarks: list[str]) -> tuple[str, list[str]]:
    """The pattern of the first channel's files below `images`, and what follows the id in the name of each file of a case."""
    numbered = f"{images}{ID}{FIRST}{ending}"
    if channels == 1:
        bare = f"{images}{ID}{ending}"
        if any(matching_files(numbered, folder)) or not any(matching_files(bare, folder)):
            return numbered, [FIRST]
        remarks.append(f"images in {images} have no channel number ({FIRST}{ending})")
        return bare, [""]
    numbers = [f"_{channel:04d}" for channel in range(channels)]
    is_whole = any(matching_files(numbered, folder)) and not any(matching_files(f"{images}{ID}{numbers[1]}{ending}", folder))
    if is_whole:
        remarks.append(
            f"{images}: all {channels} channels are taken from {FIRST}{ending}, since there is no {numbers[1]}{ending}"
        )
    return numbered, [FIRST] if is_whole else numbers


def listed_row(image: str, channels: int, folder: Path) -> dict[str, Any]:
    """Id and files of an image that a `dataset.json` lists: the file itself, or nnU-Net's files of its channels in its place."""
    id = stem_of(image)
    head, ending = image[: image.rindex(id)] + id, image[image.rindex(id) + len(id) :]
    if not (folder / image).exists() and (folder / f"{head}{FIRST}{ending}").is_file():
        return {"id": id, "images": [f"{head}_{channel:04d}{ending}" for channel in range(channels)]}
    return {"id": id, "images": [image]}


def unlisted(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """A sentence about the images in the folders of listed ones that are not listed; nothing where there are none."""
    listed = {Path(os.path.realpath(folder / image)) for row in rows for image in row["images"]}
    folders = sorted({image.parent for image in listed if image.parent.is_dir()})
    others = [
        file.name
        for inner in folders
        for file in sorted(inner.iterdir())
        if file.is_file()
        and claims_image(file.name)
        and not file.name.startswith(".")
        and Path(os.path.realpath(file)) not in listed
    ]
    masks = {(folder / row["labels"]).name for row in rows if isinstance(row.get("labels"), str)}
    others = [name for name in others if name not in masks]
    return [f"{counted(len(others), 'image is', 'images are')} beside those listed: {shown(others)}"] if others else []
