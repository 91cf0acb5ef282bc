"""Imports `dataset.json`: the layouts of the Medical Segmentation Decathlon and of nnU-Net (files: `nnunet_files`).

Sources: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9 (`modality`, `labels` value -> name, `training` pairs, one file
for all channels); nnU-Net's documentation of its dataset format (`channel_names`, `labels` name -> value, files
``imagesTr/{case}_{channel:04d}{ending}``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxelry.base.listing import counted, shown
from voxelry.core.modalities import modality_term
from voxelry.datasets.nnunet_files import listed_row, nnunet_rows, unlisted
from voxelry.errors import ManifestError
from voxelry.formats.table import claims_image, format_by_ending

_CT, _VOLUMES, _PICTURES = "CT", "MR", "OT"
"""Modality of channels called CT, and of volumes and pictures whose channels say none."""


def from_dataset_json(value: Mapping[str, Any], file: Path, remarks: list[str]) -> dict[str, Any]:
    """Turn a parsed `dataset.json` into the plain data of a manifest.

    Cases of `imagesTs` get the split ``test``; the others none: they are split later.

    Args:
        value: the JSON object.
        file: where it came from; nnU-Net's files are looked for beside it.
        remarks: filled with what was decided, and what the files beside the cases are, in sentences.

    Raises:
        ManifestError: it is of neither layout.
    """
    if "channel_names" in value:
        channels = _strings(value["channel_names"], "channel_names", file)
        labels = _nnunet_labels(value, file)
        cases = _nnunet_cases(value, len(channels), file, remarks)
    elif "modality" in value and "training" in value:
        channels = _strings(value["modality"], "modality", file)
        _strings(value.get("labels"), "labels", file)
        labels = {int(number): str(name) for number, name in value["labels"].items()}
        cases = _msd_cases(value, len(channels), file)
        remarks += unlisted(cases, file.parent)
    else:
        raise ManifestError(
            f"{file}: neither 'channel_names' (nnU-Net) nor 'modality' and 'training' (Decathlon) are among its keys "
            f"({', '.join(value)})",
            remedy="Write a manifest in YAML for it.",
        )
    remarks += _miscounted(value, cases)
    dimensions = _dimensions(value, cases)
    ignored = next((number for number, name in labels.items() if name == "ignore"), None)
    return {
        "name": _file_name(str(value.get("name") or file.parent.name or "dataset")),
        "title": str(value.get("name", "")),
        "description": str(value.get("description", "")),
        "modality": _modality(channels, dimensions),
        "dimensions": dimensions,
        "licence": str(value.get("licence") or value.get("license") or ""),
        "citation": [str(value["reference"])] if value.get("reference") else [],
        "channels": channels,
        "labels": [{"value": number, "name": name} for number, name in labels.items() if number > 0 and number != ignored],
        "ignore": ignored,
        "cases": cases,
    }


def _strings(value: Any, key: str, file: Path) -> list[str]:
    """The names of ``{"0": name, "1": name}`` in the order of their numbers (10 after 2)."""
    if not isinstance(value, dict) or not value or not all(str(index).isdecimal() for index in value):
        raise ManifestError(f"{file}: key '{key}' is {value!r}", remedy='A mapping such as {"0": "T1"} is expected.')
    return [str(name) for _, name in sorted(value.items(), key=lambda item: int(item[0]))]


def _nnunet_labels(value: Mapping[str, Any], file: Path) -> dict[int, str]:
    """Value -> name, whichever of the two the file has first."""
    labels = value.get("labels")
    pairs = [_pair(key, item) for key, item in labels.items()] if isinstance(labels, dict) else []
    if not pairs or None in pairs:
        raise ManifestError(
            f"{file}: key 'labels' is {labels!r}",
            remedy='Names with one value each are read, as {"liver": 1}; regions (lists of values) are not.',
        )
    names = dict(pair for pair in pairs if pair is not None)
    if len(names) < len(pairs):
        raise ManifestError(f"{file}: key 'labels' is {labels!r}", remedy="Each label needs a value of its own.")
    return names


def _pair(key: str, item: Any) -> tuple[int, str] | None:
    for number, name in ((item, key), (key, item)):
        if type(number) is int or (isinstance(number, str) and number.isdecimal()):
            return (int(number), name) if isinstance(name, str) and int(number) >= 0 else None
    return None


def _ending(value: Mapping[str, Any]) -> str:
    ending = str(value.get("file_ending", ".nii.gz"))
    return ending if ending.startswith(".") else f".{ending}"


def _nnunet_cases(value: Mapping[str, Any], channels: int, file: Path, remarks: list[str]) -> list[dict[str, Any]]:
    """Cases by the names of files, or those for training as the key ``dataset`` lists them."""
    dataset = value.get("dataset")
    others: list[str] = []
    cases = nnunet_rows(_ending(value), channels, file.parent, others)
    if isinstance(dataset, dict):
        cases = [*_named_cases(dataset, file), *(row for row in cases if row["split"] == "test")]
        others = unlisted(cases, file.parent)
    elif not any(row["split"] is None for row in cases):
        _refuse_other_endings(_ending(value), file)
    remarks += others
    return cases


def _named_cases(dataset: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """The training cases of nnU-Net's key ``dataset``, which names their files."""
    rows: list[dict[str, Any]] = []
    for id, entry in dataset.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        mask = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not all(isinstance(name, str) for name in images) or not isinstance(mask, str):
            raise ManifestError(
                f"{file}: 'dataset' holds {id!r}: {entry!r}", remedy='{"images": [...], "label": ...} is expected.'
            )
        paths = [os.path.expandvars(image) for image in images]
        rows.append({"id": id, "images": paths, "labels": os.path.expandvars(mask), "split": None})
    return rows


