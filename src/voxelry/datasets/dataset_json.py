"""Imports `dataset.json`: the layouts of the Medical Segmentation Decathlon and of nnU-Net v2.

Sources: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9 (`modality`, `labels` value -> name, `training` pairs, one file
for all channels); nnU-Net's documentation of its dataset format (`channel_names`, `labels` name -> value, files
``imagesTr/{case}_{channel:04d}{ending}``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxelry.errors import ManifestError
from voxelry.formats.table import stem_of


def from_dataset_json(value: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Turn a parsed `dataset.json` into the plain data of a manifest.

    Cases of `imagesTs` get the split ``test``; the others none: they are split later.

    Args:
        value: the JSON object.
        file: where it came from; nnU-Net's files are looked for beside it.

    Raises:
        ManifestError: it is of neither layout.
    """
    if "channel_names" in value:
        channels, labels = _strings(value["channel_names"], "channel_names", file), _nnunet_labels(value, file)
        cases = _nnunet_cases(value, len(channels), file.parent)
    elif "modality" in value and "training" in value:
        channels, labels = _strings(value["modality"], "modality", file), _msd_labels(value, file)
        cases = _msd_cases(value, file)
    else:
        raise ManifestError(
            f"{file}: neither 'channel_names' (nnU-Net) nor 'modality' and 'training' (Decathlon) are among its keys "
            f"({', '.join(value)})",
            remedy="Write a manifest in YAML for it.",
        )
    ignored = next((number for number, name in labels.items() if name == "ignore"), None)
    return {
        "name": _file_name(str(value.get("name") or file.parent.name or "dataset")),
        "title": str(value.get("name", "")),
        "description": str(value.get("description", "")),
        "modality": "CT" if channels[0].upper() == "CT" else "MR",
        "dimensions": 2 if str(value.get("tensorImageSize", "3D")).upper() == "2D" else 3,
        "licence": str(value.get("licence") or value.get("license") or ""),
        "citation": [str(value["reference"])] if value.get("reference") else [],
        "channels": channels,
        "labels": [{"value": number, "name": name} for number, name in labels.items() if number > 0 and number != ignored],
        "ignore": ignored,
        "cases": cases,
    }


def _strings(value: Any, key: str, file: Path) -> list[str]:
    """The names of ``{"0": name, "1": name}`` in order."""
    if not isinstance(value, dict) or not value or not all(str(index).isdigit() for index in value):
        raise ManifestError(f"{file}: key '{key}' is {value!r}", remedy='A mapping such as {"0": "T1"} is expected.')
    return [str(name) for _, name in sorted(value.items(), key=lambda item: int(item[0]))]


def _msd_labels(value: Mapping[str, Any], file: Path) -> dict[int, str]:
    names = value.get("labels")
    _strings(names, "labels", file)
    assert isinstance(names, dict)
    return {int(number): str(name) for number, name in names.items()}


def _nnunet_labels(value: Mapping[str, Any], file: Path) -> dict[int, str]:
    names = value.get("labels")
    if not isinstance(names, dict) or not all(type(number) is int for number in names.values()):
        raise ManifestError(
            f"{file}: key 'labels' is {names!r}",
            remedy="Names with one value each are read; regions (lists of values) are not.",
        )
    return {number: str(name) for name, number in names.items()}


def _msd_cases(value: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for key, split in (("training", None), ("test", "test")):
        entries = value.get(key, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            pair = {"image": entry} if isinstance(entry, str) and key == "test" else entry
            if not isinstance(pair, dict) or not isinstance(pair.get("image"), str):
                raise ManifestError(
                    f"{file}: '{key}' holds {entry!r}", remedy='A list of {"image": ..., "label": ...} is expected.'
                )
            rows.append({"id": stem_of(pair["image"]), "images": [pair["image"]], "labels": pair.get("label"), "split": split})
    return rows


def _nnunet_cases(value: Mapping[str, Any], channels: int, folder: Path) -> list[dict[str, Any]]:
    ending = str(value.get("file_ending", ".nii.gz"))
    rows: list[dict[str, Any]] = []
    for suffix, split in (("Tr", None), ("Ts", "test")):
        for first in sorted((folder / f"images{suffix}").glob(f"[!.]*_0000{ending}")):
            id = first.name.removesuffix(f"_0000{ending}")
            images = [f"images{suffix}/{id}_{channel:04d}{ending}" for channel in range(channels)]
            labels = f"labels{suffix}/{id}{ending}"
            needed = suffix == "Tr" or (folder / labels).is_file()
            rows.append({"id": id, "images": images, "labels": labels if needed else None, "split": split})
    return rows


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".") or "dataset"
