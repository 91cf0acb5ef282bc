"""Manifest: a dataset's card with its cases, and how it is loaded.

Relative paths start from the root: the `root` argument (``--root``) where given, else the manifest's own folder if the
files are there, else the folder that the environment variable ``VOXELRY_DATA`` names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelry.base.files import read_json, read_yaml
from voxelry.base.schema import parse
from voxelry.datasets.card import Card
from voxelry.datasets.cases import SPLITS, Case, CaseList, FoundFiles, parse_cases
from voxelry.datasets.dataset_json import from_dataset_json
from voxelry.datasets.expand import expand, is_below
from voxelry.datasets.instance_files import check_instance_files
from voxelry.datasets.leftovers import leftovers
from voxelry.datasets.splits import SplitRule, check_no_leak, share_out
from voxelry.errors import ManifestError, MissingFileError, nearest

ROOT_VARIABLE = "VOXELRY_DATA"


@dataclass(frozen=True)
class Manifest:
    """A dataset, ready to be read.

    Attributes:
        card: description of the dataset.
        cases: every case, with and without labels.
        root: the folder that relative paths started from.
        path: the manifest's file.
        remarks: what was decided on the way, and what the files beside the cases are, in sentences.

    Examples:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> path = write_phantoms("phantoms", "torso-ct", 2, val=1, acquisition=coarse)
        >>> from voxelry.datasets import load_manifest
        >>> manifest = load_manifest(path)
        >>> [case.id for case in manifest.split("val")]
        ['torso_001']
    """

    card: Card
    cases: tuple[Case, ...]
    root: Path
    path: Path
    remarks: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """The number of cases of each split in words, such as ``9 train, 3 val``."""
        counts = Counter(case.split for case in self.cases)
        parts = [f"{counts[split]} {split}" for split in SPLITS if counts[split]]
        return ", ".join([*parts, *([f"{counts[None]} in no split"] if counts[None] else [])])

    def _repr_html_(self) -> str:
        """The card, its labels, and the number of cases of each split, for a notebook."""
        from voxelry.base.notebook_html import block, facts, grid, sentences, swatch

        card = self.card
        about = facts(
            [
                ("modality", card.modality),
                ("channels", ", ".join(card.channels)),
                ("cases", f"{len(self.cases)} ({self.counts})" if self.cases else "none"),
                ("licence", card.licence),
                ("file", str(self.path)),
            ]
        )
        labels = grid(["", "label", "value", "kind"], [[swatch(row.rgb), row.name, row.value, row.kind] for row in card.labels])
        return block(f"Manifest {card.title or card.name}", about, labels, sentences(self.remarks))

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of ``train``, ``val`` or ``test``; empty where the dataset has none.

        Raises:
            ManifestError: no such split name.
        """
        if name not in SPLITS:
            raise ManifestError(f"no split is called '{name}'", remedy=nearest(name, SPLITS))
        return tuple(case for case in self.cases if case.split == name)

    def case(self, id: str) -> Case:
        """The case of this id.

        Raises:
            ManifestError: there is none.
        """
        for case in self.cases:
            if case.id == id:
                return case
        raise ManifestError(f"{self.path}: no case '{id}'", remedy=nearest(id, [case.id for case in self.cases]))


class _File(Card):
    """The keys of a manifest's file."""

    cases: Any = ()
    split: SplitRule = SplitRule()


def load_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Manifest:
    """Read a manifest and find its files.

    Args:
        path: a YAML card, a `dataset.json` of the Medical Segmentation Decathlon or of nnU-Net, or the folder that
            holds one.
        root: the folder that relative paths start from; see the module's text for what None means.

    Returns:
        The manifest; every case has its files, labelled cases have a split.

    Raises:
        MissingFileError: no such manifest.
        ConfigError: not YAML or JSON.
        ManifestError: a wrong key or value, a missing file, an id twice.
        SplitLeakError: a patient on two sides of the split.

    Examples:
        >>> from pathlib import Path
        >>> from voxelry.datasets import load_manifest
        >>> Path("ct.nii.gz").touch()
        >>> text = "{name: s, modality: CT, labels: [{value: 1, name: liver}], cases: [{id: a, images: [ct.nii.gz]}]}"
        >>> _ = Path("set.yaml").write_text(text)
        >>> load_manifest("set.yaml").cases[0].images[0].name
        'ct.nii.gz'
    """
    file = Path(path)
    if file.is_dir():
        file = file / "dataset.json"
        if not file.is_file():
            raise MissingFileError(f"{path}: a folder without dataset.json", remedy="Name a manifest file.")
    remarks: list[str] = []
    is_json = file.suffix.lower() == ".json"
    value = from_dataset_json(read_json(file), file, remarks) if is_json else read_yaml(file)
    parsed = parse(_File, value, str(file), ManifestError)
    card = Card.model_validate({name: getattr(parsed, name) for name in Card.model_fields})
    case_list = parse_cases(parsed.cases, file)
    base = _root(case_list, file, root, os.environ)
    cases = share_out(expand(case_list, base, card.table.names, str(file)), parsed.split)
    _check_channels(cases, card, file)
    check_instance_files(cases, card, str(file))
    check_no_leak(cases, str(file))
    if card.modality != value["modality"]:
        remarks.append(f"modality '{value['modality']}' is DICOM's {card.modality}")
    if isinstance(case_list, FoundFiles):
        remarks += leftovers(case_list, base, {case.id for case in cases})
    return Manifest(card, cases, base, file, tuple(remarks))


def _root(case_list: CaseList, file: Path, root: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> Path:
    """The folder that relative paths start from."""
    if root is not None:
        if not Path(root).is_dir():
            raise MissingFileError(f"{root}: no such folder", remedy="Name the data's folder by --root.")
        return Path(root)
    beside, data_folder = file.parent, environment.get(ROOT_VARIABLE)
    return Path(data_folder) if data_folder and not is_below(case_list, beside) else beside


def _check_channels(cases: tuple[Case, ...], card: Card, file: Path) -> None:
    for case in cases:
        if len(case.images) not in (1, len(card.channels)):
            raise ManifestError(
                f"{file}: case '{case.id}' has {len(case.images)} image files for {len(card.channels)} channels",
                remedy="Give one file per channel, or one file that holds them all.",
            )