def _refuse_other_endings(ending: str, file: Path) -> None:
    """Say which images there are where none has the ending that the file states."""
    folder = file.parent / "imagesTr"
    names = sorted(path.name for path in folder.iterdir() if claims_image(path.name)) if folder.is_dir() else []
    if names:
        raise ManifestError(
            f"{file}: no image of imagesTr/ ends in '{ending}' ('file_ending'); there are {shown(names)}",
            remedy="Correct 'file_ending'.",
        )


def _dimensions(value: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> int:
    """2 where the file says so, or else where the first image is a picture."""
    if "tensorImageSize" in value:
        return 2 if str(value["tensorImageSize"]).upper() == "2D" else 3
    row = format_by_ending(cases[0]["images"][0]) if cases else None
    return 2 if row is not None and row.axes == (2,) else 3


def _modality(channels: Sequence[str], dimensions: int) -> str:
    """DICOM's term for the first channel whose name says one; only a channel called CT makes a set of CT, as with nnU-Net."""
    for name in channels:
        try:
            term = modality_term(name)
        except ValueError:
            continue
        if term != _CT or name.strip().upper() == _CT:
            return term
    return _VOLUMES if dimensions == 3 else _PICTURES


def _msd_cases(value: Mapping[str, Any], channels: int, file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for key, split in (("training", None), ("test", "test")):
        entries = value.get(key, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            pair = {"image": entry} if isinstance(entry, str) and key == "test" else entry
            if not isinstance(pair, dict) or not isinstance(pair.get("image"), str):
                raise ManifestError(
                    f"{file}: '{key}' holds {entry!r}", remedy='A list of {"image": ..., "label": ...} is expected.'
                )
            rows.append({**listed_row(pair["image"], channels, file.parent), "labels": pair.get("label"), "split": split})
    return rows


def _miscounted(value: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where the file states another number of training cases than there are."""
    count = sum(row["split"] is None for row in cases)
    stated = value.get("numTraining")
    return (
        []
        if stated is None or str(stated) == str(count)
        else [f"numTraining is {stated!r}, there are {counted(count, 'case', 'cases')}"]
    )


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".") or "dataset"
